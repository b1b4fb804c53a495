"""Keeping: loops carried elsewhere."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path

from ._ids import CommitId, LoopName, loop_name
from .archive import Archive
from .bundles import Arrival, read_bundle, write_bundle


class Keep(Archive):
    """What keeps loops elsewhere, and forgets them here."""

    def export_bundle(self, *loops: str, file: str | os.PathLike[str]) -> Mapping[LoopName, CommitId]:
        """Write root loops, all that is nested in them and all their history to a file: a bundle, as git's are.

        Returns the heads that it holds.

        Raises:
            NoSuchLoop: there is none of a name, or it is nested in another.
            BadBundle: there is such a file already.
            Unavailable: it cannot be written, or something is missing from the repository.
        """
        return write_bundle(self._store, tuple(map(loop_name, loops)), Path(file))

    def import_bundle(
        self,
        file: str | os.PathLike[str],
        name: str | None = None,
        *,
        progress: Callable[[int], None] = lambda commits: None,
    ) -> tuple[Arrival, ...]:
        """Verify what a bundle holds, as `verify` does; then let its loops be loops here, or go on as far as there.

        `name` is for a bundle of one root loop: what it is to be called here. What is there already, or further, stays.

        Raises:
            BadBundle: it is none, is damaged, holds no loops, or one with a fault. Nothing was imported.
            Diverged: a loop went on otherwise here. Nothing was imported.
            LoopExists, BadName: a loop's name is taken by what was nested in another, or can name none.
            StillDriven: a living worker drives a loop that is to go on.
        """
        return read_bundle(self._history, Path(file), name, self._now(), progress)
