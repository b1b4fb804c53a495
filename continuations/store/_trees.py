"""Trees of continuations: laid out, and read back within bounds."""

import struct
from collections.abc import Iterator, Mapping, Sequence
from threading import Lock

import msgspec

from .._codec import Unreadable
from .._ids import TreeId
from .._state import Record
from ._errors import too_large, torn
from ._folders import HEADS, Folders
from ._format import FOLDER, Entry, Malformed, entry_bytes, read_tree, tree_bytes, tree_order
from ._kept import Kept
from ._layout import MESSAGES, RECORD, WIDTH, WORKSPACE, message_file, message_path
from ._objects import Batch, Objects
from ._revisions import MAX_COMMIT

MAX_MESSAGES = 262_144
"""The most messages that a loop can have: 64 times 4,096."""

MAX_STATE = 512 * 2**20
"""The most bytes that the files of a continuation can have, its children's included."""

MAX_NESTED = 5_000
"""The most live loops that can be nested in one, at all depths."""

MAX_DEPTH = 50
"""How deep loops can be nested: a deeper one could not be named."""

EMPTY = TreeId("4b825dc642cb6eb9a060e54bf8d69288fbee4904")
"""The tree of no files."""

_KEPT, _ENTRIES = 4096, 8192
"""Trees that are kept, and how many entries these may have together: one takes some 400 bytes."""

_LEAVES = tuple(message_path(number)[-1] for number in range(WIDTH))
_LEAF = struct.Struct(f"{len(HEADS[0])}s20s")


class Weight(msgspec.Struct, kw_only=True, eq=False, gc=False):
    """What a continuation takes, with all that is nested in it: checked while it is read, and before it is written."""

    messages: int = 0
    definition: int = 0
    size: int = 0
    nested: int = 0
    depth: int = 0

    def add(self, size: int) -> None:
        """One more file of so many bytes."""
        self.size += size
        if self.size > MAX_STATE:
            raise too_large("The continuation", f"more than {MAX_STATE:,} bytes", f"{MAX_STATE:,}")

    def nest(self, child: "Weight") -> None:
        """One more child."""
        self.add(child.size)
        self.nested += 1 + child.nested
        self.depth = max(self.depth, 1 + child.depth)
        if self.nested > MAX_NESTED:
            raise too_large("The continuation", f"more than {MAX_NESTED:,} nested loops", f"{MAX_NESTED:,}")
        if self.depth > MAX_DEPTH:
            raise too_large("The continuation", f"loops nested {self.depth} deep", f"{MAX_DEPTH}")


class Trees:
    """Reads and writes trees, and remembers so many that were used last. For any thread at any time."""

    def __init__(self, objects: Objects, *, kept: int = _KEPT) -> None:
        self._objects = objects
        self._kept = Kept[str, Mapping[str, Entry]](kept, _ENTRIES)
        self._turn = Lock()

    def read(self, name: str) -> Mapping[str, Entry]:
        """The entries of a tree, by name.

        Raises:
            Torn: it is not whole, or no tree.
        """
        if name == EMPTY:
            return {}  # to git it is there even where it is not
        known = self._known(name)
        if known is not None:
            return known
        try:
            entries = read_tree(self._bytes(name))
        except Malformed as error:
            raise torn(f"Tree {name}", "as it was written", str(error)) from error
        return self._remember(name, {entry.name: entry for entry in entries})

    def check(self, name: str) -> None:
        """Make sure that there is such a tree, and that it is whole; what it says is not looked at.

        Raises:
            Torn: it is not.
        """
        if name != EMPTY:
            self._bytes(name)

    def _bytes(self, name: str) -> bytes:
        return self._objects.get(name, "tree", limit=MAX_COMMIT)

    def _known(self, name: str) -> Mapping[str, Entry] | None:
        with self._turn:
            return self._kept.get(name)

    def write(self, batch: Batch, entries: Mapping[str, Entry]) -> str:
        """Add a tree to what is to be written, and say its id."""
        in_order = sorted(entries.values(), key=tree_order)
        name = batch.add("tree", b"".join(map(entry_bytes, in_order)))
        self._remember(name, {entry.name: entry for entry in in_order})
        return name

    def _remember(self, name: str, entries: Mapping[str, Entry]) -> Mapping[str, Entry]:
        with self._turn:
            self._kept.keep(name, entries, 1 + len(entries))
        return entries

    def messages(self, tree: str) -> Iterator[tuple[str, Sequence[bytes]]]:
        """The folders that hold messages, in order, each with the ids of these, in bytes: exactly those that the layout
        says, and so all but the last one are full.

        Raises:
            Unreadable: they are not.
            TooLarge: there are more than a loop can have.
        """
        number = 0
        for path, leaf in self._leaves(tree):
            above = f"{MESSAGES}/{'/'.join(path)}"
            blobs = self._blobs(leaf, above) if path == message_path(number)[:-1] else None
            if blobs is None or len(blobs) > WIDTH:
                raise damaged(f"{message_file(number)} is missing")
            number += len(blobs)
            if number > MAX_MESSAGES:
                raise too_large(f"{MESSAGES}/", "more messages than can be read", f"{MAX_MESSAGES:,}")
            yield leaf, blobs

    def _blobs(self, leaf: str, above: str) -> Sequence[bytes]:
        """The blobs in a folder of messages; the folder is not remembered, for it takes more memory than they do."""
        if leaf != EMPTY and self._known(leaf) is None:
            data = self._bytes(leaf)
            if len(data) % _LEAF.size == 0:
                heads, ids = zip(*_LEAF.iter_unpack(data), strict=True)
                if heads == HEADS[: len(heads)]:
                    return ids
        entries = self.read(leaf)
        for name, entry in zip(_LEAVES, entries.values(), strict=False):
            if entry.name != name or not entry.is_file:
                raise damaged(f"{above}/{name} is missing, or not a file")
        return [bytes.fromhex(entry.id) for entry in entries.values()]

    def folders(self, tree: str, messages: int) -> Folders:
        """The folders of so many messages, of which it is known that they are laid out as they must be."""
        names = message_path(messages - 1)[:-1] if messages else ()
        closed, inner = list[bytes](), tree
        for name in names:
            entries = self.read(inner)
            closed.append(tree_bytes(entry for entry in entries.values() if entry.name != name))
            inner = entries[name].id
        return Folders(tree, messages, names, (*closed, self._bytes(inner) if messages else b""))

    def _leaves(self, tree: str) -> Iterator[tuple[tuple[str, ...], str]]:
        """The folders that hold messages, with their paths, in their order."""
        for entry in self.read(tree).values():
            if entry.name != f"{WIDTH}":
                yield (entry.name,), _folder(entry, entry.name)
                continue
            for batch in self.read(_folder(entry, entry.name)).values():
                for inner in self.read(_folder(batch, entry.name, batch.name)).values():
                    path = (entry.name, batch.name, inner.name)
                    yield path, _folder(inner, *path)


def _folder(entry: Entry, *path: str) -> str:
    """The id of an entry that must be a folder, and not an empty one: it would be in the way of the next messages."""
    if not entry.is_folder or entry.id == EMPTY:
        raise damaged(f"{MESSAGES}/{'/'.join(path)} {'holds no message' if entry.is_folder else 'is not a folder'}")
    return entry.id


def check_workspace(record: Record, entry: Entry | None) -> None:
    """Whether the files beside a continuation are those that it says it has.

    Raises:
        Unreadable: they are not.
    """
    said = None if record.workspace is None else Entry(FOLDER, WORKSPACE, record.workspace.tree)
    if entry != said:
        raise damaged(f"{WORKSPACE}/ is not the files that {RECORD} says it is")


def damaged(what: str) -> Unreadable:
    """A tree that is no continuation's."""
    return Unreadable(
        f"The commit is damaged: {what}.", hint="'caesura repair' goes back to the loop's last good commit."
    )


def folder_in(tree: Mapping[str, Entry], name: str) -> str:
    """The id of a folder that a tree must have."""
    if name not in tree or not tree[name].is_folder:
        raise damaged(f"{name}/ is missing, or not a folder")
    return tree[name].id
