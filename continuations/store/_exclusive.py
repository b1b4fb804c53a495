"""Exclusive access: one process at a time moves refs, and clears away the locks of one that died while it did."""

import fcntl
import os
import random
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path

import msgspec

from . import _disk
from ._packed import PACKED
from ._protocol import Locked

MARK = "caesura.exclusive"
"""The file that is locked, in a repository's folder."""

_UPKEEP, _SEALING = "caesura.upkeep", "caesura.sealing"
_SECONDS = 10.0
_HELD = "caesura.lock."


def common(repository: Path) -> Path:
    """The folder that a repository's refs and objects are in: a linked worktree has the main one's."""
    pointer = repository / "commondir"
    return repository / pointer.read_text().strip() if pointer.exists() else repository


class Held(OSError):
    """Git's own lock on a file is held by somebody who is no process of ours, or was when it died."""


class Locks(msgspec.Struct, eq=False):
    """Git's own locks on files of a repository, taken by the one process of ours that may take any.

    A lock is a second name of a file ``caesura.lock.<name>``, in which stands what is to come in the place of the
    locked file. The first name is what tells our locks from others': git's outlive a process that is killed, and so
    would ours.
    """

    _folder: Path
    _durable: bool
    _taken: dict[str, Path] = {}

    def take(self, name: str, content: bytes | Path) -> None:
        """Lock a file (``HEAD``, ``packed-refs``, ``refs/…``), to put this in its place: bytes, or a synced file.

        Raises:
            Held: somebody else has locked it.
            FileNotFoundError: its folder is not there.
        """
        first = self._first(name)
        try:
            self._take(first, name, content)
        except FileExistsError:
            self.clear()
            try:
                self._take(first, name, content)
            except FileExistsError:
                raise Held(f"{_lock(self._folder, name)} is there") from None

    def _take(self, first: Path, name: str, content: bytes | Path) -> None:
        if isinstance(content, bytes):
            _disk.write(first, content)
        else:
            _disk.link(content, first)  # and not in the place of one that says whose an old lock is
        try:
            if self._durable or name == PACKED:  # in which others' branches stand, that are to outlast a power cut
                _disk.sync(first)
            if self._durable:
                # In this order: whatever of it a power cut leaves, the next process can tell whose lock it is.
                _disk.sync(self._folder)
            _disk.link(first, _lock(self._folder, name))
        except OSError:
            _disk.unlink(first)
            raise
        if not isinstance(content, bytes):
            _disk.unlink(content)
        self._taken[name] = first

    @contextmanager
    def several(self, names: Iterable[str]) -> Iterator[list[str]]:
        """Lock files of one folder that are not to be written, for as long as the block lasts: which of them are.

        Those that somebody else has locked are left out. It waits for the disk twice, and not for each.
        """
        firsts = {name: self._first(name) for name in names}
        try:
            for first in firsts.values():
                _disk.write(first, b"")
            if self._durable:
                _disk.sync(self._folder)
            for name, first in firsts.items():
                with suppress(FileExistsError, FileNotFoundError):
                    _disk.link(first, _lock(self._folder, name))
                    self._taken[name] = first
            taken = [name for name in firsts if name in self._taken]
            yield taken
            for name in taken:
                _disk.unlink(_lock(self._folder, name))
                del self._taken[name]
            if self._durable and taken:
                settle(self._folder, _lock(self._folder, taken[0]).parent)
        finally:
            for name, first in firsts.items():
                if name not in self._taken:
                    _disk.unlink(first)

    def commit(self, name: str) -> None:
        """Put what was announced into the locked file's place, and let go of the lock."""
        file = self._folder / name
        _disk.rename(_lock(self._folder, name), file)
        self._forget(name)

    def drop(self, name: str) -> None:
        """Let go of a lock, the file as it is."""
        _disk.unlink(_lock(self._folder, name))
        self._forget(name)

    def _first(self, name: str) -> Path:
        return self._folder / (_HELD + name.replace("/", "%"))

    def release(self) -> None:
        """Let go of what is still locked."""
        while self._taken:
            self.drop(next(iter(self._taken)))

    def _forget(self, name: str) -> None:
        if self._durable:
            settle(self._folder, (self._folder / name).parent)  # before the name goes that tells whose the lock is
        _disk.unlink(self._taken.pop(name))

    def clear(self) -> None:
        """Remove the locks of a process of ours that died; it did, if this one has exclusive access."""
        for first in set(self._folder.glob(f"{_HELD}*")).difference(self._taken.values()):
            name = first.name.removeprefix(_HELD).replace("%", "/")
            lock = _lock(self._folder, name)
            with suppress(OSError):
                if ".." not in name and lock.samefile(first):
                    _disk.unlink(lock)
                    if self._durable:
                        _disk.sync(lock.parent)
            _disk.unlink(first)


def settle(repository: Path, folder: Path) -> None:
    """Wait until it is on the disk which names are in a folder of refs, even if there is no such folder any more.

    Git may pack a ref as soon as it is there, and removes the folder that it has emptied by that.
    """
    try:
        _disk.sync(folder)
    except FileNotFoundError:
        if folder == repository:
            raise
        with suppress(FileNotFoundError):
            _disk.sync(repository / PACKED)
        _disk.sync(repository)
        settle(repository, folder.parent)  # or the folder comes back, with what was in it


class Place(msgspec.Struct, eq=False):
    """A place in the row of a process's threads that take turns. Whoever has it holds `over` until its turn is over.

    `before` is the place before it, until the turn of that one is over.
    """

    over: threading.Lock = msgspec.field(default_factory=threading.Lock)
    before: "Place | None" = None


class _Process:
    """This process's number: kept, as each step's turn would ask the system for it twice. Python says when it forks."""

    number = os.getpid()

    @classmethod
    def forked(cls) -> None:
        cls.number = os.getpid()


os.register_at_fork(after_in_child=_Process.forked)


class Turns:
    """Exclusive access, taken again and again: in this process's threads by whoever came first, then among processes.

    What processes of ours that died have left locked is cleared away with the first turn, and when it is in the way.
    """

    def __init__(self, folder: Path, *, durable: bool) -> None:
        self._folder, self._durable = folder, durable
        self._mutex, self._last = threading.Lock(), Place()
        self._file, self._owner = -1, 0
        self._cleared = False

    def close(self) -> None:
        """Let go of the file. There must be no turn under way."""
        if self._file >= 0:
            os.close(self._file)
            self._file, self._owner = -1, 0

    __del__ = close  # by a store that nobody closes, as Python does with files

    @contextmanager
    def take(self, seconds: float) -> Iterator[Locks]:
        """Be the only one, of our processes and of this one's threads, for as long as the block lasts.

        Raises:
            BlockingIOError: another process is, for so long now.
        """
        place = Place()
        with place.over:
            locks = self.begin(place, seconds)
            try:
                yield locks
            finally:
                self.end(locks)

    def begin(self, place: Place, seconds: float) -> Locks:
        """`take`, until `end` is called: for each step, which a generator would make longer.

        The caller holds the lock of a new place with a ``with`` of its own around all this: the one thing that Python
        lets go of whenever it interrupts a thread. What else is left then, the next turn does away with.
        """
        locks = Locks(self._folder, self._durable)
        with self._mutex:
            place.before, self._last = self._last, place
        while place.before is not None:
            with place.before.over:
                pass
            # If that one was interrupted before its turn came, there is another before it, whose turn may not be over.
            place.before = place.before.before
        try:
            self._lock(seconds)
            if not self._cleared:
                locks.clear()
                self._cleared = True
        except BaseException:
            self.end(locks)
            raise
        return locks

    def end(self, locks: Locks) -> None:
        """Let the next process have its turn."""
        try:
            locks.release()
        finally:
            if self._owner == _Process.number:  # else the file is that of the process that this one was forked from
                fcntl.flock(self._file, fcntl.LOCK_UN)

    def _lock(self, seconds: float) -> None:
        deadline, pause = time.monotonic() + seconds, 0.0001
        while True:
            if self._file < 0 or self._owner != _Process.number:
                self.close()
                self._file = os.open(self._folder / MARK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
                self._owner = _Process.number
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                if time.monotonic() > deadline:
                    fault = f"another process holds the lock on {self._folder / MARK}"
                    raise BlockingIOError(error.errno, fault) from None
                time.sleep(random.uniform(pause, 2 * pause))  # noqa: S311  # jitter, not a secret
                pause = min(0.01, 1.5 * pause)
                locked = False
            else:
                locked = True
            if os.fstat(self._file).st_nlink == 0:
                self.close()  # it is no longer there, and others lock another one
            elif locked:
                return


@contextmanager
def in_turn(folder: Path) -> Iterator[Locks]:
    """Be the only process of ours that changes a repository, once.

    Raises:
        Locked: it never came to that.
    """
    turns = Turns(folder, durable=True)
    with closing(turns), in_turn_of(turns) as locks:
        yield locks


@contextmanager
def in_turn_of(turns: Turns) -> Iterator[Locks]:
    """Be the only process of ours that changes a repository, with turns that are there already.

    Raises:
        Locked: it never came to that.
    """
    with ExitStack() as stack:
        try:
            locks = stack.enter_context(turns.take(_SECONDS))
        except BlockingIOError as error:
            raise Locked(
                f"For {_SECONDS:.0f} seconds, {error.strerror}.",
                hint="If a process that uses the repository hangs, end it.",
            ) from error
        yield locks


@contextmanager
def keeping_up(folder: Path) -> Iterator[bool]:
    """Whether no other process puts a repository's objects into other files now; none begins while this one does."""
    with _flocked(folder / _UPKEEP, fcntl.LOCK_EX | fcntl.LOCK_NB) as first:
        yield first


@contextmanager
def sealing(folder: Path, *, alone: bool = False) -> Iterator[bool]:
    """Seal, as others may at the same time; or be `alone`, with nobody sealing: then, whether that is so."""
    with _flocked(folder / _SEALING, fcntl.LOCK_EX | fcntl.LOCK_NB if alone else fcntl.LOCK_SH) as granted:
        yield granted


@contextmanager
def _flocked(path: Path, how: int) -> Iterator[bool]:
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    let_go = release_of(file)
    try:
        try:
            fcntl.flock(file, how)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        let_go()


def release_of(file: int) -> Callable[[], None]:
    """What closes a file, and lets go of the lock on it, though a process that was forked since has it open, too."""
    owner = _Process.number

    def let_go() -> None:
        if owner == _Process.number:
            fcntl.flock(file, fcntl.LOCK_UN)
        os.close(file)

    return let_go


def _lock(folder: Path, name: str) -> Path:
    return folder / f"{name}.lock"
