"""The layout of branches is chosen by git's own ``gc.packRefs``: by whoever sets it, where git would read it."""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pygit2
import pytest

from caesura.continuations import CommitId, GitStore, LoopName, Upkept, loop_name
from caesura.continuations.store import Move, _later, _upkeep
from tests.cli_process import AGENTS, Shell
from tests.damage import snapshot
from tests.repositories import OPS, STATE, X, git
from tests.strategies import ADA, ROBOT

NAMES = [loop_name(f"x{number}") for number in range(9)]

VALUES = ("true", "false", "notbare", "yes", "off", "1", "0", "-1", "1k", "TRUE", "", "NotBare", "maybe", "false ")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "r.git"


@pytest.fixture
def store(folder: Path) -> Iterator[GitStore]:
    with closing(GitStore.open(folder, create=True)) as made:
        yield made


def step(store: GitStore, loop: LoopName = OPS) -> CommitId:
    """A loop's first step."""
    commit = store.write(STATE, parents=(), message="A step.\n", author=ADA, committer=ROBOT).id
    store.move(loop, None, commit)
    return commit


def files(folder: Path) -> list[str]:
    """The loops whose branches have files of their own."""
    return sorted(path.name for path in folder.glob("refs/heads/loops/*"))


def run(store: GitStore, *, thorough: bool = True) -> Upkept:
    done = store.upkeep().run(thorough=thorough)
    assert done is not None
    return done


@pytest.mark.parametrize("bare", [True, False], ids=["bare", "with a worktree"])
@pytest.mark.parametrize("value", [None, "[gc]\n\tpackRefs\n", *VALUES])
def test_branches_keep_their_files_where_git_would_leave_them(tmp_path: Path, value: str | None, *, bare: bool) -> None:
    git(tmp_path, "init", "--quiet", *(["--bare"] if bare else []), "r")
    folder = tmp_path / "r" if bare else tmp_path / "r" / ".git"
    if value in VALUES:
        git(folder, "config", "gc.packRefs", value)
    elif value:
        with (folder / "config").open("a") as config:
            config.write(value)
    with closing(GitStore.open(folder)) as store:
        step(store)
        shutil.copytree(folder, tmp_path / "git's", symlinks=True)
        done = run(store)
    refused = subprocess.run(["git", "gc", "--quiet"], cwd=tmp_path / "git's", capture_output=True, check=False)
    assert files(folder) == files(tmp_path / "git's")
    assert (done.branches, done.left is None) == ((0, False) if files(folder) else (1, True))
    assert bool(refused.returncode) == (done.left == "gc.packRefs is neither true, false nor notbare")


def test_each_of_gits_levels_counts_and_the_nearest_to_the_repository_most(
    store: GitStore, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    levels, paths = pygit2.enums.ConfigLevel, pygit2.settings.search_path
    before = {level: paths[level] for level in (levels.SYSTEM, levels.GLOBAL)}
    system, own = tmp_path / "system/gitconfig", tmp_path / "own/.gitconfig"
    monkeypatch.delenv("GIT_CONFIG_NOSYSTEM")
    monkeypatch.setenv("GIT_CONFIG_SYSTEM", str(system))
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(own))
    try:
        for level, file in ((levels.SYSTEM, system), (levels.GLOBAL, own)):
            paths[level] = str(file.parent)
            file.parent.mkdir()
        step(store)
        for file, value in ((system, "false"), (own, "true"), (own, "false"), (folder / "config", "true")):
            git(tmp_path, "config", "--file", str(file), "gc.packRefs", value)
            assert git(folder, "config", "gc.packRefs") == value
            done = store.upkeep().run(thorough=True, dry=True)
            assert done is not None
            assert (done.branches, done.left) == ((1, None) if value == "true" else (0, "gc.packRefs is false"))
    finally:
        for level, path in before.items():
            paths[level] = path


def test_a_worktree_of_a_bare_repository_is_not_bare(folder: Path, tmp_path: Path) -> None:
    with closing(GitStore.open(folder, create=True)) as store:
        step(store)
    git(folder, "config", "gc.packRefs", "notbare")
    git(folder, "worktree", "add", "--quiet", "--detach", str(tmp_path / "w"), f"loops/{OPS}")
    with closing(GitStore.open(folder)) as store:
        assert run(store).left == "gc.packRefs is notbare, and the repository is bare"
    with closing(GitStore.open(tmp_path / "w")) as store:
        assert (run(store).branches, files(folder)) == (1, [])


def test_what_is_set_while_a_repository_is_open_is_heeded_and_brings_no_branch_out_of_the_list(
    store: GitStore, folder: Path
) -> None:
    step(store)
    assert run(store).branches == 1
    git(folder, "config", "gc.packRefs", "false")
    assert run(store) == Upkept(before=store.upkeep().holdings(), after=store.upkeep().holdings())
    step(store, X)
    done = run(store)
    assert (done.branches, done.left, files(folder)) == (0, "gc.packRefs is false", [X])
    assert done.objects > 0
    git(folder, "config", "--unset", "gc.packRefs")
    assert (run(store).branches, files(folder)) == (1, [])


@pytest.mark.parametrize("line", ["[gc", "[include]\n\tpath = loop"], ids=["damaged", "not to be opened"])
def test_a_configuration_that_cannot_be_read_meanwhile_keeps_branches_as_they_are(
    store: GitStore, folder: Path, line: str
) -> None:
    step(store)
    (folder / "loop").symlink_to("loop")
    with (folder / "config").open("a") as config:
        config.write(f"{line}\n")
    done = run(store)
    assert done.left is not None
    assert done.left.startswith("git's configuration cannot be read: ")
    assert (done.branches, files(folder), done.after.objects) == (0, [OPS], 0)


def test_gits_own_maintenance_leaves_branches_their_files_with_both_settings_that_are_documented(
    store: GitStore, folder: Path
) -> None:
    page = (Path(__file__).parents[1] / "docs/repository.md").read_text()
    commands = [line.partition("#")[0].split()[1:] for line in page.splitlines() if line.startswith("git config ")]
    assert len(commands) == 2
    for loop, words in zip((OPS, X), commands, strict=True):
        step(store, loop)
        git(folder, *words)
        git(folder, "maintenance", "run", "--quiet")
        run(store)
    git(folder, "gc", "--quiet")
    assert files(folder) == [X], "the first setting alone does not keep git from it"


def test_while_loops_are_driven_too_however_many_branches_there_are(
    store: GitStore, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_upkeep, "BRANCHES", 2)
    for name in NAMES:
        step(store, name)
    git(folder, "config", "gc.packRefs", "false")
    assert not store.upkeep().due()
    monkeypatch.setattr(_upkeep, "LOOSE", 1)
    done = run(store, thorough=False)
    assert (done.branches, done.left, files(folder)) == (0, "gc.packRefs is false", NAMES)
    assert done.objects > 0
    monkeypatch.setattr(_upkeep, "BRANCHES", len(NAMES))
    assert run(store, thorough=False).left is None, "there are not too many"
    monkeypatch.setattr(_upkeep, "BRANCHES", 2)
    git(folder, "config", "gc.packRefs", "true")
    assert store.upkeep().due()
    assert (run(store, thorough=False).branches, files(folder)) == (len(NAMES), [])


@pytest.mark.parametrize(("value", "expected"), [("true", []), ("false", NAMES)])
def test_loops_that_are_sealed_together_get_files_where_branches_are_to_have_them(
    folder: Path, monkeypatch: pytest.MonkeyPatch, value: str, expected: list[LoopName]
) -> None:
    monkeypatch.setattr(_later, "IDLE", 1e6)  # nothing is sealed by itself
    with closing(GitStore.open(folder, create=True, visibility="sealed")) as store:
        git(folder, "config", "gc.packRefs", value)
        heads = {name: step(store, name) for name in NAMES}
        store.seal()
        assert files(folder) == expected
        assert store.heads() == heads
    assert git(folder, "fsck", "--strict", "--no-dangling") == ""


def test_branches_that_are_moved_together_are_so_through_the_list_whatever_is_set(
    store: GitStore, folder: Path
) -> None:
    git(folder, "config", "gc.packRefs", "false")
    heads = {name: step(store, name) for name in NAMES}
    moves = [Move(loop=NAMES[0], old=heads[NAMES[0]], new=None)]
    moves.append(Move(loop=NAMES[0], old=None, new=heads[NAMES[0]], archived=True))
    store.move_all(moves, "archived")
    assert store.heads() == {name: heads[name] for name in NAMES[1:]}
    assert store.heads(archived=True) == {NAMES[0]: heads[NAMES[0]]}
    assert files(folder) == NAMES[1:]
    assert git(folder, "fsck", "--strict", "--no-dangling") == ""


def test_gc_says_why_it_left_branches_as_they_are(tmp_path: Path) -> None:
    shell = Shell(tmp_path)
    assert shell("run", f"{AGENTS}:lead", "Onboard Ada", "--loop", "onboard").status == 3
    repository = shell.folder / ".caesura"
    git(repository, "config", "gc.packRefs", "false")
    before = snapshot(repository)
    assert shell("gc", "--dry-run").out.splitlines()[1:] == [
        "would leave 1 branch with files of their own: gc.packRefs is false"
    ]
    assert snapshot(repository) == before
    done = shell("gc").out.splitlines()
    assert done[0].startswith("put ")
    assert "branch" not in done[0]
    assert done[1] == "left 1 branch with files of their own: gc.packRefs is false"
    assert "onboard" in files(repository)
    again = shell("gc").out.splitlines()
    assert again[0].startswith("There is nothing to do. 0 objects and 1 branch with files of their own")
    assert again[1:] == done[1:2]
    told = shell("gc", "--json").json
    assert (told["branches"], told["left"]) == (0, "gc.packRefs is false")
    git(repository, "config", "gc.packRefs", "true")
    told = shell("gc", "--json").json
    assert (told["branches"], told["left"]) == (1, None)
