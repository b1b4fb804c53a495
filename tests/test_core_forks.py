"""Forks with intent, in the core: what each change does to a state, what it is refused on, and what its commit says."""

from typing import Any

import pytest
from hypothesis import given, settings
from msgspec.structs import replace

from caesura.continuations import (
    AgentChanged,
    Amended,
    Amendment,
    Assistant,
    CallId,
    CallState,
    Cancelled,
    Child,
    ChildFinished,
    CommitId,
    Continuation,
    Decided,
    Edited,
    Missed,
    ModelReplied,
    ModelSpec,
    Needs,
    NotApplicable,
    Overridden,
    Recall,
    Recalled,
    Recording,
    Rehearsal,
    Rehearsed,
    Reply,
    Result,
    Resumed,
    Reworded,
    Rewound,
    RunTool,
    Started,
    Told,
    ToolReturned,
    ToolStarted,
    User,
    call_text,
    describe,
    loop_name,
    outstanding,
    start,
    step,
    use_of,
)
from tests.models import request
from tests.strategies import ADA, AGENT, EPOCH, GRACE, WORKERS, Step, proposal_for, sequences

C = CommitId("c" * 40)
RECORD = Rehearsal(record=Recording(until=CommitId("a" * 40), since=CommitId("b" * 40)))
FAILING = Rehearsal(record=Recording(until=CommitId("a" * 40), since=CommitId("b" * 40), on_miss="fail"))


def calling(*tools: str, state: Continuation | None = None, needs: Needs | None = None) -> Continuation:
    """A loop whose model has just asked for these tools."""
    if state is None:
        state = start(Started(at=EPOCH, definition=AGENT, prompt=User(content="Go."), nonce="root", worker=WORKERS[0]))
    calls = tuple(request(name, {"item": "tea"}, f"k{place}") for place, name in enumerate(tools))
    asked = ModelReplied(
        at=EPOCH,
        reply=Reply(message=Assistant(content="I need these.", tool_calls=calls)),
        shown=len(state.messages),
        proposals=tuple(
            replace(proposal_for(state, one, f"n{place}", ask=False, at=EPOCH), needs=needs)
            for place, one in enumerate(calls)
        ),
    )
    return step(state, asked)


def ran(state: Continuation, call: str, content: str = "done") -> Continuation:
    """A call has run."""
    state = step(state, ToolStarted(at=EPOCH, call=CallId(call), worker=state.worker))
    return step(state, ToolReturned(at=EPOCH, call=CallId(call), attempt=1, content=content))


def said(state: Continuation, text: str = "All done.") -> Continuation:
    """The model has said something."""
    reply = Reply(message=Assistant(content=text))
    return step(state, ModelReplied(at=EPOCH, reply=reply, shown=len(state.messages)))


def decided(state: Continuation, call: str, **changes: Any) -> Decided:
    """A decision on a call as it stands."""
    found = state.call(CallId(call))
    assert found is not None
    tool = state.tool(found)
    assert tool is not None
    made = Decided(
        at=EPOCH,
        call=found.id,
        choice="approve",
        by=ADA,
        seen=C,
        arguments=found.arguments_digest,
        tool=tool.digest,
        attempt=found.attempt,
    )
    return replace(made, **changes)


def the_call(state: Continuation, call: str) -> Any:
    """A call of the present round."""
    found = state.call(CallId(call))
    assert found is not None
    return found


def rehearsing(state: Continuation, rehearsal: Rehearsal | None) -> Continuation:
    """A fork that rehearses."""
    return step(state, Rehearsed(at=EPOCH, rehearsal=rehearsal, by=GRACE))


# Messages ----------------------------------------------------------------------------------------------------------


def test_a_removed_tail_takes_its_calls_with_it_and_gives_no_number_twice() -> None:
    state = calling("order", "look", state=ran(calling("look"), "look-1"))
    back = step(state, Rewound(at=EPOCH, kept=1, to=C, calls=(), by=GRACE))
    assert (back.messages, back.calls, back.ending) == (state.messages[:1], (), None)
    assert [call.id for call in calling("look", state=back).calls] == ["look-3"]
    assert back.spent == state.spent


def test_a_removed_last_word_leaves_the_round_before_it_as_it_was() -> None:
    before = ran(calling("look"), "look-1")
    back = step(said(before), Rewound(at=EPOCH, kept=3, to=C, calls=before.calls, by=GRACE))
    assert (back.messages, back.calls, back.ending) == (before.messages, before.calls, None)


def test_what_was_told_and_not_heard_is_heard_once_the_calls_are_gone() -> None:
    state = step(calling("order"), Told(at=EPOCH, message=User(content="Hurry."), by=ADA))
    back = step(state, Rewound(at=EPOCH, kept=1, to=C, calls=(), by=GRACE))
    assert back.messages == (*state.messages[:1], User(content="Hurry."))


def test_a_loop_that_is_left_with_the_models_last_word_has_completed_with_it() -> None:
    state = step(said(calling_nothing()), Told(at=EPOCH, message=User(content="More."), by=ADA))
    back = step(said(state, "More done."), Rewound(at=EPOCH, kept=2, to=C, calls=(), by=GRACE))
    assert back.ending is not None
    assert (back.ending.status, back.ending.text) == ("completed", "All done.")


def calling_nothing() -> Continuation:
    """A loop that has just begun."""
    return start(Started(at=EPOCH, definition=AGENT, prompt=User(content="Go."), nonce="root", worker=WORKERS[0]))


@pytest.mark.parametrize(("kept", "why"), [(0, "not the first"), (4, "not the first"), (3, "amid"), (2, "amid")])
def test_a_tail_is_not_removed_amid_a_round_nor_with_the_prompt(kept: int, why: str) -> None:
    state = ran(ran(calling("look", "look"), "look-1"), "look-2")
    with pytest.raises(NotApplicable, match=why):
        step(replace(state, messages=state.messages[:4]), Rewound(at=EPOCH, kept=kept, to=C, calls=(), by=GRACE))


def test_only_what_a_loop_was_told_can_be_reworded() -> None:
    state = ran(calling("look"), "look-1")
    told = step(state, Reworded(at=EPOCH, place=0, message=User(content="Stay."), by=GRACE))
    assert told.messages == (User(content="Stay."), *state.messages[1:])
    for place in (-1, 1, 2, 3):
        with pytest.raises(NotApplicable, match="nothing that the loop was told"):
            step(state, Reworded(at=EPOCH, place=place, message=User(content="Stay."), by=GRACE))


def test_another_result_stands_in_the_place_of_the_one_there_was_until_the_model_answers() -> None:
    state = ran(calling("look", "order"), "look-1", "a shop")
    other = step(state, Overridden(at=EPOCH, call=CallId("look-1"), content="no shop", by=GRACE))
    assert other.messages == (*state.messages[:-1], Result(tool_call_id="k0", content="no shop"))
    assert the_call(other, "look-1").state is CallState.RETURNED
    with pytest.raises(NotApplicable, match="it has no result yet"):
        step(state, Overridden(at=EPOCH, call=CallId("order-1"), content="no", by=GRACE))
    done = said(ran(calling("look"), "look-1"))
    with pytest.raises(NotApplicable, match="has completed"):
        step(done, Overridden(at=EPOCH, call=CallId("look-1"), content="no", by=GRACE))


# Arguments ---------------------------------------------------------------------------------------------------------


def edit(state: Continuation, call: str) -> Continuation:
    """Ask for coffee instead."""
    return step(state, Edited(at=EPOCH, call=CallId(call), arguments='{"item": "coffee"}', by=GRACE))


def test_edited_arguments_void_what_was_decided_on_the_old_ones() -> None:
    approved = step(calling("order"), decided(calling("order"), "order-1"))
    assert outstanding(approved) == (RunTool(call=CallId("order-1")),)
    other = edit(approved, "order-1")
    call = the_call(other, "order-1")
    assert (call.state, call.decision, call.arguments) == (CallState.AWAITING, None, '{"item": "coffee"}')
    with pytest.raises(Exception, match="no longer what was shown"):
        step(other, decided(approved, "order-1"))
    again = step(other, decided(other, "order-1"))
    assert "changed the arguments to" in str(ran(again, "order-1").messages[-1])


def test_edited_arguments_void_one_of_two_approvals_too() -> None:
    state = calling("order", needs=Needs(approvals=2))
    once = step(state, decided(state, "order-1"))
    assert len(the_call(once, "order-1").approvals) == 1
    assert the_call(edit(once, "order-1"), "order-1").approvals == ()


def test_a_call_that_needs_no_approval_needs_none_with_other_arguments() -> None:
    assert the_call(edit(calling("look"), "look-1"), "look-1").state is CallState.APPROVED


def test_what_has_begun_or_asks_a_person_keeps_its_arguments() -> None:
    running = step(calling("look"), ToolStarted(at=EPOCH, call=CallId("look-1"), worker=WORKERS[0]))
    for state, call in (
        (running, "look-1"),
        (step(running, Resumed(at=EPOCH, worker=WORKERS[1])), "look-1"),
        (ran(calling("look", "order"), "look-1"), "look-1"),
        (calling("ask"), "ask-1"),
        (calling("nap"), "nap-1"),
        (calling("ask", needs=Needs()), "ask-1"),
    ):
        with pytest.raises(NotApplicable, match="only what has not begun"):
            edit(state, call)


# The definition ----------------------------------------------------------------------------------------------------


def test_an_amended_definition_stays_so_whatever_the_agents_code_says() -> None:
    model = ModelSpec(name="other", settings={"seed": 1})
    state = step(calling_nothing(), Amended(at=EPOCH, amendment=Amendment(model=model), by=GRACE))
    state = step(state, Amended(at=EPOCH, amendment=Amendment(instructions="Be long."), by=GRACE))
    assert state.amended == Amendment(model=model, instructions="Be long.")
    new = replace(AGENT, instructions="Be anything.", suspensions=("late",))
    after = step(state, AgentChanged(at=EPOCH, definition=new)).definition
    assert (after.model, after.instructions, after.suspensions) == (model, "Be long.", ("late",))


# Rehearsals --------------------------------------------------------------------------------------------------------


@settings(max_examples=300)
@given(sequences(25, rehearsing=True))
def test_in_a_rehearsal_nothing_starts_that_nobody_has_approved_in_it(steps: list[Step]) -> None:
    """Counted from the events alone."""
    rehearses, approved = False, set[tuple[str, str]]()
    standing = False
    for one in steps:
        if one.after is None:
            continue
        match one.event:
            case Rehearsed(rehearsal=rehearsal):
                rehearses, standing = rehearsal is not None, False
                approved.clear()
            case Decided(call=call_id, choice="approve", scope=scope) if (call := one.after.call(call_id)) is not None:
                approved.add((call.id, call.nonce))
                standing = standing or scope != "call"
            case ToolStarted(call=call_id) if rehearses:
                call = one.before.call(call_id)
                assert call is not None
                assert standing or (call.id, call.nonce) in approved
            case _:
                pass


def test_a_record_is_asked_before_a_person_and_one_without_asks_the_person() -> None:
    begun = calling_nothing()
    assert outstanding(calling("order", "look", state=rehearsing(begun, RECORD))) == (
        Recall(call=CallId("order-1")),
        Recall(call=CallId("look-1")),
    )
    asks = calling("order", "look", state=rehearsing(begun, Rehearsal()))
    assert {call.state for call in asks.calls} == {CallState.AWAITING}
    assert [use_of(one) for one in (None, RECORD, Rehearsal())] == ["live", "recorded", "ask"]


def test_whatever_was_approved_before_a_rehearsal_is_not_in_it() -> None:
    for state in (
        step(calling("order"), decided(calling("order"), "order-1")),
        step(calling("order"), decided(calling("order"), "order-1", scope="tool")),
    ):
        for rehearsal, expected in ((RECORD, CallState.APPROVED), (Rehearsal(), CallState.AWAITING)):
            rehearsed = rehearsing(state, rehearsal)
            call = the_call(rehearsed, "order-1")
            assert (call.state, call.granted, rehearsed.rules) == (expected, (), ())
            with pytest.raises(NotApplicable):
                step(rehearsed, ToolStarted(at=EPOCH, call=call.id, worker=WORKERS[0]))


def test_a_standing_rejection_stands_in_a_rehearsal() -> None:
    rejected = step(calling("order"), decided(calling("order"), "order-1", choice="reject", scope="tool"))
    again = calling("order", state=rehearsing(rejected, RECORD))
    assert the_call(again, "order-2").state is CallState.REJECTED


def test_each_call_is_answered_once_and_its_answer_counts_as_used() -> None:
    state = calling("look", "look", state=rehearsing(calling_nothing(), RECORD))
    answer = Recalled(at=EPOCH, call=CallId("look-1"), ended="returned", content="a shop", source=C)
    after = step(state, answer)
    assert after.messages[-1] == Result(tool_call_id="k0", content="a shop")
    assert the_call(after, "look-1").attempt == 0
    record = None if after.rehearsal is None else after.rehearsal.record
    assert record is not None
    assert list(record.used.values()) == [1]
    with pytest.raises(NotApplicable, match="not to be looked up"):
        step(after, answer)
    both = step(after, replace(answer, call=CallId("look-2"))).rehearsal
    assert both is not None
    assert both.record is not None
    assert list(both.record.used.values()) == [2]


def test_a_call_that_no_rehearsal_waits_for_is_not_answered_from_a_record() -> None:
    answer = Recalled(at=EPOCH, call=CallId("look-1"), ended="returned", content="a shop", source=C)
    for state in (calling("look"), rehearsing(calling("order"), Rehearsal())):
        with pytest.raises(NotApplicable):
            step(state, replace(answer, call=state.calls[0].id))


def test_where_the_record_has_no_answer_a_person_is_asked_or_the_call_fails() -> None:
    for tool, expected in (
        ("look", CallState.AWAITING),
        ("order", CallState.AWAITING),
        ("ask", CallState.WAITING),
        ("nap", CallState.WAITING),
    ):
        state = calling(tool, state=rehearsing(calling_nothing(), RECORD))
        missed = step(state, Missed(at=EPOCH, call=state.calls[0].id))
        assert the_call(missed, f"{tool}-1").state is expected
        state = calling(tool, state=rehearsing(calling_nothing(), FAILING))
        missed = step(state, Missed(at=EPOCH, call=state.calls[0].id))
        assert the_call(missed, f"{tool}-1").state is CallState.FAILED


def test_what_had_started_before_a_rehearsal_is_not_known_to_have_run_if_the_record_does_not_say() -> None:
    running = step(calling("look"), ToolStarted(at=EPOCH, call=CallId("look-1"), worker=WORKERS[0]))
    state = rehearsing(running, RECORD)
    assert outstanding(state) == (Recall(call=CallId("look-1")),)
    missed = the_call(step(state, Missed(at=EPOCH, call=CallId("look-1"))), "look-1")
    assert missed.state is CallState.UNKNOWN
    assert missed.remark == "it had started before the fork: whether it took effect there is not known"


def test_an_idempotent_call_that_ran_when_it_was_forked_does_not_run_again_unasked() -> None:
    running = step(calling("look"), ToolStarted(at=EPOCH, call=CallId("look-1"), worker=WORKERS[0]))
    resumed = step(rehearsing(running, Rehearsal()), Resumed(at=EPOCH, worker=WORKERS[1]))
    assert outstanding(resumed) == (Recall(call=CallId("look-1")),)
    assert the_call(step(resumed, Missed(at=EPOCH, call=CallId("look-1"))), "look-1").state is CallState.UNKNOWN


def test_what_was_approved_in_the_source_and_ran_there_is_not_run_again_because_of_that() -> None:
    asked = calling("order")
    approved = step(asked, decided(asked, "order-1"))
    running = step(approved, ToolStarted(at=EPOCH, call=CallId("order-1"), worker=WORKERS[0]))
    for terms in (Rehearsal(), RECORD):
        state = rehearsing(running, terms)
        assert not the_call(state, "order-1").granted
        resumed = step(state, Resumed(at=EPOCH, worker=WORKERS[1]))
        assert not any(isinstance(effect, RunTool) for effect in outstanding(resumed))


def test_once_its_tools_act_again_a_call_that_was_to_be_looked_up_is_asked_about() -> None:
    state = calling("look", "ask", state=rehearsing(calling_nothing(), RECORD))
    live = rehearsing(state, None)
    assert [call.state for call in live.calls] == [CallState.AWAITING, CallState.WAITING]
    assert the_call(calling("look", state=calling_nothing()), "look-1").state is CallState.APPROVED


def test_an_approval_given_for_good_in_a_rehearsal_covers_later_calls_that_the_record_does_not_hold() -> None:
    state = calling("look", state=rehearsing(calling_nothing(), RECORD))
    state = step(state, Missed(at=EPOCH, call=CallId("look-1")))
    state = step(state, decided(state, "look-1", scope="tool"))
    state = calling("look", state=ran(state, "look-1"))
    assert outstanding(state) == (Recall(call=CallId("look-2")),)
    state = step(state, Missed(at=EPOCH, call=CallId("look-2")))
    assert outstanding(state) == (RunTool(call=CallId("look-2")),)


def test_what_a_child_has_used_of_the_record_counts_once_it_has_ended() -> None:
    state = calling("it", state=rehearsing(calling_nothing(), RECORD))
    child = rehearsing(calling_nothing(), RECORD)
    assert child.rehearsal is not None
    used = child.rehearsal.having("0" * 16)  # type: ignore[arg-type]
    nested = Child(commit=C, state=replace(child, rehearsal=used))
    state = replace(state, children={CallId("it-1"): nested})
    after = step(state, ChildFinished(at=EPOCH, call=CallId("it-1"), text="done")).rehearsal
    assert after == used


# Ends --------------------------------------------------------------------------------------------------------------


def test_a_loop_that_has_ended_is_asked_for_nothing_but_to_go_back_or_to_be_another() -> None:
    over = step(calling("order"), Cancelled(at=EPOCH, reason="enough", by=ADA))
    for event in (
        Reworded(at=EPOCH, place=0, message=User(content="Stay."), by=GRACE),
        Edited(at=EPOCH, call=CallId("order-1"), arguments="{}", by=GRACE),
        Overridden(at=EPOCH, call=CallId("order-1"), content="no", by=GRACE),
    ):
        with pytest.raises(NotApplicable, match="was cancelled"):
            step(over, event)
    assert step(over, Rewound(at=EPOCH, kept=1, to=C, calls=(), by=GRACE)).ending is None
    assert rehearsing(over, RECORD).ending == over.ending


# What the commits say ----------------------------------------------------------------------------------------------


def test_the_commit_of_a_removed_tail_says_what_is_not_undone() -> None:
    state = ran(calling("look", "order"), "look-1", "a shop")
    state = step(state, decided(state, "order-1"))
    state = step(state, ToolStarted(at=EPOCH, call=CallId("order-1"), worker=WORKERS[0]))
    event = Rewound(at=EPOCH, kept=1, to=C, calls=(), by=GRACE)
    told = describe(loop_name("x"), state, event, step(state, event))
    assert told.subject == "ops: dropped the last 2 messages"
    assert told.body == (
        "What the calls in them did is not undone:\n"
        '  look(item="tea"): a shop\n'
        '  order(item="tea"): whether it took effect is not known'
    )
    assert ("Back-To", C) in told.trailers


def test_the_commit_of_an_answer_from_the_record_says_so() -> None:
    state = calling("look", state=rehearsing(calling_nothing(), RECORD))
    event = Recalled(at=EPOCH, call=CallId("look-1"), ended="returned", content="a shop", source=C)
    told = describe(loop_name("x"), state, event, step(state, event))
    assert told.subject == "ops: look returned, from the record: a shop"
    assert told.body == "a shop\n\nNot run."
    assert ("Record", C) in told.trailers


def test_the_commit_of_edited_arguments_shows_both() -> None:
    state = calling("order")
    event = Edited(at=EPOCH, call=CallId("order-1"), arguments='{"item": "coffee"}', by=GRACE)
    told = describe(loop_name("x"), state, event, step(state, event))
    assert told.subject == "ops: asks instead: " + call_text("order", event.arguments)
    assert told.body == 'order(item="coffee")\n\ninstead of: order(item="tea")'
