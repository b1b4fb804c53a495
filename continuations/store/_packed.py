"""Packed refs: the one file that holds the refs without files of their own, searched and not read as a whole.

What is looked at is checked, line by line; a line elsewhere that is damaged is another ref's affair. A search that
meets a damaged one has no answer, so that a ref is never taken for missing because the file is torn.
"""

import mmap
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import cached_property
from pathlib import Path

from . import _disk
from ._errors import Torn, torn
from ._format import is_id
from ._refused import unread

PACKED = "packed-refs"

_NO_REFS = b"# pack-refs with: peeled fully-peeled sorted \n"
_HEADER = b"# pack-refs with: sorted \n"  # with which nothing is said of what tags point to
_LONGEST = 4096
_SAMPLES, _SAMPLE = 64, 64
# What git allows, and nothing that could lead out of the folder.
_REF = re.compile(r"(?:(?:[A-Z]+_)*HEAD|refs(?:/(?!\.)[^\x00-\x20\x7f~^:?*\[\\/\ud800-\udfff]+)+)")
_LINE = re.compile(rb"(?:([0-9a-f]{40}) )?([^\n\x00]*)\n")


Identity = tuple[int, int, int]
"""A file's number, size and time."""


class _Unsorted(Exception):
    """The names are in another order than the file says."""


class View:
    """The packed refs as they were at one moment."""

    def __init__(self, file: Path, data: mmap.mmap | bytes, identity: Identity = (0, 0, 0)) -> None:
        """Look at the first line and the last. `identity` tells the file from others of that name.

        Raises:
            Torn: the file is empty or cut short, or holds something else.
        """
        self._file, self._data, self.identity = file, data, identity
        last = data[data.rfind(b"\n", 0, len(data) - 1) + 1 :]
        first = data[: data.find(b"\n") + 1]
        if not (first and is_line(first) and is_line(last)):  # git puts a line there even if there are no refs
            raise torn("The packed refs", file, "the file is empty or cut short, or holds something else")
        self._start = len(first) if first.startswith(b"#") else 0
        self._sorted = self._start > 0 and b" sorted " in first

    @property
    def size(self) -> int:
        """How many bytes they are."""
        return len(self._data)

    def find(self, ref: str) -> str | None:
        """The id that a ref holds, or None.

        Raises:
            Torn: it holds something else, or the file is damaged where the ref would be.
        """
        there, found = self._find(ref)
        if there and found is None:
            raise torn(ref, self._file, "it holds no commit's id")
        return found

    def _find(self, ref: str) -> tuple[bool, str | None]:
        if self._sorted:
            try:
                start = self._search(ref.encode())
            except _Unsorted:
                self._sorted = False
            else:
                name, found, _ = self._entry(start) if start < len(self._data) else (b"", None, 0)
                return (True, found) if name == ref.encode() else (False, None)
        return ref in self._all, self._all.get(ref)

    def entries(self, prefix: str) -> Iterator[tuple[str, str | None]]:
        """The refs that begin so, in order, with what they hold; None is no id.

        Raises:
            Torn: the file is damaged among them.
        """
        found = ((name, found) for _, name, found in self._range(prefix))
        return found if self._sorted else iter(sorted(one for one in found if one[0].startswith(prefix)))

    def _range(self, prefix: str) -> Iterator[tuple[int, str, str | None]]:
        """The refs among which are all that begin so, and, if the file is sorted, no others."""
        if self._sorted:
            wanted = prefix.encode()
            try:
                start, end = self._search(wanted), self._search(wanted[:-1] + bytes([wanted[-1] + 1]))
            except _Unsorted:
                self._sorted = False
            else:
                return self._between(start, end)
        return self._between(self._start, len(self._data))

    def places(self, prefix: str) -> Iterator[tuple[int, str, str]]:
        """The refs that begin so, each after its place in the file; what holds no id holds the empty text.

        Raises:
            Torn: the file is damaged among them.
        """
        return ((place, name, found or "") for place, name, found in self._range(prefix) if name.startswith(prefix))

    def at(self, place: int) -> tuple[str, str] | None:
        """The ref that stands at a place, and what it holds, as `places` has it; None if none does."""
        match = _LINE.match(self._data, place) if place < len(self._data) else None
        if match is None or self._data[place - 1] != ord("\n"):
            return None
        found, name = match.groups()
        if found is not None:
            return name.decode("utf-8", "replace"), found.decode()
        entry = self._ref(match)
        return None if entry is None else (entry[0], "")

    def locate(self, ref: str) -> int | None:
        """The place of a ref in the file, if it is sorted, and it is there.

        Raises:
            Torn: the file is damaged where the ref would be.
        """
        with suppress(_Unsorted):
            place = self._search(ref.encode())
            found = self.at(place)
            return place if found is not None and found[0] == ref else None
        return None

    def samples(self) -> bytes:
        """A little of the file from many places, by which two files are told apart that else look alike."""
        step = max(1, len(self._data) // _SAMPLES)
        return b"".join(self._data[at : at + _SAMPLE] for at in range(0, len(self._data), step))

    def replaced(self, refs: Mapping[str, str | None]) -> bytes:
        """The whole file, but with these refs, which point to commits; None is no ref.

        Raises:
            Torn: it is damaged where one of them belongs.
        """
        parts, at = list[bytes](), 0
        try:
            for ref in sorted(refs, key=str.encode) if self._sorted else ():
                start = self._search(ref.encode())
                parts += [self._data[at:start], *([] if refs[ref] is None else [f"{refs[ref]} {ref}\n".encode()])]
                there = self._entry(start) if start < len(self._data) else None
                at = there[2] if there is not None and there[0] == ref.encode() else start
        except _Unsorted:
            self._sorted = False
        if not self._sorted:
            return View(self._file, self._in_order()).replaced(refs)
        return b"".join([*parts, self._data[at:]])

    def _in_order(self) -> bytes:
        """The whole file, with its refs sorted, each with what its tag points to."""
        head, entries, name = _HEADER, dict[bytes, bytes](), b""
        for line in bytes(self._data).splitlines(keepends=True):
            if not is_line(line):
                raise self._damaged(self._data.find(line))
            if line.startswith(b"#"):
                head = line if b" sorted " in line else line.rstrip(b"\n").rstrip() + b" sorted \n"
            elif line.startswith(b"^"):
                entries[name] += line
            else:
                name = line.rstrip(b"\n").partition(b" ")[2]
                entries[name] = line
        return head + b"".join(entries[name] for name in sorted(entries))

    @cached_property
    def _all(self) -> dict[str, str | None]:
        return {name: found for _, name, found in self._between(self._start, len(self._data))}

    def _between(self, start: int, end: int) -> Iterator[tuple[int, str, str | None]]:
        at = start
        for match in _LINE.finditer(self._data, start, end):
            if match.start() != at:
                break
            at = match.end()
            entry = self._ref(match)
            if entry is not None:
                yield match.start(), *entry
        if at != end:
            raise self._damaged(at)

    def _ref(self, match: re.Match[bytes]) -> tuple[str, str | None] | None:
        """The ref in a line, and the id that it holds; None if it is a line of another kind, or names no ref.

        Raises:
            Torn: it is neither.
        """
        found, text = match.groups()
        if found is None and text[:1] in (b"^", b"#"):
            return None
        name = (text if found is not None else text.partition(b" ")[2]).decode("utf-8", "replace")
        if is_ref(name):
            return name, None if found is None else found.decode()
        if found is None:
            raise self._damaged(match.start())
        return None

    def _search(self, wanted: bytes) -> int:
        """Where the first ref begins whose name is not below `wanted`.

        Raises:
            Torn: a line on the way there is damaged.
            _Unsorted: the lines on the way there are in no order.
        """
        low, high = self._start, len(self._data)
        below, above = b"", b""
        while low < high:
            start = max(low, self._data.rfind(b"\n", low, (low + high) // 2) + 1)
            if self._data[start] == ord("^"):  # what the tag in the line before points to
                start = max(low, self._data.rfind(b"\n", low, start - 1) + 1)
            name, _, end = self._entry(start)
            if name <= below or (above and name >= above):
                raise _Unsorted
            if name < wanted:
                low, below = end, name
            else:
                high, above = start, name
        return low

    def _entry(self, start: int) -> tuple[bytes, str | None, int]:
        """The name of the ref in a line, what it holds, and where the next one begins."""
        match = _LINE.match(self._data, start)
        if match is None:
            raise self._damaged(start)
        found, name = match.groups()
        if found is None:
            name = name.partition(b" ")[2]
            if not is_ref(name.decode("utf-8", "replace")):
                raise self._damaged(start)
        end = match.end()
        if self._data[end : end + 1] == b"^":
            end = self._data.find(b"\n", end) + 1
        return name, None if found is None else found.decode(), end

    def _damaged(self, at: int) -> Torn:
        return torn("The packed refs", self._file, f"there is no ref in the line at byte {at:,}")


class PackedRefs:
    """A repository's packed refs; whether they are others by now is looked up each time."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / PACKED
        self._known: View | None = None
        self._none = View(self._file, _NO_REFS)

    def close(self) -> None:
        """Forget them, and let go of the file."""
        self._known = None

    def view(self) -> View:
        """The packed refs as they are now: the same view as the last time, if they are.

        Raises:
            Torn: they cannot be read, or the file is empty or cut short.
        """
        try:
            stat = self._file.stat()
            identity = (stat.st_ino, stat.st_size, stat.st_mtime_ns)
            if self._known is None or self._known.identity != identity:
                self._known = View(self._file, self._mapped(), identity)
        except FileNotFoundError:
            return self._none
        except OSError as error:
            raise unread("The packed refs", self._file, error) from error
        return self._known

    def _mapped(self) -> mmap.mmap | bytes:
        with _disk.opened(self._file) as opened:
            try:
                return mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ)
            except ValueError:  # of no length
                return b""

    def lines(self) -> list[bytes]:
        """All of the file's lines, whole or not; one that is empty if the file is."""
        try:
            with _disk.opened(self._file) as opened:
                return opened.readall().splitlines(keepends=True) or [b""]
        except OSError:
            return []

    def mended(self) -> bytes:
        """What is left of the file without the lines that are none, or are cut short."""
        return b"".join(line for line in self.lines() if is_line(line)) or _NO_REFS


def is_line(line: bytes) -> bool:
    """Whether a line of the packed refs is one; what its name may be is nobody's business here."""
    name = line.rstrip(b"\n").partition(b" ")[0].removeprefix(b"^").decode("latin-1")
    return line.endswith(b"\n") and b"\x00" not in line and (line.startswith(b"#") or is_id(name))


def is_ref(name: str) -> bool:
    """Whether a text can name a ref, by git's rules; none that does leads out of the repository's folder."""
    return (
        len(name) <= _LONGEST
        and _REF.fullmatch(name) is not None
        and ".." not in name
        and "@{" not in name
        and not name.endswith((".", ".lock"))
        and ".lock/" not in name
        and (len(name) < 60 or max(len(part.encode()) for part in name.split("/")) < 250)
    )
