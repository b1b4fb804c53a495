"""Packs of what no branch leads to yet. Git may delete such in a project, so they are kept from it until one does."""

import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from ._packing import is_early, let_go_of

_AGE = 24 * 3600.0  # seconds: what is older is of a process that died, or of files that no commit came to hold


class Early:
    """The packs that a store keeps from git, each with a tree of files which leads to what is in it.

    `needed` is whether git may delete there what no branch leads to. Its methods are for any thread at any time.
    """

    def __init__(self, objects: Path, *, needed: bool) -> None:
        self._folder, self.needed = objects / "pack", needed
        self._trees: dict[Path, str] = {}
        self._named: dict[Path, None] = {}

    def add(self, tree: str, packs: Iterable[Path]) -> None:
        """Note what leads to packs."""
        if self.needed:
            self._trees.update(dict.fromkeys(packs, tree))

    def waits(self) -> bool:
        """Whether there is any that no branch leads to."""
        return bool(self._trees)

    def name(self, tree: str) -> bool:
        """Note that a branch leads to a tree, which git may not see yet; whether packs were kept for that."""
        found = [pack for pack, other in list(self._trees.items()) if other == tree]
        for pack in found:
            self._named[pack] = None
            self._trees.pop(pack, None)
        return bool(found)

    def done(self) -> list[Path]:
        """The packs that git may have as soon as it sees all the branches that there are now."""
        return list(self._named)

    def left(self) -> list[Path]:
        """The packs of others that are older than what a process at work is about to name."""
        old, left = time.time() - _AGE, list[Path]()
        for file in self._folder.glob("pack-*.keep") if self.needed else ():
            pack = file.with_suffix(".pack")
            with suppress(OSError):
                mine = pack in self._trees or pack in self._named
                if not mine and is_early(pack) and file.stat().st_mtime < old:
                    left.append(pack)
        return left

    def let_go(self, packs: Iterable[Path]) -> None:
        """Let git have packs, or leave that to the next one who may."""
        for pack in packs:
            with suppress(OSError):
                let_go_of(pack)
                self._named.pop(pack, None)
