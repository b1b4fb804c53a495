"""How one attempt at a tool can end, and what a tool may return to end it later."""

import datetime as dt
import enum
import json
from dataclasses import dataclass
from typing import Any

import msgspec

from caesura.continuations import Question, ToolError, Value, plain_text

from ._schema import schema_of
from ._signature import ToolDefinition

_LONGEST = 16 * 2**20
"""Characters of a result. Each may take six bytes in JSON, and a file of a loop can have a hundred million."""


class BadTime(ToolError):
    """A time to sleep until is not a moment: it has no timezone, or lies outside the calendar."""


class Unencodable(ToolError):
    """A tool returned something that cannot be shown to a model."""


class Returned(Value, frozen=True, tag=True, kw_only=True):
    """The tool returned; `content` is what the model reads."""

    content: str


class Failed(Value, frozen=True, tag=True, kw_only=True):
    """The tool failed; `error` is what the model reads. With `retry_in`, in seconds, it is to be tried again."""

    error: str
    retry_in: float | None = None


class Asked(Value, frozen=True, tag=True, kw_only=True):
    """The tool asks a person: the answer will be the call's result."""

    question: Question


class Sleeping(Value, frozen=True, tag=True, kw_only=True):
    """The tool sleeps: the call's result comes at that time, which is in UTC."""

    until: dt.datetime


AttemptEnd = Returned | Failed | Asked | Sleeping
"""How one attempt at a tool ended."""


@dataclass(frozen=True)
class Ask:
    """Returned by a tool to put a question to a person, or another system; the answer becomes the call's result.

    `answer` is the type of a valid answer: anything that msgspec supports. The tool is not run again.
    """

    text: str
    answer: Any = str

    def question(self) -> Question:
        """The question as the continuation keeps it.

        Raises:
            ToolDefinition: the type of the answer has no JSON schema.
        """
        return Question(text=plain_text(self.text), answer=answer_schema(self.answer))


@dataclass(frozen=True)
class SleepUntil:
    """Returned by a tool to let its call's result come at a time; the tool is not run again.

    Raises:
        BadTime: the time has no timezone, or is outside the calendar when put in UTC.
    """

    when: dt.datetime

    def __post_init__(self) -> None:
        self.utc()

    def utc(self) -> dt.datetime:
        """The time, in UTC."""
        # Without a timezone, two workers in different places would wake at different times.
        if self.when.utcoffset() is None:
            raise BadTime(
                f"{self.when.isoformat()} has no timezone.",
                hint="Give one: datetime.now(timezone.utc) + timedelta(hours=1), or a time ending in 'Z'.",
            )
        try:
            return self.when.astimezone(dt.UTC)
        except OverflowError as error:
            raise BadTime(
                f"{self.when.isoformat()} is outside the calendar in UTC.",
                hint="Choose a time between the years 2 and 9998.",
            ) from error


def answer_schema(type_: Any) -> dict[str, Any]:
    """The JSON schema of the type of an answer.

    Raises:
        ToolDefinition: it has none.
    """
    try:
        return schema_of(type_)
    except Exception as error:  # resolving a user's type may run any code
        raise ToolDefinition(
            f"{type_!r} cannot be the type of an answer: it has no JSON schema.",
            hint="Use the types that msgspec supports: str, bool, int, Literal, Enum, Struct, dataclass…",
        ) from error


def outcome_of(value: Any) -> AttemptEnd:
    """What a tool's return value means.

    Text is the result as it is, None is ``Done.``, anything else becomes compact JSON as msgspec writes it.

    Raises:
        Unencodable: there is no JSON for it, it is too long, or it is bytes, of which a model could make nothing.
        ToolDefinition: it is an `Ask` whose answer's type has no schema.
    """
    match value:
        case Ask():
            return Asked(question=value.question())
        case SleepUntil():
            return Sleeping(until=value.utc())
        case None:
            return Returned(content="Done.")
        case str():
            # An enum's own __str__ would give its name.
            return _returned(value, plain_text(str.__str__(value.value if isinstance(value, enum.Enum) else value)))
        case bytes() | bytearray() | memoryview():
            raise _unencodable(value, "bytes are not text: decode them")
    try:
        content = _json(value)
    except Exception as error:  # a value's own properties may raise anything
        raise _unencodable(value, str(error) or type(error).__name__) from error
    return _returned(value, content)


def _returned(value: Any, content: str) -> Returned:
    if len(content) > _LONGEST:
        raise Unencodable(
            f"it ran, but returned a value of type {type(value).__qualname__} of {len(content):,} characters; "
            f"a result can have {_LONGEST:,}.",
            hint="Return a part of it, or the name of a file that it is in.",
        )
    return Returned(content=content)


def _json(value: Any) -> str:
    try:
        return msgspec.json.encode(value).decode()
    except (UnicodeEncodeError, OverflowError):
        # Half a surrogate pair (file names have them) or an integer beyond 64 bits: only the standard library copes.
        plain = msgspec.to_builtins(value, str_keys=True)
        return plain_text(json.dumps(plain, ensure_ascii=False, separators=(",", ":"), allow_nan=False))


def _unencodable(value: Any, reason: str) -> Unencodable:
    return Unencodable(
        f"it ran, but returned a value of type {type(value).__qualname__} that cannot be encoded: {reason}.",
        hint="Return text, None, or something that msgspec can encode as JSON.",
    )
