"""Refs that the journal moves: taken over from git, and put where it has brought them."""

from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path

from .._errors import CaesuraError
from . import _disk
from ._errors import Torn
from ._format import is_id
from ._frames import RefMove
from ._protocol import Unavailable
from ._refs import TORN, Refs, moved


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
        put = self._in_its_folder(ref, partial(self.guard.put, ref), fresh=old is None, lasting=False)
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
        chained = all(one.new == other.old for one, other in pairwise(moves))
        try:
            found = self._stored_or_torn(last.ref)
            if found == last.new:
                return True
            if found == TORN:
                found = first.old  # it was there when the journal took the branch over, and is damaged since
            if not chained or found not in (first.old, *(move.new for move in moves)):
                return False
            put = partial(_disk.rename, whole, self._file(last.ref))
            self._in_its_folder(last.ref, put, fresh=first.old is None)
        except (Unavailable, IsADirectoryError, NotADirectoryError, FileExistsError):
            return False
        self._log(last.ref, found, last.new, last.note)
        return True

    def _stored_or_torn(self, ref: str) -> str | None:
        try:
            return self.stored(ref)
        except Torn:
            return TORN

    def folders(self, ref: str) -> list[Path]:
        """The folder that a ref's file is in, and those above it, to be synced."""
        folder = self._file(ref).parent
        return [one for one in (folder, *folder.parents) if self._folder in one.parents]
