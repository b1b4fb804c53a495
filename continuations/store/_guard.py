"""The guard: git's own lock on a branch whose newest steps are in the journal, so that git moves nothing over them.

Each is a second name of one file, and is known by what stands in it, whoever made it and wherever it was copied to. It
belongs to the journal and not to a process: it goes when the steps are sealed.
"""

import os
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path

from . import _disk
from ._exclusive import Held
from ._journal import FOLDER

_TEXT = b"Newer steps of this branch are in Caesura's journal, until they are sealed: a second after the last.\n"


class Guard:
    """The guards of one repository. For whoever has exclusive access."""

    def __init__(self, repository: Path, *, durable: bool) -> None:
        self._repository, self._durable = repository, durable
        self._file = repository / FOLDER / "guard"
        self._known = False

    def put(self, ref: str) -> bool:
        """Put a guard on a branch; False if there is one.

        Raises:
            Held: something else has the branch locked.
            FileNotFoundError: there is no folder for it.
        """
        lock = self.lock(ref)
        try:
            self._link(lock)
        except FileExistsError:
            if is_guard(lock):
                return False
            raise Held(f"{lock} is there") from None
        return True

    def _link(self, lock: Path) -> None:
        if not self._known or not os.path.exists(self._file):  # noqa: PTH110  # each new loop asks: a Path takes longer
            if not is_guard(self._file):
                with suppress(FileExistsError):
                    _disk.make_folder(self._file.parent)
                _disk.unlink(self._file)
                _disk.write(self._file, _TEXT)
            if self._durable:
                _disk.sync(self._file)  # or a guard that outlasts a power cut could be anybody's lock
            self._known = True
        _disk.link(self._file, lock)

    def take_away(self, ref: str) -> None:
        """Let git move a branch again."""
        lock = self.lock(ref)
        if is_guard(lock):
            _disk.unlink(lock)

    def take_stale_away(self, held: Collection[str]) -> None:
        """Take away what guards branches that the journal does not hold, of a process that died between the two."""
        with suppress(FileNotFoundError):
            if self._file.stat().st_nlink > 1 + len(held):
                for ref in self._guarded():
                    if ref not in held:
                        self.take_away(ref)

    def _guarded(self) -> Iterator[str]:
        for folder, _, names in os.walk(self._repository / "refs" / "heads"):
            for name in names:
                path = Path(folder) / name
                if name.endswith(".lock") and is_guard(path):
                    yield str(path.relative_to(self._repository)).removesuffix(".lock")

    def lock(self, ref: str) -> Path:
        """Git's lock on a branch."""
        return self._repository / f"{ref}.lock"


def is_guard(lock: Path) -> bool:
    """Whether a lock of git's is the journal's."""
    try:
        with _disk.opened(lock) as file:
            return file.read(len(_TEXT) + 1) == _TEXT
    except OSError:
        return False
