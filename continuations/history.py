"""History: loops loaded from a store, and moved one event, one commit at a time."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import lru_cache
from typing import TypeVar

import msgspec
from msgspec.structs import replace

from ._calls import Person
from ._codec import Unreadable, encodable
from ._describe import author_of, describe
from ._errors import CallerError, ConflictError, SavedStateError
from ._events import AnyEvent, Imported, Started
from ._ids import CallId, CommitId, LoopName, child_name, loop_name, parent_name, root_of
from ._marks import Mark, Scored, describe_mark
from ._redact import Redaction
from ._state import Child, Continuation
from ._step import start, step
from .missing import NoSuchLoop, missing
from .signatures import Sign
from .store import Commit, Moved, Store, Torn
from .store._errors import unreadable

V = TypeVar("V", bound=msgspec.Struct)

_ATTEMPTS = 100
_NEAR = 100
_PEOPLE = 64


class LoopExists(CallerError):
    """A loop of that name is there already."""


class SecretName(CallerError):
    """A name that would stand in the history holds a secret."""


class StrangeBranch(SavedStateError):
    """A nested loop's branch belongs to another history than its parent's."""


class Contended(ConflictError):
    """Other writers moved the loop faster than this one could follow."""


class Saved(msgspec.Struct, frozen=True, kw_only=True):
    """A loop's name, its head commit, what that commit says and the state in it."""

    loop: LoopName
    commit: CommitId
    message: str
    state: Continuation


def saved_from(loop: LoopName, commit: Commit) -> Saved:
    """A commit, under the name of its loop."""
    return Saved(loop=loop, commit=commit.id, message=commit.message, state=commit.state)


Children = Callable[[Saved], Mapping[CallId, Saved]]
"""Where the live children of a loop are found: on their branches, or within a commit."""

EventFor = Callable[[Saved], AnyEvent]
"""An event that depends on the very state that it is to apply to."""


class History:
    """The loops of a store. Synchronous; for any thread at any time.

    `redaction` is what nothing that is written here may hold. With `sign`, every commit made here is signed.
    """

    def __init__(self, store: Store, redaction: Redaction | None = None, *, sign: Sign | None = None) -> None:
        self.store = store
        self.redaction = redaction or Redaction()
        self._sign = sign
        self._person: Callable[[Person], Person] = lru_cache(_PEOPLE)(lambda person: self.storable(person))

    def storable(self, value: V) -> V:
        """The value as history can hold it: its secrets redacted, its text such that it can be encoded.

        Every event becomes that before it is applied, so that state, digests and commits are made of what is stored.

        Raises:
            TooDeep, WrongType: JSON in it nests deeper than it could be read again; a part is of another type.
        """
        return self.redaction.value(encodable(value))

    def load(self, loop: LoopName) -> Saved:
        """A loop as it is now: from its branch, or, if it has none yet, from its parent's commit that nests it.

        Raises:
            NoSuchLoop: there is neither.
        """
        found = self._find(loop)
        if found is None:
            if self.store.head(root_of(loop), archived=True) is not None:
                raise NoSuchLoop(
                    f"{loop} is in the archive.",
                    hint=f"'caesura archive --restore {root_of(loop)}' brings it back, 'caesura show {loop}' shows it.",
                )
            raise missing(self.store, loop)
        return found

    def _find(self, loop: LoopName) -> Saved | None:
        parent = parent_name(loop)
        head = self._head(loop)
        if parent is None:
            return None if head is None else self._read(loop, head)
        above = self._find(parent)
        call = CallId(loop.rpartition(".")[2])
        if above is None:
            # Its parent's branch is gone: what is left is a history of its own.
            return None if head is None else self._read(loop, head)
        return self._newest(above, call, head)

    def _newest(self, above: Saved, call: CallId, head: CommitId | None) -> Saved | None:
        """A child's newest state: its branch's, if that goes on with what the parent's commit nests."""
        loop = child_name(above.loop, call)
        nested = above.state.children.get(call)
        if head is None:
            return None if nested is None else self._read(loop, nested.commit)
        saved = self._read(loop, head)
        asked = above.state.call(call)
        if asked is not None and asked.nonce != saved.state.nonce:
            raise StrangeBranch(
                f"The branch of {loop} belongs to another history of {above.loop}.",
                hint=f"Rename it ('git branch -m loops/{loop} <other>'), or fork {above.loop} instead.",
            )
        return saved

    def _head(self, loop: LoopName) -> CommitId | None:
        try:
            return self.store.head(loop)
        except Torn as error:
            raise unreadable(loop, error, None) from error

    def _read(self, loop: LoopName, commit: CommitId) -> Saved:
        try:
            return saved_from(loop, self.store.read(commit))
        except Unreadable as error:
            raise unreadable(loop, error, self._last_good(commit)) from error

    def _last_good(self, commit: CommitId) -> CommitId | None:
        """The newest commit before one that can be read, if it is near."""
        with suppress(Torn, IndexError):  # what was before it cannot be told, or nothing was
            for _ in range(_NEAR):
                commit = self.store.parents(commit)[0]
                with suppress(SavedStateError):
                    return self.store.read(commit).id
        return None

    def children(self, saved: Saved) -> Mapping[CallId, Saved]:
        """The newest state of each live child, by call; those that have not started yet are left out."""
        found: dict[CallId, Saved] = {}
        for call in saved.state.open_calls:
            if call.kind == "agent":
                child = self._newest(saved, call.id, self._head(child_name(saved.loop, call.id)))
                if child is not None:
                    found[call.id] = child
        return found

    def at(self, revision: str) -> tuple[Saved, Children]:
        """What a revision names, and how to find its children: the newest ones of a loop, those nested in a commit.

        Raises:
            NoSuchRevision, NotALoop: there is no continuation there.
        """
        with suppress(CallerError):
            return self.load(loop_name(revision)), self.children
        return saved_from(LoopName(revision), self.store.read(self.store.resolve(revision))), nested

    def tree(self, saved: Saved) -> Iterator[Saved]:
        """A loop and all its live descendants, parents before children."""
        yield saved
        for child in self.children(saved).values():
            yield from self.tree(child)

    def begin(self, loop: LoopName, event: Started, committer: Person, author: Person) -> Saved:
        """Make a loop's first commit and its branch.

        Raises:
            LoopExists: the name is taken.
            SecretName: the name holds a secret.
        """
        event = self.storable(event)
        return self._create(loop, start(event), event, committer, author)

    def bring(self, loop: LoopName, state: Continuation, event: Imported, by: Person) -> Saved:
        """Make a loop of a continuation that came from elsewhere, and was made of what is storable.

        Raises:
            LoopExists: the name is taken.
            SecretName: the name holds a secret.
        """
        return self._create(loop, state, self.storable(event), by, by)

    def _create(self, loop: LoopName, state: Continuation, event: AnyEvent, committer: Person, author: Person) -> Saved:
        self.check_free(loop)
        author = self._person(author)
        commit = self.store.write(
            state,
            parents=tuple(child.commit for _, child in sorted(state.children.items())),
            message=describe(loop, None, event, state).message,
            author=author,
            committer=self._person(committer),
            sign=self._signed_by(author),
        )
        try:
            self.store.move(loop, None, commit.id)
        except Moved:
            if self._head(loop) is None:
                raise  # something that the commit names is gone
            raise taken(loop) from None
        return saved_from(loop, commit)

    def append(self, saved: Saved, event: AnyEvent, committer: Person, author: Person | None = None) -> Saved:
        """Apply one event to a loop and commit the step, if the loop is still where `saved` says.

        The commit nests the newest state of each live child. Its author is the event's person, else `author`, else
        the committer.

        Raises:
            NotApplicable: the event does not fit the state. Nothing was written.
            Moved: the loop is elsewhere by now. Its branch was not touched.
        """
        self.ensure_branch(saved)
        children = {call: Child(commit=child.commit, state=child.state) for call, child in self.children(saved).items()}
        made = self._step(saved, event, children, committer, author)
        self.store.move(saved.loop, saved.commit, made.commit)
        return made

    def draft(
        self,
        saved: Saved,
        event: AnyEvent,
        committer: Person,
        *,
        children: Mapping[CallId, Child] | None = None,
        further: tuple[CommitId, ...] = (),
    ) -> Saved:
        """`append` for a loop that has no branch yet: the step alone, for `branch` to begin it with.

        The commit nests `children`, or what was nested already, and has the commits `further` as parents too.

        Raises:
            NotApplicable: the event does not fit the state. Nothing was written.
        """
        held = saved.state.children if children is None else children
        return self._step(saved, event, held, committer, None, further)

    def _step(
        self,
        saved: Saved,
        event: AnyEvent,
        children: Mapping[CallId, Child],
        committer: Person,
        author: Person | None,
        also: tuple[CommitId, ...] = (),
    ) -> Saved:
        """Write the commit of one event, to which nothing points yet."""
        event = self.storable(event)
        before = replace(saved.state, children=children)
        after = step(before, event)
        further = [child.commit for _, child in sorted(after.children.items())]
        further += [child.commit for call, child in children.items() if call not in after.children]
        author = self._person(author_of(event) or author or committer)
        commit = self.store.write(
            after,
            parents=(saved.commit, *further, *also),
            message=describe(saved.loop, before, event, after).message,
            author=author,
            committer=self._person(committer),
            sign=self._signed_by(author),
        )
        return saved_from(saved.loop, commit)

    def apply(self, saved: Saved, event: AnyEvent | EventFor, committer: Person, author: Person | None = None) -> Saved:
        """`append`, again on the newest state as long as other writers move the loop first.

        Raises:
            NotApplicable: the event does not fit the state that it would apply to.
            Contended: other writers kept moving the loop.
        """
        for _ in range(_ATTEMPTS):
            try:
                return self.append(saved, event(saved) if callable(event) else event, committer, author)
            except Moved:
                saved = self.load(saved.loop)
        raise Contended(f"Other writers kept moving {saved.loop}.", hint="Try again; nothing of this attempt was kept.")

    def mark(
        self,
        loop: LoopName,
        mark: Mark,
        commit: CommitId,
        parents: tuple[CommitId, ...],
        author: Person,
        committer: Person | None = None,
    ) -> Saved:
        """Write a commit that says something of a loop, and has another's tree; no branch is moved to it."""
        author = self.storable(author)
        made = self.store.mark(
            commit,
            parents=parents,
            message=describe_mark(loop, self.storable(mark), self.store.read(commit).state).message,
            author=author,
            committer=author if committer is None else self.storable(committer),
            at=mark.at,
            sign=self._signed_by(author),
        )
        return saved_from(loop, made)

    def score(self, saved: Saved, mark: Scored, committer: Person, author: Person) -> Saved:
        """Say on a loop's branch how good its outcome is, if the loop is still where `saved` says.

        Raises:
            Moved: it is elsewhere by now.
        """
        further = [child.commit for _, child in sorted(saved.state.children.items())]
        made = self.mark(saved.loop, mark, saved.commit, (saved.commit, *further), author, committer)
        self.store.move(saved.loop, saved.commit, made.commit)
        return made

    def branch(self, loop: LoopName, commit: CommitId) -> None:
        """Start a loop from a commit: the same as ``git branch loops/<loop> <commit>``. Nothing of it is loaded.

        Raises:
            LoopExists: the name is taken.
            SecretName: the name holds a secret.
            NotALoop: the commit holds no continuation.
        """
        self.store.check(commit)
        self._check_unused(loop)
        try:
            self.store.move(loop, None, commit)
        except Moved:
            if self._head(loop) is None:
                raise  # the commit itself is gone
            raise taken(loop) from None

    def _signed_by(self, author: Person) -> Callable[[bytes], str] | None:
        sign = self._sign
        return None if sign is None else lambda content: sign(content, author)

    def check_free(self, loop: LoopName) -> None:
        """A name is taken by a loop, and also by what was nested in one: a new loop would take that for its own.

        Raises:
            LoopExists: it is.
            SecretName: the name holds a secret.
        """
        self._check_unused(loop)
        if self._head(loop) is not None:
            raise taken(loop)

    def _check_unused(self, loop: LoopName) -> None:
        """`check_free`, but for a branch of that name itself: to make one finds it."""
        if self.redaction.holds_secret(loop):
            raise SecretName(
                "The loop's name holds a secret, and branches are no secrets.", hint="Choose another name."
            )
        if parent_name(loop) is not None:
            return
        if self.store.head(loop, archived=True) is not None:
            raise LoopExists(f"There is a loop {loop!r} in the archive.", hint="Choose another name.")
        left = next(iter(self.store.heads(loop)), None)
        if left is not None and self._head(loop) is not None:
            raise taken(loop)
        if left is not None:
            raise LoopExists(
                f"There are branches of loops nested in an earlier {loop!r}: {left}.",
                hint="Choose another name, or delete those branches with git first.",
            )

    def ensure_branch(self, saved: Saved) -> None:
        """Give a nested loop that only its parent's commit holds (after a plain ``git branch``) its own branch."""
        if parent_name(saved.loop) is None or self._head(saved.loop) is not None:
            return
        with suppress(Moved):  # somebody else was first; the append that follows finds out whether it is the same
            self.store.move(saved.loop, None, saved.commit)


def nested(saved: Saved) -> Mapping[CallId, Saved]:
    """The live children within a commit, by call."""
    return {
        call: Saved(loop=child_name(saved.loop, call), commit=child.commit, message="", state=child.state)
        for call, child in saved.state.children.items()
    }


def taken(loop: LoopName) -> LoopExists:
    """A loop's name is not free."""
    return LoopExists(
        f"There is a loop {loop!r} already.",
        hint=f"Choose another name, or go on with it: 'caesura resume {loop}'.",
    )
