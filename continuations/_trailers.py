"""Trailers: what a commit's message says to a program, read back."""

from collections.abc import Mapping

_SEPARATOR = ": "


def trailers(message: str) -> Mapping[str, tuple[str, ...]]:
    """The trailers of a commit's message by key, each with its values in order; none, if it has none.

    They are the last paragraph, so what a model or a tool said, which stands above it, cannot pass for one.
    """
    found: dict[str, tuple[str, ...]] = {}
    for line in message.rstrip("\n").rpartition("\n\n")[2].split("\n"):
        key, separator, value = line.partition(_SEPARATOR)
        if not separator or not key.replace("-", "").isalnum():
            return {}
        found[key] = (*found.get(key, ()), value)
    return found
