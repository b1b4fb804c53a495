"""Suspension functions: named conditions over a loop's state, asked before each model call."""

import copy
import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec

from caesura.continuations import Budget, Continuation, Spent, Status, Suspended


@dataclass(frozen=True)
class Moment:
    """What a suspension function sees: the state, the time, and its own memory, a dict of JSON values it may change.

    The memory is committed with the step, so that a resumed or forked loop goes on with it.
    """

    state: Continuation
    now: dt.datetime
    memory: dict[str, Any] = field(default_factory=dict)

    @property
    def seconds(self) -> float:
        """Seconds of work so far: time in which the loop was not suspended."""
        return worked(self.state, self.now)


@dataclass(frozen=True)
class Suspension:
    """A named condition. `check` returns the reason to suspend the loop, or None to let it go on."""

    name: str
    check: Callable[[Moment], str | None]


def suspension(check: Callable[[Moment], str | None]) -> Suspension:
    """Make a suspension function of a plain one, named for it.

    A person lifts the gate that it puts; the model call that it held back is then made without asking it again.
    """
    return Suspension(name=check.__name__, check=check)


def after_model_calls(count: int) -> Suspension:
    """Suspend after every `count` model calls."""

    def check(moment: Moment) -> str | None:
        steps = moment.state.spent.steps
        if steps - moment.memory.get("steps", 0) < count:
            return None
        moment.memory["steps"] = steps
        return f"{count} model calls were made since a person last looked"

    return Suspension(name=f"after_{count}_model_calls", check=check)


def after(period: dt.timedelta) -> Suspension:
    """Suspend whenever the loop has worked for `period`; time spent suspended does not count."""

    def check(moment: Moment) -> str | None:
        if moment.seconds - moment.memory.get("seconds", 0.0) < period.total_seconds():
            return None
        moment.memory["seconds"] = moment.seconds
        return f"it has worked for {period} since a person last looked"

    return Suspension(name=f"after_{period.total_seconds():g}_seconds", check=check)


def worked(state: Continuation, now: dt.datetime) -> float:
    """Seconds in which the loop had work to do, up to now."""
    running = max(0.0, (now - state.working_since).total_seconds()) if state.status is Status.ACTIVE else 0.0
    return state.spent.seconds + running


def over_budget(state: Continuation, total: Spent, now: dt.datetime) -> Suspended | None:
    """The gate that a loop is behind once it has spent, with all that is nested in it, what it may; or None."""
    reason = exhausted(state.limit, total, worked(state, now), now)
    return None if reason is None else Suspended(at=now, kind="budget", reason=reason)


def exhausted(limit: Budget, total: Spent, seconds: float, now: dt.datetime) -> str | None:
    """Which limit has been reached, or None."""
    if limit.steps is not None and total.steps >= limit.steps:
        return f"the budget of {limit.steps:,} model calls is spent"
    if limit.tokens is not None and total.usage.total >= limit.tokens:
        return f"the budget of {limit.tokens:,} tokens is spent ({total.usage.total:,})"
    if limit.seconds is not None and seconds >= limit.seconds:
        return f"the budget of {limit.seconds:g} seconds is spent"
    if limit.deadline is not None and now >= limit.deadline:
        return f"its deadline, {limit.deadline.isoformat(timespec='seconds')}, has passed"
    return None


def due(
    suspensions: Sequence[Suspension], state: Continuation, now: dt.datetime
) -> tuple[Suspended | None, Mapping[str, Any]]:
    """Ask suspension functions in turn: the gate of the first that has a reason, and what all of them remember.

    Once a person has lifted a gate, the next model call is made without asking.
    """
    memory: dict[str, Any] = {}
    if state.cleared:
        return None, memory
    for suspension in suspensions:
        kept = state.memory.get(suspension.name, {})
        moment = Moment(state=state, now=now, memory=copy.deepcopy(kept))
        try:
            reason = suspension.check(moment)
            if not isinstance(reason, str | None):
                raise TypeError(f"it returned {type(reason).__name__}, not a reason or None")
            msgspec.json.encode(moment.memory)
        except (Exception, SystemExit) as error:  # noqa: BLE001  # a broken condition must stop the loop, not lose it
            reason = f"the suspension function {suspension.name} failed: {type(error).__name__}: {error}"
            moment = replace(moment, memory=kept)
        if moment.memory or suspension.name in state.memory:
            memory[suspension.name] = moment.memory
        if reason is not None:
            gate = Suspended(at=now, kind="condition", reason=reason, gate_name=suspension.name, memory=memory)
            return gate, memory
    return None, memory
