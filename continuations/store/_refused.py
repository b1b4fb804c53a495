"""What the system refuses, as a person is told it: which file, why, and what to do about it."""

import errno
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from .._errors import CaesuraError
from .._text import shell_quoted
from ._errors import Withheld, torn
from ._protocol import Unavailable

T = TypeVar("T")
Place = str | os.PathLike[str]

_LIMITS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})
"""What says nothing of the file: the process, or the machine, has too much in hand."""

_FORBIDDEN = frozenset({errno.EACCES, errno.EPERM})
"""What says nothing of the file but whose it is."""

_OTHERS = re.compile(r"repository path '(.+)' is not owned by current user")
"""What git says of a repository that is not safe to open; it names the folder that must be said to be."""


_NOTHING = "Make one with 'caesura init', or name another with --repo or CAESURA_REPO."
_MEND = "Mend its configuration if that is what is meant; reftables and SHA-256 cannot be read."
_ELSE = "Name another with --repo; 'caesura init' makes one where nothing is, or in an empty folder."


def refused(what: str, error: OSError) -> Unavailable:
    """Something could not be done with the files of a repository, because of one of them: that is its cause."""
    told = _told(what, error)
    told.__cause__ = error  # also where it is handed on, and raised elsewhere
    return told


def _told(what: str, error: OSError) -> Unavailable:
    if not error.strerror:
        return Unavailable(f"{what}: {error}.", hint=_hint(error.errno, None))
    if not isinstance(error.filename, str | bytes | Path):  # it was open already
        return Unavailable(f"{what}: {error.strerror}.", hint=_hint(error.errno, None))
    file = Path(error.filename if isinstance(error.filename, str | Path) else error.filename.decode(errors="replace"))
    near = next((one for one in (file, *file.parents) if os.path.exists(one)), file)  # noqa: PTH110  # it may not be seen
    return Unavailable(f"{what}: {error.strerror}: {file}.", hint=_hint(error.errno, near))


def _hint(number: int | None, near: Path | None) -> str:
    match number:
        case errno.ENOSPC | errno.EDQUOT if near is None:
            return "Make room on the repository's disk, then try again."
        case errno.EFBIG:
            return "Let the process write larger files: 'ulimit -f' says how large they may be."
        case _ if near is None:
            return "Check the repository's permissions and free space."
        case number if number in _FORBIDDEN:
            return f"See whose it is, and who may read or write it: ls -ld {shell_quoted(near)}"
        case errno.EROFS:
            return f"It is mounted to be read only: findmnt -T {shell_quoted(near)}"
        case errno.ENOSPC | errno.EDQUOT:
            return f"Make room there, then try again: df {shell_quoted(near)}"
        case errno.EMFILE:
            return "Let the process open more of them: 'ulimit -n' says how many it may."
        case _:
            return "Check the repository's permissions and free space."


def unopened(folder: Path, said: str = "") -> Unavailable:
    """A repository that git did not open, and what it `said` of that, if it was asked.

    Raises:
        OSError: it may not be looked into.
    """
    if not folder.exists():
        return Unavailable(f"There is no repository at {folder}.", hint=_NOTHING)
    others = _OTHERS.search(said)
    if others is not None:
        return Unavailable(
            f"{folder} is another user's, and git opens no such repository unasked.",
            hint=f"If you trust them: git config --global --add safe.directory {shell_quoted(others[1])}",
        )
    for head in (folder / "HEAD", folder / ".git" / "HEAD"):  # what may not be looked at is to git as if not there
        with suppress(FileNotFoundError, NotADirectoryError):
            head.stat()
    if said and not said.startswith("Repository not found"):
        return Unavailable(f"{folder} could not be opened: {said.removeprefix(f'{folder}: ')}.", hint=_MEND)
    return Unavailable(f"{folder} is not a git repository.", hint=_ELSE)


def opened_copy(opened: Callable[[Place], T], copy: Place) -> T:
    """What opens a repository opens a copy of one: where there is none, the hint is about the copy."""
    try:
        return opened(copy)
    except Unavailable as error:
        if error.hint not in (_NOTHING, _ELSE):
            raise
        hint = "Name the folder of a copy that is whole: a clone of the repository, or a backup. Nothing was changed."
        raise Unavailable(str(error), hint=hint) from error


def unread(what: str, file: str | Path, error: OSError) -> CaesuraError:
    """An object or a ref that could not be read: it is damaged, unless it is the system that could not read it now."""
    if error.errno in _LIMITS | _FORBIDDEN:
        told = refused(f"{what} could not be read", OSError(error.errno, error.strerror, str(file)))
        return told if error.errno in _LIMITS else Withheld(str(told), hint=told.hint)
    return torn(what, file, error.strerror or str(error))


@contextmanager
def or_refused(what: str) -> Iterator[None]:
    """Turn what the system raises into an error of ours.

    Raises:
        Unavailable: it refused something.
    """
    try:
        yield
    except OSError as error:
        raise refused(what, error) from error
