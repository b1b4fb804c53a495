"""Exclusive access: one process at a time moves refs, and clears away the locks of one that died while it did."""

import fcntl
import os
import random
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from ._protocol import Locked

MARK = "caesura.exclusive"
"""The file that is locked, in a repository's folder."""

_SECONDS = 10.0


def common(repository: Path) -> Path:
    """The folder that a repository's refs are in: a linked worktree has the main one's."""
    pointer = repository / "commondir"
    return repository / pointer.read_text().strip() if pointer.exists() else repository


@contextmanager
def exclusive(repository: Path, *names: str) -> Iterator[None]:
    """Be the only process of ours that takes git's own locks on these files (``HEAD``, ``refs/…``, ``packed-refs``).

    Git's locks are files, which outlive a process that is killed. This one does not, and keeps the names of what
    its holder is about to lock: if it is found with names in it, their holder died, and their locks are removed.

    Raises:
        BlockingIOError: another process does just that. It takes milliseconds; try again.
    """
    folder = common(repository)
    file = os.open(folder / MARK, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise BlockingIOError(error.errno, f"another process holds the lock on {folder / MARK}") from None
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


@contextmanager
def in_turn(repository: Path) -> Iterator[None]:
    """`exclusive`, once it is this process's turn.

    Raises:
        Locked: it never came.
    """
    deadline = time.monotonic() + _SECONDS
    with ExitStack() as stack:
        while True:
            try:
                stack.enter_context(exclusive(repository))
                break
            except BlockingIOError as error:
                if time.monotonic() > deadline:
                    raise Locked(
                        f"For {_SECONDS:.0f} seconds, {error.strerror}.",
                        hint="If a process that uses the repository hangs, end it.",
                    ) from error
                time.sleep(random.uniform(0.001, 0.02))  # noqa: S311  # jitter, not a secret
        yield
