"""Repacking: objects with files of their own, and small packs, become one pack of deltas.

Of two versions of a file the newer one stands whole, and the older one as what it takes over from that: the older is a
part of the newer more often than not, and the newest is what is read. What a branch reaches is packed, and all that
comes before it first, so that an object in a pack has all that it needs in packs. Nothing is taken away before the new
pack was synced and each object in it read back.
"""

from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from .._codec import Unreadable
from . import _disk
from ._delta import DEPTH, Deltas
from ._format import Entry, Kind, Malformed, RawCommit, read_commit, read_tree
from ._objects import MAX_OBJECT, Objects
from ._packing import keeper, packed, write_pack
from ._packs import Pack
from ._trees import MAX_DEPTH

_HELD = 16 * 2**20
_TREES = 512
_NESTED = 4 * MAX_DEPTH  # no continuation has more folders within folders

Breathe = Callable[[], None]
"""Called between two small pieces of work; what it raises ends the work, and all is as if it had not begun."""


class NotWhole(Exception):
    """Entries that were to be copied are damaged: the ids of their objects."""

    def __init__(self, names: Collection[str]) -> None:
        super().__init__(names)
        self.names = names


class Repacking:
    """Puts objects of one repository into a pack."""

    def __init__(self, objects: Objects, folder: Path, breathe: Breathe = lambda: None) -> None:
        self._objects, self._folder, self.breathe = objects, folder, breathe
        self._trees: OrderedDict[str, dict[str, Entry]] = OrderedDict()
        self._data: OrderedDict[str, tuple[Kind, bytes]] = OrderedDict()
        self._held = 0

    # Which ----------------------------------------------------------------------------------------------------------

    def lines(self, heads: Iterable[str], among: Collection[str]) -> list[str]:
        """The commits `among` those that `heads` reach through such commits alone, each after its parents."""
        found: dict[str, None] = {}
        seen: set[str] = set()
        for top in heads:
            stack = [(top, iter(self._parents(top, among, seen)))]
            while stack:
                commit, parents = stack[-1]
                parent = next(parents, None)
                if parent is not None:
                    stack.append((parent, iter(self._parents(parent, among, seen))))
                    continue
                stack.pop()
                if commit in seen:
                    found.setdefault(commit)
        return list(found)

    def _parents(self, commit: str, among: Collection[str], seen: set[str]) -> tuple[str, ...]:
        if commit in seen or commit not in among:
            return ()
        self.breathe()
        with suppress(Unreadable, Malformed):
            raw = self._commit(commit)
            seen.add(commit)
            return raw.parents
        return ()

    def layout(self, commits: Iterable[str], among: Collection[str]) -> dict[str, str | None]:
        """What commits, the newest first, add to those before them, in the order in which it is to be packed.

        Each object comes with the one to try a delta of.
        """
        order: dict[str, None] = {}
        bases: dict[str, str] = {}

        def put(name: str, older: str | None) -> bool:
            if older is not None:
                bases.setdefault(older, name)
            if name not in among or name in order:
                return False
            order[name] = None
            return True

        def walk(newer: str, older: str | None, above: int = 0) -> None:
            self.breathe()
            if newer == older or not put(newer, older) or above > _NESTED:
                return
            known = {} if older is None else self._tree(older)
            for entry in self._tree(newer).values():
                before = known.get(entry.name)
                if before is not None and before.mode != entry.mode:
                    before = None
                if before is not None and before.id == entry.id:
                    continue
                other = None if before is None else before.id
                if entry.is_folder:
                    walk(entry.id, other, above + 1)
                elif entry.is_file:
                    put(entry.id, other)

        for commit in commits:
            with suppress(Unreadable, Malformed):
                raw = self._commit(commit)
                first = raw.parents[0] if raw.parents else None
                put(commit, first)
                walk(raw.tree, None if first is None else self._tree_of(first))
        return {name: bases.get(name) for name in order}

    def _tree_of(self, commit: str) -> str | None:
        try:
            return self._commit(commit).tree
        except (Unreadable, Malformed):
            return None

    def _commit(self, name: str) -> RawCommit:
        return read_commit(self._content(name, "commit"))

    def _tree(self, name: str) -> dict[str, Entry]:
        known = self._trees.get(name)
        if known is None:
            with suppress(Unreadable, Malformed):
                known = {entry.name: entry for entry in read_tree(self._content(name, "tree"))}
            known = self._trees[name] = known or {}
            if len(self._trees) > _TREES:
                self._trees.popitem(last=False)
        return known

    # Packing -------------------------------------------------------------------------------------------------------

    def pack(
        self, layout: Mapping[str, str | None], ready: Mapping[bytes, Callable[[], bytes]] | None = None
    ) -> Pack | None:
        """Make a pack of objects; synced, and each object read back. None if there is nothing to pack.

        It has a `keeper`, for the caller to take away once the files that it stands for are gone. What is not whole is
        left out, unless the pack is to stand for other packs, with entries that are `ready` to be copied from them.

        Raises:
            OSError: the disk is full, or may not be written. There is no such pack then.
            NotWhole: something is damaged in what the pack is to stand for. That is as it was.
        """
        whole = {name: base for name, base in layout.items() if self._is_whole(name)}
        if ready is None:
            ready = {}
        elif len(whole) < len(layout):
            raise NotWhole(layout.keys() - whole.keys())
        if not whole and not ready:
            return None

        def entries() -> Iterator[tuple[bytes, bytes]]:
            for name, entry in ready.items():
                self.breathe()
                yield name, entry()
            yield from self._entries(whole)

        file = write_pack(self._folder, len(ready) + len(whole), entries(), stands_for_others=True)
        made = Pack(file.with_suffix(".idx"))
        # In the order of the pack, in which what a delta takes over from comes before it.
        torn = {name.hex() for name in made.entries() if not self._is_read(made, name)}
        if torn:
            made.close()
            _disk.unlink(made.index)
            _disk.unlink(made.file)
            _disk.unlink(keeper(made.file))
            raise NotWhole(torn)
        return made

    def _is_read(self, pack: Pack, name: bytes) -> bool:
        self.breathe()
        try:
            return pack.read(name, MAX_OBJECT) is not None
        except Unreadable:
            return False

    def _is_whole(self, name: str) -> bool:
        self.breathe()
        try:
            self._read(name)
        except Unreadable:
            return False
        return True

    def _entries(self, layout: Mapping[str, str | None]) -> Iterator[tuple[bytes, bytes]]:
        depths: dict[str, int] = {}
        deltas = Deltas()
        for name, base in layout.items():
            self.breathe()
            kind, data = self._read(name)
            entry = None
            if base is not None and depths.get(base, DEPTH) < DEPTH:
                entry = deltas.entry(bytes.fromhex(base), self._read(base)[1], data)
            depths[name] = 0 if entry is None or base is None else depths[base] + 1
            yield bytes.fromhex(name), entry or packed(kind, data)

    def _content(self, name: str, kind: Kind) -> bytes:
        found, data = self._read(name)
        if found != kind:
            raise Malformed(f"it is a {found}")
        return data

    def _read(self, name: str) -> tuple[Kind, bytes]:
        known = self._data.get(name)
        if known is not None:
            self._data.move_to_end(name)
            return known
        kind, data = self._data[name] = self._objects.read(name)
        self._held += len(data)
        while self._held > _HELD:
            self._held -= len(self._data.popitem(last=False)[1][1])
        return kind, data
