"""Duties: what one of the drives at a time does for all of them, as long as it lasts."""

from collections.abc import Awaitable, Callable

import trio


class Duties:
    """Work that never ends, done in the nursery of one drive, so that the others have no tasks for it."""

    def __init__(self, *duties: Callable[[], Awaitable[None]]) -> None:
        """What each of them does until cancelled. One that is passed on may begin before it has ended elsewhere."""
        self._duties = duties
        self._nurseries: dict[trio.Nursery, None] = {}
        self._at: trio.Nursery | None = None

    def add(self, nursery: trio.Nursery) -> None:
        """They may be done in this nursery, until it is removed."""
        self._nurseries[nursery] = None
        if self._at is None:
            self._begin(nursery)

    def remove(self, nursery: trio.Nursery) -> None:
        """They must be done elsewhere: this nursery is cancelled next."""
        del self._nurseries[nursery]
        if self._at is nursery:
            self._at = None
            if self._nurseries:
                self._begin(next(reversed(self._nurseries)))  # the youngest is likely to last longest

    def _begin(self, nursery: trio.Nursery) -> None:
        self._at = nursery
        for duty in self._duties:
            nursery.start_soon(duty)
