"""Deflated texts are those that zlib makes and reads, whatever they hold, and whatever has happened to them."""

import zlib
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caesura.continuations.store._deflate import Inflated, NotDeflated, deflate, inflate, inflate_all

TEXTS = st.one_of(st.binary(max_size=5000), st.text(alphabet="abc \n", max_size=5000).map(str.encode))
SMALL_OR_LARGE = st.tuples(TEXTS, st.sampled_from([1, 100])).map(lambda drawn: drawn[0] * drawn[1])


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


@given(SMALL_OR_LARGE, st.integers(0, 9), st.binary(max_size=400), st.sampled_from([-1, 1, 1000]))
def test_a_text_of_a_size_that_is_told_is_inflated_and_one_of_another_size_is_refused(
    text: bytes, level: int, rest: bytes, more: int
) -> None:
    deflated = zlib.compress(text, level)
    assert inflate_all(deflated + rest, len(text)) == text
    for cut, size in ((len(deflated), len(text) + more), (len(deflated) - 1, len(text))):
        if size >= 0:
            with pytest.raises(NotDeflated):
                inflate_all(deflated[:cut], size)


@given(SMALL_OR_LARGE, st.data())
def test_what_is_damaged_is_no_text_of_its_size_but_where_it_is_to_zlib(text: bytes, data: st.DataObject) -> None:
    damaged = _damaged(text, data)
    theirs, found = zlib.decompressobj(), b""
    with suppress(zlib.error):
        found = theirs.decompress(damaged, len(text) + 1)
    whole = theirs.eof and len(found) == len(text)
    try:
        ours = inflate_all(damaged, len(text))
    except NotDeflated:
        assert not whole
    else:
        assert whole
        assert ours == found


@given(TEXTS, st.data())
def test_what_is_damaged_is_taken_for_whole_only_where_zlib_takes_it_for_the_same(
    text: bytes, data: st.DataObject
) -> None:
    damaged = _damaged(text, data)
    theirs, ours = zlib.decompressobj(), Inflated(b"", False, b"")
    with suppress(NotDeflated):
        ours = inflate(damaged, len(text))
    found = b""
    with suppress(zlib.error):
        found = theirs.decompress(damaged, len(text) + 1)
    assert ours.whole == theirs.eof
    if ours.whole:
        assert ours == (found, True, theirs.unused_data)


def _damaged(text: bytes, data: st.DataObject) -> bytes:
    damaged = bytearray(deflate(text))
    at = data.draw(st.integers(0, len(damaged) - 1))
    damaged[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    return bytes(damaged)
