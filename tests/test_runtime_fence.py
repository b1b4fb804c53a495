"""A tool starts only once the commit that says so is won; whoever lost it starts nothing."""

import datetime as dt
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from caesura.continuations import (
    CallState,
    CommitId,
    Continuation,
    History,
    LoopName,
    MemoryStore,
    Move,
    Resumed,
    Status,
    Unavailable,
    WorkerId,
    claim_of,
    idempotency_key,
    loop_name,
)
from caesura.runtime import Agent, BranchGone, LeaseLost, Retry, ToolContext, tool
from tests.models import ADA, NOON, World, ask_for, call_of, lines, results, say

X = loop_name("x")


class Fenced(MemoryStore):
    """A store in which something happens just before, or after, the move to the commit that claims a call."""

    before: Callable[[], object] | None = None
    after: Callable[[], object] | None = None

    def move(self, loop: LoopName, old: CommitId | None, new: CommitId) -> None:
        before = self.before
        if before is not None and "Event: ToolStarted" in self.read(new).message:
            self.before = None
            before()
        super().move(loop, old, new)
        after = self.after
        if after is not None and "Event: ToolStarted" in self.read(new).message:
            self.after = None
            after()


def working(store: Fenced | Path, **options: Any) -> tuple[World, list[str]]:
    ran = list[str]()

    @tool
    async def work() -> str:
        ran.append("work")
        return "worked"

    return World(store, Agent("a", tools=[work]), lines(ask_for(("work", {})), say("done")), **options), ran


@pytest.mark.parametrize("what", ["paused", "cancelled", "another worker"])
async def test_a_call_whose_claim_lost_to_another_commit_does_not_start(what: str) -> None:
    store = Fenced()
    world, ran = working(store)

    def another_worker() -> None:
        history = History(store)
        history.apply(history.load(X), Resumed(at=NOON, worker=WorkerId("other")), ADA)

    events: dict[str, Callable[[], object]] = {
        "paused": lambda: world.loops().pause("x", by=ADA),
        "cancelled": lambda: world.loops().cancel("x", by=ADA),
        "another worker": another_worker,
    }
    store.before = events[what]
    if what == "another worker":
        with pytest.raises(LeaseLost):
            await world.run()
    else:
        assert (await world.run()).status is (Status.SUSPENDED if what == "paused" else Status.CANCELLED)
    assert ran == []
    assert not any("Event: ToolStarted" in commit.message for commit in world.history())
    if what != "cancelled":
        assert (await world.resume()).status is Status.COMPLETED
        assert ran == ["work"]


@pytest.mark.parametrize("taken_over", [True, False])
async def test_a_worker_that_slept_after_its_claim_starts_nothing_that_another_has_taken_over(taken_over: bool) -> None:
    store, time = Fenced(), [NOON]
    world, ran = working(store, now=lambda: time[0])

    def asleep() -> None:
        time[0] += dt.timedelta(hours=1)
        if taken_over:
            history = History(store)
            history.apply(history.load(X), Resumed(at=time[0], worker=WorkerId("other")), ADA)
            world.loops().reject("x.work-1", "It may have run.", by=ADA)

    store.after = asleep
    if taken_over:
        with pytest.raises(LeaseLost):
            await world.run()
    else:
        assert (await world.run()).status is Status.COMPLETED
    assert ran == ([] if taken_over else ["work"])


async def test_a_worker_that_slept_after_its_claim_is_told_that_the_branch_was_deleted_meanwhile() -> None:
    store, time = Fenced(), [NOON]
    world, ran = working(store, now=lambda: time[0])

    def asleep() -> None:
        time[0] += dt.timedelta(hours=1)
        store.move_all([Move(loop=X, old=store.head(X), new=None)], "deleted")

    store.after = asleep
    with pytest.raises(BranchGone):
        await world.run()
    assert ran == []


async def test_a_call_whose_claim_could_not_be_written_does_not_start() -> None:
    store = Fenced()
    world, ran = working(store)

    def fails() -> None:
        raise Unavailable("The disk is full.", hint="Make room.")

    store.before = fails
    with pytest.raises(Unavailable):
        await world.run()
    assert ran == []
    assert (await world.resume()).status is Status.COMPLETED
    assert ran == ["work"]


@pytest.mark.parametrize("meanwhile", ["told", "nothing"])
async def test_a_running_tool_finds_its_own_claim_committed_with_attempt_key_and_process(meanwhile: str) -> None:
    store = Fenced()
    seen = list[tuple[Continuation, str, ToolContext]]()

    @tool(retry=Retry(on=(OSError,), first=0.001, jitter=0))
    async def work(context: ToolContext) -> str:
        saved = History(store).load(X)
        seen.append((saved.state, saved.message, context))
        if context.attempt < 3:
            raise OSError("not yet")
        return "worked"

    world = World(store, Agent("a", tools=[work]), lines(ask_for(("work", {})), say("done")))
    if meanwhile == "told":
        store.before = lambda: world.loops().tell("x", "Hurry.", by=ADA)
    assert (await world.run()).status is Status.COMPLETED
    assert [context.attempt for _, _, context in seen] == [1, 2, 3]
    assert len({context.idempotency_key for _, _, context in seen}) == 1, "a service must know the second attempt"
    for state, message, context in seen:
        call = call_of(state, "work-1")
        assert (call.state, call.attempt) == (CallState.RUNNING, context.attempt)
        assert call.runner == state.worker
        assert call.started == state.at
        key = idempotency_key(X, call.id, call.nonce)
        assert context.idempotency_key == key
        process = claim_of(WorkerId("w"), NOON).process
        for trailer in (f"Attempt: {context.attempt}", f"Idempotency-Key: {key}", f"Process: {process}"):
            assert trailer in message.splitlines()


async def test_no_two_calls_have_the_same_idempotency_key_and_a_fork_has_its_own(tmp_path: Path) -> None:
    keys = list[str]()

    @tool
    async def work(context: ToolContext) -> str:
        keys.append(context.idempotency_key)
        return "worked"

    world = World(tmp_path / "r.git", Agent("a", tools=[work]), lines(ask_for(("work", {}), ("work", {})), say("done")))
    await world.run()
    (asked,) = [commit for commit in world.history() if "calls work" in commit.message]
    world.loops().fork(asked.id, "copy")
    await world.resume("copy")
    assert len(keys) == len(set(keys)) == 4
    assert results(world.model.requests[-1]) == ["worked", "worked"]
