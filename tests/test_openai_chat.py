"""Chat Completions through the real client, over real HTTP on loopback."""

import json
import subprocess
import sys
from collections.abc import Callable
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
    ModelSpec,
    Result,
    Text,
    ToolRequest,
    ToolSpec,
    Usage,
    User,
)
from caesura.runtime import ModelUnavailable
from tests.serving import (
    GOOD_DAY,
    LAST,
    ask,
    chunk,
    completion,
    model,
    nobody,
    request,
    serving,
    sse,
    streamed,
    whole,
)

USAGE = Usage(input=100, output=20, cached=64, reasoning=12)


async def test_a_whole_reply_carries_text_usage_and_the_servers_name_of_the_model() -> None:
    reply, heard, served = await ask(whole(completion({"content": "Good day"})), stream=False)
    assert (reply.message, reply.stop) == (Assistant(content="Good day"), "end")
    assert (reply.usage, reply.model, heard) == (USAGE, "gpt-5-2026", ["Good day"])
    assert "stream" not in served.bodies[0]


async def test_a_streamed_reply_is_heard_in_pieces_and_is_the_same_in_the_end() -> None:
    reply, heard, served = await ask(streamed(GOOD_DAY))
    assert (reply.message, reply.stop) == (Assistant(content="Good day"), "end")
    assert (reply.usage, reply.model, heard) == (USAGE, "gpt-5-2026", ["Good ", "day"])
    assert served.bodies[0]["stream"] is True
    assert served.bodies[0]["stream_options"] == {"include_usage": True}


async def test_another_model_is_asked_at_the_same_server_with_its_own_settings_and_the_same_key() -> None:
    answer = whole(completion({"content": "Good day"}))
    async with serving(answer, answer) as served, model(served.base_url, stream=False, settings={"seed": 1}) as asked:
        other = asked.another(ModelSpec(name="gpt-9", settings={"temperature": 0}))
        assert other.spec == ModelSpec(name="gpt-9", api="chat", settings={"temperature": 0})
        await other.reply(request(), nobody)
        await asked.reply(request(), nobody)
        with pytest.raises(CallerError, match="no API"):
            asked.another(ModelSpec(name="gpt-9", api="telepathy"))
    named = [(body["model"], body.get("seed"), body.get("temperature")) for body in served.bodies]
    assert named == [("gpt-9", None, 0), ("gpt-5", 1, None)]
    assert len({sent.headers["authorization"] for sent in served.requests}) == 1


async def test_the_request_says_who_asks_what_with_which_tools_and_settings() -> None:
    tool = ToolSpec(name="order", description="Orders.", parameters={"type": "object", "properties": {"n": {}}})
    _, _, served = await ask(
        streamed(GOOD_DAY),
        about={"instructions": "Be brief.", "tools": (tool, ToolSpec(name="stop"))},
        settings={"temperature": 0.5, "top_k": 3},
    )
    sent = served.bodies[0]
    assert served.requests[0].headers["authorization"] == "Bearer sk-test"
    assert sent["messages"] == [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello"}]
    assert [part["function"] for part in sent["tools"]] == [
        {"name": "order", "description": "Orders.", "parameters": {"type": "object", "properties": {"n": {}}}},
        {"name": "stop", "description": "", "parameters": {"type": "object", "properties": {}}},
    ]
    assert (sent["model"], sent["temperature"], sent["top_k"]) == ("gpt-5", 0.5, 3)
    assert "response_format" not in sent


async def test_a_message_is_sent_as_it_is_stored_with_its_extras_and_without_other_apis_items() -> None:
    call = ToolRequest(id="a", function=Function(name="order", arguments="{not json"))
    image = Image(image_url=ImageUrl(url="https://example.com/a.png", detail="low"))
    _, _, served = await ask(
        streamed(GOOD_DAY),
        messages=(
            User(content=(Text(text="See"), image)),
            Assistant(
                tool_calls=(call,),
                native={
                    "chat": {"reasoning_content": "Hm.", "tool_calls": [{"extra_content": {"signature": "s"}}]},
                    "responses": [{"type": "reasoning"}],
                },
            ),
            Result(tool_call_id="a", content="done"),
            Assistant(refusal="No."),
        ),
    )
    function = {"name": "order", "arguments": "{not json"}
    assert served.bodies[0]["messages"] == [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "See"},
                {"type": "image_url", "image_url": {"url": "https://example.com/a.png", "detail": "low"}},
            ],
        },
        {
            "role": "assistant",
            "reasoning_content": "Hm.",
            "tool_calls": [{"type": "function", "id": "a", "function": function, "extra_content": {"signature": "s"}}],
        },
        {"role": "tool", "tool_call_id": "a", "content": "done"},
        {"role": "assistant", "refusal": "No.", "content": ""},
    ]


CLOSED = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"], "additionalProperties": False}


@pytest.mark.parametrize(
    ("schema", "strict"),
    [
        (CLOSED, True),
        (CLOSED | {"required": []}, False),
        ({key: CLOSED[key] for key in ("type", "properties", "required")}, False),
        (CLOSED | {"properties": {"n": {"type": "array", "items": CLOSED}}}, True),
        (CLOSED | {"properties": {"n": {"type": "array", "items": {"type": "object"}}}}, False),
        (CLOSED | {"properties": {"n": {"anyOf": [{"type": "null"}, CLOSED | {"required": []}]}}}, False),
        (CLOSED | {"$defs": {"m": {"type": ["object", "null"], "properties": {"k": {}}}}}, False),
        (CLOSED | {"properties": {"n": {"type": "integer", "default": 3}}}, False),
    ],
)
async def test_a_result_schema_is_strict_only_where_strict_mode_takes_it(schema: Any, strict: bool) -> None:
    _, _, served = await ask(streamed(GOOD_DAY), about={"result": schema})
    form = {"name": "clerk", "schema": schema, "strict": strict}
    assert served.bodies[0]["response_format"] == {"type": "json_schema", "json_schema": form}


async def test_a_result_that_is_no_object_and_a_format_in_the_settings_are_left_alone() -> None:
    _, _, served = await ask(streamed(GOOD_DAY), about={"result": {"type": "string"}})
    assert "response_format" not in served.bodies[0]
    _, _, served = await ask(
        streamed(GOOD_DAY), about={"result": CLOSED}, settings={"response_format": {"type": "json_object"}}
    )
    assert served.bodies[0]["response_format"] == {"type": "json_object"}


def fragment(index: int | None, arguments: str | None, name: str | None = None, call: str | None = None) -> Any:
    piece: dict[str, Any] = {"function": {"arguments": arguments} | ({"name": name} if name else {})}
    return piece | ({"index": index} if index is not None else {}) | ({"id": call} if call is not None else {})


TWO_CALLS = [("a", "order", '{"n": 1}'), ("b", "stop", "{}")]


@pytest.mark.parametrize(
    ("fragments", "calls"),
    [
        pytest.param(
            [
                [fragment(0, "", "order", "a")],
                [fragment(1, "{", "stop", "b"), fragment(0, '{"n"')],
                [fragment(0, ": 1}"), fragment(1, "}")],
            ],
            TWO_CALLS,
            id="interleaved",
        ),
        pytest.param(
            [[fragment(None, '{"n": 1}', "order", "a"), fragment(None, "{}", "stop", "b")]], TWO_CALLS, id="no index"
        ),
        pytest.param(
            [[fragment(None, '{"n"', "order", "a")], [fragment(None, ": 1}")], [fragment(None, "{}", "stop", "b")]],
            TWO_CALLS,
            id="no index, in pieces",
        ),
        pytest.param(
            [[fragment(0, '{"n": 1}', "order", "a")], [fragment(0, "{}", "stop", "b")]], TWO_CALLS, id="one index"
        ),
        pytest.param(
            [[fragment(0, '{"n": 1}', "order"), fragment(0, "{}", "stop")]],
            [("", "order", '{"n": 1}'), ("", "stop", "{}")],
            id="one index, no ids",
        ),
        pytest.param(
            [
                [fragment(0, '{"n"', "order", "a")],
                [fragment(0, ": 1}", "order", "a")],
                [fragment(1, "{}", "stop", "b")],
            ],
            TWO_CALLS,
            id="name and id repeated",
        ),
        pytest.param(
            [[fragment(0, "{}", "order", "a"), fragment(1, None, "stop", "a")]],
            [("a", "order", "{}"), ("a", "stop", "")],
            id="same id, null arguments",
        ),
    ],
)
async def test_streamed_calls_are_put_together_however_the_server_cuts_them(fragments: Any, calls: Any) -> None:
    chunks = [chunk({"content": None, "tool_calls": piece}) for piece in fragments]
    reply, heard, _ = await ask(streamed(sse(chunk({"role": "assistant"}), *chunks, chunk({}, "tool_calls"), LAST)))
    assert [(call.id, call.function.name, call.function.arguments) for call in reply.message.tool_calls] == calls
    assert (reply.message.content, reply.stop, heard) == (None, "end", [])


async def test_calls_of_a_whole_reply_keep_their_arguments_to_the_letter() -> None:
    letter = '{"n":1,  "n": 2'
    calls = [
        {"id": "a", "type": "function", "function": {"name": "order", "arguments": letter}},
        {"type": "function", "function": {"name": "stop", "arguments": None}},
    ]
    reply, _, _ = await ask(whole(completion({"content": None, "tool_calls": calls}, "tool_calls")), stream=False)
    found = [(call.id, call.function.name, call.function.arguments) for call in reply.message.tool_calls]
    assert found == [("a", "order", letter), ("", "stop", "")]


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    ("message", "finish", "stop"),
    [
        ({"content": "Good d"}, "length", "length"),
        ({"content": "Good d"}, "content_filter", "filter"),
        ({"content": None, "refusal": "I will not."}, "stop", "refusal"),
        ({"content": ""}, "stop", "end"),
        ({}, "stop", "end"),
    ],
)
async def test_why_a_reply_stopped_is_told_and_what_there_was_is_kept(
    stream: bool, message: dict[str, Any], finish: str, stop: str
) -> None:
    handler = streamed(sse(chunk(message), chunk({}, finish))) if stream else whole(completion(message, finish))
    reply, heard, _ = await ask(handler, stream=stream)
    assert reply.stop == stop
    assert reply.message == Assistant(content=message.get("content"), refusal=message.get("refusal"))
    assert "".join(heard) == (message.get("content") or message.get("refusal") or "")


async def test_extras_of_a_reply_are_kept_whole_for_the_next_request() -> None:
    detail = {"type": "reasoning.text", "format": "v1", "index": 0}
    call = {"index": 0, "id": "a", "function": {"name": "f", "arguments": ""}, "extra_content": {"signature": "s"}}
    body = sse(
        chunk({"role": "assistant", "reasoning_content": "So ", "reasoning_details": [detail | {"text": "So "}]}),
        chunk({"reasoning_content": "be it.", "reasoning_details": [detail | {"text": "be it.", "signature": "x"}]}),
        chunk({"annotations": [], "tool_calls": [call]}, "tool_calls"),
    )
    reply, _, _ = await ask(streamed(body))
    assert reply.message.native == {
        "chat": {
            "reasoning_content": "So be it.",
            "reasoning_details": [detail | {"text": "So be it.", "signature": "x"}],
            "tool_calls": [{"extra_content": {"signature": "s"}}],
        }
    }
    whole_message: dict[str, Any] = {"content": "x", "reasoning_content": "So be it.", "annotations": [], "audio": None}
    reply, _, _ = await ask(whole(completion(whole_message)), stream=False)
    assert reply.message.native == {"chat": {"reasoning_content": "So be it."}}


async def test_text_that_utf8_refuses_is_mended_everywhere() -> None:
    body = sse(
        b'{"choices": [{"delta": {"content": "\\ud83d", "reasoning": "\\udead"}}]}',
        b'{"choices": [{"delta": {"content": "\\ude00 \\ud83d"}, "finish_reason": "stop"}]}',
    )
    reply, _, _ = await ask(streamed(body))
    assert reply.message.content == "\N{GRINNING FACE} \N{REPLACEMENT CHARACTER}"
    assert reply.message.native == {"chat": {"reasoning": "\N{REPLACEMENT CHARACTER}"}}


@pytest.mark.parametrize(
    "handler",
    [
        streamed(sse(chunk({"content": "Good "}), b'{"choices": []}', chunk({"content": "day"}, "stop"), done=False)),
        streamed(GOOD_DAY.replace(b"\n", b"\r\n"), piece=1),
        streamed(b": ping\n\nevent: x\nid: 7\n" + GOOD_DAY, content_type="text/plain"),
        whole(completion({"content": "Good day"})),
    ],
    ids=["no end mark, no usage", "CRLF", "comments, wrong type", "not streamed after all"],
)
async def test_servers_that_stream_in_their_own_way_are_understood(handler: Any) -> None:
    reply, heard, served = await ask(handler)
    assert (reply.message.content, reply.stop, "".join(heard)) == ("Good day", "end", "Good day")
    assert len(served.requests) == 1


def test_a_model_serves_one_event_loop_after_another() -> None:
    asked = OpenAIModel("gpt-5", api_key="sk-test")

    async def once() -> str | None:
        async with serving(streamed(GOOD_DAY)) as served, asked:
            asked._base_url = served.base_url
            first = await asked.reply(request(), nobody)
            await asked.aclose()
            second = await asked.reply(request(), nobody)
            assert first == second
            return second.message.content

    assert [trio.run(once), trio.run(once)] == ["Good day", "Good day"]


async def test_calls_one_after_another_share_a_connection() -> None:
    async with serving(streamed(GOOD_DAY)) as served, model(served.base_url) as asked:
        for _ in range(3):
            await asked.reply(request(), nobody)
    assert (len(served.requests), len(served.peers)) == (3, 1)


async def test_key_and_address_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(streamed(GOOD_DAY)) as served:
        monkeypatch.setenv("OPENAI_API_KEY", "sk-env")
        monkeypatch.setenv("OPENAI_BASE_URL", served.base_url)
        monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
        async with OpenAIModel("gpt-5") as asked:
            await asked.reply(request(), nobody)
    assert served.requests[0].headers["authorization"] == "Bearer sk-env"


async def test_a_missing_key_is_told_before_anything_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    asked = OpenAIModel("gpt-5")
    with pytest.raises(CallerError, match="no key") as caught:
        asked.check()
    assert "OPENAI_API_KEY" in caught.value.hint
    with pytest.raises(ModelUnavailable, match="no key"):
        await asked.reply(request(), nobody)


@pytest.mark.parametrize(
    "define",
    [
        lambda: OpenAIModel("m", api="telegraph"),  # type: ignore[arg-type]  # what a caller may do all the same
        lambda: OpenAIModel("m", settings={"messages": []}),
        lambda: OpenAIModel("m", settings={"temperature": object()}),
        lambda: OpenAIModel("m", settings={"temperature": float("nan")}),
        lambda: OpenAIModel("m", api_key="k", base_url="example.com/v1").check(),
    ],
)
def test_a_definition_that_cannot_work_is_refused(define: Callable[[], object]) -> None:
    with pytest.raises(CallerError):
        define()


def test_the_spec_holds_name_api_and_settings_and_no_secret() -> None:
    spec = OpenAIModel("gpt-5", settings={"seed": 1}, api_key="sk-secret", base_url="https://me:pw@example.com").spec
    assert (spec.name, spec.api, spec.settings) == ("gpt-5", "chat", {"seed": 1})
    assert "secret" not in repr(spec)
    assert "pw" not in repr(spec)


def test_the_client_is_imported_only_when_a_model_is_called() -> None:
    program = (
        "import json, sys; from caesura.adapters.openai import OpenAIModel; OpenAIModel('m', api_key='k').check(); "
        "print(json.dumps([name for name in ('openai', 'httpx2') if name in sys.modules]))"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, text=True)
    assert json.loads(run.stdout) == []
