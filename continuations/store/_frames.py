"""The journal's frames, as bytes: objects and moves of branches, one after the other, each bound to the one before it.

A segment of the journal begins with `new_header`. Each frame's checksum goes on from that of the frame before, and the
first one's from the header, which is random: so nothing but the next frame passes for it, whatever was in that place of
the disk before.
"""

import secrets
import struct
import zlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from ._packed import is_ref

_BEGIN = b"caesura journal 1\n"
HEADER = len(_BEGIN) + 16
"""How many bytes a segment's header has."""

_MAGIC = b"step"
_FRAME = struct.Struct(">4sII")  # the magic, how many bytes follow, the checksum
HEAD = _FRAME.size
"""How many bytes a frame begins with that say how long it is."""

_COUNTS = struct.Struct(">BIH")  # whether it is to outlast a power cut, how many objects, how many moves
_OBJECT = struct.Struct(">20sI")  # an object's id, how many bytes it has as it stands in a pack
_MOVE = struct.Struct(">20s20sHH")  # from, to, how many bytes the branch's name and the note have
_NONE = bytes(20)


class RefMove(NamedTuple):
    """One move of a branch; `old` is None if there was none. The note is for git's log of the branch."""

    ref: str
    old: str | None
    new: str
    note: str = ""


class Frame(NamedTuple):
    """What a frame holds: objects with their places in the segment and their lengths, and moves.

    `end` is where the next one begins, `chain` what its checksum goes on from.
    """

    durable: bool
    objects: Sequence[tuple[bytes, int, int]]
    moves: Sequence[RefMove]
    end: int
    chain: int


def length(head: bytes) -> int:
    """How many bytes a frame has that begins so, with `HEAD` of them; 0 if none does."""
    if len(head) < HEAD or not head.startswith(_MAGIC):
        return 0
    return HEAD + int(_FRAME.unpack(head)[1])


class Damaged(ValueError):
    """Bytes that are no frame, or not the next one."""


def new_header() -> bytes:
    """What a segment begins with, and no other does."""
    return _BEGIN + secrets.token_bytes(16)


def chain_of(header: bytes) -> int:
    """What the checksum of a segment's first frame goes on from.

    Raises:
        Damaged: the segment begins with something else.
    """
    if len(header) != HEADER or not header.startswith(_BEGIN):
        raise Damaged("it does not begin as a journal does")
    return zlib.crc32(header)


def frame_bytes(
    objects: Mapping[bytes, bytes], moves: Sequence[RefMove], *, durable: bool, at: int, chain: int
) -> tuple[bytes, Frame]:
    """A frame as it is written at a place of a segment, and what it will be read as.

    `objects` are as they stand in a pack, by id; `chain` is of the frame before it.
    """
    table = b"".join([_OBJECT.pack(name, len(entry)) for name, entry in objects.items()])
    counts = _COUNTS.pack(durable, len(objects), len(moves))
    body = b"".join([counts, table, *objects.values(), *map(_move_bytes, moves)])
    checksum = _checksum(body, chain)
    place, places = at + HEAD + len(counts) + len(table), list[tuple[bytes, int, int]]()
    for name, entry in objects.items():
        places.append((name, place, len(entry)))
        place += len(entry)
    data = _FRAME.pack(_MAGIC, len(body), checksum) + body
    return data, Frame(durable, places, moves, at + len(data), checksum)


def _move_bytes(move: RefMove) -> bytes:
    ref, note = move.ref.encode(), move.note.encode("utf-8", "replace")[:1000]
    old = _NONE if move.old is None else bytes.fromhex(move.old)
    return _MOVE.pack(old, bytes.fromhex(move.new), len(ref), len(note)) + ref + note


def read_frame(data: bytes, at: int, chain: int) -> Frame:
    """The frame that these bytes are, which are at a place of the segment.

    Raises:
        Damaged: it is cut short, or is none.
    """
    try:
        magic, size, checksum = _FRAME.unpack_from(data)
        body = memoryview(data)[HEAD:]
        if magic != _MAGIC or len(body) != size or _checksum(body, chain) != checksum:
            raise Damaged("it is cut short, or no frame")
        durable, objects, moves = _COUNTS.unpack_from(body)
        # From here on the bytes are those that somebody wrote; whether they make sense is another matter.
        table = _COUNTS.size
        place, places = table + objects * _OBJECT.size, list[tuple[bytes, int, int]]()
        for name, length in _OBJECT.iter_unpack(body[table:place]):
            places.append((name, at + HEAD + place, length))
            place += length
        made: list[RefMove] = []
        for _ in range(moves):
            old, new, named, noted = _MOVE.unpack_from(body, place)
            place += _MOVE.size
            ref = bytes(body[place : place + named]).decode()
            note = bytes(body[place + named : place + named + noted]).decode("utf-8", "replace")
            place += named + noted
            if not ref.startswith("refs/heads/") or not is_ref(ref):
                raise Damaged("it moves what is no branch")
            made.append(RefMove(ref, None if old == _NONE else old.hex(), new.hex(), note))
        if place != size:
            raise Damaged("its parts are longer or shorter than it")
    except (struct.error, UnicodeDecodeError) as error:
        raise Damaged(str(error)) from error
    return Frame(bool(durable), places, made, at + HEAD + size, checksum)


def _checksum(body: bytes | memoryview, chain: int) -> int:
    return zlib.crc32(body, zlib.crc32(struct.pack(">I", len(body)), chain))
