"""A scripted model that runs in the test's own process, and a small world around it: a store, an agent, notices."""

import datetime as dt
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import trio
from msgspec.structs import replace
from trio.testing import MockClock

from caesura.continuations import (
    Assistant,
    CallId,
    Commit,
    CommitId,
    Continuation,
    Function,
    GitStore,
    History,
    Loops,
    ModelSpec,
    Person,
    Reply,
    Result,
    Stop,
    Store,
    ToolRequest,
    Usage,
    loop_name,
)
from caesura.runtime import Agent, Committed, ModelRequest, Notice, Outcome, Runtime

ADA = Person(name="Ada Lovelace", email="ada@example.com")
GRACE = Person(name="Grace Hopper", email="grace@example.com")

Script = Callable[[ModelRequest], Reply | Awaitable[Reply]]


def say(text: str | None, *, stop: Stop = "end", refusal: str | None = None, usage: Usage | None = None) -> Reply:
    """The model says something and is done."""
    message = Assistant(content=text, refusal=refusal)
    return Reply(message=message, stop=stop, usage=usage or Usage(input=10, output=5), model="scripted-1")


def request(tool: str, arguments: Mapping[str, Any] | str | None = None, key: str = "") -> ToolRequest:
    """One requested call; a text stands as it is, JSON or not."""
    text = arguments if isinstance(arguments, str) else json.dumps(arguments or {})
    return ToolRequest(id=key, function=Function(name=tool, arguments=text))


def ask_for(*requests: ToolRequest | tuple[str, Mapping[str, Any]], text: str | None = None) -> Reply:
    """The model asks for calls."""
    made = tuple(
        one if isinstance(one, ToolRequest) else request(one[0], one[1], f"c{place}")
        for place, one in enumerate(requests)
    )
    return Reply(message=Assistant(content=text, tool_calls=made), usage=Usage(input=10, output=5), model="scripted-1")


def results(asked: ModelRequest) -> list[str]:
    """The results so far, as the model reads them."""
    return [message.content for message in asked.messages if isinstance(message, Result)]


def rounds(asked: ModelRequest) -> int:
    """How often this model has spoken."""
    return sum(isinstance(message, Assistant) for message in asked.messages)


def lines(*replies: Reply) -> Script:
    """A model that says its lines in order; the place in them is read from the conversation, so it survives resumes."""
    return lambda asked: replies[min(rounds(asked), len(replies) - 1)]


class ScriptedModel:
    """Answers each request as its script says; keeps the requests."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.requests: list[ModelRequest] = []

    @property
    def spec(self) -> ModelSpec:
        """Which model this is."""
        return ModelSpec(name="scripted")

    def another(self, spec: ModelSpec) -> "Another":
        """The same script, under another model's name."""
        return Another(self, spec)

    async def reply(self, request: ModelRequest, listen: Callable[[str], None]) -> Reply:
        """Answer as the script says, in two pieces."""
        self.requests.append(request)
        answer = self.script(request)
        reply = answer if isinstance(answer, Reply) else await answer
        text = reply.message.content or ""
        for piece in filter(None, (text[: len(text) // 2], text[len(text) // 2 :])):
            listen(piece)
        return reply


class Another:
    """A scripted model that a fork has asked for; what it was asked is kept with the one that it stands for."""

    def __init__(self, model: ScriptedModel, spec: ModelSpec) -> None:
        self._model = model
        self.spec = spec

    async def reply(self, request: ModelRequest, listen: Callable[[str], None]) -> Reply:
        """Answer as the script says, and say which model did."""
        return replace(await self._model.reply(request, listen), model=self.spec.name)


class Held:
    """A model's script that waits in the middle of an answer until it is let go."""

    def __init__(self, script: Script) -> None:
        self._script = script
        self.asked = trio.Event()
        self.go = trio.Event()

    async def __call__(self, asked: ModelRequest) -> Reply:
        """Wait, then answer."""
        self.asked.set()
        await self.go.wait()
        answer = self._script(asked)
        return answer if isinstance(answer, Reply) else await answer


NOON = dt.datetime(2030, 1, 31, 12, tzinfo=dt.UTC)


def telling(clock: MockClock) -> Callable[[], dt.datetime]:
    """The time as trio's mock clock has it; unlike trio's own function it can be asked in any thread."""
    return lambda: NOON + dt.timedelta(milliseconds=round(clock.current_time() * 1000))


class World:
    """A repository, an agent and a model: what a test drives. Each run opens the repository afresh."""

    def __init__(self, store: Path | Store, agent: Agent, script: Script, **options: Any) -> None:
        self.store = store
        self.agent = agent
        self.model = ScriptedModel(script)
        self.notices: list[Notice] = []
        self._watchers: list[tuple[Callable[[Notice], bool], Callable[[], None]]] = []
        self.options = options

    @asynccontextmanager
    async def open(self, **options: Any) -> AsyncIterator[Runtime]:
        """A fresh runtime, as another process would have it."""
        kept: dict[str, Any] = {"agents": [self.agent], "model": self.model, "listener": self.listen, "poll": 0.01}
        async with Runtime.open(self.store, **(kept | self.options | options)) as runtime:
            yield runtime

    def listen(self, notice: Notice) -> None:
        """Keep a notice, and wake who waits for it."""
        self.notices.append(notice)
        for matches, react in self._watchers:
            if matches(notice):
                react()

    def seen(self, subject: str, react: Callable[[], None] = lambda: None) -> trio.Event:
        """Set once a commit's subject contains that text; `react` is called at each such commit."""
        event = trio.Event()

        def both() -> None:
            event.set()
            react()

        self._watchers.append((lambda notice: isinstance(notice, Committed) and subject in notice.subject, both))
        return event

    def subjects(self) -> list[str]:
        """What the commits said, in the order of the notices."""
        return [notice.subject for notice in self.notices if isinstance(notice, Committed)]

    async def run(self, prompt: Any = "go", *, loop: str = "x", **options: Any) -> Outcome:
        """Start a loop and drive it."""
        async with self.open() as runtime:
            return await runtime.run(self.agent, prompt, loop=loop, **options)

    async def resume(self, loop: str = "x", **options: Any) -> Outcome:
        """Take a loop up again."""
        async with self.open() as runtime:
            return await runtime.resume(loop, **options)

    def loops(self) -> Loops:
        """The loops as a person's own process sees them."""
        return Loops(GitStore.open(self.store) if isinstance(self.store, Path) else self.store)

    async def idle(self, runtime: Runtime) -> None:
        """Wait until everything that the runtime drives is at rest."""
        at_rest: set[bool] = set()
        while at_rest != {True}:
            await trio.lowlevel.checkpoint()
            at_rest = {actor.idle for driven in runtime._supervisors for actor in driven._actors}

    def state(self, loop: str = "x") -> Continuation:
        """A loop's newest state."""
        return self.loops().show(loop).state

    def history(self, loop: str = "x") -> list[Commit]:
        """Every commit of a loop's own line, oldest first."""
        store = GitStore.open(self.store) if isinstance(self.store, Path) else self.store
        commit: CommitId | None = History(store).load(loop_name(loop)).commit
        found: list[Commit] = []
        while commit is not None:
            found.append(store.read(commit))
            commit = found[-1].parents[0] if found[-1].parents and _same_loop(store, found[-1]) else None
        return found[::-1]


def _same_loop(store: Store, commit: Commit) -> bool:
    return store.read(commit.parents[0]).state.nonce == commit.state.nonce


def check_results(state: Continuation) -> None:
    """Each call in the messages has exactly one result, or is open and has none; nested loops too."""
    waiting: list[str] = []
    for message in state.messages:
        match message:
            case Assistant():
                assert not waiting, f"spoken before the results of {waiting}"
                waiting = [call.id for call in message.tool_calls]
                assert len(set(waiting)) == len(waiting)
            case Result():
                assert message.tool_call_id in waiting, f"a result of nothing: {message}"
                waiting.remove(message.tool_call_id)
            case _:
                pass
    assert sorted(waiting) == sorted(call.key for call in state.open_calls)
    for child in state.children.values():
        check_results(child.state)


def call_of(state: Continuation, call: str) -> Any:
    """A call of the present round."""
    found = state.call(CallId(call))
    assert found is not None
    return found
