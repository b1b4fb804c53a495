"""Mending a repository by hand: damaged files moved aside, objects taken from an intact copy, branches put right.

Nothing is deleted, and each move is one that a process can be killed before or after.
"""

from collections.abc import Iterator
from pathlib import Path

from .._errors import SavedStateError
from .._ids import CommitId, LoopName
from . import _disk
from ._errors import Torn
from ._format import Kind, Malformed, is_id
from ._fsck import strict_commit
from ._leftovers import ASIDE, torn_files
from ._mending import Mender, Reader
from ._objects import Objects
from ._protocol import Trace
from ._reader import CheckedReader, trace
from ._refs import TORN, Refs


class Borrowed:
    """Objects of a repository, and of an intact copy where its own are damaged; `taken` is which those are."""

    def __init__(self, objects: Objects, copy: Objects | None) -> None:
        self._objects, self._copy = objects, copy
        self.taken: dict[str, None] = {}

    def get(self, name: str, kind: Kind) -> bytes:
        """The bytes of an object of this kind.

        Raises:
            Torn: it is whole in neither, or another kind.
        """
        try:
            return self._objects.get(name, kind)
        except SavedStateError:
            if self._copy is None:
                raise
            try:
                found = self._copy.get(name, kind)
            except SavedStateError:
                found = None
            if found is None:
                raise  # of the repository's own fault, not of the copy's
            self.taken[name] = None
            return found


class GitMender(Mender):
    """Mends one repository; `copy` is another's objects and refs, to take from."""

    def __init__(
        self, folder: Path, objects: Objects, refs: Refs, loops: str, copy: tuple[Objects, Refs] | None
    ) -> None:
        self._folder, self._objects, self._refs, self._loops = folder, objects, refs, loops
        self._copy = copy
        self._borrowed = Borrowed(objects, None if copy is None else copy[0])

    def reader(self) -> Reader:
        return CheckedReader(self._borrowed)

    @property
    def borrowed(self) -> tuple[str, ...]:
        return tuple(self._borrowed.taken)

    def torn(self) -> tuple[str, ...]:
        return tuple(str(file.relative_to(self._folder)) for _, file in torn_files(self._folder / "objects"))

    def traces(self) -> Iterator[Trace]:
        for objects in (self._objects, *(() if self._copy is None else (self._copy[0],))):
            for name in objects.all():
                try:
                    kind, data = objects.read(name)
                    header = strict_commit(data) if kind == "commit" else None
                except (SavedStateError, Malformed):
                    continue
                if header is not None:
                    yield trace(name, header)

    def copied(self, loop: LoopName) -> CommitId | None:
        try:
            head = None if self._copy is None else self._copy[1].get(self._loops + loop)
        except Torn:
            return None
        return None if head is None else CommitId(head)

    def logged(self, loop: LoopName) -> CommitId | None:
        try:
            text = (self._folder / "logs" / self._loops / loop).read_text("utf-8", "replace")
        except OSError:
            return None
        last = text.rstrip("\n").rpartition("\n")[2].split(" ", 2)
        return CommitId(last[1]) if len(last) == 3 and is_id(last[1]) else None

    # Changes -----------------------------------------------------------------------------------------------------

    def set_aside(self, torn: str) -> str:
        file = self._folder / torn
        kept = self._free(file)
        _disk.rename(file, kept)
        _disk.sync(kept.parent)
        _disk.sync(file.parent)
        return str(kept.relative_to(self._folder))

    def _free(self, file: Path) -> Path:
        """A name in the folder of what was set aside that nothing has."""
        wanted = self._folder / ASIDE / file.relative_to(self._folder)
        wanted.parent.mkdir(parents=True, exist_ok=True)
        number, free = 1, wanted
        while free.exists():
            number += 1
            free = wanted.with_name(f"{wanted.name}.{number}")
        return free

    def lost_refs(self) -> tuple[str, ...]:
        return self._refs.torn_lines()

    def drop_refs(self) -> str:
        file = self._folder / "packed-refs"
        kept = self._free(file)
        _disk.write(kept, file.read_bytes())
        _disk.sync(kept)
        self._refs.drop_torn_lines()
        return str(kept.relative_to(self._folder))

    def restore(self, name: str) -> None:
        if self._copy is not None:
            self._objects.write({name: self._copy[0].read(name)})

    def standing(self, loop: LoopName) -> str | None:
        try:
            return self._refs.get(self._loops + loop)
        except Torn:
            return TORN

    def point(self, loop: LoopName, standing: str | None, commit: CommitId) -> str | None:
        ref = self._loops + loop
        file = self._folder / ref
        kept: Path | None = None
        if standing == TORN and file.is_file():
            kept = self._free(file)
            _disk.write(kept, file.read_bytes())
            _disk.sync(kept)
        self._refs.swap(ref, standing, commit, "caesura: repaired")
        return None if kept is None else str(kept.relative_to(self._folder))
