"""Merging: what two trees of files have made of a third becomes one, file by file and, within a file, line by line.

A file of which the two make what does not go together stays as the first has it, whole: it is never cut from both, and
no marks are put into it. Renames are not followed.
"""

import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from msgspec.structs import replace

from .._ids import TreeId
from .._workspace import LINK
from ._folder import join
from ._format import FOLDER, Entry
from ._objects import MAX_OBJECT, Batch, Objects
from ._plumbing import GitFailed, git
from ._trees import Trees


class Clash(NamedTuple):
    """A path at which two trees do not go together, and why not; what stood there before, and what the second has."""

    path: str
    why: str
    base: Entry | None
    theirs: Entry | None


class Merged(NamedTuple):
    """A tree merged of two, and where they do not go together: there it is as the first of them."""

    tree: TreeId
    clashes: tuple[Clash, ...]


class Merges:
    """One merge of two trees of a repository; `holds_secret` says what must not be written."""

    def __init__(self, folder: Path, objects: Objects, trees: Trees, holds_secret: Callable[[str], bool]) -> None:
        self._folder, self._objects, self._trees, self._holds_secret = folder, objects, trees, holds_secret
        self._batch = Batch()
        self._clashes: list[Clash] = []

    def merge(self, base: str, ours: str, theirs: str) -> Merged:
        """Merge `theirs` into `ours`, both of which were made of `base`. Every object is written before this returns;
        nothing refers to them yet.

        Raises:
            Torn: something of them is not whole.
            Unavailable: git, which merges lines, cannot be run.
            OSError: an object cannot be written.
        """
        with tempfile.TemporaryDirectory(prefix="caesura-") as scratch:
            self._scratch = Path(scratch)
            tree = self._folders("", base, ours, theirs) or self._trees.write(self._batch, {})
        self._objects.write(self._batch)
        return Merged(TreeId(tree), tuple(sorted(self._clashes, key=lambda clash: clash.path)))

    def _folders(self, path: str, base: str, ours: str, theirs: str) -> str:
        """A folder, merged; the empty text is one that is not there, or in which nothing is left."""
        if theirs in (base, ours):
            return ours
        if ours == base:
            return theirs
        before, mine, other = (self._trees.read(tree) if tree else {} for tree in (base, ours, theirs))
        merged = dict(self._within(path, before, mine, other))
        if merged == dict(mine):
            return ours
        return self._trees.write(self._batch, merged) if merged else ""

    def _within(
        self, path: str, base: Mapping[str, Entry], ours: Mapping[str, Entry], theirs: Mapping[str, Entry]
    ) -> Iterator[tuple[str, Entry]]:
        for name in sorted(base.keys() | ours.keys() | theirs.keys()):
            merged = self._entry(join(path, name), base.get(name), ours.get(name), theirs.get(name))
            if merged is not None:
                yield name, merged

    def _entry(self, path: str, base: Entry | None, ours: Entry | None, theirs: Entry | None) -> Entry | None:
        """What has a name in a folder. A file and a folder may have one name: each then is merged by itself."""
        if theirs in (base, ours):
            return ours
        if ours == base:
            return theirs
        known = len(self._clashes)
        sides = (base, ours, theirs)
        file = self._file(path, *(None if one is None or one.is_folder else one for one in sides))
        clashes = len(self._clashes)
        folder = self._folders(path, *(one.id if one is not None and one.is_folder else "" for one in sides))
        if file is None or not (folder or len(self._clashes) > clashes):
            return Entry(FOLDER, path.rpartition("/")[2], folder) if folder else file
        if clashes == known:
            self._clash(path, "it is a file in one and a folder in the other", base, theirs)
        return ours

    def _file(self, path: str, base: Entry | None, ours: Entry | None, theirs: Entry | None) -> Entry | None:
        if theirs in (base, ours):
            return ours
        if ours == base:
            return theirs
        if ours is None or theirs is None:
            changed, gone = ("it", "you") if ours is None else ("you", "it")
            return self._clash(path, f"{changed} changed it, and {gone} deleted it", base, theirs, ours)
        if LINK in (ours.mode, theirs.mode):
            return self._clash(path, "both changed it, and it is a link", base, theirs, ours)
        was = None if base is None or base.mode == LINK else base  # a link has no lines in common with a file
        if was is None and ours.mode != theirs.mode:
            return self._clash(path, "both made it, and only one so that it may be run", base, theirs, ours)
        mode = theirs.mode if was is not None and ours.mode == was.mode else ours.mode
        if ours.id == theirs.id or (was is not None and ours.id == was.id):
            return replace(theirs, mode=mode)
        if was is not None and theirs.id == was.id:
            return replace(ours, mode=mode)
        blob, why = self._lines(was, ours, theirs)
        if blob is None:
            return self._clash(path, f"both {'made' if was is None else 'changed'} it{why}", base, theirs, ours)
        return replace(ours, mode=mode, id=blob)

    def _clash(
        self, path: str, why: str, base: Entry | None, theirs: Entry | None, ours: Entry | None = None
    ) -> Entry | None:
        self._clashes.append(Clash(path, why, base, theirs))
        return ours

    def _lines(self, base: Entry | None, ours: Entry, theirs: Entry) -> tuple[str | None, str]:
        """The merged content of a file that both have changed; None, and why, if that cannot be."""
        before = b"" if base is None else self._objects.get(base.id, "blob")
        parts = {"ours": self._objects.get(ours.id, "blob"), "base": before}
        parts["theirs"] = self._objects.get(theirs.id, "blob")
        if any(b"\0" in data for data in parts.values()):
            return None, ", and it is no text"
        for name, data in parts.items():
            (self._scratch / name).write_bytes(data)
        files = (str(self._scratch / name) for name in ("ours", "base", "theirs"))
        try:
            merged = git(self._folder, "merge-file", "-p", "-q", *files)
        except GitFailed:  # it ends with the number of places that do not go together
            return None, " in the same place"
        if len(merged) > MAX_OBJECT:
            return None, ", and with both it would be too large"
        if self._holds_secret(merged.decode("utf-8", "surrogateescape")):
            return None, ", and with both it would hold a secret"
        return self._batch.add("blob", merged), ""
