"""Refs that the journal moves: taken over from git, and put where it has brought them."""

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from itertools import pairwise
from os.path import lexists
from pathlib import Path
from typing import NamedTuple

from .._errors import CaesuraError
from . import _disk
from ._errors import Torn
from ._exclusive import Held, Locks
from ._format import is_id
from ._frames import RefMove
from ._layout import LOOPS
from ._packed import PACKED, View
from ._protocol import Unavailable
from ._refs import TORN, Refs, moved

MANY = 8
"""Branches with which it is worth it to write the list of packed refs again, in the place of a file for each."""

_EACH = 2**12
"""Bytes of that list which are written for each of them at most."""


class Listed(NamedTuple):
    """A copy of the list of packed refs, as it was `before`, in which branches are where these moves have ended.

    `found` is where they were in the list.
    """

    file: Path
    before: View
    moves: Mapping[str, Sequence[RefMove]]
    found: Mapping[str, str | None]


class JournaledRefs(Refs):
    """A repository's refs, some of which are in its journal. For whoever has exclusive access."""

    def hold(self, move: RefMove) -> bool:
        """Guard a branch that the journal is to move first; False if that must be done as git would.

        Raises:
            Held: somebody else's lock is on it.
            Moved: it is not where the move begins.
            Torn, Unavailable: it is nowhere that can be told; it cannot be a branch.
        """
        ref, old = move.ref, move.old
        # What lasts is in the journal; whoever publishes it sees to the folder then.
        # An empty folder may stand in its place; one that it is in is made.
        fresh = old is None and os.path.isdir(self._path(ref))  # noqa: PTH112  # each new loop asks: a Path takes longer
        put = self._in_its_folder(ref, partial(self.guard.put, ref), fresh=fresh, lasting=False)
        try:
            found = self.stored(ref)
            if found is not None and not is_id(found):
                self.guard.take_away(ref)
                return False
            if found != old:
                raise moved(ref)
            if old is None:
                self._check_free(ref)
        except (CaesuraError, OSError):
            if put:
                self.guard.take_away(ref)
            raise
        return True

    def publish(self, moves: Sequence[RefMove], whole: Path) -> bool:
        """Put a file that holds where the journal has brought a branch in its place; False if it has been elsewhere.

        That it is there already does not matter.
        """
        first, last = moves[0], moves[-1]
        try:
            found = self._stored_or_torn(last.ref)
            if found == last.new:
                return True
            if found == TORN:
                found = first.old  # it was there when the journal took the branch over, and is damaged since
            if not _goes_on(found, moves):
                return False
            put = partial(_disk.rename, whole, self._file(last.ref))
            self._in_its_folder(last.ref, put, fresh=first.old is None)
        except (Unavailable, IsADirectoryError, NotADirectoryError, FileExistsError):
            return False
        self._log(last.ref, found, last.new, last.note)
        return True

    def listed(
        self, moves: Mapping[str, Sequence[RefMove]], file: Path, apart: Callable[[], str | None]
    ) -> Listed | None:
        """Write a copy of the list of packed refs with those branches of root loops that have no files of their own,
        and are where the journal took them over; None if that is not worth it, or they are to be kept `apart`.

        That of a nested loop goes when its result is taken, and to take one from the list, it is written again.
        """
        with suppress(Torn):
            before, fit, found = self.packed(), dict[str, Sequence[RefMove]](), dict[str, str | None]()
            for ref, chain in moves.items():
                of_a_root = ref.startswith(LOOPS) and "." not in ref
                if of_a_root and not lexists(self._path(ref)) and _goes_on(there := before.find(ref), chain):
                    fit[ref], found[ref] = chain, there
            if len(fit) >= MANY and before.size <= _EACH * len(fit) and apart() is None:
                _disk.write(file, before.replaced({ref: chain[-1].new for ref, chain in fit.items()}))
                return Listed(file, before, fit, found)
        return None

    def enlist(self, listed: Listed, locks: Locks) -> bool:
        """Put such a copy in the place of the list; False if something has changed meanwhile."""
        try:
            locks.take(PACKED, listed.file)
        except Held:
            return False
        # A branch that has a file by now, or a folder in its place, was moved over the journal's lock.
        if self._packed_or_torn() is not listed.before or any(lexists(self._path(ref)) for ref in listed.moves):
            locks.drop(PACKED)
            return False
        locks.commit(PACKED)
        for ref, chain in listed.moves.items():
            self._log(ref, listed.found[ref], chain[-1].new, chain[-1].note)
        return True

    def _packed_or_torn(self) -> View | None:
        with suppress(Torn):
            return self.packed()
        return None

    def _stored_or_torn(self, ref: str) -> str | None:
        try:
            return self.stored(ref)
        except Torn:
            return TORN

    def folders(self, ref: str) -> list[Path]:
        """The folder that a ref's file is in, and those above it, to be synced."""
        folder = self._file(ref).parent
        return [one for one in (folder, *folder.parents) if self._folder in one.parents]


def _goes_on(found: str | None, moves: Sequence[RefMove]) -> bool:
    """Whether moves are one after the other, and go on from where a branch is, or have brought it there."""
    chained = all(one.new == other.old for one, other in pairwise(moves))
    return chained and (found == moves[0].old or any(found == move.new for move in moves))
