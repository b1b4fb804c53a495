"""A call that a model has proposed, and what the author of its tool may say of it before it runs."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from caesura.continuations import CallId, Json, LoopName, WouldWrite

from ._signature import ToolDefinition


@dataclass(frozen=True, kw_only=True)
class ProposedCall:
    """A call that a model has asked for, as a predicate sees it that decides whether a person must approve.

    `arguments` are valid, have the defaults filled in, and are plain values: None, bool, int, float, str, list, dict.
    """

    tool: str
    arguments: Mapping[str, Json]
    loop: LoopName
    call: CallId


Approval = bool | Callable[[ProposedCall], bool]
"""Whether a person must approve a call first: always, never, or as a predicate says, which is asked once a call."""

Writes = Callable[[ProposedCall, Path], WouldWrite]
"""What a call would write, given the folder with its loop's files as they are: asked before a person is asked to
approve the call, in a thread, and not for long. It must do nothing but look."""


def approval_of(name: str, needs_approval: Approval) -> Literal["never", "always", "predicate"]:
    """How a tool's definition tells its rule of approval.

    Raises:
        ToolDefinition: the rule is neither a bool nor a plain predicate.
    """
    if isinstance(needs_approval, bool):
        return "always" if needs_approval else "never"
    if not callable(needs_approval) or inspect.iscoroutinefunction(needs_approval):
        raise ToolDefinition(
            f"needs_approval of {name} is neither a bool nor a plain function.",
            hint="Give True, False, or a function of a ProposedCall that returns a bool without waiting.",
        )
    return "predicate"


def checked_writes(name: str, writes: Writes | None) -> Writes | None:
    """What a tool was given to say what its calls would write.

    Raises:
        ToolDefinition: it is not a plain function.
    """
    if writes is not None and (not callable(writes) or inspect.iscoroutinefunction(writes)):
        raise ToolDefinition(
            f"writes of {name} is not a plain function.",
            hint="Give a function of a ProposedCall and the workspace's folder that returns contents by their paths.",
        )
    return writes
