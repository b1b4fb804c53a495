"""A folder of files that an agent works on: touched through open folders only, and no link is ever followed.

Nothing here is the repository's own; what is written there goes through ``_disk``.
"""

import errno
import os
import re
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from operator import attrgetter
from pathlib import Path
from typing import NamedTuple

from .._errors import CallerError, ConflictError
from .._workspace import LINK, PLAIN, SCRIPT
from ._owner import is_dead, mark

Stamp = tuple[int, int, int, int, int]
"""What tells a file from an earlier one of that name: times of change of the inode and the content in nanoseconds,
size, inode, mode. Nobody can set the first."""

MAX_FOLDERS = 100
"""How deep folders can be nested."""

OURS = ".caesura~"
"""What a file's name begins with while it is written."""

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_ELSEWHERE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})
stamp_of: Callable[[os.stat_result], Stamp] = attrgetter("st_ctime_ns", "st_mtime_ns", "st_size", "st_ino", "st_mode")
"""A file's stamp. It is asked for tens of thousands of times at each step."""
_UNSEEN = re.compile("[\u200c-\u200f\u202a-\u202e\u206a-\u206f\ufeff]")


class FileChange(NamedTuple):
    """One file that two trees do not have alike: ``A``dded, ``M``odified or ``D``eleted."""

    kind: str
    path: str


class Unkeepable(CallerError):
    """The files of a folder cannot become part of a loop as they are."""


class InTheWay(ConflictError):
    """A file that no commit holds stands where one of a commit's is to be."""


class Occupied(ConflictError):
    """Another loop works in the folder at this moment."""


class Unsettled(Exception):
    """The folder was changed while it was looked at."""


def join(path: str, name: str) -> str:
    """The path of what has a name in a folder; that of the outermost folder is empty."""
    return f"{path}/{name}" if path else name


def mode_of(stamp: Stamp) -> int:
    """The mode that git gives a file: a link, one that may be run, or a plain one; 0 if it is none of them."""
    if stat.S_ISLNK(stamp[4]):
        return LINK
    if not stat.S_ISREG(stamp[4]):
        return 0
    return SCRIPT if stamp[4] & 0o100 else PLAIN


def is_keepable(name: str) -> bool:
    """Whether git takes a name into a tree: not one that some system takes for ``.git``, nor one of ours."""
    plain = re.split(r"[\\:]", _UNSEEN.sub("", name))[0].rstrip(" .").lower()
    return plain not in (".git", "git~1") and not name.startswith(OURS)


def is_repository(folder: int) -> bool:
    """Whether an open folder is a git repository's own, as the one that loops are in."""
    return all(stamp_at(folder, name) is not None for name in ("HEAD", "objects", "refs"))


def stamp_at(folder: int, name: str) -> Stamp | None:
    """The stamp of what has a name in an open folder, or None if nothing has."""
    try:
        return stamp_of(os.lstat(name, dir_fd=folder))
    except FileNotFoundError:
        return None


@contextmanager
def opened(root: Path) -> Iterator[int]:
    """The folder itself, which may be named through links.

    Raises:
        Unkeepable: it is not there, or cannot be read.
    """
    try:
        folder = os.open(root, _FOLDER & ~os.O_NOFOLLOW)
    except OSError as error:
        raise Unkeepable(
            f"{root} cannot be read: {error.strerror}.", hint="Name a folder that is there and may be read."
        ) from error
    try:
        yield folder
    finally:
        os.close(folder)


@contextmanager
def within(folder: int, path: str) -> Iterator[int]:
    """A folder below an open one, by its path; no part of that is followed if it is a link.

    Raises:
        Unsettled: it is not there, or something else is.
        Unkeepable: it may not be read.
    """
    at = folder
    try:
        for name in filter(None, path.split("/")):
            below = entered(at, name, path)
            if at != folder:
                os.close(at)
            at = below
        yield at
    finally:
        if at != folder:
            os.close(at)


def entered(folder: int, name: str, path: str) -> int:
    """A folder in an open one, to be closed by the caller; `path` is what it is called if it cannot be read.

    Raises:
        Unsettled, Unkeepable: as `within`.
    """
    try:
        return os.open(name, _FOLDER, dir_fd=folder)
    except OSError as error:
        if error.errno in _ELSEWHERE:
            raise Unsettled from error
        raise unreadable(path, error) from error


def names_in(folder: int, path: str) -> list[str]:
    """The names of all that is in an open folder; `path` is what that is called if it cannot be read.

    Raises:
        Unkeepable: it may not be read.
    """
    try:
        return os.listdir(folder)
    except OSError as error:
        raise unreadable(path, error) from error


def unreadable(path: str, error: OSError) -> Unkeepable:
    """A file or a folder that may not be read."""
    return Unkeepable(
        f"{path or 'The folder'} cannot be read: {error.strerror}.", hint="Let it be read, or list it in .gitignore."
    )


def read(folder: int, name: str, seen: Stamp) -> bytes:
    """What is in a file or a link, if all of it is what has that stamp.

    Raises:
        Unsettled: it was changed meanwhile.
        OSError: it may not be read.
    """
    try:
        if stat.S_ISLNK(seen[4]):
            data = os.fsencode(os.readlink(name, dir_fd=folder))
            now = stamp_at(folder, name)
        else:
            file = os.open(name, _FILE, dir_fd=folder)
            with os.fdopen(file, "rb", buffering=0) as opened_file:
                if stamp_of(os.fstat(file)) != seen:
                    raise Unsettled
                data = _all(opened_file.fileno(), seen[2] + 1)
                now = stamp_of(os.fstat(file))
    except OSError as error:
        if error.errno in _ELSEWHERE or error.errno == errno.EINVAL:
            raise Unsettled from error
        raise
    if now != seen or len(data) != seen[2]:
        raise Unsettled
    return data


def _all(file: int, most: int) -> bytes:
    pieces: list[bytes] = []
    while most > 0:
        piece = os.read(file, min(most, 2**24))
        if not piece:
            break
        pieces.append(piece)
        most -= len(piece)
    return b"".join(pieces)


def put(folder: int, name: str, mode: int, data: bytes, *, over: bool) -> Stamp:
    """Write a file or a link whole; its stamp. It takes the place of what has the name only if it may be put `over`.

    Raises:
        FileExistsError: something has that name.
        OSError: it cannot be written; what had that name still has it.
    """
    temporary = OURS + mark()
    try:
        if mode == LINK:
            os.symlink(os.fsdecode(data), temporary, dir_fd=folder)
        else:
            permissions = 0o777 if mode == SCRIPT else 0o666
            file = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, permissions, dir_fd=folder)
            with os.fdopen(file, "wb") as written:
                written.write(data)
        if over:
            os.rename(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
        else:
            os.link(temporary, name, src_dir_fd=folder, dst_dir_fd=folder, follow_symlinks=False)
            os.unlink(temporary, dir_fd=folder)
    except OSError:
        with suppress(OSError):
            os.unlink(temporary, dir_fd=folder)
        raise
    return stamp_of(os.stat(name, dir_fd=folder, follow_symlinks=False))


def tidy(folder: int, names: list[str]) -> None:
    """Remove what writers that died have left in an open folder."""
    for name in names:
        if name.startswith(OURS) and is_dead(name.removeprefix(OURS)):
            with suppress(OSError):
                os.unlink(name, dir_fd=folder)
