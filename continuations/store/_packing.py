"""Packs written: objects that are deflated already are copied into a file that git reads, with its index."""

import hashlib
import secrets
import struct
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from functools import lru_cache
from pathlib import Path

from isal.isal_zlib import adler32, crc32

from . import _disk
from ._deflate import deflate
from ._format import NUMBERS, Kind
from ._owner import mark

_TEMPORARY = "tmp_obj_caesura-"  # in the folder of objects, where writers that died are tidied up after
_CHUNK = 2**20
OFFSET_DELTA, ID_DELTA = 6, 7
"""By what packs tell deltas: of an object so far before it, of an object of that id."""

_SHORT = 64  # bytes: less of it gets hardly smaller
_STORED = 0xFFFF  # bytes in one block that is not deflated
_PLAIN = b"\x78\x01\x01"  # what zlib puts before a single such block
_SIZES = struct.Struct("<HH")
_LARGE = 2**31
_UNNAMED = b"caesura: no branch names these objects yet\n"
_STANDS_FOR_OTHERS = b"caesura: it stands for packs that are about to go\n"
_EARLY = b"caesura: a step is about to name these objects\n"


def packed(kind: Kind, data: bytes) -> bytes:
    """An object as it stands in a pack, deflated if it gets smaller by it."""
    return head(NUMBERS[kind], len(data)) + deflated(data)


def deflated(data: bytes) -> bytes:
    """A text as it stands in a pack: deflated, unless that would gain next to nothing."""
    size = len(data)
    if size >= _SHORT:
        short = deflate(data)
        if len(short) < size or size > _STORED:
            return short
    return stored(data)


def stored(data: bytes) -> bytes:
    """A short text as it stands in a pack, not deflated."""
    return _before_stored(len(data)) + data + adler32(data).to_bytes(4)


@lru_cache(1024)
def _before_stored(size: int) -> bytes:
    return _PLAIN + _SIZES.pack(size, size ^ _STORED)


@lru_cache(4096)
def head(number: int, size: int) -> bytes:
    """What stands before an object in a pack: the number of its kind, and its size before it was deflated."""
    made = bytearray()
    byte, size = number << 4 | size & 15, size >> 4
    while size:
        made.append(byte | 0x80)
        byte, size = size & 0x7F, size >> 7
    made.append(byte)
    return bytes(made)


def after_head(entry: bytes) -> int:
    """How many bytes of an object in a pack are its `head`.

    Raises:
        ValueError: they have no end.
    """
    at = 0
    try:
        while entry[at] > 0x7F:
            at += 1
    except IndexError:
        raise ValueError("its size is cut short") from None
    return at + 1


def write_pack(
    objects: Path,
    count: int,
    entries: Iterable[tuple[bytes, bytes]],
    *,
    durable: bool = True,
    keep: AbstractContextManager[None] | None = None,
    source: str = "",
    stands_for_others: bool = False,
    early: bool = False,
) -> Path:
    """Write so many objects as one pack with its index below a folder of objects; the pack.

    Each entry is an object's id in bytes and what stands in the pack: `packed`, or a delta of another object that is in
    it, named by its id. The same entries in the same order make the same pack. For the rest see `put_in_place`.

    Raises:
        OSError: the disk is full, or may not be written. There is no such pack then.
        ValueError: there are more entries, or fewer, or two of one object.
    """
    pack, index = temporary(objects), temporary(objects)
    try:
        trailer, places, checksums = _write(pack, count, entries)
        _disk.write(index, index_of(places, checksums, trailer), 0o444)
        if durable:
            _disk.sync(pack)
            _disk.sync(index)
        return put_in_place(
            *(pack, index, trailer),
            durable=durable,
            keep=keep,
            source=source,
            stands_for_others=stands_for_others,
            early=early,
        )
    except BaseException:
        _disk.unlink(pack)
        _disk.unlink(index)
        raise


def temporary(objects: Path) -> Path:
    """A file in a folder of objects that is tidied up after this process, should it die."""
    return objects / (_TEMPORARY + mark())


def put_in_place(
    pack: Path,
    index: Path,
    trailer: bytes,
    *,
    durable: bool,
    keep: AbstractContextManager[None] | None = None,
    source: str = "",
    stands_for_others: bool = False,
    early: bool = False,
) -> Path:
    """Give a pack and its index, which are whole and in the folder of objects, the names by which git finds them.

    A pack that is there already, with the same checksum at its end (`trailer`) and of the same `source`, is replaced.
    With `keep` git neither repacks nor removes this one until its `keeper` is taken away, unless it was there, and let
    go of, already; that block lasts while all is put in its place. One that `stands_for_others`, which go next, or is
    `early`, as no branch leads to it yet, is kept so, too, and has a name that none ever had.

    Raises:
        OSError: the disk is full, or may not be written.
    """
    objects = pack.parent
    folder = objects / "pack"
    if not folder.is_dir():
        _disk.make_folder(folder)
        if durable:
            _disk.sync(objects)
    # Git that lists packs now takes those of these names away later, whatever they are by then: so one that is kept
    # must not be named as any that was ever there, not even if it has the same objects.
    fresh = stands_for_others or early
    name = hashlib.sha1(trailer + source.encode(), usedforsecurity=False).hexdigest() if source else trailer.hex()
    made = folder / f"pack-{secrets.token_hex(20) if fresh else name}.pack"
    with nullcontext() if keep is None else keep:
        # One that is kept git leaves out of what it packs, and deletes it all the same if it was not when it looked.
        let_go = made.exists() and not keeper(made).exists()
        if (keep is not None and not let_go) or fresh:
            why = _STANDS_FOR_OTHERS if stands_for_others else _EARLY if early else _UNNAMED
            with suppress(FileExistsError):  # another process makes the same pack, or died over it
                _disk.write(keeper(made), why, 0o444)
            if durable:
                _disk.sync(keeper(made))
                _disk.sync(folder)
        if made.exists() and not durable:  # what is there may be what others rely on
            _disk.sync(pack)
            _disk.sync(index)
        # Git looks for indexes: the pack comes first.
        _disk.rename(pack, made)
        _disk.rename(index, made.with_suffix(".idx"))
        if durable:
            _disk.sync(folder)
    return made


def keeper(pack: Path) -> Path:
    """The file that keeps git from touching a pack."""
    return pack.with_suffix(".keep")


def let_go_of(pack: Path) -> None:
    """Let git have a pack; of one that has no index nothing stays."""
    if not pack.with_suffix(".idx").exists():
        _disk.unlink(pack)
    _disk.unlink(keeper(pack))


def is_early(pack: Path) -> bool:
    """Whether a pack is kept as no branch led to it yet."""
    with suppress(OSError):
        return keeper(pack).read_bytes() == _EARLY
    return False


def tidy_kept(objects: Path, *, sealed: bool = False) -> None:
    """Let go of packs that were to stand for others, or, once all is `sealed`, of those that segments have become."""
    for file in left_keepers(objects, _UNNAMED if sealed else _STANDS_FOR_OTHERS):
        let_go_of(file.with_suffix(".pack"))


def left_keepers(objects: Path, why: bytes = _STANDS_FOR_OTHERS) -> Iterator[Path]:
    """The `keeper` of each pack that was to stand for others: if nobody is at that now, who was has died over it."""
    for file in (objects / "pack").glob("pack-*.keep"):
        with suppress(OSError):
            if file.read_bytes() == why:
                yield file


def _write(
    file: Path, count: int, entries: Iterable[tuple[bytes, bytes]]
) -> tuple[bytes, Mapping[bytes, int], Sequence[int]]:
    """Write the pack itself; its checksum, each object's place, by id, and the checksum of each, in the same order."""
    places, checksums = dict[bytes, int](), list[int]()
    growing = _disk.begin(file, 0o444)
    try:
        digest = hashlib.sha1(usedforsecurity=False)
        for chunk in _chunks(count, entries, places, checksums):
            digest.update(chunk)
            _disk.grow(growing, chunk)
        if len(places) != count:
            raise ValueError(f"a pack of {count} objects was given {len(places)}")
        _disk.grow(growing, digest.digest())
    finally:
        _disk.end(growing)
    return digest.digest(), places, checksums


def _chunks(
    count: int, entries: Iterable[tuple[bytes, bytes]], places: dict[bytes, int], checksums: list[int]
) -> Iterator[bytes]:
    """The bytes of a pack, many at a time; `places` and `checksums` are filled on the way."""
    parts = [b"PACK" + struct.pack(">II", 2, count)]
    at = len(parts[0])
    enough = at + _CHUNK
    for name, entry in entries:
        if name in places:
            raise ValueError(f"object {name.hex()} is given twice")
        if entry[0] >> 4 & 7 == ID_DELTA:
            entry = _placed(entry, at, places)
        places[name] = at
        checksums.append(crc32(entry))
        parts.append(entry)
        at += len(entry)
        if at >= enough:
            yield b"".join(parts)
            parts, enough = [], at + _CHUNK
    yield b"".join(parts)


def _placed(entry: bytes, at: int, places: Mapping[bytes, int]) -> bytes:
    """A delta of what stands before it in the pack, told by how far: a base's id does not deflate."""
    begins = after_head(entry)
    base = places.get(entry[begins : begins + 20])
    if base is None:
        return entry
    back = at - base
    far, bits = back & 0x7F, 8
    while back := back >> 7:
        back -= 1
        far, bits = far | (back & 0x7F | 0x80) << bits, bits + 8
    kind = entry[0] ^ (ID_DELTA ^ OFFSET_DELTA) << 4
    return bytes((kind,)) + entry[1:begins] + far.to_bytes(bits >> 3) + entry[begins + 20 :]


def index_of(places: Mapping[bytes, int], checksums: Iterable[int], trailer: bytes) -> bytes:
    """The index of a pack, in its second version, by where each object is, and the checksum of each, in that order."""
    names, sums = sorted(places), dict(zip(places, checksums, strict=True))
    found = [places[name] for name in names]
    fanout = [bisect_left(names, bytes((byte,))) for byte in range(1, 256)]
    large = [at for at in found if at >= _LARGE]
    wider = iter(range(_LARGE, _LARGE + len(large)))  # pointers to wider places further down
    small = [at if at < _LARGE else next(wider) for at in found]
    parts = [
        b"\xfftOc\x00\x00\x00\x02",
        struct.pack(">256I", *fanout, len(names)),
        b"".join(names),
        struct.pack(f">{len(names)}I", *[sums[name] for name in names]),
        struct.pack(f">{len(names)}I", *small),
        struct.pack(f">{len(large)}Q", *large),
        trailer,
    ]
    data = b"".join(parts)
    return data + hashlib.sha1(data, usedforsecurity=False).digest()
