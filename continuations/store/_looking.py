"""A look at a folder of files: which of them are not as the index has them. No file is read."""

import os
import stat
import time
from typing import NamedTuple

from ._errors import TooLarge
from ._folder import (
    MAX_FOLDERS,
    OURS,
    Stamp,
    Unsettled,
    entered,
    is_keepable,
    is_repository,
    join,
    mode_of,
    names_in,
    stamp_at,
    stamp_of,
    tidy,
    within,
)
from ._ignore import EVERYTHING, Ignore
from ._index import Index, Known, is_racy
from ._mounts import promising


class Listing(NamedTuple):
    """What is in a folder: files with their stamps, and the folders to look into; its own stamp, if there is nothing
    else in it and there will be nothing as long as it has that."""

    stamps: dict[str, Stamp]
    folders: set[str]
    own: Stamp | None


class _Place:
    """An open folder. The rules that hold in it are read only if something is there that they decide on."""

    __slots__ = ("_above", "_rules", "folder", "path")

    def __init__(self, folder: int, path: str, above: "_Place | Ignore") -> None:
        self.folder, self.path, self._above = folder, path, above
        self._rules: Ignore | None = None

    def rules(self) -> Ignore:
        """The rules for what is in the folder."""
        if self._rules is None:
            above = self._above.rules() if isinstance(self._above, _Place) else self._above
            # What is kept in a folder stays, though that is left out by now; what is new there is not kept.
            left_out = bool(self.path) and above(self.path, is_folder=True)
            self._rules = EVERYTHING if left_out else above.below(self.folder, self.path)
        return self._rules


class Looked:
    """What a look at an open folder and those below has seen: the paths of all folders, what is in those that are not
    as the index has them, and what is left out for its name.

    Raises:
        Unsettled: something was changed meanwhile.
        Unkeepable: a folder may not be read.
        TooLarge: folders are too deep.
        OSError: something may not be looked at.
    """

    def __init__(self, folder: int, index: Index, rules: Ignore) -> None:
        self.seen: set[str] = set()
        self.found: dict[str, Listing] = {}
        self.left_out: list[str] = []
        self._index, self._promising = index, promising()
        self._walk(_Place(folder, "", rules))

    def _walk(self, place: _Place) -> None:
        folder, path = place.folder, place.path
        if path.count("/") > MAX_FOLDERS:
            raise TooLarge(
                f"{path} lies more than {MAX_FOLDERS} folders deep.", hint="Move it up, or list it in .gitignore."
            )
        self.seen.add(path)
        for name in sorted(self._look(place)):
            below = join(path, name)
            inner = entered(folder, name, below)
            try:
                self._walk(_Place(inner, below, place))
            finally:
                os.close(inner)

    def _look(self, place: _Place) -> set[str]:
        """Look at what is in an open folder; the folders there."""
        folder, known = place.folder, self._index.folders.get(place.path)
        own = self._own(folder)
        if known is not None and own is not None and own == known.own and _has_same_times(folder, known):
            return known.folders
        if own is not None and is_racy(own, time.time_ns()):  # by now: whatever came before this is among the names
            own = None
        names = names_in(folder, place.path)
        if known is not None and _has_same_files(folder, known) and _has_same_folders(folder, known):
            others = set(names).difference(known.stamps, known.folders)
            left_out: list[str] = []
            if not any(_kept(place, name, known, left_out) for name in others):
                known.own = None if others else own
                self.left_out += left_out
                return known.folders
        found = [(name, _kept(place, name, known or Known(), self.left_out)) for name in names]
        stamps = {name: stamp for name, stamp in found if stamp is not None and not stat.S_ISDIR(stamp[4])}
        folders = {name for name, stamp in found if stamp is not None and stat.S_ISDIR(stamp[4])}
        own = own if len(names) == len(stamps) + len(folders) else None
        self.found[place.path] = Listing(stamps, folders, own)
        return folders

    def _own(self, folder: int) -> Stamp | None:
        """The stamp of an open folder, if it changes with the names in it."""
        seen = os.fstat(folder)
        return stamp_of(seen) if seen.st_dev in self._promising else None


def _has_same_times(folder: int, known: Known) -> bool:
    """`_has_same_files`, of a folder whose own stamp is as it was: then each name leads to the same file as before, and
    nothing of that can change without the first of its times."""
    if known.racy or len(known.stamps) != len(known.blobs):
        return False
    look = os.lstat  # what follows is nearly all that a step costs which changes nothing
    try:
        for name, stamp in known.stamps.items():
            if look(name, dir_fd=folder).st_ctime_ns != stamp[0]:
                return False
    except FileNotFoundError:  # since its folder's stamp was looked at
        return False
    return True


def _has_same_files(folder: int, known: Known) -> bool:
    """Whether the files that are known of an open folder are there, as they were."""
    if known.racy or len(known.stamps) != len(known.blobs):
        return False
    return [stamp_at(folder, name) for name in known.stamps] == list(known.stamps.values())


def _has_same_folders(folder: int, known: Known) -> bool:
    """Whether the folders that are known in an open one are folders."""
    stamps = (stamp_at(folder, name) for name in known.folders)
    return all(stamp is not None and stat.S_ISDIR(stamp[4]) for stamp in stamps)


def _kept(place: _Place, name: str, known: Known, left_out: list[str]) -> Stamp | None:
    """The stamp of what has a name in an open folder, if that is to be kept."""
    stamp = stamp_at(place.folder, name)
    if stamp is None:
        raise Unsettled
    is_folder = stat.S_ISDIR(stamp[4])
    where = join(place.path, name)
    if name in (known.folders if is_folder else known.blobs):
        pass  # what is kept stays kept, as in git
    elif not is_keepable(name):
        # A repository within is kept as plain files, without what makes it one.
        if name.startswith(OURS):
            tidy(place.folder, [name])
        elif name != ".git":
            left_out.append(where)
        return None
    elif place.rules()(where, is_folder=is_folder):
        return None
    if is_folder:
        return None if _is_loops(place.folder, name) else stamp
    return stamp if mode_of(stamp) else None


def _is_loops(folder: int, name: str) -> bool:
    """Whether a folder is a repository without a project around it: most likely the one that the loop itself is in."""
    with within(folder, name) as inner:
        return is_repository(inner)
