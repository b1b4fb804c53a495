"""The watch: looks for what others commit (decisions, answers, pauses, cancellations) to all loops that are driven."""

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

import trio

from caesura.continuations import CaesuraError, CommitId, LoopName, Store

if TYPE_CHECKING:
    from ._actor import Actor
    from ._supervisor import Supervisor

_AT_ONCE = 64
"""Loops that are looked at in one crossing: others wait for it."""

Heads = Sequence[CommitId | CaesuraError | None]
"""Where loops are, or why that cannot be told."""


class Watch:
    """Watches the loops of one runtime, all of them together."""

    def __init__(self, store: Store, poll: float) -> None:
        """Look every `poll` seconds."""
        self._store, self._poll = store, poll
        self._one = trio.Lock()
        self._drives: set[Supervisor] = set()
        self._due = 0.0

    def add(self, drive: "Supervisor") -> None:
        """Have the loops of a drive among those that are watched."""
        if not self._drives:
            self._due = trio.current_time() + self._poll
        self._drives.add(drive)

    def remove(self, drive: "Supervisor") -> None:
        """Have them watched no more."""
        self._drives.discard(drive)

    async def keep(self, cross: Callable[[Callable[[], Heads]], Awaitable[Heads]]) -> None:
        """Watch until cancelled; `cross` calls something in a thread."""
        async with self._one:
            while True:
                await trio.sleep_until(self._due)  # whoever watched until then, and for how short a time
                await self._look(cross)
                self._due = trio.current_time() + self._poll

    async def _look(self, cross: Callable[[Callable[[], Heads]], Awaitable[Heads]]) -> None:
        # What is nested comes first: whoever sees a decision there sees a pause that was put above it before, too.
        driven = [actor for drive in self._drives for actor in reversed(drive.driven)]
        behind: dict[Actor, None] = {}
        for at in range(0, len(driven), _AT_ONCE):
            some = driven[at : at + _AT_ONCE]
            heads = await cross(partial(self._heads, [actor.loop for actor in some]))
            # If it cannot be told, it looks for itself; if it cannot go on, the others come to rest in order.
            behind |= {
                actor: None
                for actor, head in zip(some, heads, strict=True)
                if head is not None and head != actor.saved.commit
            }
        for actor in behind:
            if not any(above in behind for above in actor.above()):  # else its turn comes once those have looked
                actor.post()

    def _heads(self, loops: Sequence[LoopName]) -> Heads:
        return [self._head(loop) for loop in loops]

    def _head(self, loop: LoopName) -> CommitId | CaesuraError | None:
        try:
            return self._store.head(loop)
        except CaesuraError as error:
            return error
