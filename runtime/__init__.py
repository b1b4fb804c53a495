"""The runtime: actors under trio that drive loops."""

from ._agent import Agent, AgentTool, BadAgent, UnknownAgent
from ._attempts import Ask, SleepUntil
from ._changed import ChangedAgent, VanishedTool
from ._compaction import Compaction, DropToolResults, Shorten, Summarize, drop_tool_results, summarize
from ._context import ToolContext
from ._exploring import BadExploration
from ._judged import judged_by
from ._lease import BranchGone, Driven, LeaseLost
from ._model import Model, ModelRequest, ModelUnavailable, TooLong
from ._notices import Committed, Dropped, Listener, Notice, Progressed, Streamed, Thinking
from ._proposed import ProposedCall, Writes
from ._retry import Retry
from ._runtime import NotARoot, Outcome, Runtime
from ._services import NoModel, NotInTrio
from ._signature import ToolDefinition
from ._suspensions import Moment, Suspension, after, after_model_calls, suspension
from ._tools import AnyTool, BadArguments, Tool, ToolTimeout, ask, sleep_until, tool
from ._trials import Evaluator, NotEvaluated, Trial

__all__ = [
    "Agent",
    "AgentTool",
    "AnyTool",
    "Ask",
    "BadAgent",
    "BadArguments",
    "BadExploration",
    "BranchGone",
    "ChangedAgent",
    "Committed",
    "Compaction",
    "Driven",
    "DropToolResults",
    "Dropped",
    "Evaluator",
    "LeaseLost",
    "Listener",
    "Model",
    "ModelRequest",
    "ModelUnavailable",
    "Moment",
    "NoModel",
    "NotARoot",
    "NotEvaluated",
    "NotInTrio",
    "Notice",
    "Outcome",
    "Progressed",
    "ProposedCall",
    "Retry",
    "Runtime",
    "Shorten",
    "SleepUntil",
    "Streamed",
    "Summarize",
    "Suspension",
    "Thinking",
    "TooLong",
    "Tool",
    "ToolContext",
    "ToolDefinition",
    "ToolTimeout",
    "Trial",
    "UnknownAgent",
    "VanishedTool",
    "Writes",
    "after",
    "after_model_calls",
    "ask",
    "drop_tool_results",
    "judged_by",
    "sleep_until",
    "summarize",
    "suspension",
    "tool",
]
