"""Deltas: an object told as what it takes over from another one, as packs hold them."""

import re
from collections.abc import Callable, Iterator, Set
from functools import lru_cache
from operator import itemgetter

import msgspec

from ._packing import ID_DELTA, deflated, head, stored

DEPTH = 50
"""How many deltas there may be between an object and one that stands whole: as many as git makes itself."""

_SMALL = 64  # bytes: no delta of less is worth it
_SHORT = 128  # bytes: a delta of less is ids, most of it, and gets smaller by a seventh at best
_INSERTED = 127  # bytes that one instruction can insert
_COPIED = 0xFFFFFF
_SAME = 8  # bytes in a row: no fewer are copied
_LONG = 16  # bytes in a row: fewer may be the same by chance, as what stands before each id in a folder
_NEW = 24  # bytes in a row: among no fewer a line of the other object is looked for
_REPLACED = 96  # bytes in a row, if they stand in the place of as many: fewer are mostly ids, which are new
_STRETCH = 4096  # bytes that are compared after such a line
_SEARCHED = 1 << 16  # bytes; in more than that only what is the same at both ends is looked for

# What begins with a text is found in a fraction of a count's time.
_zeros = re.compile(b"\x00" * _SAME + b"\x00*").finditer
_integer = int.from_bytes
_HOLE = b"%b"
_AGAIN = 16
"""After how many versions their places are looked for again: fewer may differ by then."""

_Run = tuple[int, int, int]
"""Bytes of the target that are in the base, too: where they begin and end, and how much further on they are there."""


class _Places(msgspec.Struct, eq=False):
    """The places in which two versions of a thing differed that are of one size.

    `same` is what a version has outside of them, `new` what it has there, and `told` a delta but for that. So many
    versions are `left` that are told by them.
    """

    same: Callable[[bytes], object]
    new: Callable[[bytes], object]
    told: bytes
    left: int


class Deltas:
    """Makes deltas, one after the other: a version differs mostly where those before it did that were as long."""

    def __init__(self) -> None:
        self._places: dict[int, _Places] = {}

    def delta(self, base: bytes, target: bytes) -> bytes:
        """What makes `target` of `base`. It may be longer than `target` itself."""
        size = len(target)
        if base.startswith(target):
            return _sizes(len(base), size) + _copied(0, size)
        if len(base) != size:
            return _of_any(base, target)
        places = self._places.get(size)
        if places is None or not places.left or places.same(base) != places.same(target):
            places = _places(base, target, size)
            if places is None:
                return _of_any(base, target)
            self._places[size] = places
        places.left -= 1
        return places.told % places.new(target)

    def entry(self, name: bytes, base: bytes, target: bytes) -> bytes | None:
        """An object as it stands in a pack that tells it as a delta of the object of that name, if it is worth it."""
        whole = len(target)
        if whole < _SMALL:
            return None
        made = self.delta(base, target)
        size = len(made)
        if 4 * (len(name) + size) > 3 * whole:
            return None
        return head(ID_DELTA, size) + name + (stored(made) if size < _SHORT else deflated(made))


def _places(base: bytes, target: bytes, size: int) -> _Places | None:
    """Where two versions of a size differ; None if not in short places alone."""
    if size > _SEARCHED:
        return None
    same, new, told = list[slice](), list[slice](), [_sizes(size, size)]
    at = long = 0
    for start, end in (*(zeros.span() for zeros in _zeros(_differing(base, target, size))), (size, size)):
        if start - long >= _REPLACED:  # what has come in the place of so much may stand elsewhere in the base
            return None
        if at < start:
            new.append(slice(at, start))
            told += bytes((start - at,)), _HOLE
        if start < end:
            same.append(slice(start, end))
            told.append(_copied(start, end - start))
        at = end
        if end - start >= _LONG:
            long = end
    form = b"".join([part if part is _HOLE else part.replace(b"%", b"%%") for part in told])
    return _Places(itemgetter(*same), itemgetter(*new), form, _AGAIN) if same else None


def _of_any(base: bytes, target: bytes) -> bytes:
    made = [_sizes(len(base), len(target))]
    at = 0
    for start, end, further in _same(base, target):
        if at < start:
            _insert(made, target[at:start])
        made.append(_copied(start + further, end - start))
        at = end
    _insert(made, target[at:])
    return b"".join(made)


def _same(base: bytes, target: bytes) -> list[_Run]:
    """What of the target is in the base, in its order: versions of a thing differ in few places."""
    ours, theirs = len(target), len(base)
    if max(ours, theirs) > _SEARCHED:
        first = _common(base, target)
        last = min(_common(base[::-1], target[::-1]), theirs - first, ours - first)
        return [(0, first, 0), (ours - last, ours, theirs - ours)]
    size = min(ours, theirs)
    runs = _side_by_side(base, target, 0, 0, size)
    if ours != theirs:
        runs += _side_by_side(base, target, theirs - size, ours - size, size)
        runs.sort()
    # Thousands of times in a row: to call list[_Run] takes longer than one round of these loops.
    found: list[_Run] = []
    same: list[_Run] = []
    lines: Set[bytes] = frozenset()
    at = shift = 0
    mark = b"\x00" if b"\x00" in target else b"\n"
    for start, end, further in (*runs, (ours, ours, theirs - ours)):
        if end - start >= _LONG or start == ours:  # what lies between two long runs may stand elsewhere in the base
            if start - at >= (_REPLACED if further == shift else _NEW) and target.find(mark, at, start) >= 0:
                lines = lines or frozenset(base.split(mark))
                found += _from_lines(base, target, at, start, lines, mark)
            at, shift = max(at, end), further
    at = 0
    for start, end, further in sorted(runs + found) if found else runs:
        start = max(start, at)
        if end - start >= _SAME:
            same.append((start, end, further))
            at = end
    return same


def _side_by_side(base: bytes, target: bytes, there: int, at: int, size: int) -> list[_Run]:
    """What is the same in so many bytes that begin at a place of each."""
    differs, further = _differing(base[there : there + size], target[at : at + size], size), there - at
    return [(at + start, at + end, further) for start, end in (zeros.span() for zeros in _zeros(differs))]


def _differing(base: bytes, target: bytes, size: int) -> bytes:
    """Of two texts of a size: zeros where they are the same."""
    return (_integer(base) ^ _integer(target)).to_bytes(size)


def _from_lines(base: bytes, target: bytes, at: int, end: int, lines: Set[bytes], mark: bytes) -> Iterator[_Run]:
    """Lines in a part of the target that are lines of the base, with what is the same after them."""
    told = at
    for line in target[at:end].split(mark):
        if at >= told and len(line) >= _SAME and line in lines:
            there, told = base.find(line), at
            for run in _side_by_side(base, target, there, at, min(end - at, len(base) - there, _STRETCH)):
                if run[1] - run[0] < _LONG and told > at:
                    break
                yield run
                told = run[1]
        at += len(line) + 1


def _common(one: bytes, other: bytes) -> int:
    """How many bytes at the beginning are the same."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


@lru_cache(1024)  # versions of a thing differ in the same places
def _copied(start: int, size: int) -> bytes:
    made = bytearray()
    while size:
        part = min(size, _COPIED)
        at, what, bit = len(made), start | part << 32, 1
        made.append(0x80)
        while what:  # what is zero is left out
            if what & 0xFF:
                made[at] |= bit
                made.append(what & 0xFF)
            what, bit = what >> 8, bit << 1
        start, size = start + part, size - part
    return bytes(made)


def _insert(made: list[bytes], data: bytes) -> None:
    for at in range(0, len(data), _INSERTED):
        part = data[at : at + _INSERTED]
        made += bytes((len(part),)), part


@lru_cache(1024)
def _sizes(base: int, target: int) -> bytes:
    return _number(base) + _number(target)


def _number(number: int) -> bytes:
    made = bytearray()
    while number > 0x7F:
        made.append(number & 0x7F | 0x80)
        number >>= 7
    made.append(number)
    return bytes(made)
