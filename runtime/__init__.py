"""The runtime: actors under trio that drive loops."""

from ._actor import BranchGone
from ._agent import Agent, AgentTool, BadAgent, UnknownAgent
from ._attempts import Ask, SleepUntil
from ._changed import ChangedAgent, VanishedTool
from ._context import ToolContext
from ._lease import Driven, LeaseLost
from ._model import Model, ModelRequest, ModelUnavailable
from ._notices import Committed, Dropped, Listener, Notice, Progressed, Streamed, Thinking
from ._retry import Retry
from ._runtime import NotARoot, Outcome, Runtime
from ._services import NoModel
from ._signature import ToolDefinition
from ._suspensions import Moment, Suspension, after, after_model_calls, suspension
from ._tools import AnyTool, BadArguments, ProposedCall, Tool, ToolTimeout, ask, sleep_until, tool

__all__ = [
    "Agent",
    "AgentTool",
    "AnyTool",
    "Ask",
    "BadAgent",
    "BadArguments",
    "BranchGone",
    "ChangedAgent",
    "Committed",
    "Driven",
    "Dropped",
    "LeaseLost",
    "Listener",
    "Model",
    "ModelRequest",
    "ModelUnavailable",
    "Moment",
    "NoModel",
    "NotARoot",
    "Notice",
    "Outcome",
    "Progressed",
    "ProposedCall",
    "Retry",
    "Runtime",
    "SleepUntil",
    "Streamed",
    "Suspension",
    "Thinking",
    "Tool",
    "ToolContext",
    "ToolDefinition",
    "ToolTimeout",
    "UnknownAgent",
    "VanishedTool",
    "after",
    "after_model_calls",
    "ask",
    "sleep_until",
    "suspension",
    "tool",
]
