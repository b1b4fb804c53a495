"""What every compaction promises: the prompt, the open round, pairs of call and result, people's decisions."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from caesura.continuations import (
    Assistant,
    BadCompaction,
    CallModel,
    Compact,
    Compacted,
    CompactionFailed,
    CompactionSpec,
    Continuation,
    Decided,
    Function,
    Image,
    ImageUrl,
    Message,
    ModelFailed,
    ModelReplied,
    NotApplicable,
    Proposal,
    Reply,
    Result,
    Started,
    Suspended,
    Told,
    ToolRequest,
    Usage,
    User,
    compaction_fault,
    describe,
    messages_digest,
    outstanding,
    start,
    step,
    with_decisions,
    without_results,
)
from caesura.continuations._codec import encode_record
from caesura.continuations._compaction import DECISIONS, context_size, decision_in, estimate_tokens, last_round
from caesura.continuations._moves import rejection
from caesura.continuations._verify_bonds import Recorded
from caesura.continuations._verify_compaction import compaction_faults
from tests.models import check_results
from tests.strategies import ADA, AGENT, EPOCH, ROOT, WORKERS, finish, last, sequences

LONG = "word " * 400
fewer = settings(max_examples=60)


def asks(*tools: str, key: str = "c", arguments: str = "{}") -> Assistant:
    return Assistant(
        tool_calls=tuple(
            ToolRequest(id=f"{key}{place}", function=Function(name=tool, arguments=arguments))
            for place, tool in enumerate(tools)
        )
    )


def result(text: str, key: str = "c0") -> Result:
    return Result(tool_call_id=key, content=text)


PROMPT = User(content="Order tea.")
REJECTED = result(rejection(ADA, "too dear"))
TALK: tuple[Message, ...] = (
    PROMPT,
    asks("look"),
    result(LONG),
    asks("order", arguments='{"item": "gold"}'),
    REJECTED,
    User(content="Hurry."),
    asks("look"),
    result(LONG),
    asks("look", "look"),
    result(LONG),
    result(LONG, "c1"),
)
"""Three rounds that the model has read, with a rejection in them, and one that it has not."""


def loop(messages: tuple[Message, ...] = TALK, at: int = 300) -> Continuation:
    """A loop that has come so far and compacts at so many tokens."""
    definition = replace(AGENT, compaction=CompactionSpec(at=at, how="by hand"))
    begun = Started(at=EPOCH, definition=definition, prompt=PROMPT, nonce="root", worker=WORKERS[0])
    return replace(start(begun), messages=messages)


def compacted(state: Continuation, messages: tuple[Message, ...], **fields: Any) -> Compacted:
    shown = fields.pop("shown", len(state.messages))
    bound = messages_digest(state.messages[:shown])
    return Compacted(at=EPOCH, messages=messages, shown=shown, replaces=bound, how="by hand", **fields)


def replied(state: Continuation, message: Assistant, usage: Usage | None = None) -> ModelReplied:
    proposals = tuple(Proposal(nonce=f"n{place}") for place in range(len(message.tool_calls)))
    return ModelReplied(
        at=EPOCH,
        reply=Reply(message=message, usage=usage or Usage(input=10, output=5)),
        proposals=proposals,
        shown=len(state.messages),
        compactions=state.context.times,
    )


# Laws ----------------------------------------------------------------------------------------------------------------


@settings(max_examples=200)
@given(sequences(), st.data())
def test_no_compaction_that_is_taken_loses_what_must_stay(steps: list[Any], data: st.DataObject) -> None:
    for one in steps:
        if not isinstance(one.event, Compacted) or one.after is None:
            continue
        old, new = one.before, one.after
        assert new.messages[0] == old.messages[0]
        assert (new.calls, new.children, new.told, new.rules, new.memory) == (
            old.calls,
            old.children,
            old.told,
            old.rules,
            old.memory,
        )
        place = max(at for at, message in enumerate(old.messages) if isinstance(message, Assistant))
        assert new.messages[-len(old.messages) + place :] == old.messages[place:]
        assert estimate_tokens(new.messages) < estimate_tokens(old.messages)
        check_results(new)
        said = "\n".join(message.content for message in new.messages if not isinstance(message, Assistant | User))
        said += "\n".join(str(message.content) for message in new.messages if isinstance(message, User))
        for message in old.messages:
            if isinstance(message, Result) and message.content.endswith("The call did not run."):
                assert message.content in said


@fewer
@given(sequences(length=20), st.data())
def test_after_any_compaction_the_loop_can_be_brought_to_its_end(steps: list[Any], data: st.DataObject) -> None:
    state = last(steps)
    if state.ending is not None:
        return
    for keep in (2, 1, 0):
        made = without_results(state.definition, state.messages, keep)
        if compaction_fault(state.messages, made) is None:
            state = step(state, replace(compacted(state, made), at=state.at))
    end = [one.after for one in finish(state)][-1]
    assert end is not None
    assert end.ending is not None
    check_results(end)


@fewer
@given(st.lists(st.sampled_from(["order", "look", "ask"]), min_size=1, max_size=6), st.integers(0, 6), st.data())
def test_leaving_results_out_is_lawful_whatever_the_conversation(
    tools: list[str], keep: int, data: st.DataObject
) -> None:
    talk: list[Message] = [PROMPT]
    texts = st.sampled_from([LONG, "short", REJECTED.content, f'[Ada changed the arguments to {{"a": "]"}}]\n{LONG}'])
    for tool in tools:
        talk += [asks(tool), result(data.draw(texts)), *data.draw(st.sampled_from([(), (User(content="Hm."),)]))]
    made = without_results(AGENT, talk, keep)
    assert compaction_fault(talk, made) in (None, "they are not shorter")
    kept = [place for place, one in enumerate(talk) if isinstance(one, Result)]
    assert all(made[place] == talk[place] for place in kept[max(0, len(kept) - keep) :])
    for old, new, asked in zip(talk, made, [PROMPT, *talk], strict=False):
        if isinstance(asked, Assistant) and asked.tool_calls[0].function.name == "ask":
            assert new == old, "a person's answer"


@fewer
@given(sequences(), st.data())
def test_a_reply_to_messages_that_were_compacted_meanwhile_does_not_count(
    steps: list[Any], data: st.DataObject
) -> None:
    state = last(steps)
    made = without_results(state.definition, state.messages, 0)
    if state.ending is not None or state.open_calls or compaction_fault(state.messages, made) is not None:
        return
    after = step(state, replace(compacted(state, made), at=state.at))
    with pytest.raises(NotApplicable):
        step(after, replace(replied(state, Assistant(content="Done.")), at=state.at))
    assert step(after, replace(replied(after, Assistant(content="Done.")), at=state.at)).messages[-1].content == "Done."


@settings(max_examples=300)
@given(st.data())
def test_the_step_and_the_verification_agree_on_what_a_compaction_may_take(data: st.DataObject) -> None:
    talk: list[Message] = [PROMPT]
    for _ in range(data.draw(st.integers(1, 4))):
        asked = data.draw(st.lists(st.sampled_from(["look", "order"]), max_size=2))
        talk.append(asks(*asked) if asked else Assistant(content="Hm."))
        talk += [
            data.draw(st.sampled_from([result(LONG, f"c{n}"), replace(REJECTED, tool_call_id=f"c{n}")]))
            for n in range(len(asked))
        ]
        talk += [User(content="Go on.")] * (not asked)
    made = [one for one in talk if data.draw(st.sampled_from([True, True, True, False]))]
    if data.draw(st.booleans()):
        made = [*talk[:1], *made, *talk[last_round(talk) :]]
    if data.draw(st.booleans()):
        made = list(without_results(AGENT, made, 1))
    if data.draw(st.booleans()):
        made = list(with_decisions(talk, made))
    state, fault = loop(tuple(talk)), compaction_fault(talk, made)
    after = replace(state, messages=tuple(made))
    said = {"Event": ("Compacted",)}
    commit = Recorded(event="Compacted", said=said, author=ADA, previous=None, further=(), before=state, after=after)
    found = list(compaction_faults(commit, state))
    if fault is None:
        assert found == []
    elif fault != "they are not shorter":
        assert found, fault


@pytest.mark.parametrize(
    ("made", "why"),
    [
        (TALK, "not shorter"),
        ((PROMPT, *TALK[:-1], result("short", "c1")), "last reply"),
        (TALK[:-1], "last reply"),
        ((), "last reply"),
        (TALK[8:], "begin with the prompt"),
        ((User(content="Order gold."), *TALK[8:]), "begin with the prompt"),
        ((PROMPT, TALK[1], *TALK[8:]), "'c0' has no result"),
        ((PROMPT, TALK[2], *TALK[8:]), "which no reply before it asks for"),
        ((PROMPT, TALK[1], User(content="Hm."), TALK[2], *TALK[8:]), "'c0' has no result"),
        ((PROMPT, TALK[1], TALK[2], TALK[2], *TALK[8:]), "which no reply before it asks for"),
        ((PROMPT, asks("look", "look", key=""), TALK[2], *TALK[8:]), "'1' has no result"),
        ((PROMPT, *TALK[8:]), "told of a decision is gone: order"),
        ((PROMPT, result("Rejected."), *TALK[8:]), "which no reply before it asks for"),
    ],
)
def test_what_would_break_the_conversation_is_refused_with_the_reason(made: tuple[Message, ...], why: str) -> None:
    fault = compaction_fault(TALK, made)
    assert fault is not None
    if why.startswith("'1'"):
        assert "has no result" in fault or "no reply before it asks" in fault
    else:
        assert why in fault
    with pytest.raises(NotApplicable, match="cannot be compacted so"):
        step(loop(), compacted(loop(), made))


def test_decisions_that_would_be_lost_are_put_back_and_stay_in_the_next_compaction_too() -> None:
    first = with_decisions(TALK, (PROMPT, *TALK[8:]))
    assert compaction_fault(TALK, first) is None
    (kept,) = (one for one in first if one not in TALK)
    assert kept == User(
        content=f'{DECISIONS}\n- order {{"item": "gold"}}: Rejected by Ada Lovelace: too dear. The call did not run.'
    )
    talk = (*first, asks("look"), result(LONG), asks("look"), result(LONG))
    lost = (PROMPT, *talk[-2:])
    assert "told of a decision is gone" in (compaction_fault(talk, lost) or "")
    again = with_decisions(talk, lost)
    assert compaction_fault(talk, again) is None
    assert kept.content in [one.content for one in again]


def test_a_decision_is_found_in_a_result_whatever_else_stands_there() -> None:
    edit = '[Ada changed the arguments to {"a": [1, "]\\n"]}]'
    assert decision_in(f"{edit}\n{LONG}") == edit
    assert decision_in(REJECTED.content) == REJECTED.content
    unfinished = "[x changed the arguments to {"
    for text in ("", LONG, "Rejected by the server.", unfinished, "a [b changed the arguments to 1]"):
        assert decision_in(text) == ""
    left = without_results(AGENT, (PROMPT, asks("order"), result(f"{edit}\n{LONG}"), asks("look"), result("x")), 0)[2]
    assert left.content == f"{edit}\n[2,001 characters, left out to save room]"


# When ----------------------------------------------------------------------------------------------------------------


def test_a_compaction_is_due_by_the_models_own_count_and_what_came_since() -> None:
    state = step(
        loop(TALK[:8], at=5000), replied(loop(TALK[:8]), Assistant(content=None), Usage(input=4000, output=90))
    )
    assert context_size(state) == 4090
    assert not _due(state)
    told = step(state, Told(at=EPOCH, message=User(content="x" * 4000), by=ADA))
    assert context_size(told) == 4090 + 4016 // 4
    assert _due(told)


def _due(state: Continuation) -> bool:
    return outstanding(replace(state, gate=None)) == (Compact(),)


def test_without_a_count_the_messages_are_estimated_and_an_image_is_not_its_bytes() -> None:
    assert _due(loop(at=2000))
    assert not _due(loop(at=2400))
    image = User(content=(Image(image_url=ImageUrl(url="data:image/png;base64," + "A" * 100_000)),))
    assert 1000 <= estimate_tokens((image,)) < 1100


def test_a_compaction_that_does_not_get_below_the_threshold_is_not_followed_by_another_before_much_has_come() -> None:
    state = loop(at=300)
    made = with_decisions(TALK, without_results(AGENT, TALK, 0))
    state = step(state, compacted(state, made))
    assert context_size(state) > 300
    assert outstanding(state) == (CallModel(),)
    assert (
        "That is still more than the agent's threshold" in describe(ROOT, loop(), compacted(loop(), made), state).body
    )
    for tokens, due in ((30, False), (90, True)):
        grown = replace(state, messages=(*state.messages, User(content="x" * (tokens * 4))))
        assert _due(grown) is due


def test_one_that_failed_counts_as_an_attempt_and_as_a_model_call() -> None:
    state = step(loop(), CompactionFailed(at=EPOCH, error="no summary", usage=Usage(input=100, output=7)))
    assert (state.spent.steps, state.spent.usage.total) == (1, 107)
    assert state.messages == TALK
    assert outstanding(state) == (CallModel(),)
    free = step(loop(), CompactionFailed(at=EPOCH, error="no summary"))
    assert free.spent.steps == 0


def test_where_there_is_nothing_between_the_prompt_and_the_last_reply_nothing_is_due() -> None:
    for messages in ((PROMPT,), (PROMPT, User(content=LONG)), (PROMPT, asks("look"), result(LONG))):
        assert outstanding(loop(messages, at=1)) == (CallModel(),)


def test_a_compacted_array_keeps_the_models_count_of_what_stays() -> None:
    state = step(
        loop(TALK[:8], at=9000), replied(loop(TALK[:8]), Assistant(content=None), Usage(input=4000, output=90))
    )
    state = replace(state, gate=None)
    before = estimate_tokens(state.messages)
    after = step(state, compacted(state, with_decisions(TALK, without_results(AGENT, state.messages, 0))))
    assert context_size(after) == 4090 - before + estimate_tokens(after.messages)
    assert after.context.times == 1


def test_a_model_that_finds_the_messages_too_long_lets_them_be_compacted_once() -> None:
    state = loop(at=100_000)
    fails = ModelFailed(at=EPOCH, error="too long", shown=len(TALK), too_long=True)
    pressed = step(state, fails)
    assert pressed.gate is None
    assert outstanding(pressed) == (Compact(),)
    for tried in (
        step(pressed, compacted(pressed, without_results(AGENT, TALK, 0))),
        step(pressed, CompactionFailed(at=EPOCH, error="no summary")),
    ):
        assert outstanding(tried) == (CallModel(),)
        again = step(tried, replace(fails, shown=len(tried.messages), compactions=tried.context.times))
        assert again.gate is not None
        assert again.gate.kind == "model"
        done = step(tried, replied(tried, Assistant(content="Done.")))
        assert done.context.overflow == ""
    for one in (replace(state, definition=AGENT), loop(TALK[:1])):
        assert step(one, replace(fails, shown=len(one.messages))).gate is not None


# The step ------------------------------------------------------------------------------------------------------------


def test_what_was_told_while_the_messages_were_compacted_follows_them() -> None:
    state = loop()
    event = compacted(state, with_decisions(TALK, without_results(AGENT, TALK, 0)))
    paused = step(state, Suspended(at=EPOCH, kind="pause", reason="lunch", by=ADA))
    told = step(paused, Told(at=EPOCH, message=User(content="And milk."), by=ADA))
    after = step(told, event)
    assert after.messages == (*event.messages, User(content="And milk."))
    with pytest.raises(NotApplicable, match="no longer those"):
        step(after, event)


def test_a_call_that_waits_is_decided_after_a_compaction_as_before() -> None:
    state = loop((*TALK[:8],))
    waits = step(
        state,
        replace(replied(state, asks("order")), proposals=(Proposal(nonce="n", needs_approval=True),)),
    )
    after = step(waits, compacted(waits, without_results(AGENT, waits.messages, 0)))
    (call,) = after.open_calls
    assert after.calls == waits.calls
    tool = after.tool(call)
    assert tool is not None
    no = Decided(
        at=EPOCH,
        call=call.id,
        choice="reject",
        by=ADA,
        seen="c" * 40,  # type: ignore[arg-type]
        arguments=call.arguments_digest,
        tool=tool.digest,
        note="no",
    )
    assert step(after, no).messages[-1] == result("Rejected by Ada Lovelace: no. The call did not run.")


def test_a_commit_says_what_was_compacted_how_and_at_what_cost() -> None:
    state = loop()
    made = with_decisions(TALK, (PROMPT, User(content="Tea was sought."), *TALK[8:]))
    event = compacted(state, made, usage=Usage(input=900, output=60), model="scribe-1")
    said = describe(ROOT, state, event, step(state, event))
    assert said.subject == "ops: compacted 11 messages to 6"
    told = "By by hand: 4 are as they were, 2 new or shorter. This commit's first parent has all of them."
    assert " ".join(said.body.split()).startswith(told)
    assert "Tea was sought." in said.body
    assert [pair for pair in said.trailers if pair[0] in ("Event", "Messages", "Context", "Model", "Tokens")] == [
        ("Event", "Compacted"),
        ("Messages", "11, now 6"),
        ("Context", "about 2194 tokens, now 1115"),
        ("Model", "scribe-1"),
        ("Tokens", "900 in, 60 out"),
    ]
    failed = CompactionFailed(at=EPOCH, error="no summary")
    assert describe(ROOT, state, failed, step(state, failed)).subject == "ops: not compacted: no summary"


@fewer
@given(sequences())
def test_only_agents_that_compact_keep_a_count_of_their_context(steps: list[Any]) -> None:
    state = last(steps)
    if state.definition.compaction is None and not any(isinstance(one.event, Compacted) for one in steps):
        assert (state.context.tokens, state.context.messages) == (0, 0)
        if not any(isinstance(one.event, CompactionFailed | ModelFailed) for one in steps):
            assert b"context" not in encode_record(state)


def test_a_threshold_is_above_zero() -> None:
    with pytest.raises(BadCompaction):
        CompactionSpec(at=0, how="never")
