"""The shapes of a continuation object, and how its JSON is read: strictly, with the place in every error."""

from typing import Any, Literal

import msgspec

from .._errors import CallerError
from .._messages import Function, Json, User, Value, plain_text
from .._text import one_line

SOURCE: Literal["agent-continuations"] = "agent-continuations"
"""Where the format comes from; also the key of what a model's message held that has no place of its own here."""

MAX_DEPTH = 400
"""How deep the JSON of a document may nest: more than the longest name of a loop allows."""


IMPORTABLE = ("function", "agent")
"""The kinds of tools whose calls the format has a form for."""


class BadDocument(CallerError):
    """A document is not a continuation object, or not one that can go on here. Nothing was written."""


class Processed(Value, frozen=True, kw_only=True):
    id: str
    approved: bool = False


class Requested(Value, frozen=True, kw_only=True):
    id: str
    function: Function
    type: Literal["function"] = "function"
    continuation: "Nested | None" = None


class Nested(Value, frozen=True, kw_only=True):
    messages: tuple[dict[str, Json], ...]
    resume_request: tuple[Requested, ...] = ()
    processed: tuple[Processed, ...] = ()
    suspend_list: tuple[str, ...] | None = None
    told: tuple[User, ...] = ()


class Item(Value, frozen=True, kw_only=True):
    path_ids: tuple[str, ...]
    paths: tuple[str, ...] | None = None
    tool_call: Requested | None = None
    approved: bool | None = None


class Document(Value, frozen=True, kw_only=True):
    continuation: Nested | None = None
    approval_info: tuple[Item, ...] = ()
    suspend_list: tuple[str, ...] | None = None
    end_reason: Literal["approval_required", "suspended", "completed"] | None = None
    result: str | None = None
    messages: tuple[dict[str, Json], ...] | None = None


def convert(value: Json, kind: Any, place: str) -> Any:
    try:
        return msgspec.convert(value, kind)
    except (msgspec.ValidationError, RecursionError) as error:
        what, _, where = str(error).partition(" - at `$")
        path = place + where.rstrip("`")
        raise bad(path.lstrip(".") or "the document", what[:1].lower() + what[1:]) from error


def clean(value: Json, place: str, depth: int) -> Json:
    """A copy in which null stands in no object and every text can be written, of nothing but JSON."""
    if depth > MAX_DEPTH:
        raise bad(one_line(place, 60), f"it nests more than {MAX_DEPTH} deep, or contains itself")
    match value:
        case str():
            return plain_text(value)
        case None | bool():
            return value
        case int() if -(2**63) <= value < 2**63:
            return value
        case float() if value == value and abs(value) != float("inf"):
            return value
        case list() | tuple():
            return [clean(item, f"{place}[{index}]", depth + 1) for index, item in enumerate(value)]
        case dict():
            if any(not isinstance(key, str) for key in value):
                raise bad(place, "the keys of an object are texts")
            return {
                plain_text(key): clean(item, f"{place}.{key}".removeprefix("the document."), depth + 1)
                for key, item in value.items()
                if item is not None
            }
        case _:
            raise bad(place, f"a value of type {type(value).__name__} is not JSON, or too large")


def bad(place: str, what: str) -> BadDocument:
    return BadDocument(f"{place}: {what}.", hint="Nothing was imported; mend the document, or the agent's code.")
