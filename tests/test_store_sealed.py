"""Sealed steps: every store sees them at once, git once they are sealed, and nobody loses one in between."""

import errno
import gc
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from io import FileIO
from itertools import count
from pathlib import Path
from types import FrameType, ModuleType, SimpleNamespace
from typing import Any

import msgspec
import pytest

from caesura.continuations import (
    Commit,
    CommitId,
    Continuation,
    GitStore,
    Locked,
    LoopName,
    Loops,
    Moved,
    Told,
    Torn,
    Unavailable,
    User,
    Visibility,
    Work,
    loop_name,
)
from caesura.continuations.store import (
    _disk,
    _exclusive,
    _group,
    _journaled,
    _later,
    _packing,
    _refs,
    _sealing,
)
from caesura.continuations.store._exclusive import Locks, Turns
from caesura.continuations.store._journal import FOLDER, Journal, Segment
from caesura.continuations.store._later import Gate, Later
from caesura.continuations.store._sealing import Sealer
from caesura.continuations.store._vanished import about_to_erase
from tests.repositories import OPS, STATE, X, git
from tests.strategies import ADA, EPOCH, NESTED, ROBOT, World

PATIENCE = 60  # seconds, which only a broken behaviour takes


@pytest.fixture(autouse=True)
def by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is sealed by itself."""
    monkeypatch.setattr(_later, "IDLE", 1e6)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "r.git"


@pytest.fixture(params=[False, True], ids=["files", "list"])
def places(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where branches that have no files of their own come when they are sealed: as if there were few, and many."""
    if request.param:
        monkeypatch.setattr(_journaled, "MANY", 1)


@pytest.fixture
def store(folder: Path) -> Iterator[GitStore]:
    made = GitStore.open(folder, create=True, visibility="sealed")
    yield made
    made.close()


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """The repository of somebody's project, in which git may delete what no branch leads to."""
    git(tmp_path, "init", "--quiet", "project")
    return tmp_path / "project" / ".git"


@pytest.fixture
def other(folder: Path, store: GitStore) -> Iterator[GitStore]:
    """The same repository in another process's hands."""
    made = GitStore.open(folder, visibility="sealed")
    yield made
    made.close()


def step(
    store: GitStore, *before: Commit, loop: LoopName = X, message: str = "A step.\n", state: Continuation = STATE
) -> Commit:
    """One more step of a loop."""
    parents = tuple(one.id for one in before)
    commit = store.write(state, parents=parents, message=message, author=ADA, committer=ROBOT)
    store.move(loop, parents[0] if parents else None, commit.id)
    return commit


@contextmanager
def interrupted(when: Callable[[], bool]) -> Iterator[None]:
    """Interrupt what this thread does, as control-C does, as soon as that is so."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    def watch() -> None:
        while not when():
            time.sleep(0.001)
        signal.pthread_kill(main, signal.SIGUSR1)

    main, before = threading.get_ident(), signal.signal(signal.SIGUSR1, interrupt)
    thread = threading.Thread(target=watch)
    thread.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            yield
    finally:
        thread.join()
        signal.signal(signal.SIGUSR1, before)


def branches(folder: Path) -> dict[str, str]:
    """The loops' branches as git sees them."""
    lines = git(folder, "for-each-ref", "--format=%(refname:lstrip=3) %(objectname)", "refs/heads/loops").splitlines()
    return dict(line.split() for line in lines)


def clean(folder: Path) -> None:
    """Nothing is left of a journal, and git finds no fault."""
    git(folder, "fsck", "--strict", "--no-dangling")
    assert not list((folder / "refs").rglob("*.lock"))
    assert not list((folder / "objects/pack").glob("*.keep"))
    assert not list(folder.glob(f"{FOLDER}/branch-*"))
    assert sum(file.name.isdecimal() for file in (folder / FOLDER).iterdir()) == 1


# Who sees a step ---------------------------------------------------------------------------------------------------


def test_a_step_is_seen_by_every_store_at_once_and_by_git_once_it_is_sealed(
    folder: Path, store: GitStore, other: GitStore
) -> None:
    first = step(store)
    assert other.head(X) == first.id
    assert other.read(first.id) == first
    second = step(other, first)
    assert store.head(X) == second.id
    assert list(store.heads().items()) == [(X, second.id)]
    assert store.resolve("x~1") == first.id == store.resolve(first.id[:10])
    assert branches(folder) == {}
    store.seal()
    assert branches(folder) == {X: second.id}
    assert other.head(X) == second.id
    assert GitStore.open(folder).read(second.id) == second
    clean(folder)


def test_a_journal_that_somebody_removed_and_another_began_anew_is_no_other_ones(
    folder: Path, store: GitStore, other: GitStore
) -> None:
    step(store)
    shutil.rmtree(folder / FOLDER)
    commit = step(other, loop=OPS)
    assert store.head(OPS) == commit.id
    assert step(store, commit, loop=OPS).id == other.head(OPS)


def test_a_step_is_seen_while_others_before_it_are_being_sealed(
    folder: Path, store: GitStore, other: GitStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, seen = step(store), list[str | None]()
    write_pack = _packing.write_pack
    assert other.head(X) == first.id

    def meanwhile(*words: Any, **more: Any) -> Path:
        seen.append(other.head(X))
        second = step(store, first)
        seen.append(other.head(X))
        assert other.read(second.id) == second
        step(other, second)
        return write_pack(*words, **more)

    monkeypatch.setattr(_sealing, "write_pack", meanwhile)
    store.seal()
    head = store.head(X)
    assert head is not None
    assert seen == [first.id, *store.read(head).parents]
    assert branches(folder) == {X: first.id}
    monkeypatch.setattr(_sealing, "write_pack", write_pack)
    store.seal()
    assert branches(folder) == {X: head}
    clean(folder)


def test_of_threads_that_ask_while_one_seals_one_seals_for_all(
    folder: Path, store: GitStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    sealing, go_on, seals = threading.Event(), threading.Event(), list[str]()
    seal = _sealing.Sealer.seal

    def slow(self: _sealing.Sealer) -> None:
        seals.append(threading.current_thread().name)
        sealing.set()
        assert go_on.wait(300)
        seal(self)

    monkeypatch.setattr(_sealing.Sealer, "seal", slow)
    names = [loop_name(f"x{number}") for number in range(9)]
    step(store, loop=names[0])
    threads = [threading.Thread(target=store.seal)]
    threads[0].start()
    assert sealing.wait(300)
    for name in names[1:]:
        step(store, loop=name)
        threads.append(threading.Thread(target=store.seal))
        threads[-1].start()
    group = store._group
    assert group is not None
    while group._asked < len(threads):  # each has asked, and waits
        time.sleep(0)
    go_on.set()
    for thread in threads:
        thread.join()
    assert len(seals) == 2
    assert set(branches(folder)) == set(names)


def test_closing_a_store_seals_what_was_written(folder: Path, store: GitStore) -> None:
    commit = step(store)
    store.close()
    assert branches(folder) == {X: commit.id}
    clean(folder)


@pytest.mark.parametrize(("name", "value"), [("IDLE", 0.0), ("MANY", 3), ("LARGE", 400)])
def test_it_is_sealed_by_itself_once_nothing_comes_or_much_has(
    folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: float
) -> None:
    monkeypatch.setattr(_later, name, value)
    sealed = threading.Event()
    seal = _sealing.Sealer.seal

    def noticed(self: _sealing.Sealer) -> None:
        seal(self)
        sealed.set()

    monkeypatch.setattr(_sealing.Sealer, "seal", noticed)
    store = GitStore.open(folder, create=True, visibility="sealed")
    first = step(store)
    step(store, step(store, first))
    assert sealed.wait(300)
    assert X in branches(folder)
    store.close()


def test_who_closes_while_the_sealing_thread_is_about_to_seal_does_not_wait_for_ever(folder: Path) -> None:
    later = Later(Journal(folder, durable=True), lambda: None)

    class ClosedMeanwhile(Gate):
        """What the thread forgets just before it forgets what is new: it is closed then."""

        def pass_by(self, seconds: float = 0) -> bool:
            passed = super().pass_by(seconds)
            if seconds == 0 and later._thread is threading.current_thread():
                closing.start()
                assert closed.wait(PATIENCE)
            return passed

    class Told(Gate):
        """What is new; whoever closes tells it once it has said that it closes."""

        def open(self) -> None:
            super().open()
            if threading.current_thread() is closing:
                closed.set()

    closed, closing = threading.Event(), threading.Thread(target=later.close, daemon=True)
    later._news, later._now = Told(), ClosedMeanwhile()
    later.step()
    later._now.open()
    assert closed.wait(PATIENCE)
    closing.join(PATIENCE)
    assert not closing.is_alive()


def test_a_step_that_finds_room_again_lets_those_go_on_who_wait_for_that(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_later, "FULL", 0)
    monkeypatch.setattr(_later, "PATIENCE", 10 * PATIENCE)
    later, waits = Later(Journal(folder, durable=True), lambda: None), threading.Event()

    class Sealed(Gate):
        """What is opened once there is room, just as the last one comes, who finds that, and shuts it first."""

        def pass_by(self, seconds: float = 0) -> bool:
            if seconds:
                waits.set()
            elif waits.is_set():
                monkeypatch.setattr(_later, "FULL", 1)
                assert self.is_shut()
                return True  # it was opened, and is shut again before who waits has woken up
            return super().pass_by(seconds)

    later._sealed = Sealed()
    monkeypatch.setattr(later, "_work", lambda: None)  # nobody else opens it
    waiting = threading.Thread(target=later.step, daemon=True)
    waiting.start()
    assert waits.wait(PATIENCE)
    later.step()
    waiting.join(PATIENCE)
    assert not waiting.is_alive()
    later.close()


def goes_on(later: Later, sealed: threading.Semaphore, closed: list[Later]) -> None:
    """See that what steps leave is sealed, and close it in the end."""
    for _ in range(3):
        while sealed.acquire(blocking=False):
            pass
        later.step()
        if not sealed.acquire(timeout=PATIENCE):
            return
    later.close()
    closed.append(later)


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("begun", [False, True])
def test_a_step_that_is_interrupted_at_any_moment_leaves_others_sealed_by_themselves(
    folder: Path, monkeypatch: pytest.MonkeyPatch, full: bool, begun: bool
) -> None:
    monkeypatch.setattr(_later, "IDLE", 0.0)
    if full:
        for bound in ("MANY", "LARGE", "FULL", "PATIENCE"):
            monkeypatch.setattr(_later, bound, 0)
    sealed, number, more = threading.Semaphore(0), 0, True
    gc.collect()  # or other tests' threads end within a step of this one
    while more:
        later, closed = Later(Journal(folder, durable=True), sealed.release), list[Later]()
        if begun:
            later.step()
            assert sealed.acquire(timeout=PATIENCE)
            time.sleep(0.01)  # or the thread may not wait yet, and there is less to go wrong
        more = interrupted_at(number := number + 1, later.step, _later, threading)
        after = threading.Thread(target=goes_on, args=(later, sealed, closed), daemon=True)
        after.start()
        after.join(PATIENCE)
        assert closed == [later]
    assert number > 3


def test_where_no_thread_can_be_begun_steps_are_made_and_sealed_by_itself_once_one_can(
    folder: Path, store: GitStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refused)
        first = step(store)
    monkeypatch.setattr(_later, "IDLE", 0.0)
    second, deadline = step(store, first), time.monotonic() + PATIENCE
    while branches(folder) != {X: second.id}:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_steps_wait_where_sealing_does_not_keep_up(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_later, "LARGE", 400)
    monkeypatch.setattr(_later, "FULL", 2000)
    monkeypatch.setattr(_later, "PATIENCE", 60)
    store, before = GitStore.open(folder, create=True, visibility="sealed"), list[Commit]()
    journal = Journal(folder, durable=False)
    for number in range(60):
        before = [step(store, *before, message=f"{number}\n")]
        journal.catch_up()
        assert journal.size < 2000
    journal.close()
    store.close()
    assert branches(folder) == {X: before[0].id}


def test_a_store_that_shows_each_step_to_git_seals_what_there_is_before_it_moves_a_branch(
    folder: Path, store: GitStore
) -> None:
    first, elsewhere = step(store), step(store, loop=OPS)
    plain = GitStore.open(folder)
    second = step(plain, first)
    assert branches(folder) == {X: second.id, OPS: elsewhere.id}
    assert store.head(X) == second.id
    third = step(store, second)
    plain.mender().point(OPS, elsewhere.id, third.id)
    assert branches(folder) == {X: third.id, OPS: third.id}
    clean(folder)
    plain.close()


def test_what_is_written_for_a_crash_alone_is_never_waited_for(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def waits(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(_disk, "settle", waits)
    monkeypatch.setattr(_disk, "sync", waits)
    store = GitStore.open(folder, create=True, durability="crash", visibility="sealed")
    step(store, step(store))
    store.seal()
    store.close()


# Races -------------------------------------------------------------------------------------------------------------


def test_a_branch_moves_only_from_where_it_is_whoever_moved_it_last(store: GitStore, other: GitStore) -> None:
    first = step(store)
    second = step(other, first)
    for one in (store, other):
        for old in (None, first.id):
            with pytest.raises(Moved):
                one.move(X, old, first.id)
        with pytest.raises(Moved):
            one.move(OPS, first.id, second.id)
    store.seal()
    with pytest.raises(Moved):
        other.move(X, first.id, first.id)
    other.move(X, second.id, first.id)
    assert store.head(X) == first.id


@pytest.mark.parametrize(("most", "frames"), [(4096, 1), (3, 6)])
def test_steps_of_many_threads_are_all_made_and_share_their_waits(
    folder: Path, store: GitStore, monkeypatch: pytest.MonkeyPatch, most: int, frames: int
) -> None:
    waits: list[int] = []
    monkeypatch.setattr(_group, "_MOST", most)
    monkeypatch.setattr(_disk, "settle", lambda _: waits.append(1))
    names = [loop_name(f"x{number}") for number in range(16)]
    made: dict[LoopName, Commit] = {}
    turns, group = Turns(folder, durable=True), store._group
    assert group is not None
    with turns.take(1):  # until all of them wait
        threads = [
            threading.Thread(target=lambda name=name: made.update({name: step(store, loop=name)})) for name in names
        ]
        for thread in threads:
            thread.start()
        while group.waiting < 16:
            time.sleep(0.001)
    for thread in threads:
        thread.join()
    turns.close()
    assert sum(waits) == frames
    assert store.heads() == {name: made[name].id for name in sorted(names)}


def test_who_is_interrupted_while_it_waits_for_its_turn_keeps_nobody_from_theirs(tmp_path: Path) -> None:
    turns, holds, over = Turns(tmp_path, durable=False), threading.Event(), threading.Event()

    def hold() -> None:
        with turns.take(PATIENCE):
            holds.set()
            over.wait(PATIENCE)

    def take() -> None:
        with turns.take(PATIENCE):
            pass

    first, after = threading.Thread(target=hold), threading.Thread(target=take, daemon=True)
    first.start()
    holds.wait(PATIENCE)
    with interrupted(lambda: turns._last.before is not None):  # pyright: ignore[reportPrivateUsage]
        take()
    after.start()
    over.set()
    after.join(PATIENCE)
    assert not after.is_alive()
    first.join()
    turns.close()


def test_a_process_that_is_forked_takes_turns_with_the_one_that_it_was_forked_from(tmp_path: Path) -> None:
    code = """
import os, sys
from pathlib import Path
from caesura.continuations.store._exclusive import Turns

turns = Turns(Path(sys.argv[1]), durable=False)
with turns.take(0):
    pass
here, there = os.pipe()
child = os.fork()
if not child:
    os.read(here, 1)
    try:
        with turns.take(0):
            os._exit(1)
    except BlockingIOError:
        os._exit(0)
with turns.take(0):
    os.write(there, b".")
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    subprocess.run([sys.executable, "-c", code, tmp_path], check=True)


def test_a_process_that_is_forked_keeps_no_lock_that_the_other_one_lets_go_of(tmp_path: Path) -> None:
    code = """
import os, sys
from pathlib import Path
from caesura.continuations.store._exclusive import keeping_up, sealing

here, there = os.pipe()
with keeping_up(Path(sys.argv[1])), sealing(Path(sys.argv[1])):
    child = os.fork()
    if not child:
        os.read(here, 1)
        os._exit(0)
with keeping_up(Path(sys.argv[1])) as first, sealing(Path(sys.argv[1]), alone=True) as granted:
    os.write(there, b".")
    os.waitpid(child, 0)
    sys.exit(not (first and granted))
"""
    subprocess.run([sys.executable, "-c", code, tmp_path], check=True)


def test_a_step_that_is_interrupted_while_another_process_is_at_work_keeps_nobody_from_theirs(
    folder: Path, store: GitStore
) -> None:
    turns, group, made = Turns(folder, durable=True), store._group, list[Commit]()
    assert group is not None
    with turns.take(PATIENCE), interrupted(lambda: group.waiting == 1):
        step(store)
    after = threading.Thread(target=lambda: made.append(step(store, loop=OPS)), daemon=True)
    after.start()
    after.join(PATIENCE)
    assert store.heads() == {OPS: made[0].id}
    turns.close()


def test_what_waits_with_a_step_that_is_interrupted_before_it_is_written_is_written_without_it(
    folder: Path, store: GitStore
) -> None:
    turns, group, made = Turns(folder, durable=True), store._group, list[Commit]()
    assert group is not None
    after = threading.Thread(target=lambda: made.append(step(store, loop=OPS)), daemon=True)

    def both_wait() -> bool:
        if group.waiting == 1 and after.ident is None:
            after.start()
        return group.waiting == 2

    with turns.take(PATIENCE):
        with interrupted(both_wait):
            step(store)
        assert group.waiting == 1
    after.join(PATIENCE)
    assert store.heads() == {OPS: made[0].id}
    turns.close()


def test_who_waits_with_a_step_that_is_interrupted_while_it_is_written_is_told_so(
    folder: Path, store: GitStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    turns, group, told = Turns(folder, durable=True), store._group, list[str]()
    assert group is not None

    def interrupt(_: object) -> None:
        raise KeyboardInterrupt

    def told_of(loop: LoopName) -> None:
        try:
            step(store, loop=loop)
        except (KeyboardInterrupt, Unavailable) as error:
            told.append(str(error))

    threads = [threading.Thread(target=told_of, args=(loop,), daemon=True) for loop in (X, OPS)]
    with monkeypatch.context() as patch:
        patch.setattr(_disk, "settle", interrupt)
        with turns.take(PATIENCE):
            for thread in threads:
                thread.start()
            while group.waiting < 2:
                time.sleep(0.001)
        for thread in threads:
            thread.join(PATIENCE)
    assert [one.partition(": ")[2] for one in sorted(told)] == ["", "it may have been made, or not."]
    assert step(store, loop=loop_name("y")).id == store.head(loop_name("y"))
    assert {X, OPS} <= store.heads().keys()  # they were: all but the wait for the disk was done
    turns.close()


def interrupted_at(number: int, call: Callable[[], object], *modules: ModuleType) -> bool:
    """Make a call, and interrupt it at a moment in these modules; whether it has so many."""
    # Python interrupts a thread where it begins one of its own functions, or comes back from one that is not.
    moments, files, passed = ("call", "c_return"), {module.__file__ for module in modules}, count(1)

    def profile(frame: FrameType, event: str, _: object) -> None:
        if event in moments and frame.f_code.co_filename in files and next(passed) == number:
            sys.setprofile(None)
            raise KeyboardInterrupt

    sys.setprofile(profile)
    try:
        call()
    except KeyboardInterrupt:
        return True
    finally:
        sys.setprofile(None)
    return False


def test_a_step_that_is_interrupted_at_any_moment_keeps_nobody_from_theirs(store: GitStore) -> None:
    number, made = 0, list[Commit]()
    gc.collect()  # or other tests' turns end within a step of this one

    def one() -> Commit:
        return step(store, loop=loop_name(f"x{number}"))

    while interrupted_at(number := number + 1, one, _exclusive, _group):
        after = threading.Thread(target=lambda: made.append(step(store, *made[-1:], loop=OPS)), daemon=True)
        after.start()
        after.join(PATIENCE)
        assert not after.is_alive()
        assert len(made) == number
    assert number > 20
    assert store.head(OPS) == made[-1].id


def test_of_threads_that_move_one_branch_one_does(store: GitStore) -> None:
    first = step(store)
    outcomes: list[str] = []

    def race(number: int) -> None:
        try:
            step(store, first, message=f"{number}\n")
            outcomes.append("moved")
        except Moved:
            outcomes.append("lost")

    threads = [threading.Thread(target=race, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["lost"] * 11 + ["moved"]


# Git beside it -----------------------------------------------------------------------------------------------------


def test_git_does_not_move_a_branch_with_steps_that_it_does_not_see(folder: Path, store: GitStore) -> None:
    first = step(store)
    store.seal()
    second = step(store, first)
    for words in (["branch", "-f", "loops/x", f"{first.id}"], ["branch", "-D", "loops/x"]):
        with pytest.raises(AssertionError, match=r"x\.lock"):
            git(folder, *words)
    store.seal()
    git(folder, "branch", "-f", "loops/x", first.id)
    assert store.head(X) == first.id
    assert second.id != first.id


def test_git_locks_are_waited_for_and_a_strangers_is_named(
    folder: Path, store: GitStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_refs, "LOCK_SECONDS", 0.02)
    lock = folder / "refs/heads/loops/x.lock"
    lock.parent.mkdir(parents=True)
    lock.write_text("")
    with pytest.raises(Locked, match=str(lock)):
        step(store)
    lock.unlink()
    step(store)


@pytest.mark.usefixtures("places")
@pytest.mark.parametrize("moved", [True, False])
def test_steps_of_a_branch_that_was_moved_over_a_deleted_lock_are_kept_under_another_name(
    folder: Path, store: GitStore, *, moved: bool
) -> None:
    first, aside = step(store), step(store, loop=OPS, message="Another.\n")
    store.seal()
    second = step(store, step(store, first))
    (folder / "refs/heads/loops/x.lock").unlink()
    git(folder, *(["update-ref", "refs/heads/loops/x", aside.id] if moved else ["branch", "-D", "loops/x"]))
    store.seal()
    kept = {f"x-unsealed-{second.id[:7]}": second.id, OPS: aside.id}
    assert branches(folder) == ({X: aside.id} if moved else {}) | kept
    assert store.heads() == branches(folder)
    clean(folder)


@pytest.mark.usefixtures("places")
def test_a_stranger_that_tidies_up_while_it_is_sealed_takes_nothing(
    folder: Path, store: GitStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_pack = _packing.write_pack

    def tidied(*words: Any, **more: Any) -> Path:
        made = write_pack(*words, **more)
        git(folder, "config", "extensions.preciousObjects", "false")
        git(folder, "repack", "-ad", "--quiet")
        git(folder, "prune", "--expire=now")
        return made

    monkeypatch.setattr(_sealing, "write_pack", tidied)
    commit = step(store, step(store))
    store.seal()
    assert branches(folder) == {X: commit.id}
    clean(folder)


def test_git_that_repacks_deletes_nothing_of_a_step_that_was_written_before_another_one_was_sealed(
    project: Path,
) -> None:
    store = GitStore.open(project, visibility="sealed")
    first, written = step(store), partial(store.write, STATE, author=ADA, committer=ROBOT)
    second = written(parents=(first.id,), message="Another step.\n")
    step(store, loop=OPS)  # its frame takes what the other one needs
    store.seal()
    store.move(X, first.id, second.id)
    git(project, "repack", "-a", "-d", "--quiet")
    store.close()
    assert branches(project)[X] == second.id
    git(project, "fsck", "--strict", "--no-dangling")


def test_git_that_repacks_deletes_nothing_of_many_steps_that_were_written_before_another_one_was_sealed(
    project: Path,
) -> None:
    store = GitStore.open(project, visibility="sealed", durability="crash")
    written = partial(store.write, STATE, parents=(), author=ADA, committer=ROBOT)
    large = [written(message=f"Step {number}.\n{'x' * 9 * 2**20}\n") for number in range(2)]
    many = [written(message=f"Another {number}.\n") for number in range(5000)]
    store.seal()
    git(project, "repack", "-a", "-d", "--quiet")
    for number, commit in enumerate((*large, many[0], many[-1])):
        store.move(loop_name(f"loop-{number}"), None, commit.id)
    store.close()
    assert git(project, "fsck", "--strict", "--no-dangling") == ""
    assert len(branches(project)) == 4


def test_of_steps_that_never_move_nothing_is_kept_but_of_those_that_somebody_holds(store: GitStore) -> None:
    written = partial(store.write, parents=(), author=ADA, committer=ROBOT)
    held = [written(msgspec.structs.replace(STATE), message=f"Held {number}.\n") for number in range(3)]
    for number in range(100):
        written(msgspec.structs.replace(STATE), message=f"Let go of {number}.\n")
    kept = [one for one in store._journal._unmoved if one not in {commit.id for commit in held}]
    assert len(kept) <= 16
    assert all(store._journal.unmoved(commit.id) for commit in held)
    store.move(X, None, held[0].id)
    assert not store._journal.unmoved(held[0].id)


def test_what_git_is_about_to_delete_of_a_step_that_had_not_moved_is_nothing_of_it_when_it_has(project: Path) -> None:
    store = GitStore.open(project, visibility="sealed")
    commit = store.write(STATE, parents=(), message="Started.\n", author=ADA, committer=ROBOT)
    store.seal()  # as its own thread does at any moment
    listed = list(project.glob("objects/pack/pack-*"))  # by git that repacks, which sees no branch yet
    assert listed
    store.move(X, None, commit.id)
    store.seal()
    for file in listed:
        file.unlink()
    store.close()
    assert branches(project)[X] == commit.id
    git(project, "fsck", "--strict", "--no-dangling")


def test_a_pack_that_whoever_made_it_had_let_go_of_when_they_died_is_not_kept_again(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = GitStore.open(project, visibility="sealed")
    commit, file = step(store), segment(project)

    class Died(Exception):
        """The process is no more."""

    def dies(*_: object) -> None:
        raise Died

    with monkeypatch.context() as patched:
        patched.setattr(Journal, "remove", dies)
        with pytest.raises(Died):
            store.seal()
    forgotten(store)
    listed = {pack.with_suffix("") for pack in project.glob("objects/pack/pack-*.pack")}
    assert len(listed) == 1
    assert file.exists()
    assert branches(project) == {X: commit.id}
    kept, write = set[Path](), _disk.write

    def noted(path: Path, *more: Any) -> None:
        kept.add(path.with_suffix(""))
        write(path, *more)

    monkeypatch.setattr(_disk, "write", noted)
    again = GitStore.open(project, visibility="sealed")
    again.seal()
    # Git that has listed it already deletes it, and leaves out of its own pack what is kept meanwhile.
    assert not listed & kept
    assert not file.exists()
    again.close()
    clean(project)


def test_a_pack_of_somebody_who_died_is_let_go_of_though_who_came_next_made_another(
    folder: Path, store: GitStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    step(store, step(store), message="The next one, which is told by the first.\n")
    with monkeypatch.context() as patched:
        patched.setattr(_sealing, "shortened", lambda found: ((name, _packing.packed(*one)) for name, one in found))
        patched.setattr(_sealing, "write_pack", died_after(_packing.write_pack))
        with pytest.raises(KeyboardInterrupt):
            store.seal()
    forgotten(store)
    assert len(list(folder.glob("objects/pack/*.keep"))) == 1
    again = GitStore.open(folder, visibility="sealed")
    again.seal()
    again.seal()
    again.close()
    assert len(list(folder.glob("objects/pack/*.pack"))) == 2
    assert not list(folder.glob("objects/pack/*.keep"))
    clean(folder)


def died_after(work: Callable[..., object]) -> Callable[..., object]:
    def called(*words: Any, **more: Any) -> object:
        work(*words, **more)
        raise KeyboardInterrupt

    return called


def test_branches_of_many_loops_are_put_into_one_list_whatever_their_number(
    folder: Path, store: GitStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = Fate(monkeypatch)
    known, counts = dict[LoopName, Commit](), list[int]()
    for number, many in enumerate((8, 64, 64)):
        loops = [loop_name(f"loop-{min(number, 1)}-{one}") for one in range(many)]
        for loop in loops:  # those of the last time go on
            known[loop] = step(store, *([known[loop]] if loop in known else []), loop=loop)
        before = changes.done
        store.seal()
        counts.append(changes.done - before - many)  # a lock of each is let go
        assert branches(folder) == {loop: commit.id for loop, commit in known.items()}
    assert counts[0] == counts[1] == counts[2]
    assert not [path for path in (folder / "refs/heads/loops").iterdir() if path.is_file()]
    clean(folder)


def test_a_nested_loop_has_a_file_for_its_branch_however_many_are_sealed_with_it(folder: Path, store: GitStore) -> None:
    loops = [loop_name(f"x.order-{number}") for number in range(1, 10)] + [
        loop_name(f"y{number}") for number in range(9)
    ]
    for loop in loops:
        step(store, loop=loop)
    store.seal()
    assert sorted(path.name for path in (folder / "refs/heads/loops").iterdir()) == sorted(loops[:9])
    assert set(branches(folder)) == set(loops)


def test_steps_are_sealed_whose_branch_git_has_packed_by_then_with_its_folder_gone(
    folder: Path, store: GitStore, other: GitStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any) -> None:
        raise OSError(errno.EIO, "broken")

    made = step(store)
    with monkeypatch.context() as patched:
        patched.setattr(Journal, "remove", fails)  # whoever seals them dies after it has put the branch in its place
        with pytest.raises(Unavailable):
            store.seal()
    (folder / f"refs/heads/loops/{X}.lock").unlink()  # as one might who thinks that git has left it
    git(folder, "pack-refs", "--all")
    assert not (folder / "refs/heads/loops").exists()
    other.seal()
    assert branches(folder) == {X: made.id}
    clean(folder)


@pytest.mark.parametrize("stranger", ["packs the branches", "has the list locked", "moves one over a deleted lock"])
def test_what_a_stranger_does_before_the_list_is_there_costs_no_step(
    folder: Path, store: GitStore, monkeypatch: pytest.MonkeyPatch, stranger: str
) -> None:
    known = {loop_name(f"x{number}"): step(store, loop=loop_name(f"x{number}")).id for number in range(9)}
    aside = step(store, loop=loop_name("aside"), message="Another.\n").id
    store.seal()
    heads = {loop: step(store, store.read(head), loop=loop).id for loop, head in known.items()}
    enlist, lock = _journaled.JournaledRefs.enlist, folder / "packed-refs.lock"

    def late(self: _journaled.JournaledRefs, listed: _journaled.Listed, locks: Locks) -> bool:
        if stranger == "packs the branches":
            git(folder, "update-ref", "refs/heads/theirs", aside)
            git(folder, "pack-refs", "--all")
        elif stranger == "has the list locked":
            lock.touch()
        else:
            (folder / "refs/heads/loops/x0.lock").unlink()
            git(folder, "update-ref", "refs/heads/loops/x0", aside)
        done = enlist(self, listed, locks)
        assert not done
        lock.unlink(missing_ok=True)
        return done

    monkeypatch.setattr(_journaled.JournaledRefs, "enlist", late)
    store.seal()
    expected = {"aside": str(aside)} | {str(loop): str(head) for loop, head in heads.items()}
    if stranger.startswith("moves"):
        expected |= {"x0": aside, f"x0-unsealed-{heads[loop_name('x0')][:7]}": heads[loop_name("x0")]}
    assert branches(folder) == expected
    assert store.heads() == branches(folder)


def test_who_seals_what_another_has_sealed_meanwhile_does_not_keep_the_pack_from_git_again(
    folder: Path, store: GitStore, other: GitStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Git deletes what was not kept when it began to look, and does not pack what is kept when it comes to that."""
    write_pack, write, kept = _packing.write_pack, _disk.write, list[Path]()
    commit = step(store)
    assert other.head(X) == commit.id

    def noted(path: Path, *words: Any) -> None:
        kept.append(path)
        write(path, *words)

    def meanwhile(*words: Any, **more: Any) -> Path:
        monkeypatch.setattr(_sealing, "write_pack", write_pack)
        other.seal()
        assert branches(folder) == {X: commit.id}
        monkeypatch.setattr(_disk, "write", noted)
        return write_pack(*words, **more)

    monkeypatch.setattr(_sealing, "write_pack", meanwhile)
    store.seal()
    assert [path for path in kept if path.suffix == ".keep"] == []
    assert len(list((folder / "objects/pack").iterdir())) == 2
    clean(folder)


def test_where_only_the_first_of_two_segments_could_be_made_a_pack_no_file_of_it_is_left(
    folder: Path, store: GitStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, write_pack, made = step(store), _packing.write_pack, list[Path]()
    store._journal.rotate()
    second = step(store, first)

    def full(*words: Any, **more: Any) -> Path:
        if made:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        made.append(write_pack(*words, **more))
        return made[0]

    with monkeypatch.context() as patched:
        patched.setattr(_sealing, "write_pack", full)
        with pytest.raises(Unavailable):
            store.seal()
    assert made
    assert not list(folder.glob(f"{FOLDER}/branch-*"))
    store.seal()
    assert branches(folder) == {X: second.id}
    clean(folder)


@pytest.mark.parametrize("refused", ["the next segment", "the folder"])
def test_who_may_not_look_at_what_others_have_begun_is_told_so_and_adds_nothing_before_it(
    store: GitStore, other: GitStore, monkeypatch: pytest.MonkeyPatch, refused: str
) -> None:
    first = step(store)
    assert other.head(X) == first.id
    store._journal.rotate()
    second = step(store, first)

    def fails(*_: object) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    with monkeypatch.context() as patched:
        if refused == "the folder":
            patched.setattr(Path, "iterdir", fails)
        else:
            patched.setattr(_disk, "opened", fails)
        with pytest.raises(Unavailable, match="Too many open files"):
            other.head(X)
        with pytest.raises(Unavailable):
            step(other, first, message="Too late.\n")
    assert other.head(X) == second.id
    third = step(other, second)
    store.seal()
    assert store.head(X) == third.id


# What is left of a process that died -------------------------------------------------------------------------------

CHANGES = ("write", "append", "begin", "grow", "put", "settle", "sync", "rename", "link", "unlink", "make_folder")


class Died(BaseException):
    """A process that is no more."""


class Fate:
    """Lets the disk do so many things, and counts them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._patch, self.left, self.fault = monkeypatch, -1, BaseException()
        self.done = 0
        for name in CHANGES:
            self._watch(name, getattr(_disk, name))

    def _watch(self, name: str, call: Callable[..., Any]) -> None:
        def watched(*words: Any) -> Any:
            if self.left == 0 and (name != "unlink" or not isinstance(self.fault, OSError)):
                raise self.fault  # a full disk still lets go of files
            self.left -= self.left > 0
            self.done += 1
            return call(*words)

        self._patch.setattr(_disk, name, watched)


def forgotten(store: GitStore) -> None:
    """Let a store go as a process that dies does: its locks on files go, and no more."""
    store._turns.close()
    store._journal.close()


@pytest.mark.usefixtures("places")
@pytest.mark.parametrize("after", ["step", "sealed"])
def test_a_process_that_dies_while_it_seals_or_writes_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: str
) -> None:
    fate, moments = Fate(monkeypatch), 0
    while True:
        folder = tmp_path / f"{moments}.git"
        store = GitStore.open(folder, create=True, visibility="sealed")
        first, known = step(store), dict[str, str]()
        fate.left, fate.fault = moments, Died()
        try:
            known[X] = first.id
            known[X] = (second := step(store, first)).id
            known[OPS] = step(store, loop=OPS).id
            store.seal()
            known[X] = step(store, second).id
            store.seal()
        except Died:
            pass
        else:
            break
        finally:
            fate.left = -1
        forgotten(store)
        monkeypatch.setattr(_sealing, "is_dead", lambda _: True)
        again = GitStore.open(folder, visibility="step" if after == "step" else "sealed")
        heads = again.heads()
        assert all(known[name] in [heads[loop_name(name)], *again.parents(heads[loop_name(name)])] for name in known)
        last = step(again, again.read(heads[X]))
        again.seal()
        assert branches(folder)[X] == last.id
        clean(folder)
        again.close()
        moments += 1
    assert moments > 40


@pytest.mark.usefixtures("places")
def test_a_full_disk_at_any_moment_is_an_error_and_the_step_can_be_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fate, moments = Fate(monkeypatch), 0
    fate.fault, told = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), list[str]()
    while True:
        folder = tmp_path / f"{moments}.git"
        store = GitStore.open(folder, create=True, visibility="sealed")
        first = second = step(store)
        fate.left, made = moments, 0
        try:
            second = step(store, first)
            made = 1
            store.seal()
            made = 2
        except Unavailable as error:
            told.append(str(error))
        fate.left = -1
        if made == 2:
            break
        if made == 0:
            assert store.head(X) == first.id
            second = step(store, first)
        assert store.head(X) == second.id
        store.seal()
        assert branches(folder) == {X: second.id}
        clean(folder)
        store.close()
        moments += 1
    store.close()
    assert moments > 15
    assert all("No space left" in text for text in told)


def segment(folder: Path) -> Path:
    """The journal's last segment."""
    return max(file for file in (folder / FOLDER).iterdir() if file.name.isdecimal())


def written(folder: Path) -> bytes:
    """What is in the journal's last segment, but for the room for what is to come."""
    return segment(folder).read_bytes().rstrip(b"\x00")


@pytest.mark.parametrize("torn", [b"step", b"\x00" * 500 + b"x", b"steptruncated" * 20, None], ids=range(4))
def test_half_a_step_at_the_end_is_no_step_and_is_kept_and_told(
    folder: Path, store: GitStore, torn: bytes | None
) -> None:
    first = step(store)
    second = step(store, first)
    file, whole = segment(folder), written(folder)
    forgotten(store)
    # A frame that was there before is no frame after another one.
    file.write_bytes(whole + (whole[34:] if torn is None else torn))
    for visibility in ("sealed", "step"):
        again = GitStore.open(folder, visibility="sealed" if visibility == "sealed" else "step")
        assert again.head(X) == second.id
        second = step(again, second)
        again.close()
    assert branches(folder) == {X: second.id}
    (kept,) = (file for file in (folder / FOLDER).iterdir() if file.name.startswith("torn-"))
    assert kept.read_bytes() == (whole[34:] if torn is None else torn)
    again = GitStore.open(folder)
    assert any(kept.name in note for _, note in again.leftovers())
    assert not list(again.lost())
    clean(folder)


def test_a_step_that_was_cut_short_or_changed_is_none(folder: Path, store: GitStore) -> None:
    first = step(store)
    end = len(written(folder))
    step(store, first)
    forgotten(store)
    whole = written(folder)
    for at in range(end, len(whole), 7):
        for damaged in (whole[:at], whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :]):
            segment(folder).write_bytes(damaged)
            journal = Journal(folder, durable=False)
            assert journal.heads() == {"refs/heads/loops/x": first.id}
            journal.close()


def test_steps_after_a_damaged_place_in_a_journal_are_told_to_be_lost(folder: Path, store: GitStore) -> None:
    made = [step(store)]
    ends = [len(written(folder))]
    for number in range(5):
        made.append(step(store, made[-1], message=f"Step {number}.\n"))
        ends.append(len(written(folder)))
    assert not list(store.lost())
    forgotten(store)
    whole = written(folder)
    at = (ends[1] + ends[2]) // 2
    segment(folder).write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
    again = GitStore.open(folder, visibility="sealed")
    assert again.head(X) == made[1].id
    for hint in ("'caesura gc' sets what follows aside", f"rm {folder / FOLDER}/torn-"):
        (fault,) = (fault for fault in Loops(again).verify().faults if not fault.loop)
        assert "3 steps after that place are lost" in fault.what
        assert hint in fault.hint
        again.seal()
    assert branches(folder) == {X: made[1].id}
    again.close()


def test_a_journal_that_is_gone_is_no_journal(folder: Path, store: GitStore, other: GitStore) -> None:
    first = step(store)
    store.seal()
    step(store, first)
    for file in (folder / FOLDER).iterdir():
        file.unlink()
    (folder / FOLDER).rmdir()
    (note,) = (note for _, note in store.leftovers() if "x.lock" in note)
    assert "If somebody has deleted it, they are lost" in note
    (folder / "refs/heads/loops/x.lock").unlink()
    for one in (store, other):
        assert one.head(X) == first.id
    second = step(other, first)
    assert store.head(X) == second.id
    store.seal()
    assert branches(folder) == {X: second.id}


@pytest.mark.usefixtures("places")
def test_a_whole_story_is_the_same_sealed_at_any_moment(folder: Path, store: GitStore) -> None:
    world = World(store, [["order"]])
    world.settle()
    store.seal()
    saved = world.end(lambda _: "approve")
    store.seal()
    assert branches(folder)[world.saved().loop] == saved.commit
    clean(folder)


@pytest.mark.parametrize("stretch", [1, 700, 4096])
def test_what_is_sealed_is_read_a_stretch_at_a_time_however_long_that_is(
    folder: Path, store: GitStore, monkeypatch: pytest.MonkeyPatch, stretch: int
) -> None:
    silent = msgspec.structs.replace(STATE, messages=())  # whose folder of messages is an object of no bytes
    made = [step(store, message="Said.\n" * 200, state=silent)]
    for number in range(20):
        made.append(step(store, made[-1], message=f"Step {number}.\n" * 100 * (number % 3)))
    monkeypatch.setattr(_sealing, "_STRETCH", stretch)
    store.seal()
    assert branches(folder) == {X: made[-1].id}
    assert git(folder, "rev-list", "loops/x").split() == [one.id for one in reversed(made)]
    clean(folder)


@pytest.mark.parametrize("stretch", [1, 700, 4096])
def test_other_threads_have_their_turn_before_each_stretch_that_is_sealed(
    folder: Path, store: GitStore, monkeypatch: pytest.MonkeyPatch, stretch: int
) -> None:
    made = [step(store)]
    for number in range(20):
        made.append(step(store, made[-1], message=f"Step {number}.\n" * 100))
    sealed = Segment(segment(folder))
    sealed.read_on()
    sizes = [size for _, _, size in sealed.objects.values()]
    sealed.close()
    turns: list[float] = []
    monkeypatch.setattr(_sealing, "_STRETCH", stretch)
    monkeypatch.setattr(_sealing, "time", SimpleNamespace(sleep=turns.append))
    store.seal()
    assert len(turns) * max(stretch, *sizes) >= sum(sizes)
    assert 0 < max(turns) < 0.001
    assert branches(folder) == {X: made[-1].id}


def test_the_more_there_is_to_seal_the_less_often_others_have_their_turn_meanwhile(
    store: GitStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = [step(store)]
    for number in range(50):
        made.append(step(store, made[-1], message=f"Step {number}.\n" * 100))
    turns: list[float] = []
    monkeypatch.setattr(_sealing, "_STRETCH", 1)
    monkeypatch.setattr(_sealing, "_PART", 5)
    monkeypatch.setattr(_sealing, "time", SimpleNamespace(sleep=turns.append))
    store.seal()
    assert 3 <= len(turns) <= 8


def test_nothing_is_sealed_of_a_segment_that_another_program_has_cut_short_meanwhile(
    folder: Path, store: GitStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    step(store, message="Said.\n" * 200)

    def opened(path: Path) -> FileIO:
        os.truncate(path, size - 300)
        return as_before(path)

    as_before, size = _disk.opened, len(written(folder))
    prepare = Sealer._prepare  # pyright: ignore[reportPrivateUsage]

    def prepared(self: Sealer, segment: Segment, *, within: bool) -> Any:
        with monkeypatch.context() as patch:
            patch.setattr(_disk, "opened", opened)
            return prepare(self, segment, within=within)

    monkeypatch.setattr(Sealer, "_prepare", prepared)
    with pytest.raises(Torn, match="cut short"):
        store.seal()
    assert branches(folder) == {}
    assert list((folder / "objects/pack").iterdir()) == []


# What was taken back -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("built", ["on the same content", "on the commit"])
@pytest.mark.parametrize("visibility", ["sealed", "step"])
def test_what_another_process_had_to_take_back_is_not_built_upon(
    folder: Path, store: GitStore, monkeypatch: pytest.MonkeyPatch, built: str, visibility: Visibility
) -> None:
    """A frame can be read before it is known to be on the disk. If it never comes there, it is cut off; whoever has
    read it in between, and built their own step on what was in it, would miss that for ever."""
    first, own = step(store), loop_name("own")
    other = GitStore.open(folder, visibility=visibility)
    state, settle = msgspec.structs.replace(STATE, nonce="another"), _disk.settle

    def written(by: GitStore, *parents: str) -> Commit:
        named = tuple(map(CommitId, parents))
        return by.write(state, parents=named, message=f"{len(parents)}\n", author=ADA, committer=ROBOT)

    seen: list[Commit] = []

    def fails(file: _disk.Growing) -> None:
        monkeypatch.setattr(_disk, "settle", settle)
        head = other.head(X)
        assert head not in (None, first.id)
        other.read(CommitId(str(head)))
        seen.append(written(other, str(head)) if built == "on the commit" else written(other))
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    second = written(store, first.id)
    monkeypatch.setattr(_disk, "settle", fails)
    with pytest.raises(Unavailable):
        store.move(X, first.id, second.id)
    assert other.head(X) == first.id
    again = seen[0]
    if built == "on the commit":  # else all of it is there, in the next frame or in files of its own
        with pytest.raises(Moved):
            other.move(own, None, again.id)
        again = written(other)  # as one does who was told so
    other.move(own, None, again.id)
    assert other.read(again.id).state == state
    other.seal()
    store.move(X, first.id, written(store, first.id).id)
    store.seal()
    assert branches(folder).keys() == {X, own}
    git(folder, "fsck", "--strict", "--no-dangling")
    other.close()


@pytest.mark.parametrize("shared", [False, True])
def test_once_something_was_erased_one_step_of_a_loop_is_made_as_git_would_and_the_next_is_not(
    folder: Path, store: GitStore, shared: bool
) -> None:
    def made(message: str, *before: Commit) -> Commit:
        work = Work(lambda: step(store, *before, message=message))
        if shared:
            store.share([work])
        else:
            work.do()
        return work.result()

    first = made("First.\n")
    assert branches(folder) == {}
    about_to_erase(folder)
    second = made("Second.\n", first)
    assert branches(folder) == {X: second.id}
    third = made("Third.\n", second)
    assert branches(folder) == {X: second.id}
    assert store.head(X) == third.id
    store.seal()
    clean(folder)


def test_a_disk_that_has_room_for_a_step_alone_takes_it(
    store: GitStore, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put, refused = _disk.put, list[int]()

    def full(file: _disk.Growing, at: int, data: bytes) -> None:
        if not data.strip(b"\x00"):  # room for steps to come
            refused.append(len(data))
            put(file, at, data[:-1])  # as much as there is room for
        if refused and os.fstat(file.descriptor).st_size > at:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        put(file, at, data)

    monkeypatch.setattr(_disk, "put", full)
    first = step(store)
    second = step(store, first)

    assert refused
    assert store.head(X) == second.id
    store.seal()
    assert branches(folder) == {X: second.id}


def test_what_had_to_be_taken_back_on_a_full_disk_is_forgotten_by_who_has_read_it(
    store: GitStore, other: GitStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, full = step(store), OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def fails(*_: object) -> None:
        assert other.head(X) not in (None, first.id)
        raise full

    def begin(*_: object) -> None:
        raise full

    with monkeypatch.context() as patched:
        patched.setattr(_disk, "settle", fails)
        patched.setattr(_disk, "begin", begin)
        with pytest.raises(Unavailable):
            step(store, first, message="Taken back.\n")
    made = step(store, loop=OPS, message="Another loop's, and longer than that.\n")
    assert (other.head(X), other.head(OPS)) == (first.id, made.id)
    second = step(other, first)
    assert store.head(X) == second.id


def test_steps_that_share_a_wait_say_that_it_is_the_disk_that_refuses_them(
    store: GitStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def fails(*_: object) -> None:
        raise full

    works = [Work(partial(step, store, loop=loop)) for loop in (X, OPS)]
    with monkeypatch.context() as patched:
        patched.setattr(_disk, "put", fails)
        store.share(works)
    faults = [work.error for work in works]
    assert [type(fault) for fault in faults] == [Unavailable, Unavailable]
    assert [fault and fault.__cause__ for fault in faults] == [full, full]


def test_a_step_holds_what_it_is_made_of_whoever_took_that_back_before_it_was_begun(
    folder: Path, store: GitStore, other: GitStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = msgspec.structs.replace(STATE, nonce="another")

    def written(by: GitStore) -> Commit:
        return by.write(state, parents=(), message="m\n", author=ADA, committer=ROBOT)

    def fails(_: _disk.Growing) -> None:
        assert other.head(X) is not None
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    first = written(store)
    with monkeypatch.context() as patched:
        patched.setattr(_disk, "settle", fails)
        with pytest.raises(Unavailable):
            store.move(X, None, first.id)
    forgotten(store)  # with all that it kept for its next step
    made = written(other)  # who has read it, and has not looked since
    other.move(OPS, None, made.id)
    other.seal()
    assert branches(folder) == {OPS: made.id}
    clean(folder)


def test_a_step_that_was_refused_leaves_no_more_than_its_objects(
    folder: Path, store: GitStore, other: GitStore
) -> None:
    """They come with the next frame, as git has the objects of a commit that came too late for its branch."""
    first = step(store)
    second = step(other, first)
    with pytest.raises(Moved):
        step(store, first, message="Too late.\n")
    third = step(store, second)
    store.seal()
    assert branches(folder) == {X: third.id}


# Work that shares a wait -------------------------------------------------------------------------------------------


def shared(store: GitStore, *calls: Callable[[], Commit]) -> list[Work[Commit]]:
    works = [Work(call) for call in calls]
    store.share(works)
    while held := [work for work in works if work.held]:
        store.share(held)
    return works


def noted(called: list[LoopName], store: GitStore, loop: LoopName, *before: Commit) -> Callable[[], Commit]:
    """One more step of a loop; each time that it is taken is noted."""

    def once() -> Commit:
        called.append(loop)
        return step(store, *before, loop=loop)

    return once


def test_steps_that_are_shared_are_one_write_and_one_wait(store: GitStore, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [loop_name(f"x{number}") for number in range(16)]
    firsts = shared(store, *(partial(step, store, loop=name) for name in names))
    waits: list[int] = []
    monkeypatch.setattr(_disk, "settle", lambda _: waits.append(1))
    seconds = shared(
        store, *(partial(step, store, one.result(), loop=name) for name, one in zip(names, firsts, strict=True))
    )
    assert sum(waits) == 1
    assert store.heads() == {name: one.result().id for name, one in sorted(zip(names, seconds, strict=True))}


def test_shared_work_that_somebody_else_was_faster_than_is_done_again_and_by_itself(
    store: GitStore, other: GitStore
) -> None:
    first, lost = step(store), list[str]()

    def insistent(message: str) -> Commit:
        before = first
        while True:
            try:
                return step(store, before, message=message)
            except Moved:
                lost.append(message)
                head = store.head(X)
                assert head is not None
                before = store.read(head)

    def meanwhile() -> Commit:  # another process, after the first work has looked and before anything is written
        return step(other, first, message="another\n")

    works = shared(store, lambda: insistent("a\n"), meanwhile, lambda: insistent("b\n"), lambda: step(store, loop=OPS))
    assert lost == ["a\n", "b\n"]
    assert works[2].result().parents == (works[0].result().id,)
    assert works[0].result().parents == (works[1].result().id,)
    assert store.heads() == {OPS: works[3].result().id, X: works[2].result().id}


def test_what_goes_wrong_in_one_work_is_its_own_affair(store: GitStore) -> None:
    first = step(store)

    def stale() -> Commit:
        return step(store, first, loop=OPS)

    def broken() -> Commit:
        raise ZeroDivisionError

    works = shared(store, stale, broken, lambda: step(store, first))
    with pytest.raises(Moved):
        works[0].result()
    with pytest.raises(ZeroDivisionError):
        works[1].result()
    assert store.heads() == {X: works[2].result().id}


def test_shared_work_waits_together_for_another_process_that_does_not_let_go(
    folder: Path, store: GitStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_refs, "LOCK_SECONDS", 0.05)
    called: list[LoopName] = []
    turns = Turns(folder, durable=True)
    with turns.take(30):
        works = shared(store, noted(called, store, X), noted(called, store, OPS))
    turns.close()
    for work in works:
        with pytest.raises(Locked):
            work.result()
    assert called == [X, OPS]  # and not one after the other, each for as long again
    assert store.heads() == {}


def test_shared_work_does_not_wait_for_branches_that_somebody_else_holds(folder: Path, store: GitStore) -> None:
    called: list[LoopName] = []
    other = loop_name("y")
    (folder / "refs/heads/loops").mkdir(parents=True, exist_ok=True)
    locks = [folder / f"refs/heads/loops/{name}.lock" for name in (X, OPS)]
    for lock in locks:
        lock.touch()
    works = [Work(noted(called, store, name)) for name in (X, OPS, other)]
    store.share(works)
    assert [work.held for work in works] == [True, True, False]
    assert store.heads() == {other: works[2].result().id}
    locks[0].unlink()
    store.share(works[:2])
    assert [work.held for work in works] == [False, True, False]
    assert called == [X, OPS, other, X, OPS]
    assert store.heads() == {X: works[0].result().id, other: works[2].result().id}


def test_a_held_branch_is_waited_for_from_when_it_was_found_held_however_long_the_work_has_waited_before(
    folder: Path, store: GitStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = Work(partial(step, store))
    monkeypatch.setattr(_refs, "LOCK_SECONDS", 0.0)
    (folder / "refs/heads/loops").mkdir(parents=True, exist_ok=True)
    lock = folder / f"refs/heads/loops/{X}.lock"
    lock.touch()
    store.share([work])
    assert work.held
    lock.unlink()
    store.share([work])
    assert store.heads() == {X: work.result().id}


def test_a_shared_work_that_moves_several_branches_does_not_wait_for_one_that_somebody_else_holds_either(
    folder: Path, store: GitStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited, y = list[float](), loop_name("y")
    monkeypatch.setattr(_refs, "LOCK_SECONDS", 0.05)
    monkeypatch.setattr(time, "sleep", waited.append)
    (folder / "refs/heads/loops").mkdir(parents=True, exist_ok=True)
    lock = folder / f"refs/heads/loops/{y}.lock"
    lock.touch()

    def both() -> Commit:
        if store.head(X) is None:
            step(store)
        return step(store, loop=y)

    works = [Work(both), Work(partial(step, store, loop=OPS))]
    store.share(works)
    assert [work.held for work in works] == [True, False]
    assert waited == []
    lock.unlink()
    store.share(works[:1])
    assert store.heads() == {OPS: works[1].result().id, X: store.head(X), y: works[0].result().id}


def test_a_branch_that_somebody_else_never_lets_go_of_is_given_up_in_the_end(
    folder: Path, store: GitStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_refs, "LOCK_SECONDS", 0.05)
    (folder / "refs/heads/loops").mkdir(parents=True, exist_ok=True)
    (folder / f"refs/heads/loops/{X}.lock").touch()
    held, done = shared(store, partial(step, store), partial(step, store, loop=OPS))
    with pytest.raises(Locked):
        held.result()
    assert store.heads() == {OPS: done.result().id}


def test_a_shared_step_of_a_nested_loop_without_a_branch_is_made_once(store: GitStore) -> None:
    world = World(store, NESTED)
    commit = world.settle().commit
    world.history.branch(X, commit)  # of its nested loops there are only the commits that this one holds
    name = loop_name("x.team-1")
    nested = world.history.load(name)
    told = Told(at=EPOCH, message=User(content="Hurry."), by=ADA)
    work = Work(lambda: world.history.apply(nested, told, ROBOT))
    store.share([work])
    assert store.parents(work.result().commit)[0] == nested.commit
    assert store.head(name) == work.result().commit


def test_of_shared_work_that_the_disk_refuses_nothing_is_done_nor_done_again(
    folder: Path, store: GitStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    heads = {X: step(store), OPS: step(store, loop=OPS)}
    called: list[LoopName] = []

    def settle(_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr(_disk, "settle", settle)
        works = shared(store, *(noted(called, store, name, head) for name, head in heads.items()))
    for work in works:
        with pytest.raises(Unavailable):
            work.result()
    assert called == [X, OPS]
    assert store.heads() == {name: heads[name].id for name in sorted(heads)}
    store.seal()
    clean(folder)


def test_git_may_remove_the_folder_of_a_branch_before_it_is_sealed(folder: Path, store: GitStore) -> None:
    first = step(store)
    store.seal()
    commit = step(store, first)
    (folder / "refs/heads/loops/x.lock").unlink()  # what guards it from git
    git(folder, "pack-refs", "--all")
    assert not (folder / "refs/heads/loops").exists()
    store.seal()
    assert git(folder, "rev-parse", "loops/x") == commit.id
