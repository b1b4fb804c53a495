"""Needles: words that are looked for in every text, nearly all of which have none of them."""

import re
from collections.abc import Iterable
from functools import cached_property

_FEWEST = 200  # characters of a text in which a pattern is quicker than each word by itself
_MARKS = b"_-./jxzk"
"""What texts have few of, the likeliest to be in a word first."""


class Needles:
    """Words to be found in texts, nearly all of which have none of them.

    Most words have a mark in them, which text has few of: those are looked for around the marks, in a sweep for each
    mark, as one character alone is found soonest.
    """

    def __init__(self, words: Iterable[bytes]) -> None:
        self._marked: dict[bytes, list[bytes]] = {}
        self._plain: list[bytes] = []
        for word in sorted(words):
            mark = next((bytes((char,)) for char in _MARKS if char in word[1:]), None)
            (self._plain if mark is None else self._marked.setdefault(mark, [])).append(word)

    def within(self, text: bytes) -> list[bytes]:
        """Those that are in a text."""
        found = [word for word in self._plain if word in text]
        if len(text) < _FEWEST:
            marked = [words for mark, words in self._marked.items() if mark in text]
        else:
            marked = [words for sweep, words in self._sweeps if sweep.search(text)]
        return found + [word for words in marked for word in words if word in text]

    @cached_property  # made when a text is long enough to need them
    def _sweeps(self) -> list[tuple[re.Pattern[bytes], list[bytes]]]:
        return [(re.compile(_around(mark, words)), words) for mark, words in self._marked.items()]


def _around(mark: bytes, words: Iterable[bytes]) -> bytes:
    """A pattern for words around the last place of a mark in them, which is not their first."""
    parts = [word.rpartition(mark) for word in words]
    before = b"".join(sorted({re.escape(begin[-1:]) for begin, _, _ in parts}))
    ways = (b"(?<=%b)(?=%b)" % (re.escape(begin + mark), re.escape(end)) for begin, _, end in parts)
    return b"%b(?<=[%b]%b)(?:%b)" % (re.escape(mark), before, re.escape(mark), b"|".join(ways))


def lowered(text: bytes) -> bytes:
    """Text in UTF-8 with the letters of ASCII in lower case, and those beyond it that have one of them in theirs."""
    for letter, lower in () if text.isascii() else _LOWER:
        if letter[-1:] in text:  # a look for one byte takes no time
            text = text.replace(letter, lower)
    return text.lower()


_LOWER = tuple(
    (letter.encode(), letter.lower().encode()) for letter in "\N{KELVIN SIGN}\N{LATIN CAPITAL LETTER I WITH DOT ABOVE}"
)
