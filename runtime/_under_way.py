"""What is under way beside an actor's mailbox: each piece of work has a key, and the mailbox is told when it ends."""

import datetime as dt
from collections.abc import Awaitable, Callable, Iterator
from typing import Protocol

import trio

from caesura.continuations import AnyEvent

# A tool's key is its call's id, in which there is no space.
MODEL = "model "
SLEEP = "sleep "  # what only sleeps does not keep its loop busy
EXPIRY = SLEEP + "until it expires: "
RETRY = "retry "

_LOOK = 60.0  # seconds


def sleeping(now: Callable[[], dt.datetime], until: dt.datetime) -> Callable[[], Awaitable[None]]:
    """Work that only waits for a time.

    It looks at the clock now and then: trio's own stands still while the machine sleeps, and the other one may be set.
    """

    async def work() -> None:
        while (left := (until - now()).total_seconds()) > 0:  # noqa: ASYNC110  # nothing tells of it
            await trio.sleep(min(left, _LOOK))

    return work


class Post(Protocol):
    """An actor's mailbox."""

    def __call__(self, event: AnyEvent | None = None, key: str = "") -> None:
        """Put an event into it."""


class UnderWay:
    """The work that one actor has begun, by key; any of it can be dropped."""

    def __init__(self, name: str, post: Post) -> None:
        self._name = name
        self._post = post
        self._scopes: dict[str, trio.CancelScope] = {}

    def __contains__(self, key: str) -> bool:
        return key in self._scopes

    def __iter__(self) -> Iterator[str]:
        return iter(self._scopes)

    @property
    def tools(self) -> int:
        """How many of it are tools that run, or a model call."""
        return sum(not key.startswith((SLEEP, RETRY)) for key in self._scopes)

    @property
    def sleeps(self) -> bool:
        """Whether all of it only waits for a time."""
        return all(key.startswith(SLEEP) for key in self._scopes)

    def start(self, nursery: trio.Nursery, key: str, work: Callable[[], Awaitable[AnyEvent | None]]) -> None:
        """Begin some work, unless it has begun."""
        if key in self._scopes:
            return
        scope = self._scopes[key] = trio.CancelScope()

        async def task() -> None:
            with scope:
                self._post(await work(), key)

        nursery.start_soon(task, name=f"{self._name} {key}")

    def end(self, key: str) -> None:
        """Take note that some work has ended."""
        self._scopes.pop(key, None)

    def drop(self, *kinds: str) -> None:
        """Cancel the work whose keys begin like that."""
        for key in list(self._scopes):
            if key.startswith(kinds):
                self._scopes.pop(key).cancel()
