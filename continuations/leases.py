"""Leases, as they are written: which process drives a root loop, and whether it still does."""

import datetime as dt
import os
import secrets
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import msgspec

from ._errors import ConflictError
from ._ids import LoopName, WorkerId
from ._messages import Time, Value
from .store import Lease, Locked, Moved, Store, Unavailable
from .store._owner import boot, born, born_as

TERM = dt.timedelta(seconds=30)
"""How long a lease lasts unless it is renewed, and so how long a vanished worker elsewhere holds up its loop."""


class StillDriven(ConflictError):
    """A living worker drives the loop."""


class Claim(Value, frozen=True, kw_only=True):
    """What a lease says: which process holds it, and until when. `born` tells a process from a later namesake."""

    worker: WorkerId
    host: str
    pid: int
    born: str
    until: Time

    @property
    def process(self) -> str:
        """The holder, as a person knows it."""
        return f"process {self.pid} on {self.host}"


def claim_of(worker: WorkerId, now: dt.datetime) -> Claim:
    """A claim by this process, for a term."""
    pid = os.getpid()
    return Claim(worker=worker, host=socket.gethostname(), pid=pid, born=born_as(pid), until=now + TERM)


def living(lease: Lease | None, now: dt.datetime) -> Claim | None:
    """The claim of the living worker that holds a lease, or None: free, expired, half-made, its process gone."""
    try:
        claim = None if lease is None else msgspec.json.decode(lease.data, type=Claim)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
    return claim if claim is not None and _stands(claim, now) else None


def check_undriven(store: Store, root: LoopName, now: dt.datetime) -> Lease | None:
    """The lease on a root loop that no living worker holds.

    Raises:
        StillDriven: one does.
    """
    found = store.lease(root)
    claim = living(found, now)
    if claim is not None:
        raise StillDriven(
            f"{root} is being driven by {claim.process}.", hint="Stop that process first; nothing was changed."
        )
    return found


@contextmanager
def held(store: Store, root: LoopName, now: dt.datetime) -> Iterator[None]:
    """Hold the lease on a root loop, so that no worker takes the loop up meanwhile.

    Raises:
        StillDriven: a living worker drives it.
    """
    mine = msgspec.json.encode(claim_of(WorkerId(secrets.token_hex(8)), now))
    lease: Lease | None = None
    while lease is None:
        found = check_undriven(store, root, now)
        with suppress(Moved):  # another took it, or gave it up: see who has it now
            lease = store.move_lease(root, found, mine)
    try:
        yield
    finally:
        with suppress(Moved, Unavailable, Locked):  # one that cannot be given up expires
            store.move_lease(root, lease, None)


def _stands(claim: Claim, now: dt.datetime) -> bool:
    if claim.until <= now:
        return False
    if _is_here(claim):
        return born(claim.pid) == claim.born
    # Further ahead than anybody claims: its clock, or ours, was set since, and says nothing of when it expires.
    return claim.until <= now + 2 * TERM


def _is_here(claim: Claim) -> bool:
    """Whether the holder is a process of this very machine, as it is since it was booted."""
    return bool(claim.born) and claim.host == socket.gethostname() and boot() == claim.born.partition(" ")[0]
