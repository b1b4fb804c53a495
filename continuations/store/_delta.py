"""Deltas: an object told as what it takes over from another one, as packs hold them."""

import re
from collections.abc import Iterator, Set
from functools import lru_cache

from ._packing import ID_DELTA, deflated, head

DEPTH = 50
"""How many deltas there may be between an object and one that stands whole: as many as git makes itself."""

_SMALL = 64  # bytes: no delta of less is worth it
_INSERTED = 127  # bytes that one instruction can insert
_COPIED = 0xFFFFFF
_SAME = 8  # bytes in a row: no fewer are copied
_LONG = 16  # bytes in a row: fewer may be the same by chance, as what stands before each id in a folder
_NEW = 24  # bytes in a row: among no fewer a line of the other object is looked for
_REPLACED = 96  # bytes in a row, if they stand in the place of as many: fewer are mostly ids, which are new
_STRETCH = 4096  # bytes that are compared after such a line
_SEARCHED = 1 << 16  # bytes; in more than that only what is the same at both ends is looked for

_ZEROS = re.compile(b"\x00" * _SAME + b"\x00*")  # what begins with a text is found in a fraction of a count's time
_Run = tuple[int, int, int]
"""Bytes of the target that are in the base, too: where they begin and end, and how much further on they are there."""


def delta(base: bytes, target: bytes) -> bytes:
    """What makes `target` of `base`. It may be longer than `target` itself."""
    made = [_number(len(base)), _number(len(target))]
    at = 0
    for start, end, further in _same(base, target):
        if at < start:
            _insert(made, target[at:start])
        made.append(_copied(start + further, end - start))
        at = end
    _insert(made, target[at:])
    return b"".join(made)


def as_delta(name: bytes, base: bytes, target: bytes) -> bytes | None:
    """An object as it stands in a pack that tells it as a delta of the object of that name, if it is worth it."""
    if len(target) < _SMALL:
        return None
    made = delta(base, target)
    if 4 * (len(name) + len(made)) > 3 * len(target):
        return None
    return head(ID_DELTA, len(made)) + name + deflated(made)


def _same(base: bytes, target: bytes) -> list[_Run]:
    """What of the target is in the base, in its order: versions of a thing differ in few places."""
    ours, theirs = len(target), len(base)
    if base.startswith(target):
        return [(0, ours, 0)]
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
    differs = int.from_bytes(base[there : there + size]) ^ int.from_bytes(target[at : at + size])
    further, found = there - at, _ZEROS.finditer(differs.to_bytes(size))
    return [(at + zeros.start(), at + zeros.end(), further) for zeros in found]


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
def _number(number: int) -> bytes:
    made = bytearray()
    while number > 0x7F:
        made.append(number & 0x7F | 0x80)
        number >>= 7
    made.append(number)
    return bytes(made)
