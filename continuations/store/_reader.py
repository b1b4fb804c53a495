"""Commits read from the ground up: every object checked for being whole, well-formed and in its place.

What follows a commit shares most of its tree. Only what differs is read again, so that a long history is checked in
the time that its objects take, and in the memory of a few of its states.
"""

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, count
from typing import Protocol

from .._codec import Unreadable, decode_definition, decode_message, decode_record
from .._errors import SavedStateError
from .._ids import CallId, CommitId
from .._messages import Message
from .._specs import AgentSpec
from .._state import Child, Continuation, Record
from .._text import one_line
from .._workspace import LINK
from ._errors import Torn, too_large
from ._folder import MAX_FOLDERS, is_keepable
from ._format import Entry, Kind, Malformed, RawCommit
from ._fsck import Header, strict_commit, strict_tree
from ._layout import CHILDREN, DEFINITION, MESSAGES, RECORD, WIDTH, WORKSPACE, message_file, message_path
from ._mending import Reader
from ._protocol import Commit, NotALoop, Trace
from ._trees import MAX_DEPTH, MAX_MESSAGES, check_workspace, damaged

_KEPT = 64
"""Commits whose states are kept, for those that follow them or nest them."""


@dataclass(frozen=True)
class _Folder:
    """A folder of messages: its tree, the entries and what is in them."""

    tree: str
    entries: tuple[Entry, ...]
    messages: tuple[Message, ...]


@dataclass(frozen=True)
class _Read:
    """A commit that was read, and what those after it are likely to share with it."""

    commit: Commit
    folders: Mapping[int, _Folder]
    definition: tuple[str, AgentSpec]


class Source(Protocol):
    """Where objects come from."""

    def get(self, name: str, kind: Kind) -> bytes:
        """The bytes of an object of this kind; an error of the saved state, if it has none."""
        ...


class CheckedReader(Reader):
    """Reads the commits of a repository."""

    def __init__(self, objects: Source) -> None:
        self._objects = objects
        self._kept: OrderedDict[CommitId, _Read] = OrderedDict()
        self._headers: OrderedDict[str, Header] = OrderedDict()
        self._checked = set[str]()

    def trace(self, commit: CommitId) -> Trace:
        return trace(commit, self._header(commit))

    def read(self, commit: CommitId) -> Commit:
        return self._read(commit, 0).commit

    def _read(self, commit: CommitId, above: int) -> _Read:
        if commit in self._kept:
            self._kept.move_to_end(commit)
            return self._kept[commit]
        if above > MAX_DEPTH:
            raise too_large(f"Commit {commit}", f"loops nested more than {MAX_DEPTH} deep", f"{MAX_DEPTH}")
        raw = self._header(commit).raw
        try:
            found = self._load(commit, raw, above)
        except Torn:
            raise
        except SavedStateError as error:
            # The codec and the layout do not know which commit they were shown.
            raise type(error)(f"Commit {commit}: {error}", hint=error.hint) from error
        self._kept[commit] = found
        if len(self._kept) > _KEPT:
            self._kept.popitem(last=False)
        return found

    def _load(self, commit: CommitId, raw: RawCommit, above: int) -> _Read:
        base = self._kept.get(CommitId(raw.parents[0])) if raw.parents else None
        tree = {entry.name: entry for entry in self._tree(raw.tree)}
        if RECORD not in tree:
            raise NotALoop("it holds no continuation.", hint="Somebody put a commit of something else there.")
        strange = sorted(tree.keys() - {RECORD, DEFINITION, MESSAGES, CHILDREN, WORKSPACE})
        if strange:
            raise damaged(f"{strange[0]} is no part of a continuation")
        record = decode_record(self._file(tree, RECORD))
        check_workspace(record, tree.get(WORKSPACE))
        if record.workspace is not None:
            self._files(record.workspace.tree, WORKSPACE)
        blob = tree[DEFINITION].id if DEFINITION in tree else ""
        if base is not None and base.definition[0] == blob:
            definition = base.definition[1]
        else:
            definition = decode_definition(self._file(tree, DEFINITION))
        folders = self._messages(self._folder(tree, MESSAGES), {} if base is None else base.folders)
        state = Continuation(
            **{name: getattr(record, name) for name in Record.__struct_fields__},
            definition=definition,
            messages=tuple(chain.from_iterable(folder.messages for folder in folders.values())),
            children=self._children(self._folder(tree, CHILDREN), raw, above) if CHILDREN in tree else {},
        )
        parents = tuple(map(CommitId, raw.parents))
        found = Commit(id=commit, state=state, parents=parents, author=raw.author, message=raw.message)
        return _Read(found, folders, (blob, definition))

    # Messages ----------------------------------------------------------------------------------------------------

    def _messages(self, tree: str, known: Mapping[int, _Folder]) -> dict[int, _Folder]:
        """The folders that hold messages, by their first message's index; `known` is those of the commit before."""
        folders: dict[int, _Folder] = {}
        for first, (path, entry) in zip(count(0, WIDTH), self._leaves(tree), strict=False):
            last = folders.get(first - WIDTH)
            if path != message_path(first)[:-1] or (last is not None and len(last.messages) < WIDTH):
                raise damaged(f"{message_file(first)} is missing")
            if first > MAX_MESSAGES:
                raise too_large("The loop", "more messages than can be read", f"{MAX_MESSAGES:,}")
            before = known.get(first)
            same = before is not None and before.tree == entry.id
            folders[first] = before if before is not None and same else self._leaf(path, entry, before, first)
        return folders

    def _leaves(self, tree: str) -> Iterator[tuple[tuple[str, ...], Entry]]:
        """The folders that hold messages, with their paths, in the order of the messages."""
        for entry in self._tree(tree):
            self._expect(entry, (entry.name,), folder=True)
            if entry.name != f"{WIDTH}":
                yield (entry.name,), entry
                continue
            for batch in self._tree(entry.id):
                self._expect(batch, (entry.name, batch.name), folder=True)
                for inner in self._tree(batch.id):
                    path = (entry.name, batch.name, inner.name)
                    self._expect(inner, path, folder=True)
                    yield path, inner

    def _leaf(self, path: tuple[str, ...], entry: Entry, before: _Folder | None, first: int) -> _Folder:
        """A folder of messages; those at its beginning that are as they were `before` are not read again."""
        entries = self._tree(entry.id)
        messages: list[Message] = []
        for place, one in enumerate(entries):
            name = message_path(first + place)[-1]
            where = f"{MESSAGES}/{'/'.join((*path, name))}"
            if one.name != name or place >= WIDTH:
                raise damaged(f"{where} is missing")
            self._expect(one, (*path, name), folder=False)
            if before is not None and place < len(before.entries) and before.entries[place] == one:
                messages.append(before.messages[place])
            else:
                messages.append(decode_message(self._objects.get(one.id, "blob"), where))
        return _Folder(entry.id, entries, tuple(messages))

    @staticmethod
    def _expect(entry: Entry, path: tuple[str, ...], *, folder: bool) -> None:
        if not (entry.is_folder if folder else entry.is_file):
            raise damaged(f"{MESSAGES}/{'/'.join(path)} is not a {'folder' if folder else 'file'}")

    # Children ----------------------------------------------------------------------------------------------------

    def _children(self, tree: str, raw: RawCommit, above: int) -> dict[CallId, Child]:
        """The live children, each with its commit: the further parent that has the same tree."""
        commits = [(self._header(parent).raw.tree, CommitId(parent)) for parent in raw.parents]
        children: dict[CallId, Child] = {}
        for entry in self._tree(tree):
            match = next((pair for pair in commits if pair[0] == entry.id), None)
            if match is None or not entry.is_folder:
                raise damaged(f"{CHILDREN}/{entry.name} is not the tree of any parent commit")
            commits.remove(match)
            state = self._read(match[1], above + 1).commit.state
            children[CallId(entry.name)] = Child(commit=match[1], state=state)
        return children

    # Files -------------------------------------------------------------------------------------------------------

    def _files(self, tree: str, path: str) -> None:
        """Whether the files of a loop are all there; those that an earlier commit had are not read again."""
        if path.count("/") > MAX_FOLDERS:
            raise too_large(path, f"folders nested more than {MAX_FOLDERS} deep", f"{MAX_FOLDERS}")
        for entry in self._tree(tree):
            where = f"{path}/{entry.name}"
            if not is_keepable(entry.name) or not (entry.is_folder or entry.is_file or entry.mode == LINK):
                raise damaged(f"{one_line(where)} is no file, link or folder that a loop can have")
            if entry.id in self._checked:
                continue
            if entry.is_folder:
                self._files(entry.id, where)
            else:
                self._objects.get(entry.id, "blob")
            self._checked.add(entry.id)

    # Objects -----------------------------------------------------------------------------------------------------

    def _header(self, commit: str) -> Header:
        known = self._headers.get(commit)
        if known is not None:
            self._headers.move_to_end(commit)
            return known
        try:
            found = strict_commit(self._objects.get(commit, "commit"))
        except Malformed as error:
            raise _malformed(f"Commit {commit}", error) from None
        self._headers[commit] = found
        if len(self._headers) > _KEPT:
            self._headers.popitem(last=False)
        return found

    def _tree(self, tree: str) -> tuple[Entry, ...]:
        try:
            return strict_tree(self._objects.get(tree, "tree"))
        except Malformed as error:
            raise _malformed(f"Tree {tree}", error) from None

    def _file(self, tree: Mapping[str, Entry], name: str) -> bytes:
        if name not in tree or not tree[name].is_file:
            raise damaged(f"{name} is missing, or not a file")
        return self._objects.get(tree[name].id, "blob")

    def _folder(self, tree: Mapping[str, Entry], name: str) -> str:
        if name not in tree or not tree[name].is_folder:
            raise damaged(f"{name}/ is missing, or not a folder")
        return tree[name].id


def _malformed(what: str, error: Malformed) -> Unreadable:
    return Unreadable(f"{what} is not well-formed: {error}.", hint="Somebody made it by hand; fork what is before it.")


def trace(commit: str, header: Header) -> Trace:
    """What a commit says, as its header has it."""
    raw = header.raw
    parents = tuple(map(CommitId, raw.parents))
    return Trace(
        id=CommitId(commit),
        tree=raw.tree,
        parents=parents,
        author=raw.author,
        time=header.time,
        message=raw.message,
    )
