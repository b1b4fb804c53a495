"""The steps of a loop that rehearses: its calls are answered from a record, or a person is asked before each."""

from msgspec.structs import replace

from ._calls import Call, CallState, Decision
from ._events_of_forks import Missed, Recalled, Rehearsed
from ._moves import NotApplicable, closed, find, moved, with_call
from ._rehearsal import Rehearsal, question_of
from ._state import Continuation


def rehearsed(state: Continuation, event: Rehearsed) -> Continuation:
    """Let the tools act no more of themselves, or again.

    Approvals that were given before, standing ones too, were given for another loop. What has not begun, or may have
    run there, is looked up; without a record it is asked about.
    """
    before, after = state.rehearsal, event.rehearsal
    state = replace(state, rehearsal=after)
    if after is not None:
        state = replace(state, rules=tuple(rule for rule in state.rules if rule.decision.choice == "reject"))
    for call in state.open_calls:
        if call.kind == "agent":
            continue
        if after is None:
            state = _live(state, event, call) if before is not None else state
        elif after.record is not None:
            state = _looked_up(state, event, call)
        elif call.state is CallState.APPROVED:
            state = _asked(state, event, call)
        elif call.state is CallState.RUNNING:  # it may be run again there, but not because of what was said elsewhere
            state = with_call(state, replace(call, decision=None, approvals=(), expires=None))
    return state


def _live(state: Continuation, event: Rehearsed, call: Call) -> Continuation:
    """What was only to be looked up is asked about: nobody said so far that it may run."""
    looked_up = call.state is CallState.APPROVED and not call.granted
    return _asked(state, event, call) if looked_up else state


def _asked(state: Continuation, event: Rehearsed | Missed, call: Call, remark: str = "") -> Continuation:
    """Let a call wait for a person, or for what it waits for by itself."""
    remark = call.remark or remark
    if call.question is not None or call.kind == "sleep":
        return moved(state, event, call, CallState.WAITING, remark=remark)
    expires = None if call.needs is None else call.needs.until(event.at)
    call = replace(call, since=event.at, approvals=(), decision=None, expires=expires, remark=remark)
    return moved(state, event, call, CallState.AWAITING)


def _looked_up(state: Continuation, event: Rehearsed, call: Call) -> Continuation:
    sleeps = call.state is CallState.WAITING and call.question is None and call.kind != "sleep"
    if sleeps:  # a tool that has run, and wakes by itself
        return state
    remark = call.remark
    if call.state in (CallState.RUNNING, CallState.UNKNOWN):
        remark = "it had started before the fork: whether it took effect there is not known"
    if call.state is CallState.APPROVED:
        return with_call(state, replace(call, approvals=(), decision=None, expires=None))
    return moved(state, event, call, CallState.APPROVED, approvals=(), decision=None, expires=None, remark=remark)


def recalled(state: Continuation, event: Recalled) -> Continuation:
    """End a call as the record says that it ended."""
    rehearsal, call = _consulted(state, event)
    question = question_of(state.agent, call.tool, call.arguments)
    state = replace(state, rehearsal=rehearsal.having(question))
    return closed(state, event, call, CallState(event.ended), event.content)


def missed(state: Continuation, event: Missed) -> Continuation:
    """Ask a person about a call that the record has no answer to, or let it fail."""
    rehearsal, call = _consulted(state, event)
    record, remark = rehearsal.record, "the record has no answer to this call"
    if record is not None and record.on_miss == "fail":
        text = "Error: the record has no answer to this call. The call did not run."
        return closed(state, event, call, CallState.FAILED, text, remark=remark)
    if call.question is None and call.attempt:
        return moved(state, event, call, CallState.UNKNOWN, remark=call.remark or remark)
    standing = standing_on(state, call)
    if call.kind == "function" and standing is not None and standing.choice == "approve":
        decision = replace(standing, arguments=call.arguments_digest, standing=True)
        return moved(state, event, call, CallState.APPROVED, decision=decision)
    return _asked(state, event, call, "" if record is None else remark)


def _consulted(state: Continuation, event: Recalled | Missed) -> tuple[Rehearsal, Call]:
    """The rehearsal, and the call that is looked up in it."""
    call = find(state, event.call)
    if state.rehearsal is None or call.state is not CallState.APPROVED or call.granted:
        raise NotApplicable(f"{call.id} is not to be looked up.", hint="Load the loop again: it has moved on.")
    return state.rehearsal, call


def standing_on(state: Continuation, call: Call) -> Decision | None:
    """The newest standing decision that covers a call, if its tool is still the one that was shown.

    None covers a call that a policy governs: each of those is decided by itself.
    """
    tool = state.tool(call)
    for rule in reversed(state.rules if call.needs is None else ()):
        if (
            rule.tool == call.tool
            and rule.arguments in (None, call.arguments_digest)
            and tool is not None
            and rule.decision.tool == tool.digest
        ):
            return rule.decision
    return None


def recorded(state: Continuation, call: Call) -> bool:
    """Whether a new call is looked up in a record before anything else is done about it."""
    return state.rehearsal is not None and state.rehearsal.record is not None and call.kind != "agent"
