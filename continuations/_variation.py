"""Variations: what a fork is to be other than its source."""

from collections.abc import Mapping

from ._messages import Content, Json, Value
from ._rehearsal import OnMiss, ToolUse


class Variation(Value, frozen=True, kw_only=True):
    """What a fork is to be other than its source. Each part that is given becomes a commit of the fork, in this order.

    - `drop`: the last so many messages are gone, and every call in them.
    - `model`, by its name, and `settings`, both for the forked loop's own agent, whatever its code says; `instructions`
      alike.
    - `reword`: other words for what the loop was told, by the message's number, which counts from 1.
    - `arguments`: other arguments for calls that have not begun, by id or address; what was decided about them is void.
    - `results`: other results for calls of the last round, which the model has not answered yet.
    - `tools`: what its tools do, and those of the loops nested in it. None leaves that as it is in the source.
      ``recorded`` ends each call as one of the same tool, with the same arguments, ended in the source after the commit
      that is forked, in order; `on_miss` says what becomes of a call that has no such answer.
    - `tell`: what it is told.
    """

    drop: int = 0
    model: str = ""
    settings: Mapping[str, Json] | None = None
    instructions: str | None = None
    reword: Mapping[int, Content] = {}
    arguments: Mapping[str, Json] = {}
    results: Mapping[str, str] = {}
    tools: ToolUse | None = None
    on_miss: OnMiss = "suspend"
    tell: Content | None = None
