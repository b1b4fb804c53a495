"""Calls of tools: reading a model's arguments, asking for approval, questions and sleeps."""

import datetime as dt
import enum
import json
from typing import Any, Literal

import jsonschema
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from caesura.continuations import CallId, LoopName, Question, ToolError
from caesura.runtime._attempts import Ask, Asked, BadTime, Failed, Sleeping, SleepUntil
from caesura.runtime._context import ToolContext
from caesura.runtime._proposed import ProposedCall
from caesura.runtime._tools import BadArguments, ask, sleep_until, tool

NOON = dt.datetime(2030, 1, 31, 12, tzinfo=dt.UTC)
LOOP, CALL = LoopName("release"), CallId("order-1")
CONTEXT = ToolContext(loop=LOOP, call=CALL, idempotency_key="k")


class Colour(enum.Enum):
    RED = "red"


class Point(msgspec.Struct):
    x: int
    y: float = 0.0


# Arguments ---------------------------------------------------------------------------------------------------------


@tool
def order(item: str, amount: float, urgent: bool = False) -> str:
    """Place an order."""
    return f"{item}: {amount}{'!' if urgent else ''}"


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ('{"item": "pen", "amount": "5"}', "Expected `float`, got `str` - at `$.amount`"),
        ('{"item": "pen"}', "missing required field `amount`"),
        ("", "missing required field `item`"),
        ('{"item": "pen", "amount": 1, "extra": 1}', "unknown field `extra`"),
        ('{"item": "pen", "amount": 1, "amount": 9}', "the key `amount` twice"),
        ('{"item": "pen", "amount": NaN}', "NaN is not JSON"),
        ('{"item": "pen", "amount": 1', "The text is not JSON"),
        ("[]", "Expected `object`, got `array`"),
        ("null", "Expected `object`, got `null`"),
        ('{"item":' + "[" * 100_000, "nested more than 64 levels"),
        ('{"item": "\ud800", "amount": 1}', "surrogate"),
    ],
)
async def test_arguments_that_do_not_fit_are_explained_to_the_model_and_never_run(text: str, fault: str) -> None:
    with pytest.raises(BadArguments) as caught:
        order.read(text)
    assert fault in str(caught.value)
    assert "order takes {item: string, amount: number, urgent?: boolean}" in str(caught.value)
    with pytest.raises(BadArguments):
        order.proposed(text, LOOP, CALL)
    assert await order.perform(text, CONTEXT) == Failed(error=str(caught.value))


@given(st.text() | st.text(alphabet='{}[]",:0123456789item\\u'))
def test_no_text_crashes_the_reader(text: str) -> None:
    try:
        values = order.read(text)
    except BadArguments:
        return
    assert set(values) == {"item", "amount", "urgent"}


def test_no_text_at_all_counts_as_no_arguments() -> None:
    made = tool(lambda: None, name="made")
    assert made.read("") == made.read(" \n") == made.read("{}") == {}


def test_an_int_is_welcome_for_a_float() -> None:
    amount = order.read('{"item": "pen", "amount": 5}')["amount"]
    assert amount == 5.0
    assert isinstance(amount, float)


# Approval ----------------------------------------------------------------------------------------------------------


def proposal(arguments: str = '{"item": "pen", "amount": 5}') -> ProposedCall:
    return order.proposed(arguments, LOOP, CALL)


@pytest.mark.parametrize("amount", [499, 500, 501])
def test_a_predicate_sees_the_call_and_decides(amount: int) -> None:
    guarded = order.with_approval(
        lambda call: call.arguments["amount"] > 500 and (call.tool, call.loop, call.call) == ("order", LOOP, CALL)
    )
    assert guarded.spec.approval == "predicate"
    assert guarded.asks_approval(proposal(f'{{"item": "pen", "amount": {amount}}}')) == (amount > 500, "")


@pytest.mark.parametrize("rule", [True, False])
def test_a_constant_rule_is_what_the_spec_says(rule: bool) -> None:
    ruled = order.with_approval(rule)
    assert ruled.spec.approval == ("always" if rule else "never")
    assert ruled.asks_approval(proposal()) == (rule, "")


async def never() -> bool:
    return False


@pytest.mark.parametrize(
    ("predicate", "reason"),
    [
        (lambda call: call.arguments["cost"] > 1, "KeyError: 'cost'"),
        (lambda call: call.arguments["\ud800"], "KeyError: '\\ud800'"),
        (lambda call: next(iter(())), "StopIteration"),
        (lambda call: 1 / 0, "ZeroDivisionError: division by zero"),
        (lambda call: None, "it returned NoneType, not a bool"),
        (lambda call: 0, "it returned int, not a bool"),
        (lambda call: "", "it returned str, not a bool"),
        (lambda call: never(), "it returned coroutine, not a bool"),
    ],
)
def test_a_predicate_that_does_not_say_false_never_lets_a_call_through(predicate: Any, reason: str) -> None:
    asked, remark = order.with_approval(predicate).asks_approval(proposal())
    assert asked is True
    assert remark == f"the approval predicate of order failed: {reason}"


def test_a_predicate_sees_plain_values_with_defaults_filled_in_and_cannot_replace_them() -> None:
    @tool
    def paint(point: Point, colour: Colour, at: dt.datetime, times: int = 2) -> None: ...

    text = '{"point": {"x": 1}, "colour": "red", "at": "2030-01-31T12:00:00Z"}'
    seen = paint.proposed(text, LOOP, CALL).arguments
    assert dict(seen) == {"point": {"x": 1, "y": 0.0}, "colour": "red", "at": "2030-01-31T12:00:00Z", "times": 2}
    with pytest.raises(TypeError):
        seen["times"] = 1  # type: ignore[index]


# Questions and sleeps ----------------------------------------------------------------------------------------------


async def test_a_tool_may_end_with_a_typed_question_or_a_time() -> None:
    @tool
    def confirm(item: str) -> Ask:
        return Ask(f"Buy {item}?", answer=Literal["yes", "no"])

    @tool
    async def tomorrow() -> SleepUntil:
        return SleepUntil(dt.datetime(2030, 1, 31, 14, tzinfo=dt.timezone(dt.timedelta(hours=2))))

    asked = await confirm.perform('{"item": "pen"}', CONTEXT)
    assert asked == Asked(question=Question(text="Buy pen?", answer={"enum": ["no", "yes"]}))
    assert await tomorrow.perform("", CONTEXT) == Sleeping(until=NOON)
    assert Ask("Why?").question().answer == {"type": "string"}


async def test_a_question_without_a_schema_and_a_time_without_a_timezone_are_failures() -> None:
    @tool
    def confirm() -> Ask:
        return Ask("Really?", answer=complex)

    @tool
    def sometime() -> SleepUntil:
        return SleepUntil(NOON.replace(tzinfo=None))

    asked, slept = await confirm.perform("", CONTEXT), await sometime.perform("", CONTEXT)
    assert isinstance(asked, Failed)
    assert "cannot be the type of an answer" in asked.error
    assert slept == Failed(error="BadTime: 2030-01-31T12:00:00 has no timezone.")


@pytest.mark.parametrize(
    "when", [NOON.replace(tzinfo=None), dt.datetime.max.replace(tzinfo=dt.timezone(-dt.timedelta(hours=1)))]
)
def test_a_time_that_is_no_moment_is_refused(when: dt.datetime) -> None:
    with pytest.raises(BadTime, match=r"timezone|calendar"):
        SleepUntil(when)


def test_ask_gives_the_model_a_question_whose_answer_has_a_schema() -> None:
    made = ask(Point, name="where", description="Ask where.", needs_approval=True)
    assert (made.spec.name, made.spec.description, made.spec.kind) == ("where", "Ask where.", "question")
    assert made.spec.approval == "always"
    question = made.question('{"question": "Where to?"}')
    assert question.text == "Where to?"
    assert question.answer == made.spec.answer
    jsonschema.validate({"x": 1}, question.answer)
    for bad in ("", '{"question": 5}', '{"question": ""}', "Where to?"):
        with pytest.raises(BadArguments):
            made.question(bad)


def test_sleep_until_reads_a_time_with_a_timezone_and_nothing_else() -> None:
    assert (sleep_until.name, sleep_until.spec.kind) == ("sleep_until", "sleep")
    assert sleep_until.wake_at('{"until": "2030-01-31T14:00:00+02:00"}') == NOON
    for bad in ("2030-01-31T12:00:00", "tomorrow", "0001-01-01T00:00:00+12:00"):
        with pytest.raises(BadArguments):
            sleep_until.wake_at(json.dumps({"until": bad}))
    assert sleep_until.with_approval(True).spec.approval == "always"


def test_only_a_question_is_read_as_one_and_only_a_sleep_as_a_time() -> None:
    ran: list[str] = []

    @tool
    def confirm() -> Ask:
        ran.append("confirm")
        return Ask("Really?")

    with pytest.raises(ToolError, match="of kind function, not question"):
        confirm.question("")

    @tool
    def pause() -> SleepUntil:
        ran.append("pause")
        return SleepUntil(NOON)

    with pytest.raises(ToolError, match="of kind function, not sleep"):
        pause.wake_at("")
    with pytest.raises(ToolError, match="of kind question, not sleep"):
        ask().wake_at('{"question": "?"}')
    assert not ran
