"""Leases: a timed claim on a root loop. A lease only saves double work; what is true is decided by commits."""

import datetime as dt
from collections.abc import Callable

import msgspec

from caesura.continuations import Claim, ConflictError, Lease, LoopName, Moved, Store, WorkerId, claim_of, holder

TERM = dt.timedelta(seconds=30)
"""How long a lease lasts unless it is renewed, and so how long a vanished worker elsewhere holds up its loop."""


class Driven(ConflictError):
    """Another worker drives the loop now."""


class LeaseLost(ConflictError):
    """Another worker has taken the loop over; this one must stop driving it."""


class LeaseKeeper:
    """One worker's lease on one root loop. Synchronous, like the store."""

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
        found = self._store.lease(self._root)
        living = holder(self._store, self._root, self._now())
        if living is not None:
            raise self._driven(living)
        try:
            self._held = self._store.move_lease(self._root, found, self._claim())
        except Moved:
            raise self._driven(None) from None

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
        """Give the lease up; if another worker has it by now, let it be."""
        try:
            self._store.move_lease(self._root, self._held, None)
        except Moved:
            return

    def _claim(self) -> bytes:
        return msgspec.json.encode(claim_of(self._worker, self._now() + TERM))

    def _driven(self, claim: Claim | None) -> Driven:
        who = claim.process if claim is not None else "another process"
        return Driven(
            f"{self._root} is being driven by {who}.",
            hint="Decisions reach it there; to take it over, stop that process first.",
        )
