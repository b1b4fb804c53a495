"""Caesura as a whole: the runtime over its store, with a model that answers at once, or after a second."""

import gc
import resource
import sys
import time
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from itertools import pairwise
from pathlib import Path
from statistics import median

import trio

from caesura.continuations import (
    Assistant,
    Function,
    Loops,
    MemoryStore,
    ModelSpec,
    Reply,
    Store,
    ToolRequest,
    encode_message,
)
from caesura.runtime import Agent, Committed, ModelRequest, Notice, Runtime, tool

from .job import Job, Outcome
from .ours import AUTHOR, opened
from .work import messages


@tool
async def look(place: int) -> str:
    """Look at a place."""
    return _CONTENT[(place + 7) % len(_CONTENT)]  # another text than the model's


_CONTENT = [str(message["content"]) for message in messages(0, "tool", 16)]
MODEL_SECONDS = 1.0
BATCHES = 6
_LOADED = 0.9
"""The share of an active loop's messages that were there before it was loaded."""


@tool(name="look_closely", needs_approval=True)
def _ask_first() -> str:
    """Look closely at everything."""
    return ""


async def _nothing() -> None:
    """Where a model answers at once."""


class Scripted:
    """A model that asks for `look` in so many rounds, and then for the tool `last`, or is done; it takes `seconds`.

    `answered` is when it gave its newest answer in each loop, by the loop's prompt.
    """

    def __init__(
        self,
        rounds: int,
        seconds: float = 0.0,
        *,
        last: str = "",
        before_last: Callable[[], Awaitable[None]] = _nothing,
    ) -> None:
        self._rounds, self._seconds, self._last, self._before_last = rounds, seconds, last, before_last
        self.answered: dict[str, float] = {}

    @property
    def spec(self) -> ModelSpec:
        """Which model this is."""
        return MODEL

    async def reply(self, request: ModelRequest, listen: Callable[[str], None]) -> Reply:
        """Ask for a tool, or be done."""
        await trio.sleep(self._seconds)
        place = (len(request.messages) - 1) // 2
        prompt = getattr(request.messages[0], "content", "")
        said = Assistant(content="Done.")
        if place < self._rounds:
            said = _asking(place, Function(name="look", arguments=f'{{"place": {place}}}'))
        else:
            await self._before_last()
            said = _asking(place, Function(name=self._last, arguments="{}")) if self._last else said
        self.answered[prompt] = time.perf_counter()
        return Reply(message=said)


def _asking(place: int, function: Function) -> Assistant:
    asked = ToolRequest(id=f"c{place}", function=function)
    return Assistant(content=_CONTENT[place % len(_CONTENT)], tool_calls=(asked,))


MODEL = ModelSpec(name="scripted")
AGENT = Agent("lead", instructions="You plan.", tools=[look])


def runtime(job: Job) -> Outcome:
    """A loop of so many steps in memory: what is left is the runtime's own work, and the memory's copying."""
    commits: list[float] = []

    def listen(notice: Notice) -> None:
        if isinstance(notice, Committed):
            commits.append(time.perf_counter())

    async def drive() -> None:
        async with Runtime.open(
            MemoryStore(), agents=[AGENT], model=Scripted(job.steps // 3), listener=listen
        ) as opened_runtime:
            await opened_runtime.run("lead", "go", loop="lead")

    trio.run(drive)
    return Outcome(side=job.side, took=[after - before for before, after in pairwise(commits)])


def memory(job: Job) -> Outcome:
    """What Python holds (by tracemalloc), beside the loop's messages: with each loop more that is suspended, and for
    one of `size` messages that is active, the last of them its own and the others loaded.

    Of what grows with loops, the median of some batches of them counts, each with its steps sealed: what is bounded
    may still be growing at first, and a table of the interpreter's own is made larger at some moment or other.

    What the active one holds is counted at rest, when its steps are sealed and the repository is tidied up: how far
    those threads have come at a moment says nothing of the loop. What they have in hand is in the most that was held
    at any moment from its loading on, the work of tidying up after all the suspended ones included.
    """
    held: list[int] = []
    one: list[int] = []
    folder = Path(job.folder)
    asking = Agent("lead", instructions="You plan.", tools=[look, _ask_first])

    async def suspended() -> None:
        model = Scripted(job.steps, last="look_closely")
        async with _driven(folder, asking, model) as (driven, store):
            for number in range(BATCHES * job.loops):
                outcome = await driven.run("lead", "go", loop=f"waits-{number}")
                assert outcome.status == "suspended"
                if number % job.loops == job.loops - 1:
                    store.seal()
                    held.append(_held())

    async def before() -> None:
        model = Scripted(int(job.size / 2 * _LOADED), last="look_closely")
        async with _driven(folder, asking, model) as (driven, _):
            outcome = await driven.run("lead", "go", loop="active")
        with Loops(opened(folder, "crash")) as loops:
            loops.approve(outcome.pending[0], by=AUTHOR)

    async def active() -> None:
        before = _held()

        async def measure() -> None:
            await trio.to_thread.run_sync(_rest, store)
            one.extend([_held() - before, tracemalloc.get_traced_memory()[1] - before])

        model = Scripted(job.size // 2, before_last=measure)
        async with _driven(folder, asking, model) as (driven, store):
            await driven.resume("active")

    with _traced():
        trio.run(suspended)
    trio.run(before)
    with _traced():
        trio.run(active)
    with Loops(opened(folder, "crash")) as loops:
        waiting, driven = (
            sum(len(encode_message(message)) for message in loops.show(name).state.messages)
            for name in ("waits-0", "active")
        )
    grown = median([after - before for before, after in pairwise(held)])
    figures = {
        "suspended": [grown / job.loops / waiting],
        "active": [one[0] / driven],
        "active at most": [one[1] / driven],
    }
    return Outcome(side=job.side, figures=figures)


@asynccontextmanager
async def _driven(folder: Path, agent: Agent, model: Scripted) -> AsyncIterator[tuple[Runtime, Store]]:
    """A runtime over a store of its own, which is closed: else its threads would go on beside what comes next."""
    with closing(opened(folder, "crash")) as store:
        async with Runtime.open(store, agents=[agent], model=model) as driven:
            yield driven, store


def _rest(store: Store) -> None:
    """Wait until what was written is sealed, and nothing is left to be tidied up."""
    while store.upkeep().run() is None:  # the runtime is at it
        time.sleep(0.01)
    store.seal()


@contextmanager
def _traced() -> Iterator[None]:
    """What is allocated in here is counted, which takes four times as long."""
    tracemalloc.start()
    try:
        yield
    finally:
        tracemalloc.stop()


def _held() -> int:
    """The bytes that are allocated, but for the interpreter's own table of the methods that were called last."""
    gc.collect()
    sys._clear_type_cache()  # pyright: ignore[reportPrivateUsage]
    return tracemalloc.get_traced_memory()[0]


def crowd(job: Job) -> Outcome:
    """So many loops at once in one process, whose model answers in a second: the wall, the CPU, the commits.

    All begin at once, and all models answer at once: nothing is spread over the second.
    """
    took: list[float] = []
    steps = 0
    model = Scripted(job.steps, MODEL_SECONDS)

    def listen(notice: Notice) -> None:
        nonlocal steps
        steps += isinstance(notice, Committed)
        if isinstance(notice, Committed) and notice.loop in model.answered:
            took.append(time.perf_counter() - model.answered.pop(notice.loop))

    async def drive() -> None:
        store = opened(Path(job.folder), "durable")
        async with (
            Runtime.open(store, agents=[AGENT], model=model, listener=listen) as driven,
            trio.open_nursery() as nursery,
        ):
            for name in job.names:
                nursery.start_soon(_one, driven, name)
        store.close()

    async def _one(driven: Runtime, name: str) -> None:
        outcome = await driven.run("lead", name, loop=name)
        assert outcome.status == "completed"

    cpu, begin = time.process_time(), time.perf_counter()
    trio.run(drive)
    seconds, cpu = time.perf_counter() - begin, time.process_time() - cpu
    ideal = MODEL_SECONDS * (job.steps + 1)
    figures = {
        "cpu": [cpu / seconds],
        "step": [cpu / steps],
        "over": [seconds / ideal - 1],
        "memory": [resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024.0],
    }
    return Outcome(side=job.side, seconds=seconds, took=took, figures=figures)
