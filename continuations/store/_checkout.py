"""A checkout: a folder's files made those of a tree; only what differs is written, and nothing that no commit holds.

The folder's files are known when it begins: a snapshot of them has just been taken.
"""

import os
import stat
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from msgspec.structs import replace

from .._ids import object_id
from .._workspace import LINK, PLAIN, SCRIPT
from ._errors import Torn, torn
from ._folder import (
    InTheWay,
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
from ._format import Entry
from ._index import Index, Known, forget_tree, is_racy
from ._objects import MAX_OBJECT, Objects
from ._trees import Trees

_TOLD = 5


class _Difference(NamedTuple):
    """A folder that is not as it is to be: the files that go, those that come, the folders in it then; None if it
    goes itself."""

    path: str
    gone: tuple[str, ...]
    new: tuple[Entry, ...]
    folders: frozenset[str] | None


class Checkouts:
    """Makes one folder's files those of trees of a repository."""

    def __init__(self, root: Path, objects: Objects, trees: Trees) -> None:
        self._root, self._objects, self._trees = root, objects, trees

    def make(self, index: Index, tree: str) -> None:
        """Make the files those of `tree`; `index` knows each as soon as it is.

        Raises:
            InTheWay: something stands where a file is to be that no commit holds, or was changed meanwhile.
            Torn: the tree, or a file of it, is not whole.
            OSError: the folder cannot be written.
        """
        differences = list(self._differences(index, "", tree))
        with opened(self._root) as folder:
            self._check_free(folder, index, differences)
            try:
                # What goes may be in the way of what comes: a file of a folder, a folder of a file.
                for difference in reversed(differences):
                    self._remove(folder, index, difference)
                for difference in differences:
                    if difference.folders is not None:
                        self._write(folder, index, difference)
            except (Unsettled, FileExistsError) as error:
                raise InTheWay(
                    f"The files in {self._root} were changed while they were written, or something is in the way.",
                    hint="Nothing that no commit holds was overwritten. See what writes there, then try again.",
                ) from error

    def check(self, index: Index, tree: str) -> None:
        """Whether `make` would find something in its way.

        Raises:
            InTheWay, Torn: it would.
        """
        with opened(self._root) as folder:
            self._check_free(folder, index, list(self._differences(index, "", tree)))

    def entries(self, tree: str) -> Mapping[str, Entry]:
        """What is in a folder of a tree, with git's own modes.

        Raises:
            Torn: there is something in it that no folder of a loop's can hold.
        """
        found: dict[str, Entry] = {}
        for name, entry in self._trees.read(tree).items():
            if entry.is_file:
                entry = replace(entry, mode=SCRIPT if entry.mode & 0o100 else PLAIN)
            elif not entry.is_folder and entry.mode != LINK:
                raise torn(f"Tree {tree}", "workspace", f"{name!r} is neither a file, a link nor a folder")
            if not is_keepable(name):
                raise torn(f"Tree {tree}", "workspace", f"a file is named {name!r}")
            found[name] = entry
        return found

    def _differences(self, index: Index, path: str, tree: str | None) -> Iterator[_Difference]:
        """Folders that differ, each before those within it."""
        known = index.folders.get(path, Known())
        if tree is not None and known.tree == tree:
            return
        entries = {} if tree is None else self.entries(tree)
        inner = {name: entry.id for name, entry in entries.items() if entry.is_folder}
        gone = tuple(name for name in known.blobs if name not in entries or name in inner)
        new = tuple(
            entry
            for name, entry in entries.items()
            if name not in inner and known.blobs.get(name) != (entry.mode, entry.id)
        )
        yield _Difference(path, gone, new, None if tree is None else frozenset(inner))
        for name in sorted(known.folders | inner.keys()):
            yield from self._differences(index, join(path, name), inner.get(name))

    def _check_free(self, folder: int, index: Index, differences: list[_Difference]) -> None:
        """Before anything is written: whether all that would be overwritten or deleted is in a commit, and whole."""
        unknown: list[str] = []
        for path, gone, new, folders in differences:
            known = index.folders.get(path, Known())
            changed = (*gone, *(entry.name for entry in new))
            unknown += [join(path, name) for name in changed if name in known.stamps and not self._has(known, name)]
            with suppress(Unsettled), within(folder, path) as here:
                if path and is_repository(here):  # of loops, say: none of it is a loop's to write
                    unknown.append(path)
                for entry in new:
                    _recognize(here, index, path, entry)
                known = index.folders.get(path, known)
                for name in (*(entry.name for entry in new), *((folders or frozenset()) - known.folders)):
                    seen = stamp_at(here, name)
                    free = seen is None or seen == known.stamps.get(name) or name in known.folders
                    if not free and not (name in (folders or ()) and seen is not None and stat.S_ISDIR(seen[4])):
                        unknown.append(join(path, name))
        if unknown:
            more = f" and {len(unknown) - _TOLD} more" if len(unknown) > _TOLD else ""
            raise InTheWay(
                f"{', '.join(unknown[:_TOLD])}{more} would be overwritten, and no commit holds that.",
                hint="Move it elsewhere, then try again.",
            )

    def _has(self, known: Known, name: str) -> bool:
        """Whether the repository has a file's content: it may be damaged, and its loop have gone back to before it."""
        try:
            self._objects.get(known.blobs[name][1], "blob")
        except Torn:
            return False
        return True

    @staticmethod
    def _remove(folder: int, index: Index, difference: _Difference) -> None:
        path = difference.path
        known = index.folders.get(path)
        if known is None:
            return
        forget_tree(index, path)
        with within(folder, path) as here:
            for name in difference.gone:
                stamp = known.stamps.get(name)
                if stamp is not None and stamp_at(here, name) not in (None, stamp):
                    raise Unsettled
                if stamp is not None:  # else it is left out by now, and stays
                    with suppress(FileNotFoundError):
                        os.unlink(name, dir_fd=here)
                _forget(known, name)
        if difference.folders is None:
            above, _, name = path.rpartition("/")
            with suppress(OSError), within(folder, above) as here:  # files may be in it that are nobody's business
                os.rmdir(name, dir_fd=here)
                del index.folders[path]
                index.folders[above].folders.discard(name)

    def _write(self, folder: int, index: Index, difference: _Difference) -> None:
        path = difference.path
        known = index.folders.setdefault(path, Known())
        forget_tree(index, path)
        with _made(folder, path) as here:
            known.folders |= difference.folders or frozenset()
            for entry in difference.new:
                seen = stamp_at(here, entry.name)
                if seen is not None and seen != known.stamps.get(entry.name):
                    raise Unsettled
                data = self._objects.get(entry.id, "blob")
                _forget(known, entry.name)
                stamp = put(here, entry.name, entry.mode, data, over=seen is not None)
                known.stamps[entry.name], known.blobs[entry.name] = stamp, (entry.mode, entry.id)
                if is_racy(stamp, time.time_ns()):
                    known.racy.add(entry.name)


def _recognize(folder: int, index: Index, path: str, entry: Entry) -> None:
    """Know a file that is as it is to be already, and that no snapshot sees: one that rules leave out, written by a
    checkout that was cut short."""
    seen = stamp_at(folder, entry.name)
    known = index.folders.get(path, Known())
    if seen is None or entry.name in known.stamps or mode_of(seen) != entry.mode or seen[2] > MAX_OBJECT:
        return
    with suppress(Unsettled, OSError):
        if object_id("blob", read(folder, entry.name, seen)) == entry.id:
            index.folders.setdefault(path, known)
            known.stamps[entry.name], known.blobs[entry.name] = seen, (entry.mode, entry.id)
            known.racy.add(entry.name)


def _forget(known: Known, name: str) -> None:
    known.stamps.pop(name, None)
    known.blobs.pop(name, None)
    known.racy.discard(name)


@contextmanager
def _made(folder: int, path: str) -> Iterator[int]:
    """A folder below an open one, made if it is not there."""
    at = ""
    for name in filter(None, path.split("/")):
        with within(folder, at) as here, suppress(FileExistsError):
            os.mkdir(name, dir_fd=here)
        at = join(at, name)
    with within(folder, path) as here:
        yield here
