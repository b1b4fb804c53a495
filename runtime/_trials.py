"""Trials: what came of one variant, and what an evaluator says of it."""

import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from caesura.continuations import CaesuraError, CallerError, LoopName, Saved, Status, Variant

if TYPE_CHECKING:
    from ._runtime import Outcome


class NotEvaluated(CallerError):
    """An evaluator did not say how good an outcome is. The loop is as it was."""


class Trial(msgspec.Struct, frozen=True, kw_only=True):
    """What came of one variant.

    `outcome` is how far its loop has come, None if it was not driven; its status is ``active`` if it was stopped, or if
    there was no more to spend. `score` is the evaluator's, the more the better; None if the loop has not completed, or
    could not be evaluated. `error` is why it could not be made, driven or evaluated.
    """

    variant: Variant
    loop: LoopName
    outcome: "Outcome | None" = None
    score: float | None = None
    note: str = ""
    error: CaesuraError | None = None

    @property
    def status(self) -> Status | None:
        """That of its loop, None if it was not driven."""
        return None if self.outcome is None else self.outcome.status


Scoring = float | tuple[float, str]
"""How good an outcome is, perhaps with a note that says why."""

Evaluate = Callable[["Outcome", Saved], Scoring | Awaitable[Scoring]]
"""Says how good an outcome is, given it and the loop as it is; one that is not async runs in a thread."""


async def nothing() -> None:
    """For an evaluator that has nothing to close."""


@dataclass(frozen=True, kw_only=True)
class Evaluator:
    """What scores outcomes, by the name under which the history knows it. `aclose` is called when all are scored."""

    name: str
    evaluate: Evaluate
    aclose: Callable[[], Awaitable[None]] = nothing


def evaluator_of(given: Evaluator | Evaluate) -> Evaluator:
    """An evaluator; a function is one by its own name."""
    if isinstance(given, Evaluator):
        return given
    return Evaluator(name=getattr(given, "__name__", type(given).__name__), evaluate=given)


def scoring(said: object) -> tuple[float, str]:
    """What an evaluator said.

    Raises:
        NotEvaluated: it is no score.
    """
    value, note = said if isinstance(said, tuple) and len(said) == 2 else (said, "")
    if not isinstance(value, int | float) or not math.isfinite(value) or not isinstance(note, str):
        raise NotEvaluated(
            f"The evaluator said {said!r}, which is no score.", hint="Return a number, or a number and a note."
        )
    return float(value), note
