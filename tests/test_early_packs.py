"""Packs of what no branch leads to yet: git that repacks a project takes none, and none is kept for ever."""

import errno
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest
from msgspec.structs import replace

from caesura.continuations import Commit, Diverged, GitStore, Loops, Moved, Visibility, Workspace, loop_name
from caesura.continuations.store import Move, _disk, _early, _forgetter, _plumbing
from caesura.continuations.store._packing import is_early, let_go_of
from tests.repositories import OPS, STATE, X, git
from tests.strategies import ADA, NESTED, ROBOT, World

FILES = 300
VISIBILITIES: tuple[Visibility, ...] = ("step", "sealed")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A project of somebody's, in which git may repack."""
    git(tmp_path, "init", "--quiet", "project")
    return tmp_path / "project" / ".git"


@pytest.fixture(params=VISIBILITIES)
def store(folder: Path, request: pytest.FixtureRequest) -> Iterator[GitStore]:
    with closing(GitStore.open(folder, visibility=request.param)) as opened:
        yield opened


def looked(store: GitStore, root: Path, text: str) -> Workspace:
    """A folder with more new files than are written one by one, as they were looked at; their objects are there."""
    root.mkdir()
    for number in range(FILES):
        (root / str(number)).write_text(f"{text} {number}")
    workspaces = store.workspaces()
    return Workspace(tree=workspaces.look(workspaces.begin(root), "", lambda _: False).tree)


def written(store: GitStore, workspace: Workspace) -> Commit:
    """A step that holds these files, to which no branch has moved."""
    state = replace(STATE, workspace=workspace)
    return store.write(state, parents=(), message="Start.", author=ADA, committer=ROBOT)


def repack(folder: Path) -> None:
    git(folder, "repack", "-adq")


def kept(folder: Path) -> list[Path]:
    return list(folder.glob("objects/pack/*.keep"))


def check(folder: Path, commit: Commit) -> None:
    """Every file of a step is there, to git, too, which has just made one pack of all."""
    assert kept(folder) == []
    repack(folder)
    assert len(list(folder.glob("objects/pack/*.pack"))) == 1
    assert git(folder, "fsck", "--strict", "--no-dangling") == ""
    assert len(git(folder, "ls-tree", "-r", "--name-only", f"{commit.id}:workspace").split()) == FILES
    with closing(GitStore.open(folder)) as fresh:
        assert fresh.read(commit.id) == commit


# Git at work meanwhile ------------------------------------------------------------------------------------------------


def test_git_that_repacks_a_project_takes_nothing_of_a_step_that_it_does_not_see_yet(
    store: GitStore, folder: Path, tmp_path: Path
) -> None:
    workspace = looked(store, tmp_path / "files", "b")
    repack(folder)
    made = written(store, workspace)
    repack(folder)
    store.move(X, None, made.id)
    repack(folder)
    store.close()
    check(folder, made)


def test_what_was_kept_is_gits_once_it_sees_the_step(store: GitStore, folder: Path, tmp_path: Path) -> None:
    made = written(store, looked(store, tmp_path / "files", "b"))
    other = looked(store, tmp_path / "more", "c")
    assert len(kept(folder)) == 2
    store.move(X, None, made.id)
    store.seal()
    assert len(kept(folder)) == 1
    second = written(store, other)
    store.move(OPS, None, second.id)
    store.seal()
    check(folder, made)
    check(folder, second)


@pytest.fixture
def theirs(tmp_path: Path) -> Path:
    """Another project."""
    git(tmp_path, "init", "--quiet", "theirs")
    for number in range(FILES):
        (tmp_path / "theirs" / str(number)).write_text(f"d {number}")
    git(tmp_path / "theirs", "add", ".")
    git(tmp_path / "theirs", "-c", "user.name=A", "-c", "user.email=a@x", "commit", "--quiet", "-m", "d")
    return tmp_path / "theirs"


def test_files_that_are_taken_from_another_project_are_there_when_a_step_names_them(
    store: GitStore, folder: Path, theirs: Path
) -> None:
    tree, _ = store.projects().take(f"{theirs}@HEAD", lambda _: False)
    repack(folder)
    made = written(store, Workspace(tree=tree))
    store.move(X, None, made.id)
    repack(folder)
    store.close()
    check(folder, made)


def test_files_that_were_here_in_a_pack_are_not_named_once_git_has_deleted_it(
    store: GitStore, folder: Path, theirs: Path
) -> None:
    git(folder, "fetch", "--quiet", str(theirs), "HEAD")  # no branch leads to it
    tree, _ = store.projects().take(f"{theirs}@HEAD", lambda _: False)
    repack(folder)
    with pytest.raises(Moved, match="git has deleted it as no branch led to it"):
        store.move(X, None, written(store, Workspace(tree=tree)).id)
    again, _ = store.projects().take(f"{theirs}@HEAD", lambda _: False)
    assert again == tree
    made = written(store, Workspace(tree=tree))
    store.move(X, None, made.id)
    store.close()
    check(folder, made)


def test_what_a_bundle_brings_is_there_when_branches_come_to_lead_to_it(
    store: GitStore, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    World(GitStore.open(tmp_path / "source", create=True), NESTED).settle()
    with Loops.open(tmp_path / "source") as source:
        source.export_bundle("ops", file=tmp_path / "bundle")
    move_all, ran = store.move_all, list[Path]()

    def repacked_first(*words: object) -> None:
        ran.extend(kept(folder))
        repack(folder)
        move_all(*words)  # type: ignore[arg-type]

    monkeypatch.setattr(store, "move_all", repacked_first)
    with Loops(store) as loops:
        loops.import_bundle(tmp_path / "bundle")
    assert len(ran) == 1
    assert kept(folder) == []
    repack(folder)
    with Loops.open(folder) as loops:
        assert loops.verify().faults == ()


@pytest.fixture
def lingering(folder: Path, tmp_path: Path) -> Path:
    """A bundle of a loop of which all is in the repository, and to which no branch leads any more."""
    World(GitStore.open(folder), ["look"], "other").settle()
    World(GitStore.open(tmp_path / "source", create=True), NESTED).settle()
    with Loops.open(tmp_path / "source") as source, Loops.open(folder) as loops:
        source.export_bundle("ops", file=tmp_path / "bundle")
        loops.import_bundle(tmp_path / "bundle")
    for ref in git(folder, "for-each-ref", "--format=%(refname)", "refs/heads/loops/ops*").split():
        git(folder, "update-ref", "-d", ref)
    shutil.rmtree(folder / "logs")
    return tmp_path / "bundle"


def test_who_imports_what_git_deletes_meanwhile_is_told_so(
    store: GitStore, folder: Path, lingering: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    move_all = store.move_all

    def repacked_first(*words: object) -> None:
        repack(folder)
        move_all(*words)  # type: ignore[arg-type]

    with Loops(store) as loops:
        with monkeypatch.context() as patched:
            patched.setattr(store, "move_all", repacked_first)
            with pytest.raises(Diverged, match="git has deleted it as no branch led to it"):
                loops.import_bundle(lingering)
        loops.import_bundle(lingering)
        assert loops.verify().faults == ()


def test_a_bundle_is_not_to_blame_for_what_git_deletes_while_it_is_read(
    store: GitStore, folder: Path, lingering: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran, git_itself = list[str](), _plumbing.git

    def repacked_first(repository: Path, *words: str) -> bytes:
        if words[0] == "bundle" and not ran:
            ran.append(words[1])
            repack(folder)
        return git_itself(repository, *words)

    monkeypatch.setattr("caesura.continuations.store._keeper.git", repacked_first)
    with Loops(store) as loops:
        loops.import_bundle(lingering)
        assert loops.verify().faults == ()
    assert ran == ["unbundle"]


def test_where_objects_are_precious_nothing_need_be_kept(tmp_path: Path) -> None:
    with closing(GitStore.open(tmp_path / "r.git", create=True)) as store:
        made = written(store, looked(store, tmp_path / "files", "b"))
        assert kept(tmp_path / "r.git") == []
        store.move(X, None, made.id)
        with Loops(store) as loops:
            heads = loops.export_bundle("x", file=tmp_path / "bundle")
    with closing(GitStore.open(tmp_path / "other.git", create=True)) as other:
        with other.keeper().unbundle(tmp_path / "bundle") as bundle:
            bundle.take(heads)
            assert kept(tmp_path / "other.git") == []  # or it would be, for ever, if this process died now
            other.move(X, None, heads[X])
        assert other.read(made.id) == made


# Killed in between ----------------------------------------------------------------------------------------------------


def killed(folder: Path, root: Path, when: str, visibility: Visibility) -> None:
    """Be a process that dies as soon as it has looked at files, or has moved a branch to a step that holds them."""

    def now(*commits: object) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    store = GitStore.open(folder, visibility=visibility)
    workspace = looked(store, root, "XYZZY")
    if when == "moved":
        setattr(store, "_let_go", now)  # noqa: B010 - a method is put in the place of another
        store.move(OPS, None, written(store, workspace).id)
    now()


def die(folder: Path, root: Path, when: str, visibility: Visibility) -> None:
    words = f"killed(Path({str(folder)!r}), Path({str(root)!r}), {when!r}, {visibility!r})"
    code = f"from pathlib import Path; from tests.test_early_packs import killed; {words}"
    done = subprocess.run([sys.executable, "-c", code], check=False)
    assert done.returncode == -signal.SIGKILL


@pytest.mark.parametrize("visibility", VISIBILITIES)
def test_what_a_killed_process_kept_for_its_step_stays_until_git_sees_it_and_not_for_ever(
    folder: Path, tmp_path: Path, visibility: Visibility
) -> None:
    die(folder, tmp_path / "files", "moved", visibility)
    repack(folder)
    with closing(GitStore.open(folder)) as store:
        head = store.head(OPS)
        assert head is not None
        made = store.read(head)
        (left,) = kept(folder)
        store.seal()
        assert kept(folder) == [left]  # whose it is, and whether it is of use to somebody, cannot be told
        os.utime(left, (0, 0))
        store.seal()
    check(folder, made)


def test_what_a_killed_process_kept_for_nothing_is_gits_a_day_later(folder: Path, tmp_path: Path) -> None:
    die(folder, tmp_path / "files", "looked", "step")
    (left,) = kept(folder)
    os.utime(left, (0, 0))
    with closing(GitStore.open(folder)) as store:
        store.seal()
    assert kept(folder) == []
    repack(folder)
    assert list(folder.glob("objects/pack/*")) == []


def test_what_cannot_be_let_go_of_keeps_nothing_else(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("one", "other"):
        with closing(GitStore.open(folder)) as store:
            looked(store, tmp_path / name, name)
    for left in kept(folder):
        os.utime(left, (0, 0))
    tried: list[Path] = []

    def refused_first(pack: Path) -> None:
        tried.append(pack)
        if pack == tried[0]:
            raise PermissionError(errno.EPERM, "Operation not permitted")
        let_go_of(pack)

    monkeypatch.setattr(_early, "let_go_of", refused_first)
    with closing(GitStore.open(folder)) as store:
        store.seal()
    assert kept(folder) == [tried[0].with_suffix(".keep")]


def test_what_a_store_is_about_to_name_is_kept_however_long_that_takes(
    store: GitStore, folder: Path, tmp_path: Path
) -> None:
    workspace = looked(store, tmp_path / "files", "b")
    (left,) = kept(folder)
    os.utime(left, (0, 0))
    store.seal()
    repack(folder)
    made = written(store, workspace)
    store.move(OPS, None, made.id)
    store.seal()
    assert kept(folder) == []
    check(folder, made)


def test_of_a_step_that_nobody_has_sealed_for_a_day_all_is_there(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    die(folder, tmp_path / "files", "moved", "sealed")
    os.utime(kept(folder)[0], (0, 0))
    rename = _disk.rename

    def repacked_first(old: Path, new: Path) -> None:  # at any moment of the seal
        repack(folder)
        rename(old, new)

    monkeypatch.setattr(_disk, "rename", repacked_first)
    with closing(GitStore.open(folder)) as store:
        store.seal()
        head = store.head(OPS)
        assert head is not None
        made = store.read(head)
    check(folder, made)


@pytest.mark.parametrize("slept", VISIBILITIES)
def test_who_wakes_up_while_what_it_kept_is_let_go_of_names_nothing_that_git_then_deletes(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, slept: Visibility
) -> None:
    with closing(GitStore.open(folder, visibility=slept)) as store, closing(GitStore.open(folder)) as other:
        begun = written(store, looked(store, tmp_path / "files", "b"))
        store.move(X, None, begun.id)
        store.seal()
        made = written(store, looked(store, tmp_path / "more", "c"))
        os.utime(kept(folder)[0], (0, 0))
        let_go = other._early.let_go

        def named_first(packs: list[Path]) -> None:
            store.move(OPS, None, made.id)  # all that was acknowledged before is sealed by now
            let_go(packs)

        monkeypatch.setattr(other._early, "let_go", named_first)
        other.seal()
        repack(folder)
    check(folder, made)


def test_who_may_not_let_go_of_what_is_left_leaves_it(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    die(folder, tmp_path / "files", "looked", "step")
    (left,) = kept(folder)
    os.utime(left, (0, 0))
    with closing(GitStore.open(folder)) as store:
        with monkeypatch.context() as patched:
            patched.setattr(_disk, "unlink", refused)
            store.seal()
        assert kept(folder) == [left]
        store.seal()
    assert kept(folder) == []


def test_who_slept_for_a_day_does_not_name_what_git_has_deleted_meanwhile(
    store: GitStore, folder: Path, tmp_path: Path
) -> None:
    workspaces, root = store.workspaces(), tmp_path / "files"
    waits = written(store, looked(store, root, "b"))
    os.utime(kept(folder)[0], (0, 0))
    with closing(GitStore.open(folder)) as other:
        other.seal()
    repack(folder)
    with pytest.raises(Moved, match="git has deleted it as no branch led to it"):
        store.move(X, None, waits.id)
    again = workspaces.look(workspaces.begin(root), "", lambda _: False)
    made = written(store, Workspace(tree=again.tree))
    store.move(X, None, made.id)
    store.close()
    check(folder, made)


@pytest.mark.parametrize("suffix", [".pack", ".idx"])
def test_half_a_pack_goes_a_day_later(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    def dead(old: Path, new: Path) -> None:
        if new.suffix == suffix:
            raise KeyboardInterrupt
        old.rename(new)

    with closing(GitStore.open(folder)) as store:
        with monkeypatch.context() as patched, suppress(KeyboardInterrupt):
            patched.setattr(_disk, "rename", dead)
            looked(store, tmp_path / "files", "b")
        (left,) = kept(folder)
        os.utime(left, (0, 0))
        store.seal()
    assert list(folder.glob("objects/pack/*")) == []


# Erased afterwards ----------------------------------------------------------------------------------------------------


def there(folder: Path) -> bytes:
    words = ["git", "-C", str(folder), "cat-file", "--batch-all-objects", "--batch", "--buffer"]
    return subprocess.run(words, capture_output=True, check=True).stdout


@pytest.mark.parametrize("visibility", VISIBILITIES)
def test_what_is_kept_can_be_erased(folder: Path, tmp_path: Path, visibility: Visibility) -> None:
    die(folder, tmp_path / "files", "moved", visibility)
    assert b"XYZZY" in there(folder)
    with Loops.open(folder) as loops:
        loops.erase("ops", by=ADA)
    assert b"XYZZY" not in there(folder)
    assert kept(folder) == []


def test_what_else_is_kept_stays_so_when_something_in_it_is_erased(
    store: GitStore, folder: Path, tmp_path: Path
) -> None:
    gone = written(store, looked(store, tmp_path / "files", "XYZZY"))
    store.move(OPS, None, gone.id)
    workspace = looked(store, tmp_path / "more", "b")
    (tmp_path / "more" / "0").write_text("XYZZY 0")
    workspaces = store.workspaces()
    both = workspaces.look(workspaces.begin(tmp_path / "more"), "", lambda _: False).tree
    waits = written(store, Workspace(tree=both))
    with Loops.open(folder) as loops:
        loops.erase("ops", by=ADA)
    repack(folder)
    found = there(folder)
    assert b"XYZZY" not in found
    assert b"b 1\n" in found
    assert all(is_early(file.with_suffix(".pack")) for file in kept(folder))
    made = written(store, workspace)
    store.move(X, None, made.id)
    with pytest.raises(Moved):
        store.move(loop_name("y"), None, waits.id)
    store.close()
    for file in kept(folder):
        os.utime(file, (0, 0))
    with closing(GitStore.open(folder)) as other:
        other.seal()
    check(folder, made)


def test_a_process_that_dies_while_it_erases_lets_the_next_one_finish(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(GitStore.open(folder)) as store:
        gone = written(store, looked(store, tmp_path / "files", "XYZZY"))
        store.move(OPS, None, gone.id)
        (tmp_path / "more").mkdir()
        for number in range(FILES):
            (tmp_path / "more" / str(number)).write_text("XYZZY 0" if number < 2 else f"b {number}")
        workspaces = store.workspaces()
        workspaces.look(workspaces.begin(tmp_path / "more"), "", lambda _: False)
        rename = _disk.rename

        def dead(old: Path, new: Path) -> None:
            rename(old, new)
            if new.suffix == ".keep":
                raise KeyboardInterrupt

        with monkeypatch.context() as patched, suppress(KeyboardInterrupt), Loops.open(folder) as loops:
            patched.setattr(_disk, "rename", dead)
            loops.erase("ops", by=ADA)
        assert b"XYZZY" in there(folder)
        with Loops.open(folder) as loops:
            loops.erase("ops", by=ADA)
        repack(folder)
        assert b"XYZZY" not in there(folder)
        assert b"b 5\n" in there(folder)
        assert [is_early(file.with_suffix(".pack")) for file in kept(folder)] == [True]


@pytest.mark.parametrize("visibility", VISIBILITIES)
@pytest.mark.parametrize("together", [False, True])
def test_git_that_repacks_takes_nothing_of_a_step_that_is_made_as_git_would_after_an_erasure(
    folder: Path, monkeypatch: pytest.MonkeyPatch, visibility: Visibility, together: bool
) -> None:
    World(GitStore.open(folder), ["look"], "other").settle()
    World(GitStore.open(folder), ["look"], "gone").settle()
    checked = _forgetter.check_there

    def repacked_then(*words: object) -> None:
        checked(*words)  # type: ignore[arg-type]
        repack(folder)  # its last moment: what git sees now is all that it leaves in packs

    with closing(GitStore.open(folder, visibility=visibility)) as store:
        made = store.write(STATE, parents=(), message="Start.", author=ADA, committer=ROBOT)
        with Loops.open(folder) as loops:
            loops.erase("gone", by=ADA)
        monkeypatch.setattr("caesura.continuations.store._git.check_there", repacked_then)
        if together:
            store.move_all([Move(loop=X, old=None, new=made.id)], "together")
        else:
            store.move(X, None, made.id)
    assert git(folder, "fsck", "--strict", "--no-dangling") == ""
