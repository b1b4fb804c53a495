"""Spans of time, as a person types them."""

import re

_SPAN = re.compile(r"([1-9][0-9]{0,6})\s*([smhd])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def seconds_in(text: str) -> int | None:
    """The seconds in a text like ``30m``, ``2h`` or ``7d``; None if it is no such text."""
    match = _SPAN.fullmatch(text.strip())
    return None if match is None else int(match[1]) * _SECONDS[match[2]]
