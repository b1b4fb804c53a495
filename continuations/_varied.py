"""The steps in which a fork departs from its source: other definition, messages, arguments and results."""

from collections.abc import Sequence

from msgspec.structs import replace

from ._calls import CallState
from ._events_of_forks import Amended, Edited, Overridden, Reworded, Rewound
from ._messages import Assistant, Message, Result, ToolRequest, User
from ._moves import NotApplicable, find, heard, moved, unfinished, with_call
from ._rehearsal import used_by
from ._state import Continuation, Ending


def rewound(state: Continuation, event: Rewound) -> Continuation:
    """Let go of the last messages, and of every call in them, the open ones too.

    What those calls did is done, and what they cost is spent. What was told and not heard yet is heard now.
    """
    if not 0 < event.kept < len(state.messages):
        most = len(state.messages) - 1
        raise NotApplicable(
            f"There are {len(state.messages)} messages: of them {most} can be dropped, not the first.",
            hint="Drop fewer, or start a new loop.",
        )
    messages = state.messages[: event.kept]
    if unanswered(messages) is not None:
        raise NotApplicable(
            "What would stay ends amid a round of calls: some would have no result.",
            hint="Drop the reply that asks for them too, or none of their results.",
        )
    absorbed, rehearsal = state.absorbed, state.rehearsal
    for _, child in sorted(state.children.items()):
        absorbed = absorbed.with_nested(child.state.total)
        rehearsal = None if rehearsal is None else rehearsal.joined(used_by(child.state.rehearsal))
    gate = None if state.gate is not None and state.gate.kind in ("reply", "model") else state.gate
    last = messages[-1]
    said = last.content if isinstance(last, Assistant) and gate is None and not state.told else None
    state = replace(
        state,
        messages=messages,
        calls=event.calls,
        children={},
        absorbed=absorbed,
        rehearsal=rehearsal,
        gate=gate,
        ending=Ending(status="completed", text=said) if said else None,
    )
    return heard(state)


def unanswered(messages: Sequence[Message]) -> ToolRequest | None:
    """A call among messages that has no result there."""
    last = last_reply(messages)
    spoken = None if last is None else messages[last]
    answered = set[str]() if last is None else {one.tool_call_id for one in messages[last:] if isinstance(one, Result)}
    requests = spoken.tool_calls if isinstance(spoken, Assistant) else ()
    return next((one for one in requests if one.id not in answered), None)


def last_reply(messages: Sequence[Message]) -> int | None:
    """Where the model spoke last."""
    places = range(len(messages) - 1, -1, -1)
    return next((place for place in places if isinstance(messages[place], Assistant)), None)


def amended(state: Continuation, event: Amended) -> Continuation:
    """Go on with another model, or other instructions."""
    old, new = state.amended, event.amendment
    both = replace(
        old,
        model=old.model if new.model is None else new.model,
        instructions=old.instructions if new.instructions is None else new.instructions,
    )
    definition = state.definition.amended(new)
    return replace(state, amended=both, definition=definition, fingerprint=definition.fingerprint)


def reworded(state: Continuation, event: Reworded) -> Continuation:
    """Put something else in the place of what a person or a caller said."""
    unfinished(state, event)
    if not 0 <= event.place < len(state.messages) or not isinstance(state.messages[event.place], User):
        raise NotApplicable(
            f"Message {event.place + 1} is nothing that the loop was told.",
            hint="Only that can be said in other words; drop what the model said, and tell it something.",
        )
    messages = (*state.messages[: event.place], event.message, *state.messages[event.place + 1 :])
    return replace(state, messages=messages)


def edited(state: Continuation, event: Edited) -> Continuation:
    """Ask for a call with other arguments. Whatever was decided on the old ones is void."""
    unfinished(state, event)
    call = find(state, event.call)
    # What a question asks, or until when a sleep sleeps, was read from the arguments when it was proposed.
    begun = call.attempt or call.id in state.children or call.kind in ("question", "sleep")
    if call.state not in (CallState.AWAITING, CallState.APPROVED, CallState.DELEGATED) or begun:
        raise NotApplicable(
            f"{call.id} is {call.state}: only what has not begun can be asked for with other arguments.",
            hint="Fork an earlier commit, in which it was pending.",
        )
    tool = state.tool(call)
    free = tool is not None and tool.approval == "never" and call.needs is None and call.decision is None
    if call.state is not CallState.AWAITING and free:
        return with_call(state, replace(call, arguments=event.arguments, preview=None))
    return moved(
        state,
        event,
        call,
        CallState.AWAITING,
        arguments=event.arguments,
        since=event.at,
        approvals=(),
        decision=None,
        expires=None if call.needs is None else call.needs.until(event.at),
        remark=f"{event.by.name} changed the arguments in a fork",
        preview=None,
    )


def overridden(state: Continuation, event: Overridden) -> Continuation:
    """Put another result in the place of a call's. Its state still says how it ended."""
    unfinished(state, event)
    call = find(state, event.call)
    if call.open:
        raise NotApplicable(
            f"{call.id} is {call.state}: it has no result yet.",
            hint="Decide on it or answer it, or fork the commit in which it has its result.",
        )
    state = with_call(state, replace(call, remark=f"{event.by.name} put another result in the place of its own"))
    last = last_reply(state.messages) or 0
    messages = tuple(
        replace(message, content=event.content)
        if place > last and isinstance(message, Result) and message.tool_call_id == call.key
        else message
        for place, message in enumerate(state.messages)
    )
    return replace(state, messages=messages)
