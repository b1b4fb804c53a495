"""Workspaces: the folders of files that loops work on, and what a repository remembers of each.

A loop works where it was told to, or in a folder of its own within the repository's, made when it is needed. Nothing
here is in any copy of the repository, or has to be: the files themselves are in the loop's commits.
"""

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from .._ids import LoopName, TreeId
from .._workspace import PLAIN, SCRIPT, FileContent
from . import _disk
from ._checkout import Checkouts
from ._differences import changes, differences, is_between
from ._early import Early
from ._exclusive import in_turn, release_of
from ._folder import FileChange, Occupied, Unkeepable, opened
from ._format import Entry
from ._ignore import own_rules
from ._index import Index, Known, load_index, save_index, seed
from ._looks import FOLDER, LOOKS, noted_in
from ._merging import Merged, Merges
from ._objects import Objects
from ._owner import is_dead, mark
from ._snapshot import Snapshots
from ._trees import EMPTY, Trees
from ._unwritten import Unwritten
from ._vanished import Found

_PLACE, _INDEX, _FILES = "place", "index", "files"
_NEW, _FOR = "new~", "for"


class Look(NamedTuple):
    """A loop's files as they are: their tree, and those left out of it; the tree that they were when a commit held them
    last (empty if none did), and the one that they were being made when a process died (empty if none did)."""

    tree: TreeId
    left_out: tuple[str, ...]
    settled: str
    target: str


class Workspaces:
    """The workspaces of a repository. `excludes` says where the person's own file of ignore rules is, if git
    is told of one."""

    def __init__(
        self,
        repository: Path,
        objects: Objects,
        trees: Trees,
        excludes: Callable[[], str | None],
        early: Early,
        found: Found,
    ) -> None:
        self._folder, self._found = repository / FOLDER, found
        self._objects, self._trees, self._excludes, self._early = objects, trees, excludes, early
        self._known: dict[LoopName, tuple[tuple[int, ...], Index]] = {}
        self._noted: dict[LoopName, str] = {}

    def place(self, loop: LoopName) -> Path:
        """The folder that a loop's files are in, or will be."""
        with suppress(OSError), _disk.opened(self._folder / loop / _PLACE) as file:
            return Path(os.fsdecode(file.readall()))
        return self._own(loop)

    def at(self, root: Path) -> Iterator[str]:
        """The names of those that were told to work in a folder; not all of them need be loops any more."""
        for file in self._folder.glob(f"*/{_PLACE}"):
            with suppress(OSError):
                if Path(os.fsdecode(file.read_bytes())) == root.resolve():
                    yield file.parent.name

    def begin(self, root: Path, *, empty: bool = False) -> LoopName:
        """Prepare that a loop which is about to be made works in a folder that is there; the name that stands for the
        loop until it is. An `empty` one is made if it is not there, and gets the loop's files when these are taken up.

        Raises:
            Unkeepable: there is no such folder, it is not empty, or the repository's own files are in it.
            OSError: it cannot be made.
        """
        root = root.resolve()
        if empty and root.exists() and not (root.is_dir() and not any(root.iterdir())):
            raise Unkeepable(
                f"{root} is not empty, and what is there would be overwritten.",
                hint="Name a folder that is empty, or not there yet.",
            )
        if not empty and not root.is_dir():
            raise Unkeepable(f"There is no folder {root}.", hint="Name one that is there; it may be empty.")
        if root == self._folder.parent.resolve() or self._folder.parent.resolve() in root.parents:
            raise Unkeepable(f"{root} is the repository's own.", hint="Name a folder outside of it.")
        for left in self._folder.glob(f"{_NEW}*"):
            if is_dead(left.name.removeprefix(_NEW)) and not (left / _FOR).exists():
                shutil.rmtree(left, ignore_errors=True)
        loop = LoopName(_NEW + mark())
        with self._locked(loop) as own:
            _disk.write(own / _PLACE, os.fsencode(root))
            _disk.sync(own / _PLACE)
            _disk.sync(own)
        if empty:
            root.mkdir(parents=True, exist_ok=True)
            with self._opened(loop) as (_, index):
                index.settled = EMPTY
                self._save(loop, index)
        return loop

    def intend(self, new: LoopName, loop: LoopName, nonce: str) -> None:
        """Say which loop is about to be made: its folder is known then even if this process dies as soon as it is."""
        file = self._folder / new / _FOR
        _disk.unlink(file)
        _disk.write(file, f"{loop} {nonce}".encode())
        _disk.sync(file)
        _disk.sync(file.parent)

    def give_up(self, new: LoopName) -> None:
        """The loop that was prepared for was not made, and will not be."""
        self._known.pop(new, None)
        shutil.rmtree(self._folder / new, ignore_errors=True)

    def claim(self, loop: LoopName, nonce: str) -> None:
        """See to a loop's folder if a process died as soon as it had made the loop."""
        for new in self._folder.glob(f"{_NEW}*/{_FOR}"):
            if new.read_bytes() == f"{loop} {nonce}".encode():
                self.adopt(LoopName(new.parent.name), loop)
                return

    def adopt(self, new: LoopName, loop: LoopName) -> None:
        """The loop that was prepared for has been made. What an earlier one of its name has left is moved aside."""
        self.set_aside(loop)
        old = self._folder / loop
        _disk.rename(self._folder / new, old)
        _disk.sync(self._folder)
        _disk.unlink(old / _FOR)
        if new in self._known:
            self._known[loop] = self._known.pop(new)

    def set_aside(self, loop: LoopName) -> None:
        """Move aside what an earlier loop of a name has left: the one that was just made has nothing to do with it."""
        if os.path.exists(f"{self._folder}/{loop}"):  # noqa: PTH110  # each new loop asks: a Path takes longer
            self._known.pop(loop, None)
            _disk.rename(self._folder / loop, self._folder / f"{loop}.before-{mark()}")

    def look(self, loop: LoopName, kept: str, holds_secret: Callable[[str], bool]) -> Look:
        """The files as they are; their objects are written. `kept` is the tree that a commit holds of them, or empty;
        `holds_secret` says what must not be written.

        Raises:
            Unkeepable, TooLarge: they cannot be kept as they are.
            OSError: an object cannot be written.
        """
        since = self._found.erasures()
        with self._opened(loop) as (root, index):
            if index.since != since:  # what is known to be there may be gone by now
                index.folders, index.since = {}, since
            if kept and not index.folders:
                seed(index, self._trees, kept)
            rules = own_rules(root, self._excludes())
            found = Snapshots(root, self._objects, self._trees, rules, holds_secret, self._early).take(index)
            self._found.note(found.tree, since)
            if kept not in ("", index.settled) and not index.target and self._last_noted(loop) == kept:
                index.settled = kept  # a process died as soon as a commit held what it had looked at
                self._save(loop, index)
            if found.tree not in (kept, index.settled):
                self._note(loop, found.tree)
            settled = self._settled(loop, root, index)
            return Look(TreeId(found.tree), found.left_out, settled, index.target)

    def peek(
        self, loop: LoopName, kept: str, holds_secret: Callable[[str], bool]
    ) -> tuple[tuple[str, ...], tuple[FileChange, ...], bool]:
        """What is left out of the files as they are, and what somebody has changed in them, who are to have the tree
        `kept`; and whether they are yet to be made that. For one who may not write to the repository.

        Raises:
            Unkeepable, TooLarge: as in `look`.
        """
        root = self.place(loop)
        if root == self._own(loop) and not root.exists():
            return (), (), True
        objects = Unwritten(self._objects)
        trees, index = Trees(objects), self._loaded(self._folder / loop / _INDEX)
        if kept and not index.folders:
            seed(index, trees, kept)
        rules = own_rules(root, self._excludes())
        found = Snapshots(root, objects, trees, rules, holds_secret, Early(self._folder, needed=False)).take(index)
        settled, target = self._settled(loop, root, index), index.target
        if found.tree == settled or (target and is_between(trees, found.tree, settled, target)):
            return found.left_out, (), found.tree != kept
        return found.left_out, tuple(changes(trees, kept, found.tree)), False

    def settle(self, loop: LoopName, tree: TreeId) -> None:
        """Note that a commit holds the files as they were looked at last."""
        with self._opened(loop) as (_, index):
            if index.settled != tree or index.target:
                index.settled, index.target = tree, ""
                self._save(loop, index)

    def unsettle(self, loop: LoopName) -> None:
        """Note that no commit may hold the files any more: if they are not those that they are to be, somebody has
        changed them."""
        if (self._folder / loop / _INDEX).exists():
            with self._opened(loop) as (_, index):
                index.settled = index.target = ""
                self._save(loop, index)

    def make(self, loop: LoopName, tree: TreeId) -> None:
        """Make the files, which have just been looked at, those of a tree.

        Raises:
            InTheWay: something that no commit holds would be overwritten, or was changed meanwhile.
            OSError: they cannot be written.
        """
        with self._opened(loop) as (root, index):
            index.target = tree
            self._save(loop, index)
            Checkouts(root, self._objects, self._trees).make(index, tree)
            index.settled, index.target = tree, ""
            self._save(loop, index)
            self._note(loop, tree)

    def check(self, loop: LoopName, tree: TreeId) -> None:
        """See whether the files, which have just been looked at, can be made those of a tree; nothing is written.

        Raises:
            InTheWay: something that no commit holds would be overwritten.
        """
        with self._opened(loop) as (root, index):
            Checkouts(root, self._objects, self._trees).check(index, tree)

    def merge(
        self, loop: LoopName, base: TreeId, ours: TreeId, theirs: TreeId, holds_secret: Callable[[str], bool]
    ) -> Merged:
        """Merge the files of a tree into a loop's, both of which were made of `base`; the objects are written.

        Raises:
            OSError: an object cannot be written.
        """
        since = self._found.erasures()
        merged = Merges(self._folder.parent, self._objects, self._trees, holds_secret).merge(base, ours, theirs)
        if merged.tree not in (ours, theirs):
            self._found.note(merged.tree, since)
            with self._locked(loop):
                self._note(loop, merged.tree)
                self._note(loop, ours)  # that is what the files are until they are made the other
        return merged

    def occupy(self, loop: LoopName) -> Callable[[], None]:
        """Keep other loops out of a loop's folder until what this returns is called, or this process ends.

        Raises:
            Occupied: another one works there.
        """
        with self._opened(loop) as (root, _), opened(root) as folder:
            held = os.dup(folder)
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(held)
            raise Occupied(
                f"Another loop works in {root} now.", hint="Wait until it rests, or fork: a fork has its own folder."
            ) from None
        return release_of(held)

    def changes(self, old: str, new: str) -> Iterator[FileChange]:
        """The files that two trees do not have alike, in the order of their paths."""
        yield from changes(self._trees, old, new)

    def content(self, entry: Entry) -> FileContent:
        """The file that an entry of a tree is.

        Raises:
            Torn: it is missing, or not whole.
        """
        mode = entry.mode if not entry.is_file else SCRIPT if entry.mode & 0o100 else PLAIN
        return FileContent(self._objects.get(entry.id, "blob"), mode)

    def found(self, tree: str, path: str) -> FileContent | None:
        """The file that a tree has at a path, if it has one there.

        Raises:
            Torn: it is missing, or not whole.
        """
        *folders, name = path.split("/")
        for folder in folders:
            above = self._trees.read(tree).get(folder)
            if above is None or not above.is_folder:
                return None
            tree = above.id
        entry = self._trees.read(tree).get(name)
        return None if entry is None or entry.is_folder else self.content(entry)

    def standing(self, loop: LoopName, tree: str) -> Path | None:
        """The folder with a loop's files, if they are there: made or found as that tree has them. Nothing is made."""
        own = self._folder / loop
        index, root = load_index(own / _INDEX), self.place(loop)
        return root if (index.settled, index.target) == (tree, "") and root.is_dir() else None

    def differences(self, old: str, new: str) -> Iterator[tuple[str, Entry | None, Entry | None]]:
        """The paths at which two trees do not have the same file, in order, with what each of them has there."""
        yield from differences(self._trees, old, new)

    def is_between(self, now: str, old: str, new: str) -> bool:
        """Whether each file in one tree is as it is in one of two others: what a checkout that was cut short leaves."""
        return is_between(self._trees, now, old, new)

    def _settled(self, loop: LoopName, root: Path, index: Index) -> str:
        """The tree that files were when a commit held them last. A loop's own folder is empty before there is one."""
        begins = root == self._own(loop) and (bool(index.target) or not (self._folder / loop / _INDEX).exists())
        return index.settled or (EMPTY if begins else "")

    def _own(self, loop: LoopName) -> Path:
        return (self._folder / loop / _FILES).absolute()

    # What is kept ------------------------------------------------------------------------------------------------

    @contextmanager
    def _locked(self, loop: LoopName) -> Iterator[Path]:
        """A loop's folder in the repository, made if it is not there, for this process alone."""
        own = self._folder / loop
        own.mkdir(parents=True, exist_ok=True)
        with in_turn(own):
            yield own

    @contextmanager
    def _opened(self, loop: LoopName) -> Iterator[tuple[Path, Index]]:
        """Where a loop's files are, and what is known of them."""
        with self._locked(loop) as own:
            root = self.place(loop)
            if root == self._own(loop) and not root.exists():  # new, or somebody deleted it: then it is made anew
                _disk.unlink(own / _INDEX)
                self._known.pop(loop, None)
                root.mkdir()
            yield root, self._index(loop, own / _INDEX)

    def _index(self, loop: LoopName, file: Path) -> Index:
        signature = _signature(file)
        known = self._known.get(loop)
        if known is not None and known[0] == signature:
            return known[1]
        for left in file.parent.glob(f"{_INDEX}.*"):
            if is_dead(left.name.removeprefix(f"{_INDEX}.")):
                _disk.unlink(left)
        index = self._loaded(file)
        self._known[loop] = signature, index
        return index

    def _loaded(self, file: Path) -> Index:
        index = load_index(file)
        known = index.folders.get("", Known()).tree
        if index.folders and not (known in ("", index.settled) and self._is_there(index.settled)):
            index.folders = {}  # what is gone from the repository, or may be as no commit holds it, must be read again
        return index

    def _save(self, loop: LoopName, index: Index) -> None:
        file = self._folder / loop / _INDEX
        save_index(file, index)
        self._known[loop] = _signature(file), index

    def _last_noted(self, loop: LoopName) -> str:
        return next(reversed(noted_in(self._folder / loop)), "")

    def _note(self, loop: LoopName, tree: str) -> None:
        """Say that a tree was written, which it may be that no commit will ever name: for who erases the loop; and for
        whoever comes after this process, that the files were that at last."""
        if self._noted.get(loop) != tree:
            _disk.append(self._folder / loop / LOOKS, f"{tree}\n".encode())
            self._noted[loop] = tree

    def _is_there(self, tree: str) -> bool:
        return bool(tree) and next(iter(self._objects.find(tree)), None) is not None


def _signature(file: Path) -> tuple[int, ...]:
    try:
        found = file.stat()
    except OSError:
        return ()
    return found.st_ino, found.st_size, found.st_mtime_ns
