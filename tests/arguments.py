"""What tools are called with in the tests: a context, and arguments of types that a model is shown."""

import dataclasses
import datetime as dt
import enum
from collections.abc import Callable

import msgspec

from caesura.continuations import CallId, LoopName
from caesura.runtime._context import ToolContext

NOON = dt.datetime(2030, 1, 31, 12, tzinfo=dt.UTC)
LOOP, CALL = LoopName("release"), CallId("order-1")


def context(attempt: int = 1, report: Callable[[str], None] = lambda _: None) -> ToolContext:
    """What a tool that asks for it is told of its call."""
    return ToolContext(loop=LOOP, call=CALL, idempotency_key="k", attempt=attempt, report=report)


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Point(msgspec.Struct):
    x: int
    y: float = 0.0


@dataclasses.dataclass
class Box:
    corner: Point
    tags: list[str]
