"""Versions: of what is sealed together, the older ones are told by what newer ones have of them.

Which are versions of the same is told from what they say: a folder that grows keeps its first file, the first lines of
a record say whose it is, and a commit says of which loop. Where that is wrong, an object is told by another one, or
stands whole.
"""

from collections.abc import Iterable, Iterator

from ._delta import DEPTH, Deltas
from ._format import Kind
from ._packing import packed

_RECORD = b'{\n  "format": '
_LOOP = b"\nLoop: "
_LINES = 5  # with which a record says whose it is
_ID = 20


def shortened(objects: Iterable[tuple[bytes, tuple[Kind, bytes]]]) -> Iterator[tuple[bytes, bytes]]:
    """Objects, each with its id, as they are to stand in a pack; the newest come first.

    Nobody waits for it: what a step has only written is made smaller here.
    """
    newer: dict[bytes, tuple[bytes, bytes, int]] = {}
    deltas = Deltas()
    for name, (kind, data) in objects:
        told, depth = None, 0
        key = _key(kind, data)
        if key is not None:
            base = newer.get(key)
            if base is not None and base[2] < DEPTH and (told := deltas.entry(base[0], base[1], data)) is not None:
                depth = base[2] + 1
            newer[key] = name, data, depth
        yield name, told or packed(kind, data)


def _key(kind: Kind, data: bytes) -> bytes | None:
    """What the versions of a folder, of a record, of a loop's commit have in common; None for what has none."""
    if kind == "commit":
        _, found, after = data.rpartition(_LOOP)
        return after.partition(b"\n")[0] if found else b""
    if kind == "tree" and data:
        return data[: data.find(b"\x00") + 1 + _ID]
    if kind == "blob" and data.startswith(_RECORD):
        return b"\n".join(data.split(b"\n", _LINES)[:_LINES])
    return None
