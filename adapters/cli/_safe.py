"""Arguments and text that can be looked at safely. Imports next to nothing."""

import json
from typing import Any


def visible(text: str) -> str:
    """The text with each invisible or reordering character as JSON writes it: two arguments that differ look it."""
    return "".join(char if char.isprintable() or char == "\n" else json.dumps(char)[1:-1] for char in text)


def parsed(text: str) -> Any:
    """Arguments as a value; as text if they are not JSON."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def compact_call(tool: str, arguments: str, width: int) -> str | None:
    """A call on one line, if all of it fits there."""
    values = parsed(arguments)
    if not isinstance(values, dict):
        return None
    inner = ", ".join(f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in values.items())
    line = visible(f"{tool}({inner})").replace("\n", "\\n")
    return line if len(line) <= width else None
