"""Making a repository for loops, whole, however many processes make it at once and whenever they are killed."""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from . import _disk, _unsynced
from ._exclusive import MARK, in_turn

_SETTINGS = """\
[extensions]
\tpreciousObjects = true
[gc]
\tauto = 0
[maintenance "gc"]
\tenabled = false
[maintenance "loose-objects"]
\tenabled = true
[maintenance "pack-refs"]
\tenabled = true
"""
# A step's objects are written before anything refers to them, and `git prune` and `git gc --prune=now` delete what
# nothing refers to, however new: of a branch moved meanwhile nothing is left. Git itself refuses to delete objects
# where they are precious, and `git maintenance run` can tidy up without deleting any.


def unmade(folder: Path) -> bool:
    """Whether a repository may be made there: it is missing, empty, or was left, or is still being, half made."""
    if (folder / "HEAD").exists():  # as nearly always
        return False
    if not folder.exists():
        return True
    names = {path.name for path in folder.iterdir()} if folder.is_dir() else {""}
    return not names or (MARK in names and "HEAD" not in names)


def make(folder: Path, initialize: Callable[[Path], object], *, durable: bool) -> None:
    """Make a bare repository with git's own initialization, unless another process just did.

    A `durable` one outlasts a power cut, the folders that it is in included.
    """
    missing = [one for one in (folder, *folder.absolute().parents) if not one.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    with in_turn(folder):
        if (folder / "HEAD").exists():  # it is written last
            return
        for left in folder.glob("*.lock"):
            left.unlink()
        if not durable:  # first: who comes once it is made, after one who died over it, must know
            _unsynced.stand(folder, durable=False)
        (folder / "config").write_text(_SETTINGS)
        (folder / ".gitignore").write_text("*\n")  # of a project that it lies in, it is no part
        initialize(folder)
        if durable:
            for path in (*folder.rglob("*"), folder, *(one.parent for one in missing)):
                with suppress(FileNotFoundError):  # another process uses it by now, and is done with that file
                    _disk.sync(path)
