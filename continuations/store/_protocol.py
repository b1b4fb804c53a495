"""What a store does: objects named by their content, and refs that move by compare-and-swap only."""

from collections.abc import Callable, Mapping
from typing import Protocol

import msgspec

from .._calls import Person
from .._errors import CallerError, ConflictError, SavedStateError
from .._ids import CommitId, LoopName
from .._state import Continuation


class Moved(ConflictError):
    """The branch is no longer where the writer read it."""


class NotALoop(SavedStateError):
    """A revision does not hold a continuation."""


class NoSuchRevision(CallerError):
    """A revision names nothing in the repository."""


class Unavailable(CallerError):
    """The repository is missing, or cannot be read or written."""


class Locked(ConflictError):
    """Another process held a branch's lock for longer than any commit takes."""


class NoPerson(CallerError):
    """Git does not know who is at the keyboard."""


class Commit(msgspec.Struct, frozen=True, kw_only=True):
    """One step of a loop: the continuation, and who made it, after what.

    `parents` are the commits before it: first the loop's own last one (absent in a loop's first), then one for each
    live child in the order of their calls, then that of a child that this commit absorbed.
    """

    id: CommitId
    state: Continuation
    parents: tuple[CommitId, ...]
    author: Person
    message: str


class Lease(msgspec.Struct, frozen=True, kw_only=True):
    """What a lease's ref holds: opaque bytes, and the token to swap them by."""

    token: str
    data: bytes


class Store(Protocol):
    """Where continuations and refs are kept. Synchronous; one thread at a time."""

    @property
    def location(self) -> str:
        """Where the store is, for messages."""
        ...

    def heads(self) -> Mapping[LoopName, CommitId]:
        """Every loop's head, by name, in the order of the names."""
        ...

    def head(self, loop: LoopName) -> CommitId | None:
        """A loop's head, or None if there is no such loop."""
        ...

    def read(self, commit: CommitId) -> Commit:
        """Load a commit, its continuation whole.

        Raises:
            NotALoop: it is not a commit of a loop.
            Unreadable, NewerFormat: its continuation cannot be read.
        """
        ...

    def write(
        self,
        state: Continuation,
        *,
        parents: tuple[CommitId, ...],
        message: str,
        author: Person,
        committer: Person,
        sign: Callable[[bytes], str] | None = None,
    ) -> Commit:
        """Add a commit that no ref points to yet. The first parent is the loop's own last commit, if it has one.

        `sign` is given the commit's bytes, and returns the signature that becomes a part of it.
        """
        ...

    def raw(self, commit: CommitId) -> bytes:
        """A commit's own bytes, with its signature if it has one.

        Raises:
            NotALoop: it is not a commit.
        """
        ...

    def move(self, loop: LoopName, old: CommitId | None, new: CommitId) -> None:
        """Point a loop's branch at `new` if it is at `old` now; None is no branch at all.

        Raises:
            Moved: it is somewhere else.
        """
        ...

    def resolve(self, revision: str) -> CommitId:
        """The commit that a revision names: a loop, anything git understands, either with ``~`` and ``^``.

        Raises:
            NoSuchRevision: nothing has that name.
        """
        ...

    def person(self) -> Person:
        """Who is at the keyboard, as the store's configuration names them.

        Raises:
            CallerError: it does not say.
        """
        ...

    def setting(self, name: str) -> str | None:
        """A setting of git's, as the person's own configuration has it; never from the repository's."""
        ...

    def lease(self, root: LoopName) -> Lease | None:
        """The lease on a root loop, or None."""
        ...

    def move_lease(self, root: LoopName, old: Lease | None, data: bytes | None) -> Lease | None:
        """Put a lease in the place of the one that was read; None takes it away.

        Raises:
            Moved: somebody else changed it first.
        """
        ...

    def close(self) -> None:
        """Let go of what the store holds open."""
        ...
