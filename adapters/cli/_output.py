"""The only module that writes to the screen. Every piece of text is made safe for a terminal here."""

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any, Self

from caesura.continuations import printable

Piece = str | tuple[str, str]
"""Text, or text and its style: ``bold``, ``dim``, ``red``, …"""


class OutputLost(OSError):
    """A result could not be written to standard output; whatever the command was to do, it has done."""


class Page:
    """Lines of styled text for a person. Text is shown as it is: no markup, no escape sequences."""

    def __init__(self) -> None:
        self.lines: list[tuple[Piece, ...]] = []

    def add(self, *pieces: Piece) -> Self:
        """Add a line; newlines in it become spaces, so that nobody's text can pass for a line of ours."""
        self.lines.append(tuple(_flat(piece) for piece in pieces))
        return self

    def block(self, text: str, *, prefix: str = "  │ ", style: str = "") -> Self:
        """Add somebody's text of several lines, marked as theirs by the prefix."""
        for line in printable(text).splitlines() or [""]:
            self.lines.append(((prefix, "dim"), (line, style)))
        return self

    def extend(self, other: "Page", *, indent: str = "") -> Self:
        """Add another page's lines."""
        self.lines.extend((indent, *line) if indent else line for line in other.lines)
        return self

    @property
    def plain(self) -> str:
        """The page without styles."""
        return "".join("".join(printable(_text(piece)) for piece in line).rstrip() + "\n" for line in self.lines)


def out(page: Page) -> None:
    """Write a result."""
    with _result():
        write(sys.stdout, page)


def err(page: Page) -> None:
    """Write what is not a result: progress, questions, errors."""
    write(sys.stderr, page)


def write(stream: IO[str], page: Page) -> None:
    """Write a page, with styles if the stream is a terminal that wants them."""
    if styled(stream):
        from rich.console import Console

        console = Console(file=stream, markup=False, highlight=False, emoji=False)
        console.print(rich_text(page), soft_wrap=True, end="")
    else:
        stream.write(page.plain)
    stream.flush()


def passing(text: str) -> None:
    """Show a line on a terminal's standard error until the next one takes its place; an empty one takes it away."""
    if is_screen(sys.stderr):
        sys.stderr.write("\r\x1b[K" + printable(text))
        sys.stderr.flush()


def write_text(text: str) -> None:
    """Write a result that is one text, safe if it goes to a terminal, to the byte if it goes elsewhere."""
    with _result():
        sys.stdout.write((printable(text) if sys.stdout.isatty() else text) + "\n")
        sys.stdout.flush()


def write_patch(text: str) -> None:
    """Write a result that git is to take, to the byte; if it goes to a terminal, safe for that."""
    with _result():
        if sys.stdout.isatty():
            sys.stdout.write("".join(f"{printable(line)}\n" for line in text.split("\n")[:-1]))
        else:
            sys.stdout.flush()
            sys.stdout.buffer.write(text.encode())
        sys.stdout.flush()


def write_json(value: Any) -> None:
    """Write a result for a program: one object on one line, in ASCII, so that a terminal is safe from it too."""
    with _result():
        sys.stdout.write(json.dumps(value) + "\n")
        sys.stdout.flush()


@contextmanager
def _result() -> Iterator[None]:
    """Tell a result that cannot be written from what a command may fail at itself; a closed pipe is as it is."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputLost(error.errno, error.strerror) from error


def is_screen(stream: IO[str]) -> bool:
    """Whether the stream is a terminal on which lines can be drawn again."""
    return stream.isatty() and os.environ.get("TERM", "") not in ("", "dumb")


def styled(stream: IO[str]) -> bool:
    """Whether text there may have styles; https://no-color.org says how a person forbids it."""
    return is_screen(stream) and not os.environ.get("NO_COLOR")


def rich_text(page: Page) -> Any:
    """The page as `rich` shows it."""
    from rich.text import Text

    text = Text()
    for line in page.lines:
        for piece in line:
            text.append(printable(_text(piece)), style="" if isinstance(piece, str) else piece[1])
        text.append("\n")
    return text


def _flat(piece: Piece) -> Piece:
    if isinstance(piece, str):
        return " ".join(piece.splitlines()) if "\n" in piece or "\r" in piece else piece
    return (str(_flat(piece[0])), piece[1])


def _text(piece: Piece) -> str:
    return piece if isinstance(piece, str) else piece[0]
