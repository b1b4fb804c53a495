"""The disk: every call that changes it goes through here, so that a test can lose what a power cut may lose.

Called by the module's name (``_disk.write``), never imported one by one: that is what lets a test stand between.
"""

import errno
import fcntl
import os
import stat
import sys
from dataclasses import dataclass
from io import FileIO
from pathlib import Path


@dataclass(frozen=True)
class Growing:
    """A file that is kept open to be added to, by its name and its descriptor."""

    path: Path
    descriptor: int


def opened(path: Path | str) -> FileIO:
    """A file to be read. Whatever else has that name (a pipe, say, which would be waited for) is refused.

    Raises:
        FileNotFoundError, NotADirectoryError: there is none.
        OSError: it is no file, or may not be read.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)  # a file that is made of a folder is none, and closes nothing
        raise IsADirectoryError(errno.EISDIR, "Not a file", str(path))
    return FileIO(descriptor)


def write(path: Path, data: bytes, mode: int = 0o666) -> None:
    """Make a new file with this in it. Nothing is synced.

    Raises:
        FileExistsError: there is one of that name.
        OSError: it cannot be written; there is no such file then.
    """
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        _write_all(file, data)
    except OSError:
        path.unlink(missing_ok=True)
        raise
    finally:
        os.close(file)


def append(path: Path, data: bytes) -> None:
    """Add to the end of a file, made if there is none. Nothing is synced."""
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    try:
        _write_all(file, data)
    finally:
        os.close(file)


def begin(path: Path, mode: int = 0o666) -> Growing:
    """Make a new file that is going to grow. Close it with `end`.

    Raises:
        FileExistsError: there is one of that name.
    """
    return Growing(path, os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode))


def grow(file: Growing, data: bytes) -> None:
    """Add to the end of a file that was begun and is kept open. Nothing is synced.

    Raises:
        OSError: not all of it could be written; a part of it may have been.
    """
    _write_all(file.descriptor, data)


def reopen(path: Path) -> Growing:
    """Open a file that is there, to `put` something into it. Close it with `end`."""
    return Growing(path, os.open(path, os.O_WRONLY | os.O_CLOEXEC))


def put(file: Growing, at: int, data: bytes) -> None:
    """Write at a place of a file that is kept open. Nothing is synced.

    Raises:
        OSError: not all of it could be written; a part of it may have been.
    """
    while data:
        written = os.pwrite(file.descriptor, data, at)
        at, data = at + written, data[written:]


def cut(file: Growing, size: int) -> None:
    """Shorten a file that is kept open to so many bytes. Nothing is synced."""
    os.ftruncate(file.descriptor, size)


def settle(file: Growing) -> None:
    """`sync`, of what was added to a file that is kept open."""
    if sys.platform == "darwin":
        fcntl.fcntl(file.descriptor, fcntl.F_FULLFSYNC)
    else:
        os.fdatasync(file.descriptor)


def end(file: Growing) -> None:
    """Let go of a file that was kept open."""
    os.close(file.descriptor)


def _write_all(file: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(file, rest) :]


def sync(path: Path) -> None:
    """Wait until what is in a file, or which names are in a folder, is on the disk itself."""
    file = os.open(path, os.O_RDONLY)
    try:
        if sys.platform == "darwin":  # where fsync leaves it in the disk's own cache
            fcntl.fcntl(file, fcntl.F_FULLFSYNC)
        else:
            os.fsync(file)
    finally:
        os.close(file)


def sync_all() -> None:
    """Wait until all that was written by now, by whomever, is on the disk itself."""
    os.sync()


def rename(old: Path, new: Path) -> None:
    """Give a file another name, in the place of whatever had that name."""
    old.rename(new)


def link(old: Path, new: Path) -> None:
    """Give a file a second name.

    Raises:
        FileExistsError: there is something of that name.
    """
    new.hardlink_to(old)


def unlink(path: Path) -> None:
    """Take a name away, if it is there."""
    path.unlink(missing_ok=True)


def make_folder(path: Path) -> None:
    """Make a folder.

    Raises:
        FileExistsError: there is one, or a file of that name.
    """
    path.mkdir()


def remove_folder(path: Path) -> None:
    """Remove an empty folder.

    Raises:
        OSError: it is not there, or not empty.
    """
    path.rmdir()
