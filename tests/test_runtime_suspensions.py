"""What makes a loop stand still: suspension functions, budgets and a pause by hand; and how each is lifted."""

import datetime as dt
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from caesura.continuations import Budget, MemoryStore, Status, Usage
from caesura.runtime import Agent, Moment, SleepUntil, after, after_model_calls, suspension, tool
from tests.models import ADA, NOON, Held, World, ask_for, call_of, lines, rounds, say, telling


@tool
async def look() -> str:
    return "seen"


def steps(count: int) -> Any:
    """A model that asks for so many calls, one after the other, and is done."""
    return lines(*[ask_for(("look", {}))] * count, say("done"))


async def test_a_loop_suspends_after_every_so_many_model_calls(tmp_path: Path) -> None:
    world = World(tmp_path / "r.git", Agent("a", tools=[look], suspend=[after_model_calls(2)]), steps(4))
    outcome = await world.run()
    for asked in (2, 4):
        (pending,) = outcome.pending
        assert (outcome.status, pending.gate, len(world.model.requests)) == (Status.SUSPENDED, "condition", asked)
        assert (await world.resume()).pending == outcome.pending  # looking is not approving
        world.loops().approve(pending, by=ADA)
        outcome = await world.resume()
    assert outcome.status is Status.COMPLETED


async def test_a_loop_suspends_after_a_time_of_work_and_time_spent_suspended_does_not_count(
    autojump_clock: MockClock,
) -> None:
    @tool
    async def dig() -> str:
        await trio.sleep(3600)
        return "dug"

    agent = Agent("a", tools=[dig], suspend=[after(dt.timedelta(minutes=90))])
    script = lines(*[ask_for(("dig", {}))] * 3, say("done"))
    world = World(MemoryStore(), agent, script, now=telling(autojump_clock), poll=60)
    outcome = await world.run()
    assert (outcome.status, len(world.model.requests)) == (Status.SUSPENDED, 2)
    await trio.sleep(86400)
    world.loops().approve("x.gate-1", by=ADA)
    outcome = await world.resume()
    assert (outcome.status, len(world.model.requests)) == (Status.COMPLETED, 4)


@suspension
def every_third_look(moment: Moment) -> str | None:
    moment.memory["looks"] = moment.memory.get("looks", 0) + 1
    return "three looks" if moment.memory["looks"] % 3 == 0 else None


async def test_the_memory_of_a_condition_goes_on_with_a_resumed_and_a_forked_loop(tmp_path: Path) -> None:
    world = World(tmp_path / "r.git", Agent("a", tools=[look], suspend=[every_third_look]), steps(6))
    await world.run()
    assert world.state().memory == {"every_third_look": {"looks": 3}}
    world.loops().fork("x", "y")
    for loop in ("x", "y"):
        world.loops().approve(f"{loop}.gate-1", by=ADA)
        outcome = await world.resume(loop)
        assert (outcome.status, outcome.spent.steps) == (Status.SUSPENDED, 5)
        assert world.state(loop).memory == {"every_third_look": {"looks": 6}}


def raises(moment: Moment) -> str | None:
    raise LookupError("no \ud800 idea")


def truth(moment: Moment) -> Any:
    return True


def keeps_an_object(moment: Moment) -> str | None:
    moment.memory["thing"] = object()
    return None


@pytest.mark.parametrize("check", [raises, truth, keeps_an_object])
async def test_a_broken_condition_suspends_and_the_loop_is_readable_and_lifts(
    tmp_path: Path, check: Callable[[Moment], str | None]
) -> None:
    world = World(tmp_path / "r.git", Agent("a", suspend=[suspension(check)]), lines(say("done")))
    outcome = await world.run()
    (pending,) = outcome.pending
    assert pending.gate == "condition"
    assert f"the suspension function {check.__name__} failed" in pending.text
    world.loops().approve(pending, by=ADA)
    assert (await world.resume()).status is Status.COMPLETED


async def test_a_condition_that_is_rejected_fails_the_loop_with_the_reason(tmp_path: Path) -> None:
    world = World(tmp_path / "r.git", Agent("a", suspend=[every_third_look], tools=[look]), steps(6))
    await world.run()
    world.loops().reject("x.gate-1", "enough", by=ADA)
    outcome = await world.resume()
    assert outcome.status is Status.FAILED
    assert outcome.text == "three looks; given up by Ada Lovelace: enough."


BUDGETS = [Budget(steps=2), Budget(tokens=30), Budget(tokens=25)]


@pytest.mark.parametrize("budget", BUDGETS)
async def test_a_spent_budget_suspends_and_an_approval_allows_as_much_again(tmp_path: Path, budget: Budget) -> None:
    world = World(tmp_path / "r.git", Agent("a", tools=[look], budget=budget), steps(4))
    outcome = await world.run()
    for asked in (2, 4):
        (pending,) = outcome.pending
        assert (outcome.status, pending.gate, len(world.model.requests)) == (Status.SUSPENDED, "budget", asked)
        world.loops().approve(pending, by=ADA)
        outcome = await world.resume()
    assert outcome.status is Status.COMPLETED
    assert outcome.spent.usage == Usage(input=50, output=25)


async def test_a_budget_of_seconds_counts_work_and_is_extended_by_as_much(autojump_clock: MockClock) -> None:
    @tool
    async def dig() -> str:
        await trio.sleep(3600)
        return "dug"

    script = lines(*[ask_for(("dig", {}))] * 2, say("done"))
    agent = Agent("a", tools=[dig], budget=Budget(seconds=3000))
    world = World(MemoryStore(), agent, script, now=telling(autojump_clock), poll=60)
    outcome = await world.run()
    assert (outcome.status, len(world.model.requests)) == (Status.SUSPENDED, 1)
    before = world.state().spent.seconds
    world.loops().approve("x.gate-1", by=ADA)
    assert world.state().limit.seconds == before + 3000
    outcome = await world.resume()
    assert (outcome.status, len(world.model.requests)) == (Status.SUSPENDED, 2)


def family(budget: Budget) -> tuple[Agent, Any]:
    """A parent with two children that each ask for many calls."""
    child = Agent("child", tools=[look])
    top = Agent("top", tools=[child.as_tool("A child.")], budget=budget)
    own = lines(ask_for(("child", {"prompt": "a"}), ("child", {"prompt": "b"})), say("all done"))
    return top, lambda asked: own(asked) if asked.agent == "top" else steps(3)(asked)


@pytest.mark.parametrize("approve", [True, False])
async def test_a_budget_is_for_a_loop_and_its_children_together_and_its_gate_holds_them(
    tmp_path: Path, approve: bool
) -> None:
    agent, script = family(Budget(steps=4))
    world = World(tmp_path / "r.git", agent, script)
    outcome = await world.run()
    (pending,) = outcome.pending
    assert (outcome.status, pending.id, pending.gate) == (Status.SUSPENDED, "x.gate-1", "budget")
    assert 4 <= len(world.model.requests) <= 5  # one may have been under way when another was counted
    held = len(world.model.requests)
    assert (await world.resume()).pending[0].id == "x.gate-1"
    assert len(world.model.requests) == held
    for gate in (1, 2) if approve else (1,):
        loops = world.loops()
        if approve:
            loops.approve(f"x.gate-{gate}", by=ADA)
        else:
            loops.reject(f"x.gate-{gate}", "too much", by=ADA)
        outcome = await world.resume()
    if approve:
        while outcome.status is Status.SUSPENDED:
            world.loops().approve(outcome.pending[0], by=ADA)
            outcome = await world.resume()
        assert outcome.status is Status.COMPLETED
        assert outcome.spent.steps == 10
    else:
        assert outcome.status is Status.FAILED
        assert {world.state(f"x.child-{n}").status for n in (1, 2)} == {Status.CANCELLED}


async def test_a_pause_put_while_tools_run_lets_them_end_and_holds_the_next_effect(tmp_path: Path) -> None:
    began, go = trio.Event(), trio.Event()

    @tool
    async def work() -> str:
        began.set()
        await go.wait()
        return "worked"

    world = World(tmp_path / "r.git", Agent("a", tools=[work]), lines(ask_for(("work", {})), say("done")))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.run)
        await began.wait()
        world.loops().pause("x", "let me look", by=ADA)
        go.set()
    state = world.state()
    assert (state.status, len(world.model.requests)) == (Status.SUSPENDED, 1)
    assert call_of(state, "work-1").state == "returned"
    assert (await world.resume()).status is Status.COMPLETED


@pytest.mark.parametrize("nested", [False, True])
async def test_a_pause_while_suspended_holds_what_is_approved_until_a_resume(tmp_path: Path, nested: bool) -> None:
    ran: list[str] = []

    @tool(needs_approval=True)
    def deploy() -> str:
        ran.append("deploy")
        return "deployed"

    inner = Agent("inner", tools=[deploy])
    outer = Agent("outer", tools=[inner.as_tool("Inner.")])
    own = lines(ask_for(("inner", {"prompt": "go"})), say("all done"))
    script = lines(ask_for(("deploy", {})), say("done"))
    agent = outer if nested else inner
    world = World(tmp_path / "r.git", agent, lambda asked: (own if asked.agent == "outer" else script)(asked))
    await world.run()
    loops = world.loops()
    loops.pause("x", by=ADA)
    loops.approve("x.inner-1.deploy-1" if nested else "x.deploy-1", by=ADA)
    assert loops.info("x").status is Status.SUSPENDED or nested
    assert ran == []
    assert (await world.resume()).status is Status.COMPLETED
    assert ran == ["deploy"]


async def test_a_pause_while_the_model_answers_keeps_the_answer_and_starts_nothing(tmp_path: Path) -> None:
    held = Held(steps(1))
    world = World(tmp_path / "r.git", Agent("a", tools=[look]), held)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.run)
        await held.asked.wait()
        world.loops().pause("x", by=ADA)
        held.go.set()
    state = world.state()
    assert state.status is Status.SUSPENDED
    assert call_of(state, "look-1").attempt == 0
    assert rounds(world.model.requests[-1]) == 0
    assert (await world.resume()).text == "done"


async def test_a_loop_wakes_in_time_though_the_machine_slept(autojump_clock: MockClock) -> None:
    asleep, tell = [dt.timedelta()], telling(autojump_clock)

    @tool
    def wait() -> SleepUntil:
        return SleepUntil(NOON + dt.timedelta(hours=8))

    agent, script = Agent("a", tools=[wait]), lines(ask_for(("wait", {})), say("done"))
    world = World(MemoryStore(), agent, script, now=lambda: tell() + asleep[0], poll=1e6)
    waits, began = world.seen("sleeps"), trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(world.run, wait=True))
        await waits.wait()
        await trio.sleep(10)
        asleep[0] = dt.timedelta(hours=8)
    assert world.state().status is Status.COMPLETED
    assert trio.current_time() - began < 120
