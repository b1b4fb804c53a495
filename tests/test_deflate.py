"""Deflated texts are those that zlib makes and reads, whatever they hold, and whatever has happened to them."""

import zlib
from contextlib import suppress

from hypothesis import given
from hypothesis import strategies as st

from caesura.continuations.store._deflate import Inflated, NotDeflated, deflate, inflate

TEXTS = st.one_of(st.binary(max_size=5000), st.text(alphabet="abc \n", max_size=5000).map(str.encode))


@given(TEXTS)
def test_what_is_deflated_here_is_inflated_by_zlib(text: bytes) -> None:
    assert zlib.decompress(deflate(text)) == text


@given(TEXTS, st.integers(0, 9), st.binary(max_size=400))
def test_what_zlib_has_deflated_is_inflated_here_and_what_follows_is_told(text: bytes, level: int, rest: bytes) -> None:
    assert inflate(zlib.compress(text, level) + rest, len(text)) == Inflated(text, True, rest)


@given(TEXTS.filter(len), st.data())
def test_no_more_than_one_byte_beyond_what_is_allowed_is_inflated(text: bytes, data: st.DataObject) -> None:
    limit = data.draw(st.integers(0, len(text) - 1))
    assert inflate(deflate(text), limit).text == text[: limit + 1]


@given(TEXTS, st.data())
def test_what_is_damaged_is_taken_for_whole_only_where_zlib_takes_it_for_the_same(
    text: bytes, data: st.DataObject
) -> None:
    damaged = bytearray(deflate(text))
    at = data.draw(st.integers(0, len(damaged) - 1))
    damaged[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    theirs, ours = zlib.decompressobj(), Inflated(b"", False, b"")
    with suppress(NotDeflated):
        ours = inflate(bytes(damaged), len(text))
    found = b""
    with suppress(zlib.error):
        found = theirs.decompress(damaged, len(text) + 1)
    assert ours.whole == theirs.eof
    if ours.whole:
        assert ours == (found, True, theirs.unused_data)
