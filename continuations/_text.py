"""Text for people: safe on a terminal, one line where one line is wanted, clipped where it must be short."""

import json
import re
import shlex
import textwrap
from functools import lru_cache

from ._json import from_json

_CONTROL = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f"
    r"\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\U000e0000-\U000e007f]"
)


_PLAIN = bytes((*b"\n\t", *range(0x20, 0x7F)))
_WIDTH = 78


def printable(text: str) -> str:
    """Replace what could command a terminal or reorder what is read; tabs and newlines stay."""
    # By far the quicker look: most texts are no more than printable lines, and most of these in ASCII.
    if text.isprintable() or _beyond_ascii(text).isprintable():
        return text
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", text.replace("\r\n", "\n"))


def _beyond_ascii(text: str) -> str:
    """What is left of a text without ASCII's printable characters, tabs and newlines."""
    return text.encode("utf-8", "surrogatepass").translate(None, _PLAIN).decode("utf-8", "surrogatepass")


def one_line(text: str, width: int = 72) -> str:
    """The text in one line of at most `width` characters."""
    if len(text) <= width and text.isprintable() and "  " not in f" {text} ":
        return text  # words with one space between them
    line = " ".join(printable(text[: width * 8]).split(maxsplit=width // 2 + 1))  # so many words fill it
    return line if len(line) <= width else line[: width - 1].rstrip() + "…"


def excerpt(text: str, lines: int = 20, width: int = 2000) -> str:
    """The beginning of a text, wrapped: at most so many lines and characters, saying what was left out."""
    shown = printable(text[:width]).rstrip()
    kept = shown.splitlines()[:lines]
    rest = len(text.rstrip()) - len("\n".join(kept))
    if rest > 0:
        kept.append(f"[… {rest:,} more characters]")
    # Git does not wrap what it shows.
    return "\n".join([line if len(line) <= _WIDTH else _wrapped(line) for line in kept])


def _wrapped(line: str) -> str:
    """A line of prose in several; what is indented is code, and stays."""
    if line[0].isspace():
        return line
    return "\n".join(textwrap.wrap(line, _WIDTH, break_long_words=False, break_on_hyphens=False))


def call_text(tool: str, arguments: str, width: int = 60) -> str:
    """A call as it would be written: ``order(item="laptop", amount=2400)``."""
    return f"{one_line(tool, width)}({one_line(_inner(arguments), width)})"


@lru_cache(8)  # a step says what is called in its subject, and again in its body
def _inner(arguments: str) -> str:
    try:
        values = from_json(arguments)
    except ValueError:
        values = None
    if not isinstance(values, dict):
        return arguments
    return ", ".join(f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in values.items())


def shell_quoted(word: object) -> str:
    """A word of a command as a shell takes it, in one line whatever is in it: a path may hold a newline."""
    text = str(word)
    if text.isprintable():
        return shlex.quote(text)
    return "$'" + "".join(map(_in_ansi_quotes, text)) + "'"


def _in_ansi_quotes(sign: str) -> str:
    if sign.isprintable():
        return f"\\{sign}" if sign in "\\'" else sign
    errors = "surrogateescape" if "\udc80" <= sign <= "\udcff" else "surrogatepass"  # a byte of a path, or nonsense
    return "".join(f"\\{byte:03o}" for byte in sign.encode("utf-8", errors))


def span(seconds: int) -> str:
    """How long something takes, exactly: ``2 hours``, ``90 minutes``."""
    for unit, size in (("day", 86_400), ("hour", 3600), ("minute", 60)):
        if seconds >= size and seconds % size == 0:
            return count(seconds // size, unit)
    return count(seconds, "second")


def count(number: int, noun: str) -> str:
    """``1 call``, ``2 calls``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
