"""When a tool that failed is tried again."""

import math
from dataclasses import dataclass

from ._signature import ToolDefinition


@dataclass(frozen=True)
class Retry:
    """Which errors of a tool are worth another attempt, how many attempts there are, and how long to wait between.

    The wait after the first attempt is `first` seconds, grows by `factor` with each attempt up to `most` seconds,
    and is shortened at random by up to the share `jitter` (0 to 1), so that many loops do not return all at once.
    `attempts` counts the first one. A timeout is a `ToolTimeout`, which is a `TimeoutError` and so an `OSError`: where
    one of these is named, a call whose effect may have happened is made again.

    Raises:
        ToolDefinition: a value makes no sense.
    """

    on: tuple[type[Exception], ...]
    attempts: int = 3
    first: float = 1.0
    factor: float = 2.0
    most: float = 60.0
    jitter: float = 0.5

    def __post_init__(self) -> None:
        faults = {
            "on is not a tuple of Exception classes": not isinstance(self.on, tuple)
            or not all(isinstance(kind, type) and issubclass(kind, Exception) for kind in self.on),
            "attempts is less than 1": not self.attempts >= 1,
            "first is not a time of 0 seconds or more": not 0 <= self.first < math.inf,
            "factor is less than 1": not 1 <= self.factor < math.inf,
            "most is less than first": not self.first <= self.most < math.inf,
            "jitter is not between 0 and 1": not 0 <= self.jitter <= 1,
        }
        fault = next((text for text, wrong in faults.items() if wrong), None)
        if fault is not None:
            raise ToolDefinition(
                f"A retry is impossible: {fault}.",
                hint="For example: Retry(on=(ConnectionError,), attempts=4, first=1.0).",
            )

    def applies(self, error: BaseException, attempt: int) -> bool:
        """Whether an attempt, counted from 1, that ended in this error is followed by another.

        A group of errors counts if it is named itself or if each error in it counts: a nursery makes a group of one.
        """
        return attempt < self.attempts and self._named(error)

    def delay(self, attempt: int, random: float) -> float:
        """Seconds to wait after that attempt, counted from 1; `random` is drawn from 0 to below 1."""
        try:
            longest = min(self.most, self.first * self.factor ** (attempt - 1))
        except OverflowError:
            longest = self.most
        return longest * (1 - self.jitter * random)

    def _named(self, error: BaseException) -> bool:
        if isinstance(error, self.on):
            return True
        return isinstance(error, BaseExceptionGroup) and all(map(self._named, error.exceptions))
