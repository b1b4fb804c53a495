"""Attempts: what it takes for a tool to start, and what a failure leads to."""

from ._calls import CallState
from ._events import ToolFailed, ToolStarted
from ._moves import NotApplicable, attempt, closed, find, moved
from ._state import Continuation


def tool_started(state: Continuation, event: ToolStarted) -> Continuation:
    """An attempt begins: the step that allows it."""
    if state.gate is not None:
        raise NotApplicable(f"The loop stands still: {state.gate.reason}.", hint="Nothing may start behind a gate.")
    if state.accepted is not None:
        raise NotApplicable(
            "The agent's code has changed, and that was accepted.", hint="Adopt it first; then what may start is known."
        )
    if state.worker != event.worker:
        raise NotApplicable("Another worker has taken the loop up.", hint="Stop driving it: its new worker goes on.")
    call = find(state, event.call)
    if state.rehearsal is not None and not call.granted:
        raise NotApplicable(f"The loop rehearses: {call.id} was not approved in it.", hint="Approve it to run it.")
    tool = state.tool(call)
    bound = None if tool is None else (call.arguments_digest, tool.digest)
    if any((one.arguments, one.tool) != bound for one in call.granted):
        raise NotApplicable(f"{call.id} is not what was approved.", hint="It needs a new decision; nothing was run.")
    if call.needs is not None and len({one.by.identity for one in call.granted}) < call.needs.approvals:
        raise NotApplicable(f"{call.id} has not been approved by enough people.", hint="Nothing was run.")
    return moved(
        state,
        event,
        call,
        CallState.RUNNING,
        attempt=call.attempt + 1,
        started=event.at,
        runner=event.worker,
        process=event.process,
        not_before=None,
        expires=None,
    )


def tool_failed(state: Continuation, event: ToolFailed) -> Continuation:
    """An attempt failed: there will be another, or the call has."""
    call = attempt(state, event.call, event.attempt)
    if event.retry_at is not None and call.state is CallState.RUNNING:
        return moved(
            state,
            event,
            call,
            CallState.APPROVED,
            not_before=event.retry_at,
            remark=f"attempt {call.attempt} failed: {event.error}",
        )
    return closed(state, event, call, CallState.FAILED, f"Error: {event.error}")
