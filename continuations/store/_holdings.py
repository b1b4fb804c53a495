"""In how many files a repository is, and what keeps them few."""

from typing import Protocol

import msgspec


class Holdings(msgspec.Struct, frozen=True, kw_only=True):
    """What a repository holds: objects and branches of root loops with files of their own, packs, bytes of objects."""

    objects: int = 0
    packs: int = 0
    branches: int = 0
    size: int = 0


class Upkept(msgspec.Struct, frozen=True, kw_only=True):
    """What was done: objects that got into a pack, packs that became one, branches that went into the list of them.

    Of packs, those are counted that were there `before`: not what objects got into meanwhile.
    `left` is why branches keep files of their own, where git's configuration has it so.
    """

    objects: int = 0
    packs: int = 0
    branches: int = 0
    left: str | None = None
    before: Holdings = Holdings()
    after: Holdings = Holdings()


class Upkeep(Protocol):
    """What keeps a repository in few files, while work goes on in it. For any thread, at any time."""

    def due(self) -> bool:
        """Whether there is more of anything than there should be; it takes about as long as a step."""
        ...

    def holdings(self) -> Holdings:
        """What there is now."""
        ...

    def run(self, *, thorough: bool = False, dry: bool = False) -> Upkept | None:
        """Do what there is to do, `thorough` also where there is little. None if another process is at it.

        With `dry` nothing is done, and it is only said what would be.

        Raises:
            Unavailable: the disk is full, or may not be written. Nothing was lost.
        """
        ...
