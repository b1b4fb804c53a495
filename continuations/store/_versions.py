"""Versions: of folders and records that are sealed together, the older ones are told by what newer ones have of them.

Which are versions of the same is told from what they begin with: a folder that grows keeps its first file, and the
first lines of a record say whose it is. Where that is wrong, an object is told by another one, or stands whole.
"""

from collections.abc import Iterable, Iterator

from ._delta import DEPTH, as_delta
from ._format import NUMBERS
from ._packing import deflated, stored

_RECORD = b'{\n  "format": '
_LINES = 5  # with which a record says whose it is
_ID = 20


def shortened(entries: Iterable[tuple[bytes, bytes]]) -> Iterator[tuple[bytes, bytes]]:
    """Objects as they are to stand in a pack, of which the newest come first; each entry is an id and a `packed`.

    Nobody waits for it: what a step has only stored is made smaller here.
    """
    newer: dict[bytes, tuple[bytes, bytes, int]] = {}
    for name, entry in entries:
        told, depth = None, 0
        data = stored(entry)
        key = None if data is None else _key(entry[0] >> 4 & 7, data)
        if data is not None and key is not None:
            if key in newer:
                base, content, above = newer[key]
                told = as_delta(base, content, data) if above < DEPTH else None
                depth = 0 if told is None else above + 1
            newer[key] = name, data, depth
        yield name, told or deflated(entry)


def _key(number: int, data: bytes) -> bytes | None:
    """What the versions of a folder or of a record begin with; None for what is neither."""
    if number == NUMBERS["tree"] and data:
        return data[: data.find(b"\x00") + 1 + _ID]
    if number == NUMBERS["blob"] and data.startswith(_RECORD):
        return b"\n".join(data.split(b"\n", _LINES)[:_LINES])
    return None
