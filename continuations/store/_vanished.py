"""How often something that was there is there no more: who builds on what they read before then looks again."""

import os
from pathlib import Path

from . import _disk

_COUNT = "caesura.erased"


def erasures(folder: Path | str) -> int:
    """How often something was erased here, or taken back: what was there then need not be there now."""
    path = f"{folder}/{_COUNT}"
    # Each step asks, and mostly there is none: a Path takes longer, and so does an error.
    return os.stat(path).st_size if os.access(path, os.F_OK) else 0  # noqa: PTH116


def about_to_erase(folder: Path) -> None:
    """Count one more, before anything goes.

    Raises:
        OSError: the disk is full, or may not be written.
    """
    _disk.append(folder / _COUNT, b".")
