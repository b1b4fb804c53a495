"""Care: whether the loops of a repository are what they should be, and mending them where they are not."""

import datetime as dt
from collections.abc import Callable

from ._ids import loop_name
from .store import Store
from .verify import Report, verify


class Care:
    """What can be done for the loops of a repository without reading any one of them as a loop."""

    def __init__(self, store: Store, now: Callable[[], dt.datetime]) -> None:
        self._store = store
        self._now = now

    def verify(self, *loops: str, progress: Callable[[int], None] = lambda commits: None) -> Report:
        """Check loops with all that is nested in them, or every loop: each commit they reach, as git and as Caesura.

        `progress` is told now and then how many commits were looked at.

        Raises:
            NoSuchLoop: there is none of a name.
        """
        chosen = [loop_name(loop) for loop in loops] or None
        return verify(self._store, chosen, now=self._now, progress=progress)
