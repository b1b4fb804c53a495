"""What a store does: objects named by their content, and refs that move by compare-and-swap only."""

import datetime as dt
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, Protocol

import msgspec

from .._calls import Person
from .._errors import CallerError, ConflictError, SavedStateError
from .._ids import CommitId, LoopName
from .._state import Continuation
from ._holdings import Upkeep
from ._shared import Work

if TYPE_CHECKING:
    from ._keeping import Keeper
    from ._mending import Mender, Reader
    from ._projects import Projects
    from ._workspaces import Workspaces

Durability = Literal["power-cut", "crash"]
"""What a step survives once it was acknowledged: a power cut too, or only the death of its process."""


Visibility = Literal["step", "sealed"]
"""When git itself sees a step: at once, or once it is sealed with others, which makes a step much faster."""


class Moved(ConflictError):
    """The branch is no longer where the writer read it."""


class NotALoop(SavedStateError):
    """A revision does not hold a continuation."""


class NoSuchRevision(CallerError):
    """A revision names nothing in the repository."""


class BadSetting(CallerError, ValueError):
    """A store is to be opened in a way that there is not."""


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


class Move(msgspec.Struct, frozen=True, kw_only=True):
    """One of several moves that are made together: a loop's branch, from where it was read; None is no branch.

    An `archived` one is that which the loop has in the archive.
    """

    loop: LoopName
    old: CommitId | None
    new: CommitId | None
    archived: bool = False


class Trace(msgspec.Struct, frozen=True, kw_only=True):
    """A commit that is somewhere in a repository, whether or not anything leads to it; `time` is in seconds."""

    id: CommitId
    tree: str
    parents: tuple[CommitId, ...]
    author: Person
    time: int
    message: str


class Store(Protocol):
    """Where continuations and refs are kept. Synchronous; for any thread at any time."""

    @property
    def location(self) -> str:
        """Where the store is, for messages."""
        ...

    @property
    def waits(self) -> bool:
        """Whether its calls may wait for a disk: who must not stand still meanwhile makes them in a thread."""
        ...

    @property
    def shares(self) -> bool:
        """Whether works that are shared wait no longer than one of them; else each is better done in its own thread."""
        ...

    def heads(self, above: LoopName | None = None, *, archived: bool = False) -> Mapping[LoopName, CommitId]:
        """The heads of all loops, or of those nested in one, by name, in the order of the names.

        Those that are in use, or those in the archive.
        """
        ...

    def waiting(self) -> Iterator[LoopName]:
        """The loops in whose heads, or in what those nest, something waits for somebody; in the order of their names.

        Those whose heads cannot be read are among them. Others are found without being looked at, in a repository of
        any size, but for those that are not known yet.
        """
        ...

    def torn(self, above: LoopName | None = None, *, archived: bool = False) -> Mapping[LoopName, SavedStateError]:
        """The branches of loops that point nowhere, or may not be read, by name, with why. `heads` leaves them out."""
        ...

    def head(self, loop: LoopName, *, archived: bool = False) -> CommitId | None:
        """A loop's head, or None if there is no such loop, or none in the archive.

        Raises:
            Torn: there is a branch, and it points nowhere.
        """
        ...

    def read(self, commit: CommitId) -> Commit:
        """Load a commit, its continuation whole.

        Raises:
            NotALoop: it is not a commit of a loop.
            Torn: an object of it is missing, or is not whole.
            Unreadable, NewerFormat: its continuation cannot be read.
            TooLarge: it is beyond the limits of the data model.
        """
        ...

    def check(self, commit: CommitId) -> str:
        """A commit's message, once it is sure that it is one of a loop, and that this Caesura can read what it holds.

        What that takes does not grow with the loop: whether each of its messages is whole is not looked at, unless
        something was ever erased from the store.

        Raises:
            NotALoop, Torn, Unreadable, NewerFormat, TooLarge: as `read`, as far as it was looked at.
        """
        ...

    def parents(self, commit: CommitId) -> tuple[CommitId, ...]:
        """The commits before one, which need not hold a continuation that can be read.

        Raises:
            Torn: it is missing, or is not whole.
        """
        ...

    def line(self, commit: CommitId) -> Iterator[tuple[CommitId, str]]:
        """A commit and those before it by their first parents, newest first, each with its message alone."""
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

        Other processes may not find it before a branch moves to it, or to one that comes after it.

        `sign` is given the commit's bytes, and returns the signature that becomes a part of it.

        Raises:
            TooLarge: it is beyond the limits of the data model. Nothing was written.
            Unavailable: it cannot be written.
        """
        ...

    def mark(
        self,
        commit: CommitId,
        *,
        parents: tuple[CommitId, ...],
        message: str,
        author: Person,
        committer: Person,
        at: dt.datetime,
        sign: Callable[[bytes], str] | None = None,
    ) -> Commit:
        """Add a commit that has the tree of another, to the bit, and no ref that points to it yet.

        The commits of the children that the tree nests must be among the parents.

        Raises:
            NotALoop, Torn: there is no such other commit, or it is not whole.
            Unavailable: it cannot be written.
        """
        ...

    def raw(self, commit: CommitId) -> bytes:
        """A commit's own bytes, with its signature if it has one.

        Raises:
            NotALoop, Torn: it is not a commit, or not whole.
        """
        ...

    def move(self, loop: LoopName, old: CommitId | None, new: CommitId) -> None:
        """Point a loop's branch at `new` if it is at `old` now; None is no branch at all.

        Raises:
            Moved: it is somewhere else.
        """
        ...

    def share(self, works: Sequence[Work[Any]]) -> None:
        """Do works one after the other in this thread, and wait for the disk once for all of them, if it can be so.

        Each has its result only then, when what it has moved is as safe as if it had been done alone. One whose branch
        another process holds may be left as it was: it is `held`, and to be shared again a moment later.
        """
        ...

    def seal(self) -> None:
        """Let others, git among them, see all that was written and acknowledged by now, if they could not before.

        Raises:
            Locked, Unavailable: it cannot be done now. Nothing is lost.
        """
        ...

    def move_all(self, moves: Sequence[Move], note: str) -> None:
        """Make several moves, all or none, after a crash or a power cut too. `note` says why, where moves are logged.

        Raises:
            Moved: a branch is somewhere else.
            Unavailable: one that would go is checked out somewhere.
        """
        ...

    def resolve(self, revision: str) -> CommitId:
        """The commit that a revision names: a loop, an archived one, a branch, tag or hash, with ``~`` and ``^``.

        Raises:
            NoSuchRevision: nothing has that name.
            Torn: what has that name is not whole.
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

    def reader(self) -> "Reader":
        """A way to read commits that checks all that there is to check."""
        ...

    def lost(self) -> Iterator[tuple[str, str]]:
        """Where steps were lost that had been acknowledged, as by a disk that damages a journal, each told with what to
        do about it."""
        ...

    def leftovers(self) -> Iterator[tuple[str, str]]:
        """What lies about and harms nothing, each told in a sentence, after the id of the object that it is, if any."""
        ...

    def workspaces(self) -> "Workspaces":
        """The folders of files that loops work on.

        Raises:
            Unavailable: this store has none.
        """
        ...

    def projects(self) -> "Projects":
        """What it has to do with projects, from which loops' files are, and to which they come back.

        Raises:
            Unavailable: this store has nothing to do with any.
        """
        ...

    def mender(self, copy: str | os.PathLike[str] | None = None) -> "Mender":
        """What it takes to mend it, with an intact copy of the repository to take from.

        Raises:
            Unavailable: there is no such copy, or nothing that could be mended.
        """
        ...

    def keeper(self) -> "Keeper":
        """What it takes to keep loops elsewhere, and to forget them.

        Raises:
            Unavailable: there are no files to do it with.
        """
        ...

    def upkeep(
        self, *, breathe: Callable[[], None] = lambda: None, progress: Callable[[int, int], None] = lambda *_: None
    ) -> Upkeep:
        """What keeps it in few files.

        `breathe` is called often, and what it raises ends the work, with nothing lost. `progress` is told how many
        objects were packed, of how many.
        """
        ...
