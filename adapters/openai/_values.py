"""Reading JSON that another program wrote: whatever is not of the expected kind counts as absent."""

import math
import re
from typing import Any

from caesura.continuations import Json, plain_text

# msgspec, which writes the history, knows no larger whole numbers.
_WIDEST = 2**63

_SHOWN = 300


def mapping(value: Json) -> dict[str, Any]:
    """The object, or an empty one."""
    return value if isinstance(value, dict) else {}


def sequence(value: Json) -> list[Any]:
    """The array, or an empty one."""
    return value if isinstance(value, list) else []


def text(value: Json) -> str:
    """The string, or an empty one."""
    return value if isinstance(value, str) else ""


def count(value: Json) -> int:
    """The number of tokens, or 0."""
    return value if isinstance(value, int) and 0 < value < _WIDEST else 0


def encodable(value: Json) -> Json:
    """The same JSON with what the history cannot hold replaced: lone surrogates, NaN, numbers beyond 64 bits."""
    match value:
        case str():
            return plain_text(value)
        case dict():
            return {plain_text(str(key)): encodable(item) for key, item in value.items()}
        case list():
            return [encodable(item) for item in value]
        case float() if not math.isfinite(value):
            return None
        case int() if not -_WIDEST <= value < _WIDEST:
            return str(value)
        case _:
            return value


def sentence(message: str) -> str:
    """A server's message in one line fit for an error: an HTML page is named by its title, length is bounded."""
    page = re.search(r"<title[^>]*>(.*?)</title>", message, re.IGNORECASE | re.DOTALL)
    if page:
        message = f"an HTML page titled “{page[1].strip()}”"
    elif re.match(r"\s*<(!doctype|html)", message, re.IGNORECASE):
        message = "an HTML page"
    line = " ".join(plain_text(message[: _SHOWN * 4]).split())
    return line if len(line) <= _SHOWN else line[: _SHOWN - 1] + "…"
