"""A store in memory: for tests, and for loops that need not outlive their process."""

import datetime as dt
import hashlib
import os
import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec.structs import replace

from .._calls import Person
from .._errors import SavedStateError
from .._ids import CommitId, LoopName
from .._messages import beyond, plain_text
from .._requests import asks
from .._state import Continuation
from .._text import one_line
from ._errors import gone
from ._format import is_id
from ._holdings import Holdings, Upkeep, Upkept
from ._keeping import Keeper
from ._mending import Mender, Reader
from ._protocol import Commit, Lease, Move, Moved, NoSuchRevision, NotALoop, Store, Trace, Unavailable
from ._shared import Work

if TYPE_CHECKING:
    from ._projects import Projects
    from ._workspaces import Workspaces

_encode = msgspec.json.Encoder().encode
_REVISION = re.compile(r"(?P<base>[^~^]+)(?P<steps>(?:~\d*|\^\d*)*)")


class MemoryStore(Store):
    """Loops in this process's memory. Everything is gone with the process."""

    def __init__(self) -> None:
        self._commits: dict[CommitId, Commit] = {}
        self._raw: dict[CommitId, bytes] = {}
        self._trees: dict[CommitId, str] = {}
        self._messages: dict[CommitId, hashlib._Hash] = {}
        self._heads: dict[LoopName, CommitId] = {}
        self._archive: dict[LoopName, CommitId] = {}
        self._leases: dict[LoopName, Lease] = {}
        self._one_at_a_time = threading.Lock()

    @property
    def location(self) -> str:
        return "memory"

    @property
    def waits(self) -> bool:
        return False

    @property
    def shares(self) -> bool:
        return True

    def heads(self, above: LoopName | None = None, *, archived: bool = False) -> Mapping[LoopName, CommitId]:
        with self._one_at_a_time:
            branches = sorted(self._branches(archived).items())
        return {name: head for name, head in branches if above is None or name.startswith(f"{above}.")}

    def waiting(self) -> Iterator[LoopName]:
        return (name for name, head in sorted(self._heads.items()) if _waits(self._commits[head].state))

    def torn(self, above: LoopName | None = None, *, archived: bool = False) -> Mapping[LoopName, SavedStateError]:
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

    def check(self, commit: CommitId) -> str:
        return self.read(commit).message

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
        said = self._said(state, parents)
        content = _with(
            said.copy(),
            _encode(replace(state, messages=(), children={})),
            *(child.commit.encode() for child in state.children.values()),
            " ".join(parents).encode(),
            plain_text(f"{author}{committer}").encode(),
        )
        return self._add(content.hexdigest(), said, None, state, parents, message, author, sign)

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
        made = f"{commit} {' '.join(parents)} {plain_text(f'{author}{committer}')} {at.isoformat()}".encode()
        content = hashlib.sha1(made, usedforsecurity=False).hexdigest()
        return self._add(
            content,
            self._messages[commit],
            self._trees[commit],
            self.read(commit).state,
            parents,
            message,
            author,
            sign,
        )

    def _add(
        self,
        content: str,
        said: "hashlib._Hash",
        tree: str | None,
        state: Continuation,
        parents: tuple[CommitId, ...],
        message: str,
        author: Person,
        sign: Callable[[bytes], str] | None,
    ) -> Commit:
        # A head and a message, as git has them, so that a signature has the same place.
        head, told = b"content " + content.encode(), b"\n\n" + message.encode()
        raw = head + told
        if sign is not None:
            raw = head + b"\ngpgsig " + sign(raw).strip("\n").replace("\n", "\n ").encode() + told
        commit = CommitId(hashlib.sha1(raw, usedforsecurity=False).hexdigest())
        self._raw[commit], self._messages[commit], self._trees[commit] = raw, said, tree or commit
        self._commits[commit] = Commit(id=commit, state=state, parents=parents, author=author, message=message)
        return self._commits[commit]

    def tree(self, commit: CommitId) -> str:
        """What two commits share if the one marks the other."""
        return self._trees[commit]

    def _said(self, state: Continuation, parents: tuple[CommitId, ...]) -> "hashlib._Hash":
        """What the messages hash to. Those that the commit before has already are not encoded again."""
        before = self._commits[parents[0]].state.messages if parents and parents[0] in self._commits else ()
        added = beyond(state.messages, before)
        if not before or added is None:
            return _with(hashlib.sha1(usedforsecurity=False), *map(_encode, state.messages))
        return _with(self._messages[parents[0]].copy(), *map(_encode, added))

    def move(self, loop: LoopName, old: CommitId | None, new: CommitId) -> None:
        with self._one_at_a_time:
            if self._heads.get(loop) != old:
                raise Moved(f"{loop} was moved by another writer.", hint="Read it again and decide again.")
            self._heads[loop] = new

    def share(self, works: Sequence[Work[Any]]) -> None:
        for work in works:
            work.do()

    def seal(self) -> None:
        """No other program sees what is in memory."""

    def move_all(self, moves: Sequence[Move], note: str) -> None:
        with self._one_at_a_time:
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
        found = [commit for commit in tuple(self._commits) if len(base) >= 4 and commit.startswith(base)]
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

    def keeper(self) -> Keeper:
        raise Unavailable("A store in memory keeps nothing but in memory.", hint="Open a repository.")

    def workspaces(self) -> "Workspaces":
        raise Unavailable("A store in memory keeps no files.", hint="Open a repository on disk for loops with files.")

    def projects(self) -> "Projects":
        raise Unavailable("A store in memory keeps no files.", hint="Open a repository on disk for loops with files.")

    def lost(self) -> Iterator[tuple[str, str]]:
        return iter(())

    def leftovers(self) -> Iterator[tuple[str, str]]:
        return iter(())

    def upkeep(
        self, *, breathe: Callable[[], None] = lambda: None, progress: Callable[[int, int], None] = lambda *_: None
    ) -> Upkeep:
        return _MemoryUpkeep()


def _waits(state: Continuation) -> bool:
    return asks(state) or (state.ending is None and any(_waits(child.state) for child in state.children.values()))


class _MemoryUpkeep(Upkeep):
    """Memory holds no files."""

    def due(self) -> bool:
        return False

    def holdings(self) -> Holdings:
        return Holdings()

    def run(self, *, thorough: bool = False, dry: bool = False) -> Upkept | None:
        return Upkept()


def _with(content: "hashlib._Hash", *parts: bytes) -> "hashlib._Hash":
    """A hash with these parts added, each told from the next."""
    for part in parts:
        content.update(b"%d " % len(part) + part)
    return content


class _MemoryReader(Reader):
    """Memory holds states, not bytes: there is nothing about them to check."""

    def __init__(self, store: MemoryStore) -> None:
        self._store = store

    def trace(self, commit: CommitId) -> Trace:
        found = self._store.read(commit)
        time = int(found.state.at.timestamp())
        return Trace(
            id=commit,
            tree=self._store.tree(commit),
            parents=found.parents,
            author=found.author,
            time=time,
            message=found.message,
        )

    def read(self, commit: CommitId) -> Commit:
        return self._store.read(commit)
