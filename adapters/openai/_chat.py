"""Chat Completions: a request's body, and the reply put together from a whole answer or from its stream.

Source: https://platform.openai.com/docs/api-reference/chat. Compatible servers differ in many small ways; what is
tolerated here is what they are known to do.
"""

import json
from collections.abc import Callable
from typing import Any

import msgspec

from caesura.continuations import Assistant, Function, Json, Message, Reply, Stop, ToolRequest, Usage
from caesura.runtime import ModelRequest

from ._broken import Broken, told
from ._schema import parameters, result_format
from ._values import count, encodable, mapping, sequence, text

PATH = "/chat/completions"
OWNED = frozenset({"functions", "messages", "model", "n", "stream", "tools"})
"""Parameters that a request's own contents decide, so that settings may not."""

_STOPS: dict[str, Stop] = {
    "length": "length",
    "max_tokens": "length",
    "model_length": "length",
    "content_filter": "filter",
    "safety": "filter",
}
_FAILED = frozenset({"error", "insufficient_system_resource"})

# Fields of a message that are its plain shape, or that no server takes back.
_PLAIN = frozenset({"role", "content", "refusal", "tool_calls", "annotations", "audio", "function_call"})
_PLAIN_CALL = frozenset({"id", "type", "index", "function"})

# Streamed with every piece and each time in full, where other strings come in pieces.
_REPEATED = frozenset({"id", "type", "format", "index", "name", "role"})


def body(request: ModelRequest, model: str, settings: dict[str, Any], *, stream: bool) -> dict[str, Any]:
    """The JSON to send; settings win where both say how the answer is to be formatted."""
    messages = [_sent(message) for message in request.messages]
    if request.instructions:
        messages.insert(0, {"role": "system", "content": request.instructions})
    sent: dict[str, Any] = {"model": model, "messages": messages}
    if request.tools:
        sent["tools"] = [
            {
                "type": "function",
                "function": {
                    "name": tool.name,
                    "description": tool.description,
                    "parameters": parameters(tool.parameters),
                },
            }
            for tool in request.tools
        ]
    if form := result_format(request.agent, request.result):
        sent["response_format"] = {"type": "json_schema", "json_schema": form}
    sent |= {key: value for key, value in settings.items() if key != "stream_options"}
    if stream:
        sent["stream"] = True
        sent["stream_options"] = {"include_usage": True} | mapping(settings.get("stream_options"))
    return sent


def _sent(message: Message) -> dict[str, Any]:
    """The stored message itself, with the extras that this API gave and wants back."""
    shape: dict[str, Any] = msgspec.to_builtins(message)
    if not isinstance(message, Assistant):
        return shape
    if not message.tool_calls:
        shape.setdefault("content", "")  # required then, also of a reply that was empty or refused
    extras = dict(mapping(mapping(shape.pop("native", None)).get("chat")))
    for call, extra in zip(shape.get("tool_calls", ()), sequence(extras.pop("tool_calls", None)), strict=False):
        call.update(mapping(extra))
    return extras | shape


class ChatReader:
    """Reads one answer: either `whole`, or `hear` for each streamed chunk; then `reply`."""

    def __init__(self, listen: Callable[[str], None]) -> None:
        self._listen = listen
        self._message: dict[str, Any] = {}
        self._calls: list[dict[str, Any]] = []
        self._at: dict[int, int] = {}
        self._finish: str | None = None
        self._usage = Usage()
        self._model = ""
        self.finished = False

    def whole(self, answer: dict[str, Any]) -> None:
        """Take an answer that was not streamed.

        Raises:
            ModelUnavailable: it is an error, or no answer at all.
        """
        choice = self._first_choice(answer)
        if choice is None or not isinstance(choice.get("message"), dict):
            raise Broken("The server's answer holds no message")
        message = dict(choice["message"])
        self._calls = [dict(call) for call in sequence(message.pop("tool_calls", None)) if isinstance(call, dict)]
        self._message = message
        self._finish = text(choice.get("finish_reason")) or "stop"
        self.finished = True
        for spoken in (_joined(message.get("content")), text(message.get("refusal"))):
            if spoken:
                self._listen(encodable(spoken))

    def hear(self, event: dict[str, Any]) -> None:
        """Take one chunk of a stream.

        Raises:
            ModelUnavailable: it is an error.
        """
        choice = self._first_choice(event)
        if choice is None:
            return
        delta = dict(mapping(choice.get("delta")) or mapping(choice.get("message")))
        for fragment in sequence(delta.pop("tool_calls", None)):
            self._hear_call(mapping(fragment))
        if "content" in delta:
            delta["content"] = _joined(delta["content"])
        for key in ("content", "refusal"):
            if text(delta.get(key)):
                self._listen(encodable(delta[key]))
        _merge(self._message, delta)
        self._finish = text(choice.get("finish_reason")) or self._finish

    def _first_choice(self, answer: dict[str, Any]) -> dict[str, Any] | None:
        if answer.get("error"):
            raise told(answer["error"])
        self._model = text(answer.get("model")) or self._model
        if usage := mapping(answer.get("usage")):
            self._usage = _usage(usage)
        choices = [choice for choice in sequence(answer.get("choices")) if isinstance(choice, dict)]
        return choices[0] if choices else None

    def _hear_call(self, fragment: dict[str, Any]) -> None:
        index = fragment.get("index")
        index = index if isinstance(index, int) else None
        place = self._at.get(index) if index is not None else len(self._calls) - 1
        if place is None or place < 0 or _starts_another(self._calls[place], fragment, indexed=index is not None):
            place = len(self._calls)
            self._calls.append({})
        if index is not None:
            self._at[index] = place
        call = self._calls[place]
        function = dict(mapping(fragment.get("function")))
        known = call.setdefault("function", {"name": "", "arguments": ""})
        name = text(function.get("name"))
        if name != known["name"]:
            known["name"] += name
        known["arguments"] += _arguments(function.get("arguments"))
        call["id"] = call.get("id") or text(fragment.get("id"))
        _merge(call, {key: value for key, value in fragment.items() if key not in _PLAIN_CALL})

    def reply(self) -> Reply:
        """The finished reply.

        Raises:
            Broken: the answer ended before the server said that it was finished.
        """
        if self._finish is None:
            raise Broken("The stream ended before the answer was finished")
        if self._finish in _FAILED:
            raise Broken(f"The server broke the answer off ({self._finish})")
        refusal = text(self._message.get("refusal")) or None
        content = _joined(self._message.get("content"))
        stop = _STOPS.get(self._finish.lower(), "refusal" if refusal else "end")
        message = Assistant(
            content=encodable(content),
            refusal=encodable(refusal),
            tool_calls=tuple(_request(call) for call in self._calls),
            native=self._native(),
        )
        return Reply(message=message, stop=stop, usage=self._usage, model=encodable(self._model))

    def _native(self) -> dict[str, Json]:
        extras = {key: value for key, value in self._message.items() if key not in _PLAIN and value}
        calls = [{key: item for key, item in call.items() if key not in _PLAIN_CALL} for call in self._calls]
        if any(calls):
            extras["tool_calls"] = calls
        return {"chat": encodable(extras)} if extras else {}


def _starts_another(call: dict[str, Any], fragment: dict[str, Any], *, indexed: bool) -> bool:
    """Whether a fragment begins a new call where its server says nothing of it, or gives every call the same index."""
    known, new = text(call.get("id")), text(fragment.get("id"))
    if known and new:
        return known != new
    function = mapping(fragment.get("function"))
    if not text(function.get("name")):
        return False
    if not indexed:
        return True
    arguments = _arguments(function.get("arguments"))
    return arguments.startswith("{") and _is_json(call["function"]["arguments"])


def _is_json(arguments: str) -> bool:
    try:
        json.loads(arguments)
    except (ValueError, RecursionError):
        return False
    return True


def _request(call: dict[str, Any]) -> ToolRequest:
    function = mapping(call.get("function"))
    arguments = _arguments(function.get("arguments"))
    return ToolRequest(
        id=encodable(text(call.get("id"))),
        function=Function(name=encodable(text(function.get("name"))), arguments=encodable(arguments)),
    )


def _arguments(value: Json) -> str:
    """Arguments as text; some servers send the object itself."""
    if isinstance(value, str):
        return value
    return "" if value is None else json.dumps(value, ensure_ascii=False)


def _joined(content: Json) -> str | None:
    """Content as text; some servers send parts, of which those that are not text are not said aloud."""
    if isinstance(content, list):
        return "".join(text(part.get("text")) for part in content if isinstance(part, dict)) or None
    return content if isinstance(content, str) else None


def _merge(whole: dict[str, Any], piece: dict[str, Any]) -> None:
    """Add a streamed piece: strings go on, entries of lists are matched by their index, null says nothing."""
    for key, value in piece.items():
        before = whole.get(key)
        if isinstance(before, str) and isinstance(value, str) and key not in _REPEATED:
            whole[key] = before + value
        elif isinstance(before, dict) and isinstance(value, dict):
            _merge(before, value)
        elif isinstance(value, list):
            whole[key] = before if isinstance(before, list) else []
            _merge_entries(whole[key], value)
        elif value is not None:
            whole[key] = dict(value) if isinstance(value, dict) else value


def _merge_entries(entries: list[Any], added: list[Any]) -> None:
    for entry in added:
        index = entry.get("index") if isinstance(entry, dict) else None
        same = [known for known in entries if isinstance(known, dict) and known.get("index") == index]
        if index is not None and same and same[0].get("type") == entry.get("type", same[0].get("type")):
            _merge(same[0], entry)
        else:
            entries.append(dict(entry) if isinstance(entry, dict) else entry)


def _usage(usage: dict[str, Any]) -> Usage:
    cached = mapping(usage.get("prompt_tokens_details")).get("cached_tokens")
    return Usage(
        input=count(usage.get("prompt_tokens")),
        output=count(usage.get("completion_tokens")),
        cached=count(cached) or count(usage.get("prompt_cache_hit_tokens")),
        reasoning=count(mapping(usage.get("completion_tokens_details")).get("reasoning_tokens")),
    )
