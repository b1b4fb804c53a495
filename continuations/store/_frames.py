"""The journal's frames, as bytes: objects and moves of branches, one after the other, each bound to the one before it.

A segment of the journal begins with `new_header`. Each frame's checksum goes on from that of the frame before, and the
first one's from the header, which is random: so nothing but the next frame passes for it, whatever was in that place of
the disk before. Objects are in it as they are: whoever seals them has the time to make them smaller. In version 1
they were as in a pack; its segments are read, and not added to.
"""

import re
import secrets
import struct
from collections.abc import Mapping, Sequence
from contextlib import suppress

import msgspec
from isal.isal_zlib import crc32

from .._codec import NewerFormat
from ._deflate import inflate
from ._format import KINDS, NUMBERS, Kind
from ._packed import is_ref
from ._packing import after_head

VERSION = 2
"""The version of the segments that are written."""

_BEGIN = b"caesura journal %d\n" % VERSION
_VERSION = re.compile(rb"caesura journal ([1-9][0-9]*)")
HEADER = len(_BEGIN) + 16
"""How many bytes a segment's header has."""

_MAGIC = b"step"
_FRAME = struct.Struct(">4sII")  # the magic, how many bytes follow, the checksum
HEAD = _FRAME.size
"""How many bytes a frame begins with that say how long it is."""

_COUNTS = struct.Struct(">BIH")  # whether it is to outlast a power cut, how many objects, how many moves
_OBJECT = struct.Struct(">20sBI")  # an object's id, its kind, how many bytes it has
_PACKED = struct.Struct(">20sI")  # in version 1: how many bytes it has as it stands in a pack
_MOVE = struct.Struct(">20s20sHH")  # from, to, how many bytes the branch's name and the note have
_NONE = bytes(20)
_KINDS: dict[int, Kind] = {NUMBERS[kind]: kind for kind in KINDS}


class RefMove(msgspec.Struct, frozen=True, gc=False):
    """One move of a branch; `old` is None if there was none. The note is for git's log of the branch."""

    ref: str
    old: str | None
    new: str
    note: str = ""


Place = tuple[Kind | None, int, int]
"""An object's kind, where its bytes are in a segment, and how many there are; no kind if they are as in a pack."""


class Frame(msgspec.Struct, frozen=True, gc=False):
    """What a frame holds: objects by their ids, and moves.

    `end` is where the next one begins, `chain` what its checksum goes on from.
    """

    durable: bool
    objects: Mapping[bytes, Place]
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


def read_header(header: bytes) -> tuple[int, int]:
    """A segment's version, and what the checksum of its first frame goes on from.

    Raises:
        Damaged: the segment begins with something else.
        NewerFormat: it is of a later version than this code reads.
    """
    found = _VERSION.match(header)
    if found is None or len(header) != HEADER:
        raise Damaged("it does not begin as a journal does")
    version = int(found[1])
    if version > VERSION:
        raise NewerFormat(
            f"The repository's journal is in format {version}; this Caesura reads up to format {VERSION}.",
            hint="Upgrade Caesura: pip install --upgrade caesura.",
        )
    return version, crc32(header)


def frame_bytes(
    objects: Mapping[str, tuple[Kind, bytes]], moves: Sequence[RefMove], *, durable: bool, at: int, chain: int
) -> tuple[bytes, Frame]:
    """A frame as it is written at a place of a segment, and what it will be read as; `chain` is of the one before."""
    place = at + HEAD + _COUNTS.size + _OBJECT.size * len(objects)
    # Each step does this: to call dict[bytes, Place] takes five times as long.
    places: dict[bytes, Place] = {}
    contents: list[bytes] = []
    table = [_COUNTS.pack(durable, len(objects), len(moves))]
    for name, (kind, data) in objects.items():
        raw, size = bytes.fromhex(name), len(data)
        table.append(_OBJECT.pack(raw, NUMBERS[kind], size))
        contents.append(data)
        places[raw] = kind, place, size
        place += size
    body = b"".join([*table, *contents, *map(_move_bytes, moves)])
    checksum = _checksum(body, chain)
    data = _FRAME.pack(_MAGIC, len(body), checksum) + body
    return data, Frame(durable, places, moves, at + len(data), checksum)


def _move_bytes(move: RefMove) -> bytes:
    ref, note = move.ref.encode(), move.note.encode("utf-8", "replace")[:1000]
    old = _NONE if move.old is None else bytes.fromhex(move.old)
    return _MOVE.pack(old, bytes.fromhex(move.new), len(ref), len(note)) + ref + note


def read_frame(data: bytes, at: int, chain: int, version: int = VERSION) -> Frame:
    """The frame that these bytes are, which are at a place of a segment of that version.

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
        table, places = _COUNTS.size, dict[bytes, Place]()
        place = table + objects * (_PACKED if version == 1 else _OBJECT).size
        if version == 1:
            for name, length in _PACKED.iter_unpack(body[table:place]):
                places[name] = None, at + HEAD + place, length
                place += length
        else:
            for name, kind, length in _OBJECT.iter_unpack(body[table:place]):
                places[name] = _KINDS[kind], at + HEAD + place, length
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
    except (struct.error, KeyError, UnicodeDecodeError) as error:
        raise Damaged(str(error)) from error
    return Frame(bool(durable), places, made, at + HEAD + size, checksum)


def moves_in(data: bytes) -> list[RefMove]:
    """The moves in frames that stand anywhere in these bytes, each after the one that it goes on from."""
    found, at = list[RefMove](), data.find(_MAGIC)
    while at >= 0:
        after = at + length(data[at : at + HEAD])
        with suppress(Damaged, struct.error):
            chain = int(_FRAME.unpack_from(data, at)[2])
            following = data[after : after + length(data[after : after + HEAD])]
            found += read_frame(following, after, chain).moves
        at = data.find(_MAGIC, at + 1)
    return found


def content(kind: Kind | None, data: bytes, limit: int) -> tuple[Kind, bytes]:
    """The kind and the content of an object, of which these bytes stand in a segment, and its place says that kind.

    Raises:
        Damaged: they are as in a pack, and are none of an object, or of one that has more than `limit` bytes.
    """
    if kind is not None:
        return kind, data
    try:
        found = inflate(data[after_head(data) :], limit)
        if not found.whole or len(found.text) > limit:
            raise Damaged("it is cut short, or larger than it may be")
        return _KINDS[data[0] >> 4 & 7], found.text
    except (ValueError, KeyError) as error:
        raise Damaged(str(error)) from error


def _checksum(body: bytes | memoryview, chain: int) -> int:
    return crc32(body, crc32(len(body).to_bytes(4, "big"), chain))
