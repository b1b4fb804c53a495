"""Upkeep of the repository while loops are driven in it: looked after now and then, and never waited for."""

from collections.abc import Awaitable, Callable
from contextlib import suppress

import trio

from caesura.continuations import CaesuraError, Store

from ._notices import Committed, Notice

_EVERY = 256
"""So many steps are made before it is looked again whether there is anything to do."""


class Keeper:
    """Keeps one runtime's repository up."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._one = trio.Lock()
        self._steps = 0
        self._due = trio.Event()
        self._due.set()  # what processes before this one left

    def heard(self, notice: Notice) -> None:
        """Count the steps."""
        self._steps += isinstance(notice, Committed)
        if self._steps >= _EVERY:
            self._steps = 0
            self._due.set()

    async def keep(self, in_a_thread: Callable[[Callable[[], None]], Awaitable[None]]) -> None:
        """See to it until cancelled, which waits for no more than what is under way; unless it is all in memory."""
        if not self._store.waits:
            return
        async with self._one:
            while True:
                await self._due.wait()
                self._due = trio.Event()
                try:
                    # It fails where a step would fail, and the loops say so; without it they are none the worse.
                    with suppress(CaesuraError):
                        await in_a_thread(self._look)
                except trio.Cancelled:
                    self._due.set()  # for whoever sees to it next
                    raise

    def _look(self) -> None:
        upkeep = self._store.upkeep(breathe=trio.from_thread.check_cancelled)
        if upkeep.due():
            upkeep.run()
