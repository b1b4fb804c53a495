"""Exclusive access: one process at a time moves refs, and clears away the locks of one that died while it did."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_FILE = "caesura.exclusive"


@contextmanager
def exclusive(repository: Path, *names: str) -> Iterator[None]:
    """Be the only process of ours that takes git's own locks on these files (``HEAD``, ``refs/…``, ``packed-refs``).

    Git's locks are files, which outlive a process that is killed. This one does not, and keeps the names of what
    its holder is about to lock: if it is found with names in it, their holder died, and their locks are removed.

    Raises:
        BlockingIOError: another process does just that. It takes milliseconds; try again.
    """
    common = repository / "commondir"  # that of a linked worktree, whose refs are the main one's
    folder = repository / common.read_text().strip() if common.exists() else repository
    file = os.open(folder / _FILE, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise BlockingIOError(error.errno, f"another process holds the lock on {folder / _FILE}") from None
        for name in os.pread(file, 10_000, 0).decode("utf-8", "replace").split():
            if name in ("HEAD", "packed-refs") or (name.startswith("refs/") and ".." not in name):
                (folder / f"{name}.lock").unlink(missing_ok=True)
        os.ftruncate(file, 0)
        os.pwrite(file, "\n".join(names).encode(), 0)
        try:
            yield
        finally:
            os.ftruncate(file, 0)
    finally:
        os.close(file)
