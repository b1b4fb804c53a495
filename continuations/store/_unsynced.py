"""What was written and need not outlast a power cut: whoever builds on it and promises more waits for it first.

A file says that there may be any. It is looked for, made and removed by whoever has exclusive access, with each move of
a branch: so all that a branch leads to is on the disk, or the file is there.
"""

import os
from pathlib import Path

from . import _disk

_MARK = "caesura.unsynced"


def stand(folder: Path | str, *, durable: bool) -> bool:
    """Before a branch moves: wait until all that others lead to is on the disk; or else say that it may not be.

    Whether there was anything to wait for.

    Raises:
        OSError: the disk is full, or may not be written.
    """
    noted = _noted(folder)
    if durable and noted:
        _disk.sync_all()
        _disk.unlink(Path(folder) / _MARK)
    elif not durable and not noted:
        _disk.append(Path(folder) / _MARK, b"")
    return durable and noted


def lighten(folder: Path | str, *, durable: bool) -> None:
    """Before exclusive access is asked for: wait for most of what `stand` would then let everybody wait for."""
    if durable and _noted(folder):
        _disk.sync_all()


def _noted(folder: Path | str) -> bool:
    return os.access(f"{folder}/{_MARK}", os.F_OK)  # each step asks: a Path takes longer
