"""The step: one event applied to one state. Pure; every change of a loop goes through here."""

import re
from typing import assert_never

from msgspec.structs import replace

from ._adopted import adopted
from ._attempted import tool_failed, tool_started
from ._calls import Call, CallState
from ._child_files import told_of_conflicts, told_of_failure
from ._compaction import compacted, compaction_failed, due, filled
from ._events import (
    AgentChanged,
    Answered,
    AnyEvent,
    Cancelled,
    ChildFailed,
    ChildFinished,
    ChildResumed,
    ChildSuspended,
    Compacted,
    CompactionFailed,
    Decided,
    Expired,
    FilesChanged,
    Imported,
    ModelFailed,
    ModelReplied,
    Proposal,
    Repaired,
    Resumed,
    Started,
    Suspended,
    Told,
    ToolAsked,
    ToolFailed,
    ToolReturned,
    ToolStarted,
    Voided,
    Woke,
)
from ._events_of_forks import Amended, Edited, Missed, Overridden, Recalled, Rehearsed, Reworded, Rewound
from ._ids import CallId
from ._messages import Assistant, ToolRequest, User, extended
from ._moves import (
    GRANTED,
    NotApplicable,
    asleep,
    attempt,
    between_calls,
    clocked,
    closed,
    delegated,
    ended,
    gated,
    heard,
    moved,
    rejection,
    unfinished,
    with_files,
)
from ._people import answered, decided, expired, told, voided
from ._rehearsed import missed, recalled, recorded, rehearsed, standing_on
from ._repaired import repaired
from ._state import FORMAT, Continuation, Spent
from ._varied import amended, edited, overridden, reworded, rewound

MAX_MISFITS = 3
"""Replies in a row that may miss the agent's result type before a person is asked."""


def start(event: Started) -> Continuation:
    """The first state of a loop."""
    return Continuation(
        format=FORMAT,
        agent=event.definition.name,
        fingerprint=event.definition.fingerprint,
        nonce=event.nonce,
        worker=event.worker,
        at=event.at,
        working_since=event.at,
        budget=event.budget,
        limit=event.budget,
        definition=event.definition,
        messages=(event.prompt,),
        rehearsal=event.rehearsal,
        workspace=event.workspace,
        origin=event.origin,
        copy_of=event.workspace.tree if event.copied and event.workspace is not None else None,
    )


def step(state: Continuation, event: AnyEvent) -> Continuation:
    """Apply one event.

    Raises:
        NotApplicable: the event does not fit the state.
        AlreadyDecided: a decision on something decided.
        StaleDecision: a decision on other arguments, or on another tool, than the state's.
        NotEntitled, RequestExpired: a decision by somebody whose word does not count, or too late.
    """
    state = with_files(clocked(state, event), event)
    match event:
        case ModelReplied():
            return _model_replied(state, event)
        case ModelFailed():
            return _model_failed(state, event)
        case Compacted():
            return compacted(state, event)
        case CompactionFailed():
            return compaction_failed(state, event)
        case ToolStarted():
            return tool_started(state, event)
        case ToolReturned():
            call = attempt(state, event.call, event.attempt)
            return closed(state, event, call, CallState.RETURNED, event.content)
        case ToolFailed():
            return tool_failed(state, event)
        case ToolAsked():
            call = attempt(state, event.call, event.attempt)
            return moved(
                state,
                event,
                call,
                CallState.WAITING,
                question=event.question,
                not_before=event.wake_at,
            )
        case ChildSuspended():
            return moved(state, event, delegated(state, event), CallState.WAITING)
        case ChildResumed():
            return moved(state, event, delegated(state, event), CallState.DELEGATED)
        case ChildFinished():
            call = delegated(state, event)
            note = told_of_conflicts(call.id, event.conflicts, event.kept_in)
            return closed(state, event, call, CallState.RETURNED, event.text + note)
        case ChildFailed():
            call = delegated(state, event)
            note = told_of_failure(call.id, event.kept_in, shared=state.shares(call.id))
            return closed(state, event, call, CallState.FAILED, f"Error: {event.error}{note}")
        case Suspended():
            unfinished(state, event)
            asked = state.gate is not None and state.gate.change is not None and event.change is not None
            if state.gate is not None and not asked:
                raise NotApplicable(
                    f"The loop already stands still: {state.gate.reason}.",
                    hint="Lift that gate first; 'caesura pending' names it.",
                )
            state = replace(state, memory={**state.memory, **event.memory})
            return gated(state, event.kind, event.reason, name=event.gate_name, by=event.by, change=event.change)
        case Decided():
            return decided(state, event)
        case Expired():
            return expired(state, event)
        case Voided():
            return voided(state, event)
        case Answered():
            return answered(state, event)
        case Woke():
            call = asleep(state, event)
            text = f"It is now {event.at.isoformat(timespec='seconds')}."
            return closed(state, event, call, CallState.RETURNED, text)
        case Told():
            return told(state, event)
        case FilesChanged():
            unfinished(state, event)
            return state
        case Resumed():
            return _resumed(state, event)
        case AgentChanged():
            return adopted(state, event)
        case Cancelled():
            unfinished(state, event)
            return ended(state, event, "cancelled", event.reason)
        case Repaired():
            return repaired(state, event)
        case Rewound():
            return rewound(state, event)
        case Amended():
            return amended(state, event)
        case Reworded():
            return reworded(state, event)
        case Edited():
            return edited(state, event)
        case Overridden():
            return overridden(state, event)
        case Rehearsed():
            return rehearsed(state, event)
        case Recalled():
            return recalled(state, event)
        case Missed():
            return missed(state, event)
        case Started() | Imported():
            raise NotApplicable("The loop has already started.", hint="Choose another name, or resume this one.")
    assert_never(event)


# The model ---------------------------------------------------------------------------------------------------------


def _model_failed(state: Continuation, event: ModelFailed) -> Continuation:
    between_calls(state, event)
    if event.too_long and state.context.overflow == "":
        pressed = replace(state, context=replace(state.context, overflow="told"))
        if due(pressed):
            return pressed
    return gated(state, "model", event.error) if state.gate is None else state


def _model_replied(state: Continuation, event: ModelReplied) -> Continuation:
    between_calls(state, event)
    reply = event.reply
    state, calls = _propose(state, reply.message.tool_calls, event.proposals)
    requests = tuple(
        replace(request, id=call.key) for request, call in zip(reply.message.tool_calls, calls, strict=True)
    )
    spent = Spent(
        steps=state.spent.steps + 1,
        usage=state.spent.usage + reply.usage,
        seconds=state.spent.seconds,
    )
    state = replace(
        state,
        messages=extended(state.messages, replace(reply.message, tool_calls=requests)),
        calls=calls,
        spent=spent,
        memory={**state.memory, **event.memory},
        cleared=False,
        misfits=state.misfits + 1 if event.misfit else 0,
        context=filled(state, event),
    )
    cut = _CUT.get(reply.stop, "")
    for call, proposal in zip(calls, event.proposals, strict=True):
        state = _admit(state, event, call, proposal, cut)
    if cut:
        return gated(state, "reply", cut) if state.gate is None else state
    return state if calls else _final_reply(state, event, reply.message)


_CUT = {
    "length": "the model's reply was cut off at its token limit",
    "filter": "the model's reply was stopped by a content filter",
    "refusal": "the model refused to answer",
}


def _final_reply(state: Continuation, event: ModelReplied, message: Assistant) -> Continuation:
    if event.misfit:
        correction = f"Your answer does not have the required form: {event.misfit}. Answer again in that form."
        state = replace(state, messages=extended(state.messages, User(content=correction)))
        if state.misfits < MAX_MISFITS or state.gate is not None:
            return state
        reason = f"{state.misfits} replies in a row did not have the required form"
        return replace(gated(state, "reply", reason), misfits=0)
    if not message.content:
        return gated(state, "reply", "the model's reply was empty") if state.gate is None else state
    if state.told or len(state.messages) > event.shown + 1:
        return heard(state)  # something was said that this reply did not take into account
    return ended(state, event, "completed", message.content)


_STRANGE = re.compile(r"[^A-Za-z0-9_-]")


def name_calls(state: Continuation, requests: tuple[ToolRequest, ...]) -> tuple[tuple[CallId, ...], dict[str, int]]:
    """The ids that a reply's calls get in this state, and the counters after that."""
    counters = dict(state.counters)
    ids: list[CallId] = []
    for request in requests:
        slug = _STRANGE.sub("-", request.function.name)[:64] or "call"
        counters[slug] = counters.get(slug, 0) + 1
        ids.append(CallId(f"{slug}-{counters[slug]}"))
    return tuple(ids), counters


def _propose(
    state: Continuation, requests: tuple[ToolRequest, ...], proposals: tuple[Proposal, ...]
) -> tuple[Continuation, tuple[Call, ...]]:
    """Give each requested call an id of its own, and a key that no other in the reply has."""
    if len(requests) != len(proposals):
        raise ValueError(f"{len(requests)} calls, {len(proposals)} proposals")
    ids, counters = name_calls(state, requests)
    keys: set[str] = set()
    calls: list[Call] = []
    for call_id, request, proposal in zip(ids, requests, proposals, strict=True):
        name = request.function.name
        key = request.id if request.id and request.id not in keys else call_id
        while key in keys:  # another call was given this one's id
            key += "-"
        keys.add(key)
        tool = state.definition.tool(name)
        calls.append(
            Call(
                id=call_id,
                key=key,
                tool=name,
                kind=tool.kind if tool else "function",
                arguments=request.function.arguments,
                state=CallState.AWAITING,
                nonce=proposal.nonce,
                since=state.at,
                question=proposal.question,
                not_before=proposal.wake_at,
                remark=proposal.remark,
                needs=proposal.needs,
            )
        )
    return replace(state, counters=counters), tuple(calls)


def _admit(state: Continuation, event: ModelReplied, call: Call, proposal: Proposal, cut: str) -> Continuation:
    """Put a call just asked for into its first state."""
    if cut:
        return closed(state, event, call, CallState.FAILED, f"Error: not run: {cut}.", new=True)
    if proposal.error:
        return closed(state, event, call, CallState.FAILED, f"Error: {proposal.error}", new=True)
    standing = standing_on(state, call)
    decision = None
    if standing is not None:
        decision = replace(standing, arguments=call.arguments_digest, standing=True)
        if decision.choice == "reject":
            text = rejection(decision.by, decision.note)
            return closed(state, event, call, CallState.REJECTED, text, new=True, decision=decision)
    if recorded(state, call):
        return moved(state, event, call, CallState.APPROVED, new=True)
    if call.needs is not None:
        until = call.needs.until(event.at)
        return moved(state, event, call, CallState.AWAITING, new=True, expires=until, preview=proposal.preview)
    asks = proposal.needs_approval or (state.rehearsal is not None and call.kind == "function")
    if asks and decision is None:
        return moved(state, event, call, CallState.AWAITING, new=True, preview=proposal.preview)
    return moved(state, event, call, GRANTED[call.kind], new=True, decision=decision)


# Workers -----------------------------------------------------------------------------------------------------------


def _resumed(state: Continuation, event: Resumed) -> Continuation:
    unfinished(state, event)
    state = replace(state, worker=event.worker)
    for call in state.open_calls:
        if call.state is CallState.RUNNING:
            tool = state.tool(call)
            again = tool is not None and tool.idempotent
            state = moved(
                state,
                event,
                call,
                CallState.APPROVED if again else CallState.UNKNOWN,
                # To run it again is decided anew, by as many.
                approvals=call.approvals if again else (),
                remark=f"attempt {call.attempt} was under way when its worker went away",
            )
    if event.by_hand and state.gate is not None and state.gate.lifts_on_resume:
        state = replace(state, gate=None)
    return state if state.open_calls else heard(state)
