"""A pot: what several root loops, driven at the same time, may spend together."""

import datetime as dt
from collections.abc import Callable

from msgspec.structs import replace

from caesura.continuations import Budget, Continuation, LoopName, Spent

from ._suspensions import exhausted

Counted = Callable[[], tuple[Spent, float]]
"""What a loop and all that is nested in it has spent by now, and the seconds for which it has worked."""


class Pot:
    """A budget that loops share which have a commit in common; what was spent before that does not count."""

    def __init__(self, budget: Budget, base: Continuation) -> None:
        self._budget = budget
        self._base = base
        self._loops: dict[LoopName, Counted] = {}

    def count(self, loop: LoopName, spent: Counted) -> None:
        """Count a loop from now on; of one that is counted already, count this instead."""
        self._loops[loop] = spent

    def exhausted(self, now: dt.datetime) -> str | None:
        """Which limit has been reached, or None."""
        total, time = Spent(), 0.0
        for spent in self._loops.values():
            so_far, seconds = spent()
            total = total.with_nested(
                replace(
                    so_far,
                    steps=so_far.steps - self._base.total.steps,
                    usage=so_far.usage - self._base.total.usage,
                )
            )
            time += seconds - self._base.spent.seconds
        return exhausted(self._budget, total, time, now)
