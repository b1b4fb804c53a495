"""The step of a loop whose agent's changed code is adopted."""

from msgspec.structs import replace

from ._calls import Call, CallState
from ._events import AgentChanged
from ._moves import NotApplicable, closed, find, heard, moved, unfinished, with_call
from ._state import Continuation


def adopted(state: Continuation, event: AgentChanged) -> Continuation:
    """Go on with the agent as its code defines it now: what was approved of another tool is asked about anew."""
    unfinished(state, event)
    before = state.definition
    definition = event.definition.amended(state.amended)
    state = replace(
        state,
        agent=definition.name,
        fingerprint=definition.fingerprint,
        definition=definition,
        gate=None if state.gate is not None and state.gate.change is not None else state.gate,
        accepted=None,
    )
    if state.budget == before.budget != event.definition.budget:  # the agent's own, not one given for this loop
        state = replace(state, budget=event.definition.budget, limit=event.definition.budget)
    for call in state.open_calls:
        old, new = before.tool(call.tool), state.tool(call)
        if old != new and call.preview is not None:
            call = replace(call, preview=None)  # it was the other tool's
            state = with_call(state, call)
        begun = call.state is not CallState.APPROVED and (
            call.state is not CallState.DELEGATED or call.id in state.children
        )
        if begun or old is None or new is None or old == new:
            continue
        if call.decision is not None or new.approval != "never":
            remark = "the tool changed since this was approved" if call.decision else ""
            expires = None if call.needs is None else call.needs.until(event.at)
            asked = replace(call, since=event.at, decision=None, approvals=(), expires=expires, remark=remark)
            state = moved(state, event, asked, CallState.AWAITING)
    for call_id in event.ends:
        state = _tool_gone(state, event, find(state, call_id))
    return state if state.open_calls else heard(state)


def _tool_gone(state: Continuation, event: AgentChanged, call: Call) -> Continuation:
    """End a call whose tool the agent no longer has, unless somebody has ended it meanwhile."""
    if not call.open:
        return state
    if state.tool(call) is not None:
        raise NotApplicable(f"The tool of {call.id} is not gone.", hint="Load the loop again: it has moved on.")
    text = f"Error: the agent no longer has the tool {call.tool!r}. "
    if call.attempt or call.id in state.children:
        text += "The call had started: whether it took effect is not known."
    else:
        text += "The call did not run."
    return closed(state, event, call, CallState.FAILED, text)
