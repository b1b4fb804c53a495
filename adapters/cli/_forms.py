"""Values as a person reads and writes them: arguments in full, times, and what a JSON schema asks for."""

import datetime as dt
import json
from collections.abc import Iterable

from caesura.continuations import Json, count

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
        return json.dumps(json.loads(text), indent=2, ensure_ascii=False)
    except (ValueError, RecursionError):
        return text


def clip(text: str, lines: int = 20, width: int = 2000) -> str:
    """The beginning of a text: at most so many lines and characters, saying what was left out."""
    text = text.replace("\r\n", "\n").strip("\n")
    kept = "\n".join(text[:width].split("\n")[:lines])
    rest = len(text) - len(kept)
    return f"{kept}\n[… {count(rest, 'more character')}]" if rest else kept


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
    """A time to the second, in the reader's own time zone."""
    return at.astimezone().strftime("%Y-%m-%d %H:%M:%S %Z")


def asked_for(schema: Json) -> str:
    """What a schema asks for, in words: ``yes or no``, ``one of "a", "b"``, ``{item: text, amount: number}``."""
    return _form(schema, schema if isinstance(schema, dict) else {}, 0)


def _form(schema: Json, root: dict[str, Json], depth: int) -> str:
    if not isinstance(schema, dict) or not schema or depth > 6:
        return "any JSON value"
    if "$ref" in schema:
        name = str(schema["$ref"]).rpartition("/")[2]
        return _form(root.get("$defs", {}).get(name, {}), root, depth + 1)
    if "const" in schema:
        return json.dumps(schema["const"], ensure_ascii=False)
    if "enum" in schema:
        return "one of " + ", ".join(json.dumps(one, ensure_ascii=False) for one in schema["enum"])
    for key in ("anyOf", "oneOf"):
        if key in schema:
            return " or ".join(dict.fromkeys(_form(one, root, depth + 1) for one in schema[key]))
    kinds = schema.get("type")
    if isinstance(kinds, list):
        return " or ".join(_form({**schema, "type": kind}, root, depth + 1) for kind in kinds)
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
            return f"a list of: {_form(schema.get('items', {}), root, depth + 1)}"
        case "object":
            return _object(schema, root, depth)
        case _:
            return json.dumps(schema, ensure_ascii=False)


def _object(schema: dict[str, Json], root: dict[str, Json], depth: int) -> str:
    fields = schema.get("properties")
    if not isinstance(fields, dict) or not fields:
        return "a JSON object"
    required = schema.get("required", ())
    parts = [
        f'"{name}"{"" if name in required else " (optional)"}: {_form(one, root, depth + 1)}'
        for name, one in fields.items()
    ]
    return "{" + ", ".join(parts) + "}"


def _bounds(schema: dict[str, Json], suffix: str) -> str:
    low, high = schema.get(f"min{suffix}"), schema.get(f"max{suffix}")
    if low is not None and high is not None:
        return f" from {low} to {high}"
    if low is not None:
        return f" of at least {low}"
    return f" of at most {high}" if high is not None else ""
