"""Leftovers: what writers that died, strangers and repairs leave lying about, and what a damaged journal has lost."""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from .._ids import BadName, loop_name, root_of
from .._text import count, shell_quoted
from ._errors import Torn, Withheld
from ._format import is_id
from ._frames import moves_in
from ._guard import is_guard
from ._journal import FOLDER, TORN, Segment
from ._layout import ARCHIVE
from ._looks import folders_of_none
from ._objects import Objects, fanned, read_loose
from ._together import JointRefs

ASIDE = "caesura-aside"
"""The folder in the repository that keeps what a repair has moved aside."""

ERASING, PRUNING = "caesura.erasing.", "caesura.pruning."
"""What the names of lists of objects that are to go begin with; the loop's follows."""

_GC = "'caesura gc' sets what follows aside."
_ALONE = ("HEAD.lock", "packed-refs.lock", "config.lock", "index.lock")


def leftovers(folder: Path, refs: JointRefs, loops: str) -> Iterator[tuple[str, str]]:
    """What lies about in a repository, each told after the id of the object that it is, if any.

    `loops` is where the branches of loops are.
    """
    for name in refs.all(loops):
        try:
            loop_name(name.removeprefix(loops))
        except BadName:
            yield "", f"{name} has no name that a loop can have, and is not one."
    for lock in _locks(folder):
        yield (
            "",
            f"{lock} is a lock: of a process that works now, or of one that died. Delete it if nothing works.",
        )
    if not any((folder / FOLDER).glob("[0-9]*")):
        for guard in filter(is_guard, _locks_of_refs(folder)):
            yield (
                "",
                f"{guard.relative_to(folder)} says that newer steps are in the journal, which is not there. If somebody"
                " has deleted it, they are lost; else the process that had the first step to write works now, or died.",
            )
    for name in torn_ends(folder):
        half = "" if moves_in((folder / name).read_bytes()) else ": half a step, that was never done"
        yield "", f"{name} keeps what followed the last whole step of a journal{half}."
    for file in half_written(folder / "objects"):
        yield "", f"{file.relative_to(folder)} is half an object, of a writer that works now or died; git prunes it."
    for name, file, fault in _faulty_files(folder / "objects"):
        if isinstance(fault, Withheld):
            yield name, f"{fault} {fault.hint}"
            continue
        where = file.relative_to(folder)
        yield name, f"{where} is damaged, and no loop needs object {name}; 'caesura repair' moves it aside."
    for begun, what, command in ((ERASING, "an erasure", "erase"), (PRUNING, "a pruning", "prune")):
        for file in sorted(folder.glob(f"{begun}*")):
            loop = file.name.removeprefix(begun).removesuffix(".new")
            yield "", f"{file.name} is of {what} that was interrupted; 'caesura {command} {loop}' finishes it."
    for own in folders_of_none(
        folder, lambda: {root_of(name) for place in (loops, ARCHIVE) for name, _ in refs.loops(place)}
    ):
        yield (
            "",
            f"{own.relative_to(folder)}/ is of the files of a loop that is gone; delete it if nobody needs it.",
        )
    kept = sum(1 for one in (folder / ASIDE).rglob("*") if one.is_file())
    if kept:
        yield (
            "",
            f"{ASIDE}/ keeps {count(kept, 'damaged file')} that a repair has moved aside; delete it at will.",
        )


def lost(folder: Path, objects: Objects) -> Iterator[tuple[str, str]]:
    """What a repository's journal has lost, each with what to do about it."""
    aside = {name: (folder / name).read_bytes() for name in torn_ends(folder)}
    ends = {str(file.relative_to(folder)): _end(file) for file in sorted((folder / FOLDER).glob("[0-9]*"))}
    for name, end in (aside | ends).items():
        # What was there before, and stands there still, is not lost.
        steps = sum(1 for move in moves_in(end) if not objects.find(move.new))
        if steps:
            what = f"{name} is damaged, and {count(steps, 'step')} after that place are lost"
            then = f"To be told no more: rm {shell_quoted(folder / name)}" if name in aside else _GC
            yield f"{what}: the loops are as before", f"Take them from a copy of the repository that has them. {then}"


def _end(file: Path) -> bytes:
    """What follows the last whole step of a segment, to which others may add steps meanwhile."""
    with suppress(OSError):
        segment = Segment(file)
        while True:
            end = segment.tail()
            if not segment.read_on():
                return end
    return b""


def torn_ends(folder: Path) -> list[str]:
    """The files that keep what followed the last whole frame of a segment, by their paths in the repository."""
    return [str(one.relative_to(folder)) for one in sorted((folder / FOLDER).glob(f"{TORN}*"))]


def torn_files(objects: Path) -> Iterator[tuple[str, Path]]:
    """The files of their own that objects have and that are not whole, with the ids in their names.

    Raises:
        Withheld: one may not be read, and so it cannot be told.
    """
    for name, file, fault in _faulty_files(objects):
        if isinstance(fault, Withheld):
            raise fault
        yield name, file


def _faulty_files(objects: Path) -> Iterator[tuple[str, Path, Torn | Withheld]]:
    for file in fanned(objects):
        name = file.parent.name + file.name
        if is_id(name):
            try:
                read_loose(file, name)
            except (Torn, Withheld) as fault:
                yield name, file, fault


def half_written(objects: Path) -> Iterator[Path]:
    """The files of objects and packs that somebody is writing, or was when they died."""
    for where in ("tmp_*", "pack/tmp_*", "pack/.tmp*"):
        yield from sorted(objects.glob(where))
    yield from (file for file in fanned(objects) if file.name.startswith("tmp_"))


def _locks(folder: Path) -> Iterator[str]:
    yield from (name for name in _ALONE if (folder / name).exists())
    yield from (str(lock.relative_to(folder)) for lock in _locks_of_refs(folder) if not is_guard(lock))


def _locks_of_refs(folder: Path) -> Iterator[Path]:
    for above, _, names in os.walk(folder / "refs"):
        yield from (Path(above) / name for name in sorted(names) if name.endswith(".lock"))
