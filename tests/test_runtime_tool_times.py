"""Tools over time: retries, timeouts and the key by which a service knows a call again."""

import threading
from itertools import pairwise
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from caesura.continuations import CallState, MemoryStore, Status
from caesura.runtime import Agent, Retry, ToolContext, tool
from tests.models import ADA, World, ask_for, call_of, lines, results, say, telling


class Flaky:
    """A tool that fails so many times; keeps when it was tried, under which key and as which attempt."""

    def __init__(self, failures: int, clock: MockClock) -> None:
        self.tries: list[tuple[float, str, int]] = []
        self._failures = failures
        self._clock = clock
        retry = Retry(on=(ConnectionError,), attempts=4, first=60, factor=10, most=3600, jitter=0)
        self.tool = tool(self.fetch, retry=retry)

    async def fetch(self, context: ToolContext) -> str:
        self.tries.append((self._clock.current_time(), context.idempotency_key, context.attempt))
        if len(self.tries) <= self._failures:
            raise ConnectionError("gone")
        return "fetched"


@pytest.mark.parametrize("failures", [1, 3, 4])
async def test_a_failing_tool_is_tried_again_ever_later_under_one_key_and_each_attempt_is_a_commit(
    tmp_path: Path, autojump_clock: MockClock, failures: int
) -> None:
    flaky = Flaky(failures, autojump_clock)
    script = lines(ask_for(("fetch", {})), say("done"))
    world = World(tmp_path / "r.git", Agent("a", tools=[flaky.tool]), script, now=telling(autojump_clock), poll=3600)
    assert (await world.run()).status is Status.COMPLETED
    times, keys, attempts = zip(*flaky.tries, strict=True)
    assert attempts == tuple(range(1, min(failures + 1, 4) + 1))
    assert len(set(keys)) == 1
    waits = [later - earlier for earlier, later in pairwise(times)]
    assert all(wait >= least for wait, least in zip(waits, (60, 600, 3600), strict=False))
    retried = [commit for commit in world.history() if "is to be retried" in commit.message]
    assert len(retried) == min(failures, 3)
    (told,) = results(world.model.requests[-1])
    assert told == ("Error: ConnectionError: gone" if failures == 4 else "fetched")


async def test_the_time_of_the_next_attempt_survives_its_worker(autojump_clock: MockClock) -> None:
    store, flaky = MemoryStore(), Flaky(1, autojump_clock)
    script = lines(ask_for(("fetch", {})), say("done"))
    world = World(store, Agent("a", tools=[flaky.tool]), script, now=telling(autojump_clock), poll=3600)
    async with trio.open_nursery() as nursery:
        world.seen("is to be retried", nursery.cancel_scope.cancel)  # at once, or a jump of the clock may come between
        nursery.start_soon(world.run)
    call = call_of(world.state(), "fetch-1")
    assert (call.state, call.attempt) == (CallState.APPROVED, 1)
    assert call.remark == "attempt 1 failed: ConnectionError: gone"
    due = call.not_before
    assert (await world.resume()).status is Status.COMPLETED
    assert [attempt for _, _, attempt in flaky.tries] == [1, 2]
    assert telling(autojump_clock)() >= due
    assert len({key for _, key, _ in flaky.tries}) == 1


async def test_a_tool_that_takes_too_long_is_a_result_that_leaves_its_effect_open(autojump_clock: MockClock) -> None:
    @tool(timeout=30)
    async def hang() -> str:
        await trio.sleep_forever()
        return "never"

    script = lines(ask_for(("hang", {})), say("done"))
    world = World(MemoryStore(), Agent("a", tools=[hang]), script, now=telling(autojump_clock))
    assert (await world.run()).status is Status.COMPLETED
    (told,) = results(world.model.requests[-1])
    assert "took longer than 30 seconds and was given up; its effect may have happened" in told


async def test_an_approved_call_keeps_its_approval_over_its_retries(tmp_path: Path, autojump_clock: MockClock) -> None:
    flaky = Flaky(2, autojump_clock)
    agent = Agent("a", tools=[flaky.tool.with_approval(True)])
    script = lines(ask_for(("fetch", {})), say("done"))
    world = World(tmp_path / "r.git", agent, script, now=telling(autojump_clock), poll=3600)
    await world.run()
    world.loops().approve("x.fetch-1", by=ADA)
    assert (await world.resume()).status is Status.COMPLETED
    assert len(flaky.tries) == 3


def test_a_plain_tool_that_was_abandoned_may_report_progress_when_nobody_is_left() -> None:
    go, ended = threading.Event(), threading.Event()
    faults: list[BaseException] = []

    @tool(timeout=0.01)
    def hang(context: ToolContext) -> str:
        go.wait()
        try:
            context.progress("half way")
        except RuntimeError as fault:
            faults.append(fault)
        ended.set()
        return "too late"

    async def run() -> None:
        world = World(MemoryStore(), Agent("a", tools=[hang]), lines(ask_for(("hang", {})), say("done")))
        assert (await world.run()).status is Status.COMPLETED

    trio.run(run)
    go.set()
    assert ended.wait(300)
    assert faults == []
