"""Loops that begin with the files of a project's commit: exactly those, wherever their objects are."""

import shutil
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from caesura.continuations import (
    CallerError,
    Files,
    GitStore,
    History,
    LoopName,
    Loops,
    NoProject,
    NoSuchRevision,
    Started,
    TooLarge,
    Torn,
    Unclean,
    Unkeepable,
    User,
)
from caesura.continuations.store import _projects as projects
from caesura.runtime import Outcome, Runtime
from tests.models import ADA, GRACE
from tests.processes import Processes
from tests.strategies import AGENT, EPOCH, ROBOT, WORKERS
from tests.workspaces import LOOP, files_in, files_of, git, project_of, scribbler, scribbles

SECRET = "ghp_" + "a1B2" * 9


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "r.git"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return project_of(tmp_path / "project")


async def begun(path: Path, origin: str, root: Path | None, *, borrow: bool = False, loop: str = LOOP) -> Outcome:
    """A loop that begins with a project's files, and does things to them."""
    async with Runtime.open(path, agents=[scribbler()], model=scribbles(1, 2)) as runtime:
        return await runtime.run("writer", "Write.", loop=loop, workspace=root, origin=origin, borrow=borrow)


def first(path: Path, loop: str = LOOP) -> str:
    """A loop's first commit."""
    return git(path, "rev-list", "--first-parent", f"loops/{loop}").split()[-1].decode()


def healthy(path: Path) -> None:
    """Neither git nor Caesura finds fault with the repository."""
    git(path, "fsck", "--strict", "--no-dangling")
    with Loops.open(path) as loops:
        assert loops.verify().faults == ()


@pytest.mark.parametrize("borrow", [False, True])
@pytest.mark.parametrize("packed", [False, True])
async def test_a_loop_begins_with_exactly_the_files_of_a_commit(
    path: Path, project: Path, tmp_path: Path, borrow: bool, packed: bool
) -> None:
    if packed:
        git(project, "repack", "-adq")
    before, status = files_in(project), git(project, "status", "--porcelain", "--ignored")
    await begun(path, f"{project}@main", tmp_path / "new" / "work", borrow=borrow)
    assert files_of(path, f"{first(path)}:workspace") == files_of(project, "main")
    assert files_of(path, f"loops/{LOOP}:workspace") == files_in(tmp_path / "new" / "work")
    assert (files_in(project), git(project, "status", "--porcelain", "--ignored")) == (before, status)
    assert git(project, "for-each-ref", "--format=%(refname)").split() == [b"refs/heads/main"]
    commit = git(project, "rev-parse", "main").decode().strip()
    with Loops.open(path) as loops:
        origin = loops.show(LOOP).state.origin
        assert origin is not None
        assert (origin.repository, origin.commit, origin.held_back) == (str(project), commit, ())
        assert loops.files(LOOP).origin == origin
    assert (
        git(path, "log", "-1", "--format=%(trailers:key=Origin,valueonly,separator=)", first(path)).decode().strip()
        == commit
    )
    healthy(path)


async def test_what_is_copied_needs_the_project_no_more(path: Path, project: Path, tmp_path: Path) -> None:
    await begun(path, str(project), tmp_path / "work")
    files = files_of(path, f"{first(path)}:workspace")
    shutil.rmtree(project)
    git(tmp_path, "clone", "-q", "--mirror", str(path), "copy.git")
    assert files_of(tmp_path / "copy.git", f"{first(path)}:workspace") == files
    healthy(tmp_path / "copy.git")


async def test_what_is_borrowed_stays_where_it_is_and_is_missed_when_it_goes(
    path: Path, project: Path, tmp_path: Path
) -> None:
    with closing(GitStore.open(path, create=True)) as before:  # it knows of no project when it is opened
        await begun(path, str(project), tmp_path / "work", borrow=True)
        await begun(path, str(project), tmp_path / "again", borrow=True, loop="again")
        commit = before.resolve(first(path))
        tree = before.projects().files(commit)
        assert tree is not None
        assert len(list(before.workspaces().changes("", tree))) == len(files_of(project, "main"))
        for blob in files_of_ids(project):
            assert before.projects()._objects.get(blob, "blob")
    assert (path / "objects/info/alternates").read_text() == f"{project}/.git/objects\n"
    assert files_of(path, f"{first(path)}:workspace") == files_of(project, "main")
    with Loops.open(path) as loops:
        loops._store.upkeep().run(thorough=True)
        loops.export_bundle(LOOP, file=tmp_path / "bundle")
        with pytest.raises(Unclean, match="objects are elsewhere"):
            loops.erase("again", by=ADA)
    with Loops(GitStore.open(tmp_path / "whole.git", create=True)) as loops:
        loops.import_bundle(tmp_path / "bundle")
    healthy(tmp_path / "whole.git")
    shutil.copytree(path, tmp_path / "ended.git")
    git(tmp_path / "ended.git", "repack", "-aq")
    (tmp_path / "ended.git/objects/info/alternates").unlink()
    shutil.move(project, tmp_path / "moved")
    healthy(tmp_path / "ended.git")
    with Loops.open(path) as loops:
        assert first_fault(loops) == commit


def files_of_ids(project: Path) -> list[str]:
    """The ids of a project's files."""
    return [line.split()[2].decode() for line in git(project, "ls-tree", "-r", "main").splitlines()]


def first_fault(loops: Loops) -> str:
    """The first commit of the loop that something is wrong with."""
    return loops.verify(LOOP).faults[0].commit


def commit(project: Path, message: str = "More") -> str:
    """Commit all that is in a project; the commit."""
    git(project, "add", "-A")
    git(project, "commit", "-qm", message)
    return git(project, "rev-parse", "HEAD").decode().strip()


async def test_what_no_loop_can_have_is_held_back_and_named(path: Path, project: Path, tmp_path: Path) -> None:
    (project / "conf").mkdir()
    (project / "conf" / "token").write_text(SECRET)
    git(project, "update-index", "--add", "--cacheinfo", f"160000,{'1' * 40},vendor/lib")
    git(project, "add", "conf")
    git(project, "commit", "-qm", "More")
    await begun(path, f"{project}@main", tmp_path / "work")
    with Loops.open(path) as loops:
        state = loops.show(LOOP).state
    assert state.origin is not None
    assert state.origin.held_back == ("conf/token", "vendor/lib")
    kept = files_of(project, "main~")
    assert files_of(path, f"{first(path)}:workspace") == kept
    assert SECRET.encode() not in git(path, "cat-file", "--batch-all-objects", "--batch")
    healthy(path)


async def test_a_secret_in_a_files_name_is_not_even_named(path: Path, project: Path, tmp_path: Path) -> None:
    (project / SECRET).write_text("x")
    commit(project)
    with pytest.raises(Unkeepable) as refused:
        await begun(path, str(project), tmp_path / "work")
    assert SECRET not in str(refused.value)


async def test_old_modes_and_empty_folders_become_what_a_folder_can_show(
    path: Path, project: Path, tmp_path: Path
) -> None:
    blob = git(project, "hash-object", "-w", "--stdin", stdin=b"x").decode().strip()
    empty = git(project, "mktree", stdin=b"").decode().strip()
    lines = f"100664 blob {blob}\told\n040000 tree {empty}\tempty\n"
    tree = git(project, "mktree", stdin=lines.encode()).decode().strip()
    made = git(project, "commit-tree", tree, "-m", "Odd").decode().strip()
    await begun(path, f"{project}@{made}", tmp_path / "work")
    assert git(path, "ls-tree", f"{first(path)}:workspace").decode() == f"100644 blob {blob}\told\n"
    healthy(path)


# Where it is put ---------------------------------------------------------------------------------------------------


async def test_without_a_folder_the_loop_has_one_of_its_own(path: Path, project: Path) -> None:
    await begun(path, str(project), None)
    with Loops.open(path) as loops:
        folder = Path(loops.files(LOOP).folder)
    assert folder.is_relative_to(path)
    assert files_in(folder) == files_of(path, f"loops/{LOOP}:workspace") != {}


@pytest.mark.parametrize("there", ["a file", "a file in it", "an empty folder in it"])
async def test_nothing_that_is_there_is_overwritten(path: Path, project: Path, tmp_path: Path, there: str) -> None:
    root = tmp_path / "work"
    if there == "a file":
        root.write_text("mine")
    else:
        root.mkdir()
        (root / "a").write_text("mine") if there == "a file in it" else (root / "a").mkdir()
    with pytest.raises(Unkeepable, match="is not empty"):
        await begun(path, str(project), root)
    assert root.read_text() == "mine" if root.is_file() else [one.name for one in root.iterdir()] == ["a"]
    with Loops.open(path) as loops:
        assert loops.all() == []


async def test_loops_can_live_in_the_project_itself(project: Path, tmp_path: Path) -> None:
    before = files_in(project)
    await begun(project, f"{project}@main", tmp_path / "work")
    assert files_of(project, f"{first(project)}:workspace") == files_of(project, "main")
    assert files_in(project) == before
    await begun(project, f"{project}@main", tmp_path / "borrowed", borrow=True, loop="again")
    assert not (project / ".git/objects/info/alternates").exists()
    healthy(project)


# What it is called -------------------------------------------------------------------------------------------------


async def test_revisions_are_gits_own(
    path: Path, project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    git(project, "tag", "-am", "one", "v@1")
    (project / "more").write_text("more")
    commit(project)
    git(tmp_path, "clone", "-q", "--bare", str(project), "bare.git")
    git(project, "worktree", "add", "-q", "--detach", str(tmp_path / "linked"), "main~")
    (tmp_path / "a@b").symlink_to(project)
    old, new = files_of(project, "main~"), files_of(project, "main")
    monkeypatch.chdir(project)
    said = {
        str(project): new,
        f"{project}@main~1": old,
        f"{project}@v@1": old,
        f"{project}@@{{1}}": old,
        "@main": new,
        ".@:/More": new,
        f"{tmp_path}/a@b@main^": old,
        f"{tmp_path}/bare.git@main": new,
        f"{tmp_path}/linked": old,
    }
    store = GitStore.open(path, create=True)
    for text, files in said.items():
        tree, _ = store.projects().take(text, lambda _: False)
        assert files_of(path, tree) == files, text


def _sha256(tmp_path: Path) -> str:
    git(tmp_path, "init", "-q", "--object-format=sha256", "other")
    return f"{tmp_path}/other"


def _unborn(tmp_path: Path) -> str:
    git(tmp_path, "init", "-q", "unborn")
    return f"{tmp_path}/unborn"


WRONG: dict[str, tuple[Callable[[Path], str], type[CallerError], str]] = {
    "no folder": (lambda tmp: f"{tmp}/nowhere@main", NoProject, "no folder"),
    "nothing": (lambda _: "", NoProject, "no folder"),
    "no repository": (lambda tmp: f"{tmp}@main", NoProject, "no git repository"),
    "within one": (lambda tmp: f"{tmp}/project/src@main", NoProject, "no git repository"),
    "no revision": (lambda tmp: f"{tmp}/project@nothing", NoSuchRevision, "no commit 'nothing'"),
    "an option": (lambda tmp: f"{tmp}/project@--all", NoSuchRevision, "no commit '--all'"),
    "a file": (lambda tmp: f"{tmp}/project@main:README", NoSuchRevision, "no commit"),
    "other ids": (_sha256, NoProject, "sha256"),
    "no commits": (_unborn, NoSuchRevision, "no commit 'HEAD'"),
}


@pytest.mark.parametrize("what", WRONG)
async def test_what_names_nothing_is_refused_with_the_next_thing_to_do(
    path: Path, project: Path, tmp_path: Path, what: str
) -> None:
    make, error, said = WRONG[what]
    with pytest.raises(error, match=said) as refused:
        await begun(path, make(tmp_path), tmp_path / "work")
    assert refused.value.hint
    assert not (tmp_path / "work").exists()
    with Loops.open(path) as loops:
        assert loops.all() == []


async def test_more_than_a_loop_can_have_is_refused_before_anything_is_written(
    path: Path, project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    GitStore.open(path, create=True).close()
    before = sorted((path / "objects").rglob("*"))
    monkeypatch.setattr(projects, "MAX_NEW", 10)
    with pytest.raises(TooLarge, match="more than 10 bytes"):
        await begun(path, str(project), tmp_path / "work")
    assert sorted((path / "objects").rglob("*")) == before


async def test_a_project_that_is_not_whole_is_refused(path: Path, project: Path, tmp_path: Path) -> None:
    blob = git(project, "rev-parse", "main:README").decode().strip()
    file = project / ".git/objects" / blob[:2] / blob[2:]
    file.chmod(0o644)
    file.write_bytes(b"")
    with pytest.raises(Torn, match=r"Not all of .*project is there"):
        await begun(path, str(project), tmp_path / "work")
    with Loops.open(path) as loops:
        assert loops.all() == []


# Dying on the way --------------------------------------------------------------------------------------------------


def test_a_loop_whose_process_died_before_its_files_were_there_gets_them(
    path: Path, project: Path, tmp_path: Path
) -> None:
    """Killed at every write of the checkout; what is resumed has all files, and none is lost or overwritten."""
    files = files_of(project, "main")
    with Processes() as processes:
        for death in range(2, 200, 3):
            root, loop = tmp_path / f"work{death}", f"{LOOP}{death}"
            store = GitStore.open(path, create=True)
            history = History(store)
            new, workspace, origin = Files(history).begin_from(str(project), root)
            assert new is not None
            event = Started(
                at=EPOCH, definition=AGENT, prompt=User(content="Go."), nonce=f"n{death}", worker=WORKERS[0],
                workspace=workspace, origin=origin,
            )  # fmt: skip
            Files(history).intend(new, LoopName(loop), event.nonce)
            history.begin(LoopName(loop), event, ROBOT, GRACE)
            store.close()
            ended = processes.wait(processes.start(("tests.workspaces.taken_up", path, loop, f"write:{death}")))
            again = processes.run(("tests.workspaces.taken_up", path, loop))
            assert again[0].error == "", again
            assert files_in(root) == files
            if ended[0].status == 0:
                break
        else:
            raise AssertionError("it never lived to the end")
        assert death > 10
