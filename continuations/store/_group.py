"""Steps that are journaled together: of the threads that move branches at once, one writes for all, and waits once."""

import random
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Any

import msgspec

from .._errors import CaesuraError
from . import _refs
from ._exclusive import Held, Locks, Place, Turns
from ._frames import RefMove
from ._journal import Journal
from ._journaled import JournaledRefs
from ._later import Later
from ._objects import Batch
from ._protocol import Unavailable
from ._refs import moved
from ._sealing import Sealer
from ._shared import Work
from ._vanished import erased

_MOST = 4096
"""Moves in one frame."""

_KEPT = 16 * 2**20
"""Bytes of objects that may wait for a move."""


_PASSING = (Held, BlockingIOError)
"""Errors of a move that may be made a moment later."""


class _Asked(msgspec.Struct, eq=False):
    """A move that is asked for; `then` is to be called once it is made, `plain` says that the journal can make it.

    After so many erasures as `since` says, all that it leads to was there.
    """

    move: RefMove
    since: int | None
    then: Callable[[], None]
    plain: bool = True
    error: Exception | None = None

    def anew(self) -> "_Asked":
        """The same, not tried yet."""
        return _Asked(self.move, self.since, self.then)


class _Another(Exception):
    """A work that is shared moves a second branch: it must be done by itself, as the first has not moved yet."""


class _Batch(msgspec.Struct, eq=False):
    """Moves that are written together, by whichever of the threads that wait for them has the `turn` first.

    Who is interrupted before it has `begun` leaves that to the next one.
    """

    asked: list[_Asked] = []
    turn: threading.Lock = msgspec.field(default_factory=threading.Lock)
    begun: bool = False
    over: bool = False
    error: Exception | None = None


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
        self._mutex, self._batches = threading.Lock(), list[_Batch]()
        self._used = False
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
            error = self._submit()
            if error is not None:
                raise self._refs.fault("The journal", error)
            self._sealer.seal()
            self._sealed = asked

    def write(self, batch: Batch) -> None:
        """Keep objects for the next move; so many that they would fill the memory are written at once.

        Raises:
            OSError: the disk is full, or may not be written.
        """
        self._used = True
        if self._journal.prepare(batch) > _KEPT:
            error = self._submit()
            if error is not None:
                raise error

    def move(self, move: RefMove, since: int | None, then: Callable[[], None]) -> bool:
        """Move a branch, if it is where the move begins; False if that is to be done in git's own way.

        So it is, too, if anything was erased after `since` so many erasures: what the move leads to was there then, and
        git is asked whether it still is. `then` is called once the branch has moved.

        Raises:
            Moved: it is elsewhere.
            Torn: it is nowhere that can be told.
            Locked: somebody else's lock on it stays.
            Unavailable: it cannot be written.
        """
        self._used = True
        asked = _Asked(move, since, then)
        if self._shares.on:
            if self._shares.asked is not None:
                raise _Another
            self._shares.asked = asked
            return True
        deadline = time.monotonic() + _refs.LOCK_SECONDS
        while True:
            error = self._submit(asked) or asked.error
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
        error = self._submit(*(asked for _, asked in late))
        self._later.step()
        for work, asked in late:
            if isinstance(asked.error, _PASSING):
                _leave(work, self._refs.fault(asked.move.ref, asked.error))
            elif asked.error is not None or not asked.plain:
                self._do_alone(work)  # nothing of it was written
            elif error is not None:
                work.error = self._refs.fault(asked.move.ref, error)
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
            return sum(len(batch.asked) for batch in self._batches)

    def _submit(self, *asked: _Asked) -> Exception | None:
        """Have moves written, with those that other threads ask for meanwhile; why none was, if none could be."""
        batch: _Batch | None = None
        try:
            with self._mutex:
                if not self._batches or len(self._batches[-1].asked) >= _MOST:
                    self._batches.append(_Batch())
                batch = self._batches[-1]
                batch.asked += asked
            with batch.turn:
                if not batch.begun:
                    self._lead(batch)
                elif not batch.over:
                    batch.error = batch.error or _interrupted()
        except BaseException:  # interrupted: if it has not begun, the others' are written without these
            with self._mutex:
                if batch is not None:
                    batch.asked = [one for one in batch.asked if one not in asked]
            raise
        return batch.error

    def _lead(self, batch: _Batch) -> None:
        place = Place()
        try:
            if self._journal.waited:  # each step would ask
                self._refs.lighten()
            with place.over:
                locks = self._turns.begin(place, _refs.LOCK_SECONDS)
                try:
                    self._begin(batch)
                    self._write(batch.asked, locks)
                finally:
                    self._turns.end(locks)
        except OSError as error:
            self._begin(batch)  # unless it has: those who wait for it have waited as long
            batch.error = error
        batch.over = True

    def _begin(self, batch: _Batch) -> None:
        """Let nobody add to it."""
        with self._mutex:
            if batch in self._batches:
                self._batches.remove(batch)
            batch.begun = True

    def _write(self, batch: Iterable[_Asked], locks: Locks) -> None:
        self._journal.catch_up()
        count = erased(self._journal.repository)  # nobody else erases anything now
        heads: dict[str, str] = {}
        guarded: list[str] = []
        moves: list[RefMove] = []
        for asked in batch:
            move = asked.move
            try:
                now = heads.get(move.ref) or self._journal.known(move.ref)
                if asked.since != count:
                    asked.plain = False
                elif now is None:
                    asked.plain = self._hold(move, locks)
                    guarded.append(move.ref)
                elif now != move.old:
                    raise moved(move.ref)
            except (CaesuraError, OSError) as error:
                asked.error = error
                continue
            if asked.plain:
                heads[move.ref] = move.new
                moves.append(move)
        try:
            self._journal.append(moves)
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


def _interrupted() -> Unavailable:
    """For those whose steps another thread was writing when it was ended: nobody has told it what became of them."""
    return Unavailable(
        "Another thread was interrupted while it wrote this step with its own: it may have been made, or not.",
        hint="Read the loop again before it is made again: 'caesura show LOOP' tells where it is.",
    )


def _pause() -> None:
    time.sleep(random.uniform(0.001, 0.02))  # noqa: S311  # jitter, not a secret
