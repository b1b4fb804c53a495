"""Patches: how a file differs from what it was, in the form of git's diff, which ``git apply`` takes. Pure.

The same two files always make the same patch, and no two are compared for longer than `MOST_EDITS` allows.
"""

import base64
import re
import zlib
from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

from msgspec.structs import replace

from ._ids import BlobId
from ._messages import Value
from ._text import count
from ._workspace import LINK, FileContent

MOST_EDITS = 1000
"""Lines that came or went between the first and the last change of a file: what it takes to find them grows with their
square. If there are more, all between the two is shown as written anew."""

LARGEST_TEXT = 4 * 2**20
"""Bytes of a file that is compared line by line; a larger one is treated as if it was no text."""

_CONTEXT = 3
_NOTHING = "0" * 40


Kind = Literal["A", "M", "D"]
"""What became of a file: it was added, modified or deleted."""


class FilePatch(Value, frozen=True, kw_only=True):
    """How one file differs.

    `path` is as git shows it, quoted if it holds what cannot be seen; `added` and `removed` count lines, and are 0 if
    it is no text (`binary`). `text` is the file's part of a patch, without its last `cut` lines; `note` says why there
    is none. `before` and `mode` are what was there, as git names it; empty and 0 if nothing was.
    """

    path: str
    kind: Kind
    added: int = 0
    removed: int = 0
    binary: bool = False
    text: str = ""
    cut: int = 0
    note: str = ""
    before: BlobId = BlobId("")
    mode: int = 0


class Preview(Value, frozen=True, kw_only=True):
    """What a call would change in the files, as its tool said when the call was asked for.

    `files` is as much of that as is kept; `failed` says why it is not known.
    """

    files: tuple[FilePatch, ...] = ()
    failed: str = ""


def kind_of(old: object, new: object) -> Kind:
    """What became of what was at a path, of which either may be None."""
    return "A" if old is None else "D" if new is None else "M"


def file_patch(path: str, old: FileContent | None, new: FileContent | None) -> FilePatch:
    """How what is at a path differs from what was; the two are not the same."""
    parts = [(old, new)]
    if old is not None and new is not None and (old.mode == LINK) != (new.mode == LINK):
        parts = [(old, None), (None, new)]  # as in git, the file has gone and the link has come
    pieces: list[str] = []
    added = removed = 0
    binary = False
    for was, now in parts:
        lines = _hunks(was, now)
        added += sum(line[0] == "+" for line in lines or ())
        removed += sum(line[0] == "-" for line in lines or ())
        binary = binary or lines is None
        pieces += _head(path, was, now)
        if lines is None:
            pieces += _literal(b"" if now is None else now.data)
        elif lines:
            pieces += [_named("---", "a", path, was), _named("+++", "b", path, now), *lines]
    return FilePatch(
        path=quoted(path),
        kind=kind_of(old, new),
        added=added,
        removed=removed,
        binary=binary,
        text="".join(pieces),
        before=BlobId("") if old is None else old.id,
        mode=0 if old is None else old.mode,
    )


def without_content(patch: FilePatch, why: str) -> FilePatch:
    """A file's patch that shows nothing of what is in the file, and says why."""
    return replace(patch, text="", cut=0, note=why)


def cut_to(patches: Sequence[FilePatch], lines: int, characters: int) -> tuple[FilePatch, ...]:
    """Patches of which no more is left than so many lines and characters in all. What is left is the beginning."""
    kept: list[FilePatch] = []
    for patch in patches:
        taken, whole = 0, lines_of(patch.text)
        while taken < min(len(whole), lines) and len(whole[taken]) <= characters:
            characters -= len(whole[taken])
            taken += 1
        lines -= taken
        if taken < len(whole):
            lines = 0
            patch = replace(patch, text="".join(whole[:taken]), cut=patch.cut + len(whole) - taken)
        kept.append(patch)
    return tuple(kept)


def summed(patches: Sequence[FilePatch]) -> str:
    """How much differs, in a few words: ``2 files, +3 -1``."""
    return f"{count(len(patches), 'file')}, +{sum(one.added for one in patches)} -{sum(one.removed for one in patches)}"


# What stands around the lines ----------------------------------------------------------------------------------------


def _head(path: str, old: FileContent | None, new: FileContent | None) -> Iterator[str]:
    yield f"diff --git {quoted(f'a/{path}')} {quoted(f'b/{path}')}\n"
    mode = ""
    if old is None and new is not None:
        yield f"new file mode {new.mode:o}\n"
    elif new is None and old is not None:
        yield f"deleted file mode {old.mode:o}\n"
    elif old is not None and new is not None and old.mode != new.mode:
        yield f"old mode {old.mode:o}\nnew mode {new.mode:o}\n"
    elif old is not None:
        mode = f" {old.mode:o}"
    before, after = (_NOTHING if one is None else one.id for one in (old, new))
    if before != after:
        yield f"index {before}..{after}{mode}\n"


def _named(mark: str, side: str, path: str, content: FileContent | None) -> str:
    if content is None:
        return f"{mark} /dev/null\n"
    name = quoted(f"{side}/{path}")
    return f"{mark} {name}\t\n" if " " in name else f"{mark} {name}\n"  # or what follows the space could be a date


def _literal(data: bytes) -> Iterator[str]:
    """A whole file in the form that git has for what is no text."""
    yield f"GIT binary patch\nliteral {len(data)}\n"
    packed = zlib.compress(data, 9)
    for start in range(0, len(packed), 52):
        piece = packed[start : start + 52]
        length = chr(len(piece) + (ord("A") - 1 if len(piece) <= 26 else ord("a") - 27))
        yield f"{length}{base64.b85encode(piece, pad=True).decode()}\n"
    yield "\n"


_SHORT = {"\a": "a", "\b": "b", "\t": "t", "\n": "n", "\v": "v", "\f": "f", "\r": "r", '"': '"', "\\": "\\"}
_LONG = {letter: char for char, letter in _SHORT.items()}
_ESCAPED = re.compile(rb"\\([0-7]{3}|.)", re.DOTALL)


def quoted(path: str) -> str:
    """A path as git shows it: in quotes, with escapes, if there is anything in it that cannot be seen or ends it."""
    shown = "".join(_shown(char) for char in path)
    return path if shown == path else f'"{shown}"'


def _shown(char: str) -> str:
    if char in _SHORT:
        return f"\\{_SHORT[char]}"
    if char.isprintable():
        return char
    return "".join(f"\\{byte:03o}" for byte in char.encode("utf-8", "surrogateescape"))


def unquoted(shown: str) -> str:
    """The path that `quoted` shows so."""
    if not shown.startswith('"'):
        return shown
    return _ESCAPED.sub(_meant, shown[1:-1].encode()).decode("utf-8", "surrogateescape")


def _meant(match: re.Match[bytes]) -> bytes:
    meant = match[1]
    return bytes([int(meant, 8) & 0xFF]) if len(meant) == 3 else _LONG.get(meant.decode("latin-1"), "\\").encode()


# The lines that differ -----------------------------------------------------------------------------------------------


class _Edit(NamedTuple):
    """Lines of the one text that went, from `start` to before `end`, and those of the other that came instead."""

    start: int
    end: int
    new_start: int
    new_end: int


def lines_of(text: str) -> list[str]:
    """A text's lines as git has them: a line feed alone ends one."""
    found = [f"{line}\n" for line in text.split("\n")]
    last = found.pop()[:-1]
    return [*found, last] if last else found


def _hunks(old: FileContent | None, new: FileContent | None) -> list[str] | None:
    """The lines of a patch that show what differs; None if one of the two is no text."""
    if old is not None and new is not None and old.data == new.data:
        return []  # its mode alone differs
    before, after = _text(old), _text(new)
    if before is None or after is None:
        return None
    ours, theirs = lines_of(before), lines_of(after)
    found: list[str] = []
    for group in _grouped(_edits(ours, theirs)):
        start, end = max(0, group[0].start - _CONTEXT), min(len(ours), group[-1].end + _CONTEXT)
        new_start = group[0].new_start - (group[0].start - start)
        new_end = group[-1].new_end + (end - group[-1].end)
        found.append(f"@@ -{_range(start, end)} +{_range(new_start, new_end)} @@\n")
        for edit in group:
            found += (f" {line}" for line in ours[start : edit.start])
            found += (f"-{line}" for line in ours[edit.start : edit.end])
            found += (f"+{line}" for line in theirs[edit.new_start : edit.new_end])
            start = edit.end
        found += (f" {line}" for line in ours[start:end])
    return [line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in found]


def _text(content: FileContent | None) -> str | None:
    if content is None:
        return ""
    if len(content.data) > LARGEST_TEXT or b"\0" in content.data:
        return None
    try:
        return content.data.decode()
    except UnicodeDecodeError:
        return None


def _range(start: int, end: int) -> str:
    first = start + 1 if end > start else start
    return f"{first}" if end - start == 1 else f"{first},{end - start}"


def _grouped(edits: Sequence[_Edit]) -> Iterator[list[_Edit]]:
    """Edits whose surroundings meet, together."""
    group: list[_Edit] = []
    for edit in edits:
        if group and edit.start - group[-1].end > 2 * _CONTEXT:
            yield group
            group = []
        group.append(edit)
    if group:
        yield group


def _edits(old: Sequence[str], new: Sequence[str]) -> list[_Edit]:
    first, last, other = 0, len(old), len(new)
    while first < min(last, other) and old[first] == new[first]:
        first += 1
    while first < min(last, other) and old[last - 1] == new[other - 1]:
        last, other = last - 1, other - 1
    if first in (last, other):
        return [_Edit(first, last, first, other)] if last != other else []
    found = _fewest(old[first:last], new[first:other])
    if found is None:
        return [_Edit(first, last, first, other)]
    return [_Edit(*(place + first for place in edit)) for edit in found]


def _fewest(old: Sequence[str], new: Sequence[str]) -> list[_Edit] | None:
    """The fewest edits that make the one sequence the other, or None if those are more than `MOST_EDITS`.

    Myers, An O(ND) difference algorithm and its variations, 1986: `rows[d]` has, for each diagonal, how far in `old`
    one comes with `d` edits.
    """
    rows: list[list[int]] = []
    for edits in range(MOST_EDITS + 1):
        row: list[int] = []
        for place in range(edits + 1):
            x = _next(rows[-1], place)[0] if rows else 0
            y = x - (2 * place - edits)
            while x < len(old) and y < len(new) and old[x] == new[y]:
                x, y = x + 1, y + 1
            row.append(x)
            if x >= len(old) and y >= len(new):
                return _traced(rows, place)
        rows.append(row)
    return None


def _next(row: list[int], place: int) -> tuple[int, bool]:
    """How far one more edit comes on a diagonal, from the better of the two beside it; whether it takes a line away."""
    if place == 0 or (place < len(row) and row[place - 1] < row[place]):
        return row[place], False
    return row[place - 1] + 1, True


def _traced(rows: list[list[int]], place: int) -> list[_Edit]:
    """The edits that led to a diagonal, those that follow one another as one."""
    found: list[_Edit] = []
    for edits in range(len(rows), 0, -1):
        x, removes = _next(rows[edits - 1], place)
        y = x - (2 * place - edits)
        one = _Edit(x - 1, x, y, y) if removes else _Edit(x, x, y - 1, y)
        if found and (one.end, one.new_end) == (found[-1].start, found[-1].new_start):
            one = _Edit(one.start, found[-1].end, one.new_start, found.pop().new_end)
        found.append(one)
        place -= removes
    return found[::-1]
