"""Driving a loop in this process: progress, what waits meanwhile, and signals."""

import os
import signal
import sys
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar

import trio

from caesura.continuations import (
    Address,
    CaesuraError,
    CallState,
    LoopName,
    Loops,
    count,
    root_of,
    utc_now,
)
from caesura.runtime import Notice, Runtime

from ._faults import Exit
from ._output import Page
from ._progress import Progress, progress
from ._screen import waiting_page
from ._shown_files import look_at

if TYPE_CHECKING:
    from ._task import Task

T = TypeVar("T")

_GRACE = 3.0


class Driving:
    """One command's drive of one loop, or of several. `interrupted` after a first signal, `left` after a second."""

    def __init__(self, task: "Task", loop: LoopName | None, shows: Progress | None = None) -> None:
        self.interrupted = False
        self.left = False
        self._task = task
        self._loop = loop
        self._runtime: Runtime | None = None
        self._progress = shows or progress()
        self._shown: set[Address] = set()
        self._look, self._looks = trio.open_memory_channel[None](1)

    @property
    def loop(self) -> LoopName | None:
        """The root loop, once it is known."""
        return self._loop or next((root_of(loop) for loop in self._progress.seen), None)

    async def drive(self, perform: Callable[[Runtime], Awaitable[T]]) -> T | None:
        """Drive the loop, or several; None if a second signal ended it.

        Raises:
            CaesuraError: as the runtime does.
        """
        outcome: T | None = None
        with self._progress:
            async with trio.open_nursery() as nursery:
                await nursery.start(self._heed_signals, nursery)
                async with (
                    self._task.serve() as model,
                    Runtime.open(
                        self._task.where.repo,
                        agents=[self._task.agent],
                        model=model,
                        listener=self._hear,
                        changes=self._task.where.config.changes,
                        durability=self._task.where.config.durability,
                        visibility=self._task.where.config.visibility,
                        policy=self._task.where.config.policy,
                        redaction=self._task.where.config.redaction,
                    ) as runtime,
                ):
                    self._runtime = runtime
                    if self.interrupted:  # before there was anything to stop
                        runtime.stop()
                    if self._task.wait:
                        self._progress.suspended = self._look_soon
                        nursery.start_soon(self._show_what_waits)
                        self._look_soon()
                    nursery.start_soon(self._progress.refresh)
                    outcome = await perform(runtime)
                nursery.cancel_scope.cancel()
        return outcome

    def _hear(self, notice: Notice) -> None:
        if not self._progress.seen:
            # With the first step, and not at the end: a process that is killed does not come to its end.
            self._task.where.remember(root_of(notice.loop))
        self._progress.notice(notice)

    # Signals -------------------------------------------------------------------------------------------------------

    async def _heed_signals(
        self, nursery: trio.Nursery, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            task_status.started()
            async for _ in signals:
                if not self.interrupted:
                    self.interrupted = True
                    nursery.start_soon(self._stop)
                    continue
                self.left = True
                self._progress.close()
                # In order if possible, because a process that dies within a commit leaves git's lock behind.
                threading.Thread(target=_leave_anyway, daemon=True).start()
                nursery.cancel_scope.cancel()

    async def _stop(self) -> None:
        running = await trio.to_thread.run_sync(self._running)
        what = f"finishing {count(running, 'running tool')}" if running else "stopping"
        self._progress.say(Page().add((f"{what}; press Ctrl-C again to leave at once", "bold yellow")))
        if self._runtime is not None:
            self._runtime.stop()

    def _running(self) -> int:
        """How many tools run now, as the history says."""
        running = 0
        with suppress(CaesuraError), Loops.open(self._task.where.repo) as loops:
            for loop in list(self._progress.seen):
                with suppress(CaesuraError):
                    calls = loops.show(loop).state.open_calls
                    running += sum(call.state is CallState.RUNNING for call in calls)
        return running

    # Waiting -------------------------------------------------------------------------------------------------------

    def _look_soon(self) -> None:
        with suppress(trio.WouldBlock):  # a look is due already
            self._look.send_nowait(None)

    async def _show_what_waits(self) -> None:
        """While we wait with the loop: show each request once, when it comes."""
        async for _ in self._looks:
            page = await trio.to_thread.run_sync(self._new)
            if page is not None:
                self._progress.say(page.add(("waiting; decide in another terminal, it goes on here", "dim")))

    def _new(self) -> Page | None:
        """What waits and was not shown yet."""
        loop = self.loop
        if loop is None:
            return None
        with suppress(CaesuraError), Loops.open(self._task.where.repo) as loops:
            new = [request for request in loops.pending(root_of(loop)) if request.id not in self._shown]
            self._shown.update(request.id for request in new)
            if new:
                paste = self._task.where.paste
                return Page().add("").extend(waiting_page(None, new, paste, utc_now(), look_at(loops)))
        return None


def _leave_anyway() -> None:
    """The last resort, if something cannot be cancelled."""
    import time

    time.sleep(_GRACE)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(Exit.INTERRUPTED)
