"""What every actor of a runtime shares: the history behind one thread, the agents, the clock, the listener."""

import datetime as dt
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import ParamSpec, TypeVar

import trio

from caesura.continuations import (
    AgentSpec,
    AnyEvent,
    CallerError,
    Changes,
    Files,
    History,
    Judge,
    Loops,
    Needs,
    Person,
    Saved,
    Unavailable,
)

from ._agent import Agent, BadAgent, UnknownAgent
from ._model import Model
from ._notices import Listener

P = ParamSpec("P")
T = TypeVar("T")


class NoModel(CallerError):
    """An agent has no model, and neither has the runtime."""


@dataclass(kw_only=True)
class Services:
    """What the actors of one runtime share."""

    history: History
    agents: Mapping[str, Agent]
    model: Model | None
    committer: Person
    now: Callable[[], dt.datetime]
    listen: Listener
    changes: Changes
    max_tools: int
    poll: float
    judge: Judge | None
    threads: trio.CapacityLimiter
    _one_at_a_time: trio.CapacityLimiter = field(default_factory=lambda: trio.CapacityLimiter(1))
    _beside: trio.CapacityLimiter = field(default_factory=lambda: trio.CapacityLimiter(64))

    async def sync(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call into the synchronous layer below: here alone, and in `beside`, the runtime crosses to a thread for it.

        Once begun, the call is waited for even if it is cancelled: a commit is made or not, never left in doubt.
        """
        return await trio.to_thread.run_sync(lambda: function(*args, **kwargs), limiter=self._one_at_a_time)

    async def beside(self, function: Callable[[], None]) -> None:
        """`sync` for leases, which do not wait until the store has time for them, nor for a thread that tools use."""
        await trio.to_thread.run_sync(function, limiter=self._beside)

    @property
    def files(self) -> Files:
        """The files that loops work on."""
        return Files(self.history)

    def write(self, saved: Saved, event: AnyEvent, author: Person, *, exact: bool) -> Saved:
        """Commit an event's step; with the end of a tool's attempt, the loop's files as they are then.

        An `exact` event applies to that very state, any other to the newest one; the errors are the history's.
        """
        write = self.history.append if exact else self.history.apply
        made = write(saved, self.files.sealed(saved, event), self.committer, author)
        if made.state.workspace != saved.state.workspace:
            with suppress(Unavailable):  # what is not noted costs a look at every file
                self.files.settle(made)
        return made

    def loops(self) -> Loops:
        """The loops as people and other systems treat them; what is written there is redacted as here."""
        return Loops(self.history.store, redaction=self.history.redaction, now=self.now)

    def governs(self, agent: str, tool: str) -> Needs | None:
        """What the policy asks for before an agent's tool may run."""
        return None if self.judge is None else self.judge.needs(agent, tool)

    def agent(self, name: str) -> Agent:
        """The agent of that name, or of the name that it has now.

        Raises:
            UnknownAgent: this process has none.
        """
        name = self.changes.renamed.get(name, name)
        if name not in self.agents:
            known = ", ".join(sorted(self.agents)) or "none"
            raise UnknownAgent(
                f"There is no agent {name!r} here; there are: {known}.",
                hint=f"Name the module that defines it, with --agents; if it was renamed, say so in caesura.toml:"
                f' [changes] renamed = {{ {name} = "NEW" }}. The loop is as it was.',
            )
        return self.agents[name]

    def model_of(self, agent: Agent) -> Model:
        """The model that serves an agent.

        Raises:
            NoModel: neither the agent nor the runtime has one.
        """
        model = agent.model or self.model
        if model is None:
            raise NoModel(
                f"Agent {agent.name} has no model.", hint="Give it one, or give the runtime one for all its agents."
            )
        return model

    def spec(self, agent: Agent) -> AgentSpec:
        """An agent's definition as data, as the history holds it.

        Raises:
            BadAgent: a name by which its code is found holds a secret.
        """
        made = agent.spec(self.model_of(agent).spec)
        kept = self.history.storable(made)
        if _names(kept) != _names(made):
            raise BadAgent(f"A name in agent {kept.name} holds a secret.", hint="Rename the agent, tool or suspension.")
        return kept


def _names(spec: AgentSpec) -> tuple[str, ...]:
    return spec.name, *(tool.name for tool in spec.tools), *spec.suspensions


def as_author(agent: str) -> Person:
    """An agent as git's author; the address is one that can never be delivered to."""
    return Person(name=agent, email=f"{agent}@agents.invalid")
