"""`OpenAIModel`: a model behind OpenAI's API or one like it. `openai` is imported when it is first called."""

import json
import os
from collections.abc import Callable, Mapping
from copy import copy
from random import SystemRandom
from types import TracebackType
from typing import TYPE_CHECKING, Literal, Protocol, Self
from urllib.parse import urlsplit

import trio

from caesura.continuations import CallerError, Json, ModelSpec, Reply
from caesura.runtime import ModelRequest, ModelUnavailable

from . import _chat, _responses
from ._broken import Broken

if TYPE_CHECKING:
    import httpx2
    import openai

_APIS = {"chat": _chat, "responses": _responses}
_AGAIN = 3
_LONGEST_BACKOFF = 8.0
_CONNECT = 15.0
_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


class BadModel(CallerError):
    """The model is defined in a way that cannot work."""


class NotSetUp(ModelUnavailable, CallerError):
    """The model cannot be called from here: there is no key, or the base URL is none."""


class _Reader(Protocol):
    @property
    def finished(self) -> bool: ...
    def whole(self, answer: dict[str, Json]) -> None: ...
    def hear(self, event: dict[str, Json]) -> None: ...
    def reply(self) -> Reply: ...


class OpenAIModel:
    """A model called through the Chat Completions or the Responses API.

    Works with OpenAI and with any server that speaks like it. A call that fails for a while (rate limit, server
    error, no connection) is made again with the `openai` client's patience, which heeds ``Retry-After`` up to two
    minutes. An answer that breaks off in the middle is asked for again too; whoever listens then hears its text
    from the start once more.

    One client serves all calls of an event loop; `aclose`, or leaving ``async with``, closes it. Calling the model
    again afterwards, also in another event loop, opens a new one.

    Args:
        name: the model, as the server names it.
        api: ``chat`` for Chat Completions, which nearly every server has; ``responses`` to carry reasoning over
            from call to call.
        stream: whether to receive the answer piece by piece.
        settings: parameters of each request, by the API's names: ``temperature``, ``max_completion_tokens``,
            ``reasoning_effort``, …. They are part of the loop's history, so they may hold no secrets.
        base_url: where the API is; OPENAI_BASE_URL, else OpenAI, if not given.
        api_key: the key; OPENAI_API_KEY if not given.
        max_retries: how often a call that failed before it was answered is made again. Answers that break off are
            asked for again as often, but three times at most.
        timeout: seconds of silence after which the server counts as gone.
        backoff: seconds before a broken answer is asked for again; doubled each time.
        http_client: an HTTP client to use instead of one's own; whoever made it closes it.

    Raises:
        BadModel: the API is unknown, or the settings are not JSON or hold what a request itself decides.
    """

    def __init__(
        self,
        name: str,
        *,
        api: Literal["chat", "responses"] = "chat",
        stream: bool = True,
        settings: Mapping[str, Json] | None = None,
        base_url: str | None = None,
        api_key: str | None = None,
        max_retries: int = 5,
        timeout: float = 600.0,
        backoff: float = 0.5,
        http_client: "httpx2.AsyncClient | None" = None,
    ) -> None:
        self._become(name, api, settings or {})
        self._stream = stream
        self._base_url = base_url
        self._api_key = api_key
        self._max_retries = max_retries
        self._timeout = timeout
        self._backoff = backoff
        self._http_client = http_client
        self._client: trio.lowlevel.RunVar[openai.AsyncOpenAI | None] = trio.lowlevel.RunVar("client", None)

    def _become(self, name: str, api: str, settings: Mapping[str, Json]) -> None:
        if api not in _APIS:
            raise BadModel(f"There is no API named {api!r}", hint="Use api='chat' or api='responses'.")
        self._api = _APIS[api]
        self._settings = _checked(dict(settings), self._api.OWNED)
        self._spec = ModelSpec(name=name, api=api, settings=self._settings)

    @property
    def spec(self) -> ModelSpec:
        """Which model this is and how it is set, for the loop's history; no secrets."""
        return self._spec

    def check(self) -> None:
        """Fail now, before a loop is started, if no call could be made.

        Raises:
            NotSetUp: there is no key, or the base URL is none.
        """
        if not (self._api_key or os.environ.get("OPENAI_API_KEY")):
            raise NotSetUp(
                f"There is no key to call {self._spec.name} with.",
                hint="Set OPENAI_API_KEY, or pass api_key=; a server that needs none takes any text.",
            )
        address = self._address()
        if address is not None and urlsplit(address).scheme not in ("http", "https"):
            raise NotSetUp(f"{address!r} is no base URL", hint="It looks like https://api.example.com/v1.")

    def another(self, spec: ModelSpec) -> "OpenAIModel":
        """Another model of the same server, through the same client; see `caesura.runtime.Model`.

        Raises:
            BadModel: the API is unknown, or the settings hold what a request itself decides.
        """
        other = copy(self)  # with the same client, which is closed with this model
        other._become(spec.name, spec.api or self._spec.api, spec.settings)
        return other

    async def reply(self, request: ModelRequest, listen: Callable[[str], None]) -> Reply:
        """Answer a request; see `caesura.runtime.Model`.

        Raises:
            ModelUnavailable: there is no answer, and trying again now would not help.
            NotSetUp: a `ModelUnavailable` whose cause is here: no key, or no base URL.
        """
        self.check()
        body = self._api.body(request, self._spec.name, self._settings, stream=self._stream)
        again = min(self._max_retries, _AGAIN)
        attempts = 0
        while True:
            attempts += 1
            try:
                return await self._attempt(body, listen)
            except Broken as broken:
                if attempts > again:
                    times = f" ({attempts} times)" if attempts > 1 else ""
                    raise ModelUnavailable(f"{broken}{times}", hint=broken.hint) from broken
            pause = min(self._backoff * 2 ** (attempts - 1), _LONGEST_BACKOFF)
            await trio.sleep(pause * SystemRandom().uniform(0.75, 1))

    async def _attempt(self, body: dict[str, Json], listen: Callable[[str], None]) -> Reply:
        from ._wire import Exchange

        reader: _Reader = _chat.ChatReader(listen) if self._spec.api == "chat" else _responses.ResponsesReader(listen)
        async with Exchange(self._open(), self._api.PATH, body) as exchange:
            if exchange.streamed:
                while not reader.finished and (event := await exchange.event()) is not None:
                    reader.hear(event)
                await exchange.drain()
            else:
                reader.whole(await exchange.whole())
            return reader.reply()

    async def aclose(self) -> None:
        """Close this event loop's client, if there is one; calls under way fail."""
        client = self._client.get()
        self._client.set(None)
        if client is None or self._http_client is not None:
            return
        # A close that is cancelled half-way would leave connections open.
        with trio.move_on_after(1, shield=True):
            await client.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def _address(self) -> str | None:
        return self._base_url or os.environ.get("OPENAI_BASE_URL") or None

    def _open(self) -> "openai.AsyncOpenAI":
        """This event loop's client."""
        client = self._client.get()
        if client is None:
            import httpx2
            import openai

            address = self._address()
            timeout = httpx2.Timeout(self._timeout, connect=min(self._timeout, _CONNECT))
            http_client = self._http_client
            if http_client is None and urlsplit(address or "").hostname in _LOOPBACK:
                # No proxy stands between this machine and itself, whatever the environment says.
                http_client = openai.DefaultAsyncHttpxClient(trust_env=False, timeout=timeout)
            client = openai.AsyncOpenAI(
                api_key=self._api_key or None,
                base_url=address,
                max_retries=self._max_retries,
                timeout=timeout,
                http_client=http_client,
            )
            self._client.set(client)
        return client


def _checked(settings: dict[str, Json], owned: frozenset[str]) -> dict[str, Json]:
    """The settings, once they are known to be JSON and to leave the request's own fields alone."""
    if taken := sorted(owned & settings.keys()):
        raise BadModel(f"The settings may not hold {', '.join(taken)}", hint="The loop itself decides these.")
    try:
        checked: dict[str, Json] = json.loads(json.dumps(settings, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise BadModel(f"The settings are not JSON: {error}", hint="Use plain values only.") from error
    return checked
