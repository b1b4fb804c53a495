"""The archive: loops that are out of the way, under ``refs/archive/``, with all that they were, and back again."""

from collections.abc import Mapping
from contextlib import suppress

from ._errors import CallerError
from ._ids import CommitId, LoopName, loop_name, parent_name, root_of
from .care import Care
from .history import taken
from .leases import held
from .missing import missing
from .store import Move, Moved

_ATTEMPTS = 100


class Nested(CallerError):
    """A loop goes where its root goes."""


class Archive(Care):
    """What can be done with loops whose work is over, or is to be out of sight."""

    def archived(self) -> Mapping[LoopName, CommitId]:
        """The heads of the loops in the archive, nested ones too. Their names are revisions as those of others are."""
        return self._store.heads(archived=True)

    def archive(self, loop: str) -> None:
        """Take a root loop with all that is nested in it out of the way, at once; it is neither driven nor decided on.

        Whatever is there of it can still be shown, compared and forked. Of a loop that is there already, nothing is
        done.

        Raises:
            NoSuchLoop: there is none of that name.
            Nested: it is nested in another.
            StillDriven: a living worker drives it.
        """
        self._shift(root_loop(loop), archived=True)

    def restore(self, loop: str) -> None:
        """Bring a loop, with all that was nested in it, back from the archive; it goes on as if it had not been there.

        Raises:
            NoSuchLoop: there is none of that name.
            Nested: it is nested in another.
            LoopExists: there is another loop of that name by now.
        """
        self._shift(root_loop(loop), archived=False)

    def _shift(self, root: LoopName, *, archived: bool) -> None:
        with held(self._store, root, self._now()):
            for _ in range(_ATTEMPTS):
                moves = self._moves(root, archived=archived)
                if not moves:
                    return
                # Somebody may decide on one of them, which has its branch only then: what they decide goes along.
                with suppress(Moved):
                    self._store.move_all(moves, "archived" if archived else "restored")
        raise Moved(f"Other writers kept moving {root}.", hint="Try again: it goes on with what is left.")

    def _moves(self, root: LoopName, *, archived: bool) -> list[Move]:
        """What takes a loop, or what is left of it, from the one place to the other; nothing if it is there."""
        here, there = self._family(root, archived=not archived), self._family(root, archived=archived)
        for fault in self._store.torn(root, archived=not archived).values():
            raise fault
        if root not in here and root not in there:
            raise missing(self._store, root)
        if not here.keys().isdisjoint(there):  # what is nested, and got its branch since, may be there without the root
            raise taken(root)
        moves: list[Move] = []
        for name, head in here.items():
            moves.append(Move(loop=name, old=head, new=None, archived=not archived))
            moves.append(Move(loop=name, old=None, new=head, archived=archived))
        return moves

    def _family(self, root: LoopName, *, archived: bool) -> Mapping[LoopName, CommitId]:
        """The heads of a loop and of what is nested in it, those that are in one of the two places."""
        head = self._store.head(root, archived=archived)
        own = {} if head is None else {root: head}
        return {**own, **self._store.heads(root, archived=archived)}


def root_loop(loop: str) -> LoopName:
    """Check the name of a root loop.

    Raises:
        Nested: it is nested in another.
    """
    name = loop_name(loop)
    if parent_name(name) is not None:
        raise Nested(f"{name} is nested in {root_of(name)}, and goes where that goes.", hint=f"Name {root_of(name)}.")
    return name
