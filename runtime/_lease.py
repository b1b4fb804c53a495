"""Leases: a timed claim on a root loop. A lease only saves double work; what is true is decided by commits."""

import datetime as dt
import os
import socket
from collections.abc import Callable
from pathlib import Path

import msgspec

from caesura.continuations import ConflictError, Lease, LoopName, Moved, Store, Value, WorkerId

TERM = dt.timedelta(seconds=30)
"""How long a lease lasts unless it is renewed, and so how long a vanished worker elsewhere holds up its loop."""


class Claim(Value, frozen=True, kw_only=True):
    """What a lease says: which process holds it, and until when. `born` tells a process from a later namesake."""

    worker: WorkerId
    host: str
    pid: int
    born: str
    until: dt.datetime


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
        if found is not None:
            claim = _read(found)
            if claim is not None and claim.until > self._now() and not _gone(claim):
                raise self._driven(claim)
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
        pid = os.getpid()
        return msgspec.json.encode(
            Claim(
                worker=self._worker,
                host=socket.gethostname(),
                pid=pid,
                born=_born(pid),
                until=self._now() + TERM,
            )
        )

    def _driven(self, claim: Claim | None) -> Driven:
        who = f"process {claim.pid} on {claim.host}" if claim is not None else "another process"
        return Driven(
            f"{self._root} is being driven by {who}.",
            hint="Decisions reach it there; to take it over, stop that process first.",
        )


def _read(lease: Lease) -> Claim | None:
    try:
        return msgspec.json.decode(lease.data, type=Claim)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None  # half-made: nobody holds it


def _gone(claim: Claim) -> bool:
    """Whether the holder is known to be dead: only a process of this very machine can be known so."""
    return (
        bool(claim.born)
        and claim.host == socket.gethostname()
        and _boot() == claim.born.partition(" ")[0]
        and (_born(claim.pid) != claim.born)
    )


def _born(pid: int) -> str:
    """When a process of this machine began: the machine's boot, and the kernel's ticks since; empty if it is gone."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ""
    state, *fields = stat.rpartition(")")[2].split()
    # A zombie has ended, though its parent may never take note of it.
    return "" if state in "ZX" else f"{_boot()} {fields[18]}"


def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""
