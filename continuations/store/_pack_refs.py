"""Branches into the list of packed refs: as git does it, but in short turns, and only branches of root loops.

That of a nested loop goes when its result is taken, and to take one from the list, the whole list is written again.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from .._codec import Unreadable
from . import _disk
from ._exclusive import Held, in_turn
from ._format import is_id
from ._owner import is_dead, mark
from ._packed import PACKED, Identity, PackedRefs, View
from ._repack import Breathe

_PREPARED = "caesura.packed-refs."
_TURN = 32  # branches whose files are taken away before others have their turn


Listed = Callable[[View, Identity, Mapping[str, str]], None]
"""Told which branches were put into the list, which list they were put into, and which it became."""


class Branches:
    """The branches of root loops with files of their own. What is written here outlasts a power cut."""

    def __init__(self, folder: Path, loops: str, breathe: Breathe, listed: Listed) -> None:
        """`listed` is told what was put into the list."""
        self._folder, self._loops, self._breathe, self._told = folder, loops, breathe, listed
        self._packed = PackedRefs(folder)

    def count(self) -> int:
        """How many there are."""
        return sum(1 for _ in self._files(nested=False))

    def loose(self, *, nested: bool = True) -> dict[str, str]:
        """The commit of each, by its full name; what is no commit's id is left out."""
        found: dict[str, str] = {}
        for name, path in self._files(nested=nested):
            head = _content(path)
            if is_id(head):
                found[name] = head
        return found

    def _files(self, *, nested: bool) -> Iterator[tuple[str, Path]]:
        with suppress(OSError):
            for entry in os.scandir(self._folder / self._loops):
                if (nested or "." not in entry.name) and not entry.name.endswith(".lock"):
                    yield self._loops + entry.name, Path(entry.path)

    def pack(self, *, bound: int, dry: bool) -> int:
        """Put them into the list, if there are more than `bound`; how many.

        Raises:
            OSError: the disk is full, or may not be written. The branches are as they were.
        """
        for left in self._folder.glob(f"{_PREPARED}*"):
            if is_dead(left.name.removeprefix(_PREPARED)):
                _disk.unlink(left)
        loose = self.loose(nested=False) if self.count() > bound else {}
        if not loose or dry:
            return len(loose)
        with suppress(Held, Unreadable):  # somebody else is at it, or it is for a repair
            listed = self._listed(loose)
            return sum(self._take_away(part) for part in _parts(listed))
        return 0

    def _listed(self, loose: Mapping[str, str]) -> dict[str, str]:
        """Write the list with these branches in it; which of them are."""
        before = self._packed.view()
        prepared = self._folder / f"{_PREPARED}{mark()}"
        _disk.write(prepared, before.replaced(loose))
        try:
            _disk.sync(prepared)
            stat = prepared.stat()
            self._breathe()
            with in_turn(self._folder) as locks:
                locks.take(PACKED, prepared)
                # Whoever deletes a branch holds this lock until its file is gone: one that is there is not deleted.
                gone = not all((self._folder / name).is_file() for name in loose)
                if gone or self._packed.view() is not before:
                    raise Held(f"{PACKED} has just changed")
                locks.commit(PACKED)
        finally:
            _disk.unlink(prepared)
        self._told(before, (stat.st_ino, stat.st_size, stat.st_mtime_ns), loose)
        return dict(loose)

    def _take_away(self, part: Mapping[str, str]) -> int:
        """Remove the files of branches that are as the list has them; one that somebody is moving stays."""
        self._breathe()
        with in_turn(self._folder) as locks, locks.several(part) as locked:
            view = self._packed.view()
            same = [name for name in locked if _content(self._folder / name) == part[name] == view.find(name)]
            for name in same:
                _disk.unlink(self._folder / name)
            return len(same)


def _content(file: Path) -> str:
    try:
        with _disk.opened(file) as opened:
            return opened.read(64).decode("latin-1").removesuffix("\n")
    except OSError:
        return ""


def _parts(branches: Mapping[str, str]) -> Iterator[dict[str, str]]:
    names = sorted(branches)
    for at in range(0, len(names), _TURN):
        yield {name: branches[name] for name in names[at : at + _TURN]}
