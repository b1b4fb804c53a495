"""Work on a copy of a repository that stops before any one call to the disk, as a kill would stop it."""

import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from caesura.continuations import Loops
from caesura.continuations.store import _disk

_CALLS = ("write", "append", "rename", "link", "unlink", "make_folder", "remove_folder", "begin", "grow")


def killed_after(
    last: int, folder: Path, copy: Path, work: Callable[[Loops], object], monkeypatch: pytest.MonkeyPatch
) -> int:
    """Do some work in a copy of a repository, and stop before a call to the disk; how many calls there were."""
    shutil.copytree(folder, copy)
    number = 0

    def counted(call: Callable[..., object]) -> Callable[..., object]:
        def carried_out(*arguments: object) -> object:
            nonlocal number
            if number >= last:
                raise KeyboardInterrupt
            number += 1
            return call(*arguments)

        return carried_out

    with monkeypatch.context() as patched:
        for name in _CALLS:
            patched.setattr(_disk, name, counted(getattr(_disk, name)))
        with Loops.open(copy) as opened, suppress(KeyboardInterrupt):
            work(opened)
    for left in copy.glob("objects/tmp_obj_caesura-*"):
        left.unlink()  # its process is not gone in truth, so that the next one would leave it alone
    return number
