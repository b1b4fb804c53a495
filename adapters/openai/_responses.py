"""Responses: a request's body, and the reply put together from a whole response or from its stream.

Nothing is stored at the server: what the model produced is kept whole in the message's `native` and sent back, so
that reasoning carries over from one call to the next.

Source: https://platform.openai.com/docs/api-reference/responses.
"""

from collections.abc import Callable
from typing import Any

from caesura.continuations import (
    Assistant,
    Content,
    Function,
    Json,
    Message,
    Reply,
    Result,
    Stop,
    Text,
    ToolRequest,
    Usage,
    User,
)
from caesura.runtime import ModelRequest

from ._broken import Broken, told
from ._schema import parameters, result_format
from ._values import count, encodable, mapping, sequence, text

PATH = "/responses"
OWNED = frozenset(
    {"background", "conversation", "input", "instructions", "model", "previous_response_id", "stream", "tools"}
)
"""Parameters that a request's own contents decide, so that settings may not."""

_REASONING = "reasoning.encrypted_content"


def body(request: ModelRequest, model: str, settings: dict[str, Any], *, stream: bool) -> dict[str, Any]:
    """The JSON to send; settings win where both say how the answer is to be formatted."""
    stored = settings.get("store") is True
    sent: dict[str, Any] = {
        "model": model,
        "input": [item for message in request.messages for item in _items(message, stored=stored)],
        "store": False,
    }
    if request.instructions:
        sent["instructions"] = request.instructions
    if request.tools:
        sent["tools"] = [
            {
                "type": "function",
                "name": tool.name,
                "description": tool.description,
                "parameters": parameters(tool.parameters),
                "strict": False,  # the API's default here is true, which few schemas fit
            }
            for tool in request.tools
        ]
    sent |= settings
    sent["include"] = list(dict.fromkeys([_REASONING, *sequence(settings.get("include"))]))
    if form := result_format(request.agent, request.result):
        sent["text"] = {"format": {"type": "json_schema", **form}} | mapping(settings.get("text"))
    if stream:
        sent["stream"] = True
    return sent


def _items(message: Message, *, stored: bool) -> list[dict[str, Any]]:
    match message:
        case User():
            return [{"type": "message", "role": "user", "content": _said(message.content)}]
        case Result():
            return [{"type": "function_call_output", "call_id": message.tool_call_id, "output": message.content}]
        case Assistant():
            return _native_items(message, stored=stored) or _plain_items(message)


def _said(content: Content) -> str | list[dict[str, Any]]:
    if isinstance(content, str):
        return content
    return [
        {"type": "input_text", "text": part.text}
        if isinstance(part, Text)
        else {"type": "input_image", "image_url": part.image_url.url, "detail": part.image_url.detail}
        for part in content
    ]


def _plain_items(message: Assistant) -> list[dict[str, Any]]:
    """Items for a message that another API gave."""
    items: list[dict[str, Any]] = [
        {"type": "message", "role": "assistant", "content": said} for said in (message.content, message.refusal) if said
    ]
    for call in message.tool_calls:
        function = {"name": call.function.name, "arguments": call.function.arguments}
        items.append({"type": "function_call", "call_id": call.id, **function})
    return items


def _native_items(message: Assistant, *, stored: bool) -> list[dict[str, Any]]:
    """The output items as they came, less what the API refuses as input; none if they no longer tell the message.

    The message's own call ids are the true ones: those that came doubled or empty were given new ones.
    """
    items = [dict(item) for item in sequence(message.native.get("responses")) if isinstance(item, dict)]
    calls = [item for item in items if item.get("type") == "function_call"]
    if len(calls) != len(message.tool_calls):
        return []
    for item, call in zip(calls, message.tool_calls, strict=True):
        item["call_id"] = call.id
    kept: list[dict[str, Any]] = []
    for item in items:
        if item.get("type") == "reasoning":
            item.pop("status", None)  # the API gives it and refuses it
            if not (stored or item.get("encrypted_content") or item.get("content")):
                continue  # an id alone means nothing to a server that stored nothing
        kept.append({key: value for key, value in item.items() if value is not None})
    while kept and kept[-1].get("type") == "reasoning":
        kept.pop()  # the API refuses reasoning that nothing follows, as a reply cut short leaves it
    return kept


class ResponsesReader:
    """Reads one answer: either `whole`, or `hear` for each streamed event; then `reply`."""

    def __init__(self, listen: Callable[[str], None]) -> None:
        self._listen = listen
        self._response: dict[str, Any] = {}
        self._done: dict[int, dict[str, Any]] = {}
        self.finished = False

    def whole(self, answer: dict[str, Any]) -> None:
        """Take a response that was not streamed.

        Raises:
            ModelUnavailable: it is an error, or no response at all.
        """
        self._take(answer)
        for part in self._parts(_output(self._response)):
            if spoken := text(part.get("text")) or text(part.get("refusal")):
                self._listen(encodable(spoken))

    def hear(self, event: dict[str, Any]) -> None:
        """Take one event of a stream.

        Raises:
            ModelUnavailable: it is an error.
        """
        kind = text(event.get("type"))
        if kind == "error" or event.get("error"):
            raise told(event.get("error") or event)
        if kind in ("response.output_text.delta", "response.refusal.delta"):
            if piece := text(event.get("delta")):
                self._listen(encodable(piece))
        elif kind == "response.output_item.done":
            place = event.get("output_index")
            item = mapping(event.get("item"))
            self._done[place if isinstance(place, int) else len(self._done)] = item
        elif kind in ("response.completed", "response.incomplete", "response.failed"):
            self._take(mapping(event.get("response")))

    def _take(self, response: dict[str, Any]) -> None:
        status = response.get("status")
        if response.get("error"):
            raise told(response["error"])
        if status not in ("completed", "incomplete"):
            raise Broken(f"The server's response is {text(status) or 'of no known status'}, not completed")
        if not _output(response):
            # Some servers end a stream with a response that leaves out what was streamed.
            response = response | {"output": [self._done[place] for place in sorted(self._done)]}
        self._response = response
        self.finished = True

    def _parts(self, output: list[dict[str, Any]]) -> list[dict[str, Any]]:
        messages = (item for item in output if item.get("type") == "message")
        return [mapping(part) for message in messages for part in sequence(message.get("content"))]

    def reply(self) -> Reply:
        """The finished reply.

        Raises:
            Broken: the stream ended before the server said that the response was finished.
        """
        if not self.finished:
            raise Broken("The stream ended before the answer was finished")
        output = encodable(_output(self._response))
        parts = self._parts(output)
        texts = [text(part.get("text")) for part in parts if part.get("type") == "output_text"]
        refusal = "".join(text(part.get("refusal")) for part in parts if part.get("type") == "refusal") or None
        message = Assistant(
            content="".join(texts) if texts else None,
            refusal=refusal,
            tool_calls=tuple(_request(item) for item in output if item.get("type") == "function_call"),
            native={"responses": output} if output else {},
        )
        model = encodable(text(self._response.get("model")))
        return Reply(message=message, stop=self._stop(refusal), usage=_usage(self._response), model=model)

    def _stop(self, refusal: str | None) -> Stop:
        if self._response.get("status") == "incomplete":
            reason = mapping(self._response.get("incomplete_details")).get("reason")
            return "filter" if reason == "content_filter" else "length"
        return "refusal" if refusal else "end"


def _output(response: dict[str, Any]) -> list[dict[str, Any]]:
    return [item for item in sequence(response.get("output")) if isinstance(item, dict)]


def _request(item: dict[str, Json]) -> ToolRequest:
    function = Function(name=text(item.get("name")), arguments=text(item.get("arguments")))
    return ToolRequest(id=text(item.get("call_id")), function=function)


def _usage(response: dict[str, Any]) -> Usage:
    usage = mapping(response.get("usage"))
    return Usage(
        input=count(usage.get("input_tokens")),
        output=count(usage.get("output_tokens")),
        cached=count(mapping(usage.get("input_tokens_details")).get("cached_tokens")),
        reasoning=count(mapping(usage.get("output_tokens_details")).get("reasoning_tokens")),
    )
