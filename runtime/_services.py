"""What every actor of a runtime shares: the history, the agents, the clock, the listener."""

import datetime as dt
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import ParamSpec, TypeVar

import trio

from caesura.continuations import (
    AgentSpec,
    Amendment,
    AnyEvent,
    CallerError,
    Changes,
    ChildFailed,
    ChildFinished,
    Files,
    History,
    Judge,
    Loops,
    Merging,
    ModelSpec,
    Needs,
    Person,
    Records,
    Saved,
    Unavailable,
)

from ._agent import Agent, BadAgent, UnknownAgent
from ._crossing import Crossing
from ._duties import Duties
from ._lease import Renewals
from ._model import Model
from ._notices import Listener
from ._upkeep import Keeper
from ._watch import Watch

P = ParamSpec("P")
T = TypeVar("T")

_AS_IT_IS = Amendment()


class NotInTrio(CallerError):
    """Loops are driven by trio, and something else runs what asks for that."""


class NoModel(CallerError):
    """An agent has no model, and neither has the runtime."""


def check_trio() -> None:
    """Make sure that it is trio that runs this.

    Raises:
        NotInTrio: it is something else.
    """
    if not trio.lowlevel.in_trio_run():
        raise NotInTrio(
            "Loops are driven by trio, and it is not trio that runs this.",
            hint="Run it by trio.run(main), and not by asyncio.run(main()).",
        )


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
    watch: Watch
    judge: Judge | None
    keeper: Keeper
    threads: trio.CapacityLimiter
    records: Records
    renewals: Renewals = field(default_factory=Renewals)
    prompting: trio.Lock = field(default_factory=trio.Lock)
    _threads: trio.CapacityLimiter = field(default_factory=lambda: trio.CapacityLimiter(64))
    _beside: trio.CapacityLimiter = field(default_factory=lambda: trio.CapacityLimiter(64))

    _specs: dict[str, tuple[Agent, ModelSpec, Amendment, AgentSpec]] = field(default_factory=dict)
    _sealing: trio.Lock = field(default_factory=trio.Lock)
    _asked: int = 0
    _sealed: int = 0

    def __post_init__(self) -> None:
        self._crossing = Crossing(self.history.store)
        self.duties = Duties(
            partial(self.watch.keep, self.step),
            partial(self.renewals.keep, self.beside),
            partial(self.keeper.keep, self.beside),
        )

    async def sync(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call into the synchronous layer below: here alone, in `step` and in `beside` the runtime crosses to a thread.

        Once begun, the call is waited for even if it is cancelled: a commit is made or not, never left in doubt.
        """
        return await trio.to_thread.run_sync(partial(function, *args, **kwargs), limiter=self._threads)

    async def step(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """`sync` for what takes a step's time and makes one commit at most, at its end.

        Loops that do so at once share a thread, and the wait for the disk, if the store has them share it.
        """
        if not self.history.store.shares:
            return await self.sync(function, *args, **kwargs)
        return await self._crossing.do(partial(function, *args, **kwargs))

    async def beside(self, function: Callable[[], T]) -> T:
        """`sync` for the renewal of leases, and upkeep: no store's time is waited for, nor a thread that tools use."""
        return await trio.to_thread.run_sync(function, limiter=self._beside)

    async def seal(self) -> None:
        """Let git see all that was committed by now: once for all who ask for it while it is done for others.

        Raises:
            Locked, Unavailable: it cannot be done now. Nothing is lost.
        """
        self._asked += 1
        mine = self._asked
        async with self._sealing:
            if self._sealed < mine:
                asked = self._asked
                await self.sync(self.history.store.seal)
                self._sealed = asked

    @property
    def files(self) -> Files:
        """The files that loops work on."""
        return Files(self.history)

    async def write(self, saved: Saved, event: AnyEvent, author: Person, *, exact: bool) -> Saved:
        """Commit an event's step; with the end of a tool's attempt, the loop's files as they are then, and with that of
        a child loop, the child's merged into them. It must be the loop's turn at its folder (`Seat.turn`).

        An `exact` event applies to that very state, any other to the newest one; the errors are the history's, and of
        the end of a child loop those of `Merging.take`.
        """
        # To look at files may take longer than others should wait for.
        alone = saved.state.workspace is not None or isinstance(event, ChildFinished | ChildFailed)
        cross = self.sync if alone else self.step
        return await cross(self._write, saved, event, author, exact=exact)

    def _write(self, saved: Saved, event: AnyEvent, author: Person, *, exact: bool) -> Saved:
        if isinstance(event, ChildFinished | ChildFailed):
            return Merging(self.history).take(saved, event, self.committer, author)
        found = event

        def now(newest: Saved) -> AnyEvent:
            nonlocal found
            found = self.files.sealed(newest, event)  # each time: what was written of them may have been erased
            return found

        if exact:
            made = self.history.append(saved, now(saved), self.committer, author)
        else:
            made = self.history.apply(saved, now, self.committer, author)
        if getattr(found, "workspace", None) is not None:
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

    def model_of(self, agent: Agent, amended: Amendment = _AS_IT_IS) -> Model:
        """The model that serves an agent, in a loop for which its definition may be amended.

        Raises:
            NoModel: neither the agent nor the runtime has one, or it cannot serve as the one that a fork asks for.
        """
        model = agent.model or self.model
        if model is None:
            raise NoModel(
                f"Agent {agent.name} has no model.", hint="Give it one, or give the runtime one for all its agents."
            )
        if amended.model is None or amended.model == model.spec:
            return model
        another = getattr(model, "another", None)
        if another is None:
            raise NoModel(
                f"A fork asks for the model {amended.model.name}, and {model.spec.name} cannot be exchanged for it.",
                hint="Give its class a method another(spec), or fork again without another model.",
            )
        other: Model = another(amended.model)
        return other

    def spec(self, agent: Agent, amended: Amendment = _AS_IT_IS) -> AgentSpec:
        """An agent's definition as data, as the history holds it; in a loop for which it may be amended.

        Raises:
            BadAgent: a name by which its code is found holds a secret.
            NoModel: there is no model for it.
        """
        model = self.model_of(agent, amended).spec
        known = self._specs.get(agent.name)
        if known is not None and known[:3] == (agent, model, amended):
            return known[3]
        made = agent.spec(model).amended(amended)
        kept = self.history.storable(made)
        if _names(kept) != _names(made):
            raise BadAgent(f"A name in agent {kept.name} holds a secret.", hint="Rename the agent, tool or suspension.")
        self._specs[agent.name] = agent, model, amended, kept
        return kept


def _names(spec: AgentSpec) -> tuple[str, ...]:
    return spec.name, *(tool.name for tool in spec.tools), *spec.suspensions


def as_author(agent: str) -> Person:
    """An agent as git's author; the address is one that can never be delivered to."""
    return Person(name=agent, email=f"{agent}@agents.invalid")
