"""The scripted server of the demo, held to the API's shapes by the official client's own strict reading."""

from functools import partial
from typing import Any

import httpx2
import openai
import pytest
import trio
from openai.types.chat import ChatCompletionChunk

from caesura.adapters.demo._server import Script, serve_script
from caesura.adapters.openai import OpenAIModel
from caesura.continuations import Reply, Result, User
from caesura.runtime import ModelRequest

ANSWER = {
    "content": "Two things,  then:\nfirst one, then the other.",
    "tool_calls": [
        {"name": "order", "arguments": {"item": "lamp", "amount": 2}},
        {"name": "stop", "arguments": {}},
    ],
}


def always(asked: dict[str, Any]) -> dict[str, Any]:
    """A script of one answer."""
    return ANSWER


def echo(asked: dict[str, Any]) -> dict[str, Any]:
    """A script that says how many messages it was sent."""
    return {"content": str(len(asked.get("messages") or asked["input"]))}


async def replies(script: Script, *requests: ModelRequest, **how: Any) -> list[Reply]:
    """What a model behind that script replies."""
    async with trio.open_nursery() as nursery:
        base_url = await nursery.start(serve_script, script)
        async with OpenAIModel("scripted", base_url=base_url, api_key="none", max_retries=0, **how) as model:
            found = [await model.reply(request, lambda piece: None) for request in requests]
        nursery.cancel_scope.cancel()
    return found


def request(*said: str) -> ModelRequest:
    """A request of so many things said."""
    return ModelRequest(agent="a", instructions="", messages=tuple(User(content=text) for text in said))


@pytest.mark.parametrize("api", ["chat", "responses"])
async def test_both_apis_give_the_scripted_answer_streamed_or_not(api: str) -> None:
    streamed = await replies(always, request("Hello"), api=api, stream=True)
    whole = await replies(always, request("Hello"), api=api, stream=False)
    assert streamed == whole
    reply = whole[0]
    assert reply.message.content == ANSWER["content"]
    assert [(call.function.name, call.function.arguments) for call in reply.message.tool_calls] == [
        ("order", '{"item": "lamp", "amount": 2}'),
        ("stop", "{}"),
    ]
    assert (reply.stop, reply.model) == ("end", "scripted")
    assert reply.usage.input > 0
    assert reply.usage.output > 0


@pytest.mark.parametrize("api", ["chat", "responses"])
@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(("finish", "stop"), [("length", "length"), ("content_filter", "filter")])
async def test_a_scripted_finish_reason_is_carried_over(api: str, stream: bool, finish: str, stop: str) -> None:
    script = {"content": "Half a", "finish_reason": finish}
    [reply] = await replies(lambda asked: script, request("Hello"), api=api, stream=stream)
    assert (reply.message.content, reply.stop) == ("Half a", stop)


async def test_the_script_reads_the_whole_request() -> None:
    found = await replies(echo, request("a"), request("a", "b"), request("a", "b", "c"))
    assert [reply.message.content for reply in found] == ["1", "2", "3"]


async def test_ids_are_new_in_each_step_of_a_conversation_and_the_same_for_the_same_request() -> None:
    first = request("Hello")
    [reply, again] = await replies(always, first, first)
    results = tuple(Result(tool_call_id=call.id, content="done") for call in reply.message.tool_calls)
    grown = ModelRequest(agent="a", instructions="", messages=(*first.messages, reply.message, *results))
    [later] = await replies(always, grown)
    assert reply == again
    assert len({call.id for call in (*reply.message.tool_calls, *later.message.tool_calls)}) == 4


async def test_the_official_client_finds_every_shape_as_documented() -> None:
    async with trio.open_nursery() as nursery:
        base_url = await nursery.start(serve_script, always)
        async with httpx2.AsyncClient(trust_env=False) as http:
            client = openai.AsyncOpenAI(
                base_url=base_url, api_key="none", http_client=http, _strict_response_validation=True
            )
            messages: Any = [{"role": "user", "content": "Hello"}]
            completion = await client.chat.completions.create(model="m", messages=messages)
            response = await client.responses.create(model="m", input="Hello")
            assert completion.choices[0].message.content == response.output_text == ANSWER["content"]
            assert completion.usage is not None
            assert response.usage is not None
            for path, body in (("chat/completions", {"messages": messages}), ("responses", {"input": "Hello"})):
                lines = await http.post(f"{base_url}/{path}", json=body | {"model": "m", "stream": True})
                events = [line.removeprefix("data: ") for line in lines.text.split("\n") if line.startswith("data: {")]
                assert len(events) > 5
                for event in events:
                    _documented(path, event)
        nursery.cancel_scope.cancel()


def _documented(path: str, event: str) -> None:
    from openai.types.responses import ResponseStreamEvent
    from pydantic import TypeAdapter

    kind: Any = ChatCompletionChunk if path.startswith("chat") else ResponseStreamEvent
    TypeAdapter(kind).validate_json(event)


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "/nowhere", b"{}", 404),
        ("GET", "/chat/completions", b"", 405),
        ("POST", "/chat/completions", b"{", 400),
        ("POST", "/responses", b"[]", 400),
    ],
)
async def test_what_is_no_request_is_refused_in_the_apis_shape(
    method: str, path: str, body: bytes, status: int
) -> None:
    async with trio.open_nursery() as nursery:
        base_url = await nursery.start(serve_script, always)
        async with httpx2.AsyncClient(trust_env=False) as http:
            answer = await http.request(method, base_url + path, content=body)
            assert (answer.status_code, answer.json()["error"]["type"]) == (status, "invalid_request_error")
            working = await http.post(f"{base_url}/responses", json={"input": "Hello"})
            assert working.status_code == 200
        nursery.cancel_scope.cancel()


async def test_a_cancelled_server_closes_its_port_and_connections() -> None:
    async with trio.open_nursery() as nursery:
        base_url = await nursery.start(partial(serve_script, always, pace=3600.0))
        port = int(base_url.split(":")[2].partition("/")[0])
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        head = b"POST /v1/responses HTTP/1.1\r\nhost: x\r\ncontent-length: 16\r\n\r\n"
        await stream.send_all(head + b'{"stream": true}')
        assert await stream.receive_some()
        nursery.cancel_scope.cancel()
    async with stream:
        while await stream.receive_some():
            pass
    with pytest.raises(OSError, match="connect"):
        await trio.open_tcp_stream("127.0.0.1", port)


async def test_an_error_in_the_script_is_not_hidden() -> None:
    def broken(asked: dict[str, Any]) -> dict[str, Any]:
        raise LookupError("no such line")

    with pytest.raises(ExceptionGroup) as caught:
        await replies(broken, request("Hello"))
    assert caught.group_contains(LookupError, match="no such line")
