"""Leases: a timed claim on a root loop. A lease only saves double work; what is true is decided by commits."""

import datetime as dt
from collections.abc import Callable
from contextlib import suppress

import msgspec

from caesura.continuations import (
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
        """Hold the lease for another term.

        Raises:
            LeaseLost: another worker took it.
        """
        try:
            self._held = self._store.move_lease(self._root, self._held, self._claim())
        except Moved:
            raise LeaseLost(
                f"Another worker has taken {self._root} over.", hint="It goes on there; nothing was lost."
            ) from None

    def release(self) -> None:
        """Give the lease up; if another worker has it by now, let it be. One that cannot be given up expires."""
        with suppress(Moved, Unavailable, Locked):
            self._store.move_lease(self._root, self._held, None)

    def _claim(self) -> bytes:
        return msgspec.json.encode(claim_of(self._worker, self._now()))

    def _driven(self, holder: Claim) -> Driven:
        return Driven(
            f"{self._root} is being driven by {holder.process}.",
            hint="Decisions reach it there; to take it over, stop that process first.",
        )
