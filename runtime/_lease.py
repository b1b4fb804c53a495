"""Leases: a timed claim on a root loop. A lease only saves double work; what is true is decided by commits."""

import datetime as dt
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from functools import partial
from threading import Lock

import msgspec
import trio

from caesura.continuations import (
    TERM,
    CaesuraError,
    Claim,
    ConflictError,
    Lease,
    Locked,
    LoopName,
    Moved,
    Saved,
    Store,
    Unavailable,
    WorkerId,
    claim_of,
    living,
)

_EVERY = TERM.total_seconds() / 3


class Driven(ConflictError):
    """Another worker drives the loop now."""


class LeaseLost(ConflictError):
    """Another worker has taken the loop over; this one must stop driving it."""


class BranchGone(ConflictError):
    """Somebody deleted the branch of a loop while it was driven."""


def branch_gone(saved: Saved) -> BranchGone:
    """The error for a loop that was last seen so."""
    return BranchGone(
        f"The branch of {saved.loop} was deleted while it was driven; its last commit is {saved.commit}.",
        hint=f"Bring it back with git: git branch loops/{saved.loop} {saved.commit}",
    )


class LeaseKeeper:
    """One worker's lease on one root loop. Synchronous, like the store; for any thread."""

    def __init__(self, store: Store, root: LoopName, worker: WorkerId, now: Callable[[], dt.datetime]) -> None:
        self._store = store
        self._root = root
        self._worker = worker
        self._now = now
        self._held: Lease | None = None
        self._turn = Lock()  # it is renewed by one thread and released by another

    def claim(self) -> None:
        """Take the lease, if it is free, expired, or held by a process that is gone.

        Raises:
            Driven: a living worker holds it.
        """
        while self._held is None:
            found = self._store.lease(self._root)
            holder = living(found, self._now())
            if holder is not None:
                raise self._driven(holder)
            with suppress(Moved):  # another took it, or gave it up: see who has it now
                self._held = self._store.move_lease(self._root, found, self._claim())

    def renew(self) -> None:
        """Hold the lease for another term, if it has not been released.

        Raises:
            LeaseLost: another worker took it.
        """
        with self._turn:
            if self._held is None:
                return
            try:
                self._held = self._store.move_lease(self._root, self._held, self._claim())
            except Moved:
                raise LeaseLost(
                    f"Another worker has taken {self._root} over.", hint="It goes on there; nothing was lost."
                ) from None

    def release(self) -> None:
        """Give the lease up; if another worker has it by now, let it be. One that cannot be given up expires."""
        with self._turn:
            held, self._held = self._held, None
            with suppress(Moved, Unavailable, Locked):
                self._store.move_lease(self._root, held, None)

    def _claim(self) -> bytes:
        return msgspec.json.encode(claim_of(self._worker, self._now()))

    def _driven(self, holder: Claim) -> Driven:
        return Driven(
            f"{self._root} is being driven by {holder.process}.",
            hint="Decisions reach it there; to take it over, stop that process first.",
        )


Failures = list[tuple[LeaseKeeper, CaesuraError]]
"""Leases that are not held any more, and why."""


class Renewals:
    """Renews the leases of all root loops that one runtime drives, all of them together."""

    def __init__(self) -> None:
        self._one = trio.Lock()
        self._kept: dict[LeaseKeeper, Callable[[CaesuraError], None]] = {}
        self._due = 0.0

    def add(self, lease: LeaseKeeper, failed: Callable[[CaesuraError], None]) -> None:
        """Have a lease renewed that was claimed just now; `failed` is told why it cannot be, if it cannot ever."""
        if not self._kept:
            self._due = trio.current_time() + _EVERY
        self._kept[lease] = failed

    def remove(self, lease: LeaseKeeper) -> None:
        """Have it renewed no more."""
        self._kept.pop(lease, None)

    async def keep(self, in_a_thread: Callable[[Callable[[], Failures]], Awaitable[Failures]]) -> None:
        """See to it until cancelled, which waits for no more than what is under way."""
        async with self._one:
            while True:
                await trio.sleep_until(self._due)  # whoever saw to it until then
                for lease, error in await in_a_thread(partial(_renew, tuple(self._kept))):
                    if lease in self._kept:
                        self._kept[lease](error)
                self._due = trio.current_time() + _EVERY


def _renew(leases: Iterable[LeaseKeeper]) -> Failures:
    failures: Failures = []
    for lease in leases:
        try:
            lease.renew()
        # A lease only saves double work. Without it the loop goes on: whoever takes it over fences this worker.
        except Unavailable:
            pass
        except Locked:
            break  # for the others no less
        except CaesuraError as error:
            failures.append((lease, error))
    return failures
