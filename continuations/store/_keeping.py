"""What keeps loops elsewhere, in bundles, and forgets them here."""

import datetime as dt
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

import msgspec

from .._calls import Person
from .._errors import CallerError, ConflictError
from .._ids import CommitId, LoopName
from ._protocol import Move, Store, Trace


class BadBundle(CallerError):
    """A file is no bundle that loops can be imported from, or exported to."""


class StillReached(ConflictError):
    """What is to be forgotten is also a part of something else."""


class Unclean(CallerError):
    """Something in a repository may hold what is to be forgotten, and nobody can tell."""


class Bundle(Protocol):
    """What a bundle holds, unpacked beside a repository: nothing of it is in there yet."""

    @property
    def store(self) -> Store:
        """Its loops, and all that the repository holds."""
        ...

    def take(self, heads: Mapping[LoopName, CommitId]) -> None:
        """Put all that these heads reach into the repository; no branch moves.

        Raises:
            Unavailable: it cannot be written. Nothing was.
        """
        ...


class Erased(msgspec.Struct, frozen=True, kw_only=True):
    """What an erasure did: the commits that say so, by loop; the objects that are gone; those that others hold, too."""

    tombstones: Mapping[LoopName, CommitId]
    gone: int
    shared: int


class Keeper(Protocol):
    """What keeps a repository's loops elsewhere, and forgets them here."""

    def bundle(self, heads: Mapping[LoopName, CommitId], file: Path) -> None:
        """Write loops with all that these heads reach into one file, in git's own format.

        Raises:
            BadBundle: there is such a file.
            Unavailable: it cannot be written, or something is missing from the repository.
        """
        ...

    def unbundle(self, file: Path) -> AbstractContextManager[Bundle]:
        """Unpack such a file beside the repository, for as long as the context lasts.

        Raises:
            BadBundle: it is no bundle, is cut short, or holds what git finds fault with.
        """
        ...

    def aside(self, heads: Mapping[LoopName, CommitId]) -> AbstractContextManager[Store]:
        """Loops at these heads in a store beside the repository, for as long as the context lasts: what is written
        there never comes to be here."""
        ...

    def written_again(
        self, commit: CommitId, parents: tuple[CommitId, ...], message: str, by: Person | None, at: dt.datetime
    ) -> CommitId:
        """Write a commit with the tree of another, after other parents, that no ref points to yet.

        It is made by whom the other was, when it was; or by a person, then.
        """
        ...

    def check_prunable(
        self, root: LoopName, moves: Sequence[Move], check: Callable[[Iterable[LoopName]], None]
    ) -> bool:
        """Make sure that `prune` would not be refused; whether there is anything for it to do.

        Raises: as it does.
        """
        ...

    def prune(self, root: LoopName, moves: Sequence[Move], check: Callable[[Iterable[LoopName]], None]) -> int:
        """Move branches of a root loop and those nested in it, and forget what only led to where they were.

        Returns how many objects are gone. What was interrupted is finished by doing it again, without moves.

        Raises:
            Moved: a branch is somewhere else.
            Unclean: something is in the way of telling what leads to what.
            Unavailable: something is damaged, checked out, or cannot be written.
        """
        ...

    def kin(self, root: LoopName) -> tuple[LoopName, ...]:
        """A root loop, archived or not, and those that share a commit with it or with one of these: its forks."""
        ...

    def check_erasable(self, roots: Iterable[LoopName], check: Callable[[Iterable[LoopName]], None]) -> None:
        """Make sure that `erase` would not be refused.

        Raises: as it does.
        """
        ...

    def erase(
        self,
        roots: Iterable[LoopName],
        said: Callable[[LoopName, Mapping[str, CommitId]], str],
        by: Person,
        at: dt.datetime,
        check: Callable[[Iterable[LoopName]], None],
    ) -> Erased:
        """Take root loops, archived or not, and all that only they lead to out of the repository for good.

        `said` makes the message of the commit that stays in the place of one, from its name and where its refs were.
        `check` is shown which loops have leases, and may refuse. What was interrupted is finished by doing it again.

        Raises:
            StillReached: something else leads to a commit of theirs.
            Unclean: something may hold what they held, and nobody can tell.
            Torn, Unavailable: something is damaged, checked out, or cannot be written.
        """
        ...

    def erased(self) -> Mapping[LoopName, Trace]:
        """The root loops that were erased, each with the commit that says so."""
        ...
