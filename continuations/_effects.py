"""Effects: what is to be done next, computed from the state alone."""

import datetime as dt

from ._calls import CallState
from ._compaction import due
from ._ids import CallId
from ._messages import Value
from ._state import Continuation, Ending


class CallModel(Value, tag=True, frozen=True, kw_only=True):
    """Send the messages to the model."""


class Compact(Value, tag=True, frozen=True, kw_only=True):
    """Shorten the messages, as the agent says, before they are sent to the model."""


class RunTool(Value, tag=True, frozen=True, kw_only=True):
    """Start a tool for an approved call, not before that time."""

    call: CallId
    not_before: dt.datetime | None = None


class Recall(Value, tag=True, frozen=True, kw_only=True):
    """Look a call up in the record that the loop rehearses from, or, without one, ask a person about it."""

    call: CallId


class StartChild(Value, tag=True, frozen=True, kw_only=True):
    """Drive the child loop of this call: start it, or take it up where it is."""

    call: CallId


class WaitUntil(Value, tag=True, frozen=True, kw_only=True):
    """Wake this call when the time has come."""

    call: CallId
    at: dt.datetime


class AdoptAgent(Value, tag=True, frozen=True, kw_only=True):
    """Adopt the agent's changed code, which a person has accepted; if it is another by now, ask again."""


class Expire(Value, tag=True, frozen=True, kw_only=True):
    """Let the request about this call, or its unused approval, expire when the time has come."""

    call: CallId
    at: dt.datetime


class Finish(Value, tag=True, frozen=True, kw_only=True):
    """Tell whoever started the loop how it ended."""

    ending: Ending


Effect = CallModel | Compact | RunTool | Recall | StartChild | WaitUntil | Expire | AdoptAgent | Finish
"""Every kind of effect."""


def outstanding(state: Continuation) -> tuple[Effect, ...]:
    """What is to be done next, from the continuation alone.

    Resuming a loop is loading its head and performing these. Calls that are running are not among them: their
    worker performs them now, or, once it has gone, `Resumed` says so. Behind a gate there is nothing to do.
    """
    if state.ending is not None:
        return (Finish(ending=state.ending),)
    if state.gate is not None:
        return ()
    if state.accepted is not None:
        return (AdoptAgent(),)
    open_calls = state.open_calls
    if not open_calls:
        return (Compact(),) if due(state) else (CallModel(),)
    effects: list[Effect] = []
    for call in open_calls:
        # First: what has expired by then must not start.
        if call.expires is not None and call.id not in state.children:
            effects.append(Expire(call=call.id, at=call.expires))
        if call.state is CallState.APPROVED and state.rehearsal is not None and not call.granted:
            effects.append(Recall(call=call.id))
        elif call.state is CallState.APPROVED:
            effects.append(RunTool(call=call.id, not_before=call.not_before))
        elif call.state is CallState.DELEGATED or (call.state is CallState.WAITING and call.kind == "agent"):
            effects.append(StartChild(call=call.id))
        elif call.state is CallState.WAITING and call.not_before is not None:
            effects.append(WaitUntil(call=call.id, at=call.not_before))
    return tuple(effects)
