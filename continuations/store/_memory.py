"""A store in memory: for tests, and for loops that need not outlive their process."""

import hashlib
import os
import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from .._calls import Person
from .._codec import encode_definition, encode_message, encode_record
from .._errors import SavedStateError
from .._ids import CommitId, LoopName
from .._messages import plain_text
from .._state import Continuation
from .._text import one_line
from ._errors import gone
from ._format import is_id
from ._protocol import Commit, Lease, Mender, Move, Moved, NoSuchRevision, NotALoop, Reader, Store, Trace, Unavailable

if TYPE_CHECKING:
    from ._workspaces import Workspaces

_REVISION = re.compile(r"(?P<base>[^~^]+)(?P<steps>(?:~\d*|\^\d*)*)")


class MemoryStore(Store):
    """Loops in this process's memory. Everything is gone with the process."""

    def __init__(self) -> None:
        self._commits: dict[CommitId, Commit] = {}
        self._raw: dict[CommitId, bytes] = {}
        self._heads: dict[LoopName, CommitId] = {}
        self._archive: dict[LoopName, CommitId] = {}
        self._leases: dict[LoopName, Lease] = {}
        self._one_at_a_time = threading.Lock()

    @property
    def location(self) -> str:
        return "memory"

    def heads(self, *, archived: bool = False) -> Mapping[LoopName, CommitId]:
        return dict(sorted(self._branches(archived).items()))

    def torn(self, *, archived: bool = False) -> Mapping[LoopName, SavedStateError]:
        return {}

    def head(self, loop: LoopName, *, archived: bool = False) -> CommitId | None:
        return self._branches(archived).get(loop)

    def _branches(self, archived: bool) -> dict[LoopName, CommitId]:
        return self._archive if archived else self._heads

    def read(self, commit: CommitId) -> Commit:
        if not is_id(commit):
            raise NotALoop(f"{one_line(commit)!r} is not a commit.", hint="Name a loop, or a commit of one.")
        if commit not in self._commits:
            raise gone(f"Commit {commit}", self.location)
        return self._commits[commit]

    def line(self, commit: CommitId) -> Iterator[tuple[CommitId, str]]:
        found = self.read(commit)
        yield commit, found.message
        while found.parents:
            found = self.read(found.parents[0])
            yield found.id, found.message

    def parents(self, commit: CommitId) -> tuple[CommitId, ...]:
        return self.read(commit).parents

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
        content = hashlib.sha1(usedforsecurity=False)
        for part in (
            encode_record(state),
            encode_definition(state.definition),
            *(encode_message(message) for message in state.messages),
            *(child.commit.encode() for child in state.children.values()),
            " ".join(parents).encode(),
            plain_text(f"{author}{committer}").encode(),
        ):
            content.update(b"%d " % len(part) + part)
        # A head and a message, as git has them, so that a signature has the same place.
        head, told = b"content " + content.hexdigest().encode(), b"\n\n" + message.encode()
        raw = head + told
        if sign is not None:
            raw = head + b"\ngpgsig " + sign(raw).strip("\n").replace("\n", "\n ").encode() + told
        commit = CommitId(hashlib.sha1(raw, usedforsecurity=False).hexdigest())
        self._raw[commit] = raw
        self._commits[commit] = Commit(id=commit, state=state, parents=parents, author=author, message=message)
        return self._commits[commit]

    def move(self, loop: LoopName, old: CommitId | None, new: CommitId) -> None:
        if self._heads.get(loop) != old:
            raise Moved(f"{loop} was moved by another writer.", hint="Read it again and decide again.")
        self._heads[loop] = new

    def move_all(self, moves: Sequence[Move], note: str) -> None:
        for one in moves:
            if self._branches(one.archived).get(one.loop) != one.old:
                raise Moved(f"{one.loop} was moved by another writer.", hint="Read it again and decide again.")
        for one in moves:
            self._branches(one.archived).pop(one.loop, None)
            if one.new is not None:
                self._branches(one.archived)[one.loop] = one.new

    def raw(self, commit: CommitId) -> bytes:
        return self._raw[self.read(commit).id]

    def resolve(self, revision: str) -> CommitId:
        match = _REVISION.fullmatch(revision)
        commit = self._named(match["base"]) if match else None
        for mark, digits in re.findall(r"([~^])(\d*)", match["steps"] if match else ""):
            number = int(digits or 1)
            line = [0] * number if mark == "~" else [number - 1] if number else []
            for parent in line:
                parents = self._commits[commit].parents if commit else ()
                commit = parents[parent] if parent < len(parents) else None
        if commit is None:
            raise NoSuchRevision(
                f"{revision!r} names no loop and no commit here.", hint="'Loops.all()' lists the loops."
            )
        return commit

    def _named(self, base: str) -> CommitId | None:
        for branches in (self._heads, self._archive):
            if base in branches:
                return branches[LoopName(base)]
        found = [commit for commit in self._commits if len(base) >= 4 and commit.startswith(base)]
        return found[0] if len(found) == 1 else None

    def person(self) -> Person:
        return Person(name="somebody", email="somebody@localhost")

    def setting(self, name: str) -> str | None:
        return None

    def lease(self, root: LoopName) -> Lease | None:
        return self._leases.get(root)

    def move_lease(self, root: LoopName, old: Lease | None, data: bytes | None) -> Lease | None:
        with self._one_at_a_time:
            if self._leases.get(root) != old:
                raise Moved(f"The lease on {root} was moved.", hint="Read it again and decide again.")
            if data is None:
                self._leases.pop(root, None)
                return None
            lease = Lease(token=hashlib.sha1(data, usedforsecurity=False).hexdigest(), data=data)
            self._leases[root] = lease
            return lease

    def close(self) -> None:
        """Nothing is held open."""

    def reader(self) -> Reader:
        return _MemoryReader(self)

    def mender(self, copy: str | os.PathLike[str] | None = None) -> Mender:
        raise Unavailable("A store in memory has nothing that could be mended.", hint="It holds no files.")

    def workspaces(self) -> "Workspaces":
        raise Unavailable("A store in memory keeps no files.", hint="Open a repository on disk for loops with files.")

    def leftovers(self) -> Iterator[tuple[str, str]]:
        return iter(())


class _MemoryReader(Reader):
    """Memory holds states, not bytes: there is nothing about them to check."""

    def __init__(self, store: MemoryStore) -> None:
        self._store = store

    def trace(self, commit: CommitId) -> Trace:
        found = self._store.read(commit)
        time = int(found.state.at.timestamp())
        return Trace(id=commit, parents=found.parents, author=found.author, time=time, message=found.message)

    def read(self, commit: CommitId) -> Commit:
        return self._store.read(commit)
