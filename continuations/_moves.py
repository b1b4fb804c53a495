"""Moves that every kind of event shares: finding a call, moving it along the table, ending it, gating the loop."""

import datetime as dt
from typing import Any

from msgspec.structs import replace

from ._calls import Call, CallState, Decision, Gate, GateKind, Person, allowed
from ._changes import Change
from ._errors import ConflictError
from ._event import Event
from ._events import ChildFailed, ChildFinished, ChildResumed, ChildSuspended, ModelFailed, ModelReplied, Resumed, Woke
from ._ids import CallId
from ._messages import Assistant, Message, Result, User, extended
from ._rehearsal import used_by
from ._state import Continuation, Ending, Final, Status
from ._workspace import Workspace


class NotApplicable(ConflictError):
    """The event cannot happen to the state as it is now; somebody else moved it first."""


class AlreadyDecided(NotApplicable):
    """The request was decided before; `decision` is the first one, which stands."""

    def __init__(self, request: str, decision: Decision) -> None:
        verb = "approved" if decision.choice == "approve" else "rejected"
        at = decision.at.isoformat(timespec="seconds")
        super().__init__(
            f"{request} was already {verb} by {decision.by.name} at {at}.", hint="The first decision stands."
        )
        self.decision = decision


class AlreadyAnswered(NotApplicable):
    """The question, or what became of the call, was answered before; `by` and `value` are the answer that stands."""

    def __init__(self, request: str, by: Person, at: dt.datetime, value: str) -> None:
        super().__init__(
            f"{request} was already answered by {by.name} at {at.isoformat(timespec='seconds')}.",
            hint="The first answer stands.",
        )
        self.by = by
        self.value = value


GRANTED = {
    "function": CallState.APPROVED,
    "agent": CallState.DELEGATED,
    "question": CallState.WAITING,
    "sleep": CallState.WAITING,
}
"""Where a call goes once nothing stands before it."""


def clocked(state: Continuation, event: Event) -> Continuation:
    """Move the loop's clock, and count the time as spent if there was work and a worker for it.

    A person's event says nothing about a worker: time is counted up to a worker's own events, and `Resumed` begins
    anew, whatever went by before.
    """
    by_person = getattr(event, "by", None) is not None
    working = state.status is Status.ACTIVE
    if by_person and working:
        return replace(state, at=event.at)
    spent = state.spent
    if working and not isinstance(event, Resumed):
        elapsed = max(0.0, (event.at - state.working_since).total_seconds())
        spent = replace(spent, seconds=round(spent.seconds + elapsed, 3))
    return replace(state, at=event.at, working_since=event.at, spent=spent)


def with_files(state: Continuation, event: Event) -> Continuation:
    """The state with the files that the event found, or else with those that its children have left in its folder."""
    found: Workspace | None = getattr(event, "workspace", None)
    known = state.files
    if known is None:
        if found is None:
            return state
        raise NotApplicable("The loop works on no files.", hint="A loop gets its folder when it is started.")
    now = known if found is None else found.follows(known)
    return state if now is state.workspace else replace(state, workspace=now)


def find(state: Continuation, call_id: CallId) -> Call:
    """The call of that id in the present round."""
    call = state.call(call_id)
    if call is None:
        raise NotApplicable(
            f"The loop has no call or gate {call_id!r} now.",
            hint="It may have been dealt with; 'caesura pending' lists what waits.",
        )
    return call


def attempt(state: Continuation, call_id: CallId, number: int) -> Call:
    """The call of that id, if that attempt is its last one."""
    call = find(state, call_id)
    if call.attempt != number:
        raise NotApplicable(
            f"Attempt {number} of {call_id} is not the last one.",
            hint="A later attempt's result counts; this one is dropped.",
        )
    return call


def delegated(state: Continuation, event: ChildSuspended | ChildResumed | ChildFinished | ChildFailed) -> Call:
    """The call that a child loop works on."""
    call = find(state, event.call)
    if call.kind != "agent":
        raise NotApplicable(f"{call.id} has no child loop.", hint="Only a call of an agent has one.")
    return call


def asleep(state: Continuation, event: Woke) -> Call:
    """The call whose time has come."""
    call = find(state, event.call)
    if call.not_before is None or event.at < call.not_before:
        raise NotApplicable(f"{call.id} does not wake now.", hint="Load the loop again: it has moved on.")
    return call


_TOO_LATE = {
    "Answered": "nothing is asked there any more",
    "Cancelled": "it cannot be cancelled any more",
    "Compacted": "its messages are not sent any more, so they cannot be shortened",
    "Decided": "nothing is to be decided there any more",
    "FilesChanged": "no more files can be kept in it",
    "Resumed": "there is nothing to resume",
    "Suspended": "it cannot be paused any more",
    "Told": "nobody listens there any more",
}
"""What people ask for when a loop has ended, in their words."""


def unfinished(state: Continuation, event: Event) -> None:
    """Check that the loop has not ended."""
    if state.ending is not None:
        raise NotApplicable(
            f"The loop {state.ending.said}: {_TOO_LATE.get(event.name, 'nothing more can happen in it')}.",
            hint="Tell it something more if it completed, or fork it from an earlier commit.",
        )


def between_calls(state: Continuation, event: ModelReplied | ModelFailed) -> None:
    """Check that the model is due, and that nobody has answered or compacted the messages it was shown."""
    unfinished(state, event)
    if event.compactions != state.context.times:
        raise NotApplicable(
            "The messages were compacted while the model was called.", hint="Drop this reply, and load the loop again."
        )
    if state.open_calls or any(not isinstance(told, User) for told in state.messages[event.shown :]):
        raise NotApplicable(
            "Another worker's model call ended first.",
            hint="Drop this one, and load the loop again.",
        )


def with_call(state: Continuation, call: Call) -> Continuation:
    """The state with another version of one of its calls."""
    calls = tuple(call if old.id == call.id else old for old in state.calls)
    return replace(state, calls=calls)


def moved(
    state: Continuation,
    event: Event,
    call: Call,
    target: CallState,
    *,
    new: bool = False,
    **changes: Any,
) -> Continuation:
    """Move a call along one arrow of the table; `new` is the arrow from the moment it is asked for."""
    if not allowed(None if new else call.state, target, event.name):
        raise NotApplicable(
            f"{call.id} is {call.state}, and cannot become {target} from there.",
            hint="Load the loop again: it has moved on.",
        )
    return with_call(state, replace(call, state=target, **changes))


def closed(
    state: Continuation,
    event: Event,
    call: Call,
    target: CallState,
    text: str,
    *,
    new: bool = False,
    **changes: Any,
) -> Continuation:
    """End a call: move it, give it its one result, let go of its child, and hear what was told meanwhile."""
    state = moved(state, event, call, target, new=new, **changes)
    if target is not CallState.REJECTED and _asked(state, call) not in (None, call.arguments):
        changed = [one.by.name for one in (*call.approvals, call.decision) if one is not None and one.edited]
        who = changed[-1] if changed else "A person"
        text = f"[{who} changed the arguments to {call.arguments}]\n{text}"
    result: Message = Result(tool_call_id=call.key, content=text)
    children = dict(state.children)
    child = children.pop(call.id, None)
    absorbed = state.absorbed if child is None else state.absorbed.with_nested(child.state.total)
    rehearsal = state.rehearsal
    if child is not None and rehearsal is not None:
        rehearsal = rehearsal.joined(used_by(child.state.rehearsal))
    messages = extended(state.messages, result)
    state = replace(state, messages=messages, children=children, absorbed=absorbed, rehearsal=rehearsal)
    # While a reply's calls are being admitted, those still to come stand in the state as awaiting.
    return state if state.open_calls else heard(state)


def _asked(state: Continuation, call: Call) -> str | None:
    """The arguments that the model itself asked for, which a person may have replaced."""
    spoken = next((said for said in reversed(state.messages) if isinstance(said, Assistant)), None)
    requests = () if spoken is None else spoken.tool_calls
    return next((one.function.arguments for one in requests if one.id == call.key), None)


def gated(
    state: Continuation,
    kind: GateKind,
    reason: str,
    *,
    name: str = "",
    by: Person | None = None,
    change: Change | None = None,
) -> Continuation:
    """Put a gate before the loop's next effect."""
    number = state.counters.get("gate", 0) + 1
    gate = Gate(id=CallId(f"gate-{number}"), kind=kind, reason=reason, since=state.at, name=name, by=by, change=change)
    return replace(state, gate=gate, counters={**state.counters, "gate": number})


def ended(state: Continuation, event: Event, status: Final, text: str) -> Continuation:
    """End the loop; every open call gets its one result."""
    for call in state.open_calls:
        result = f"Cancelled: {text}."
        if call.state in (CallState.RUNNING, CallState.UNKNOWN):
            result += " It had started: whether it took effect is not known."
        state = closed(state, event, call, CallState.CANCELLED, result)
    return replace(state, gate=None, ending=Ending(status=status, text=text))


def with_note(by: Person, note: str) -> str:
    """Who it was and what they said, as the model reads it."""
    return f"{by.name}: {note.rstrip('.')}." if note else f"{by.name}."


def rejection(by: Person, note: str) -> str:
    """The result of a rejected call, as the model reads it."""
    return f"Rejected by {with_note(by, note)} The call did not run."


def heard(state: Continuation) -> Continuation:
    """Let what was told meanwhile join the messages."""
    return replace(state, messages=extended(state.messages, *state.told), told=())
