"""What waits: which branches of loops to look at to find all that waits for somebody, among any number of them.

Whether anything waits in a commit, or in what it nests, is a fact about the commit, and true for ever. Facts are kept
in a folder of the repository that can be deleted at will: a commit of which nothing is known is read. Besides, the
places in the list of packed refs of the branches that wait are kept, as long as the list is the same file: the others
need not even be looked at then.
"""

import zlib
from array import array
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from .._codec import decode_record
from .._errors import SavedStateError
from .._ids import BadName, LoopName, loop_name
from .._requests import asks
from . import _disk
from ._format import Malformed, read_commit, read_tree
from ._layout import CHILDREN, RECORD
from ._objects import MAX_OBJECT, Objects
from ._owner import mark
from ._packed import Identity, View
from ._refs import Refs
from ._trees import MAX_DEPTH, MAX_NESTED

FOLDER = "caesura.waiting"
"""The folder, in the repository's."""

_VERSION = b"caesura waiting 1\n"
_RECENT = 4096  # facts about commits that branches have left since, which are put up with
_OFTEN = 10_000  # facts after which what has been found out so far is kept
_FACT = 24  # bytes: a commit's id, whether it waits, and a checksum of both


Facts = dict[str, bool]
"""Whether anything waits in a commit, by the commit's id."""


class Waiting:
    """Finds the branches that wait."""

    def __init__(self, folder: Path, objects: Objects, refs: Refs, loops: str) -> None:
        self._folder, self._objects, self._refs, self._loops = folder / FOLDER, objects, refs, loops
        self._kept: tuple[View, list[int]] | None = None

    def close(self) -> None:
        """Let go of the list of packed refs."""
        self._kept = None

    def loops(self) -> Iterator[LoopName]:
        """The loops that the branches are of, in the order of their names."""
        start = len(self._loops)
        for ref in sorted(self.names()):
            try:
                yield loop_name(ref[start:])
            except BadName:
                continue  # somebody's own branch beside ours

    def names(self) -> set[str]:
        """The branches, by their full names, in whose commit something waits, or may, because it cannot be read."""
        own = self._refs.own(self._loops)  # first: what git packs in the meantime is in the list then
        view = self._refs.packed()
        found = {name for name, _ in self._listed(view) if name not in own}
        facts, learnt = self._facts("recent"), Facts()
        for name, head in own.items():
            if not isinstance(head, str) or self._waits(head, facts, learnt):
                found.add(name)
        if len(facts) + len(learnt) <= 2 * len(own) + _RECENT:
            self._learn("recent", learnt)
        else:
            heads = {head for head in own.values() if isinstance(head, str)}
            self._put("recent", _written(fact for fact in (facts | learnt).items() if fact[0] in heads))
        return found

    def follow(self, before: View, after: Identity, branches: Mapping[str, str]) -> None:
        """Whoever calls has put branches into the list, which was `before`, and is `after`: keep up with that."""
        known, view = self._places(before), self._refs.packed()
        if known is None or view.identity != after:
            return
        names = {entry[0] for entry in map(before.at, known) if entry is not None} - branches.keys()
        facts, learnt = self._facts("recent"), Facts()
        names.update(name for name, head in branches.items() if self._waits(head, facts, learnt))
        facts |= learnt
        self._learn("known", {head: facts[head] for head in branches.values() if head in facts})
        places = [view.locate(name) for name in names]
        self._keep(view, sorted(place for place in places if place is not None))

    # The list of packed refs ------------------------------------------------------------------------------------------

    def _listed(self, view: View) -> Iterator[tuple[str, str]]:
        places = self._places(view)
        entries = None if places is None else [view.at(place) for place in places]
        if entries is None or None in entries:
            entries = [view.at(place) for place in self._find(view)]
        return (entry for entry in entries if entry is not None)

    def _places(self, view: View) -> list[int] | None:
        """Where branches that wait stand in the list, if that is known of this one."""
        if self._kept is not None and self._kept[0] is view:
            return self._kept[1]
        try:
            with _disk.opened(self._folder / "listed") as file:
                data = file.readall()
        except OSError:
            return None
        told = _told(view)
        kept = data[len(told) : -4]
        if len(kept) % 8 or data != told + kept + _checksum(told + kept):
            return None
        places = array("Q", kept).tolist()
        self._kept = (view, places)
        return places

    def _find(self, view: View) -> list[int]:
        """Look at each branch in the list; those of whose commits nothing is known are read."""
        facts = self._facts("known") | self._facts("recent")
        learnt, listed, places = Facts(), Facts(), list[int]()
        for place, _, head in view.places(self._loops):
            if self._waits(head, facts, learnt):
                places.append(place)
            if head in facts:
                listed[head] = facts[head]
            if len(learnt) >= _OFTEN:
                self._learn("known", learnt)
                facts |= learnt
                listed |= learnt
                learnt.clear()
        self._put("known", _written((listed | learnt).items()))
        self._keep(view, places)
        return places

    def _keep(self, view: View, places: list[int]) -> None:
        data = _told(view) + array("Q", places).tobytes()
        self._kept = (view, places)
        self._put("listed", data + _checksum(data))

    # Facts about commits ----------------------------------------------------------------------------------------------

    def _waits(self, commit: str, facts: Facts, learnt: Facts) -> bool:
        known = facts.get(commit, learnt.get(commit))
        if known is None:
            try:
                known = learnt[commit] = self._read(read_commit(self._objects.get(commit, "commit")).tree, 0, [0])
            except (SavedStateError, Malformed):
                return True  # whoever looks at it is told why it cannot be read
        return known

    def _read(self, tree: str, above: int, seen: list[int]) -> bool:
        """Whether anything waits in a continuation, or in what it nests."""
        entries = {entry.name: entry for entry in read_tree(self._objects.get(tree, "tree"))}
        seen[0] += 1
        if RECORD not in entries or above > MAX_DEPTH or seen[0] > MAX_NESTED:
            raise Malformed("it holds no continuation, or too many")
        record = decode_record(self._objects.get(entries[RECORD].id, "blob", limit=MAX_OBJECT))
        if asks(record):
            return True
        if record.ending is not None or CHILDREN not in entries:
            return False
        nested = read_tree(self._objects.get(entries[CHILDREN].id, "tree"))
        return any(self._read(entry.id, above + 1, seen) for entry in nested)

    def _facts(self, name: str) -> Facts:
        """The facts in a file; what is not whole is none."""
        try:
            with _disk.opened(self._folder / name) as file:
                data = file.readall()
        except OSError:
            return Facts()
        found = Facts()
        for at in range(0, len(data) - _FACT + 1, _FACT):
            fact = data[at : at + _FACT]
            if _checked(fact[:21]) == fact:
                found[fact[:20].hex()] = fact[20] == 1
        return found

    def _learn(self, name: str, facts: Facts) -> None:
        """Add facts to those in a file; if they cannot be, they are found out again."""
        file = self._folder / name
        with suppress(OSError):
            self._make_folder()
            if facts and file.exists() and file.stat().st_size % _FACT:
                _disk.unlink(file)  # somebody died in the middle of one, and what follows would not be found
            if facts:
                _disk.append(file, _written(facts.items()))

    def _make_folder(self) -> None:
        with suppress(FileExistsError):
            _disk.make_folder(self._folder)

    def _put(self, name: str, data: bytes) -> None:
        """Put a file into its place, whole; if it cannot be, what it says is found out again."""
        new = self._folder / f"{name}.{mark()}"
        with suppress(OSError):
            self._make_folder()
            _disk.write(new, data)
            _disk.rename(new, self._folder / name)


def _told(view: View) -> bytes:
    """What stands before the places: which list they are of."""
    numbers = b"".join(number.to_bytes(8, "big", signed=True) for number in view.identity)
    return _VERSION + numbers + _checksum(view.samples())


def _written(facts: Iterable[tuple[str, bool]]) -> bytes:
    return b"".join(_checked(bytes.fromhex(commit) + bytes([waits])) for commit, waits in facts)


def _checked(fact: bytes) -> bytes:
    return fact + _checksum(fact)[:3]


def _checksum(data: bytes) -> bytes:
    return zlib.crc32(data).to_bytes(4, "big")
