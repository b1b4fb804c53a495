"""A folder of files that somebody is let into: reached by names within it only, and through no link."""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ._errors import ToolError
from ._text import one_line
from ._workspace import LINK, PLAIN, SCRIPT, FileContent
from .store._folder import (
    Stamp,
    Unkeepable,
    Unsettled,
    is_keepable,
    is_repository,
    join,
    mode_of,
    opened,
    put,
    read,
    stamp_at,
    within,
)
from .store._ignore import Ignore, own_rules

LARGEST = 16 * 2**20
"""The largest file that is read or written, in bytes."""


class NotHere(ToolError):
    """A path names nothing that may be reached: nothing at all, something outside of the folder, a link."""


class Folder:
    """The files of a folder, by paths like ``src/main.py``; one that begins with the folder's own is understood too.

    Links are not followed, so that nothing leads out, whoever made them and whenever. Nothing of a git repository's own
    (``.git``) is read or written.
    """

    def __init__(self, root: Path) -> None:
        self._root = root

    def path(self, name: str) -> str:
        """A path as it is within the folder; the folder itself is the empty text.

        Raises:
            NotHere: it leads out, or into a repository's own files.
        """
        for root in (str(self._root), os.path.realpath(self._root)):
            if name == root or name.startswith(f"{root}/"):
                name = name[len(root) :].lstrip("/")
        parts = [part for part in name.split("/") if part not in ("", ".")]
        if name.startswith("/") or "\0" in name or ".." in parts or not all(map(is_keepable, parts)):
            raise NotHere(f"{one_line(name)} is not in the workspace.", hint="Name a file within it, like src/main.py.")
        return "/".join(parts)

    def read(self, name: str) -> bytes:
        """What is in a file.

        Raises:
            NotHere: there is none, or it is larger than `LARGEST`.
        """
        found = self.content(name)
        if found is None:
            raise _no_file(self.path(name))
        if found.mode == LINK:
            raise _is_link(self.path(name))
        return found.data

    def content(self, name: str) -> FileContent | None:
        """The file or the link at a path, or None if nothing is there.

        Raises:
            NotHere: something else is there, or it is larger than `LARGEST`.
        """
        path = self.path(name)
        *folders, last = path.split("/")
        at = ""
        for part in folders:
            with self._at(at, path) as here:
                if stamp_at(here, part) is None:
                    return None
            at = join(at, part)
        with self._at(at, path) as here:
            for _ in range(10):
                stamp = stamp_at(here, last) if last else None
                if stamp is None and last:
                    return None
                if stamp is None or not mode_of(stamp):
                    raise _no_file(path)
                _check_size(path, stamp)
                with suppress(Unsettled):
                    return FileContent(read(here, last, stamp), mode_of(stamp))
        raise NotHere(f"{path} does not stop changing.", hint="Try again.")

    def write(self, name: str, data: bytes) -> bool:
        """Put a file there whole, with the folders that it needs; True if it took the place of another.

        Raises:
            NotHere: something else is there, or it would be larger than `LARGEST`.
        """
        path, (folder, last) = self.path(name), os.path.split(self.path(name))
        _check_data(path, data)
        at = ""
        for part in filter(None, folder.split("/")):
            with self._at(at, path) as here, suppress(FileExistsError):
                os.mkdir(part, dir_fd=here)
            at = join(at, part)
        with self._at(folder, path) as here:
            stamp = stamp_at(here, last)
            if stamp is not None:
                _check_over(path, stamp)
            mode = PLAIN if stamp is None or mode_of(stamp) != SCRIPT else SCRIPT
            try:
                put(here, last, mode, data, over=stamp is not None)
            except OSError as error:
                raise NotHere(f"{path} cannot be written: {error.strerror}.", hint="Choose another name.") from error
            return stamp is not None

    def written(self, name: str, data: bytes) -> FileContent:
        """What would be at a path after `write`, which is not done.

        Raises:
            NotHere: as in `write`.
        """
        _check_data(self.path(name), data)
        before = self.content(name)
        if before is not None and before.mode == LINK:
            raise _is_link(self.path(name))
        return FileContent(data, PLAIN if before is None else before.mode)

    def check(self, name: str) -> None:
        """See whether something may be written to a path by other means, which follow no links.

        Raises:
            NotHere: it leads out, or into a repository's own files.
        """
        folder = os.path.split(self.path(name))[0]
        with suppress(Unsettled), opened(self._root) as root:  # what is not there yet is no repository
            _out_of_bounds(root, folder)

    def names(self, name: str = "") -> list[tuple[str, bool]]:
        """What is in one folder, in order, each with whether it is a folder itself.

        Raises:
            NotHere: there is no such folder.
        """
        path = self.path(name)
        with self._at(path, path) as here:
            found = [(one, stamp_at(here, one)) for one in sorted(os.listdir(here))]  # noqa: PTH208  # it is open
        return [(one, stat.S_ISDIR(stamp[4])) for one, stamp in found if stamp is not None and is_keepable(one)]

    def walk(self, name: str = "") -> Iterator[str]:
        """The paths of all files below a folder, in order, but for those that ``.gitignore`` leaves out. Links are
        among them, and not followed.

        Raises:
            NotHere: there is no such folder.
        """
        path = self.path(name)
        return self._walk(path, own_rules(self._root, None), self.names(path))

    def _walk(self, path: str, rules: Ignore, names: list[tuple[str, bool]]) -> Iterator[str]:
        if (".gitignore", False) in names:
            with suppress(NotHere), self._at(path, path) as here:
                rules = rules.below(here, path)
        for one, is_folder in names:
            below = join(path, one)
            if rules(below, is_folder=is_folder):
                continue
            if not is_folder:
                yield below
            else:
                with suppress(NotHere):  # it went meanwhile
                    yield from self._walk(below, rules, self.names(below))

    @contextmanager
    def _at(self, folder: str, path: str) -> Iterator[int]:
        try:
            with opened(self._root) as root:
                _out_of_bounds(root, folder)
                with within(root, folder) as here:
                    yield here
        except (Unsettled, Unkeepable) as error:
            raise NotHere(f"There is no {one_line(path)}.", hint="List the folder to see what there is.") from error


def _check_data(path: str, data: bytes) -> None:
    """Whether a file of a folder may have a path, and hold that."""
    if not path or len(data) > LARGEST:
        where = path or "The folder"
        raise NotHere(f"{where} cannot be written.", hint=f"Name a file; it can have {LARGEST:,} bytes.")


def _check_over(path: str, stamp: Stamp) -> None:
    """Whether a file may be written over what is there."""
    if not mode_of(stamp):
        raise _no_file(path)
    if mode_of(stamp) == LINK:
        raise _is_link(path)
    _check_size(path, stamp)


def _check_size(path: str, stamp: Stamp) -> None:
    if stamp[2] > LARGEST:
        raise NotHere(f"{one_line(path)} has {stamp[2]:,} bytes.", hint=f"At most {LARGEST:,} are read.")


def _no_file(path: str) -> NotHere:
    return NotHere(f"There is no file {one_line(path)}.", hint="List the folder to see what there is.")


def _is_link(path: str) -> NotHere:
    return NotHere(f"{one_line(path)} is a link.", hint="Name the file that it leads to, if it is in here.")


def _out_of_bounds(root: int, folder: str) -> None:
    """Refuse a folder that is in a git repository's own, as the one that the loop itself is in."""
    at = ""
    for part in filter(None, folder.split("/")):
        at = join(at, part)
        with within(root, at) as here:
            if is_repository(here):
                raise NotHere(f"{one_line(at)} is a git repository.", hint="Its own files are out of bounds.")
