"""Several approvals, expiry and voiding: what a policy's needs do to a call, in the pure core."""

import datetime as dt
from typing import Any

import pytest
from hypothesis import given, settings
from msgspec.structs import replace

from caesura.continuations import (
    AlreadyDecided,
    Assistant,
    Call,
    CallId,
    CallState,
    Child,
    CommitId,
    Continuation,
    Decided,
    Expire,
    Expired,
    Function,
    ModelReplied,
    Needs,
    NotApplicable,
    NotEntitled,
    Person,
    Proposal,
    Reply,
    RequestExpired,
    Result,
    Resumed,
    Started,
    ToolFailed,
    ToolRequest,
    ToolStarted,
    User,
    Voided,
    describe,
    loop_name,
    outstanding,
    start,
    step,
)
from tests.strategies import ADA, AGENT, EDITH, EPOCH, GRACE, WORKERS, Step, sequences

TWO = Needs(approvals=2)
SEEN = CommitId("c" * 40)


def later(seconds: float) -> dt.datetime:
    return EPOCH + dt.timedelta(seconds=seconds)


def asked(needs: Needs | None, *, tool: str = "order", agent: Any = AGENT) -> Continuation:
    """A loop whose model has asked for one call."""
    event = Started(at=EPOCH, definition=agent, prompt=User(content="Go."), nonce="root", worker=WORKERS[0])
    return replied(start(event), needs, tool=tool)


def replied(state: Continuation, needs: Needs | None, *, tool: str = "order") -> Continuation:
    request = ToolRequest(id="c", function=Function(name=tool, arguments="{}"))
    return step(
        state,
        ModelReplied(
            at=state.at,
            reply=Reply(message=Assistant(tool_calls=(request,))),
            shown=len(state.messages),
            proposals=(Proposal(nonce="n", needs_approval=needs is None, needs=needs),),
        ),
    )


def the_call(state: Continuation) -> Call:
    (call,) = state.calls
    return call


def decide(state: Continuation, by: Person = ADA, **fields: Any) -> Continuation:
    call = the_call(state)
    tool = state.tool(call)
    assert tool is not None
    kept: dict[str, Any] = {"at": state.at, "choice": "approve", "seen": SEEN, "arguments": call.arguments_digest}
    kept["attempt"] = call.attempt
    return step(state, Decided(call=call.id, by=by, tool=tool.digest, **(kept | fields)))


def run(state: Continuation, at: dt.datetime | None = None) -> Continuation:
    return step(state, ToolStarted(at=at or state.at, call=the_call(state).id, worker=WORKERS[0]))


def expire(state: Continuation, at: dt.datetime) -> Continuation:
    return step(state, Expired(at=at, call=the_call(state).id))


def void(state: Continuation, *people: Person, needs: Needs = TWO) -> Continuation:
    event = Voided(
        at=state.at,
        call=the_call(state).id,
        people=tuple(who.email for who in people),
        needs=needs,
        reason="it is not signed",
    )
    return step(state, event)


def given_by(state: Continuation) -> list[Person]:
    return [one.by for one in the_call(state).granted]


# Several approvals -------------------------------------------------------------------------------------------------


def test_a_call_that_needs_two_waits_for_the_second_person() -> None:
    state = decide(asked(TWO))
    assert the_call(state).state is CallState.AWAITING
    with pytest.raises(NotApplicable):
        run(state)
    state = decide(state, GRACE)
    assert given_by(state) == [ADA, GRACE]
    assert the_call(run(state)).state is CallState.RUNNING


@pytest.mark.parametrize("again", [{}, {"choice": "reject"}, {"edited": '{"item": "tea"}'}])
@pytest.mark.parametrize("name", ["Ada Lovelace", "Somebody Else"])
def test_the_same_person_twice_is_one_whatever_they_call_themselves_and_decide(
    again: dict[str, Any], name: str
) -> None:
    state = decide(asked(TWO))
    with pytest.raises(AlreadyDecided, match="already approved by Ada Lovelace") as refused:
        decide(state, Person(name=name, email=ADA.email.upper()), **again)
    assert refused.value.decision == the_call(state).approvals[0]


def test_one_rejection_rejects_though_another_person_has_approved() -> None:
    state = decide(decide(asked(TWO)), GRACE, choice="reject", note="no")
    assert the_call(state).state is CallState.REJECTED
    result = state.messages[-1]
    assert isinstance(result, Result)
    assert result.content == "Rejected by Grace Hopper: no. The call did not run."


def test_edited_arguments_void_the_approvals_of_the_others() -> None:
    state = decide(decide(asked(TWO)), GRACE, edited='{"item": "tea"}')
    assert given_by(state) == [GRACE]
    state = run(decide(state, ADA))
    assert the_call(state).arguments == '{"item": "tea"}'


def test_approvals_of_a_tool_that_changed_since_do_not_count() -> None:
    state = decide(asked(TWO))
    tools = tuple(replace(tool, description="It changed.") for tool in AGENT.tools)
    state = replace(state, definition=replace(AGENT, tools=tools))
    state = decide(state, GRACE)
    assert (the_call(state).state, given_by(state)) == (CallState.AWAITING, [GRACE])
    assert the_call(decide(state)).state is CallState.APPROVED


def test_running_a_call_of_unknown_outcome_again_takes_as_many_people_anew() -> None:
    state = run(decide(decide(asked(TWO)), GRACE))
    state = step(state, Resumed(at=state.at, worker=WORKERS[0]))
    assert the_call(state).state is CallState.UNKNOWN
    state = decide(state)
    assert (the_call(state).state, given_by(state)) == (CallState.UNKNOWN, [ADA])
    assert the_call(run(decide(state, EDITH))).state is CallState.RUNNING


def test_a_standing_decision_does_not_replace_what_a_policy_asks_for() -> None:
    state = decide(asked(None), scope="tool")
    state = step(run(state), ToolFailed(at=state.at, call=CallId("order-1"), attempt=1, error="no"))
    assert the_call(replied(state, None)).state is CallState.APPROVED
    assert the_call(replied(state, Needs())).state is CallState.AWAITING


def test_a_governed_call_cannot_be_decided_for_good() -> None:
    with pytest.raises(NotApplicable, match="each call is decided by itself"):
        decide(asked(Needs()), scope="tool")


def test_only_those_whom_the_policy_names_count() -> None:
    state = asked(Needs(by=(ADA.email,)))
    for choice in ("approve", "reject"):
        with pytest.raises(NotEntitled, match=r"its policy names ada@example\.com"):
            decide(state, GRACE, choice=choice)
    assert the_call(decide(state)).state is CallState.APPROVED


def test_nobody_approves_the_request_of_a_worker_they_run_but_may_turn_it_down() -> None:
    state = asked(Needs(requesters=(ADA.email.upper(),)))
    with pytest.raises(NotEntitled, match="nobody approves their own request"):
        decide(state)
    assert the_call(decide(state, choice="reject")).state is CallState.REJECTED
    assert the_call(decide(state, GRACE)).state is CallState.APPROVED


@settings(max_examples=300)
@given(sequences(25))
def test_a_call_never_starts_with_fewer_distinct_approvals_than_its_policy_asks_for(steps: list[Step]) -> None:
    """Counted from the events alone: approvals of what runs, by people who count, since it was last asked about."""
    given: dict[tuple[str, str], dict[str, tuple[str, str]]] = {}
    for one in steps:
        if one.after is None:
            continue
        for call in one.after.calls:
            me, before = (call.id, call.nonce), one.before.call(call.id)
            new = before is None or before.nonce != call.nonce
            asked_anew = not new and before is not None and call.state is not before.state and call.state in _ASKED
            if new or asked_anew or (isinstance(one.event, Expired) and one.event.call == call.id):
                given[me] = {}
        match one.event:
            case Decided(call=call_id, choice="approve") if one.after.call(call_id) is not None:
                decided = one.after.call(call_id)
                assert decided is not None
                bound = (decided.arguments_digest, one.event.tool)
                assert decided.needs is None or decided.needs.may_decide(one.event.by, "approve")
                given[call_id, decided.nonce][one.event.by.email] = bound
            case Voided(call=call_id, people=people):
                void = one.before.call(call_id)
                assert void is not None
                # Who is not named keeps their approval.
                given[call_id, void.nonce] = {
                    who.by.email: (who.arguments, who.tool) for who in void.granted if who.by.email not in people
                }
            case ToolStarted(call=call_id):
                ran = one.before.call(call_id)
                assert ran is not None
                if ran.needs is not None:
                    tool = one.before.tool(ran)
                    assert tool is not None
                    now = (ran.arguments_digest, tool.digest)
                    assert sum(what == now for what in given[call_id, ran.nonce].values()) >= ran.needs.approvals
            case _:
                pass


_ASKED = (CallState.AWAITING, CallState.UNKNOWN)

# Expiry ------------------------------------------------------------------------------------------------------------

HOURS = Needs(approvals=2, expires=7200)
ANEW = replace(HOURS, on_expiry="ask")


def test_a_request_expires_when_its_policy_says_and_not_before() -> None:
    state = asked(HOURS)
    assert outstanding(state) == (Expire(call=CallId("order-1"), at=later(7200)),)
    with pytest.raises(NotApplicable):
        expire(state, later(7199))
    state = expire(state, later(7200))
    assert the_call(state).state is CallState.REJECTED
    result = state.messages[-1]
    assert isinstance(result, Result)
    assert result.content == "Rejected: nobody decided within 2 hours. The call did not run."


def test_a_request_that_is_asked_anew_has_its_whole_time_again_and_no_approvals() -> None:
    state = expire(decide(asked(ANEW)), later(7200))
    call = the_call(state)
    assert (call.state, call.approvals, call.since, call.expires) == (
        CallState.AWAITING,
        (),
        later(7200),
        later(14400),
    )
    assert call.remark == "asked anew: nobody decided within 2 hours"
    assert the_call(decide(decide(state), GRACE)).state is CallState.APPROVED


@pytest.mark.parametrize("needs", [HOURS, ANEW])
@pytest.mark.parametrize("choice", ["approve", "reject"])
def test_a_decision_that_comes_after_its_request_expired_is_refused(needs: Needs, choice: str) -> None:
    state = asked(needs)
    with pytest.raises(RequestExpired, match=r"expired at 2026-01-01T14:00:00\+00:00"):
        decide(state, at=later(7200), choice=choice)
    decide(state, at=later(7199), choice=choice)


@pytest.mark.parametrize(("needs", "state"), [(HOURS, CallState.REJECTED), (ANEW, CallState.AWAITING)])
@pytest.mark.parametrize("tool", ["order", "it"])
def test_an_approval_that_is_not_used_in_time_expires(needs: Needs, state: CallState, tool: str) -> None:
    approved = decide(decide(asked(needs, tool=tool)), GRACE, at=later(3600))
    with pytest.raises(NotApplicable):
        expire(approved, later(7200))  # its time counts from the approval
    over = expire(approved, later(10800))
    assert the_call(over).state is state
    assert the_call(over).granted == ()


def test_what_has_started_expires_no_more() -> None:
    state = run(decide(asked(Needs(expires=60))))
    retry = step(state, ToolFailed(at=state.at, call=CallId("order-1"), attempt=1, error="busy", retry_at=later(7200)))
    assert not any(isinstance(effect, Expire) for effect in outstanding(retry))
    with pytest.raises(NotApplicable):
        expire(retry, later(7200))


def test_an_agent_that_has_begun_expires_no_more_and_is_not_voided() -> None:
    state = decide(asked(Needs(expires=60), tool="it"))
    state = replace(state, children={CallId("it-1"): Child(commit=SEEN, state=asked(None))})
    assert not any(isinstance(effect, Expire) for effect in outstanding(state))
    with pytest.raises(NotApplicable):
        expire(state, later(7200))
    with pytest.raises(NotApplicable):
        void(state, ADA)


# Voiding -----------------------------------------------------------------------------------------------------------


def test_a_voided_approval_is_asked_for_again_and_the_others_stand() -> None:
    state = void(decide(decide(asked(TWO)), GRACE), GRACE)
    call = the_call(state)
    assert (call.state, call.decision, given_by(state)) == (CallState.AWAITING, None, [ADA])
    assert call.remark == "it is not signed"
    with pytest.raises(NotApplicable):
        run(state)
    assert given_by(decide(state, EDITH)) == [ADA, EDITH]


def test_a_call_that_started_without_approval_by_an_older_policy_waits_for_what_the_new_one_asks() -> None:
    state = asked(Needs())
    state = void(decide(state), needs=replace(TWO, expires=60))
    call = the_call(state)
    assert (call.needs, call.expires, given_by(state)) == (replace(TWO, expires=60), later(60), [ADA])
    assert the_call(decide(state, GRACE)).state is CallState.APPROVED


def test_void_approvals_give_a_request_no_more_time() -> None:
    """Else whoever gives void ones, again and again, could keep it open for ever."""
    state = asked(HOURS)
    for hour in (1800, 3600, 5400):
        state = decide(decide(state, at=later(hour)), GRACE, at=later(hour))
        assert the_call(state).expires == later(hour + 7200)
        state = void(replace(state, at=later(hour)), ADA, GRACE, needs=HOURS)
        assert (the_call(state).since, the_call(state).expires) == (EPOCH, later(7200))
    with pytest.raises(RequestExpired):
        decide(state, at=later(7200))
    late = void(replace(decide(decide(state), GRACE), at=later(7800)), ADA, needs=HOURS)
    assert outstanding(late) == (Expire(call=CallId("order-1"), at=later(7200)),)
    anew = expire(void(decide(decide(asked(ANEW)), GRACE), ADA, needs=ANEW), later(7200))
    assert (the_call(anew).since, the_call(anew).expires) == (later(7200), later(14400))


def test_what_runs_or_has_ended_cannot_be_voided() -> None:
    state = run(decide(asked(Needs())))
    with pytest.raises(NotApplicable):
        void(state, ADA)


def test_each_commit_says_how_far_the_approvals_are() -> None:
    loop, state = loop_name("ops"), asked(HOURS)
    subjects: list[str] = []
    for who in (ADA, GRACE):
        call = the_call(state)
        tool = state.tool(call)
        assert tool is not None
        event = Decided(
            at=EPOCH,
            call=call.id,
            choice="approve",
            by=who,
            seen=SEEN,
            arguments=call.arguments_digest,
            tool=tool.digest,
        )
        before, state = state, step(state, event)
        subjects.append(describe(loop, before, event, state).subject)
    lapse = Expired(at=later(9999), call=CallId("order-1"))
    subjects.append(describe(loop, state, lapse, step(state, lapse)).subject)
    taken = Voided(at=EPOCH, call=CallId("order-1"), people=(ADA.email,), needs=TWO, reason="it is not signed")
    shown = describe(loop, state, taken, step(state, taken))
    assert [*subjects, shown.subject] == [
        "ops: approved (1 of 2): order()",
        "ops: approved (2 of 2): order()",
        "ops: expired, rejected: order()",
        "ops: approval void: order()",
    ]
    assert ("Void", ADA.email) in shown.trailers
