"""Many loops at once: what others commit is looked for in all of them together, and they are sealed together."""

import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import pytest
import trio
import trio.lowlevel
from trio.testing import MockClock

from caesura.continuations import CommitId, LoopName, Loops, MemoryStore, ModelSpec, Reply, Status, Work
from caesura.runtime import Agent, ModelRequest, Runtime, tool
from tests.models import ADA, ScriptedModel, ask_for, results, say

PATIENCE = 300


class Sleeper:
    """A model that answers after as many seconds as the prompt says; if that is none, it asks for an approval first."""

    @property
    def spec(self) -> ModelSpec:
        return ModelSpec(name="sleeper")

    async def reply(self, request: ModelRequest, listen: Callable[[str], None]) -> Reply:
        seconds = float(str(getattr(request.messages[0], "content", "")))
        await trio.sleep(seconds)
        return say("done") if seconds or results(request) else ask_for(("deploy", {}))


@tool(needs_approval=True)
async def deploy() -> str:
    return "deployed"


AGENT = Agent("a", tools=[deploy])


class Crowd:
    """Loops that are driven at once in one runtime, each until it has ended."""

    def __init__(self, runtime: Runtime, nursery: trio.Nursery) -> None:
        self._runtime, self._nursery = runtime, nursery
        self.ended: list[str] = []

    def begin(self, loop: str, seconds: float = 0) -> None:
        self._nursery.start_soon(self._run, loop, seconds)

    async def _run(self, loop: str, seconds: float) -> None:
        outcome = await self._runtime.run("a", str(seconds), loop=loop, wait=True)
        assert outcome.status is Status.COMPLETED
        self.ended.append(loop)


async def test_when_the_loop_ends_whose_drive_watches_for_all_another_goes_on_with_it(
    autojump_clock: MockClock,
) -> None:
    store, loops = MemoryStore(), list("abcd")
    async with Runtime.open(store, agents=[AGENT], model=Sleeper(), poll=5) as runtime, trio.open_nursery() as nursery:
        crowd = Crowd(runtime, nursery)
        for loop in loops:
            crowd.begin(loop)
        await trio.sleep(60)
        for number, loop in enumerate(loops, 1):
            Loops(store).approve(f"{loop}.deploy-1", by=ADA)
            await trio.sleep(11)
            assert crowd.ended == loops[:number]
            assert len(runtime._services.watch._drives) == len(loops) - number, "who has ended is not held"


async def test_drives_that_end_sooner_than_is_looked_put_the_look_off_for_nobody(autojump_clock: MockClock) -> None:
    store = MemoryStore()
    async with Runtime.open(store, agents=[AGENT], model=Sleeper(), poll=5) as runtime, trio.open_nursery() as nursery:
        crowd = Crowd(runtime, nursery)
        for number in range(1, 20):
            crowd.begin(f"short-{number}", 3 * number)
            await trio.testing.wait_all_tasks_blocked()
        crowd.begin("waits")
        await trio.sleep(1)
        Loops(store).approve("waits.deploy-1", by=ADA)
        await trio.sleep(10)
        assert "waits" in crowd.ended


class Counting(MemoryStore):
    """Counts the crossings to a thread."""

    crossings = 0

    @property
    def waits(self) -> bool:
        return True

    def share(self, works: Sequence[Work[Any]]) -> None:
        self.crossings += 1
        super().share(works)


async def test_a_look_at_all_that_wait_takes_few_crossings_whatever_their_number(autojump_clock: MockClock) -> None:
    store = Counting()
    async with Runtime.open(store, agents=[AGENT], model=Sleeper(), poll=5) as runtime, trio.open_nursery() as nursery:
        crowd = Crowd(runtime, nursery)
        for number in range(100):
            crowd.begin(f"x{number}")
        await trio.sleep(60)
        before = store.crossings
        await trio.sleep(50)
        assert store.crossings - before == 20, "ten looks, at 64 loops and at the others"
        nursery.cancel_scope.cancel()


class Held(MemoryStore):
    """Holds the first seal back until it is told to go on, and counts them."""

    def __init__(self) -> None:
        super().__init__()
        self.seals = 0
        self.go_on = threading.Event()

    def seal(self) -> None:
        self.seals += 1
        assert self.go_on.wait(PATIENCE)


async def test_loops_that_end_while_one_is_sealed_are_sealed_together_before_they_are_said_to_have() -> None:
    store = Held()
    with trio.fail_after(PATIENCE):
        async with Runtime.open(store, agents=[AGENT], model=Sleeper()) as runtime, trio.open_nursery() as nursery:
            crowd = Crowd(runtime, nursery)
            crowd.begin("first", 0.001)
            while not store.seals:
                await trio.lowlevel.checkpoint()
            for number in range(20):
                crowd.begin(f"x{number}", 0.001)
            while runtime._services._asked < 21:
                await trio.lowlevel.checkpoint()
            known = list(crowd.ended), store.seals
            store.go_on.set()
        assert known == ([], 1)
        assert (len(crowd.ended), store.seals) == (21, 2)


class Interrupted(MemoryStore):
    """Lets somebody do something, once, after the first of the heads that the next look reads."""

    meanwhile: Callable[[], None] | None = None

    def head(self, loop: LoopName, *, archived: bool = False) -> CommitId | None:
        found = super().head(loop, archived=archived)
        call, self.meanwhile = self.meanwhile, None
        if call is not None:
            call()
        return found


@pytest.mark.parametrize("between", [True, False])
async def test_who_pauses_a_loop_and_then_approves_what_is_nested_in_it_finds_it_not_begun(
    autojump_clock: MockClock, between: bool
) -> None:
    store, ran = Interrupted(), list[str]()

    @tool(needs_approval=True)
    async def act() -> str:
        ran.append("act")
        return "done"

    def reply(request: ModelRequest) -> Reply:
        if results(request):
            return say("done")
        return ask_for(("act", {}) if request.agent == "child" else ("child", {"prompt": "act"}))

    def decide() -> None:
        loops = Loops(store)
        loops.pause("x", by=ADA)
        loops.approve("x.child-1.act-1", by=ADA)

    child = Agent("child", tools=[act])
    top = Agent("top", tools=[child.as_tool("It acts.")])
    async with (
        Runtime.open(store, agents=[top], model=ScriptedModel(reply), poll=5) as runtime,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(partial(runtime.run, "top", "go", loop="x", wait=True))
        await trio.sleep(12)
        if between:
            store.meanwhile = decide
        else:
            decide()
        await trio.sleep(60)
        assert ran == []
        nursery.cancel_scope.cancel()
