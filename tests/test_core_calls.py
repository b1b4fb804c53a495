"""Single promises about calls that chance would seldom meet: keys, guards of the table, tools that went away."""

import datetime as dt

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from caesura.continuations import (
    AgentChanged,
    Answered,
    Assistant,
    Call,
    CallState,
    ChildFinished,
    ChildSuspended,
    CommitId,
    Continuation,
    Decided,
    Digest,
    Function,
    ModelReplied,
    NotApplicable,
    Proposal,
    Question,
    Reply,
    Result,
    Resumed,
    Started,
    Status,
    Suspended,
    Told,
    ToolAsked,
    ToolFailed,
    ToolRequest,
    ToolReturned,
    ToolStarted,
    User,
    Woke,
    outstanding,
    start,
    step,
)
from caesura.continuations._requests import requests
from tests.strategies import ADA, AGENT, EPOCH, ROOT, WORKERS, proposal_for

SEEN = CommitId("c" * 40)
LATER = EPOCH + dt.timedelta(minutes=5)


def begun() -> Continuation:
    """A loop that has just started."""
    return start(Started(at=EPOCH, definition=AGENT, prompt=User(content="Go."), nonce="n", worker=WORKERS[0]))


def asked(*asked_for: tuple[str, str], ask: bool = False) -> Continuation:
    """A loop whose model has asked for these tools, under these ids."""
    state = begun()
    calls = tuple(ToolRequest(id=key, function=Function(name=name, arguments="{}")) for name, key in asked_for)
    proposals = tuple(proposal_for(state, call, f"n{place}", ask=ask, at=EPOCH) for place, call in enumerate(calls))
    reply = Reply(message=Assistant(tool_calls=calls))
    return step(state, ModelReplied(at=EPOCH, reply=reply, shown=1, proposals=proposals))


def running(tool: str) -> tuple[Continuation, Call]:
    """A loop with one call that runs."""
    state = asked((tool, "c1"))
    call = state.calls[0]
    if call.state is CallState.AWAITING:
        state = step(state, decided(state, call))
    state = step(state, ToolStarted(at=EPOCH, call=call.id, worker=WORKERS[0]))
    return state, state.calls[0]


def decided(state: Continuation, call: Call, choice: str = "approve") -> Decided:
    """A decision on a call as it stands."""
    tool = state.tool(call)
    return Decided(
        at=EPOCH,
        call=call.id,
        choice="approve" if choice == "approve" else "reject",
        by=ADA,
        seen=SEEN,
        arguments=call.arguments_digest,
        tool=tool.digest if tool is not None else Digest(""),
        attempt=call.attempt,
    )


_keys = st.sampled_from(["", "order-1", "order-2", "order-3", "look-1", "x"])


@given(st.lists(st.tuples(st.sampled_from(["order", "look"]), _keys), min_size=1, max_size=5))
def test_whatever_ids_a_model_gives_each_call_has_a_key_of_its_own(asked_for: list[tuple[str, str]]) -> None:
    state = asked(*asked_for)
    said = state.messages[1]
    assert isinstance(said, Assistant)
    keys = [request.id for request in said.tool_calls]
    assert keys == [call.key for call in state.calls]
    assert len(set(keys)) == len(keys)
    assert all(keys)


@pytest.mark.parametrize(("tool", "kind"), [("ask", "question"), ("nap", "sleep")])
def test_a_waiting_question_or_sleep_does_not_end_as_a_child_would(tool: str, kind: str) -> None:
    state = asked((tool, "c1"))
    call = state.calls[0]
    assert (call.kind, call.state) == (kind, CallState.WAITING)
    with pytest.raises(NotApplicable):
        step(state, ChildFinished(at=LATER, call=call.id, text="done"))


def test_a_question_or_a_child_does_not_end_by_the_clock_nor_a_sleep_before_its_time() -> None:
    state = asked(("ask", "c1"), ("it", "c2"), ("nap", "c3"))
    question, child, sleep = state.calls
    state = step(state, ChildSuspended(at=EPOCH, call=child.id))
    for call, at in ((question, LATER), (child, LATER), (sleep, LATER - dt.timedelta(seconds=1))):
        with pytest.raises(NotApplicable):
            step(state, Woke(at=at, call=call.id))
    woken = step(state, Woke(at=LATER, call=sleep.id)).call(sleep.id)
    assert woken is not None
    assert woken.state is CallState.RETURNED


@pytest.mark.parametrize("unknown", [False, True])
def test_a_call_whose_tool_is_gone_can_still_be_rejected_and_not_approved(unknown: bool) -> None:
    state = running("look")[0] if unknown else asked(("order", "c1"))
    if unknown:
        tools = tuple(replace(tool, idempotent=False) for tool in AGENT.tools)
        state = replace(state, definition=replace(AGENT, tools=tools))
        state = step(state, Resumed(at=EPOCH, worker=WORKERS[1]))
    state = step(state, AgentChanged(at=EPOCH, definition=replace(AGENT, tools=())))
    call = state.calls[0]
    (request,) = requests(ROOT, SEEN, state, ())
    assert request.tool_digest == ""
    with pytest.raises(NotApplicable, match="no longer has the tool"):
        step(state, decided(state, call))
    rejected = step(state, decided(state, call, "reject"))
    assert rejected.calls[0].state is CallState.REJECTED
    assert rejected.status is Status.ACTIVE


def test_a_late_result_of_an_earlier_attempt_is_dropped() -> None:
    state, call = running("look")
    state = step(state, Resumed(at=EPOCH, worker=WORKERS[1]))
    state = step(state, ToolStarted(at=EPOCH, call=call.id, worker=WORKERS[1]))
    with pytest.raises(NotApplicable, match="Attempt 1"):
        step(state, ToolReturned(at=EPOCH, call=call.id, attempt=1, content="old news"))


def test_a_slow_worker_may_still_end_an_unknown_call_until_a_person_does() -> None:
    state, call = running("order")
    state = step(state, Resumed(at=EPOCH, worker=WORKERS[1]))
    assert state.calls[0].state is CallState.UNKNOWN
    late = ToolReturned(at=EPOCH, call=call.id, attempt=1, content="ordered")
    assert step(state, late).calls[0].state is CallState.RETURNED
    told = step(state, Answered(at=EPOCH, call=call.id, value="it was ordered", attempt=1, by=ADA))
    with pytest.raises(NotApplicable):
        step(told, late)


def test_running_an_unknown_call_again_takes_a_new_approval() -> None:
    state, call = running("order")
    state = step(state, Resumed(at=EPOCH, worker=WORKERS[1]))
    assert not outstanding(state)
    with pytest.raises(NotApplicable):
        step(state, ToolStarted(at=EPOCH, call=call.id, worker=WORKERS[1]))
    state = step(state, decided(state, state.calls[0]))
    assert step(state, ToolStarted(at=EPOCH, call=call.id, worker=WORKERS[1])).calls[0].attempt == 2


def test_a_retry_waits_for_its_time_and_needs_no_second_approval() -> None:
    state, call = running("order")
    state = step(state, ToolFailed(at=EPOCH, call=call.id, attempt=1, error="busy", retry_at=LATER))
    (due,) = outstanding(state)
    assert getattr(due, "not_before", None) == LATER
    assert step(state, ToolStarted(at=LATER, call=call.id, worker=WORKERS[0])).calls[0].attempt == 2


def test_a_tool_that_asks_gets_the_answer_as_its_result_without_running_again() -> None:
    state, call = running("look")
    question = Question(text="Which?", answer={"type": "string"})
    state = step(state, ToolAsked(at=EPOCH, call=call.id, attempt=1, question=question))
    assert state.status is Status.SUSPENDED
    assert not outstanding(state)
    state = step(state, Answered(at=EPOCH, call=call.id, value="the blue one", attempt=1, by=ADA))
    assert state.messages[-1] == Result(tool_call_id="c1", content="the blue one")


def test_a_cut_reply_runs_nothing_and_suspends_the_loop() -> None:
    state = begun()
    call = ToolRequest(id="c1", function=Function(name="look", arguments='{"item'))
    reply = Reply(message=Assistant(tool_calls=(call,)), stop="length")
    state = step(state, ModelReplied(at=EPOCH, reply=reply, shown=1, proposals=(Proposal(nonce="n"),)))
    assert state.calls[0].state is CallState.FAILED
    assert state.gate is not None
    assert not outstanding(state)


def test_a_reply_with_another_number_of_proposals_than_calls_is_a_fault_of_the_caller() -> None:
    reply = Reply(message=Assistant(content="x"))
    with pytest.raises(ValueError, match="0 calls, 1 proposals"):
        step(begun(), ModelReplied(at=EPOCH, reply=reply, shown=1, proposals=(Proposal(nonce="n"),)))


def test_a_gate_stops_what_was_approved_and_lifting_it_lets_it_run() -> None:
    state = asked(("look", "c1"))
    state = step(state, Suspended(at=EPOCH, kind="pause", reason="lunch"))
    assert not outstanding(state)
    with pytest.raises(NotApplicable, match="stands still"):
        step(state, ToolStarted(at=EPOCH, call=state.calls[0].id, worker=WORKERS[0]))
    state = step(state, Resumed(at=EPOCH, worker=WORKERS[0], by_hand=True))
    assert len(outstanding(state)) == 1


def test_a_worker_that_was_replaced_may_not_start_anything() -> None:
    state = step(asked(("look", "c1")), Resumed(at=EPOCH, worker=WORKERS[1]))
    with pytest.raises(NotApplicable, match="Another worker"):
        step(state, ToolStarted(at=EPOCH, call=state.calls[0].id, worker=WORKERS[0]))


@pytest.mark.parametrize("tool", ["order", "look"])
def test_a_tool_that_changes_before_its_call_starts_needs_a_new_approval(tool: str) -> None:
    state = asked((tool, "c1"))
    if tool == "order":
        state = step(state, decided(state, state.calls[0]))
    changed = tuple(replace(one, approval="always", description="It changed.") for one in AGENT.tools)
    state = step(state, AgentChanged(at=EPOCH, definition=replace(AGENT, tools=changed)))
    assert state.calls[0].state is CallState.AWAITING
    assert state.calls[0].decision is None
    state = step(state, decided(state, state.calls[0]))
    assert state.calls[0].state is CallState.APPROVED


def test_what_is_told_joins_the_messages_only_after_the_last_result_of_a_round() -> None:
    state = asked(("it", "c1"), ("it", "c2"))
    state = step(state, Told(at=EPOCH, message=User(content="Hurry."), by=ADA))
    first, second = state.calls
    state = step(state, ChildFinished(at=EPOCH, call=first.id, text="one"))
    assert state.messages[-1] == Result(tool_call_id="c1", content="one")
    state = step(state, ChildFinished(at=EPOCH, call=second.id, text="two"))
    assert state.messages[-2:] == (Result(tool_call_id="c2", content="two"), User(content="Hurry."))
