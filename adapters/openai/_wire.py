"""One exchange with the server: a request sent through the `openai` client, its answer read as JSON objects.

The answer's bytes are read here and not through the client's own iterator, which leaves async generators for the
garbage collector to find; trio rightly complains.
"""

import json
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

import httpx2
import openai
import trio

from caesura.runtime import ModelUnavailable

from ._broken import Broken
from ._faults import told_as_unavailable
from ._sse import EventDecoder
from ._values import sentence

# Seconds to wait for the end of a body whose contents are complete, so that its connection can be used again.
_DRAIN = 0.1


class Exchange:
    """One request and its answer, as an async context manager that leaves nothing open.

    Every failure of the client, the network or the server in here is raised as `ModelUnavailable`; as `Broken` once
    the server has begun to answer.
    """

    def __init__(self, client: openai.AsyncOpenAI, path: str, body: dict[str, Any]) -> None:
        self._client = client
        self._path = path
        self._body = body
        self._decoder = EventDecoder()
        self._ready: list[str] = []

    async def __aenter__(self) -> Self:
        with self._faults(answering=False):
            stream = await self._client.post(
                self._path, cast_to=object, body=self._body, stream=True, stream_cls=openai.AsyncStream[object]
            )
        self._response = stream.response
        self._parts = stream.response.aiter_bytes()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(ModelUnavailable), self._faults(answering=True):
            await self._response.aclose()
            # The transport leaves its own iterator open if ours is closed early. Read on a closed connection, it ends.
            with trio.move_on_after(_DRAIN):
                async for _ in self._parts:
                    pass

    @property
    def streamed(self) -> bool:
        """Whether the answer comes as events; some servers stream unasked, or do not although asked.

        Raises:
            ModelUnavailable: it is a page for people.
        """
        kind = self._response.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind in ("text/html", "application/xhtml+xml"):
            raise ModelUnavailable(
                f"{self._client.base_url} answers with a web page, not as a model's API",
                hint="Check the base URL (OPENAI_BASE_URL): it usually ends in /v1; or a proxy is in between.",
            )
        json_kind = kind == "application/json" or kind.endswith("+json")
        return kind == "text/event-stream" or (self._body.get("stream") is True and not json_kind)

    async def whole(self) -> dict[str, Any]:
        """The answer that is not streamed."""
        with self._faults(answering=True):
            received = [part async for part in self._parts]
            return _object(b"".join(received).decode())

    async def event(self) -> dict[str, Any] | None:
        """The next event; None at the end of the stream, be it announced or not."""
        with self._faults(answering=True):
            while not self._ready:
                part = await anext(self._parts, None)
                if part is None:
                    return None
                self._ready = self._decoder.feed(part)
            data = self._ready.pop(0)
            return None if data.strip() == "[DONE]" else _object(data)

    async def drain(self) -> None:
        """Read what little may follow a finished answer, so that the connection can be used again."""
        with trio.move_on_after(_DRAIN), suppress(httpx2.HTTPError, httpx2.StreamError):
            async for _ in self._parts:
                pass

    def _faults(self, *, answering: bool) -> Any:
        return told_as_unavailable(str(self._client.base_url), self._client.api_key, answering=answering)


def _object(data: str) -> dict[str, Any]:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        raise Broken(f"The server sent something that is not JSON: {sentence(data)!r}") from None
    if not isinstance(value, dict):
        raise Broken(f"The server sent something that is not a JSON object: {sentence(data)!r}")
    return value
