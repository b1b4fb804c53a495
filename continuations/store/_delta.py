"""Deltas: an object told as what it takes over from another one, as packs hold them."""

from ._deflate import deflate
from ._packing import ID_DELTA, head

DEPTH = 50
"""How many deltas there may be between an object and one that stands whole: as many as git makes itself."""

_SMALL = 64  # bytes: no delta of less is worth it
_INSERTED = 127  # bytes that one instruction can insert
_COPIED = 0xFFFFFF
_BLOCK = 16  # bytes that are looked for in the other object
_STRIDE = 8
_SEARCHED = 1 << 16  # bytes; in more than that only what is the same at both ends is looked for


def delta(base: bytes, target: bytes) -> bytes:
    """What makes `target` of `base`. It may be longer than `target` itself."""
    made = bytearray(_number(len(base)) + _number(len(target)))
    first = _common(base, target)
    last = min(_common(base[::-1], target[::-1]), len(base) - first, len(target) - first)
    _copy(made, 0, first)
    _between(made, base, target, first, last)
    _copy(made, len(base) - last, last)
    return bytes(made)


def as_delta(name: bytes, base: bytes, target: bytes) -> bytes | None:
    """An object as it stands in a pack that tells it as a delta of the object of that name, if it is worth it."""
    if len(target) < _SMALL:
        return None
    made = delta(base, target)
    if 4 * (len(name) + len(made)) > 3 * len(target):
        return None
    return head(ID_DELTA, len(made)) + name + deflate(made)


def _between(made: bytearray, base: bytes, target: bytes, first: int, last: int) -> None:
    """What is not the same at both ends: blocks of the base where there are any, and what is new."""
    end, stop = len(target) - last, len(base) - last
    blocks: dict[bytes, int] = {}
    if end - first >= _BLOCK and max(end, stop) - first <= _SEARCHED:
        blocks = {base[at : at + _BLOCK]: at for at in range(first, stop - _BLOCK + 1, _STRIDE)}
    at = new = first
    while blocks and at + _BLOCK <= end:
        found = blocks.get(target[at : at + _BLOCK])
        if found is None:
            at += 1
            continue
        size = _BLOCK + _common(base[found + _BLOCK : stop], target[at + _BLOCK : end])
        while at > new and found > 0 and base[found - 1] == target[at - 1]:
            at, found, size = at - 1, found - 1, size + 1
        _insert(made, target[new:at])
        _copy(made, found, size)
        at = new = at + size
    _insert(made, target[new:end])


def _common(one: bytes, other: bytes) -> int:
    """How many bytes at the beginning are the same."""
    low, high = 0, min(len(one), len(other))
    if one[:high] == other[:high]:
        return high
    while low < high - 1:
        middle = (low + high) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle
    return low


def _copy(made: bytearray, start: int, size: int) -> None:
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


def _insert(made: bytearray, data: bytes) -> None:
    for at in range(0, len(data), _INSERTED):
        part = data[at : at + _INSERTED]
        made.append(len(part))
        made += part


def _number(number: int) -> bytes:
    made = bytearray()
    while number > 0x7F:
        made.append(number & 0x7F | 0x80)
        number >>= 7
    made.append(number)
    return bytes(made)
