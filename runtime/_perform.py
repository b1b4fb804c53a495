"""Performing effects: a model call, an attempt at a tool; each ends in exactly one event."""

import datetime as dt
from collections.abc import Mapping
from contextlib import suppress

import msgspec
import trio

from caesura.continuations import (
    TERM,
    AgentSpec,
    AnyEvent,
    Assistant,
    Call,
    Json,
    ModelFailed,
    ModelReplied,
    NoSuchLoop,
    Reply,
    Saved,
    ToolAsked,
    ToolFailed,
    ToolReturned,
    Usage,
    idempotency_key,
    printable,
)

from ._agent import Agent
from ._attempts import Asked, Failed, Returned, Sleeping
from ._context import ToolContext
from ._model import ModelRequest, ModelUnavailable, TooLong
from ._notices import Progressed, Streamed, Thinking
from ._previews import with_previews
from ._proposals import misfit_of, propose
from ._services import Services


async def call_model(services: Services, agent: Agent, saved: Saved, memory: Mapping[str, Json]) -> AnyEvent:
    """Send the messages to the agent's model; its reply comes with what the agent's code says of it."""
    state = saved.state
    shown = len(state.messages)
    request = ModelRequest(
        agent=agent.name,
        instructions=_instructions(state.definition),
        messages=tuple(state.messages),
        tools=state.definition.tools,
        result=state.definition.result,
    )

    def listen(text: str) -> None:
        services.listen(Streamed(loop=saved.loop, text=text))

    services.listen(Thinking(loop=saved.loop, agent=agent.name))
    try:
        reply = await services.model_of(agent, state.amended).reply(request, listen)
        if not isinstance(reply, Reply):
            raise TypeError(f"the model's adapter returned {type(reply).__name__}, not a Reply")
        if not isinstance(reply.message, Assistant) or not isinstance(reply.usage, Usage):
            raise TypeError("the model's adapter returned a Reply without a message or a usage")
        # What the agent's code is asked about is what will be in the history, and run.
        reply = services.history.storable(reply)
    except ModelUnavailable as error:
        return ModelFailed(
            at=services.now(),
            error=f"{str(error).rstrip('.')}. {error.hint}",
            shown=shown,
            compactions=state.context.times,
            too_long=isinstance(error, TooLong),
        )
    except (Exception, SystemExit) as error:  # noqa: BLE001  # a fault in somebody's adapter must not lose the loop
        reason = f"{type(error).__name__}: {printable(str(error))}"
        return ModelFailed(at=services.now(), error=reason, shown=shown, compactions=state.context.times)
    proposals = propose(agent, saved.loop, state, reply, services.governs)
    return ModelReplied(
        at=services.now(),
        reply=reply,
        shown=shown,
        compactions=state.context.times,
        proposals=await with_previews(services, agent, saved, reply, proposals),
        misfit=misfit_of(agent, reply),
        memory=memory,
    )


def _instructions(definition: AgentSpec) -> str:
    """The agent's instructions, with the form of its result if that is one that model APIs cannot be told."""
    schema = definition.result
    if schema is None or schema.get("type") == "object":
        return definition.instructions
    form = msgspec.json.encode(schema).decode()
    return f"{definition.instructions}\n\nYour last answer must be JSON that fits this schema, and nothing else: {form}"


async def run_tool(services: Services, agent: Agent, saved: Saved, call: Call) -> AnyEvent | None:
    """Make one attempt at a call that this worker has claimed; None if it is another's since, or its loop is gone."""
    token = trio.lowlevel.current_trio_token()
    workspace = None if saved.state.workspace is None else await services.sync(services.files.folder, saved)

    def report(text: str) -> None:
        notice = Progressed(loop=saved.loop, call=call.id, text=text)
        with suppress(trio.RunFinishedError):  # a plain tool that was abandoned outlives everything here
            token.run_sync_soon(services.listen, notice)  # a plain tool reports from its thread

    context = ToolContext(
        loop=saved.loop,
        call=call.id,
        attempt=call.attempt,
        idempotency_key=idempotency_key(saved.loop, call.id, call.nonce),
        report=report,
        workspace=workspace,
    )
    tool = agent.tool(call.tool)
    # A machine that slept since the claim: somebody may have been asked what became of it.
    if call.started is not None and services.now() - call.started > TERM:
        now: Call | None = None
        with suppress(NoSuchLoop):
            now = (await services.sync(services.history.load, saved.loop)).state.call(call.id)
        if now is None or (now.state, now.attempt, now.runner) != (call.state, call.attempt, call.runner):
            return None
    ended = (
        Failed(error=f"there is no tool {call.tool!r}")
        if tool is None
        else await tool.perform(call.arguments, context, limiter=services.threads)
    )
    at = services.now()
    match ended:
        case Returned():
            return ToolReturned(at=at, call=call.id, attempt=call.attempt, content=ended.content)
        case Failed():
            again = None if ended.retry_in is None else at + dt.timedelta(seconds=ended.retry_in)
            return ToolFailed(at=at, call=call.id, attempt=call.attempt, error=ended.error, retry_at=again)
        case Asked():
            return ToolAsked(at=at, call=call.id, attempt=call.attempt, question=ended.question)
        case Sleeping():
            return ToolAsked(at=at, call=call.id, attempt=call.attempt, wake_at=ended.until)
