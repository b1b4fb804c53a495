"""Between a repository of loops and projects: files that are taken from a commit, and brought back as commits."""

import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from msgspec.structs import replace

from .._errors import CallerError
from .._ids import CommitId, TreeId
from .._text import one_line, shell_quoted
from .._workspace import LINK, PLAIN, SCRIPT, Origin
from . import _disk
from ._early import Early
from ._errors import TooLarge, Torn
from ._exclusive import in_turn
from ._folder import MAX_FOLDERS, Unkeepable, is_keepable, join
from ._format import FOLDER, Entry, Kind, read_commit
from ._layout import BRANCHES, WORKSPACE
from ._objects import MAX_OBJECT, Batch, Objects
from ._plumbing import GitFailed, beside, git, pack_of, take_over
from ._project import BranchInUse, NoProject, Project, leads
from ._protocol import Unavailable
from ._revisions import Revisions
from ._snapshot import MAX_NEW, is_secret
from ._trees import EMPTY, Trees
from ._vanished import Found

MAX_HELD_BACK = 100
"""The most files of a project that can be held back from a loop."""


class NothingToBring(CallerError):
    """A loop has no files that a branch could be made of."""


class FileStep(NamedTuple):
    """A step that changed a loop's files: its commit, what they were then, and what tells what is to be said of it."""

    commit: CommitId
    tree: TreeId
    describe: Callable[[], str]


class Brought(NamedTuple):
    """A branch of a project: where it is, where it was, and how many commits of it are a loop's."""

    commit: CommitId
    was: CommitId | None
    commits: int


class Projects:
    """What a repository of loops has to do with projects. `folder` is the repository."""

    def __init__(
        self,
        folder: Path,
        objects: Objects,
        trees: Trees,
        revisions: Revisions,
        early: Early,
        found: Found,
        *,
        durable: bool,
    ) -> None:
        self._folder, self._objects, self._trees, self._revisions = folder, objects, trees, revisions
        self._early, self._found, self._durable = early, found, durable

    def take(self, text: str, holds_secret: Callable[[str], bool], *, borrow: bool = False) -> tuple[TreeId, Origin]:
        """The files of the commit that ``PATH@REVISION`` names, as a loop can have them; their objects are here then.

        With `borrow` they stay where they are, and are read from there from now on. `holds_secret` says what is held
        back.

        Raises:
            NoProject, NoSuchRevision: nothing has that name.
            TooLarge: there is more than a loop can have. Nothing was written.
            Torn: something of it is missing, or not whole.
            Unavailable: it cannot be written.
        """
        project, commit = Project.named(text)
        since = self._found.erasures()
        self._objects.refresh()  # a pack that is held open shows what git has deleted
        theirs = Objects(project.objects)
        taking = _Taking(theirs, self._objects, holds_secret)
        try:
            tree = taking.tree(_tree_of(theirs, commit), "")
        except Torn as error:
            raise Torn(
                f"Not all of {project.path} is there: {error}",
                hint="Of a partial clone, git has to fetch the rest first. "
                f"Or see git -C {shell_quoted(project.path)} fsck",
            ) from error
        finally:
            theirs.close()
        if len(taking.held_back) > MAX_HELD_BACK:
            raise TooLarge(
                f"{len(taking.held_back)} files of {project.path} hold secrets, or cannot be a loop's; "
                f"{MAX_HELD_BACK} is the most.",
                hint="Start with a copy of the project without them: --workspace FOLDER alone.",
            )
        packs: list[Path] = []
        try:
            if borrow and taking.missing:
                with in_turn(self._folder):
                    self._objects.borrow(project.objects)
            elif taking.missing:
                packs += self._copy(project, taking.missing)
            new = {name: made for name, made in taking.trees.items() if _found(self._objects, name, "tree") is None}
            if new:
                packs.append(self._objects.write_packed(new, early=self._early.needed))
            found = taking.found or len(new) < len(taking.trees)
            if self._durable and (borrow or found):
                _disk.sync_all()  # who has brought the rest, and came to no step that names it, need not have waited
            self._early.add(tree, packs)
            if found and self._early.needed:
                self._found.doubt(tree)  # git deletes a pack that holds the rest, if no branch leads to it
            else:
                self._found.note(tree, since)
        except (GitFailed, OSError) as error:
            raise Unavailable(
                f"The files of {project.path} could not be taken: {error}.", hint="Check permissions and free space."
            ) from error
        held_back = tuple(sorted(taking.held_back))
        return TreeId(tree), Origin(repository=str(project.path), commit=commit, held_back=held_back)

    def _copy(self, project: Project, blobs: Iterable[str]) -> Iterator[Path]:
        with tempfile.TemporaryDirectory(prefix="caesura-") as scratch:
            pack = pack_of(project.folder, Path(scratch), blobs)
            if pack is not None:
                objects = self._folder / "objects"
                yield take_over(pack, objects, durable=self._durable, early=self._early.needed)

    def files(self, commit: CommitId) -> TreeId | None:
        """The files that a commit of a loop holds.

        Raises:
            Torn: it is not whole.
        """
        entry = self._trees.read(self._revisions.commit(commit).tree).get(WORKSPACE)
        return None if entry is None else TreeId(entry.id)

    def bring(self, project: Project, branch: str, origin: Origin | None, steps: Iterable[FileStep]) -> Brought:
        """Make a branch of a project one that has the steps as commits, after the commit that the files came from.

        The same steps make the same commits, whoever brings them. The author of each is the loop's.

        Raises:
            BadBranch, BranchInUse: there can be no such branch, or it is not to be moved.
            NoProject: the project has not got that commit.
            Moved, Unavailable: git refuses, or cannot do it. No branch was moved.
        """
        if origin is not None and not project.has(origin.commit):
            raise NoProject(
                f"{project.path} has no commit {one_line(origin.commit, 12)}, from which the loop's files are.",
                hint="Fetch it there first, or name the project that has it: --to PATH.",
            )
        was = project.branch(branch)
        try:
            with beside(self._folder / "objects", {}, project.objects) as aside:
                with suppress(FileNotFoundError):  # the history that the project has not got is not missed here either
                    (aside / "shallow").write_bytes(project.shallow.read_bytes())
                tip, number = self._commits(aside, origin, steps)
                if was is not None and leads(aside, tip, was):
                    return Brought(was, was, number)
                if was is not None and not leads(aside, was, tip):
                    raise BranchInUse(
                        f"{branch} in {project.path} has commits that the loop has not.",
                        hint=f"Name another branch, and merge the two: git -C {shell_quoted(project.path)} merge NAME",
                    )
                project.check_free(branch)
                git(aside, "update-ref", BRANCHES + branch, tip)
                project.fetch(aside, branch)
        except GitFailed as error:
            raise Unavailable(
                f"{branch} could not be made: {error}.", hint="'caesura verify' says more; no branch was moved."
            ) from error
        return Brought(tip, was, number)

    def _commits(self, aside: Path, origin: Origin | None, steps: Iterable[FileStep]) -> tuple[CommitId, int]:
        """Make the commits of the steps in a repository; the last one, and how many there are."""
        objects, batch = Objects(aside / "objects", durable=False), Batch()
        trees = Trees(objects)
        base = EMPTY if origin is None else _tree_of(objects, origin.commit)
        tip, last, number = None if origin is None else origin.commit, str(base), 0
        for step in steps:
            tree: str = step.tree
            for path in () if origin is None else origin.held_back:
                tree = _grafted(trees, batch, tree, base, path.split("/"))
            if tree == last:
                continue
            author = _author_of(self._objects.get(step.commit, "commit"))
            parent = b"" if tip is None else b"parent %s\n" % tip.encode()
            head = b"tree %s\n%sauthor %s\ncommitter %s\n\n" % (tree.encode(), parent, author, author)
            tip, last, number = CommitId(batch.add("commit", head + step.describe().encode())), tree, number + 1
        if tip is None:
            raise NothingToBring("The loop has never had a file.", hint="There is nothing to make a branch of.")
        if batch:
            objects.write_packed(batch)
        objects.close()
        return tip, number


class _Taking:
    """One look at all the files of a commit: what a loop can have of them, and what is not here yet."""

    def __init__(self, theirs: Objects, ours: Objects, holds_secret: Callable[[str], bool]) -> None:
        self._theirs, self._ours, self._holds_secret = theirs, ours, holds_secret
        self._read, self._written = Trees(theirs), Trees(ours)
        self.missing: set[str] = set()
        self.found = False  # whether any was here
        self.trees = Batch()
        self.held_back: list[str] = []
        self._size = 0

    def tree(self, name: str, path: str) -> str:
        """The tree of a folder as a loop can have it; empty if there is nothing in it."""
        if path.count("/") > MAX_FOLDERS:
            raise TooLarge(f"{one_line(path)} lies more than {MAX_FOLDERS} folders deep.", hint="Move it up.")
        kept: dict[str, Entry] = {}
        for name_in, entry in self._read.read(name).items():
            below = join(path, name_in)
            if not is_keepable(name_in):
                self._hold_back(below)
            elif entry.is_folder:
                inner = self.tree(entry.id, below)
                if inner:
                    kept[name_in] = Entry(FOLDER, name_in, inner)
            elif (entry.is_file or entry.mode == LINK) and self._take(entry.id, below):
                kept[name_in] = entry if entry.mode == LINK else replace(entry, mode=_mode(entry))
            else:
                self._hold_back(below)
        if not kept and path:
            return ""
        return self._written.write(self.trees, kept)

    def _take(self, blob: str, path: str) -> bool:
        """Read a file; whether a loop can have it."""
        try:
            here = _found(self._ours, blob, "blob")
            data = self._theirs.get(blob, "blob") if here is None else here
            self.found = self.found or here is not None
        except TooLarge:
            raise TooLarge(
                f"{one_line(path)} is too large; a file of a loop can have {MAX_OBJECT:,} bytes.",
                hint="Start from a commit that is without it.",
            ) from None
        if is_secret(self._holds_secret, path, data):
            return False
        if here is None and blob not in self.missing:
            self.missing.add(blob)
            self._size += len(data)
            if self._size > MAX_NEW:
                raise TooLarge(f"The files have more than {MAX_NEW:,} bytes.", hint="Start from a commit with less.")
        return True

    def _hold_back(self, path: str) -> None:
        if self._holds_secret(path) or not _is_text(path):
            raise Unkeepable(
                "The project has a file that cannot be a loop's, and not even be named: a secret is in its name, or it"
                " is no text.",
                hint="Rename it there, and start from the commit that did.",
            )
        self.held_back.append(path)


def _found(objects: Objects, name: str, kind: Kind) -> bytes | None:
    """An object, if the repository of loops has it; it is as fresh to git then as if it had just been written."""
    try:
        data = objects.get(name, kind)
    except Torn:
        return None
    for file in objects.loose(name):
        with suppress(OSError):
            os.utime(file)
    return data


def _mode(entry: Entry) -> int:
    return SCRIPT if entry.mode & 0o100 else PLAIN


def _is_text(path: str) -> bool:
    return path.encode("utf-8", "surrogateescape") == path.encode("utf-8", "replace")


def _tree_of(objects: Objects, commit: CommitId) -> str:
    return read_commit(objects.get(commit, "commit")).tree


def _author_of(commit: bytes) -> bytes:
    """Who made a commit and when, as it says."""
    lines = commit.partition(b"\n\n")[0].split(b"\n")
    return next(line.removeprefix(b"author ") for line in lines if line.startswith(b"author "))


def _grafted(trees: Trees, batch: Batch, tree: str, base: str, path: list[str]) -> str:
    """A tree with what another has at a path, unless it has something there itself."""
    name, *rest = path
    entries, other = dict(trees.read(tree)), trees.read(base).get(name)
    mine = entries.get(name)
    if other is None or (mine is not None and not (rest and mine.is_folder and other.is_folder)):
        return tree
    if rest:
        other = replace(other, id=_grafted(trees, batch, EMPTY if mine is None else mine.id, other.id, rest))
    entries[name] = other
    return trees.write(batch, entries)
