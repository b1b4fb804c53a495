"""What goes wrong between a model and its server, as real faults on loopback: waited out, asked again, or told."""

from typing import Any

import pytest
import trio

from caesura.continuations import Assistant
from caesura.runtime import ModelUnavailable, TooLong
from tests.serving import (
    GOOD_DAY,
    SOON,
    ask,
    babble,
    chunk,
    closed,
    dropped,
    fails,
    model,
    nobody,
    page,
    refusal,
    request,
    serving,
    sse,
    stalled,
    streamed,
    whole,
)


@pytest.mark.parametrize(
    "fault",
    [
        refusal(429, "slow down", headers=SOON),
        refusal(500, "oops", headers=SOON),
        refusal(503, "busy", headers={"retry-after": "0.001"}),
        page(502, b"<html><title>Bad gateway</title></html>", headers=SOON),
    ],
    ids=["429", "500", "503", "502"],
)
async def test_a_failure_that_passes_is_waited_out_as_the_server_asks(fault: Any) -> None:
    reply, _, served = await ask(fault, fault, streamed(GOOD_DAY))
    assert (reply.message.content, len(served.requests)) == ("Good day", 3)


async def test_a_connection_closed_before_the_answer_is_tried_again() -> None:
    reply, _, served = await ask(closed, streamed(GOOD_DAY), max_retries=1)
    assert (reply.message.content, len(served.requests)) == ("Good day", 2)


BROKEN = {
    "dropped": dropped(sse(chunk({"content": "Good "}), done=False)),
    "ended early": streamed(sse(chunk({"content": "Good "}), done=False)),
    "ended early, announced": streamed(sse(chunk({"content": "Good "}))),
    "empty": streamed(b""),
    "garbage": streamed(b"data: {nonsense\n\n"),
    "not an object": streamed(b"data: [1]\n\n"),
    "not UTF-8": streamed(b"data: \xff\n\n"),
    "error event": streamed(sse(chunk({"content": "Good "}), {"error": {"message": "overloaded", "code": 502}})),
    "error as finish": streamed(sse(chunk({"content": "Good "}, "error"))),
    "body not JSON": whole(b'{"choices": ['),
    "no message": whole({"choices": []}),
}


@pytest.mark.parametrize("fault", BROKEN.values(), ids=BROKEN.keys())
async def test_an_answer_that_breaks_off_is_asked_for_again(fault: Any) -> None:
    reply, heard, served = await ask(fault, streamed(GOOD_DAY))
    assert (reply.message, len(served.requests)) == (Assistant(content="Good day"), 2)
    assert heard[-2:] == ["Good ", "day"]


@pytest.mark.parametrize("fault", BROKEN.values(), ids=BROKEN.keys())
async def test_an_answer_that_keeps_breaking_off_is_given_up(fault: Any) -> None:
    error, asked = await fails(fault)
    assert asked == 4
    assert "(4 times)" in str(error)


@pytest.mark.parametrize(
    ("handler", "said", "advice"),
    [
        (
            refusal(401, "Incorrect API key provided: sk-test"),
            "401: Incorrect API key provided: [key]",
            "OPENAI_API_KEY",
        ),
        (refusal(403, "Not in your region"), "403: Not in your region", "permissions"),
        (refusal(404, "The model `x` does not exist"), "404: The model `x` does not exist", "model's name"),
        (refusal(400, "Too many tokens", "context_length_exceeded"), "400: Too many tokens", "too long"),
        (refusal(400, "Bad schema"), "400: Bad schema", "schemas"),
        (refusal(429, "Wait", headers={"retry-after": "3600"}), "429: Wait (it asks to wait 3600 s)", "after 3600 s"),
        (whole({"detail": "No route"}, 404), "404: No route", "base URL"),
        (page(403, b"<html><title>Blocked\nby proxy</title>"), "titled “Blocked by proxy”", "permissions"),
        (page(200, b"<!doctype html><p>Log in"), "web page", "/v1"),
        (
            streamed(sse({"error": {"message": "Bad", "type": "invalid_request_error"}})),
            "refused the request: Bad",
            "set",
        ),
        (whole({"error": {"message": "Gone", "code": 404}}), "refused the request: Gone", "name"),
    ],
)
async def test_a_refusal_is_told_at_once_with_what_to_do(handler: Any, said: str, advice: str) -> None:
    error, asked = await fails(handler)
    assert said in str(error)
    assert advice in error.hint
    assert isinstance(error, TooLong) == (advice == "too long")
    assert asked == 1


async def test_failures_that_stay_are_told_after_the_retries() -> None:
    error, asked = await fails(page(502, b"<html>" + b"x" * 10_000, headers=SOON), max_retries=2)
    assert str(error).endswith("answered 502: an HTML page (it asks to wait 1 ms)")
    assert asked == 3
    error, asked = await fails(refusal(429, "Pay up", "insufficient_quota", headers=SOON), max_retries=1)
    assert "billing" in error.hint
    assert asked == 2


@pytest.mark.parametrize("handler", [closed, babble], ids=["closed", "not HTTP"])
async def test_a_server_that_does_not_answer_cannot_be_reached(handler: Any) -> None:
    error, asked = await fails(handler, max_retries=0)
    assert "cannot be reached" in str(error)
    assert asked == 1


async def test_a_refused_connection_names_the_address() -> None:
    async with serving(closed) as served:
        gone = served.base_url
    async with model(gone, max_retries=0) as asked:
        with pytest.raises(ModelUnavailable, match="cannot be reached") as caught:
            await asked.reply(request(), nobody)
    assert gone in str(caught.value)
    assert "base URL" in caught.value.hint


async def test_silence_is_a_failure_after_the_timeout() -> None:
    error, _ = await fails(stalled(b"", lambda: None, lambda: None), timeout=0.05, max_retries=0)
    assert "broke off" in str(error)


@pytest.mark.parametrize("body", [b"", sse(chunk({"content": "Good "}), done=False)], ids=["silent", "mid-stream"])
async def test_cancelling_a_call_closes_its_connection_and_the_next_call_works(body: bytes) -> None:
    begun, hung_up = trio.Event(), trio.Event()
    handlers = (stalled(body, begun.set, hung_up.set), streamed(GOOD_DAY))
    async with serving(*handlers) as served, model(served.base_url) as asked:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(asked.reply, request(), nobody)
            await begun.wait()
            nursery.cancel_scope.cancel()
        with trio.fail_after(300):
            await hung_up.wait()
        assert (await asked.reply(request(), nobody)).message.content == "Good day"


async def test_an_error_of_the_listener_passes_and_is_not_taken_for_the_servers() -> None:
    def deaf(piece: str) -> None:
        raise BrokenPipeError("nobody reads")

    async with serving(streamed(GOOD_DAY)) as served, model(served.base_url) as asked:
        with pytest.raises(BrokenPipeError, match="nobody reads"):
            await asked.reply(request(), deaf)
    assert len(served.requests) == 1
