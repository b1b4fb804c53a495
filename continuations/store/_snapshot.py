"""A snapshot: the files of a folder as a git tree, at the cost of what was changed since the last one."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from .._ids import object_id
from ._early import Early
from ._errors import TooLarge
from ._folder import Stamp, Unkeepable, Unsettled, join, mode_of, opened, read, stamp_at, unreadable, within
from ._format import FOLDER, Entry
from ._ignore import Ignore
from ._index import Index, Known, forget_tree, is_racy
from ._looking import Listing, Looked
from ._objects import MAX_OBJECT, Batch, Objects
from ._trees import Trees

MAX_NEW = 2**30
"""The most bytes of files that one step may add."""

_ATTEMPTS = 5
_CHUNK = 32 * 2**20
_MANY = 256


class Snapshot(NamedTuple):
    """The tree of a folder's files, and the paths of those that are left out of it."""

    tree: str
    left_out: tuple[str, ...]


class Snapshots:
    """Takes snapshots of one folder into a repository; `holds_secret` is asked of each file that is new or changed."""

    def __init__(
        self,
        root: Path,
        objects: Objects,
        trees: Trees,
        rules: Ignore,
        holds_secret: Callable[[str], bool],
        early: Early,
    ) -> None:
        self._root, self._objects, self._trees, self._early = root, objects, trees, early
        self._packs: list[Path] = []
        self._rules, self._holds_secret = rules, holds_secret

    def take(self, index: Index) -> Snapshot:
        """The files as they are now; what is known of them is put into `index`. Every object is written before this
        returns; nothing refers to them yet.

        Raises:
            Unkeepable: a file may not be read, or does not stop changing while it is read.
            TooLarge: there is more than is kept. Nothing was written.
            OSError: an object cannot be written.
        """
        for _ in range(_ATTEMPTS):
            try:
                with opened(self._root) as folder:
                    return self._take(folder, index)
            except Unsettled:
                continue
        raise Unkeepable(
            f"The files in {self._root} do not stop changing.", hint="End what writes there, then try again."
        )

    def _take(self, folder: int, index: Index) -> Snapshot:
        looked = Looked(folder, index, self._rules)
        left_out = looked.left_out
        self._check_sizes(looked.found, index)
        new = self._read(folder, looked.found, index, left_out)
        gone = index.folders.keys() - looked.seen
        for path in gone:
            del index.folders[path]
        index.folders.update(new)
        for path in (*gone, *new):
            forget_tree(index, path)
        batch, made = Batch(), dict[str, str]()
        tree = self._tree("", index, batch, made)
        if not tree:
            tree = self._trees.write(batch, {})  # git knows it, but it may be asked for as any other
        self._write(batch)
        self._early.add(tree, self._packs)
        for path, name in made.items():  # and not before: if it was not written, the next look must do so
            index.folders[path].tree = name
        return Snapshot(tree, tuple(sorted(left_out)))

    @staticmethod
    def _check_sizes(found: dict[str, Listing], index: Index) -> None:
        total = 0
        for path, listing in found.items():
            known = index.folders.get(path)
            for name, stamp in listing.stamps.items():
                if known is not None and known.stamps.get(name) == stamp:
                    continue
                total += stamp[2]
                if stamp[2] > MAX_OBJECT:
                    raise TooLarge(
                        f"{join(path, name)} has {stamp[2]:,} bytes; a file of a loop can have {MAX_OBJECT:,}.",
                        hint="Move it elsewhere, or list it in .gitignore.",
                    )
        if total > MAX_NEW:
            raise TooLarge(
                f"The new and changed files have {total:,} bytes; one step can add {MAX_NEW:,}.",
                hint="List what need not be kept in .gitignore.",
            )

    # Reading -----------------------------------------------------------------------------------------------------

    def _read(self, root: int, found: dict[str, Listing], index: Index, left_out: list[str]) -> dict[str, Known]:
        """What is to be known of the folders that were changed; the files' contents are written."""
        made: dict[str, Known] = {}
        batch, size = Batch(), 0
        for path, listing in found.items():
            known = index.folders.get(path) or Known()
            new = Known(folders=listing.folders)
            with within(root, path) as folder:
                for name, stamp in listing.stamps.items():
                    if known.stamps.get(name) == stamp and name not in known.racy:
                        new.stamps[name], new.blobs[name] = stamp, known.blobs[name]
                        continue
                    began = time.time_ns()
                    stamp, data = _settled(folder, join(path, name), name, stamp)
                    if is_secret(self._holds_secret, join(path, name), data):
                        left_out.append(join(path, name))
                        if name in known.blobs:  # as it was before the secret came into it
                            new.blobs[name] = known.blobs[name]
                        continue
                    blob = object_id("blob", data)
                    old = known.blobs.get(name)
                    if old is None or old[1] != blob:
                        size += len(data)
                        batch.add("blob", data)
                    new.stamps[name], new.blobs[name] = stamp, (mode_of(stamp), blob)
                    if is_racy(stamp, began):
                        new.racy.add(name)
                    if size > _CHUNK:
                        self._write(batch)
                        batch, size = Batch(), 0
            if len(new.stamps) == len(listing.stamps):
                new.own = listing.own
            made[path] = new
        self._write(batch)
        return made

    def _write(self, batch: Batch) -> None:
        if len(batch) > _MANY:
            self._packs.append(self._objects.write_packed(batch, early=self._early.needed))
        elif batch:
            self._objects.write(batch)

    def _tree(self, path: str, index: Index, batch: Batch, made: dict[str, str]) -> str:
        """The tree of a folder as the index has it, empty if there is nothing in it; those that are new are `made`."""
        known = index.folders[path]
        if known.tree:
            return known.tree
        entries = {name: Entry(mode, name, blob) for name, (mode, blob) in known.blobs.items()}
        for name in known.folders:
            below = self._tree(join(path, name), index, batch, made)
            if below:
                entries[name] = Entry(FOLDER, name, below)
        made[path] = self._trees.write(batch, entries) if entries else ""
        return made[path]


def is_secret(holds_secret: Callable[[str], bool], path: str, data: bytes) -> bool:
    """Whether there is a secret in a file, or in its path."""
    return holds_secret(path) or holds_secret(data.decode("utf-8", "surrogateescape"))


def _settled(folder: int, path: str, name: str, stamp: Stamp) -> tuple[Stamp, bytes]:
    """What is in a file that may be written to at this moment, and its stamp then."""
    for _ in range(_ATTEMPTS):
        try:
            return stamp, read(folder, name, stamp)
        except Unsettled:
            now = stamp_at(folder, name)
            if now is None or not mode_of(now):
                raise
            stamp = now
        except OSError as error:
            raise unreadable(path, error) from error
    raise Unsettled
