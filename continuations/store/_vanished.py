"""How often something that was there is there no more: who builds on what they read before then looks again."""

import os
from collections.abc import Callable
from pathlib import Path
from threading import Lock

from . import _disk
from ._kept import Kept

_COUNT = "caesura.erased"
_TREES, _DOUBTED = 1024, -1


def erasures(folder: Path | str) -> int:
    """How often something was erased here, or taken back: what was there then need not be there now."""
    path = f"{folder}/{_COUNT}"
    # Each step asks, and mostly there is none: a Path takes longer, and so does an error.
    return os.stat(path).st_size if os.access(path, os.F_OK) else 0  # noqa: PTH116


def about_to_erase(folder: Path) -> None:
    """Count one more, before anything goes; the number is odd then, until it is `erased`. For whoever has exclusive
    access.

    Raises:
        OSError: the disk is full, or may not be written.
    """
    _disk.append(folder / _COUNT, b".." if erasures(folder) % 2 else b".")


def erased(folder: Path | str) -> int:
    """`erasures`, for whoever has exclusive access: nothing is under way. What was, and ended somehow, is counted once
    more, for who has seen something before it went.

    Raises:
        OSError: the disk is full, or may not be written.
    """
    count = erasures(folder)
    if count % 2:
        _disk.append(Path(folder) / _COUNT, b".")
        count += 1
    return count


def about_to_let_go(folder: Path) -> None:
    """Count two more at once, before git may delete what was kept from it. For whoever has exclusive access.

    Raises:
        OSError: the disk is full, or may not be written.
    """
    _disk.append(folder / _COUNT, b"..")


class Found:
    """Trees of files, each with how many erasures there had been when all that is in it was last known to be there.

    A look, a merge or a project brings such a tree here before a commit names it: what it has in common with others is
    not written again, and goes if these are erased meanwhile. `look_again` is called before anything is read after an
    erasure: a pack that is held open shows what is gone. For any thread at any time.
    """

    def __init__(self, folder: Path, look_again: Callable[[], None]) -> None:
        self._folder, self._look_again, self._turn = folder, look_again, Lock()
        self._trees = Kept[str, int](_TREES, _TREES)
        self._seen = erasures(folder)

    def erasures(self) -> int:
        """How many there have been by now."""
        now = erasures(self._folder)
        if now != self._seen:
            self._look_again()
            self._seen = now
        return now

    def note(self, tree: str, since: int) -> None:
        """All that is in a tree was there after so many."""
        with self._turn:
            self._trees.keep(tree, max(since, self._trees.get(tree) or 0), 1)

    def doubt(self, tree: str) -> None:
        """Something in a tree may go though nothing is erased: who names it asks git."""
        with self._turn:
            self._trees.keep(tree, _DOUBTED, 1)

    def since(self, tree: str) -> int:
        """After how many it was; of a tree that nobody has noted, that is known of the time before the first."""
        with self._turn:
            return self._trees.get(tree) or 0
