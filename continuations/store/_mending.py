"""What it takes to read a repository without trust, and to mend it."""

from collections.abc import Iterator
from typing import Protocol

from .._ids import CommitId, LoopName
from ._protocol import Commit, Trace


class Reader(Protocol):
    """Commits read from the ground up: nothing that was kept in memory is trusted, and every object is checked."""

    def trace(self, commit: CommitId) -> Trace:
        """What a commit says of itself; its tree is not looked at.

        Raises:
            SavedStateError: it is damaged, or missing.
        """
        ...

    def read(self, commit: CommitId) -> Commit:
        """A commit with its continuation, all that its tree holds whole and well-formed.

        Raises:
            SavedStateError: something in it is not.
        """
        ...


class Mender(Protocol):
    """What it takes to mend a repository: nothing is deleted, and nothing is changed but where it says so."""

    def reader(self) -> Reader:
        """A way to read commits that takes from an intact copy what is damaged here, if there is one."""
        ...

    @property
    def borrowed(self) -> tuple[str, ...]:
        """The objects that the reader has taken from the copy so far."""
        ...

    def torn(self) -> tuple[str, ...]:
        """The files of objects that are not whole, by their paths in the repository."""
        ...

    def traces(self) -> Iterator[Trace]:
        """Every commit that can be read, here and in the copy."""
        ...

    def copied(self, loop: LoopName) -> CommitId | None:
        """Where the copy has a loop's branch."""
        ...

    def logged(self, loop: LoopName) -> CommitId | None:
        """Where a loop's branch was moved to last, if git keeps a log of it."""
        ...

    def set_aside(self, torn: str) -> str:
        """Move a file of an object aside; where to."""
        ...

    def lost_refs(self) -> tuple[str, ...]:
        """The lines of the repository's list of branches that are damaged; with any, no branch can be read."""
        ...

    def drop_refs(self) -> str:
        """Leave those lines out of the list; where the whole of it is kept."""
        ...

    def restore(self, name: str) -> None:
        """Write an object as the copy has it."""
        ...

    def standing(self, loop: LoopName) -> str | None:
        """What stands in a loop's branch: an id, the empty text for anything else, None if it has no branch."""
        ...

    def point(self, loop: LoopName, standing: str | None, commit: CommitId) -> str | None:
        """Point a loop's branch at a commit, if that still stands in it; where what stood there is kept, if no id did.

        Raises:
            Moved: something else stands there by now.
        """
        ...
