"""Values as a person reads and writes them: arguments in full, times, and what a JSON schema asks for."""

import datetime as dt
import json
from collections.abc import Iterable
from contextlib import suppress

from caesura.continuations import Json, count, from_json

from ._safe import visible

_ARROW = " \N{SINGLE RIGHT-POINTING ANGLE QUOTATION MARK} "


def path_text(agents: Iterable[str]) -> str:
    """Agents from the root's down, in one line."""
    return _ARROW.join(agents)


def pretty(arguments: str) -> str:
    """Arguments in full, as they run: JSON indented, every character that cannot be seen spelled out."""
    return visible(_indented(arguments))


def pretty_value(value: Json) -> str:
    """A JSON value, indented."""
    return visible(json.dumps(value, indent=2, ensure_ascii=False))


def _indented(text: str) -> str:
    try:
        return json.dumps(from_json(text), indent=2, ensure_ascii=False)
    except ValueError:
        return text


def clip(text: str, lines: int = 20, width: int = 2000) -> str:
    """The beginning of a text: at most so many lines and characters, saying what was left out."""
    text = text.replace("\r\n", "\n").strip("\n")
    kept = "\n".join(text[:width].split("\n")[:lines])
    rest = len(text) - len(kept)
    return f"{kept}\n[… {count(rest, 'more character')}]" if rest else kept


def parsed(text: str) -> Json:
    """Arguments as a value; as text if they are not JSON."""
    try:
        return from_json(text)
    except ValueError:
        return text


def duration(seconds: float) -> str:
    """``3 minutes``: about how long, in one unit."""
    if seconds < 1.5:
        return "a moment"
    for unit, size, until in (("second", 1, 90), ("minute", 60, 5400), ("hour", 3600, 129_600)):
        if seconds < until:
            return count(round(seconds / size), unit)
    return count(round(seconds / 86_400), "day")


def ago(since: dt.datetime, now: dt.datetime) -> str:
    """``3 minutes ago``."""
    return f"{duration((now - since).total_seconds())} ago"


def moment(at: dt.datetime) -> str:
    """A time to the second, in the reader's own time zone, unless the calendar ends there."""
    with suppress(OverflowError, ValueError):
        at = at.astimezone()
    return at.strftime("%Y-%m-%d %H:%M:%S %Z")


def asked_for(schema: Json) -> str:
    """What a schema asks for, in words: ``yes or no``, ``one of "a", "b"``, ``{item: text, amount: number}``.

    A schema may come from a stranger's repository, and then be none at all, or one that refers to itself.
    """
    return _Words(schema).of(schema, 0)


_MOST = 200
"""Parts of a schema that are put in words; what is beyond can be any JSON value."""


class _Words:
    def __init__(self, root: Json) -> None:
        self._named = _dict(_dict(root).get("$defs"))
        self._left = _MOST

    def of(self, schema: Json, depth: int) -> str:
        self._left -= 1
        if not isinstance(schema, dict) or not schema or depth > 6 or self._left < 0:
            return "any JSON value"
        if "$ref" in schema:
            name = str(schema["$ref"]).rpartition("/")[2]
            return self.of(self._named.get(name), depth + 1)
        if "const" in schema:
            return json.dumps(schema["const"], ensure_ascii=False)
        if isinstance(schema.get("enum"), list):
            return "one of " + ", ".join(json.dumps(one, ensure_ascii=False) for one in schema["enum"][:_MOST])
        for key in ("anyOf", "oneOf"):
            if isinstance(schema.get(key), list):
                return " or ".join(dict.fromkeys(self.of(one, depth + 1) for one in schema[key][:_MOST]))
        kinds = schema.get("type")
        if isinstance(kinds, list):
            each = (self.of({**schema, "type": kind}, depth + 1) for kind in kinds[:_MOST])
            return " or ".join(dict.fromkeys(each))
        match kinds:
            case "string":
                return "text" + (f" ({schema['format']})" if "format" in schema else "") + _bounds(schema, "Length")
            case "boolean":
                return "true or false"
            case "integer" | "number":
                return ("a whole number" if kinds == "integer" else "a number") + _bounds(schema, "imum")
            case "null":
                return "null"
            case "array":
                return f"a list of: {self.of(schema.get('items', {}), depth + 1)}"
            case "object":
                return self._object(schema, depth)
            case _:
                return json.dumps(schema, ensure_ascii=False)

    def _object(self, schema: dict[str, Json], depth: int) -> str:
        fields = list(_dict(schema.get("properties")).items())[:_MOST]
        required = schema.get("required")
        needed = required if isinstance(required, list) else []
        parts = [
            f'"{name}"{"" if name in needed else " (optional)"}: {self.of(one, depth + 1)}' for name, one in fields
        ]
        return "{" + ", ".join(parts) + "}" if parts else "a JSON object"


def _dict(value: Json) -> dict[str, Json]:
    return value if isinstance(value, dict) else {}


def _bounds(schema: dict[str, Json], suffix: str) -> str:
    low, high = schema.get(f"min{suffix}"), schema.get(f"max{suffix}")
    if low is not None and high is not None:
        return f" from {low} to {high}"
    if low is not None:
        return f" of at least {low}"
    return f" of at most {high}" if high is not None else ""
