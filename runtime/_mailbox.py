"""A mailbox: an actor's inbound channel of events. Many put things into it, and one takes them, in order."""

from collections import deque
from typing import Generic, TypeVar

import trio

T = TypeVar("T")


class Mailbox(Generic[T]):
    """Never full, and never closed. A channel of trio's would do; each step of each loop goes through one."""

    def __init__(self) -> None:
        self._things: deque[T] = deque()
        self._waiting: trio.lowlevel.Task | None = None

    def __len__(self) -> int:
        return len(self._things)

    def put(self, thing: T) -> None:
        """Put something into it."""
        self._things.append(thing)
        if self._waiting is not None:
            trio.lowlevel.reschedule(self._waiting)
            self._waiting = None

    async def take(self) -> T:
        """Take the next thing, once there is one; if there is, others have their turn before."""
        if self._things:
            await trio.lowlevel.checkpoint()
        else:
            self._waiting = trio.lowlevel.current_task()
            await trio.lowlevel.wait_task_rescheduled(self._wait_no_more)
        return self._things.popleft()

    def _wait_no_more(self, _: object) -> trio.lowlevel.Abort:
        self._waiting = None
        return trio.lowlevel.Abort.SUCCEEDED
