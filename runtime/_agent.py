"""Agents: definitions, with their code; and agents as tools of other agents."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from msgspec.structs import replace

from caesura.continuations import AgentSpec, Budget, CallerError, ChildFiles, ModelSpec

from ._compaction import Compaction, Summarize
from ._model import Model
from ._proposed import Approval
from ._schema import schema_of
from ._suspensions import Suspension
from ._tools import Tool, tool


class BadAgent(CallerError):
    """An agent is defined in a way that cannot work."""


class UnknownAgent(CallerError):
    """A loop needs an agent that this process does not have."""


_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,63}")


@dataclass(frozen=True, eq=False)
class Agent:
    """Who does the work: a name, instructions, a model and tools.

    `model` is the runtime's own unless given. `result` is the type of the loop's result, anything that msgspec
    supports; the default is free text. `suspend` is asked before each model call. `budget` is for each loop of this
    agent and its children together. `compaction` says when the messages are too many, and what is done about it.
    An agent is what it was made as: whatever becomes of the lists that it was given, its own do not change.

    Raises:
        BadAgent: the name is not 1 to 64 letters, digits, ``-`` and ``_``, two tools share a name, or what is given
            as a tool or as the model is none.
    """

    name: str
    instructions: str = ""
    tools: Sequence[Tool[..., Any]] = ()
    model: Model | None = None
    result: Any = str
    suspend: Sequence[Suspension] = ()
    budget: Budget = field(default_factory=Budget)
    compaction: Compaction | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "tools", tuple(self.tools))
        object.__setattr__(self, "suspend", tuple(self.suspend))
        if _NAME.fullmatch(self.name) is None:
            raise BadAgent(
                f"{self.name!r} cannot name an agent.",
                hint="Use 1 to 64 letters, digits, '-' and '_', not starting with '-'.",
            )
        for one in self.tools:
            if not isinstance(one, Tool):
                raise BadAgent(f"Agent {self.name} has {one!r:.100} among its tools.", hint=_no_tool(one))
        check_model(self.model, f"Agent {self.name}")
        names = [tool.name for tool in self.tools]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise BadAgent(f"Agent {self.name} has two tools named {twice!r}.", hint="Rename one: @tool(name=…).")

    def tool(self, name: str) -> Tool[..., Any] | None:
        """The tool of that name, or None."""
        return next((tool for tool in self.tools if tool.name == name), None)

    @property
    def models(self) -> tuple[Model, ...]:
        """The models of its own: the one that works, and the one that summarizes."""
        by = None if self.compaction is None else self.compaction.by
        return tuple(one for one in (self.model, by.model if isinstance(by, Summarize) else None) if one is not None)

    def as_tool(
        self,
        description: str,
        *,
        name: str | None = None,
        needs_approval: Approval = False,
        workspace: ChildFiles = "copy",
    ) -> "Tool[..., Any]":
        """This agent as a tool of another: a call starts a child loop with the given prompt, and its result is the
        loop's. `description` tells the calling model what the agent is for.

        If the calling loop works on files, the child loop works on a ``copy`` of them in a folder of its own, and what
        it has changed is merged into the caller's once it has returned; or it is to ``share`` the caller's folder,
        where each sees what the other does at once; or it works on ``none``.
        """

        def delegate(prompt: str) -> str:
            """Give an agent something to do."""
            raise NotImplementedError(prompt)  # a child loop does it; see the supervisor

        made = tool(name=name or self.name, description=description, needs_approval=needs_approval)(delegate)
        values = {one.name: getattr(made, one.name) for one in fields(made)}
        values["spec"] = replace(made.spec, kind="agent", agent=self.name, workspace=workspace)
        return AgentTool(**values, agent=self)

    def spec(self, model: ModelSpec) -> AgentSpec:
        """The definition as data, for the continuation, with the model that serves it."""
        return AgentSpec(
            name=self.name,
            instructions=self.instructions,
            model=model,
            tools=tuple(tool.spec for tool in self.tools),
            result=None if self.result is str else schema_of(self.result),
            suspensions=tuple(suspension.name for suspension in self.suspend),
            budget=self.budget,
            compaction=None if self.compaction is None else self.compaction.spec(),
        )


def check_model(model: object, whose: str) -> None:
    """Make sure that what is given as a model, by `whose` name it is told, is one.

    Raises:
        BadAgent: it is not.
    """
    if model is not None and not hasattr(model, "reply"):
        raise BadAgent(
            f"{whose} has {model!r:.100} for a model.",
            hint="A model is an object, as OpenAIModel('gpt-5') of caesura.adapters.openai makes one.",
        )


def _no_tool(given: object) -> str:
    """What to do about something that was given as a tool."""
    if isinstance(given, Agent):
        return f"Say what it is for: {given.name}.as_tool('…')."
    if callable(given):
        return "Make a tool of it: @tool before the function."
    return "Give a list of tools: what @tool, ask() or an agent's as_tool() makes."


@dataclass(frozen=True, eq=False, kw_only=True)
class AgentTool(Tool[..., Any]):
    """An agent as a tool of another; made by `Agent.as_tool`."""

    agent: Agent


def register(agents: Iterable[Agent]) -> Mapping[str, Agent]:
    """Agents by name, those that are tools of others included.

    Raises:
        BadAgent: two different agents share a name, or something is no agent.
    """
    found: dict[str, Agent] = {}
    waiting = list(agents)
    while waiting:
        agent = waiting.pop(0)
        if not isinstance(agent, Agent):
            raise BadAgent(f"{agent!r:.100} is no agent.", hint="Give a list of agents: agents=[lead].")
        if found.get(agent.name) is agent:
            continue
        if agent.name in found:
            raise BadAgent(f"Two agents are named {agent.name!r}.", hint="Give each agent a name of its own.")
        found[agent.name] = agent
        waiting.extend(tool.agent for tool in agent.tools if isinstance(tool, AgentTool))
    return found
