"""A store in memory: for tests, and for loops that need not outlive their process."""

import hashlib
import re
from collections.abc import Callable, Mapping

from .._calls import Person
from .._codec import encode_definition, encode_message, encode_record
from .._ids import CommitId, LoopName
from .._messages import plain_text
from .._state import Continuation
from ._protocol import Commit, Lease, Moved, NoSuchRevision, NotALoop, Store

_REVISION = re.compile(r"(?P<base>[^~^]+)(?P<steps>(?:~\d*|\^\d*)*)")


class MemoryStore(Store):
    """Loops in this process's memory. Everything is gone with the process."""

    def __init__(self) -> None:
        self._commits: dict[CommitId, Commit] = {}
        self._raw: dict[CommitId, bytes] = {}
        self._heads: dict[LoopName, CommitId] = {}
        self._leases: dict[LoopName, Lease] = {}

    @property
    def location(self) -> str:
        return "memory"

    def heads(self) -> Mapping[LoopName, CommitId]:
        return dict(sorted(self._heads.items()))

    def head(self, loop: LoopName) -> CommitId | None:
        return self._heads.get(loop)

    def read(self, commit: CommitId) -> Commit:
        if commit not in self._commits:
            raise NotALoop(f"{commit} is not a commit.", hint="Name a loop, or a commit of one.")
        return self._commits[commit]

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

    def raw(self, commit: CommitId) -> bytes:
        if commit not in self._raw:
            raise NotALoop(f"{commit} is not a commit.", hint="Name a loop, or a commit of one.")
        return self._raw[commit]

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
        if base in self._heads:
            return self._heads[LoopName(base)]
        found = [commit for commit in self._commits if len(base) >= 4 and commit.startswith(base)]
        return found[0] if len(found) == 1 else None

    def person(self) -> Person:
        return Person(name="somebody", email="somebody@localhost")

    def setting(self, name: str) -> str | None:
        return None

    def lease(self, root: LoopName) -> Lease | None:
        return self._leases.get(root)

    def move_lease(self, root: LoopName, old: Lease | None, data: bytes | None) -> Lease | None:
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
