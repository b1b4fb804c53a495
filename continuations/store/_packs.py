"""Packs, read with bounds, whoever made them."""

import hashlib
import mmap
import struct
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from .._errors import CaesuraError
from .._ids import header
from . import _disk
from ._deflate import inflate_all
from ._errors import Torn, too_large, torn
from ._format import NUMBERS, Kind
from ._kept import Kept
from ._packing import ID_DELTA, OFFSET_DELTA, head
from ._refused import or_refused, unread

_KINDS: dict[int, Kind] = {number: kind for kind, number in NUMBERS.items()}
_BLOB = NUMBERS["blob"]
_FANOUT = 8 + 256 * 4
_CHAIN = 4096  # as git's own limit on the deltas between an object and its base
_WORK = 64  # times the limit: what may be made on the way to one object
_BASES, _BASE = 4 * 2**20, 2**20  # bytes of objects that are kept, as deltas take over from them; of one at most
_EACH = 300  # bytes that each of them takes besides
_PLACE = struct.Struct(">I").unpack_from
_NEAR = 64  # objects among which one is looked for byte by byte
_SMALL = 2**15  # bytes of a blob that is read together with others
_LONGER = 64  # bytes by which it may be longer than that, deflated: whoever deflates keeps what would be as it is


class Bases(Kept[tuple["Pack", int], tuple[Kind, bytes]]):
    """What deltas in some packs take over from, by its places: of what was made of some, what was used last."""

    def __init__(self) -> None:
        super().__init__(_BASES // _EACH, _BASES)


class Pack:
    """One pack and its index."""

    def __init__(self, index: Path, bases: Bases | None = None) -> None:
        """Open it; `bases` are those that it has in common with other packs.

        Raises:
            Torn: it is no pack, is cut short, or its index is another's.
            OSError: it is gone.
        """
        self.index, self.file = index, index.with_suffix(".pack")
        self._index, self._data = _mapped(index), _mapped(self.file)
        self._bases = Bases() if bases is None else bases
        if self._index[:8] != b"\xfftOc\x00\x00\x00\x02" or len(self._index) < _FANOUT + 40:
            raise torn("A pack's index", index, "it is not an index of version 2; 'git repack -ad' makes a new one")
        self._fanout: tuple[int, ...] = struct.unpack(">256I", self._index[8:_FANOUT])
        self._count = self._fanout[255]
        self._large = _FANOUT + self._count * 28
        if list(self._fanout) != sorted(self._fanout) or len(self._index) < self._large + 40:
            raise torn("A pack's index", index, "it is cut short; 'git index-pack' makes a new one")
        if self._data[:4] != b"PACK" or len(self._data) < 32 or self._data[-20:] != self._index[-40:-20]:
            raise torn("A pack", self.file, "it is cut short, or not the one that its index is of")

    def close(self) -> None:
        self._index.close()
        self._data.close()

    def ids(self, prefix: str = "") -> Iterator[str]:
        """The objects in it whose ids begin so, in order."""
        for at in range(bisect_left(_Ids(self._index, self._count), bytes.fromhex(f"{prefix:0<40}")), self._count):
            found = self._id(at).hex()
            if not found.startswith(prefix):
                return
            yield found

    def _id(self, number: int) -> bytes:
        return self._index[_FANOUT + number * 20 : _FANOUT + number * 20 + 20]

    def entries(self) -> dict[bytes, tuple[int, int]]:
        """Where each object stands, and where the next thing does, in the order of the pack; by id."""
        places = sorted((self._offset_of(number), self._id(number)) for number in range(self._count))
        ends = [*(place for place, _ in places[1:]), len(self._data) - 20]
        return {name: (place, end) for (place, name), end in zip(places, ends, strict=True)}

    def entry(self, start: int, end: int, names: Mapping[int, bytes]) -> bytes:
        """An object as it stands in the pack, its base named by its id; `names` has the ids by their places.

        Raises:
            Torn: it does not stand there.
        """
        try:
            number, size, at = self._head(start)
            if number in _KINDS:
                return self._data[start:end]
            base, at = self._base(number, start, at)
            return head(ID_DELTA, size) + names[base] + self._data[at:end]
        except (KeyError, IndexError, ValueError) as error:
            raise torn("A pack", self.file, str(error)) from error

    def kind(self, start: int) -> Kind | None:
        """The kind of the object that stands there, or None if it is told as a delta."""
        return _KINDS.get(self._data[start] >> 4 & 7)

    def offset(self, name: bytes) -> int | None:
        """Where an object is, by its id in bytes."""
        low, high = self._fanout[name[0] - 1] if name[0] else 0, self._fanout[name[0]]
        while high - low > _NEAR:
            middle = (low + high) // 2
            if self._id(middle) <= name:
                low = middle
            else:
                high = middle
        start, end = _FANOUT + low * 20, _FANOUT + high * 20
        at = self._index.find(name, start, end)
        while at >= 0 and (at - start) % 20:  # what it is found in is two others' ids
            at = self._index.find(name, at + 1, end)
        return None if at < 0 else self._offset_of(low + (at - start) // 20)

    def _offset_of(self, number: int) -> int:
        at = _FANOUT + self._count * 24 + number * 4
        found: int = _PLACE(self._index, at)[0]
        if found & 0x80000000:
            at = self._large + (found & 0x7FFFFFFF) * 8
            found = int.from_bytes(self._index[at : at + 8].ljust(8, b"\xff"), "big")
        return found

    def read(self, name: bytes, limit: int) -> tuple[Kind, bytes] | None:
        """An object, or None if it is not in here.

        Raises:
            Torn: it is in here, and not whole.
            TooLarge: it, or what it is a delta of, has more than `limit` bytes.
        """
        offset = self.offset(name)
        if offset is None:
            return None
        try:
            kind, data = self._object(offset, limit, name)
        except (struct.error, IndexError, ValueError) as error:
            raise torn(f"Object {name.hex()}", self.file, str(error)) from error
        if hashlib.sha1(header(kind, len(data)) + data, usedforsecurity=False).digest() != name:
            raise torn(f"Object {name.hex()}", self.file, "its content is another's")
        return kind, data

    def blobs(self, names: Sequence[bytes]) -> list[bytes]:
        """The first of some blobs, as far as they stand in it whole, and are small; of the next one, `read` tells more.

        One thing is done for all of them before the next one is: so it takes less time. For any thread: it keeps
        nothing, and a pack that is closed meanwhile has them no more.
        """
        places, found = list[tuple[int, int]](), list[bytes]()
        with suppress(IndexError, ValueError):
            for name in names:
                offset = self.offset(name)
                if offset is None:
                    break
                number, size, at = self._head(offset)
                if number != _BLOB or size > _SMALL:
                    break
                places.append((at, size))
        with suppress(ValueError):
            for at, size in places:
                found.append(inflate_all(self._data[at : at + size + _LONGER], size))
        for place, (name, data) in enumerate(zip(names, found, strict=False)):
            digest = hashlib.sha1(b"blob %d\x00" % len(data), usedforsecurity=False)
            digest.update(data)  # after the header, and not together with it: that would be a copy
            if digest.digest() != name:
                return found[:place]
        return found

    def _object(self, offset: int, limit: int, name: bytes) -> tuple[Kind, bytes]:
        deltas: list[tuple[int, bytes]] = []
        while True:
            known = self._bases.get((self, offset))
            if known is not None:
                kind, data = known
                break
            number, size, at = self._head(offset)
            if size > limit:
                raise too_large(f"Object {name.hex()}", f"{size:,} bytes", f"{limit:,}")
            if number in _KINDS:
                kind, data = _KINDS[number], self._inflate(at, size)
                break
            base, at = self._base(number, offset, at)
            deltas.append((offset, self._inflate(at, size)))
            if len(deltas) > _CHAIN:
                raise ValueError("it is a delta of deltas without end")
            offset = base
        if deltas:  # else nothing was made of it, and it is for others to remember
            self._keep(offset, kind, data)
        made = 0
        for place, delta in reversed(deltas):
            data = applied(data, delta, limit, name)
            made += len(data)
            if made > _WORK * limit:
                raise ValueError("it is a delta of too many large deltas")
            self._keep(place, kind, data)
        return kind, data

    def _head(self, offset: int) -> tuple[int, int, int]:
        """The kind, the size and the place of what follows, at an offset."""
        data = self._data
        if not 12 <= offset < len(data) - 20:
            raise ValueError("its place is outside of the pack")
        byte = data[offset]
        number, size, shift = byte >> 4 & 7, byte & 15, 4
        while byte & 0x80:
            offset += 1
            byte = data[offset]
            size |= (byte & 0x7F) << shift
            shift += 7
            if shift > 63:
                raise ValueError("its size makes no sense")
        return number, size, offset + 1

    def _base(self, number: int, offset: int, at: int) -> tuple[int, int]:
        """Where the base of a delta is, and where the delta itself begins."""
        if number == ID_DELTA:
            found = self.offset(self._data[at : at + 20])
            if found is None:
                raise ValueError("the object that it is a delta of is missing")
            return found, at + 20
        if number != OFFSET_DELTA:
            raise ValueError(f"it is of an unknown kind, {number}")
        byte = self._data[at]
        back = byte & 0x7F
        while byte & 0x80:
            at += 1
            byte = self._data[at]
            back = (back + 1) << 7 | byte & 0x7F
            if back > offset:
                break
        if not 0 < back < offset:
            raise ValueError("the object that it is a delta of is outside of the pack")
        return offset - back, at + 1

    def _inflate(self, at: int, size: int) -> bytes:
        return inflate_all(self._data[at : at + deflated_at_most(size)], size)

    def _keep(self, offset: int, kind: Kind, data: bytes) -> None:
        if len(data) <= _BASE:
            self._bases.keep((self, offset), (kind, data), len(data) + _EACH)


class Packs:
    """The packs of a folder of objects; which there are is looked up once, and again when one seems to be missing."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "pack"
        self._there: set[Path] = set()
        self._open: dict[Path, Pack] = {}
        self._bases = Bases()
        self._all: tuple[Pack, ...] | None = None
        self._faults: dict[Path, CaesuraError] = {}

    def __iter__(self) -> Iterator[Pack]:
        if self._all is None:
            self.refresh()
        return iter(self._all or ())

    @property
    def faults(self) -> tuple[CaesuraError, ...]:
        """What is wrong with those that cannot be used."""
        return tuple(self._faults.values())

    def refresh(self) -> bool:
        """See which packs there are now; whether they are others than at the last look.

        If they are, one of them may have gone again before it was opened, and another come in its place.
        """
        there = set[Path]()
        with or_refused("The packs could not be read"), suppress(FileNotFoundError, NotADirectoryError):
            there.update(file for file in self._folder.iterdir() if file.name.endswith(".idx"))
        others, self._there = there != self._there, there
        for index in self._open.keys() - there:
            self._open.pop(index).close()
            self._bases.clear()
        self._faults = {index: fault for index, fault in self._faults.items() if index in there}
        for index in sorted(there - self._open.keys()):
            self._faults.pop(index, None)
            try:
                self._open[index] = Pack(index, self._bases)
            except FileNotFoundError:
                pass  # it went while we looked
            except Torn as fault:
                self._faults[index] = fault
            except OSError as error:
                self._faults[index] = unread("A pack", index, error)
        self._all = tuple(self._open.values())
        return others

    def close(self) -> None:
        """Let go of the files."""
        for pack in self._open.values():
            pack.close()
        self._open.clear()
        self._bases.clear()
        self._all = None


class _Ids:
    """The ids of an index, as a sequence."""

    def __init__(self, index: mmap.mmap, count: int) -> None:
        self._index, self._count = index, count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, number: int) -> bytes:
        return self._index[_FANOUT + number * 20 : _FANOUT + number * 20 + 20]


def deflated_at_most(size: int) -> int:
    """How many bytes an object and its header can have in a file: what deflates worst grows by less than this."""
    return size + size // 7 + 200


def applied(base: bytes, delta: bytes, limit: int, name: bytes) -> bytes:
    """What a delta makes of its base."""
    size, at = _number(delta, 0)
    target, at = _number(delta, at)
    if size != len(base):
        raise ValueError("it is a delta of something else")
    if target > limit:
        raise too_large(f"Object {name.hex()}", f"{target:,} bytes", f"{limit:,}")
    parts: list[bytes] = []
    made = 0
    while at < len(delta):
        byte = delta[at]
        at += 1
        if byte & 0x80:
            start = length = 0
            for bit in range(7):
                if byte >> bit & 1:
                    if bit < 4:
                        start |= delta[at] << 8 * bit
                    else:
                        length |= delta[at] << 8 * (bit - 4)
                    at += 1
            part = base[start : start + (length or 0x10000)]
            if len(part) != (length or 0x10000):
                raise ValueError("its delta copies what is not there")
        elif byte:
            part = delta[at : at + byte]
            at += byte
        else:
            raise ValueError("its delta holds an unknown instruction")
        parts.append(part)
        made += len(part)
        if made > target:
            break
    if made != target:
        raise ValueError("its delta makes something of another size")
    return b"".join(parts)


def _number(data: bytes, at: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        byte = data[at]
        at += 1
        number |= (byte & 0x7F) << shift
        shift += 7
        if not byte & 0x80:
            return number, at
        if shift > 63:
            raise ValueError("its delta's size makes no sense")


def _mapped(path: Path) -> mmap.mmap:
    with _disk.opened(path) as file:
        try:
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except ValueError as error:  # of no length
            raise torn("A pack", path, str(error)) from error
