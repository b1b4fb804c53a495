"""Leases, as they are written: which process drives a root loop, and whether it still does."""

import datetime as dt
import os
import socket

import msgspec

from ._ids import LoopName, WorkerId
from ._messages import Time, Value
from .store import Store
from .store._owner import boot, born


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


def claim_of(worker: WorkerId, until: dt.datetime) -> Claim:
    """A claim by this process."""
    pid = os.getpid()
    return Claim(worker=worker, host=socket.gethostname(), pid=pid, born=born(pid), until=until)


def holder(store: Store, root: LoopName, now: dt.datetime) -> Claim | None:
    """The claim of the living worker that drives a root loop, or None: free, expired, half-made, its process gone."""
    lease = store.lease(root)
    try:
        claim = None if lease is None else msgspec.json.decode(lease.data, type=Claim)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
    return None if claim is None or claim.until <= now or _gone(claim) else claim


def _gone(claim: Claim) -> bool:
    """Whether the holder is known to be dead: only a process of this very machine can be known so."""
    return (
        bool(claim.born)
        and claim.host == socket.gethostname()
        and boot() == claim.born.partition(" ")[0]
        and born(claim.pid) != claim.born
    )
