"""Commits with their continuations: read whole, and laid out as trees.

What somebody holds is remembered, for it takes no memory that is not taken already; of the rest, what was used last.
"""

import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from threading import RLock

import msgspec
from msgspec.structs import replace

from .._calls import Person
from .._codec import (
    decode_definition,
    decode_messages,
    decode_record,
    encode_definition,
    encode_message,
    encode_record,
)
from .._ids import CallId, CommitId, is_call_id
from .._messages import Message, Messages, beyond
from .._specs import AgentSpec
from .._state import Child, Continuation, Record
from .._text import one_line
from ._errors import too_large
from ._folders import Folders, lay_out
from ._format import FILE, FOLDER, Entry, RawCommit, entry_bytes, is_id, tree_bytes
from ._kept import Kept
from ._layout import CHILDREN, DEFINITION, MESSAGES, RECORD, WIDTH, WORKSPACE, message_file
from ._objects import Batch, Objects
from ._protocol import Commit, NotALoop
from ._revisions import Revisions
from ._trees import MAX_DEPTH, MAX_MESSAGES, Trees, Weight, check_workspace, damaged, folder_in
from ._vanished import Found

_CHECKED, _TREES = 256, 64
_AT_ONCE = 2**16  # bytes of messages that are decoded together
_KEPT, _FOLDERS, _KEPT_SIZE = 16, 1024, 32 * 2**20
"""Commits that are kept though nobody holds their continuations, folders of messages that are, and how many bytes each
of both may have together."""
_PARTS = ((FILE, DEFINITION), (FOLDER, CHILDREN), (FILE, RECORD), (FOLDER, MESSAGES), (FOLDER, WORKSPACE))
_HEADS = {name: entry_bytes(Entry(mode, name, "")) for mode, name in _PARTS}
"""The entries of a commit's tree, in git's order, but for the ids that these end with."""


class Laid(msgspec.Struct, frozen=True, gc=False):
    """A continuation as a tree, with what the next step goes on from.

    `weight` is what it takes; `since` is how many erasures there had been when it was read.
    """

    tree: str
    definition: str
    folders: Folders
    weight: Weight
    since: int


class _Known(msgspec.Struct, frozen=True):
    """A commit that was read or written, and its tree."""

    commit: Commit
    laid: Laid


class _Remembered(msgspec.Struct, frozen=True):
    """A commit that was read or written, but for its continuation, as long as somebody holds that."""

    state: weakref.ref[Continuation]
    parents: tuple[CommitId, ...]
    author: Person
    message: str
    laid: Laid


class _Checked(msgspec.Struct, frozen=True):
    """A commit of which not all was read: what it says, what was read of it, how many erasures there had been."""

    message: str
    weight: Weight
    since: int


class Commits:
    """The commits of a repository, for any thread at any time. `forget` is told of each that is remembered no more."""

    def __init__(
        self, found: Found, objects: Objects, revisions: Revisions, forget: Callable[[CommitId], None]
    ) -> None:
        self._found, self._objects, self._revisions, self._forget = found, objects, revisions, forget
        self._trees = Trees(objects, kept=_TREES)
        self._remembered: dict[CommitId, _Remembered] = {}
        self._kept = Kept[CommitId, _Known](_KEPT, _KEPT_SIZE)
        # The messages in whole folders that were read, and their bytes, by the folder and how many erasures there had
        # been: a loop's commits have them in common.
        self._common = Kept[tuple[str, int], tuple[Sequence[Message], int]](_FOLDERS, _KEPT_SIZE)
        self._checked: OrderedDict[CommitId, _Checked] = OrderedDict()
        self._turn = RLock()

    def close(self) -> None:
        """Forget all."""
        with self._turn:
            self._remembered.clear()
            self._kept.clear()
            self._common.clear()
            self._checked.clear()

    def read(self, commit: CommitId) -> Commit:
        """A commit with its continuation, as `Store.read`."""
        with self._turn:
            return self._find(commit, 0).commit

    def check(self, commit: CommitId) -> str:
        """A commit's message, once it is sure that it is one of a loop, as `Store.check`."""
        with self._turn:
            if self._found.erasures():  # what no branch leads to may have lost a part of it
                return self._find(commit, 0).commit.message
            known = self._remembered.get(commit)
            if known is not None:
                return known.message
            self._check(commit, 0)
            return self._checked[commit].message

    def _check(self, commit: CommitId, above: int) -> Weight:
        known = self._remembered.get(commit)
        if known is not None:
            return known.laid.weight
        if commit in self._checked:
            return self._checked[commit].weight
        since, weight = self._found.erasures(), Weight()
        raw = self._commit(commit, above)
        tree, _, _ = self._record(commit, raw, weight)
        self._trees.check(folder_in(tree, MESSAGES))
        for _, child in self._nested(tree, raw):
            weight.nest(self._check(child, above + 1))
        self._checked[commit] = _Checked(raw.message, weight, since)
        if len(self._checked) > _CHECKED:
            self._checked.popitem(last=False)
        return weight

    def known(self, commit: CommitId) -> tuple[str, int | None]:
        """What a commit says, and how many erasures there had been when it was looked at, or what it builds upon; ""
        and None if it is not remembered."""
        known = self._remembered.get(commit)
        if known is not None:
            return known.message, known.laid.since
        checked = self._checked.get(commit)
        return ("", None) if checked is None else (checked.message, checked.since)

    def was_there(self, commit: CommitId, erasures: int) -> None:
        """Note that a commit was there, with all that it leads to, after so many erasures."""
        with self._turn:
            known = self._remembered.get(commit)
            if known is not None and known.laid.since < erasures:
                laid = replace(known.laid, since=erasures)
                self._remembered[commit] = replace(known, laid=laid)
                self._kept.drop(commit)

    def laid(self, commit: CommitId) -> Laid:
        """A commit's tree."""
        with self._turn:
            return self._find(commit, 0).laid

    def lay(self, batch: Batch, state: Continuation, parent: CommitId | None) -> Laid:
        """A state as a tree, put into a batch but for what the commit before it has already.

        Raises:
            TooLarge: it is beyond the limits of the data model.
        """
        weight = Weight()
        with self._turn:
            base = None if parent is None else self._find(parent, 0)
            since = self._found.erasures() if base is None else base.laid.since
            record = encode_record(state)
            definition = self._definition(batch, state.definition, base, weight)
            weight.add(len(record) + weight.definition)
            folders = self._folders(batch, state.messages, base, weight)
            parts = {DEFINITION: definition, RECORD: batch.add("blob", record), MESSAGES: folders.tree}
            if state.children:
                nested: list[Entry] = []
                for call, child in state.children.items():
                    known = self._find(child.commit, 0).laid
                    weight.nest(known.weight)
                    nested.append(Entry(FOLDER, call, known.tree))
                    since = min(since, known.since)
                parts[CHILDREN] = batch.add("tree", tree_bytes(nested))
            if state.workspace is not None:
                parts[WORKSPACE] = state.workspace.tree
                if base is None or base.commit.state.workspace != state.workspace:
                    since = min(since, self._found.since(state.workspace.tree))
            entries = [head + bytes.fromhex(parts[name]) for name, head in _HEADS.items() if name in parts]
            return Laid(batch.add("tree", b"".join(entries)), definition, folders, weight, since)

    def remember(self, commit: Commit, laid: Laid) -> Commit:
        """Remember a commit that was written."""
        with self._turn:
            return self._remember(_Known(commit, laid)).commit

    # Writing trees -----------------------------------------------------------------------------------------------

    def _definition(self, batch: Batch, definition: AgentSpec, base: _Known | None, weight: Weight) -> str:
        if base is not None and base.commit.state.definition == definition:
            weight.definition = base.laid.weight.definition
            return base.laid.definition
        data = encode_definition(definition)
        weight.definition = len(data)
        return batch.add("blob", data)

    def _folders(self, batch: Batch, messages: Sequence[Message], base: _Known | None, weight: Weight) -> Folders:
        if len(messages) > MAX_MESSAGES:
            raise too_large("The loop", f"{len(messages):,} messages", f"{MAX_MESSAGES:,}")
        before: Folders | None = None
        there: set[str] = set()
        added = None if base is None else beyond(messages, base.commit.state.messages)
        if base is not None and added is not None:
            before, weight.messages = base.laid.folders, base.laid.weight.messages
        elif base is not None:  # compacted: of what is there already nothing need be written, or synced, again
            there = {blob.hex() for _, blobs in self._trees.messages(base.laid.folders.tree) for blob in blobs}
        texts = [encode_message(message) for message in (messages if added is None else added)]
        weight.messages += sum(map(len, texts))
        blobs = [batch.add("blob", text) for text in texts]
        if there:
            for blob in there & batch.keys():
                del batch[blob]
        weight.add(weight.messages)
        return lay_out(batch, before, blobs)

    # Reading trees -----------------------------------------------------------------------------------------------

    def _find(self, commit: CommitId, above: int) -> _Known:
        """A commit, its continuation whole; it is nested in so many others."""
        kept = self._kept.get(commit)
        if kept is not None:
            return kept
        known = self._remembered.get(commit)
        state = None if known is None else known.state()
        if known is not None and state is not None:
            found = Commit(id=commit, state=state, parents=known.parents, author=known.author, message=known.message)
            return self._keep(_Known(found, known.laid))
        since = self._found.erasures()
        raw = self._commit(commit, above)
        weight = Weight()
        state = self._load(commit, raw, above, weight, since)
        parents = tuple(map(CommitId, raw.parents))
        found = Commit(id=commit, state=state, parents=parents, author=raw.author, message=raw.message)
        tree = self._trees.read(raw.tree)
        folders = self._trees.folders(tree[MESSAGES].id, len(state.messages))
        return self._remember(_Known(found, Laid(raw.tree, tree[DEFINITION].id, folders, weight, since)))

    def _remember(self, known: _Known) -> _Known:
        commit, laid = known.commit, known.laid
        if commit.state.workspace is not None:
            self._found.note(commit.state.workspace.tree, laid.since)
        held = weakref.ref(commit.state, partial(self._let_go, commit.id))
        self._remembered[commit.id] = _Remembered(held, commit.parents, commit.author, commit.message, laid)
        return self._keep(known)

    def _keep(self, known: _Known) -> _Known:
        self._kept.keep(known.commit.id, known, known.laid.weight.size)
        return known

    def _let_go(self, commit: CommitId, state: weakref.ref[Continuation]) -> None:
        known = self._remembered.get(commit)
        if known is not None and known.state is state:  # else it was read again
            self._remembered.pop(commit, None)
            self._forget(commit)

    def _commit(self, commit: CommitId, above: int) -> RawCommit:
        if not is_id(commit):
            raise NotALoop(f"{one_line(commit)!r} is not a commit.", hint="Name a loop, or a commit of one.")
        if above > MAX_DEPTH:
            raise too_large("The continuation", f"loops nested more than {MAX_DEPTH} deep", f"{MAX_DEPTH}")
        return self._revisions.commit(commit)

    def _record(
        self, commit: CommitId, raw: RawCommit, weight: Weight
    ) -> tuple[Mapping[str, Entry], Record, AgentSpec]:
        """A commit's tree, its record and its agent: all that does not grow with the loop."""
        tree = self._trees.read(raw.tree)
        if RECORD not in tree:
            raise NotALoop(f"Commit {commit[:7]} holds no continuation.", hint="Name a loop, or a commit of one.")
        record = decode_record(self._file(tree, RECORD, weight))
        check_workspace(record, tree.get(WORKSPACE))
        definition = self._file(tree, DEFINITION, weight)
        weight.definition = len(definition)
        return tree, record, decode_definition(definition)

    def _load(self, commit: CommitId, raw: RawCommit, above: int, weight: Weight, since: int) -> Continuation:
        tree, record, definition = self._record(commit, raw, weight)
        return Continuation(
            **{name: getattr(record, name) for name in Record.__struct_fields__},
            definition=definition,
            messages=self._messages(folder_in(tree, MESSAGES), weight, since),
            children=self._children(tree, raw, above, weight),
        )

    def _messages(self, tree: str, weight: Weight, since: int) -> Messages:
        before, found, sizes = weight.size, list[Message](), list[int]()
        folders = [*self._trees.messages(tree)]  # all first: in turn with the messages, one takes twice as long
        for folder, _ in folders:
            known = self._common.get((folder, since))
            if known is None:
                break
            found += known[0]
            weight.add(known[1])
        first = len(found)
        names = [blob for _, blobs in folders[first // WIDTH :] for blob in blobs]
        for files in _some_at_once(self._objects.blobs(names)):
            lengths = [*map(len, files)]
            weight.add(sum(lengths))
            sizes += lengths
            found += decode_messages(files, len(found), message_file)
        for at in range(0, len(names) - WIDTH + 1, WIDTH):
            size = sum(sizes[at : at + WIDTH])
            messages = tuple(found[first + at : first + at + WIDTH])
            self._common.keep((folders[(first + at) // WIDTH][0], since), (messages, size), size)
        weight.messages = weight.size - before
        return Messages(found)

    def _children(self, tree: Mapping[str, Entry], raw: RawCommit, above: int, weight: Weight) -> dict[CallId, Child]:
        children: dict[CallId, Child] = {}
        for call, commit in self._nested(tree, raw):
            known = self._find(commit, above + 1)
            weight.nest(known.laid.weight)
            children[call] = Child(commit=commit, state=known.commit.state)
        return children

    def _nested(self, tree: Mapping[str, Entry], raw: RawCommit) -> Iterator[tuple[CallId, CommitId]]:
        """The live children, each with its commit: the further parent that has the same tree."""
        if CHILDREN not in tree:
            return
        commits = [(self._revisions.commit(parent).tree, CommitId(parent)) for parent in raw.parents]
        for entry in self._trees.read(folder_in(tree, CHILDREN)).values():
            if not is_call_id(entry.name):
                raise damaged(f"{CHILDREN}/{one_line(entry.name)} has a name that no call can have")
            match = next((pair for pair in commits if pair[0] == entry.id), None)
            if match is None:
                raise damaged(f"{CHILDREN}/{entry.name} is not the tree of any parent commit")
            commits.remove(match)
            yield CallId(entry.name), match[1]

    def _file(self, tree: Mapping[str, Entry], name: str, weight: Weight) -> bytes:
        if name not in tree or not tree[name].is_file:
            raise damaged(f"{name} is missing, or not a file")
        data = self._objects.get(tree[name].id, "blob")
        weight.add(len(data))
        return data


def _some_at_once(found: Iterable[list[bytes]]) -> Iterator[list[bytes]]:
    """Files, in order, some at a time: of few bytes together, or a large one after them."""
    some, size = list[bytes](), 0
    for files in found:
        some += files
        size += sum(map(len, files))
        if size >= _AT_ONCE:
            yield some
            some, size = [], 0
    if some:
        yield some
