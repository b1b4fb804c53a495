"""What the core promises of every sequence of events: laws over states, calls, messages and decisions."""

from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from caesura.continuations import (
    CLOSED,
    TRANSITIONS,
    AlreadyDecided,
    Assistant,
    CaesuraError,
    Call,
    CallModel,
    CallState,
    Choice,
    CommitId,
    Compacted,
    Continuation,
    Decided,
    Finish,
    NotApplicable,
    Overridden,
    Proposal,
    Reply,
    Result,
    Resumed,
    Reworded,
    Rewound,
    RunTool,
    StaleDecision,
    Started,
    Status,
    Suspended,
    Told,
    ToolFailed,
    ToolStarted,
    Usage,
    User,
    WaitUntil,
    outstanding,
    start,
    step,
)
from caesura.continuations._codec import decode_definition, decode_record, encode_definition, encode_record
from caesura.continuations._requests import requests
from tests.strategies import ADA, AGENT, EPOCH, ROOT, WORKERS, Step, events, finish, last, sequences, started, who_may

SEEN = CommitId("c" * 40)
fewer = settings(max_examples=50)
ARROWS = {(arrow.source, arrow.target, arrow.event) for arrow in TRANSITIONS}


def applied(steps: list[Step]) -> list[tuple[Step, Continuation]]:
    """The steps that were not refused."""
    return [(one, one.after) for one in steps if one.after is not None]


def open_keys(state: Continuation) -> Counter[str]:
    """The keys of the last round's calls that have no result after it."""
    place = max((at for at, said in enumerate(state.messages) if isinstance(said, Assistant)), default=None)
    if place is None:
        return Counter()
    asked = state.messages[place]
    assert isinstance(asked, Assistant)
    wanted = Counter(request.id for request in asked.tool_calls)
    given = Counter(message.tool_call_id for message in state.messages[place:] if isinstance(message, Result))
    assert given <= wanted, "a result that nobody asked for, or a second one"
    return wanted - given


# Calls and messages ------------------------------------------------------------------------------------------------


@fewer
@given(sequences())
def test_calls_move_along_the_table_only(steps: list[Step]) -> None:
    for one, after in applied(steps):
        before = {call.id: call for call in one.before.calls}
        for call in after.calls:
            old = before.get(call.id)
            if old is None or old.state is not call.state:
                assert (old.state if old else None, call.state, one.event.name) in ARROWS


@fewer
@given(sequences())
def test_messages_only_grow_but_for_compactions_and_what_a_fork_is_asked_to_change(steps: list[Step]) -> None:
    for one, after in applied(steps):
        if isinstance(one.event, Compacted):
            continue
        if isinstance(one.event, Rewound):
            assert len(after.messages) < len(one.before.messages) + len(one.before.told)
            assert after.messages[: one.event.kept] == one.before.messages[: one.event.kept]
        elif isinstance(one.event, Reworded | Overridden):
            pairs = zip(after.messages, one.before.messages, strict=True)
            kind = User if isinstance(one.event, Reworded) else Result
            changed = [now for now, was in pairs if now != was]
            assert len(changed) <= 1
            assert all(isinstance(message, kind) for message in changed)
        else:
            assert after.messages[: len(one.before.messages)] == one.before.messages


@fewer
@given(sequences())
def test_calls_without_a_result_are_exactly_the_open_ones(steps: list[Step]) -> None:
    for _, after in applied(steps):
        assert open_keys(after) == Counter(call.key for call in after.open_calls)


@fewer
@given(sequences())
def test_the_calls_of_a_round_have_keys_and_ids_of_their_own(steps: list[Step]) -> None:
    for _, after in applied(steps):
        assert len({call.key for call in after.calls}) == len(after.calls)
        assert len({call.id for call in after.calls}) == len(after.calls)
        assert all(call.key for call in after.calls)


@fewer
@given(sequences())
def test_every_round_is_answered_before_the_next_message(steps: list[Step]) -> None:
    waiting: Counter[str] = Counter()
    for message in last(steps).messages:
        if isinstance(message, Result):
            assert waiting[message.tool_call_id] == 1
            waiting[message.tool_call_id] = 0
        else:
            assert not +waiting
            if isinstance(message, Assistant):
                waiting = Counter(request.id for request in message.tool_calls)


@fewer
@given(sequences(), st.data())
def test_every_loop_can_be_brought_to_its_end_with_one_result_for_each_call(
    steps: list[Step], data: st.DataObject
) -> None:
    state = last(steps)
    if state.ending is not None:
        return
    choices: st.SearchStrategy[Choice] = st.sampled_from(["approve", "reject"])
    end = [one.after for one in finish(state, lambda _: data.draw(choices))][-1]
    assert end is not None
    assert end.ending is not None
    asked = sum(len(message.tool_calls) for message in end.messages if isinstance(message, Assistant))
    assert asked == sum(isinstance(message, Result) for message in end.messages)
    assert not end.open_calls


# Side effects ------------------------------------------------------------------------------------------------------


@fewer
@given(sequences(25))
def test_a_guarded_call_starts_only_after_an_approval_and_once_for_each_leave_to_run(steps: list[Step]) -> None:
    leave: Counter[tuple[str, str]] = Counter()
    guarded: set[tuple[str, str]] = set()
    for one, after in applied(steps):
        for call in after.calls:
            me = (call.id, call.nonce)
            old = one.before.call(call.id)
            new = old is None or old.nonce != call.nonce
            if new and call.state is CallState.AWAITING:
                guarded.add(me)
            if new and call.state is CallState.APPROVED and call.decision is not None:
                guarded.add(me)
                leave[me] += 1  # a standing rule
            if old is None or old.state is call.state:
                continue
            if call.state is CallState.AWAITING:
                guarded.add(me)
                leave[me] = 0
            if call.state is CallState.APPROVED:
                # A person's word; or, of the same start: a retry, or a second run of what is idempotent.
                leave[me] += 1
            if call.state is CallState.RUNNING and me in guarded:
                assert leave[me] > 0, "it ran without leave"
                leave[me] -= 1
                assert call.decision is not None
                assert call.decision.choice == "approve"


@fewer
@given(sequences(25))
def test_what_was_rejected_or_has_its_result_never_starts(steps: list[Step]) -> None:
    over: set[tuple[str, str]] = set()
    for one, after in applied(steps):
        if isinstance(one.event, ToolStarted):
            call = after.call(one.event.call)
            assert call is not None
            assert (call.id, call.nonce) not in over
        over |= {(call.id, call.nonce) for call in after.calls if call.state in CLOSED}


@fewer
@given(sequences(25))
def test_nothing_starts_behind_a_gate_nor_for_a_worker_that_was_replaced(steps: list[Step]) -> None:
    for one, after in applied(steps):
        if isinstance(one.event, ToolStarted):
            assert one.before.gate is None
            assert one.event.worker == one.before.worker == after.worker


@fewer
@given(sequences(25))
def test_only_an_idempotent_call_runs_again_without_a_person(steps: list[Step]) -> None:
    for one, after in applied(steps):
        if not isinstance(one.event, Resumed):
            continue
        for call in one.before.open_calls:
            if call.state is CallState.RUNNING:
                tool, now = one.before.tool(call), after.call(call.id)
                assert now is not None
                idempotent = tool is not None and tool.idempotent
                assert now.state is (CallState.APPROVED if idempotent else CallState.UNKNOWN)


# Decisions ---------------------------------------------------------------------------------------------------------


def loop_with(*tools: str, arguments: str = "{}") -> Continuation:
    """A loop whose model has just asked for these tools; those that may need approval do."""
    state = start(Started(at=EPOCH, definition=AGENT, prompt=User(content="Go."), nonce="n", worker=WORKERS[0]))
    return asked_for(state, *tools, arguments=arguments)


def asked_for(state: Continuation, *tools: str, arguments: str = "{}") -> Continuation:
    """The model asks for more."""
    from caesura.continuations import Function, ModelReplied, ToolRequest

    calls = tuple(
        ToolRequest(id=f"c{place}", function=Function(name=tool, arguments=arguments))
        for place, tool in enumerate(tools)
    )
    approval = {tool.name for tool in AGENT.tools if tool.approval != "never"}
    proposals = tuple(Proposal(nonce=f"n{place}", needs_approval=tool in approval) for place, tool in enumerate(tools))
    reply = Reply(message=Assistant(tool_calls=calls))
    return step(state, ModelReplied(at=state.at, reply=reply, shown=len(state.messages), proposals=proposals))


def decision(state: Continuation, call: Call, choice: Choice = "approve") -> Decided:
    """A decision on a call as it stands."""
    tool = state.tool(call)
    assert tool is not None
    return Decided(
        at=state.at,
        call=call.id,
        choice=choice,
        by=ADA,
        seen=SEEN,
        arguments=call.arguments_digest,
        tool=tool.digest,
        attempt=call.attempt,
    )


@fewer
@given(sequences(), st.sampled_from(["arguments", "tool"]), st.sampled_from(["approve", "reject"]))
def test_a_decision_on_other_arguments_or_another_tool_is_refused(steps: list[Step], part: str, choice: Choice) -> None:
    state = last(steps)
    for call in state.open_calls:
        if call.state is CallState.AWAITING and state.tool(call) is not None:
            with pytest.raises(StaleDecision):
                step(state, replace(decision(state, call, choice), **{part: "0" * 16}))


@fewer
@given(sequences())
def test_a_second_decision_is_refused_and_names_the_first(steps: list[Step]) -> None:
    for one, after in applied(steps):
        if not isinstance(one.event, Decided) or after.call(one.event.call) is None:
            continue
        call = after.call(one.event.call)
        assert call is not None
        if call.state in (CallState.APPROVED, CallState.REJECTED):
            with pytest.raises(AlreadyDecided) as refused:
                step(after, replace(one.event, by=ADA, choice="reject"))
            assert refused.value.decision == call.decision
            assert one.event.by.name in str(refused.value)


@pytest.mark.parametrize("choice", ["approve", "reject"])
@pytest.mark.parametrize("scope", ["tool", "arguments"])
def test_a_standing_decision_covers_later_calls_only(choice: Choice, scope: str) -> None:
    state = loop_with("order", "order")
    first, second = state.calls
    state = step(state, replace(decision(state, first, choice), scope=scope))
    assert state.call(second.id) == second, "a call that stood already was decided"
    state = step(state, decision(state, second, "reject"))
    for call in state.open_calls:
        state = step(state, ToolStarted(at=EPOCH, call=call.id, worker=WORKERS[0]))
        state = step(state, ToolFailed(at=EPOCH, call=call.id, attempt=1, error="no"))
    later = asked_for(state, "order").calls[0]
    assert later.state is (CallState.APPROVED if choice == "approve" else CallState.REJECTED)
    assert later.decision is not None
    assert later.decision.by == ADA
    other = asked_for(state, "order", arguments='{"item": "yacht"}').calls[0]
    assert (other.state is CallState.AWAITING) == (scope == "arguments")
    assert asked_for(state, "lösch alles").calls[0].state is CallState.AWAITING, "it reached another tool"
    changed = replace(AGENT, tools=tuple(replace(tool, description="It changed.") for tool in AGENT.tools))
    assert asked_for(replace(state, definition=changed), "order").calls[0].state is CallState.AWAITING


def test_a_claim_of_a_call_whose_tool_changed_since_its_approval_is_refused() -> None:
    state = loop_with("order")
    state = step(state, decision(state, state.calls[0]))
    changed = replace(AGENT, tools=tuple(replace(tool, description="It changed.") for tool in AGENT.tools))
    with pytest.raises(NotApplicable, match="not what was approved"):
        step(replace(state, definition=changed), ToolStarted(at=EPOCH, call=state.calls[0].id, worker=WORKERS[0]))


# States ------------------------------------------------------------------------------------------------------------


@fewer
@given(sequences())
def test_a_loop_with_nothing_to_do_waits_for_something_that_is_listed(steps: list[Step]) -> None:
    for _, state in applied(steps):
        if state.ending is not None:
            assert state.status in (Status.COMPLETED, Status.FAILED, Status.CANCELLED)
            assert outstanding(state) == (Finish(ending=state.ending),)
            assert not list(requests(ROOT, SEEN, state, ()))
            continue
        running = any(call.state is CallState.RUNNING for call in state.calls)
        effects = [one for one in outstanding(state) if not isinstance(one, WaitUntil)]
        listed = list(requests(ROOT, SEEN, state, ()))
        children = any(call.kind == "agent" and call.state is CallState.WAITING for call in state.open_calls)
        assert running or effects or listed or children, "no way out"
        if state.status is Status.SUSPENDED:
            assert not running
            assert not any(isinstance(one, CallModel | RunTool) for one in effects)
            assert listed or children


@fewer
@given(sequences())
def test_what_waits_for_a_person_is_what_a_decision_or_an_answer_moves(steps: list[Step]) -> None:
    state = last(steps)
    for request in requests(ROOT, SEEN, state, ()):
        if request.kind == "sleep" or (state.gate is not None and state.gate.decision is not None):
            continue  # a changed agent that was rejected waits for other code
        call_id = request.id.removeprefix(f"{ROOT}.")
        call = next((one for one in state.calls if one.id == call_id), None)
        if call is not None and call.expires is not None and state.at >= call.expires:
            continue  # it waits for a worker to say so
        event = Decided(
            at=state.at,
            call=call_id,  # type: ignore[arg-type]  # a part of an address
            choice="reject",
            by=ADA if call is None else who_may(call),
            seen=SEEN,
            arguments=request.arguments_digest,
            tool=request.tool_digest,
            fingerprint=request.fingerprint,
            attempt=request.attempts,
        )
        after = step(state, event)
        assert request not in requests(ROOT, SEEN, after, ())


@fewer
@given(sequences(), st.data())
def test_an_ended_loop_takes_nothing_but_something_told_once_completed(steps: list[Step], data: st.DataObject) -> None:
    state = last(steps)
    if state.ending is None:
        state = [one.after for one in finish(state)][-1] or state
    event = data.draw(events(state))
    if isinstance(event, Told) and state.status is Status.COMPLETED:
        assert step(state, event).status is Status.ACTIVE
        return
    with pytest.raises(NotApplicable):
        step(state, event)


@fewer
@given(sequences())
def test_a_refused_event_leaves_no_trace(steps: list[Step]) -> None:
    for one, later in pairwise(steps):
        if one.after is None:
            assert later.before == one.before


@fewer
@given(started, st.data())
def test_the_step_is_pure(event: Started, data: st.DataObject) -> None:
    state = start(event)
    frozen = encode_record(state)
    happened = data.draw(events(state))
    try:
        first = step(state, happened)
    except CaesuraError:
        return
    assert first == step(state, happened)
    assert encode_record(state) == frozen


@fewer
@given(sequences())
def test_time_and_money_spent_never_shrink(steps: list[Step]) -> None:
    for one, after in applied(steps):
        assert after.spent.seconds >= one.before.spent.seconds >= 0
        assert after.total.steps >= one.before.total.steps
        assert after.total.usage.total >= one.before.total.usage.total


@fewer
@given(sequences())
def test_what_is_outstanding_survives_being_written_down(steps: list[Step]) -> None:
    for _, state in applied(steps):
        record = decode_record(encode_record(state))
        read = Continuation(
            **{name: getattr(record, name) for name in record.__struct_fields__},
            definition=decode_definition(encode_definition(state.definition)),
            messages=state.messages,
        )
        assert read == state
        assert outstanding(read) == outstanding(state)


def test_time_behind_a_gate_is_not_spent() -> None:
    state = start(Started(at=EPOCH, definition=AGENT, prompt=User(content="Go."), nonce="n", worker=WORKERS[0]))
    minute = 60 * (EPOCH - EPOCH.replace(second=59, minute=59, hour=11)) / 1
    paused = step(state, Suspended(at=EPOCH + minute, kind="pause", reason="lunch"))
    lifted = step(paused, Resumed(at=EPOCH + 50 * minute, worker=WORKERS[1], by_hand=True))
    assert paused.spent.seconds == lifted.spent.seconds == minute.total_seconds()
    assert lifted.spent.usage == Usage()
