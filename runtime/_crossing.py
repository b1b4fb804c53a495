"""The crossing to a thread, for work that loops have for the store at the same time: several of them cross at once.

Threads in which Python is at work take turns, and each turn costs more than a step does. So there is one, which does
what many loops wait for, and waits for the disk once. For a store that never waits there is no crossing.
"""

import random
from collections.abc import Callable
from typing import Any, TypeVar

import trio

from caesura.continuations import Store, Work

T = TypeVar("T")


class _Waiting:
    """A task that waits for its work to be done; `leads` says that it is to cross with all that waits."""

    def __init__(self, work: Work[Any]) -> None:
        self.work = work
        self.woken = trio.Event()
        self.leads = False


class Crossing:
    """Does work that tasks have for one store in one thread."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._queue: list[_Waiting] = []
        self._led = self._together = False
        self._thread = trio.CapacityLimiter(1)

    @trio.lowlevel.enable_ki_protection  # a Ctrl-C in between would leave tasks waiting for one that leads no more
    async def do(self, call: Callable[[], T]) -> T:
        """Make a call, as a `Work` is. Once begun it is waited for even if the task is cancelled.

        While another process holds its branch, others have their turn.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        if not self._store.waits:
            return call()  # others have their turn when the loop waits for its next event
        work = Work(call)
        await self._cross(work)
        if work.held:
            await self._again(work)
        return work.result()

    async def _again(self, work: Work[Any]) -> None:
        with trio.CancelScope(shield=True):  # what a tool did must not be forgotten for a lock that passes
            pause = 0.002
            while work.held:
                await trio.sleep(random.uniform(pause / 2, pause))  # noqa: S311  # jitter, not a secret
                pause = min(0.1, 2 * pause)
                await self._cross(work)

    async def _cross(self, work: Work[Any]) -> None:
        mine = _Waiting(work)
        self._queue.append(mine)
        if self._led:
            await self._wait(mine)
        else:
            self._led = mine.leads = True
        if mine.leads:
            await self._lead()

    async def _wait(self, mine: _Waiting) -> None:
        try:
            await mine.woken.wait()
        except BaseException as error:  # cancelled, or a Ctrl-C, which no shield keeps from the main task
            if mine in self._queue:
                self._queue.remove(mine)
                if mine.leads:
                    self._pass_on()
                raise
            with trio.CancelScope(shield=True):
                await mine.woken.wait()
            if not isinstance(error, trio.Cancelled):
                raise

    async def _lead(self) -> None:
        """Cross with all that wait by now, and let the first of those that have come since lead next."""
        if self._together:  # those that crossed together are awake together, or the first would cross alone each time
            for _ in range(2):  # in one round of trio's they run in any order, and this one may be the first again
                await trio.lowlevel.cancel_shielded_checkpoint()
        batch, self._queue = self._queue, []
        self._together = len(batch) > 1
        try:
            with trio.CancelScope(shield=True):
                works = [one.work for one in batch]
                await trio.to_thread.run_sync(self._store.share, works, limiter=self._thread)
        except BaseException as error:
            for one in batch:  # nobody can tell what came of it
                one.work.error = one.work.error or error
            raise
        finally:
            self._pass_on()
            for one in batch:
                one.woken.set()

    def _pass_on(self) -> None:
        self._led = bool(self._queue)
        if self._led:
            self._queue[0].leads = True
            self._queue[0].woken.set()
