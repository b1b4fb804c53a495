"""Overviews: what waits in a loop and everything nested in it, and the whole at a glance."""

import datetime as dt
from collections.abc import Iterator

from ._effects import Expire, WaitUntil, outstanding
from ._ids import CommitId, LoopName
from ._messages import Value
from ._requests import Request, requests
from ._state import Spent, Status
from .history import History, Saved


class LoopInfo(Value, frozen=True, kw_only=True):
    """A loop at a glance. `ready` says that resuming it would do something; `waiting` counts requests."""

    name: LoopName
    agent: str
    status: Status
    ready: bool
    waiting: int
    messages: int
    spent: Spent
    at: dt.datetime
    commit: CommitId


def utc_now() -> dt.datetime:
    """The time, in UTC, to the millisecond."""
    now = dt.datetime.now(dt.UTC)
    return now.replace(microsecond=now.microsecond // 1000 * 1000)


def waiting(history: History, saved: Saved, above: tuple[str, ...] = ()) -> Iterator[Request]:
    """What waits for somebody in a loop and everything nested in it; `above` is the agents above the loop."""
    path = (*above, saved.state.agent)
    if saved.state.ending is None:
        yield from requests(saved.loop, saved.commit, saved.state, path)
        for child in history.children(saved).values():
            yield from waiting(history, child, path)


def overview(history: History, saved: Saved, now: dt.datetime) -> LoopInfo:
    """A loop at a glance, as of now."""
    tree = list(history.tree(saved))
    state = saved.state
    return LoopInfo(
        name=saved.loop,
        agent=state.agent,
        status=state.status,
        ready=state.ending is None and ready(history, saved, now),
        waiting=sum(1 for _ in waiting(history, saved)),
        messages=len(state.messages),
        spent=state.total,
        at=max(one.state.at for one in tree),
        commit=saved.commit,
    )


def ready(history: History, saved: Saved, now: dt.datetime) -> bool:
    """Whether a worker would find something to do, in a loop or below it; not behind a gate."""
    if saved.state.gate is not None:
        return False
    if saved.state.ending is not None or saved.state.status is Status.ACTIVE:
        return True  # ended within a live tree: its parent has not taken note of it yet
    if any(isinstance(effect, Expire | WaitUntil) and effect.at <= now for effect in outstanding(saved.state)):
        return True
    return any(ready(history, child, now) for child in history.children(saved).values())
