"""Proposals: what an agent's own code says of a model's reply, asked once, before the reply is committed."""

import secrets
from collections.abc import Callable

from caesura.continuations import (
    MAX_NAME,
    Call,
    CallId,
    Continuation,
    Json,
    LoopName,
    Needs,
    Proposal,
    Reply,
    ToolRequest,
    child_name,
    name_calls,
)

from ._agent import Agent
from ._schema import check
from ._tools import BadArguments

Governs = Callable[[str, str], Needs | None]
"""What a policy asks for before an agent's tool may run."""


def propose(agent: Agent, loop: LoopName, state: Continuation, reply: Reply, governs: Governs) -> tuple[Proposal, ...]:
    """A proposal for each call of a reply."""
    requests = reply.message.tool_calls
    ids, _ = name_calls(state, requests)
    return tuple(_propose(agent, loop, call, request, governs) for call, request in zip(ids, requests, strict=True))


def _propose(agent: Agent, loop: LoopName, call: CallId, request: ToolRequest, governs: Governs) -> Proposal:
    nonce = secrets.token_hex(8)
    name, arguments = request.function.name, request.function.arguments
    tool = agent.tool(name)
    if tool is None:
        names = ", ".join(tool.name for tool in agent.tools) or "none"
        return Proposal(nonce=nonce, error=f"there is no tool {name!r}. The tools are: {names}.")
    try:
        needs_approval, remark = tool.asks_approval(tool.proposed(arguments, loop, call))
        question = tool.question(arguments) if tool.spec.kind == "question" else None
        wake_at = tool.wake_at(arguments) if tool.spec.kind == "sleep" else None
    except BadArguments as error:
        return Proposal(nonce=nonce, error=str(error))
    if tool.spec.kind == "agent" and len(child_name(loop, call)) > MAX_NAME:
        return Proposal(nonce=nonce, error="agents are nested too deep here. Do it without another agent.")
    return Proposal(
        nonce=nonce,
        needs_approval=needs_approval,
        remark=remark,
        question=question,
        wake_at=wake_at,
        # A question and a sleep have no side effect that anybody could approve.
        needs=governs(agent.name, name) if tool.spec.kind in ("function", "agent") else None,
    )


def misfit_of(agent: Agent, reply: Reply) -> str:
    """How a final answer misses the agent's result type, or the empty text."""
    content = reply.message.content
    if agent.result is str or reply.message.tool_calls or reply.stop != "end" or not content:
        return ""
    return check(agent.result, content) or ""


def prompt_of(agent: Agent, call: Call) -> str:
    """What a call of an agent asks of it. The arguments were read before, when the call was proposed or edited.

    Raises:
        BadArguments: they do not fit the tool as it is now.
    """
    tool = agent.tool(call.tool)
    values: dict[str, Json] = {} if tool is None else tool.read(call.arguments)
    return str(values.get("prompt", ""))
