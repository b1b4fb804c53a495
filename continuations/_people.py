"""What people and other systems do to a loop: decide, or fail to in time, answer, tell."""

import datetime as dt

from msgspec.structs import replace

from ._calls import Call, CallState, Choice, Decision, Gate, Needs, Person, Rule, Scope
from ._changes import Change
from ._errors import ConflictError
from ._events import Answered, Decided, Expired, Told, Voided
from ._ids import Digest, digest
from ._messages import extended
from ._moves import (
    GRANTED,
    AlreadyDecided,
    NotApplicable,
    closed,
    ended,
    find,
    heard,
    moved,
    rejection,
    unfinished,
    with_note,
)
from ._specs import Budget
from ._state import Continuation
from ._text import span


class StaleDecision(ConflictError):
    """What was decided on is not what the loop now asks for: the arguments or the tool changed, or it has run."""


class NotEntitled(NotApplicable):
    """By the policy that governs the call, this person's decision does not count."""


class RequestExpired(NotApplicable):
    """The decision comes too late: by then the request had expired."""


def decided(state: Continuation, event: Decided) -> Continuation:
    """A decision on a call or a gate."""
    if state.gate is not None and state.gate.id == event.call:
        return _gate_decided(state, event, state.gate)
    call = find(state, event.call)
    decidable = call.state in (CallState.AWAITING, CallState.UNKNOWN) or (
        call.state is CallState.WAITING and call.question is not None
    )
    if not decidable:
        if call.decision is None:
            raise NotApplicable(
                f"{call.id} is {call.state}: there is nothing to decide about it.",
                hint="'caesura pending' lists what waits for a decision.",
            )
        raise AlreadyDecided(call.id, call.decision)
    tool = state.tool(call)
    shown = tool.digest if tool is not None else Digest("")
    if event.attempt != call.attempt:
        raise _started_since(call)
    if event.arguments != call.arguments_digest or event.tool != shown:
        raise StaleDecision(
            f"{call.id} is no longer what was shown: its arguments or its tool changed.",
            hint="Look at it again with 'caesura pending', then decide.",
        )
    _check_needs(call, event)
    standing = tuple(one for one in call.approvals if (one.arguments, one.tool) == (event.arguments, event.tool))
    for one in standing:
        if one.by.identity == event.by.identity:
            raise AlreadyDecided(call.id, one)
    arguments = call.arguments if event.edited is None else event.edited
    if arguments != call.arguments:
        call = replace(call, preview=None)  # it was of what the model asked for
    decision = Decision(
        choice=event.choice,
        by=event.by,
        at=event.at,
        seen=event.seen,
        arguments=replace(call, arguments=arguments).arguments_digest,
        tool=event.tool,
        note=event.note,
        edited=event.edited is not None,
    )
    if event.scope != "call":
        rule = Rule(
            tool=call.tool,
            arguments=decision.arguments if event.scope == "arguments" else None,
            decision=decision,
        )
        state = replace(state, rules=(*state.rules, rule))
    if event.choice == "reject":
        text = _rejection_of(call, event)
        return closed(state, event, call, CallState.REJECTED, text, decision=decision)
    if tool is None:
        raise NotApplicable(
            f"The agent no longer has the tool that {call.id} asks for.",
            hint="Bring the tool back, or reject the call.",
        )
    if call.state is CallState.WAITING:
        raise NotApplicable(
            f"{call.id} asks a question: it wants an answer, not an approval.",
            hint=f"Use 'caesura answer', or 'caesura reject' to turn {call.id} down.",
        )
    # Who approved other arguments has not approved these.
    standing = tuple(one for one in standing if one.arguments == decision.arguments)
    needs = call.needs or Needs()
    if len(standing) + 1 < needs.approvals:
        return moved(state, event, call, call.state, arguments=arguments, approvals=(*standing, decision))
    target = GRANTED[call.kind]
    return moved(
        state,
        event,
        call,
        target,
        arguments=arguments,
        approvals=standing,
        decision=decision,
        remark="",
        expires=needs.until(event.at) if target is not CallState.WAITING else None,
    )


def _check_needs(call: Call, event: Decided) -> None:
    """Check that a policy's terms let this person decide, now, in this way."""
    if call.expires is not None and event.at >= call.expires:
        then = "is rejected" if call.needs is not None and call.needs.on_expiry == "reject" else "is asked anew"
        raise RequestExpired(
            f"{call.id} expired at {call.expires.isoformat(timespec='seconds')}.",
            hint=f"It {then} once a worker takes the loop up; nothing was decided now.",
        )
    if call.needs is None:
        return
    if event.scope != "call":
        raise NotApplicable(
            f"A policy governs {call.tool}: each call is decided by itself.", hint="Decide without --always."
        )
    if not call.needs.may_decide(event.by, event.choice):
        if call.needs.asked_by(event.by):
            why = "they ran the worker that asks, and nobody approves their own request"
        else:
            why = "its policy names " + ", ".join(call.needs.by)
        raise NotEntitled(
            f"{event.by} cannot {event.choice} {call.id}: {why}.",
            hint="Somebody else must decide; nothing was decided now.",
        )


def is_same(
    first: Decision, rules: tuple[Rule, ...], choice: Choice, who: Person, edited: str | None, scope: Scope
) -> bool:
    """Whether a decision that was made is this very one."""
    if (first.choice, first.by.identity, first.edited) != (choice, who.identity, edited is not None):
        return False
    if edited is not None and digest(edited.encode()) != first.arguments:
        return False
    return scope == "call" or any(
        rule.decision == first and (rule.arguments is None or scope == "arguments") for rule in rules
    )


def expired(state: Continuation, event: Expired) -> Continuation:
    """The time for deciding about a call, or for starting it, is over."""
    unfinished(state, event)
    call = find(state, event.call)
    needs = call.needs
    if needs is None or needs.expires is None or call.expires is None or event.at < call.expires or _begun(state, call):
        raise NotApplicable(f"{call.id} does not expire now.", hint="Load the loop again: it has moved on.")
    within = span(needs.expires)
    late = f"nobody decided within {within}"
    if call.state is not CallState.AWAITING:
        late = f"it was not started within {within} of its approval"
    if needs.on_expiry == "reject":
        text = f"Rejected: {late}. The call did not run."
        return closed(state, event, call, CallState.REJECTED, text, approvals=(), decision=None, expires=None)
    return moved(
        state,
        event,
        call,
        CallState.AWAITING,
        since=event.at,
        approvals=(),
        decision=None,
        expires=needs.until(event.at),
        remark=f"asked anew: {late}",
    )


def voided(state: Continuation, event: Voided) -> Continuation:
    """Approvals that are none by the worker's policy are taken back; nothing was run on them."""
    unfinished(state, event)
    call = find(state, event.call)
    if _begun(state, call):
        raise NotApplicable(f"{call.id} has begun.", hint="What has begun is stopped by a gate.")
    standing = tuple(one for one in call.granted if one.by.email not in event.people)
    if len(standing) >= event.needs.approvals:
        raise NotApplicable(f"{call.id} has all the approvals it needs.", hint="Nothing was taken back.")
    return moved(
        state,
        event,
        call,
        CallState.AWAITING,
        needs=event.needs,
        approvals=standing,
        decision=None,
        expires=_lapses(call, event),
        remark=event.reason,
    )


def _lapses(call: Call, event: Voided) -> dt.datetime | None:
    """When a request lapses whose approvals are void: as if they had not been given, or whoever gives void ones could
    keep it open for ever. One that had no time until now has it from now on."""
    timed = call.needs is not None and call.needs.expires is not None and not call.attempt
    return event.needs.until(call.since if timed else event.at)


def _begun(state: Continuation, call: Call) -> bool:
    return call.state is CallState.RUNNING or call.id in state.children


def _rejection_of(call: Call, event: Decided) -> str:
    if call.state is CallState.UNKNOWN:
        return f"Given up by {with_note(event.by, event.note)} Whether the call took effect is not known."
    if call.state is CallState.WAITING:
        return f"The question was turned down by {with_note(event.by, event.note)}"
    return rejection(event.by, event.note)


def _gate_decided(state: Continuation, event: Decided, gate: Gate) -> Continuation:
    if gate.change is not None:
        return _change_decided(state, event, gate, gate.change)
    if event.choice == "reject":
        reason = f"{gate.reason}; given up by {with_note(event.by, event.note)}"
        return ended(state, event, "failed", reason)
    state = replace(state, gate=None, cleared=gate.kind == "condition")
    if gate.kind == "budget":
        state = replace(state, limit=_extended(state))
    return heard(state) if not state.open_calls else state


def _change_decided(state: Continuation, event: Decided, gate: Gate, change: Change) -> Continuation:
    """A changed agent is accepted, and its worker adopts it; or it is refused, and the loop waits for other code."""
    if gate.decision is not None:
        raise AlreadyDecided(gate.id, gate.decision)
    if event.fingerprint != change.fingerprint:
        raise StaleDecision(
            f"{gate.id} is no longer what was shown: the agent's code changed again.",
            hint="Look at it again with 'caesura pending', then decide.",
        )
    if event.choice == "reject":
        decision = Decision(
            choice=event.choice,
            by=event.by,
            at=event.at,
            seen=event.seen,
            arguments=event.arguments,
            tool=event.tool,
            note=event.note,
        )
        return replace(state, gate=replace(gate, decision=decision))
    state = replace(state, gate=None, accepted=replace(change, lines=()))
    return heard(state) if not state.open_calls else state


def _extended(state: Continuation) -> Budget:
    """A limit that allows as much again, counted from what is spent now. A deadline that has passed is lifted."""
    first, total = state.budget, state.total
    return Budget(
        steps=None if first.steps is None else total.steps + first.steps,
        tokens=None if first.tokens is None else total.usage.total + first.tokens,
        seconds=None if first.seconds is None else total.seconds + first.seconds,
        deadline=None,
    )


def answered(state: Continuation, event: Answered) -> Continuation:
    """An answer to a question, or to what became of an unknown call."""
    call = find(state, event.call)
    if call.state is not CallState.UNKNOWN and call.question is None:
        raise NotApplicable(f"{call.id} asks no question.", hint="'caesura pending' says what it waits for.")
    if call.open and event.attempt != call.attempt:
        raise _started_since(call)
    return closed(state, event, call, CallState.RETURNED, event.value)


def _started_since(call: Call) -> StaleDecision:
    return StaleDecision(
        f"{call.id} is no longer what was shown: it has been started since.",
        hint="Look at it again with 'caesura pending', then decide.",
    )


def told(state: Continuation, event: Told) -> Continuation:
    """Something said to the loop: heard now, or once the calls and the model call under way are over."""
    if state.ending is not None:
        if state.ending.status != "completed":
            raise NotApplicable(
                f"The loop {state.ending.said}: nobody listens there any more.",
                hint="Fork it from an earlier commit, and tell the fork.",
            )
        if event.nested:
            raise NotApplicable(
                "The loop has completed, and the one it is nested in has its result: nobody would go on with it.",
                hint="Tell the root loop, or fork this one and tell the fork.",
            )
        return replace(state, ending=None, messages=extended(state.messages, event.message))
    state = replace(state, told=(*state.told, event.message))
    if state.gate is None or state.open_calls:
        return state
    if state.gate.kind in ("reply", "model"):
        state = replace(state, gate=None)
    return heard(state)
