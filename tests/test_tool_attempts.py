"""Attempts at a tool: each ends in one outcome, whatever the function does; and retries."""

import enum
import functools
import threading
from collections.abc import Callable
from typing import Any, Literal

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from caesura.runtime._attempts import Failed, Returned
from caesura.runtime._context import ToolContext
from caesura.runtime._retry import Retry
from caesura.runtime._tools import ToolTimeout, tool
from tests.arguments import NOON, Box, Colour, Point, context


class Absent:
    pass


# Attempts ----------------------------------------------------------------------------------------------------------


class Grade(str, enum.Enum):  # noqa: UP042 - the older spelling is the one whose text is not its value
    GOOD = "good"


@pytest.mark.parametrize(
    ("value", "content"),
    [
        ("text", "text"),
        ("", ""),
        (None, "Done."),
        (5, "5"),
        (True, "true"),
        ({"a": [1, 2.5, None]}, '{"a":[1,2.5,null]}'),
        (Point(1, 2.0), '{"x":1,"y":2.0}'),
        (Box(Point(1), ["é"]), '{"corner":{"x":1,"y":0.0},"tags":["é"]}'),
        (Grade.GOOD, "good"),
        (Colour.RED, '"red"'),
        (NOON, '"2030-01-31T12:00:00Z"'),
        ("a\ud800", "a\N{REPLACEMENT CHARACTER}"),
        (["a\ud800", 2**70], '["a\N{REPLACEMENT CHARACTER}",1180591620717411303424]'),
    ],
)
async def test_a_return_value_becomes_the_text_that_the_model_reads(value: Any, content: str) -> None:
    async def give() -> Any:
        return value

    outcome = await tool(give).perform("{}", context())
    assert outcome == Returned(content=content)
    assert isinstance(outcome, Returned)
    assert type(outcome.content) is str


@pytest.mark.parametrize("value", [b"bytes", bytearray(b"bytes"), object(), [Absent()], lambda: 1, Point])
async def test_a_return_value_that_has_no_text_is_a_failure_that_says_the_tool_ran(value: Any) -> None:
    async def give() -> Any:
        return value

    made = tool(give, retry=Retry(on=(Exception,)))
    outcome = await made.perform("{}", context())
    assert isinstance(outcome, Failed)
    assert outcome.error.startswith(
        f"give: it ran, but returned a value of type {type(value).__qualname__} that cannot"
    )
    assert outcome.retry_in is None, "its effect has happened"


@pytest.mark.parametrize("value", ["x" * (16 * 2**20 + 1), ["x" * 16 * 2**20]])
async def test_a_result_that_no_commit_could_hold_is_a_failure_that_says_so(value: Any) -> None:
    async def give() -> Any:
        return value

    outcome = await tool(give, retry=Retry(on=(Exception,))).perform("{}", context())
    assert isinstance(outcome, Failed)
    assert "a result can have 16,777,216" in outcome.error
    assert outcome.retry_in is None, "its effect has happened"


async def test_a_plain_function_runs_in_a_thread_and_an_async_one_in_place() -> None:
    threads: list[threading.Thread] = []

    @tool
    def plain() -> None:
        threads.append(threading.current_thread())

    @tool
    async def in_place() -> None:
        await trio.lowlevel.checkpoint()
        threads.append(threading.current_thread())

    limiter = trio.CapacityLimiter(1)
    assert await plain.perform("", context(), limiter=limiter) == Returned(content="Done.")
    assert await in_place.perform("", context(), limiter=limiter) == Returned(content="Done.")
    assert threads[0] is not threading.current_thread()
    assert threads[1] is threading.current_thread()


async def test_a_plain_function_that_wraps_an_async_one_is_awaited() -> None:
    async def later(item: str) -> str:
        await trio.lowlevel.checkpoint()
        return item

    @functools.wraps(later)
    def wrapper(item: str) -> Any:
        return later(item)

    assert await tool(wrapper).perform('{"item": "pen"}', context()) == Returned(content="pen")


async def test_progress_is_reported_from_the_loop_and_from_a_thread() -> None:
    heard: list[str] = []

    @tool
    def plain(context: ToolContext) -> str:
        context.progress("half\ud800")
        return context.idempotency_key

    @tool
    async def in_place(context: ToolContext) -> str:
        context.progress("most")
        return context.loop

    assert await plain.perform("", context(report=heard.append)) == Returned(content="k")
    assert await in_place.perform("", context(report=heard.append)) == Returned(content="release")
    assert heard == ["half\N{REPLACEMENT CHARACTER}", "most"]


class Speechless(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ValueError("no pens"), "ValueError: no pens"),
        (ValueError(), "ValueError"),
        (Speechless(), "Speechless"),
        (OSError("a\ud800"), "OSError: a\N{REPLACEMENT CHARACTER}"),
        (ExceptionGroup("x", [ValueError("a"), ExceptionGroup("y", [KeyError("b")])]), "ValueError: a; KeyError: 'b'"),
    ],
)
@pytest.mark.parametrize("in_thread", [False, True])
async def test_what_a_tool_raises_is_a_failure_and_not_an_exception(
    error: Exception, text: str, in_thread: bool
) -> None:
    def plain() -> None:
        raise error

    async def in_place() -> None:
        raise error

    made = tool(plain) if in_thread else tool(in_place)
    assert await made.perform("", context()) == Failed(error=text)


async def test_an_interrupt_passes() -> None:
    async def leave() -> None:
        raise KeyboardInterrupt

    async def leave_in_a_group() -> None:
        raise BaseExceptionGroup("", [KeyboardInterrupt(), ValueError()])

    with pytest.raises(KeyboardInterrupt):
        await tool(leave).perform("", context())
    with pytest.RaisesGroup(KeyboardInterrupt):
        await tool(leave_in_a_group).perform("", context())


@pytest.mark.parametrize("plain", [True, False])
async def test_a_tool_that_asks_the_process_to_exit_has_failed(plain: bool) -> None:
    def leave() -> None:
        raise SystemExit(3)

    async def leave_too() -> None:
        raise SystemExit(3)

    made = tool(leave) if plain else tool(leave_too)
    assert await made.perform("", context()) == Failed(error="SystemExit: 3")


async def test_an_error_in_a_tools_own_nursery_is_a_failure() -> None:
    async def fail() -> None:
        raise ConnectionError("gone")

    @tool(retry=Retry(on=(ConnectionError,), jitter=0))
    async def spread() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(fail)
            nursery.start_soon(trio.sleep_forever)

    assert await spread.perform("", context()) == Failed(error="ConnectionError: gone", retry_in=1.0)


@pytest.mark.parametrize("shape", ["bare", "nursery", "noisy", "thread"])
async def test_cancellation_passes_and_leaves_no_outcome(shape: str, autojump_clock: MockClock) -> None:
    release = threading.Event()

    async def bare() -> None:
        await trio.sleep_forever()

    async def nursery() -> None:
        async with trio.open_nursery() as inner:
            inner.start_soon(trio.sleep_forever)
            inner.start_soon(trio.sleep_forever)

    async def complain() -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise ValueError("while leaving")

    async def noisy() -> None:
        async with trio.open_nursery() as inner:
            inner.start_soon(complain)
            inner.start_soon(trio.sleep_forever)

    def thread() -> None:
        release.wait(300)

    shapes: dict[str, Callable[[], Any]] = {"bare": bare, "nursery": nursery, "noisy": noisy, "thread": thread}
    outcome = None
    with trio.move_on_after(1) as scope:
        outcome = await tool(shapes[shape]).perform("", context())
    release.set()
    assert scope.cancelled_caught
    assert outcome is None


async def test_a_timeout_ends_an_async_attempt_on_time_and_says_the_effect_may_have_happened(
    autojump_clock: MockClock,
) -> None:
    @tool(timeout=30)
    async def slow(seconds: float) -> str:
        await trio.sleep(seconds)
        return "in time"

    began = trio.current_time()
    assert await slow.perform('{"seconds": 29}', context()) == Returned(content="in time")
    assert trio.current_time() - began == pytest.approx(29)
    outcome = await slow.perform('{"seconds": 31}', context())
    assert trio.current_time() - began == pytest.approx(59)
    assert outcome == Failed(
        error="ToolTimeout: slow took longer than 30 seconds and was given up; its effect may have happened."
    )


async def test_a_plain_function_that_times_out_is_abandoned(autojump_clock: MockClock) -> None:
    release, ended = threading.Event(), threading.Event()

    @tool(timeout=30)
    def slow() -> str:
        release.wait(300)
        ended.set()
        return "too late"

    outcome = await slow.perform("", context())
    assert not ended.is_set()
    release.set()
    assert isinstance(outcome, Failed)
    assert "slow took longer than 30 seconds" in outcome.error
    assert await trio.to_thread.run_sync(ended.wait, 300), "the thread itself goes on to its end"


async def test_waiting_for_a_thread_does_not_count_as_time_of_the_attempt(autojump_clock: MockClock) -> None:
    @tool(timeout=5)
    def quick() -> str:
        return "ran"

    limiter = trio.CapacityLimiter(1)
    outcomes = []

    async def perform() -> None:
        outcomes.append(await quick.perform("", context(), limiter=limiter))

    async with trio.open_nursery() as nursery:
        async with limiter:
            nursery.start_soon(perform)
            await trio.sleep(60)
        autojump_clock.autojump_threshold = float("inf")  # a thread's work is no idleness
    assert outcomes == [Returned(content="ran")]


# Retries -----------------------------------------------------------------------------------------------------------


async def test_a_covered_error_is_tried_again_until_the_attempts_are_used_up() -> None:
    @tool(retry=Retry(on=(ConnectionError,), attempts=3, first=2.0, factor=3.0, jitter=0.5))
    async def flaky(error: Literal["covered", "other"]) -> None:
        raise ConnectionResetError("reset") if error == "covered" else ValueError("no")

    async def retry_in(text: str, attempt: int) -> float | None:
        outcome = await flaky.perform(text, context(attempt), random=lambda: 0.5)
        assert isinstance(outcome, Failed)
        return outcome.retry_in

    covered, other = '{"error": "covered"}', '{"error": "other"}'
    assert [await retry_in(covered, attempt) for attempt in (1, 2, 3, 4)] == [1.5, 4.5, None, None]
    assert await retry_in(other, 1) is None
    assert await retry_in('{"error": "?"}', 1) is None, "arguments do not mend themselves"


@pytest.mark.parametrize(("kind", "again"), [(ToolTimeout, True), (TimeoutError, True), (ConnectionError, False)])
async def test_a_timeout_is_an_error_that_a_retry_can_name(
    kind: type[Exception], again: bool, autojump_clock: MockClock
) -> None:
    @tool(timeout=1, retry=Retry(on=(kind,)))
    async def slow() -> None:
        await trio.sleep_forever()

    outcome = await slow.perform("", context())
    assert isinstance(outcome, Failed)
    assert (outcome.retry_in is not None) is again


RETRIES = st.builds(
    Retry,
    on=st.just((ValueError,)),
    attempts=st.integers(1, 9),
    first=st.floats(0, 10),
    factor=st.floats(1, 1e6),
    most=st.floats(10, 1e6),
    jitter=st.floats(0, 1),
)


@given(RETRIES, st.integers(1, 10_000), st.floats(0, 1, exclude_max=True))
def test_a_delay_is_within_its_bounds_and_grows_up_to_the_cap(retry: Retry, attempt: int, drawn: float) -> None:
    delay = retry.delay(attempt, drawn)
    longest = retry.delay(attempt, 0.0)
    assert longest * (1 - retry.jitter) <= delay <= longest <= retry.most
    assert retry.delay(1, 0.0) == retry.first
    assert delay <= retry.delay(attempt + 1, drawn)


@given(RETRIES, st.integers(1, 20))
def test_a_retry_applies_to_what_it_names_while_attempts_are_left(retry: Retry, attempt: int) -> None:
    left = attempt < retry.attempts
    assert retry.applies(UnicodeError(), attempt) is left, "a kind of ValueError"
    assert retry.applies(ExceptionGroup("", [ValueError(), ValueError()]), attempt) is left
    assert not retry.applies(ExceptionGroup("", [ValueError(), KeyError()]), attempt)
    assert not retry.applies(KeyError(), attempt)
