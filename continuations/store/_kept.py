"""What was used last, as far as it is small enough to be kept."""

from collections import OrderedDict
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Kept(Generic[K, V]):
    """Values by their keys: at most so many, and together at most of a size; the last one whatever its size is.

    For one thread at a time.
    """

    def __init__(self, most: int, size: int) -> None:
        self._most, self._limit = most, size
        self._values: OrderedDict[K, tuple[V, int]] = OrderedDict()
        self._size = 0

    def get(self, key: K) -> V | None:
        """The value of a key, which is the one used last from now on."""
        found = self._values.get(key)
        if found is None:
            return None
        self._values.move_to_end(key)
        return found[0]

    def keep(self, key: K, value: V, size: int) -> None:
        """Keep a value, and let go of those that were not used for longest."""
        before = self._values.pop(key, None)
        self._values[key] = value, size
        self._size += size - (0 if before is None else before[1])
        while len(self._values) > self._most or (self._size > self._limit and len(self._values) > 1):
            self._size -= self._values.popitem(last=False)[1][1]

    def drop(self, key: K) -> None:
        """Let go of a value, if it is kept."""
        before = self._values.pop(key, None)
        self._size -= 0 if before is None else before[1]

    def clear(self) -> None:
        """Let go of all."""
        self._values.clear()
        self._size = 0
