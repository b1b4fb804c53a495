"""Care: whether the loops of a repository are what they should be, and mending them where they are not."""

import datetime as dt
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from types import TracebackType
from typing import Self

from msgspec.structs import replace

from ._calls import Person
from ._ids import BadName, LoopName, loop_name
from ._person import person
from .history import History
from .repair import Plan, Repair, carry_out, plan_repair
from .verify import Report, verify


class Care:
    """What can be done for the loops of a repository without reading any one of them as a loop."""

    def __init__(self, history: History, now: Callable[[], dt.datetime]) -> None:
        self._history = history
        self._store = history.store
        self._now = now

    def close(self) -> None:
        """Let go of the repository."""
        self._store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def verify(self, *loops: str, progress: Callable[[int], None] = lambda commits: None) -> Report:
        """Check loops with all that is nested in them, or every loop: each commit they reach, as git and as Caesura.

        `progress` is told now and then how many commits were looked at.

        Raises:
            NoSuchLoop: there is none of a name.
        """
        chosen = [loop_name(loop) for loop in loops] or None
        return verify(self._store, chosen, now=self._now, progress=progress)

    def repair(
        self,
        *loops: str,
        copy: str | os.PathLike[str] | None = None,
        by: Person | str | None = None,
        agree: Callable[[Plan], bool] = lambda plan: True,
    ) -> Repair:
        """Let loops that are damaged go on from their last good commit, each with all that is nested with it.

        Without names, every loop that needs it. What `copy`, an intact copy of the repository, still has is taken
        from there. `agree` is shown what would be done, and may refuse it: then nothing is. What is lost is said in a
        commit by `by`, and a gate stands before whatever comes next, until somebody has approved it.

        Raises:
            NoSuchLoop: nothing is known of a loop of that name.
            StillDriven: a living worker drives a loop that needs repair.
        """
        mender = self._store.mender(copy)
        names, lost, kept = [loop_name(loop) for loop in loops], mender.lost_refs(), tuple[str, ...]()
        if lost:  # as long as there are such, no loop can be looked at
            if not agree(Plan(refs=lost)):
                return Repair(plan=Plan(refs=lost), done=False)
            kept = (mender.drop_refs(),)
        plan = plan_repair(self._store, mender, names, self._now(), gone=_named(lost))
        if plan.empty or not agree(plan):
            return Repair(plan=replace(plan, refs=lost), done=bool(lost), kept=kept)
        who = self._person(by) if plan.mends else None
        done = carry_out(self._history, mender, plan, who, self._now())
        return replace(done, plan=replace(plan, refs=lost), kept=(*kept, *done.kept))

    def _person(self, by: Person | str | None) -> Person:
        who = self._store.person() if by is None else by if isinstance(by, Person) else person(by)
        return self._history.storable(who)


def _named(lines: Iterable[str]) -> Iterator[LoopName]:
    """The loops that damaged lines name whole: one that does not end may be cut short in the name."""
    for line in lines:
        with suppress(BadName):
            if line.endswith("\n") and "refs/heads/loops/" in line:
                yield loop_name(line.rstrip("\n").rpartition("refs/heads/loops/")[2])
