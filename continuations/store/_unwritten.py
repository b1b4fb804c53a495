"""Objects that are only thought of: what a repository would hold if somebody wrote to it who only wants to look."""

from collections.abc import Mapping
from pathlib import Path

from ._format import Kind
from ._objects import MAX_OBJECT, Objects


class Unwritten(Objects):
    """The objects `there`, and trees besides: what is written comes to nothing, and its trees can be read here."""

    def __init__(self, there: Objects) -> None:
        self._there = there
        self._trees: dict[str, bytes] = {}

    def read(self, name: str, *, limit: int = MAX_OBJECT) -> tuple[Kind, bytes]:
        """An object's kind and its bytes."""
        tree = self._trees.get(name)
        return self._there.read(name, limit=limit) if tree is None else ("tree", tree)

    def find(self, prefix: str) -> set[str]:
        """The ids of what is there."""
        return self._there.find(prefix)

    def write(self, batch: Mapping[str, tuple[Kind, bytes]]) -> None:
        """Keep the trees in mind."""
        self._trees.update({name: data for name, (kind, data) in batch.items() if kind == "tree"})

    def write_packed(self, batch: Mapping[str, tuple[Kind, bytes]], *, early: bool = False) -> Path:
        """`write`: there is no pack."""
        self.write(batch)
        return Path()
