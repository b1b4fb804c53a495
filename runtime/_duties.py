"""Duties: what one of the drives at a time does for all of them, as long as it lasts."""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

import trio


class Duties:
    """Work that never ends, done in the nursery of one drive, so that the others have no tasks for it."""

    def __init__(self, *duties: Callable[[], Awaitable[None]]) -> None:
        """What each of them does until cancelled. One that is passed on may begin before it has ended elsewhere."""
        self._duties = duties
        self._nurseries: dict[trio.Nursery, None] = {}

    @contextmanager
    def shared_by(self, nursery: trio.Nursery) -> Iterator[None]:
        """Meanwhile they may be done in this nursery, which is cancelled next."""
        self._nurseries[nursery] = None
        if len(self._nurseries) == 1:
            self._begin()
        try:
            yield
        finally:
            did = next(iter(self._nurseries)) is nursery
            del self._nurseries[nursery]
            if did and self._nurseries:
                self._begin()

    def _begin(self) -> None:
        nursery = next(iter(self._nurseries))
        for duty in self._duties:
            nursery.start_soon(duty)
