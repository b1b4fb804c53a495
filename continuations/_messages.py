"""Messages: what the loop and its model have said to each other.

The shape on disk is that of Chat Completions, which nearly every server speaks, so that a message's file is what
the model is sent. What one model API alone understands (reasoning items, say) is kept beside it in `native`.
"""

import datetime as dt
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec

Json = Any
"""A JSON value: None, bool, int, float, str, list or dict of them."""

Time = Annotated[dt.datetime, msgspec.Meta(tz=True)]
"""A moment. On disk it must have a zone: one without could be compared with no other."""


class Value(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Base of every immutable value; unknown fields are refused, because msgspec would drop them in silence."""


class Text(Value, tag_field="type", tag="text", frozen=True, kw_only=True):
    """A piece of text in a message of several parts."""

    text: str


class ImageUrl(Value, frozen=True, kw_only=True):
    """Where an image is: an ``https:`` or a ``data:`` URL, and the detail wanted (``low``, ``high``, ``auto``)."""

    url: str
    detail: Literal["auto", "low", "high"] = "auto"


class Image(Value, tag_field="type", tag="image_url", frozen=True, kw_only=True):
    """An image in a message of several parts."""

    image_url: ImageUrl


Content = str | tuple[Text | Image, ...]
"""What a person says: plain text, or parts."""


class Function(Value, frozen=True, kw_only=True):
    """The function that a model asks for; `arguments` is its text exactly as received, JSON or not."""

    name: str
    arguments: str


class ToolRequest(Value, frozen=True, kw_only=True, tag_field="type", tag="function"):
    """One requested use of a tool, as it stands in an assistant's message."""

    id: str
    function: Function


class User(Value, tag_field="role", tag="user", frozen=True, kw_only=True):
    """Something said to the model."""

    content: Content


class Assistant(Value, tag_field="role", tag="assistant", frozen=True, kw_only=True):
    """Something the model said. `native` holds what only the API that produced it understands, by API name."""

    content: str | None = None
    refusal: str | None = None
    tool_calls: tuple[ToolRequest, ...] = ()
    native: Mapping[str, Json] = {}


class Result(Value, tag_field="role", tag="tool", frozen=True, kw_only=True):
    """The one result of a call, as the model reads it."""

    tool_call_id: str
    content: str


Message = User | Assistant | Result


class Usage(Value, frozen=True, kw_only=True):
    """Tokens of one or more model calls. `cached` is part of `input`; `reasoning` is part of `output`."""

    input: int = 0
    output: int = 0
    cached: int = 0
    reasoning: int = 0

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(
            input=self.input + other.input,
            output=self.output + other.output,
            cached=self.cached + other.cached,
            reasoning=self.reasoning + other.reasoning,
        )

    def __sub__(self, other: "Usage") -> "Usage":
        return Usage(
            input=self.input - other.input,
            output=self.output - other.output,
            cached=self.cached - other.cached,
            reasoning=self.reasoning - other.reasoning,
        )

    @property
    def total(self) -> int:
        """Tokens in and out."""
        return self.input + self.output


Stop = Literal["end", "length", "filter", "refusal"]
"""Why the model stopped: it was done; it ran out of tokens; a content filter cut it; it refused."""


class Reply(Value, frozen=True, kw_only=True):
    """A finished answer of a model: one message, why it ended, what it cost and the model's own name."""

    message: Assistant
    stop: Stop = "end"
    usage: Usage = Usage()
    model: str = ""


def extended(messages: tuple[Message, ...], *more: Message) -> tuple[Message, ...]:
    """Messages and some after them; long ones are copied once, where unpacking them would twice."""
    return messages + more


def goes_on(messages: tuple[Message, ...], before: tuple[Message, ...]) -> bool:
    """Whether messages begin with those before them; quick for long ones that share them.

    It is asked by their order and not of a slice, which would touch each of the messages to count one more reference.
    """
    try:
        return messages >= before  # alike as far as either goes, and no fewer
    except TypeError:  # two that differ: messages have no order
        return False


def text_of(content: Content) -> str:
    """What a person said, as plain text; images are named, not shown."""
    if isinstance(content, str):
        return content
    return "\n".join(part.text if isinstance(part, Text) else "[image]" for part in content)


def plain_text(content: str) -> str:
    """Make text encodable: join surrogate pairs and replace lone surrogates, which UTF-8 refuses, by U+FFFD."""
    try:
        content.encode()
    except UnicodeEncodeError:
        return content.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return content
