"""Caesura: a git-backed actor runtime for LLM agents.

Agents, their tools and the runtime need an event loop (trio) and a model; `Loops` needs neither: it lists what waits,
decides, answers, forks and shows. The names here are the ones that most programs need; the rest is in
`caesura.runtime`, `caesura.continuations` and `caesura.adapters`.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .continuations import Budget, CaesuraError, Image, ImageUrl, Loops, Person, Redaction, Request, Status, Text
    from .runtime import (
        Agent,
        Ask,
        Compaction,
        Moment,
        Outcome,
        ProposedCall,
        Retry,
        Runtime,
        SleepUntil,
        Tool,
        ToolContext,
        after,
        after_model_calls,
        ask,
        drop_tool_results,
        sleep_until,
        summarize,
        suspension,
        tool,
    )

__all__ = [
    "Agent",
    "Ask",
    "Budget",
    "CaesuraError",
    "Compaction",
    "Image",
    "ImageUrl",
    "Loops",
    "Moment",
    "Outcome",
    "Person",
    "ProposedCall",
    "Redaction",
    "Request",
    "Retry",
    "Runtime",
    "SleepUntil",
    "Status",
    "Text",
    "Tool",
    "ToolContext",
    "after",
    "after_model_calls",
    "ask",
    "drop_tool_results",
    "sleep_until",
    "summarize",
    "suspension",
    "tool",
]

_CONTINUATIONS = frozenset(
    {"Budget", "CaesuraError", "Image", "ImageUrl", "Loops", "Person", "Redaction", "Request", "Status", "Text"}
)


def __getattr__(name: str) -> Any:
    # On first use: whoever only decides about loops does not wait for trio and the runtime to load.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = "continuations" if name in _CONTINUATIONS else "runtime"
    return getattr(importlib.import_module(f".{home}", __name__), name)
