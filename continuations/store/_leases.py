"""Leases, as files beside the repository's refs: renewing one leaves nothing behind in the history or the objects."""

import hashlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from .._ids import BadName, LoopName, root_name
from . import _disk
from ._exclusive import Turns, in_turn_of
from ._protocol import Lease, Moved

FOLDER = "caesura.leases"


class LeaseFiles:
    """A repository's leases, one file each. Unlike the rest of a store, for any thread at any time."""

    def __init__(self, repository: Path) -> None:
        self._folder = repository / FOLDER

    def read(self, root: LoopName) -> Lease | None:
        """The lease on a root loop, or None."""
        try:
            data = (self._folder / root).read_bytes()
        except FileNotFoundError:
            return None
        return _lease(data)

    def all(self) -> Iterator[LoopName]:
        """The root loops that have leases, of the living or of the dead."""
        with suppress(FileNotFoundError):
            for file in sorted(self._folder.iterdir()):
                with suppress(BadName):
                    yield root_name(file.name)

    def forget(self, root: LoopName) -> None:
        """Take away the lease of a loop that is gone; for one who has exclusive access."""
        for name in (root, f"{root}.new"):
            _disk.unlink(self._folder / name)

    def swap(self, turns: Turns, root: LoopName, old: Lease | None, data: bytes | None) -> Lease | None:
        """Put a lease in the place of the one that was read, when it is the turn of who has these `turns`.

        Raises:
            Moved: somebody else changed it first.
            Locked: the repository is locked by a process that hangs.
        """
        file = self._folder / root
        with in_turn_of(turns):
            if self.read(root) != old:
                raise Moved(f"The lease on {root} was moved.", hint="Read it again and decide again.")
            if data is None:
                file.unlink(missing_ok=True)
                return None
            self._folder.mkdir(exist_ok=True)
            # Renamed into place, so that a reader sees a whole one. A loop's name has no '/' and a root's no dot.
            new = self._folder / f"{root}.new"
            new.write_bytes(data)
            new.replace(file)
        return _lease(data)


def _lease(data: bytes) -> Lease:
    return Lease(token=hashlib.sha1(data, usedforsecurity=False).hexdigest(), data=data)
