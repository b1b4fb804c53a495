"""A scripted model behind a real HTTP server, so that the demo runs the same code as a model far away.

Answers ``POST /v1/chat/completions`` and ``POST /v1/responses``, streamed and not, in the shapes of
https://platform.openai.com/docs/api-reference.
"""

import hashlib
import json
import re
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import trio

from ._http import Answer, HttpRequest, serve_http

Script = Callable[[dict[str, Any]], dict[str, Any]]
"""From a request's JSON to the assistant's answer: ``content`` (text or None), ``tool_calls`` (each with ``name`` and
``arguments``, a dict), and ``finish_reason`` where the usual one will not do."""

_CREATED = 1_700_000_000
_BYTES_A_TOKEN = 4


async def serve_script(
    script: Script, *, pace: float = 0.0, task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED
) -> None:
    """Serve a script on a free port of 127.0.0.1 until cancelled.

    Start it with ``base_url = await nursery.start(serve_script, script)``; the value is what `OpenAIModel` takes as
    its base URL. `pace` is the seconds between streamed pieces. What the script raises ends the server.
    """
    async with trio.open_nursery() as nursery:
        address = await nursery.start(serve_http, partial(_handle, script, pace))
        task_status.started(f"{address}/v1")


async def _handle(script: Script, pace: float, request: HttpRequest, answer: Answer) -> None:
    shapes = {"/v1/chat/completions": (_completion, _chunks), "/v1/responses": (_response, _events)}
    if request.path not in shapes:
        return await _refuse(answer, 404, f"There is nothing at {request.path}")
    if request.method != "POST":
        return await _refuse(answer, 405, f"{request.path} takes POST only")
    try:
        asked = json.loads(request.body)
    except ValueError:
        asked = None
    if not isinstance(asked, dict):
        return await _refuse(answer, 400, "The request's body is not a JSON object")
    whole, pieces = shapes[request.path]
    scripted = script(asked)
    if asked.get("stream") is not True:
        return await answer.whole(200, "application/json", _json(whole(scripted, asked)))
    await answer.start(200, {"content-type": "text/event-stream", "cache-control": "no-cache"})
    for piece in pieces(scripted, asked):
        named = f"event: {piece['type']}\n".encode() if "type" in piece else b""
        await answer.write(named + b"data: " + _json(piece) + b"\n\n")
        await trio.sleep(pace)
    if pieces is _chunks:
        await answer.write(b"data: [DONE]\n\n")
    return await answer.finish()


async def _refuse(answer: Answer, status: int, message: str) -> None:
    error = {"message": message, "type": "invalid_request_error", "param": None, "code": None}
    await answer.whole(status, "application/json", _json({"error": error}))


def _json(value: dict[str, Any]) -> bytes:
    return json.dumps(value).encode()


def _identity(asked: dict[str, Any], salt: str) -> str:
    """An id that is the same for the same request and, as conversations only grow, new for each next one."""
    said = {key: value for key, value in asked.items() if not key.startswith("stream")}
    return hashlib.sha256(salt.encode() + _json(said)).hexdigest()[:24]


def _calls(scripted: dict[str, Any], asked: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Id, name and arguments of each call."""
    return [
        (f"call_{_identity(asked, str(place))}", call["name"], json.dumps(call["arguments"]))
        for place, call in enumerate(scripted.get("tool_calls") or ())
    ]


def _tokens(*texts: str) -> int:
    return sum(-(-len(text.encode()) // _BYTES_A_TOKEN) for text in texts)


def _spent(scripted: dict[str, Any], asked: dict[str, Any]) -> tuple[int, int]:
    """Tokens in and out, estimated by length."""
    said = json.dumps([asked.get(key) for key in ("instructions", "messages", "input", "tools")])
    spoken = [name + arguments for _, name, arguments in _calls(scripted, asked)]
    return _tokens(said), max(1, _tokens(scripted.get("content") or "", *spoken))


def _words(text: str) -> list[str]:
    return re.findall(r"\s*\S+\s*$|\s*\S+", text) or ([text] if text else [])


def _finish(scripted: dict[str, Any]) -> str:
    usual = "tool_calls" if scripted.get("tool_calls") else "stop"
    return str(scripted.get("finish_reason") or usual)


def _completion_usage(scripted: dict[str, Any], asked: dict[str, Any]) -> dict[str, Any]:
    given, taken = _spent(scripted, asked)
    return {
        "prompt_tokens": given,
        "completion_tokens": taken,
        "total_tokens": given + taken,
        "prompt_tokens_details": {"cached_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0},
    }


def _completion(scripted: dict[str, Any], asked: dict[str, Any]) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": scripted.get("content"), "refusal": None}
    calls = [
        {"id": call, "type": "function", "function": {"name": name, "arguments": arguments}}
        for call, name, arguments in _calls(scripted, asked)
    ]
    if calls:
        message["tool_calls"] = calls
    return {
        "id": f"chatcmpl-{_identity(asked, 'chat')}",
        "object": "chat.completion",
        "created": _CREATED,
        "model": asked.get("model", "scripted"),
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": _finish(scripted)}],
        "usage": _completion_usage(scripted, asked),
    }


def _chunks(scripted: dict[str, Any], asked: dict[str, Any]) -> Iterator[dict[str, Any]]:
    counted = (asked.get("stream_options") or {}).get("include_usage") is True
    common = {
        "id": f"chatcmpl-{_identity(asked, 'chat')}",
        "object": "chat.completion.chunk",
        "created": _CREATED,
        "model": asked.get("model", "scripted"),
    } | ({"usage": None} if counted else {})

    def chunk(delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
        return common | {"choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}]}

    yield chunk({"role": "assistant", "content": None if scripted.get("content") is None else ""})
    for word in _words(scripted.get("content") or ""):
        yield chunk({"content": word})
    for place, (call, name, arguments) in enumerate(_calls(scripted, asked)):
        opening = {"index": place, "id": call, "type": "function", "function": {"name": name, "arguments": ""}}
        yield chunk({"tool_calls": [opening]})
        for word in _words(arguments):
            yield chunk({"tool_calls": [{"index": place, "function": {"arguments": word}}]})
    yield chunk({}, _finish(scripted))
    if counted:
        yield common | {"choices": [], "usage": _completion_usage(scripted, asked)}


def _items(scripted: dict[str, Any], asked: dict[str, Any]) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = []
    if scripted.get("content") is not None:
        part = {"type": "output_text", "text": scripted["content"], "annotations": [], "logprobs": []}
        item = {"type": "message", "role": "assistant", "status": "completed", "content": [part]}
        items.append({"id": f"msg_{_identity(asked, 'message')}"} | item)
    for call, name, arguments in _calls(scripted, asked):
        item = {"type": "function_call", "call_id": call, "name": name, "arguments": arguments, "status": "completed"}
        items.append({"id": f"fc_{_identity(asked, call)}"} | item)
    return items


def _response(scripted: dict[str, Any], asked: dict[str, Any]) -> dict[str, Any]:
    given, taken = _spent(scripted, asked)
    reason = {"length": "max_output_tokens", "content_filter": "content_filter"}.get(_finish(scripted))
    return {
        "id": f"resp_{_identity(asked, 'response')}",
        "object": "response",
        "created_at": _CREATED,
        "status": "incomplete" if reason else "completed",
        "error": None,
        "incomplete_details": {"reason": reason} if reason else None,
        "instructions": asked.get("instructions"),
        "metadata": {},
        "model": asked.get("model", "scripted"),
        "output": _items(scripted, asked),
        "parallel_tool_calls": True,
        "temperature": 1.0,
        "tool_choice": "auto",
        "tools": asked.get("tools") or [],
        "top_p": 1.0,
        "usage": {
            "input_tokens": given,
            "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
            "output_tokens": taken,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": given + taken,
        },
    }


def _events(scripted: dict[str, Any], asked: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for number, event in enumerate(_unnumbered_events(_response(scripted, asked))):
        yield event | {"sequence_number": number}


def _unnumbered_events(response: dict[str, Any]) -> Iterator[dict[str, Any]]:
    begun = response | {"status": "in_progress", "output": [], "usage": None, "incomplete_details": None}
    yield {"type": "response.created", "response": begun}
    for place, item in enumerate(response["output"]):
        at = {"output_index": place, "item_id": item["id"]}
        if item["type"] == "message":
            yield {"type": "response.output_item.added", "output_index": place, "item": _begun(item, content=[])}
            part = item["content"][0]
            at |= {"content_index": 0}
            yield {"type": "response.content_part.added", **at, "part": part | {"text": ""}}
            for word in _words(part["text"]):
                yield {"type": "response.output_text.delta", **at, "delta": word, "logprobs": []}
            yield {"type": "response.output_text.done", **at, "text": part["text"], "logprobs": []}
            yield {"type": "response.content_part.done", **at, "part": part}
        else:
            yield {"type": "response.output_item.added", "output_index": place, "item": _begun(item, arguments="")}
            for word in _words(item["arguments"]):
                yield {"type": "response.function_call_arguments.delta", **at, "delta": word}
            done = {"name": item["name"], "arguments": item["arguments"]}
            yield {"type": "response.function_call_arguments.done", **at, **done}
        yield {"type": "response.output_item.done", "output_index": place, "item": item}
    yield {"type": f"response.{response['status']}", "response": response}


def _begun(item: dict[str, Any], **emptied: Any) -> dict[str, Any]:
    return item | emptied | {"status": "in_progress"}
