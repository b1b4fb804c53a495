"""What a repository keeps of the files of loops, and the trees that were written of them: a look writes what it finds,
and a merge what it makes, before any commit names it."""

from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from pathlib import Path

from .._ids import LoopName
from . import _disk
from ._format import is_id

FOLDER = "caesura.workspaces"
LOOKS = "looks"


def folders_of(repository: Path, root: LoopName) -> Iterator[Path]:
    """What a repository keeps of the files of a root loop, of those nested in it, and of earlier ones of its name."""
    for own in sorted((repository / FOLDER).glob(f"{root}*")):
        if own.name.partition(".")[0] == root:
            yield own


def folders_of_none(repository: Path, roots: Callable[[], Collection[LoopName]]) -> Iterator[Path]:
    """What a repository keeps of the files of loops that are gone. `roots` tells the root loops there are; it is asked
    after the folders, as a loop that is made meanwhile has its branch before its folder."""
    kept = [own for own in sorted((repository / FOLDER).glob("*")) if "~" not in own.name]
    there = roots() if kept else ()
    yield from (own for own in kept if own.name.partition(".")[0] not in there)


def looks_of(repository: Path, root: LoopName) -> Iterator[str]:
    """The trees that were written of those files, be they in a commit or not."""
    for own in folders_of(repository, root):
        yield from noted_in(own)


def noted_in(own: Path) -> list[str]:
    """The trees that were written of one loop's files, in their order."""
    with suppress(FileNotFoundError), _disk.opened(own / LOOKS) as file:
        return [*filter(is_id, file.readall().decode("latin-1").split("\n"))]
    return []
