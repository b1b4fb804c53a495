"""An agent as judge: it scores outcomes, each in a loop of its own that nothing is kept of."""

from collections.abc import Callable, Iterator
from dataclasses import replace

import msgspec

from caesura.continuations import (
    Assistant,
    MemoryStore,
    Message,
    ModelSpec,
    Reply,
    Result,
    Saved,
    User,
    call_text,
    text_of,
)

from ._agent import Agent
from ._model import Model, ModelRequest
from ._runtime import Outcome, Runtime
from ._services import NoModel
from ._trials import Evaluator, NotEvaluated, Scoring, nothing, scoring

Show = Callable[[Outcome, Saved], str]
"""What a judge is given to read."""


class _Borrowed(Model):
    """A model that somebody else opens and closes."""

    def __init__(self, model: Model) -> None:
        self._model = model

    @property
    def spec(self) -> ModelSpec:
        return self._model.spec

    async def reply(self, request: ModelRequest, listen: Callable[[str], None]) -> Reply:
        return await self._model.reply(request, listen)


def read_out(outcome: Outcome, saved: Saved) -> str:
    """A loop's conversation, as a judge reads it."""
    return "\n\n".join(part for message in saved.state.messages for part in _said(message))


def judged_by(agent: Agent, *, model: Model | None = None, show: Show = read_out) -> Evaluator:
    """Let an agent score outcomes.

    Its result is a number, or true or false, or has a `score` and, if it likes, a `note`. `model` serves an agent that
    has none of its own. What it spends counts nowhere.

    Raises:
        NoModel: there is no model.
    """
    used = agent.model or model
    if used is None:
        raise NoModel(f"Agent {agent.name} has no model.", hint="Give it one, or name one for the judge.")
    judge = replace(agent, model=_Borrowed(used))

    async def evaluate(outcome: Outcome, saved: Saved) -> Scoring:
        async with Runtime.open(MemoryStore(), agents=[judge]) as runtime:
            said = await runtime.run(judge, show(outcome, saved))
        if said.status != "completed":
            raise NotEvaluated(
                f"{agent.name} did not judge {outcome.loop}: it is {said.status}.",
                hint="A judge has to answer by itself: no approvals, no questions.",
            )
        fields = msgspec.to_builtins(said.result)
        return scoring(
            (fields["score"], fields.get("note", "")) if isinstance(fields, dict) and "score" in fields else fields
        )

    async def aclose() -> None:
        await getattr(agent.model, "aclose", nothing)()

    return Evaluator(name=agent.name, evaluate=evaluate, aclose=aclose)


def _said(message: Message) -> Iterator[str]:
    match message:
        case User():
            yield f"It was told: {text_of(message.content)}"
        case Assistant():
            if message.content:
                yield f"It said: {message.content}"
            yield from (
                f"It called {call_text(one.function.name, one.function.arguments, 2000)}" for one in message.tool_calls
            )
        case Result():
            yield f"It got: {message.content}"
        case _:
            pass
