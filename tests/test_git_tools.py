"""Git's own tools keep working on loops, and loops keep working after them."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from caesura.continuations import GitStore, Loops, Saved, Status, Told, User, loop_name, step
from tests.repositories import git
from tests.strategies import ADA, NESTED, Plan, World

WIDE: Plan = ["order", ["order", ["order", "look"]], ["look", "order"], "order"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "caesura"


@pytest.fixture
def world(folder: Path) -> Iterator[World]:
    """A tree of loops that has come to rest with requests on three levels."""
    store = GitStore.open(folder, create=True)
    made = World(store, WIDE)
    made.settle()
    yield made
    store.close()


def goes_on(folder: Path, root: str = "ops") -> Saved:
    """Open a repository anew, see that the same requests wait there, and bring the loop to its end."""
    store = GitStore.open(folder)
    resumed = World.resumed(store, root)
    assert len(resumed.loops.pending(root)) == 5
    saved = resumed.end(lambda _: "approve")
    assert saved.state.status is Status.COMPLETED
    assert all(times == 1 for times in resumed.runs.values())
    assert git(folder, "fsck", "--strict", "--no-dangling") == ""
    store.close()
    return saved


def test_fsck_finds_no_fault(world: World, folder: Path) -> None:
    assert git(folder, "fsck", "--strict", "--no-dangling") == ""
    world.end(lambda _: "reject")
    assert git(folder, "fsck", "--strict", "--no-dangling") == ""


@pytest.mark.parametrize("mirror", [True, False])
def test_a_clone_goes_on_where_the_first_stands(world: World, folder: Path, tmp_path: Path, mirror: bool) -> None:
    clone = tmp_path / "clone"
    if mirror:
        git(tmp_path, "clone", "--quiet", "--mirror", str(folder), str(clone))
    else:
        # Of one branch alone: a loop's own branch holds all that it needs.
        git(tmp_path, "init", "--quiet", "--bare", str(clone))
        git(clone, "fetch", "--quiet", str(folder), "loops/ops:loops/ops")
    goes_on(clone)
    assert len(world.loops.pending("ops")) == 5


def test_a_clones_work_can_be_fetched_back(world: World, folder: Path, tmp_path: Path) -> None:
    clone = tmp_path / "clone"
    git(tmp_path, "clone", "--quiet", "--mirror", str(folder), str(clone))
    ended = goes_on(clone)
    git(folder, "fetch", "--quiet", str(clone), "refs/heads/loops/*:refs/heads/loops/*")
    assert world.saved().commit == ended.commit


@pytest.mark.parametrize(
    "commands",
    [
        ("gc --quiet --prune=now",),
        ("repack -a --quiet", "prune-packed", "pack-refs --all"),
        ("maintenance run --quiet", "maintenance run --quiet"),
    ],
)
def test_maintenance_of_an_idle_repository_loses_nothing(world: World, folder: Path, commands: tuple[str, ...]) -> None:
    for command in commands:
        git(folder, *command.split())
    goes_on(folder)


@pytest.mark.parametrize("command", ["prune", "repack -ad", "prune --expire=now"])
def test_git_refuses_to_delete_objects_where_loops_are_kept(world: World, folder: Path, command: str) -> None:
    done = subprocess.run(["git", *command.split()], cwd=folder, capture_output=True, text=True, check=False)
    assert "precious-objects repo" in done.stderr
    goes_on(folder)


def test_what_is_written_and_not_yet_referred_to_survives_all_maintenance(world: World, folder: Path) -> None:
    history, before = world.history, world.saved()
    event = Told(at=world.now(), message=User(content="Mind the gap."), by=ADA)
    parents = (before.commit, *(child.commit for child in before.state.children.values()))
    state = step(before.state, event)
    written = history.store.write(state, parents=parents, message="m", author=ADA, committer=ADA)
    for command in ("gc --prune=now", "prune", "repack -ad", "maintenance run", "maintenance run"):
        subprocess.run(["git", *command.split()], cwd=folder, capture_output=True, check=False)
    history.store.move(loop_name("other"), None, written.id)
    assert git(folder, "fsck", "--strict", "--no-dangling") == ""
    assert World.resumed(GitStore.open(folder), "other").saved().state == state


def test_maintenance_packs_loose_objects_where_loops_are_kept(world: World, folder: Path) -> None:
    for _ in range(2):  # a first run packs, the next deletes what is packed
        git(folder, "maintenance", "run", "--quiet")
    assert git(folder, "count-objects").startswith("0 objects")
    goes_on(folder)


def test_maintenance_under_an_open_store_disturbs_it_not(world: World, folder: Path) -> None:
    git(folder, "gc", "--quiet", "--prune=now")
    assert len(world.loops.pending("ops")) == 5
    assert world.end(lambda _: "approve").state.status is Status.COMPLETED


def test_a_nested_loops_branch_may_go_once_its_parent_has_absorbed_it(world: World, folder: Path) -> None:
    world.end(lambda _: "approve")
    before = git(folder, "rev-list", "--count", "loops/ops")
    for name in list(world.history.store.heads()):
        if "." in name:
            git(folder, "branch", "--quiet", "--delete", "--force", f"loops/{name}")
    git(folder, "gc", "--quiet", "--prune=now")
    assert git(folder, "rev-list", "--count", "loops/ops") == before
    assert World.resumed(GitStore.open(folder), "ops").saved().state.status is Status.COMPLETED


def test_the_log_draws_and_the_diff_and_show_and_blame_read(world: World, folder: Path) -> None:
    assert "*" in git(folder, "log", "--graph", "--oneline", "loops/ops")
    assert "order-1" in git(folder, "show", "loops/ops:continuation.json")
    diff = git(folder, "diff", "--stat", "loops/ops~3", "loops/ops")
    assert "continuation.json" in diff
    assert "order" in git(folder, "blame", "loops/ops", "--", "messages/00/01.json")


def test_a_bundle_carries_a_loop_to_another_repository(world: World, folder: Path, tmp_path: Path) -> None:
    bundle = tmp_path / "loop.bundle"
    git(folder, "bundle", "create", "--quiet", str(bundle), "loops/ops")
    git(tmp_path, "clone", "--quiet", "--bare", str(bundle), str(tmp_path / "there"))
    goes_on(tmp_path / "there")
    assert len(world.loops.pending("ops")) == 5


def test_bisect_finds_the_step_that_asked_for_approval(world: World, folder: Path, tmp_path: Path) -> None:
    work = tmp_path / "work"
    git(folder, "worktree", "add", "--quiet", "--detach", str(work), "loops/ops")
    first = git(folder, "rev-list", "--first-parent", "--max-parents=0", "loops/ops").split("\n")[-1]
    git(work, "bisect", "start", "--first-parent", "loops/ops", first)
    said = git(work, "bisect", "run", "sh", "-c", "! grep -q awaiting continuation.json")
    git(work, "bisect", "reset")
    found = next(line.split()[0] for line in said.split("\n") if line.endswith("is the first bad commit"))
    subject = git(folder, "log", "-1", "--format=%s", found)
    assert subject.startswith("ops: approval requested")


def test_a_worktree_shows_a_loop_as_files_and_can_be_opened_as_a_repository(
    world: World, folder: Path, tmp_path: Path
) -> None:
    work = tmp_path / "work"
    git(folder, "worktree", "add", "--quiet", "--detach", str(work), "loops/ops")
    assert (work / "continuation.json").is_file()
    assert (work / "children" / "team-1" / "messages" / "00" / "00.json").is_file()
    with Loops.open(work) as loops:
        assert len(loops.pending("ops")) == 5
        loops.reject("ops.order-1", by="Ada Lovelace <ada@example.com>")
    assert len(world.loops.pending("ops")) == 4


def test_every_commit_of_every_loop_becomes_a_loop_by_a_plain_branch(folder: Path) -> None:
    store = GitStore.open(folder, create=True)
    World(store, NESTED).end(lambda _: "approve")
    commits = git(folder, "rev-list", "--all").split("\n")
    lines = "".join(f"create refs/heads/loops/any-{place} {commit}\n" for place, commit in enumerate(commits))
    subprocess.run(["git", "update-ref", "--stdin"], cwd=folder, input=lines, text=True, check=True)
    fresh = GitStore.open(folder)
    with Loops(fresh) as loops:
        for place, commit in enumerate(commits):
            info = loops.info(f"any-{place}")
            assert info.commit == commit
            assert info.ready or info.waiting or info.status is Status.COMPLETED
        ends = [World.resumed(fresh, f"any-{place}").end(lambda _: "approve") for place in range(0, len(commits), 4)]
    assert {end.state.status for end in ends} == {Status.COMPLETED}
    store.close()


def test_a_renamed_branch_is_the_same_loop_under_another_name(folder: Path) -> None:
    store = GitStore.open(folder, create=True)
    World(store, ["order"]).settle()
    git(folder, "branch", "--move", "loops/ops", "loops/renamed")
    renamed = World.resumed(GitStore.open(folder), "renamed")
    assert [request.id for request in renamed.loops.pending()] == ["renamed.order-1"]
    assert renamed.end(lambda _: "approve").state.status is Status.COMPLETED
    store.close()


def test_loops_live_in_a_users_project_and_leave_its_files_and_branches_alone(tmp_path: Path) -> None:
    project = tmp_path / "project"
    git(tmp_path, "init", "--quiet", str(project))
    (project / "main.py").write_text("print('hello')\n")
    git(project, "add", "main.py")
    git(project, "commit", "--quiet", "--message", "The project")
    (project / "draft.txt").write_text("not yet added\n")
    before = [git(project, *command.split()) for command in ("status --porcelain", "branch --show-current", "log main")]
    store = GitStore.open(project)
    World(store, NESTED).settle()
    assert [
        git(project, *command.split()) for command in ("status --porcelain", "branch --show-current", "log main")
    ] == before
    assert store.head(loop_name("ops")) == git(project, "rev-parse", "loops/ops")
    git(project, "gc", "--quiet", "--prune=now")
    assert World.resumed(GitStore.open(project), "ops").end(lambda _: "approve").state.status is Status.COMPLETED
    store.close()
