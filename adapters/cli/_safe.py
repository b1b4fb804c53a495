"""Arguments and text that can be looked at safely. Imports next to nothing."""

import json
from typing import Any


def visible(text: str) -> str:
    """The text with each invisible or reordering character as JSON writes it: two arguments that differ look it."""
    return "".join(char if char.isprintable() or char == "\n" else json.dumps(char)[1:-1] for char in text)


def compact_call(tool: str, values: Any, width: int) -> str | None:
    """A call on one line, if its arguments are values by names, and all of it fits there."""
    if not isinstance(values, dict):
        return None
    inner = ", ".join(f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in values.items())
    line = visible(f"{tool}({inner})").replace("\n", "\\n")
    return line if len(line) <= width else None
