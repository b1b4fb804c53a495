"""Before a run, which takes minutes: what would keep it from its end is found now."""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

from .report import file_system, written_into
from .run import Refused

_GB = 1_000_000_000
_WHOLE_ARRAYS = frozenset({"langgraph", "langgraph-async"})
"""They write every message again with each step."""

_IN_MEMORY = ("tmpfs", "ramfs")


def room(sides: Iterable[str], tell: Callable[[str], None]) -> None:
    """Say where the work is done, and see that the disk there has room for it.

    Raises:
        Refused: it has not, or there is no folder to work in.
    """
    try:
        folder = tempfile.gettempdir()
    except OSError as error:
        raise Refused(f"There is no folder to work in: {error}. Set TMPDIR to one on a disk.") from error
    needed, free = 3 * _GB if _WHOLE_ARRAYS & set(sides) else _GB, shutil.disk_usage(folder).free
    if free < needed:
        raise Refused(
            f"The work takes up to {needed / _GB:.0f} GB in {folder}, which has {free / _GB:.1f} GB left. "
            "Make room there, or set TMPDIR to a folder on another disk."
        )
    tell(f"working in {folder}, with up to {needed / _GB:.0f} GB at a time")
    if file_system() in _IN_MEMORY:
        tell(f"{folder} is in memory: a flush takes no time there. Set TMPDIR to a folder on a disk")


def files(written: Iterable[Path | None], page: Path | None) -> None:
    """See that what is to be written can be.

    Raises:
        Refused: it cannot.
    """
    for file in filter(None, (*written, page)):
        if not os.access(file if file.exists() else file.parent, os.W_OK) or file.is_dir():
            raise Refused(f"{file} cannot be written. Choose another file.")
    if page is not None:
        try:
            written_into(page.read_text(), "")
        except (OSError, ValueError) as error:
            raise Refused(f"Nothing can be written into {page}: {error}.") from error
