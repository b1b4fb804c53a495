"""A worker that waits goes on as decisions, answers and times arrive from elsewhere."""

import datetime as dt
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from caesura.continuations import InvalidAnswer, Request, Status
from caesura.runtime import Agent, Outcome, ask, sleep_until, tool
from tests.models import ADA, NOON, World, ask_for, call_of, lines, say, telling

ACT = """
import sys
from caesura.continuations import Loops
with Loops.open(sys.argv[1]) as loops:
    getattr(loops, sys.argv[2])(*sys.argv[3:], by="Ada Lovelace <ada@example.com>")
"""


def act(world: World, *words: str) -> None:
    """Do something to a loop in another process."""
    subprocess.run([sys.executable, "-c", ACT, str(world.store), *words], check=True)


async def waiting(world: World, outcomes: list[Outcome], **options: Any) -> None:
    """A worker that waits until the loop has ended."""
    outcomes.append(await world.run(wait=True, **options))


@tool(needs_approval=True)
def deploy(service: str) -> str:
    return f"deployed {service}"


async def test_it_goes_on_as_a_decision_an_answer_and_a_word_arrive_from_other_processes(tmp_path: Path) -> None:
    script = lines(
        ask_for(("deploy", {"service": "api"})), ask_for(("ask", {"question": "Where?"})), say("done"), say("well")
    )
    world = World(tmp_path / "r.git", Agent("ops", tools=[deploy, ask()]), script)
    outcomes: list[Outcome] = []
    async with trio.open_nursery() as nursery:
        wants, asks = world.seen("approval requested"), world.seen("asks: Where?")
        nursery.start_soon(waiting, world, outcomes)
        await wants.wait()
        await trio.to_thread.run_sync(act, world, "approve", "x.deploy-1")
        await asks.wait()
        await trio.to_thread.run_sync(act, world, "tell", "x", "Mind the gap")
        await trio.to_thread.run_sync(act, world, "answer", "x.ask-1", "in Oslo")
    assert outcomes[0].status is Status.COMPLETED
    last = [getattr(message, "content", "") for message in world.model.requests[-1].messages]
    assert last[-2:] == ["in Oslo", "Mind the gap"]


async def test_it_goes_on_when_the_time_comes(tmp_path: Path, autojump_clock: MockClock) -> None:
    then = NOON + dt.timedelta(days=3)
    script = lines(ask_for(("sleep_until", {"until": then.isoformat()})), say("done"))
    world = World(
        tmp_path / "r.git", Agent("night", tools=[sleep_until]), script, now=telling(autojump_clock), poll=3600
    )
    assert (await world.run()).status is Status.SUSPENDED
    (pending,) = world.loops().pending()
    assert (pending.kind, pending.wake_at) == ("sleep", then)
    assert (await world.resume(wait=True)).status is Status.COMPLETED
    assert telling(autojump_clock)() >= then


async def test_it_ends_when_the_loop_is_cancelled_or_given_up_elsewhere(tmp_path: Path) -> None:
    for words in (("cancel", "x", "no need"), ("reject", "x.gate-1", "no need")):
        script = lines(say("", stop="refusal", refusal="no"))
        world = World(tmp_path / f"{words[0]}.git", Agent("ops"), script)
        outcomes: list[Outcome] = []
        async with trio.open_nursery() as nursery:
            refused = world.seen("refused")
            nursery.start_soon(waiting, world, outcomes)
            await refused.wait()
            await trio.to_thread.run_sync(act, world, *words)
        assert outcomes[0].status in (Status.CANCELLED, Status.FAILED)
        assert "no need" in outcomes[0].text


async def test_a_pause_put_while_it_waits_is_not_lifted_by_what_arrives_after_it(tmp_path: Path) -> None:
    child = Agent("child", tools=[deploy])
    script = lines(ask_for(("child", {"prompt": "deploy"})), say("done"))
    deploys = lines(ask_for(("deploy", {"service": "api"})), say("ok"))

    def both(asked: Any) -> Any:
        return deploys(asked) if asked.agent == "child" else script(asked)

    world = World(tmp_path / "r.git", Agent("top", tools=[child.as_tool("It deploys.")]), both)
    await world.run()
    goes_on = world.seen("child goes on")
    async with trio.open_nursery() as nursery, world.open() as runtime:
        nursery.start_soon(partial(runtime.resume, "x", wait=True))
        await world.idle(runtime)
        world.loops().pause("x", by=ADA)
        world.loops().approve("x.child-1.deploy-1", by=ADA)
        await goes_on.wait()
        runtime.stop()
    state = world.state()
    assert state.gate is not None
    assert state.gate.kind == "pause"
    assert call_of(world.state("x.child-1"), "deploy-1").state == "approved"


async def test_questions_carry_the_schema_of_their_answer_and_misfits_leave_them_waiting(tmp_path: Path) -> None:
    script = lines(ask_for(("ask", {"question": "How many?"})), say("done"))
    world = World(tmp_path / "r.git", Agent("ops", tools=[ask(int)]), script)
    (request,) = (await world.run()).pending
    assert isinstance(request, Request)
    assert (request.text, request.answer) == ("How many?", {"type": "integer"})
    loops = world.loops()
    for value in ("many", 1.5, None, [3]):
        with pytest.raises(InvalidAnswer):
            loops.answer(request, value, by=ADA)
    loops.answer(request, 3, by=ADA)
    assert (await world.resume()).text == "done"
