"""Steps that are journaled together: of the threads that move branches at once, one writes for all, and waits once."""

import random
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Any

from .._errors import CaesuraError
from . import _refs
from ._exclusive import Held, Locks, Turns
from ._frames import RefMove
from ._journal import Journal
from ._journaled import JournaledRefs
from ._later import Later
from ._objects import Batch
from ._refs import moved
from ._sealing import Sealer
from ._shared import Work

_MOST = 4096
"""Moves in one frame."""

_KEPT = 16 * 2**20
"""Bytes of objects that may wait for a move."""


_PASSING = (Held, BlockingIOError)
"""Errors of a move that may be made a moment later."""


class _Asked:
    """A move that is asked for; `then` is to be called once it is made, `plain` says that the journal can make it."""

    def __init__(self, move: RefMove, check: Callable[[], None], then: Callable[[], None]) -> None:
        self.move, self.check, self.then = move, check, then
        self.plain = True
        self.error: Exception | None = None

    def anew(self) -> "_Asked":
        """The same, not tried yet."""
        return _Asked(self.move, self.check, self.then)


class _Another(Exception):
    """A work that is shared moves a second branch: it must be done by itself, as the first has not moved yet."""


class _Waiting:
    """A thread that waits for its moves; `leads` says that it is to write for those that wait."""

    def __init__(self, asked: Sequence[_Asked] = ()) -> None:
        self.asked = asked
        self.woken = threading.Lock()
        self.woken.acquire()
        self.leads = False
        self.error: Exception | None = None


class _Shares(threading.local):
    """Whether the thread's moves are to wait for others of its own, and the one that does.

    Or whether, of a work that is done by itself, they wait for nobody's lock, and whether one was `held` up by that.
    """

    on = alone = held = False
    asked: _Asked | None = None


class Group:
    """Moves branches by the journal. For any thread at any time."""

    def __init__(self, journal: Journal, refs: JournaledRefs, turns: Turns, sealer: Sealer) -> None:
        self._journal, self._refs, self._turns = journal, refs, turns
        self._sealer, self._later = sealer, Later(journal, self.seal)
        self._mutex, self._queue = threading.Lock(), deque[_Waiting]()
        self._led = self._used = False
        self._shares = _Shares()
        self._one_seal, self._asked, self._sealed = threading.Lock(), 0, 0

    def close(self) -> None:
        """Seal what there is, if anything was written here and it can be done now."""
        self._later.close()
        if self._used:
            with suppress(CaesuraError):
                self.seal()

    def seal(self) -> None:
        """Seal what was written and acknowledged by now: once for all threads that ask for it while one is at it.

        Raises:
            Locked, Unavailable: it cannot be done now.
        """
        with self._mutex:
            self._asked += 1
            mine = self._asked
        with self._one_seal:
            if self._sealed >= mine:  # by one that began after this was asked for
                return
            with self._mutex:
                asked = self._asked
            waiting = self._submit()
            if waiting.error is not None:
                raise self._refs.fault("The journal", waiting.error)
            self._sealer.seal()
            self._sealed = asked

    def write(self, batch: Batch) -> None:
        """Keep objects for the next move; so many that they would fill the memory are written at once.

        Raises:
            OSError: the disk is full, or may not be written.
        """
        self._used = True
        if self._journal.prepare(batch) > _KEPT:
            waiting = self._submit()
            if waiting.error is not None:
                raise waiting.error

    def move(self, move: RefMove, check: Callable[[], None], then: Callable[[], None]) -> bool:
        """Move a branch, if it is where the move begins; False if only git's own way does.

        `check` is called when nobody else of ours can change anything any more, and may refuse; `then`, once it has
        moved.

        Raises:
            Moved: it is elsewhere.
            Torn: it is nowhere that can be told.
            Locked: somebody else's lock on it stays.
            Unavailable: it cannot be written.
        """
        self._used = True
        asked = _Asked(move, check, then)
        if self._shares.on:
            if self._shares.asked is not None:
                raise _Another
            self._shares.asked = asked
            return True
        deadline = time.monotonic() + _refs.LOCK_SECONDS
        while True:
            error = self._submit(asked).error or asked.error
            if error is None:
                self._later.step()
                if asked.plain:
                    then()
                return asked.plain
            self._shares.held = self._shares.alone and isinstance(error, Held)
            if self._shares.held or not isinstance(error, _PASSING) or time.monotonic() > deadline:
                raise self._refs.fault(move.ref, error) from error
            _pause()
            asked = asked.anew()

    def share(self, works: Sequence[Work[Any]]) -> None:
        """Do works one after the other; their moves are written together, and waited for once.

        A work whose move could not be made is done again, by itself: what had moved its branch is found then. So is one
        that moves several. One whose branch another process holds is left, for the others not to wait for it.
        """
        late: list[tuple[Work[Any], _Asked]] = []
        for work in works:
            self._shares.on = True
            try:
                work.do()
            finally:
                asked, self._shares.asked, self._shares.on = self._shares.asked, None, False
            if isinstance(work.error, _Another):
                self._do_alone(work)
            elif asked is not None:
                late.append((work, asked))
        if not late:
            return
        waiting = self._submit(*(asked for _, asked in late))
        self._later.step()
        for work, asked in late:
            if isinstance(asked.error, _PASSING):
                _leave(work, self._refs.fault(asked.move.ref, asked.error))
            elif asked.error is not None or not asked.plain:
                self._do_alone(work)  # nothing of it was written
            elif waiting.error is not None:
                work.error = self._refs.fault(asked.move.ref, waiting.error)
            else:
                work.attempt(asked.then)

    def _do_alone(self, work: Work[Any]) -> None:
        self._shares.alone, self._shares.held = True, False
        try:
            work.do()
        finally:
            self._shares.alone = False
        if work.error is not None and self._shares.held:
            _leave(work, work.error)

    @property
    def waiting(self) -> int:
        """How many moves wait to be written."""
        with self._mutex:
            return sum(len(one.asked) for one in self._queue)

    def _submit(self, *asked: _Asked) -> _Waiting:
        mine = _Waiting(asked)
        with self._mutex:
            self._queue.append(mine)
            mine.leads, self._led = not self._led, True
        if not mine.leads:
            try:
                mine.woken.acquire()
            except BaseException:  # interrupted: others must not wait for this thread
                with self._mutex:
                    with suppress(ValueError):
                        self._queue.remove(mine)
                    if mine.leads:
                        self._pass_on()
                raise
        if mine.leads:
            self._lead()
        return mine

    def _lead(self) -> None:
        """Write for all that wait by now, and let the first of those that have come since lead next."""
        batch, over = list[_Waiting](), False
        try:
            try:
                with self._turns.take(_refs.LOCK_SECONDS) as locks:
                    with self._mutex:
                        batch = [self._queue.popleft() for _ in range(min(len(self._queue), _MOST))]
                    self._write(batch, locks)
            except OSError as error:
                if not batch:  # nobody else's turn has come
                    with self._mutex:
                        batch = [self._queue.popleft() for _ in range(len(self._queue))]
                for one in batch:
                    one.error = one.error or error
            over = True
        finally:
            with self._mutex:
                self._pass_on()
            for one in batch:
                if not over:  # this thread was interrupted
                    one.error = one.error or InterruptedError("the write was interrupted")
                if not one.leads:
                    one.woken.release()

    def _pass_on(self) -> None:
        """Let the first that waits lead; for whoever led, and holds the mutex."""
        self._led = bool(self._queue)
        if self._led:
            self._queue[0].leads = True
            self._queue[0].woken.release()

    def _write(self, batch: Iterable[_Waiting], locks: Locks) -> None:
        self._journal.catch_up()
        heads: dict[str, str | None] = {}
        guarded: list[str] = []
        moves: list[RefMove] = []
        for asked in (asked for one in batch for asked in one.asked):
            ref, old, new = asked.move.ref, asked.move.old, asked.move.new
            try:
                asked.check()
                now = heads.get(ref) or self._journal.known(ref)
                if now is None:
                    asked.plain = self._hold(asked.move, locks)
                    guarded.append(ref)
                elif now != old:
                    raise moved(ref)
            except (CaesuraError, OSError) as error:
                asked.error = error
                continue
            if asked.plain:
                heads[ref] = new
                moves.append(asked.move)
        objects = self._journal.pending()
        if not objects and not moves:
            return
        try:
            self._journal.append(objects, moves)
        except OSError:
            for ref in guarded:
                if self._journal.head(ref) is None:
                    self._refs.guard.take_away(ref)
            raise

    def _hold(self, move: RefMove, locks: Locks) -> bool:
        try:
            return self._refs.hold(move)
        except Held:
            locks.clear()  # it may be a dead process's of ours
            return self._refs.hold(move)


def _leave(work: Work[Any], error: BaseException) -> None:
    """Leave a work whose branch another process holds, to be shared again; it fails if that has gone on for long."""
    if work.seconds <= _refs.LOCK_SECONDS:
        work.leave()
    else:
        work.error = error


def _pause() -> None:
    time.sleep(random.uniform(0.001, 0.02))  # noqa: S311  # jitter, not a secret
