"""Refs and leftovers: moved as git would, found when torn, and nothing removed that may have an owner."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from caesura.continuations import (
    CaesuraError,
    CommitId,
    GitStore,
    History,
    Locked,
    LoopName,
    Loops,
    NoSuchRevision,
    Started,
    Told,
    Torn,
    Unavailable,
    User,
    loop_name,
)
from caesura.continuations.store import _disk, _refs
from tests.damage import file_of
from tests.repositories import OPS, STATE, X, git, overwrite
from tests.strategies import ADA, AGENT, EPOCH, ROBOT, WORKERS, World


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "caesura"


@pytest.fixture
def store(folder: Path) -> Iterator[GitStore]:
    made = GitStore.open(folder, create=True)
    yield made
    made.close()


# Leftovers ---------------------------------------------------------------------------------------------------------


def leftovers(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "objects").glob("tmp_obj*"))


DIE = """
import os, sys
from tests.test_store_refs import *
from caesura.continuations.store import _disk
store = GitStore.open(sys.argv[1])
def last(old, new):
    if sys.argv[2] == "die":
        os.kill(os.getpid(), 9)
    print("ready", flush=True)
    input()
_disk.rename = last
store.write(STATE, parents=(), message=sys.argv[2], author=ADA, committer=ROBOT)
"""


def writer(folder: Path, what: str) -> "subprocess.Popen[str]":
    """A process that has written objects and not yet named them: it dies there, or waits."""
    return subprocess.Popen(
        [sys.executable, "-c", DIE, folder, what],
        cwd=Path(__file__).parent.parent,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def test_what_a_killed_writer_left_is_removed_by_the_next_and_what_a_living_one_needs_is_not(
    store: GitStore, folder: Path
) -> None:
    with writer(folder, "die") as killed:
        pass
    assert killed.returncode == -9
    dead = leftovers(folder)
    with writer(folder, "wait") as waiting:
        assert waiting.stdout is not None
        assert waiting.stdout.readline() == "ready\n"
        living = [name for name in leftovers(folder) if name not in dead]
        assert dead
        assert living
        store.write(STATE, parents=(), message="m", author=ADA, committer=ROBOT)
        assert leftovers(folder) == living
        waiting.kill()
    fresh = GitStore.open(folder)
    fresh.read(fresh.write(STATE, parents=(), message="m", author=ADA, committer=ROBOT).id)
    assert leftovers(folder) == []


def test_a_strangers_leftover_is_removed_only_when_it_is_old(store: GitStore, folder: Path) -> None:
    young, old = folder / "objects/tmp_obj_young", folder / "objects/tmp_obj_old"
    elsewhere = folder / "objects/tmp_obj_caesura-0123456789ab-1-2-aa"
    for file in (young, old, elsewhere):
        file.write_bytes(b"x")
    os.utime(old, (0, 0))
    store.write(STATE, parents=(), message="m", author=ADA, committer=ROBOT)
    assert leftovers(folder) == [elsewhere.name, young.name]


def test_a_reader_removes_nothing(store: GitStore, folder: Path) -> None:
    commit = store.write(STATE, parents=(), message="m", author=ADA, committer=ROBOT).id
    old = folder / "objects/tmp_obj_old"
    old.write_bytes(b"x")
    os.utime(old, (0, 0))
    GitStore.open(folder).read(commit)
    assert old.exists()


def test_a_disk_that_is_full_leaves_no_object_in_part(
    store: GitStore, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = _disk.write

    def full(path: Path, data: bytes, mode: int = 0o666) -> None:
        if len(leftovers(folder)) == 3:
            raise OSError(28, "No space left on device")
        write(path, data, mode)

    monkeypatch.setattr(_disk, "write", full)
    with pytest.raises(Unavailable, match="No space left"):
        store.write(STATE, parents=(), message="m", author=ADA, committer=ROBOT)
    assert [path for path in (folder / "objects").rglob("*") if path.is_file()] == []


# Refs --------------------------------------------------------------------------------------------------------------

REFS = {
    "empty": "",
    "zeros": "\x00" * 41,
    "half an id": "abc123\n",
    "no id": "hello\n",
    "a ref to itself": "ref: refs/heads/loops/x\n",
    "out of the folder": "ref: ../../etc/passwd\n",
    "to no ref": "ref: \n",
    "a missing commit": "f" * 40 + "\n",
}


@pytest.mark.parametrize("torn", REFS)
def test_a_damaged_branch_is_named_with_its_loop_and_is_no_other_loops_affair(
    store: GitStore, folder: Path, torn: str
) -> None:
    history, loops = History(store), Loops(store)
    begun(history, "x")
    begun(history, "y")
    (folder / "refs/heads/loops/x").write_text(REFS[torn])
    for ask in (history.load, loops.pending, loops.info):
        with pytest.raises(Torn, match="x cannot be read") as refused:
            ask(X)
        assert "caesura repair x" in refused.value.hint
    assert [info.name for info in loops.all()] == ["y"]
    assert list(loops.unreadable()) == ["x"]
    assert loops.pending() == []
    with pytest.raises(CaesuraError):  # it is not free
        history.branch(X, history.load(loop_name("y")).commit)


def begun(history: History, name: str) -> CommitId:
    event = Started(at=EPOCH, definition=AGENT, prompt=User(content="Go."), nonce="n", worker=WORKERS[0], by=ADA)
    return history.begin(loop_name(name), event, ROBOT, ADA).commit


def test_the_error_names_the_loops_last_good_commit(store: GitStore, folder: Path) -> None:
    history = History(store)
    good = begun(history, "x")
    told = Told(at=EPOCH, message=User(content="First."), by=ADA)
    saved = history.append(history.load(X), told, ROBOT)
    saved = history.append(saved, told, ROBOT)
    file_of(folder, git(folder, "rev-parse", "loops/x~1:continuation.json")).unlink()
    overwrite(file_of(folder, git(folder, "rev-parse", "loops/x:continuation.json")), b"")
    with pytest.raises(Torn, match=rf"x cannot be read: .*Its last good commit is {good[:10]}\."):
        History(GitStore.open(folder)).load(X)


@pytest.mark.parametrize("torn", [b"", b"\x00" * 300, b"cut short"])
def test_damaged_packed_refs_are_named_and_loose_branches_are_read(store: GitStore, folder: Path, torn: bytes) -> None:
    commit = begun(History(store), "x")
    (folder / "packed-refs").write_bytes(torn)
    assert store.head(X) == commit
    with pytest.raises(Torn, match="packed-refs"):
        store.head(loop_name("y"))


def test_a_name_never_leads_out_of_the_repository(store: GitStore, folder: Path) -> None:
    (folder / "secret").write_text("f" * 40)
    for name in ("../../../secret", "../loops/../../../secret", "x/../../../secret", "/etc/passwd", "..", "x.lock"):
        assert store.head(LoopName(name)) is None
        with pytest.raises(NoSuchRevision):
            store.resolve(name)


def test_a_lease_that_a_power_cut_left_half_made_is_nobodys_and_is_taken(store: GitStore, folder: Path) -> None:
    assert store.move_lease(X, None, b"mine") is not None
    (folder / "caesura.leases" / X).write_bytes(b"")
    found = GitStore.open(folder).lease(X)
    assert found is not None
    assert found.data == b""
    yours = store.move_lease(X, found, b"yours")
    assert GitStore.open(folder).lease(X) == yours


def test_a_strangers_lock_is_never_removed(store: GitStore, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_refs, "LOCK_SECONDS", 0.05)
    commit = begun(History(store), "x")
    lock = folder / "refs/heads/loops/x.lock"
    for content in ("", commit, "f" * 40):
        lock.write_text(content)
        (folder / "caesura.lock.refs%heads%loops%x").write_text(content)  # of one of ours that died before it locked
        with pytest.raises(Locked, match=str(lock)) as refused:
            store.move(X, commit, commit)
        assert refused.value.hint.endswith(f": rm {lock}")
        assert lock.read_text() == content
    lock.unlink()
    store.move(X, commit, commit)
    assert not list(folder.glob("caesura.lock*"))


@pytest.mark.parametrize("packed", [True, False])
def test_moves_are_logged_where_git_would_log_them(tmp_path: Path, packed: bool) -> None:
    folder = tmp_path / "project"
    git(tmp_path, "init", "--quiet", str(folder))
    git(folder, "commit", "--quiet", "--allow-empty", "--message", "The project")
    store = GitStore.open(folder)
    ended = World(store, ["order"]).end(lambda _: "approve")
    if packed:
        git(folder, "pack-refs", "--all")
    moves = git(folder, "reflog", "--format=%H %gs", "loops/ops").split("\n")
    assert len(moves) == int(git(folder, "rev-list", "--first-parent", "--count", "loops/ops"))
    assert moves[0].startswith(f"{ended.commit} caesura: ops: completed")
    assert store.resolve("ops@{1}") == git(folder, "rev-parse", "loops/ops@{1}")
    git(folder, "fsck", "--strict")
    lease = store.move_lease(OPS, None, b"mine")
    store.move_lease(OPS, lease, None)
    assert not (folder / ".git/logs/refs/leases").exists()


def test_a_bare_repository_keeps_no_logs_unless_told_to(store: GitStore, folder: Path) -> None:
    begun(History(store), "x")
    assert not (folder / "logs").exists()
    git(folder, "config", "core.logAllRefUpdates", "true")
    begun(History(GitStore.open(folder)), "y")
    assert "started" in git(folder, "reflog", "--format=%gs", "loops/y")


def test_a_packed_branch_moves_and_a_packed_lease_goes(store: GitStore, folder: Path) -> None:
    history = History(store)
    begun(history, "x")
    lease = store.move_lease(X, None, b"mine")
    git(folder, "tag", "--annotate", "--message=m", "v1", "loops/x")
    git(folder, "pack-refs", "--all")
    assert not (folder / "refs/heads/loops").exists()
    assert list(store.heads()) == ["x"]
    saved = history.append(history.load(X), Told(at=EPOCH, message=User(content="First."), by=ADA), ROBOT)
    assert git(folder, "rev-parse", "loops/x") == saved.commit
    store.move_lease(X, lease, None)
    assert store.lease(X) is None
    assert git(folder, "for-each-ref", "--format=%(refname)").split() == ["refs/heads/loops/x", "refs/tags/v1"]
    assert store.resolve("v1") == store.resolve("x~1")


@pytest.mark.parametrize("moment", ["make_folder", "sync", "write", "rename"])
def test_git_may_pack_the_refs_and_remove_their_folder_at_any_moment_of_a_move(
    store: GitStore, folder: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    """Each time that a move has done this to the disk; git leaves a folder in which there is a lock."""
    first, second = begun(History(store), "x"), begun(History(store), "y")
    made, times = getattr(_disk, moment), 0

    def then_git(*arguments: Any) -> None:
        nonlocal times
        made(*arguments)
        times += 1
        if times <= 6:
            git(folder, "pack-refs", "--all")

    monkeypatch.setattr(_disk, moment, then_git)
    git(folder, "pack-refs", "--all")
    store.move(X, first, second)
    store.move(loop_name("z"), None, first)
    assert times
    assert store.head(X) == git(folder, "rev-parse", "loops/x") == second
    assert store.head(loop_name("z")) == git(folder, "rev-parse", "loops/z") == first
    assert not list(folder.glob("caesura.lock*"))


def test_where_git_stands_by_itself_can_be_named(store: GitStore, folder: Path) -> None:
    first = begun(History(store), "x")
    second = begun(History(store), "y")
    git(folder, "update-ref", "BISECT_HEAD", first)
    git(folder, "fetch", "--quiet", ".", "loops/y", "loops/x")
    assert store.resolve("BISECT_HEAD") == first
    assert store.resolve("FETCH_HEAD") == git(folder, "rev-parse", "FETCH_HEAD") == second
    git(folder, "worktree", "add", "--quiet", "--detach", "work", "loops/x")
    git(folder / "work", "update-ref", "BISECT_HEAD", second)
    assert GitStore.open(folder / "work").resolve("BISECT_HEAD") == second
    assert store.resolve("BISECT_HEAD") == first


def test_git_cannot_hold_a_branch_within_a_branch_also_when_it_is_packed(store: GitStore, folder: Path) -> None:
    commit = begun(History(store), "x")
    git(folder, "update-ref", "refs/heads/loops/y/mine", commit)
    git(folder, "pack-refs", "--all")
    with pytest.raises(Unavailable, match="loops/y"):
        store.move(loop_name("y"), None, commit)
    (folder / "refs/heads/loops/z/empty").mkdir(parents=True)  # which git leaves behind
    store.move(loop_name("z"), None, commit)
    assert git(folder, "rev-parse", "loops/z") == commit


def test_what_is_no_file_is_refused_and_not_held_open(tmp_path: Path) -> None:
    """A worker asks for branches whose names are folders' again and again."""
    (tmp_path / "refs").mkdir()
    os.mkfifo(tmp_path / "pipe")
    free = os.dup(0)
    os.close(free)
    for name in ("refs", "pipe"):
        with pytest.raises(IsADirectoryError, match="Not a file"):
            _disk.opened(tmp_path / name)
    again = os.dup(0)
    os.close(again)
    assert again == free
