"""Messages: what the loop and its model have said to each other.

The shape on disk is that of Chat Completions, which nearly every server speaks, so that a message's file is what
the model is sent. What one model API alone understands (reasoning items, say) is kept beside it in `native`.
"""

import datetime as dt
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from typing import Annotated, Any, Literal, overload

import msgspec

Json = Any
"""A JSON value: None, bool, int, float, str, list or dict of them."""

Time = Annotated[dt.datetime, msgspec.Meta(tz=True)]
"""A moment. On disk it must have a zone: one without could be compared with no other."""


class Value(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True, gc=False):
    """Base of every immutable value; unknown fields are refused, because msgspec would drop them in silence.

    None can be a part of itself, as JSON cannot, and so the collector of cycles need not look at them: there are many.
    """


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

_PIECE = 64
"""Messages in a piece of `Messages`."""


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


class Messages(Sequence[Message]):
    """A loop's messages: as a tuple of them, but that those which go on from others share what is alike.

    They are held in pieces of `_PIECE` messages, and the rest. So a step makes one piece anew, and whether it goes on
    from the one before is seen by the pieces, at any length. A slice is a tuple.
    """

    __slots__ = ("_pieces", "_rest")

    def __init__(self, messages: Iterable[Message] = ()) -> None:
        self._pieces: tuple[tuple[Message, ...], ...] = ()
        self._rest = tuple(messages)
        self._cut()

    def _cut(self) -> None:
        whole = len(self._rest) // _PIECE * _PIECE
        if whole:
            self._pieces += tuple(self._rest[at : at + _PIECE] for at in range(0, whole, _PIECE))
            self._rest = self._rest[whole:]

    def __add__(self, more: tuple[Message, ...]) -> "Messages":
        made = Messages.__new__(Messages)
        made._pieces, made._rest = self._pieces, self._rest + more
        made._cut()
        return made

    def beyond(self, before: "Messages") -> tuple[Message, ...] | None:
        """What follows those messages here, or None if the first of these are others."""
        full, rest = len(before._pieces), before._rest
        if self._pieces[:full] != before._pieces:
            return None
        more = tuple(chain(*self._pieces[full:], self._rest)) if len(self._pieces) > full else self._rest
        return more[len(rest) :] if more[: len(rest)] == rest else None

    def __len__(self) -> int:
        return len(self._pieces) * _PIECE + len(self._rest)

    @overload
    def __getitem__(self, index: int) -> Message: ...

    @overload
    def __getitem__(self, index: slice) -> tuple[Message, ...]: ...

    def __getitem__(self, index: int | slice) -> Message | tuple[Message, ...]:
        if isinstance(index, slice):
            start, stop, step = index.indices(len(self))
            if step != 1:
                return tuple(self)[index]
            before = start // _PIECE  # pieces that need not be gone through
            near = chain(chain.from_iterable(self._pieces[before:]), self._rest)
            return tuple(islice(near, start - before * _PIECE, max(start, stop) - before * _PIECE))
        place = index if index >= 0 else index + len(self)
        if not 0 <= place < len(self):
            raise IndexError(f"there are {len(self)} messages, and none at {index}")
        piece, at = divmod(place, _PIECE)
        return self._pieces[piece][at] if piece < len(self._pieces) else self._rest[at]

    def __iter__(self) -> Iterator[Message]:
        return chain(chain.from_iterable(self._pieces), self._rest)

    def __reversed__(self) -> Iterator[Message]:
        return chain.from_iterable(map(reversed, (self._rest, *reversed(self._pieces))))

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Messages):
            return self._rest == other._rest and self._pieces == other._pieces
        return tuple(self) == other if isinstance(other, tuple) else NotImplemented

    def __hash__(self) -> int:
        return hash(tuple(self))

    def __repr__(self) -> str:
        return repr(tuple(self))


def extended(messages: Sequence[Message], *more: Message) -> Messages:
    """Messages and some after them."""
    return _held(messages) + more


def beyond(messages: Sequence[Message], before: Sequence[Message]) -> tuple[Message, ...] | None:
    """What follows those before in these messages, or None if they do not begin with them; at once for those that were
    `extended`."""
    return _held(messages).beyond(_held(before))


def _held(messages: Sequence[Message]) -> Messages:
    return messages if isinstance(messages, Messages) else Messages(messages)


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
