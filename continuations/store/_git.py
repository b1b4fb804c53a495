"""The store in git: a loop is a branch, a step a commit, a continuation its tree. Only this module knows pygit2."""

import os
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pygit2

from .._calls import Person
from .._codec import (
    decode_definition,
    decode_message,
    decode_record,
    encode_definition,
    encode_message,
    encode_record,
)
from .._errors import SavedStateError
from .._ids import CallId, CommitId, LoopName
from .._messages import Message
from .._state import Child, Continuation, Record
from .._text import one_line
from ._errors import Torn, too_large
from ._exclusive import common
from ._format import FILE, FOLDER, Entry, RawCommit, commit_bytes, is_id
from ._layout import CHILDREN, DEFINITION, MESSAGES, RECORD, WORKSPACE, message_path
from ._leases import LeaseFiles
from ._leftovers import leftovers
from ._make import make, unmade
from ._mender import GitMender
from ._objects import Batch, Objects
from ._protocol import (
    Commit,
    Durability,
    Lease,
    Mender,
    Move,
    NoPerson,
    NoSuchRevision,
    NotALoop,
    Reader,
    Store,
    Unavailable,
)
from ._reader import CheckedReader
from ._refs import Logging
from ._revisions import Revisions
from ._together import JointRefs, Swap, check_unused
from ._trees import MAX_DEPTH, MAX_MESSAGES, Trees, Weight, can_be_call, check_workspace, damaged
from ._workspaces import Workspaces

LOOPS = "refs/heads/loops/"
ARCHIVE = "refs/archive/loops/"

_CACHED = 256
_OWN = 4  # libgit2's level of a person's own configuration; above it are the repository's


@dataclass(frozen=True)
class _Known:
    """A commit that was read or written, its tree and what it takes."""

    commit: Commit
    tree: str
    weight: Weight


class GitStore(Store):
    """Loops in a git repository: Caesura's own bare one, or any other, the user's project included."""

    def __init__(self, repository: pygit2.Repository, durability: Durability = "power-cut") -> None:
        self._repo = repository
        folder = Path(repository.path)
        self._folder = common(folder)
        durable = durability == "power-cut"
        self._objects = Objects(self._folder / "objects", durable=durable)
        self._refs = JointRefs(self._folder, folder, logging=_logging(repository), durable=durable, who=self._who)
        self._leases = LeaseFiles(self._folder)
        self._revisions = Revisions(self._objects, self._refs, self._folder / "logs")
        self._trees = Trees(self._objects)
        self._cache: OrderedDict[CommitId, _Known] = OrderedDict()
        excludes = partial(self.setting, "core.excludesfile")
        self._workspaces = Workspaces(self._folder, self._objects, self._trees, excludes)

    @classmethod
    def open(
        cls, path: str | os.PathLike[str], *, create: bool = False, durability: Durability = "power-cut"
    ) -> "GitStore":
        """Open the repository at `path`; with `create`, make a bare one there if there is none.

        A step that was acknowledged survives what `durability` says: a power cut, or a crash of the process alone.

        Raises:
            Unavailable: there is no repository, or it cannot be opened or made.
        """
        folder = Path(path)
        if create and unmade(folder):
            with _trouble(f"No repository could be made at {folder}", "Choose a folder that can be written."):
                make(folder, partial(pygit2.init_repository, bare=True), durable=durability == "power-cut")
        if not folder.is_dir():
            raise Unavailable(
                f"There is no repository at {folder}.",
                hint="Make one with 'caesura init', or name another with --repo or CAESURA_REPO.",
            )
        with _trouble(
            f"{folder} is not a git repository", "Make one with 'caesura init', or name another with --repo."
        ):
            return cls(pygit2.Repository(str(folder)), durability)

    @property
    def location(self) -> str:
        return str(self._repo.path).rstrip("/")

    def close(self) -> None:
        self._cache.clear()
        self._objects.close()
        self._repo.free()

    # Refs --------------------------------------------------------------------------------------------------------

    def heads(self, *, archived: bool = False) -> Mapping[LoopName, CommitId]:
        return {name: CommitId(head) for name, head in self._refs.loops(_folder(archived)) if isinstance(head, str)}

    def torn(self, *, archived: bool = False) -> Mapping[LoopName, SavedStateError]:
        return {name: fault for name, fault in self._refs.loops(_folder(archived)) if isinstance(fault, Torn)}

    def head(self, loop: LoopName, *, archived: bool = False) -> CommitId | None:
        head = self._refs.get(_folder(archived) + loop)
        return None if head is None else CommitId(head)

    def move(self, loop: LoopName, old: CommitId | None, new: CommitId) -> None:
        known = self._cache.get(new)
        note = "" if known is None else one_line(known.commit.message.partition("\n")[0])
        self._refs.swap(LOOPS + loop, old, new, f"caesura: {note}")
        if old is None and self._repo.is_bare:
            self._refs.see_to_head(LOOPS + loop)

    def move_all(self, moves: Sequence[Move], note: str) -> None:
        swaps = [Swap(_folder(one.archived) + one.loop, one.old, one.new) for one in moves]
        for one in swaps:
            if one.new is None:
                check_unused(self._folder, one.ref, bare=self._repo.is_bare)
        if swaps:
            self._refs.swap_all(swaps, f"caesura: {one_line(note)}")
        left = next(iter(self.heads()), None)
        if left is not None and self._repo.is_bare:
            self._refs.see_to_head(LOOPS + left)

    def lease(self, root: LoopName) -> Lease | None:
        with _trouble("The lease could not be read", "Check the repository's permissions."):
            return self._leases.read(root)

    def move_lease(self, root: LoopName, old: Lease | None, data: bytes | None) -> Lease | None:
        with _trouble("The lease could not be written", "Check the repository's permissions and free space."):
            return self._leases.swap(root, old, data)

    # Commits -----------------------------------------------------------------------------------------------------

    def read(self, commit: CommitId) -> Commit:
        return self._known(commit, 0).commit

    def parents(self, commit: CommitId) -> tuple[CommitId, ...]:
        return tuple(map(CommitId, self._revisions.commit(commit).parents))

    def line(self, commit: CommitId) -> Iterator[tuple[CommitId, str]]:
        found = self._revisions.commit(commit)
        yield commit, found.message
        while found.parents:
            before = CommitId(found.parents[0])
            found = self._revisions.commit(before)
            yield before, found.message

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
        base = self._known(parents[0], 0) if parents else None
        batch, weight = Batch(), Weight()
        tree = self._tree(batch, state, base, weight)
        commit_of = partial(
            commit_bytes, tree, parents, author=author, committer=committer, at=state.at, message=message
        )
        content = commit_of() if sign is None else commit_of(signature=sign(commit_of()))
        name = CommitId(batch.add("commit", content))
        with _trouble("The step could not be written", "Check the repository's permissions and free space."):
            self._objects.write(batch)
        commit = Commit(id=name, state=state, parents=parents, author=author, message=message)
        return self._remember(_Known(commit, tree, weight)).commit

    def raw(self, commit: CommitId) -> bytes:
        if not is_id(commit):
            raise NotALoop(f"{one_line(commit)!r} is not a commit.", hint="Name a loop, or a commit of one.")
        return self._objects.get(commit, "commit")

    def resolve(self, revision: str) -> CommitId:
        for text in (LOOPS + revision, revision, ARCHIVE + revision):
            found = self._revisions.find(text)
            if found is not None:
                return CommitId(found)
        raise NoSuchRevision(
            f"{one_line(revision)!r} names no loop and no commit here.",
            hint="'caesura loops' lists the loops; a branch, a tag or a hash will do too, each with '~3' or '^2'.",
        )

    def person(self) -> Person:
        config = self._repo.config
        name = os.environ.get("GIT_AUTHOR_NAME") or _setting(config, "user.name")
        email = os.environ.get("GIT_AUTHOR_EMAIL") or _setting(config, "user.email")
        if not name or not email:
            raise NoPerson(
                "Git does not know who you are, and a decision needs a name.",
                hint="git config --global user.name 'Your Name'; git config --global user.email you@example.com",
            )
        return Person(name=name, email=email)

    def setting(self, name: str) -> str | None:
        own = [entry for entry in self._repo.config if entry.name == name and entry.level <= _OWN]
        return max(own, key=lambda entry: entry.level).value if own else None

    def _who(self) -> str:
        """Whom a branch's log names."""
        with suppress(NoPerson):
            return one_line(str(self.person()))
        return "caesura <caesura@localhost>"

    def workspaces(self) -> Workspaces:
        return self._workspaces

    # Checking ----------------------------------------------------------------------------------------------------

    def reader(self) -> Reader:
        return CheckedReader(self._objects)

    def mender(self, copy: str | os.PathLike[str] | None = None) -> Mender:
        other = None if copy is None else GitStore.open(copy)
        found = None if other is None else (other._objects, other._refs)
        return GitMender(self._folder, self._objects, self._refs, LOOPS, found)

    def leftovers(self) -> Iterator[tuple[str, str]]:
        return leftovers(self._folder, self._refs, LOOPS)

    # Writing trees -----------------------------------------------------------------------------------------------

    def _tree(self, batch: Batch, state: Continuation, base: _Known | None, weight: Weight) -> str:
        """The tree of a state, reusing what the commit before it already has."""
        old = None if base is None else self._trees.read(base.tree)
        record, definition = encode_record(state), encode_definition(state.definition)
        entries = {RECORD: Entry(FILE, RECORD, batch.add("blob", record))}
        if base is not None and old is not None and base.commit.state.definition == state.definition:
            entries[DEFINITION] = old[DEFINITION]
        else:
            entries[DEFINITION] = Entry(FILE, DEFINITION, batch.add("blob", definition))
        entries[MESSAGES] = Entry(FOLDER, MESSAGES, self._messages_tree(batch, state.messages, base, weight))
        weight.add(len(record) + len(definition))
        if state.children:
            nested: dict[str, Entry] = {}
            for call, child in state.children.items():
                known = self._known(child.commit, 0)
                weight.nest(known.weight)
                nested[call] = Entry(FOLDER, call, known.tree)
            entries[CHILDREN] = Entry(FOLDER, CHILDREN, self._trees.write(batch, nested))
        if state.workspace is not None:
            entries[WORKSPACE] = Entry(FOLDER, WORKSPACE, state.workspace.tree)
        return self._trees.write(batch, entries)

    def _messages_tree(self, batch: Batch, messages: tuple[Message, ...], base: _Known | None, weight: Weight) -> str:
        if len(messages) > MAX_MESSAGES:
            raise too_large("The loop", f"{len(messages):,} messages", f"{MAX_MESSAGES:,}")
        kept, tree = 0, None
        if base is not None and messages[: len(base.commit.state.messages)] == base.commit.state.messages:
            kept, tree = len(base.commit.state.messages), self._trees.read(base.tree)[MESSAGES].id
            weight.messages = base.weight.messages
        blobs: dict[tuple[str, ...], str] = {}
        for index in range(kept, len(messages)):
            data = encode_message(messages[index])
            weight.messages += len(data)
            blobs[message_path(index)] = batch.add("blob", data)
        weight.add(weight.messages)
        if tree is not None and not blobs:
            return tree  # as it is: it need not be written, or synced, again
        return self._trees.insert(batch, tree, blobs)

    # Reading trees -----------------------------------------------------------------------------------------------

    def _known(self, commit: CommitId, above: int) -> _Known:
        """A commit, its continuation whole; it is nested in so many others."""
        cached = self._cache.get(commit)
        if cached is not None:
            self._cache.move_to_end(commit)
            return cached
        if not is_id(commit):
            raise NotALoop(f"{one_line(commit)!r} is not a commit.", hint="Name a loop, or a commit of one.")
        if above > MAX_DEPTH:
            raise too_large("The continuation", f"loops nested more than {MAX_DEPTH} deep", f"{MAX_DEPTH}")
        raw = self._revisions.commit(commit)
        weight = Weight()
        state = self._load(commit, raw, above, weight)
        parents = tuple(map(CommitId, raw.parents))
        found = Commit(id=commit, state=state, parents=parents, author=raw.author, message=raw.message)
        return self._remember(_Known(found, raw.tree, weight))

    def _remember(self, known: _Known) -> _Known:
        self._cache[known.commit.id] = known
        if len(self._cache) > _CACHED:
            self._cache.popitem(last=False)
        return known

    def _load(self, commit: CommitId, raw: RawCommit, above: int, weight: Weight) -> Continuation:
        tree = self._trees.read(raw.tree)
        if RECORD not in tree:
            raise NotALoop(f"Commit {commit[:7]} holds no continuation.", hint="Name a loop, or a commit of one.")
        record = decode_record(self._file(tree, RECORD, weight))
        check_workspace(record, tree.get(WORKSPACE))
        definition = decode_definition(self._file(tree, DEFINITION, weight))
        messages: list[Message] = []
        for name, blob in self._trees.messages(self._folder_in(tree, MESSAGES)):
            data = self._objects.get(blob, "blob")
            weight.messages += len(data)
            weight.add(len(data))
            messages.append(decode_message(data, name))
        return Continuation(
            **{name: getattr(record, name) for name in Record.__struct_fields__},
            definition=definition,
            messages=tuple(messages),
            children=self._children(self._folder_in(tree, CHILDREN), raw, above, weight) if CHILDREN in tree else {},
        )

    def _children(self, folder: str, raw: RawCommit, above: int, weight: Weight) -> dict[CallId, Child]:
        """The live children, each with its commit: the further parent that has the same tree."""
        children: dict[CallId, Child] = {}
        commits = [(self._revisions.commit(parent).tree, CommitId(parent)) for parent in raw.parents]
        for entry in self._trees.read(folder).values():
            if not can_be_call(entry.name):
                raise damaged(f"{CHILDREN}/{one_line(entry.name)} has a name that no call can have")
            match = next((pair for pair in commits if pair[0] == entry.id), None)
            if match is None:
                raise damaged(f"{CHILDREN}/{entry.name} is not the tree of any parent commit")
            commits.remove(match)
            known = self._known(match[1], above + 1)
            weight.nest(known.weight)
            children[CallId(entry.name)] = Child(commit=match[1], state=known.commit.state)
        return children

    def _file(self, tree: Mapping[str, Entry], name: str, weight: Weight) -> bytes:
        if name not in tree or not tree[name].is_file:
            raise damaged(f"{name} is missing, or not a file")
        data = self._objects.get(tree[name].id, "blob")
        weight.add(len(data))
        return data

    def _folder_in(self, tree: Mapping[str, Entry], name: str) -> str:
        if name not in tree or not tree[name].is_folder:
            raise damaged(f"{name}/ is missing, or not a folder")
        return tree[name].id


def _folder(archived: bool) -> str:
    return ARCHIVE if archived else LOOPS


def _logging(repository: pygit2.Repository) -> Logging:
    """Which refs git would log the moves of here."""
    value = _setting(repository.config, "core.logAllRefUpdates").lower()
    if value == "always":
        return "always"
    wanted = value in ("true", "yes", "on", "1") or (not value and not repository.is_bare)
    return "branches" if wanted else "no"


def _setting(config: pygit2.Config, key: str) -> str:
    try:
        return config[key] or ""
    except KeyError:
        return ""


@contextmanager
def _trouble(what: str, hint: str) -> Iterator[None]:
    """Turn git's and the system's errors into one of ours."""
    try:
        yield
    except (pygit2.GitError, OSError, KeyError) as error:
        raise Unavailable(f"{what}: {error}.", hint=hint) from error
