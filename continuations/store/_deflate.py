"""Deflating, and inflating within bounds. ISA-L reads and makes what zlib does, in a fraction of zlib's time."""

from typing import NamedTuple, cast

from isal import isal_zlib

_LEVEL, _HARDER, _LONG = 1, 3, 2**12
"""How hard it tries, and how hard with texts of so many bytes and more: shorter ones get hardly smaller so. A model's
messages get as small as by zlib's best, in a quarter of the time."""

_WINDOW = 15  # as zlib has it

_AT_ONCE = 2**15
"""Bytes of a text that is inflated in one go. One that said falsely how many it has would be some 40 MB at most."""

_ERROR = cast("type[Exception]", isal_zlib.error)  # which its types take for an instance


class NotDeflated(ValueError):
    """Bytes that are no deflated text."""


class Inflated(NamedTuple):
    """A text, or its beginning; whether it came to its end; what follows that."""

    text: bytes
    whole: bool
    rest: bytes


def deflate(data: bytes) -> bytes:
    """Make bytes smaller."""
    return isal_zlib.compress(data, _LEVEL if len(data) < _LONG else _HARDER)


def inflate(data: bytes, limit: int) -> Inflated:
    """What bytes that begin with a deflated text hold, or no more than `limit` bytes of it, and one.

    Raises:
        NotDeflated: they begin with none.
    """
    text, engine = _begun(data, limit)
    return Inflated(text, engine.eof, engine.unused_data)


def inflate_all(data: bytes, size: int) -> bytes:
    """The text of that size with which the bytes begin, whatever follows; quicker, where there are thousands.

    Raises:
        NotDeflated: they begin with none, or with another.
    """
    whole = True
    if size > _AT_ONCE:
        text, engine = _begun(data, size)
        whole = engine.eof
    else:
        try:
            text = isal_zlib.decompress(data, _WINDOW, size + 1)
        except _ERROR as error:
            raise NotDeflated(str(error)) from error
    if not whole or len(text) != size:
        raise NotDeflated("it is cut short, or longer than it says")
    return text


def _begun(data: bytes, limit: int) -> tuple[bytes, isal_zlib.Decompress]:
    engine = isal_zlib.decompressobj()
    try:
        return engine.decompress(data, limit + 1), engine
    except _ERROR as error:
        raise NotDeflated(str(error)) from error
