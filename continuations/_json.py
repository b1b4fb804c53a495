"""JSON from others: how deep it may nest, and how its text is read."""

import json
import math
from collections.abc import Iterable, Mapping

import msgspec

from ._messages import Json

MAX_NESTING = 200
"""How deep JSON values may nest in a loop: what reads them, here and elsewhere, goes down by recursion."""


_FLAT = frozenset({str, int, float, bool, type(None)})
"""What most values are, and has nothing in it."""


def nests_deeper(value: object, most: int = MAX_NESTING) -> bool:
    """Whether values nest deeper; found without recursion, of which there is only so much."""
    waiting: list[tuple[object, int]] = [(value, 0)]
    while waiting:
        one, depth = waiting.pop()
        if depth > most:
            return True
        if type(one) in _FLAT:
            continue
        match one:
            case msgspec.Struct():
                inner: Iterable[object] = (getattr(one, name) for name in one.__struct_fields__)
            case Mapping():
                inner = one.values()
            case list() | tuple():
                inner = one
            case _:
                continue
        waiting.extend((item, depth + 1) for item in inner)
    return False


def brackets(text: str | bytes) -> int:
    """How deep JSON nests at most: a look that takes next to no time, where to go down into it does."""
    return text.count("{") + text.count("[") if isinstance(text, str) else text.count(b"{") + text.count(b"[")


def from_json(text: str) -> Json:
    """Read JSON text that can be written again, and be gone down into, by anybody.

    Raises:
        ValueError: it is not JSON, nests deeper than `MAX_NESTING`, or has a number that JSON has not.
    """
    try:
        value = _READER.decode(text)
    except RecursionError:
        raise ValueError(_DEEP) from None
    if brackets(text) > MAX_NESTING and nests_deeper(value):
        raise ValueError(_DEEP)
    return value


_DEEP = f"it nests more than {MAX_NESTING} deep"


def _finite(text: str) -> float:
    number = float(text)
    return number if math.isfinite(number) else _no_number(text)


def _no_number(text: str) -> float:
    raise ValueError(f"{text[:40]} is no number of JSON's")


_READER = json.JSONDecoder(parse_constant=_no_number, parse_float=_finite)


def canonical(arguments: str) -> str:
    """Arguments so that two ways to write the same JSON are the same text."""
    try:
        return json.dumps(json.loads(arguments), sort_keys=True)
    except (ValueError, RecursionError):
        return arguments
