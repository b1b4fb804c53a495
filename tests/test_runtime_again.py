"""What is driven again, changed, or pulled away while it is driven: nothing is lost, doubled, or done unasked."""

import datetime as dt
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from caesura.continuations import Budget, CallState, ConflictError, Reply, Status
from caesura.runtime import (
    Agent,
    Committed,
    ModelRequest,
    Moment,
    Notice,
    Outcome,
    Retry,
    Runtime,
    Tool,
    VanishedTool,
    suspension,
    tool,
)
from tests.models import ADA, NOON, World, ask_for, call_of, lines, results, say, telling
from tests.repositories import git


class Slow:
    """A tool that returns once it is let go."""

    def __init__(self, **options: Any) -> None:
        self.began, self.go, self.ran = trio.Event(), trio.Event(), 0
        self.tool: Tool[..., Any] = tool(self.work, **options)

    async def work(self) -> str:
        self.ran += 1
        self.began.set()
        await self.go.wait()
        return "worked"


def family(inner: Agent, **options: Any) -> Agent:
    """An agent that has another for its one tool."""
    return Agent("outer", tools=[inner.as_tool("Inner.", **options)])


def in_family(*replies: Reply) -> Callable[[ModelRequest], Any]:
    """The outer agent asks the inner one, which says these lines."""
    scripts = {"outer": lines(ask_for(("inner", {"prompt": "go"})), say("all")), "inner": lines(*replies)}
    return lambda asked: scripts[asked.agent](asked)


WORKS = (ask_for(("work", {})), say("done"))


# Driven again ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("idempotent", [True, False])
@pytest.mark.parametrize("cancelled", ["run", "resume"])
async def test_a_loop_cancelled_while_a_tool_runs_is_resumed_in_the_same_runtime(
    tmp_path: Path, cancelled: str, idempotent: bool, nested: bool
) -> None:
    slow = Slow(idempotent=idempotent, needs_approval=cancelled == "resume")
    inner = Agent("inner", tools=[slow.tool])
    world = World(tmp_path / "r.git", family(inner) if nested else inner, in_family(*WORKS))
    own = "x.inner-1" if nested else "x"
    with trio.fail_after(300):
        async with world.open() as runtime:
            if cancelled == "resume":
                await runtime.run(world.agent, "go", loop="x")
                world.loops().approve(f"{own}.work-1", by=ADA)
            with trio.CancelScope() as scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(_cancel_once, slow.began, scope)
                    if cancelled == "run":
                        await runtime.run(world.agent, "go", loop="x")
                    else:
                        await runtime.resume("x")
            assert scope.cancelled_caught
            assert call_of(world.state(own), "work-1").state is CallState.RUNNING
            slow.go.set()
            outcome = await runtime.resume("x")
            if not idempotent:
                (pending,) = outcome.pending
                assert (pending.id, pending.kind) == (f"{own}.work-1", "outcome")
                assert call_of(world.state(own), "work-1").state is CallState.UNKNOWN
                world.loops().answer(pending, "it had worked", by=ADA)
                outcome = await runtime.resume("x")
    assert outcome.status is Status.COMPLETED
    assert slow.ran == (2 if idempotent else 1)


async def _cancel_once(event: trio.Event, scope: trio.CancelScope) -> None:
    await event.wait()
    scope.cancel()


async def test_an_approved_agent_whose_tool_changed_before_its_child_began_waits_for_approval_again(
    tmp_path: Path,
) -> None:
    inner = Agent("inner")
    world = World(tmp_path / "r.git", family(inner, needs_approval=True), in_family(say("done")))
    await world.run()
    world.loops().approve("x.inner-1", by=ADA)
    world.agent = Agent("outer", tools=[inner.as_tool("Inner, and dearer.", needs_approval=True)])
    (pending,) = (await world.resume()).pending
    assert (pending.id, pending.kind, pending.remark) == (
        "x.inner-1",
        "approval",
        "the tool changed since this was approved",
    )
    assert [info.name for info in world.loops().all(nested=True)] == ["x"]
    world.loops().approve(pending, by=ADA)
    assert (await world.resume()).status is Status.COMPLETED


async def test_an_approved_agent_whose_child_has_begun_goes_on_though_its_tool_changed(tmp_path: Path) -> None:
    inner, stop = Agent("inner"), list[Callable[[], None]]()

    class Stopped(World):
        def listen(self, notice: Notice) -> None:
            super().listen(notice)
            if isinstance(notice, Committed) and notice.loop == "x.inner-1":
                for one in stop:
                    one()

    world = Stopped(tmp_path / "r.git", family(inner, needs_approval=True), in_family(say("done")))
    await world.run()
    world.loops().approve("x.inner-1", by=ADA)
    async with world.open() as runtime:
        stop.append(runtime.stop)
        assert (await runtime.resume("x")).status is Status.ACTIVE
    stop.clear()
    assert [info.name for info in world.loops().all(nested=True)] == ["x", "x.inner-1"]
    world.agent = Agent("outer", tools=[inner.as_tool("Inner, and dearer.", needs_approval=True)])
    assert (await world.resume()).status is Status.COMPLETED


# Budgets -----------------------------------------------------------------------------------------------------------


async def test_children_that_call_their_models_at_once_do_not_overshoot_a_budget_of_steps(tmp_path: Path) -> None:
    go, calls = trio.Event(), list[str]()

    async def script(asked: ModelRequest) -> Reply:
        calls.append(asked.agent)
        if asked.agent == "inner":
            if len(calls) == 6:
                go.set()  # all five at once: the budget did not hold
            await go.wait()
            return say("done")
        return say("all") if results(asked) else ask_for(*[("inner", {"prompt": "go"})] * 5)

    world = World(tmp_path / "r.git", family(Agent("inner")), script)
    world.seen("budget", go.set)
    with trio.fail_after(300):
        outcome = await world.run(budget=Budget(steps=3))
    assert calls == ["outer", "inner", "inner"]
    assert (outcome.status, outcome.spent.steps) == (Status.SUSPENDED, 3)
    assert [(one.id, one.gate) for one in outcome.pending] == [("x.gate-1", "budget")]
    while outcome.pending:
        world.loops().approve(outcome.pending[0], by=ADA)
        outcome = await world.resume()
    assert (outcome.status, outcome.spent.steps) == (Status.COMPLETED, 7)


async def test_a_deadline_that_has_passed_suspends_before_the_next_model_call_until_it_is_lifted(
    tmp_path: Path,
) -> None:
    time = [NOON]

    @tool
    async def dawdle() -> str:
        time[0] += dt.timedelta(minutes=40)
        return "dawdled"

    script = lines(*[ask_for(("dawdle", {}))] * 3, say("done"))
    world = World(tmp_path / "r.git", Agent("a", tools=[dawdle]), script, now=lambda: time[0])
    outcome = await world.run(budget=Budget(deadline=NOON + dt.timedelta(hours=1)))
    for _ in range(2):
        (pending,) = outcome.pending
        assert (outcome.status, pending.gate, len(world.model.requests)) == (Status.SUSPENDED, "budget", 2)
        assert "its deadline, 2030-01-31T13:00:00+00:00, has passed" in pending.text
        outcome = await world.resume()
    world.loops().approve("x.gate-1", by=ADA)
    assert (await world.resume()).status is Status.COMPLETED


async def test_a_deadline_holds_for_a_loop_that_is_resumed_after_it(tmp_path: Path) -> None:
    time = [NOON]
    slow = Slow(needs_approval=True)
    slow.go.set()
    world = World(tmp_path / "r.git", Agent("a", tools=[slow.tool]), lines(*WORKS), now=lambda: time[0])
    await world.run(budget=Budget(deadline=NOON + dt.timedelta(hours=1)))
    world.loops().approve("x.work-1", by=ADA)
    time[0] += dt.timedelta(days=1)
    assert [one.gate for one in (await world.resume()).pending] == ["budget"]
    assert len(world.model.requests) == 1


@pytest.mark.parametrize("own", [None, Budget(steps=5)])
async def test_a_changed_agents_budget_is_adopted_on_resume_unless_the_loop_was_given_its_own(
    tmp_path: Path, own: Budget | None
) -> None:
    slow = Slow(needs_approval=True)
    slow.go.set()
    world = World(tmp_path / "r.git", Agent("a", tools=[slow.tool], budget=Budget(steps=9)), lines(*WORKS))
    await world.run(budget=own)
    world.loops().approve("x.work-1", by=ADA)
    world.agent = Agent("a", tools=[slow.tool], budget=Budget(steps=1))
    outcome = await world.resume()
    assert [one.gate for one in outcome.pending] == (["budget"] if own is None else [])
    assert outcome.status is (Status.SUSPENDED if own is None else Status.COMPLETED)


# Pulled away -------------------------------------------------------------------------------------------------------


async def test_if_one_actor_cannot_go_on_a_siblings_running_tool_ends_and_is_committed_before_the_error(
    tmp_path: Path,
) -> None:
    slow = Slow(needs_approval=True)
    failed, over = list[VanishedTool](), trio.Event()

    @tool(needs_approval=True)
    async def order() -> str:
        return "ordered"

    def lead(*tools: Tool[..., Any]) -> Agent:
        shop, works = Agent("shop", tools=tools), Agent("works", tools=[slow.tool])
        return Agent("lead", tools=[shop.as_tool("Shop."), works.as_tool("Works.")])

    scripts = {
        "lead": lines(ask_for(("shop", {"prompt": "go"}), ("works", {"prompt": "go"})), say("all")),
        "shop": lines(ask_for(("order", {})), say("done")),
        "works": lines(*WORKS),
    }
    world = World(tmp_path / "r.git", lead(order), lambda asked: scripts[asked.agent](asked))
    await world.run()
    world.loops().approve("x.works-1.work-1", by=ADA)
    world.agent = lead()

    async def resume(runtime: Runtime) -> None:
        try:
            await runtime.resume("x")
        except VanishedTool as error:
            failed.append(error)
        over.set()

    with trio.fail_after(300):
        async with world.open() as runtime, trio.open_nursery() as nursery:
            nursery.start_soon(resume, runtime)
            await slow.began.wait()
            world.loops().approve("x.shop-1.order-1", by=ADA)
            while not over.is_set() and not all(one.stopping for one in runtime._supervisors):
                await trio.lowlevel.checkpoint()
            assert not over.is_set()
            slow.go.set()
    assert "has no tool 'order' any more" in str(failed[0])
    assert call_of(world.state("x.works-1"), "work-1").state is CallState.RETURNED
    world.agent = lead(order)
    assert (await world.resume()).status is Status.COMPLETED
    assert slow.ran == 1


async def test_the_wait_before_another_attempt_does_not_hold_up_a_pause(tmp_path: Path, mock_clock: MockClock) -> None:
    @tool(retry=Retry(on=(OSError,), first=600, most=600, jitter=0))
    async def call() -> str:
        raise OSError("try later")

    world = World(
        tmp_path / "r.git",
        Agent("a", tools=[call]),
        lines(ask_for(("call", {})), say("done")),
        now=telling(mock_clock),
        poll=0.001,
    )

    def pause() -> None:
        world.loops().pause("x", "lunch", by=ADA)

    world.seen("is to be retried", pause)
    outcomes = list[Outcome]()

    async def run() -> None:
        outcomes.append(await world.run())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        while not outcomes and trio.current_time() < 599:
            mock_clock.jump(0.001)
            await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel()
    assert [(one.status, [request.gate for request in one.pending]) for one in outcomes] == [
        (Status.SUSPENDED, ["pause"])
    ]


async def test_a_branch_deleted_while_it_is_driven_is_an_error_that_says_how_to_bring_it_back(tmp_path: Path) -> None:
    slow, path, commit = Slow(idempotent=True), tmp_path / "r.git", ""
    world = World(path, Agent("a", tools=[slow.tool]), lines(*WORKS))
    with trio.fail_after(300), pytest.RaisesGroup(ConflictError) as raised:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(world.run)
            await slow.began.wait()
            commit = git(path, "rev-parse", "loops/x")
            git(path, "update-ref", "-d", "refs/heads/loops/x")
            slow.go.set()
    (error,) = raised.value.exceptions
    assert isinstance(error, ConflictError)
    assert type(error).__name__ == "BranchGone"
    assert error.hint == f"Bring it back with git: git branch loops/x {commit}"
    git(path, "branch", "loops/x", commit)
    assert (await world.resume()).status is Status.COMPLETED


# Requests to exit --------------------------------------------------------------------------------------------------


async def test_a_model_that_asks_the_process_to_exit_suspends_the_loop(tmp_path: Path) -> None:
    def script(_: ModelRequest) -> Reply:
        raise SystemExit(3)

    world = World(tmp_path / "r.git", Agent("a"), script)
    (pending,) = (await world.run()).pending
    assert (pending.gate, pending.text) == ("model", "SystemExit: 3")
    world.model.script = lines(say("done"))
    assert (await world.resume()).status is Status.COMPLETED


async def test_a_suspension_function_that_asks_the_process_to_exit_suspends_the_loop(tmp_path: Path) -> None:
    @suspension
    def leave(moment: Moment) -> str | None:
        raise SystemExit(3)

    world = World(tmp_path / "r.git", Agent("a", suspend=[leave]), lines(say("done")))
    (pending,) = (await world.run()).pending
    assert pending.gate == "condition"
    assert "the suspension function leave failed: SystemExit: 3" in pending.text
    world.loops().approve(pending, by=ADA)
    assert (await world.resume()).status is Status.COMPLETED


async def _leave() -> str:
    raise SystemExit(3)


def _leave_in_a_thread() -> str:
    raise SystemExit(3)


async def _leave_in_a_nursery() -> str:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_leave)
    return "stayed"


@pytest.mark.parametrize("function", [_leave, _leave_in_a_thread, _leave_in_a_nursery])
async def test_a_tool_that_asks_the_process_to_exit_has_failed(tmp_path: Path, function: Any) -> None:
    leave = tool(function, name="leave")
    world = World(tmp_path / "r.git", Agent("a", tools=[leave]), lines(ask_for(("leave", {})), say("done")))
    assert (await world.run()).status is Status.COMPLETED
    assert results(world.model.requests[-1]) == ["Error: SystemExit: 3"]
