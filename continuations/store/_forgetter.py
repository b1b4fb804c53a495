"""Objects taken out of a repository for good: those that are named, wherever they are, and no others.

Git forgets nothing that may still be wanted, and where loops are kept it is told to delete no object at all. So this
is our own code: files of objects are deleted, packs are written anew without what is to go.
"""

import tempfile
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from . import _disk, _unsynced
from ._errors import Torn
from ._format import is_id
from ._keeping import Unclean
from ._leftovers import ASIDE, half_written, torn_ends, torn_files
from ._objects import Objects
from ._packing import is_early, keeper, left_keepers, tidy_kept
from ._packs import Pack
from ._plumbing import GitFailed, git, pack_of, take_over
from ._protocol import Moved, Unavailable
from ._refused import or_refused
from ._vanished import about_to_erase, erased

_HALF = "Try again in a moment; if nothing works here, delete it."


def check_there(folder: Path, commits: Collection[str], since: int | None) -> None:
    """Make sure that commits are still there with all that they lead to; they were, after so many erasures.

    Raises:
        Moved: something of them is gone.
    """
    if commits and since != erased(folder):
        given = "".join(f"{one}\n" for one in commits).encode()
        try:
            git(folder, "rev-list", "--objects", "--quiet", "--stdin", given=given)
        except GitFailed as error:
            raise Moved(
                f"Something of {next(iter(commits))} was erased, or git has deleted it as no branch led to it.",
                hint="Read it again.",
            ) from error


class Forgetter:
    """Takes objects out of the repository in a folder; only for one who has exclusive access to it.

    All of it outlasts a power cut, whatever else may not: what stays in a pack that is written anew is others'.
    """

    def __init__(self, folder: Path, objects: Objects) -> None:
        self._folder, self._objects = folder, objects

    # What there is -----------------------------------------------------------------------------------------------

    def reached(self, ids: Iterable[str], *words: str) -> set[str]:
        """All that some objects lead to, themselves among it; ids of nothing lead nowhere.

        Raises:
            Unavailable: something that they lead to is missing or damaged.
        """
        given = "".join(f"{one}\n" for one in sorted(set(ids))).encode()
        options = ("rev-list", "--objects", "--no-object-names", "--ignore-missing", "--stdin", *words)
        return set(self._git(*options, given=given).split())

    def commits(self, ids: Iterable[str], *words: str) -> set[str]:
        """The commits that some objects lead to.

        Raises:
            Unavailable: one of them is missing or damaged.
        """
        given = "".join(f"{one}\n" for one in sorted(set(ids))).encode()
        return set(self._git("rev-list", "--ignore-missing", "--stdin", *words, given=given).split())

    def holding(self, commits: Iterable[str]) -> set[str]:
        """The refs that lead to one of these commits."""
        words = [f"--contains={one}" for one in commits]
        return set(self._git("for-each-ref", "--format=%(refname)", *words).split("\n")) if words else set()

    def all(self) -> Iterator[tuple[str, str]]:
        """Every object there is, with its kind."""
        words = ("cat-file", "--batch-all-objects", "--unordered", "--batch-check=%(objectname) %(objecttype)")
        for line in self._git(*words).splitlines():
            name, _, kind = line.partition(" ")
            yield name, kind

    def _git(self, *words: str, given: bytes = b"", tries: int = 3) -> str:
        try:
            return git(self._folder, *words, given=given).decode()
        except GitFailed as error:
            if tries > 1:  # another git may have taken a pack away that this one had found
                return self._git(*words, given=given, tries=tries - 1)
            raise Unavailable(
                f"Git cannot tell what leads to what here: {error}.",
                hint="'caesura verify' says what is damaged, 'caesura repair' mends it.",
            ) from error

    def check_clean(self) -> None:
        """Make sure that every byte in the repository is one that can be told whose it is.

        Raises:
            Unclean: there are damaged or half-written objects, or such as are not to be touched, or not ours.
            Torn: a pack or its index is none, or is cut short.
        """
        self._objects.tidy()
        objects = self._folder / "objects"
        for _, file in torn_files(objects):
            raise unclean(file, self._folder, "is damaged", "'caesura repair' moves it aside.")
        for index in self._indexes():
            with suppress(FileNotFoundError):
                Pack(index).close()
        for file in (self._folder / ASIDE).rglob("*"):
            if file.is_file():
                raise unclean(file, self._folder, "was moved aside by a repair", f"Delete {self._folder / ASIDE}.")
        for name in torn_ends(self._folder):
            raise unclean(self._folder / name, self._folder, "was cut off the journal", "Delete it.")
        self._check_none_half()
        for file in {*objects.glob("pack/*.keep"), *objects.glob("pack/*.promisor")} - {*left_keepers(objects)}:
            if file.suffix == ".promisor" or not is_early(file.with_suffix(".pack")):
                raise unclean(file, self._folder, "says that a pack is not to be touched", "If it may be, delete it.")
        for file in (objects / "info" / "alternates", self._folder / "shallow"):
            if file.exists():
                raise unclean(file, self._folder, "says that objects are elsewhere", "Erase it where they are.")

    def _check_none_half(self, *, of_git: bool = False) -> None:
        objects = self._folder / "objects"
        for file in half_written(objects):
            if not of_git or file.parent != objects:  # ours are not in its folders
                raise unclean(file, self._folder, "is half an object", _HALF)
        left = {*left_keepers(objects)}
        for file in objects.glob("pack/*.pack"):
            if not file.with_suffix(".idx").exists() and keeper(file) not in left:
                raise unclean(file, self._folder, "has no index", _HALF)

    # The list of what is to go -----------------------------------------------------------------------------------

    def plan(self, name: str) -> set[str] | None:
        """The objects that were to go when something was interrupted; None if nothing was. `name` is of its list."""
        try:
            with _disk.opened(self._folder / name) as opened:
                return {line for line in opened.readall().decode("latin-1").split("\n") if is_id(line)}
        except FileNotFoundError:
            return None

    def put_plan(self, name: str, doomed: Iterable[str]) -> None:
        """Keep the list of what is to go until it is gone.

        Raises:
            Unavailable: the disk is full, or may not be written.
        """
        new, file = self._folder / f"{name}.new", self._folder / name
        with or_refused("The list of what is to go could not be written"):
            _disk.unlink(new)
            _disk.write(new, "".join(f"{one}\n" for one in sorted(doomed)).encode())
            _disk.sync(new)
            _disk.rename(new, file)
            _disk.sync(self._folder)

    def drop_plan(self, name: str) -> None:
        """Forget the list itself."""
        _disk.unlink(self._folder / name)
        _disk.sync(self._folder)

    # Forgetting --------------------------------------------------------------------------------------------------

    def forget(self, doomed: set[str]) -> int:
        """Take objects out, wherever they are; how many there were. When this returns, it outlasts a power cut.

        Raises:
            Unavailable: the disk is full, or may not be written. What is gone by then is gone.
            Unclean: git is making a pack, which may have some of them. The rest is gone.
        """
        with or_refused("Not all of it is gone yet"):
            return self._forget(doomed)

    def _forget(self, doomed: set[str]) -> int:
        _unsynced.stand(self._folder, durable=True)  # what takes its place, too
        about_to_erase(self._folder)  # who is about to name one of them looks again
        try:
            gone = self._forget_everywhere(doomed)
        finally:
            erased(self._folder)  # and who has seen one of them since
        self._objects.close()
        self._check_none_half(of_git=True)
        return len(gone)

    def _forget_everywhere(self, doomed: set[str]) -> set[str]:
        tidy_kept(self._folder / "objects")
        gone, known = self._forget_loose(doomed), set[Path]()
        # Git may repack a project meanwhile: it puts what is in some packs into others, or into files of its own.
        while new := sorted(self._indexes() - known):
            for index in new:
                gone |= self._forget_packed(index, doomed)
            known.update(new)
            gone |= self._forget_loose(doomed)
        if gone:
            self._forget_caches()
        return gone

    def _indexes(self) -> set[Path]:
        """The indexes of the packs, but for those that git is making: these have other names, and are let alone."""
        found = (self._folder / "objects" / "pack").glob("*.idx")
        return {index for index in found if not index.name.startswith(".")}

    def _forget_loose(self, doomed: set[str]) -> set[str]:
        objects = self._folder / "objects"
        gone = {name for name in doomed if (objects / name[:2] / name[2:]).exists()}
        for name in gone:
            _disk.unlink(objects / name[:2] / name[2:])
        for folder in sorted({name[:2] for name in gone}):
            try:
                _disk.sync(objects / folder)
            except FileNotFoundError:  # git removes empty folders of objects
                _disk.sync(objects)
        return gone

    def _forget_packed(self, index: Path, doomed: set[str]) -> set[str]:
        """Write a pack anew without some objects, unless it is gone; which of them were in it."""
        try:
            pack = Pack(index)
        except FileNotFoundError:
            return set()
        try:
            ids = set(pack.ids())
        finally:
            pack.close()
        gone, made = ids & doomed, None
        if gone:
            with tempfile.TemporaryDirectory(prefix="caesura-") as scratch:
                try:
                    made = pack_of(self._folder, Path(scratch), sorted(ids - doomed))
                except GitFailed as error:
                    raise Torn(
                        f"{index.with_suffix('.pack')} cannot be written anew: {error}.",
                        hint="'caesura verify' says what is damaged, 'caesura repair' mends it.",
                    ) from error
                if made is not None:
                    objects = self._folder / "objects"
                    made = take_over(made, objects, durable=True, stands_for_others=True)
                    if is_early(index.with_suffix(".pack")):  # then this one is, for as long
                        with suppress(FileNotFoundError):  # it was let go of
                            _disk.rename(keeper(index), keeper(made))
            # The pack first: an index that is left alone, by who dies here, says nothing of what was in it; a pack
            # could be one that git makes.
            _disk.unlink(index.with_suffix(".pack"))
            _disk.sync(index.parent)
            for kind in (".idx", ".rev", ".bitmap", ".mtimes", ".promisor", ".keep"):
                _disk.unlink(index.with_suffix(kind))
            _disk.sync(index.parent)
        if made is not None and not is_early(made):
            _disk.unlink(keeper(made))
        return gone

    def _forget_caches(self) -> None:
        """Take away what git makes of packs and commits to be quicker, and makes again."""
        objects = self._folder / "objects"
        for pattern in ("pack/multi-pack-index*", "info/commit-graph", "info/commit-graphs/*", "info/packs"):
            for file in objects.glob(pattern):
                with suppress(IsADirectoryError, PermissionError):
                    _disk.unlink(file)
                    _disk.sync(file.parent)


def unclean(file: Path, folder: Path, what: str, hint: str) -> Unclean:
    """A file is in the way of forgetting."""
    return Unclean(f"{file.relative_to(folder)} {what}: it may hold what is to be forgotten.", hint=hint)
