"""A test server that speaks like OpenAI's on loopback, byte for byte as a test wants it, faults included."""

import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio

from caesura.adapters.demo._http import Answer, Handler, HttpRequest, serve_http
from caesura.adapters.openai import OpenAIModel
from caesura.continuations import Message, Reply, User
from caesura.runtime import ModelRequest, ModelUnavailable

SOON = {"retry-after-ms": "1"}
"""Headers that let the client try again at once."""

HELLO = User(content="Hello")


class Served:
    """Answers requests in order with the given handlers, the last of which stays; keeps what it was asked."""

    def __init__(self, *handlers: Handler) -> None:
        self._handlers = list(handlers)
        self.requests: list[HttpRequest] = []
        self.peers: set[int] = set()
        self.base_url = ""

    @property
    def bodies(self) -> list[dict[str, Any]]:
        """The JSON of each request, oldest first."""
        return [json.loads(request.body) for request in self.requests]

    async def handle(self, request: HttpRequest, answer: Answer) -> None:
        """Take one request."""
        self.requests.append(request)
        self.peers.add(answer.peer)
        handler = self._handlers.pop(0) if len(self._handlers) > 1 else self._handlers[0]
        await handler(request, answer)


@asynccontextmanager
async def serving(*handlers: Handler) -> AsyncIterator[Served]:
    """A server for as long as the block lasts. An error of the block passes as it is, in no group."""
    served = Served(*handlers)
    failure: Exception | None = None
    async with trio.open_nursery() as nursery:
        served.base_url = await nursery.start(serve_http, served.handle) + "/v1"
        try:
            yield served
        except Exception as error:  # noqa: BLE001 - raised again below, outside of the nursery's group
            failure = error
        nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure


def whole(value: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Handler:
    """Answers with JSON, or with bytes as they are."""

    async def handle(request: HttpRequest, answer: Answer) -> None:
        body = value if isinstance(value, bytes) else json.dumps(value).encode()
        await answer.whole(status, "application/json", body, headers)

    return handle


def refusal(status: int, message: str, code: str | None = None, headers: Mapping[str, str] | None = None) -> Handler:
    """Answers with an error in OpenAI's shape."""
    kind = "invalid_request_error" if status < 500 else "server_error"
    return whole({"error": {"message": message, "type": kind, "param": None, "code": code}}, status, headers)


def page(status: int, html: bytes, headers: Mapping[str, str] | None = None) -> Handler:
    """Answers as a proxy does that stands in the way."""

    async def handle(request: HttpRequest, answer: Answer) -> None:
        await answer.whole(status, "text/html; charset=utf-8", html, headers)

    return handle


def sse(*events: object, done: bool = True) -> bytes:
    """Events as bytes; text and bytes go in as they are, everything else as JSON."""
    parts = [event if isinstance(event, bytes) else json.dumps(event).encode() for event in events]
    return b"".join(b"data: " + part + b"\n\n" for part in [*parts, *([b"[DONE]"] if done else [])])


def streamed(body: bytes, piece: int = 7, content_type: str = "text/event-stream") -> Handler:
    """Answers with a stream, cut at every so many bytes, wherever that falls."""

    async def handle(request: HttpRequest, answer: Answer) -> None:
        await answer.start(200, {"content-type": content_type})
        for start in range(0, len(body), piece):
            await answer.write(body[start : start + piece])
        await answer.finish()

    return handle


def dropped(body: bytes) -> Handler:
    """Begins a stream and closes the connection in the middle of it."""

    async def handle(request: HttpRequest, answer: Answer) -> None:
        await answer.start(200, {"content-type": "text/event-stream"})
        await answer.write(body)

    return handle


async def closed(request: HttpRequest, answer: Answer) -> None:
    """Closes the connection without a word."""


async def babble(request: HttpRequest, answer: Answer) -> None:
    """Answers with something that is not HTTP."""
    await answer.raw(b"220 mail.example.com ready\r\n")


def stalled(body: bytes, begun: Callable[[], None], hung_up: Callable[[], None]) -> Handler:
    """Sends some of a stream and nothing more; says when it has, and when the client has closed the connection."""

    async def handle(request: HttpRequest, answer: Answer) -> None:
        await answer.start(200, {"content-type": "text/event-stream"})
        await answer.write(body)
        begun()
        await answer.hung_up()
        hung_up()

    return handle


def nobody(piece: str) -> None:
    """Listens to nothing."""


def request(*messages: Message, **more: Any) -> ModelRequest:
    """A request of the agent `clerk`."""
    about: dict[str, Any] = {"agent": "clerk", "instructions": "", "messages": messages or (HELLO,)}
    return ModelRequest(**about | more)


def model(base_url: str, **more: Any) -> OpenAIModel:
    """A model of that server, quick to ask again."""
    how: dict[str, Any] = {"base_url": base_url, "api_key": "sk-test", "backoff": 0.001}
    return OpenAIModel("gpt-5", **how | more)


async def ask(
    *handlers: Handler, messages: tuple[Message, ...] = (HELLO,), about: Mapping[str, Any] | None = None, **how: Any
) -> tuple[Reply, list[str], Served]:
    """The reply to a request `about` this, the text heard, and the server, which knows what it was asked."""
    heard: list[str] = []
    async with serving(*handlers) as served, model(served.base_url, **how) as asked:
        reply = await asked.reply(request(*messages, **about or {}), heard.append)
        return reply, heard, served


async def fails(*handlers: Handler, **how: Any) -> tuple[ModelUnavailable, int]:
    """The error of a request that gets no reply, and how often the server was asked."""
    async with serving(*handlers) as served, model(served.base_url, **how) as asked:
        with pytest.raises(ModelUnavailable) as caught:
            await asked.reply(request(), nobody)
        assert "\n" not in str(caught.value)
        assert caught.value.hint
        return caught.value, len(served.requests)


SPENT = {
    "prompt_tokens": 100,
    "completion_tokens": 20,
    "total_tokens": 120,
    "prompt_tokens_details": {"cached_tokens": 64},
    "completion_tokens_details": {"reasoning_tokens": 12},
}


def completion(message: dict[str, Any], finish: str = "stop") -> dict[str, Any]:
    """A whole answer of Chat Completions."""
    choice = {"index": 0, "message": {"role": "assistant"} | message, "finish_reason": finish}
    return {"id": "c1", "object": "chat.completion", "model": "gpt-5-2026", "choices": [choice], "usage": SPENT}


def chunk(delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
    """A piece of a streamed answer of Chat Completions."""
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return {"id": "c1", "object": "chat.completion.chunk", "model": "gpt-5-2026", "choices": [choice]}


LAST = {"id": "c1", "model": "gpt-5-2026", "choices": [], "usage": SPENT}
"""The chunk that holds the usage."""

GOOD_DAY = sse(chunk({"role": "assistant", "content": "Good "}), chunk({"content": "day"}), chunk({}, "stop"), LAST)
"""A stream of two words."""
