"""Telling a loop something at any time, and cancelling it at any time."""

from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from caesura.continuations import (
    CommitId,
    GitStore,
    LoopName,
    Loops,
    MemoryStore,
    NotApplicable,
    Result,
    Status,
    User,
)
from caesura.runtime import Agent, tool
from caesura.runtime._actor import Actor
from caesura.runtime._supervisor import Supervisor
from tests.models import ADA, Held, World, ask_for, check_results, lines, results, rounds, say


def heard(world: World) -> list[str]:
    """What people have said, as the model last saw it."""
    return [str(one.content) for one in world.model.requests[-1].messages if isinstance(one, User)]


class Busy:
    """A tool that runs until it is let go, or for ever."""

    def __init__(self) -> None:
        self.began, self.go = trio.Event(), trio.Event()
        self.stopped = False
        self.tool = tool(self.work)

    async def work(self) -> str:
        self.began.set()
        try:
            await self.go.wait()
        except trio.Cancelled:
            self.stopped = True
            raise
        return "worked"


@tool(needs_approval=True)
async def deploy() -> str:
    return "deployed"


async def test_what_is_told_to_a_suspended_loop_is_heard_after_the_open_calls(tmp_path: Path) -> None:
    world = World(tmp_path / "r.git", Agent("a", tools=[deploy]), lines(ask_for(("deploy", {})), say("done")))
    await world.run()
    loops = world.loops()
    loops.tell("x", "first", by=ADA)
    loops.tell("x", "second", by=ADA)
    assert (await world.resume()).status is Status.SUSPENDED
    loops.approve("x.deploy-1", by=ADA)
    assert (await world.resume()).status is Status.COMPLETED
    assert heard(world) == ["go", "first", "second"]
    assert results(world.model.requests[-1]) == ["deployed"]


async def test_what_is_told_while_the_model_answers_is_heard_before_the_loop_ends(tmp_path: Path) -> None:
    held = Held(lambda asked: say(f"answer {rounds(asked) + 1}"))
    world = World(tmp_path / "r.git", Agent("a"), held)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.run)
        await held.asked.wait()
        world.loops().tell("x", "wait", by=ADA)
        held.go.set()
    assert world.state().status is Status.COMPLETED
    assert [getattr(one, "content", "") for one in world.state().messages] == ["go", "answer 1", "wait", "answer 2"]


async def test_what_is_told_while_tools_run_is_heard_after_their_results(tmp_path: Path) -> None:
    busy = Busy()
    world = World(tmp_path / "r.git", Agent("a", tools=[busy.tool]), lines(ask_for(("work", {})), say("done")))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.run)
        await busy.began.wait()
        world.loops().tell("x", "hurry", by=ADA)
        busy.go.set()
    assert [getattr(one, "content", "") for one in world.state().messages[2:]] == ["worked", "hurry", "done"]


async def test_what_is_told_to_a_loop_whose_worker_is_gone_is_heard_when_it_is_resumed(tmp_path: Path) -> None:
    held = Held(lines(say("done")))
    world = World(tmp_path / "r.git", Agent("a"), held)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.run)
        await held.asked.wait()
        nursery.cancel_scope.cancel()
    world.loops().tell("x", "still there?", by=ADA)
    held.go.set()
    assert (await world.resume()).status is Status.COMPLETED
    assert heard(world) == ["go", "still there?"]
    assert len(world.model.requests) == 2


async def test_a_completed_loop_goes_on_as_a_conversation(tmp_path: Path) -> None:
    world = World(tmp_path / "r.git", Agent("a"), lambda asked: say(f"answer {rounds(asked) + 1}"))
    assert (await world.run()).text == "answer 1"
    for number in (2, 3):
        world.loops().tell("x", f"question {number}", by=ADA)
        assert world.loops().info("x").ready
        assert (await world.resume()).text == f"answer {number}"
    assert heard(world) == ["go", "question 2", "question 3"]


def nest(inner_tools: list[Any]) -> tuple[Agent, Any]:
    """An agent in another, and their script: the inner one calls all of its tools at once."""
    inner = Agent("inner", tools=inner_tools)
    outer = Agent("outer", tools=[inner.as_tool("Inner."), deploy])
    own = lines(ask_for(("inner", {"prompt": "go"}), ("deploy", {})), say("all done"))
    script = lines(ask_for(*[(one.name, {}) for one in inner_tools]), say("inner done"))
    return outer, lambda asked: (own if asked.agent == "outer" else script)(asked)


@pytest.mark.parametrize("target", ["x", "x.inner-1"])
async def test_a_cancel_while_suspended_gives_every_open_call_its_one_result(tmp_path: Path, target: str) -> None:
    agent, script = nest([deploy])
    world = World(tmp_path / "r.git", agent, script)
    await world.run()
    world.loops().cancel(target, "no need", by=ADA)
    for loop in ("x", "x.inner-1"):
        check_results(world.state(loop))
    assert world.state("x.inner-1").status is Status.CANCELLED
    outcome = await world.resume()
    if target == "x":
        assert (outcome.status, outcome.text) == (Status.CANCELLED, "no need")
        assert outcome.pending == ()
    else:
        assert [request.id for request in outcome.pending] == ["x.deploy-1"]
        world.loops().reject("x.deploy-1", by=ADA)
        assert (await world.resume()).status is Status.COMPLETED
        assert "Error: inner was cancelled: no need" in results(world.model.requests[-1])
    for commit in world.history():
        check_results(commit.state)


@pytest.mark.parametrize("git", [True, False])
@pytest.mark.parametrize("target", ["x", "x.inner-1"])
async def test_a_cancel_while_tools_run_stops_them_and_the_worker(tmp_path: Path, target: str, git: bool) -> None:
    busy = Busy()
    agent, script = nest([busy.tool])
    world = World(tmp_path / "r.git" if git else MemoryStore(), agent, script)
    with trio.fail_after(300):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(world.run)
            await busy.began.wait()
            world.loops().cancel(target, "no need", by=ADA)
    assert busy.stopped
    inner = world.state("x.inner-1")
    assert inner.status is Status.CANCELLED
    check_results(inner)
    (told,) = [one.content for one in inner.messages if isinstance(one, Result)]
    assert told == "Cancelled: no need. It had started: whether it took effect is not known."
    check_results(world.state())
    assert world.state().status is (Status.CANCELLED if target == "x" else Status.SUSPENDED)


async def test_a_cancel_while_the_model_answers_drops_the_answer(tmp_path: Path) -> None:
    held = Held(lines(say("done")))
    world = World(tmp_path / "r.git", Agent("a"), held)
    with trio.fail_after(300):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(world.run)
            await held.asked.wait()
            world.loops().cancel("x", "no need", by=ADA)
    assert (world.state().status, len(world.state().messages)) == (Status.CANCELLED, 1)


async def test_a_cancelled_loop_can_be_told_nothing_and_resuming_it_changes_nothing(tmp_path: Path) -> None:
    world = World(tmp_path / "r.git", Agent("a", tools=[deploy]), lines(ask_for(("deploy", {})), say("done")))
    await world.run()
    head = world.loops().cancel("x", by=ADA).commit
    assert world.loops().cancel("x", by=ADA).commit == head
    for act in (world.loops().tell, world.loops().pause):
        with pytest.raises(NotApplicable):
            act("x", "more", by=ADA)
    assert (await world.resume()).commit == head


@pytest.mark.parametrize("act", ["cancel", "pause"])
async def test_what_is_nested_in_a_loop_does_nothing_after_that_was_stopped_though_it_began_later(
    tmp_path: Path, act: str
) -> None:
    ran: list[str] = []

    @tool
    async def charge() -> str:
        ran.append("charged")
        return "charged"

    class Stopping(GitStore):
        """Somebody stops the root just before the loop nested in it begins."""

        def move(self, loop: LoopName, old: CommitId | None, new: CommitId) -> None:
            if loop == "x.inner-1" and old is None:
                with Loops.open(self.location) as loops:
                    getattr(loops, act)("x", "no need", by=ADA)
            super().move(loop, old, new)

    store = Stopping.open(tmp_path / "r.git", create=True)
    agent, script = nest([charge])
    world = World(store, agent, script, poll=1e6)  # nobody looks by themselves
    with trio.fail_after(300):
        outcome = await world.run()
    assert ran == []
    if act == "cancel":
        assert (outcome.status, world.state("x.inner-1").status) == (Status.CANCELLED, Status.CANCELLED)
    else:
        assert outcome.status is Status.SUSPENDED
        world.loops().reject("x.deploy-1", by=ADA)
        assert (await world.resume()).status is Status.COMPLETED
        assert ran == ["charged"]
    store.close()


@pytest.mark.parametrize("act", ["cancel", "pause"])
async def test_what_is_nested_in_a_stopped_loop_whose_actor_is_busy_asks_once_and_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, act: str
) -> None:
    ran, asked, actors, look, stopped = list[str](), list[str](), list[Actor](), Actor._look_again, Supervisor._stopped

    @tool
    async def charge() -> str:
        ran.append("charged")
        return "charged"

    def looked(self: Supervisor, above: list[Actor]) -> list[Actor]:
        asked.append("whether a loop above was stopped")
        if len(asked) == 1:
            getattr(world.loops(), act)("x", "no need", by=ADA)
        return stopped(self, above)

    async def busy(self: Actor) -> None:
        while self.parent is None and len(asked) < 9 and not all(one.idle for one in actors if one.parent is not None):
            await trio.testing.wait_all_tasks_blocked()
        await look(self)

    def made(self: Actor, *words: Any, **more: Any) -> None:
        init(self, *words, **more)
        actors.append(self)

    init = Actor.__init__
    monkeypatch.setattr(Actor, "__init__", made)
    monkeypatch.setattr(Actor, "_look_again", busy)
    monkeypatch.setattr(Supervisor, "_stopped", looked)
    agent, script = nest([charge])
    world = World(tmp_path / "r.git", agent, script, poll=1e6)  # nobody looks by themselves
    with trio.fail_after(300):
        outcome = await world.run()
    assert outcome.status is (Status.CANCELLED if act == "cancel" else Status.SUSPENDED)
    assert ran == []
    assert len(asked) == 1
