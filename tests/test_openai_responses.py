"""The Responses API through the real client, over real HTTP on loopback."""

from functools import partial
from typing import Any

import pytest
import trio

from caesura.adapters.openai import OpenAIModel
from caesura.continuations import (
    Assistant,
    CallerError,
    Function,
    Image,
    ImageUrl,
    Message,
    Result,
    Text,
    ToolRequest,
    ToolSpec,
    Usage,
    User,
)
from caesura.runtime import TooLong
from tests import serving as server
from tests.serving import HELLO, SOON, dropped, nobody, refusal, request, serving, sse, stalled, streamed, whole

ask = partial(server.ask, api="responses")
fails = partial(server.fails, api="responses")

USAGE = {
    "input_tokens": 100,
    "input_tokens_details": {"cached_tokens": 64},
    "output_tokens": 20,
    "output_tokens_details": {"reasoning_tokens": 12},
    "total_tokens": 120,
}
REASONING = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "gAAA", "status": "completed"}
SAID = {
    "type": "message",
    "id": "msg_1",
    "role": "assistant",
    "status": "completed",
    "phase": "final_answer",
    "content": [{"type": "output_text", "text": "Good day", "annotations": []}],
}


def called(item: str, call: str, name: str, arguments: str) -> dict[str, Any]:
    """A function call as the API gives it."""
    named = {"name": name, "arguments": arguments, "status": "completed"}
    return {"type": "function_call", "id": item, "call_id": call} | named


def response(*output: dict[str, Any], status: str = "completed", **more: Any) -> dict[str, Any]:
    """A response as the API gives it."""
    shape = {"id": "resp_1", "object": "response", "status": status, "model": "gpt-5-2026", "error": None}
    return shape | {"incomplete_details": None, "output": list(output), "usage": USAGE} | more


def delta(text: str, kind: str = "output_text") -> dict[str, Any]:
    """A piece of streamed text."""
    return {"type": f"response.{kind}.delta", "output_index": 1, "content_index": 0, "delta": text}


def ending(final: dict[str, Any]) -> dict[str, Any]:
    """The event that ends a stream."""
    return {"type": f"response.{final['status']}", "response": final}


BEGUN = {"type": "response.created", "response": response(status="in_progress")}
GOOD_DAY = sse(BEGUN, delta("Good "), delta("day"), ending(response(REASONING, SAID)), done=False)


async def sent_input(*messages: Message, **more: Any) -> list[dict[str, Any]]:
    """The input items that the server is sent for these messages."""
    _, _, served = await ask(streamed(GOOD_DAY), messages=messages, **more)
    items: list[dict[str, Any]] = served.bodies[0]["input"]
    return items


@pytest.mark.parametrize("stream", [True, False])
async def test_a_reply_carries_text_usage_the_models_name_and_its_items_whole(stream: bool) -> None:
    handler = streamed(GOOD_DAY) if stream else whole(response(REASONING, SAID))
    reply, heard, served = await ask(handler, stream=stream)
    assert reply.message == Assistant(content="Good day", native={"responses": [REASONING, SAID]})
    assert (reply.stop, reply.model) == ("end", "gpt-5-2026")
    assert reply.usage == Usage(input=100, output=20, cached=64, reasoning=12)
    assert heard == (["Good ", "day"] if stream else ["Good day"])
    assert served.requests[0].path == "/v1/responses"


async def test_nothing_is_stored_at_the_server_and_reasoning_is_asked_for_whole() -> None:
    tool = ToolSpec(name="order", description="Orders.", parameters={"type": "object", "properties": {"n": {}}})
    settings = {"max_output_tokens": 9, "include": ["message.output_text.logprobs"]}
    _, _, served = await ask(
        streamed(GOOD_DAY), about={"instructions": "Be brief.", "tools": (tool,)}, settings=settings
    )
    assert served.bodies[0] == {
        "model": "gpt-5",
        "input": [{"type": "message", "role": "user", "content": "Hello"}],
        "instructions": "Be brief.",
        "tools": [
            {
                "type": "function",
                "name": "order",
                "description": "Orders.",
                "parameters": {"type": "object", "properties": {"n": {}}},
                "strict": False,
            }
        ],
        "max_output_tokens": 9,
        "include": ["reasoning.encrypted_content", "message.output_text.logprobs"],
        "store": False,
        "stream": True,
    }


async def test_a_result_schema_joins_the_other_text_settings() -> None:
    schema = {"type": "object", "properties": {}, "required": [], "additionalProperties": False}
    _, _, served = await ask(streamed(GOOD_DAY), about={"result": schema}, settings={"text": {"verbosity": "low"}})
    form = {"type": "json_schema", "name": "clerk", "schema": schema, "strict": True}
    assert served.bodies[0]["text"] == {"format": form, "verbosity": "low"}


async def test_parallel_calls_are_read_in_order_with_arguments_to_the_letter() -> None:
    items = (REASONING, called("fc_1", "a", "order", '{"n":  1'), called("fc_2", "b", "stop", ""))
    reply, _, _ = await ask(streamed(sse(BEGUN, ending(response(*items)), done=False)))
    found = [(call.id, call.function.name, call.function.arguments) for call in reply.message.tool_calls]
    assert found == [("a", "order", '{"n":  1'), ("b", "stop", "")]
    assert (reply.message.content, reply.stop) == (None, "end")


async def test_items_come_from_the_stream_where_its_end_leaves_them_out() -> None:
    done = [
        {"type": "response.output_item.done", "output_index": place, "item": item}
        for place, item in ((1, SAID), (0, REASONING))
    ]
    reply, _, _ = await ask(streamed(sse(BEGUN, *done, ending(response()), done=False)))
    assert reply.message == Assistant(content="Good day", native={"responses": [REASONING, SAID]})


async def test_what_the_model_produced_goes_back_whole_under_the_messages_own_call_ids() -> None:
    doubled = (called("fc_1", "a", "order", "{}"), called("fc_2", "a", "order", '{"n": 2}'))
    function = Function(name="order", arguments="{}")
    sent = await sent_input(
        HELLO,
        Assistant(
            tool_calls=(ToolRequest(id="a", function=function), ToolRequest(id="a-2", function=function)),
            native={"responses": [REASONING, SAID, *doubled], "chat": {"reasoning_content": "Hm."}},
        ),
        Result(tool_call_id="a", content="done"),
        Result(tool_call_id="a-2", content="failed"),
    )
    assert sent[1:] == [
        {key: value for key, value in REASONING.items() if key != "status"},
        SAID,
        doubled[0],
        doubled[1] | {"call_id": "a-2"},
        {"type": "function_call_output", "call_id": "a", "output": "done"},
        {"type": "function_call_output", "call_id": "a-2", "output": "failed"},
    ]


async def test_a_message_of_another_api_is_converted() -> None:
    call = ToolRequest(id="a", function=Function(name="order", arguments="{not json"))
    image = Image(image_url=ImageUrl(url="https://example.com/a.png", detail="low"))
    sent = await sent_input(
        User(content=(Text(text="See"), image)),
        Assistant(content="Well", tool_calls=(call,), native={"chat": {"reasoning_content": "Hm."}}),
        Result(tool_call_id="a", content="done"),
        Assistant(refusal="No."),
    )
    assert sent == [
        {
            "type": "message",
            "role": "user",
            "content": [
                {"type": "input_text", "text": "See"},
                {"type": "input_image", "image_url": "https://example.com/a.png", "detail": "low"},
            ],
        },
        {"type": "message", "role": "assistant", "content": "Well"},
        {"type": "function_call", "call_id": "a", "name": "order", "arguments": "{not json"},
        {"type": "function_call_output", "call_id": "a", "output": "done"},
        {"type": "message", "role": "assistant", "content": "No."},
    ]


async def test_items_that_no_longer_tell_the_message_give_way_to_it() -> None:
    stale = {"responses": [REASONING, SAID, called("fc_1", "a", "order", '{"n":')]}
    assert (await sent_input(HELLO, Assistant(content="Good day", native=stale)))[1:] == [
        {"type": "message", "role": "assistant", "content": "Good day"}
    ]


async def test_reasoning_that_the_server_would_refuse_is_not_sent() -> None:
    bare: dict[str, Any] = {"type": "reasoning", "id": "rs_2", "summary": [], "encrypted_content": None}
    answered = Assistant(content="Good day", native={"responses": [bare, SAID]})
    cut_short = Assistant(native={"responses": [REASONING]})
    assert (await sent_input(HELLO, answered, HELLO, cut_short, HELLO))[1:] == [
        SAID,
        {"type": "message", "role": "user", "content": "Hello"},
        {"type": "message", "role": "user", "content": "Hello"},
    ]
    stored = await sent_input(HELLO, answered, settings={"store": True})
    assert [item.get("id") for item in stored[1:]] == ["rs_2", "msg_1"]


REFUSED = SAID | {"content": [{"type": "refusal", "refusal": "I will not."}]}


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    ("final", "stop", "message"),
    [
        (response(SAID, status="incomplete", incomplete_details={"reason": "max_output_tokens"}), "length", "Good day"),
        (response(SAID, status="incomplete", incomplete_details={"reason": "content_filter"}), "filter", "Good day"),
        (response(SAID, status="incomplete"), "length", "Good day"),
        (response(REFUSED), "refusal", None),
        (response(), "end", None),
    ],
)
async def test_why_a_reply_stopped_is_told_and_what_there_was_is_kept(
    stream: bool, final: dict[str, Any], stop: str, message: str | None
) -> None:
    handler = streamed(sse(BEGUN, ending(final), done=False)) if stream else whole(final)
    reply, _, _ = await ask(handler, stream=stream)
    assert (reply.stop, reply.message.content) == (stop, message)
    assert reply.message.refusal == ("I will not." if stop == "refusal" else None)


async def test_a_refusal_is_heard_as_it_streams() -> None:
    pieces = [delta(piece, "refusal") for piece in ("I will ", "not.")]
    _, heard, _ = await ask(streamed(sse(BEGUN, *pieces, ending(response(REFUSED)), done=False)))
    assert heard == ["I will ", "not."]


async def test_text_that_utf8_refuses_is_mended_everywhere() -> None:
    said = SAID | {"content": [{"type": "output_text", "text": "a\ud83d"}], "id": "\udead"}
    reply, _, _ = await ask(whole(response(said)), stream=False)
    assert reply.message.content == "a\N{REPLACEMENT CHARACTER}"
    assert reply.message.native["responses"][0]["id"] == "\N{REPLACEMENT CHARACTER}"


FAILED = response(status="failed", error={"code": "server_error", "message": "oops"})
BROKEN = {
    "dropped": dropped(sse(BEGUN, delta("Good "), done=False)),
    "ended early": streamed(sse(BEGUN, delta("Good "), done=False)),
    "failed": streamed(sse(BEGUN, ending(FAILED), done=False)),
    "failed, not streamed": whole(FAILED),
    "cancelled": whole(response(status="cancelled")),
    "error event": streamed(sse({"type": "error", "code": "server_error", "message": "oops"}, done=False)),
    "garbage": streamed(b"data: {nonsense\n\n"),
}


@pytest.mark.parametrize("fault", BROKEN.values(), ids=BROKEN.keys())
async def test_an_answer_that_breaks_off_is_asked_for_again(fault: Any) -> None:
    reply, heard, served = await ask(fault, streamed(GOOD_DAY))
    assert (reply.message.content, len(served.requests)) == ("Good day", 2)
    assert heard[-2:] == ["Good ", "day"]


@pytest.mark.parametrize("fault", BROKEN.values(), ids=BROKEN.keys())
async def test_an_answer_that_keeps_breaking_off_is_given_up(fault: Any) -> None:
    error, asked = await fails(fault, max_retries=1)
    assert asked == 2
    assert "(2 times)" in str(error)


@pytest.mark.parametrize(
    ("handler", "said"),
    [
        (whole(FAILED | {"error": {"code": "invalid_prompt", "message": "Bad prompt"}}), "Bad prompt"),
        (streamed(sse({"type": "error", "code": "context_length_exceeded", "message": "Long"}, done=False)), "Long"),
        (refusal(400, "No such item"), "No such item"),
        (refusal(401, "Who are you?"), "Who are you"),
    ],
)
async def test_a_refusal_is_told_at_once(handler: Any, said: str) -> None:
    error, asked = await fails(handler)
    assert asked == 1
    assert said in str(error)
    assert isinstance(error, TooLong) == (said == "Long")


async def test_a_rate_limit_is_waited_out() -> None:
    reply, _, served = await ask(refusal(429, "slow down", headers=SOON), streamed(GOOD_DAY))
    assert (reply.message.content, len(served.requests)) == ("Good day", 2)


async def test_cancelling_a_call_closes_its_connection() -> None:
    begun, hung_up = trio.Event(), trio.Event()
    body = sse(BEGUN, delta("Good "), done=False)
    async with (
        serving(stalled(body, begun.set, hung_up.set)) as served,
        server.model(served.base_url, api="responses") as asked,
    ):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(asked.reply, request(), nobody)
            await begun.wait()
            nursery.cancel_scope.cancel()
        with trio.fail_after(300):
            await hung_up.wait()


def test_settings_may_not_take_over_what_the_loop_decides() -> None:
    with pytest.raises(CallerError, match="previous_response_id"):
        OpenAIModel("gpt-5", api="responses", settings={"previous_response_id": "resp_1"})
