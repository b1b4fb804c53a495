"""The runtime: what a program opens to run and resume loops."""

import datetime as dt
import getpass
import os
import secrets
import socket
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from typing import Any

import msgspec
import trio
from msgspec.structs import replace

from caesura.continuations import (
    Budget,
    CallerError,
    Changes,
    CommitId,
    Content,
    Durability,
    GitStore,
    History,
    Judge,
    LoopName,
    NoPerson,
    Person,
    Policy,
    Records,
    Redaction,
    Request,
    Saved,
    Spent,
    Started,
    Status,
    Store,
    User,
    Variant,
    Visibility,
    WorkerId,
    loop_name,
    parent_name,
    root_of,
    utc_now,
)

from ._agent import Agent, check_model, register
from ._beginning import begin
from ._exploring import Explorer
from ._model import Model
from ._notices import Audience, Listener, Notice, committed
from ._pot import Pot
from ._services import Services, check_trio
from ._supervisor import Supervisor
from ._trials import Evaluate, Evaluator, Trial, evaluator_of
from ._upkeep import Keeper
from ._watch import Watch


class NotARoot(CallerError):
    """Only a root loop can be resumed; what is nested in it goes on with it."""


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """How far a loop has come.

    `text` is its result, or why it failed or was cancelled; empty while it has not ended. `result` is the result in
    the agent's own type, or the text if the type has changed since. `pending` is what waits, at any depth. `status`
    is ``active`` only after an interruption.
    """

    loop: LoopName
    status: Status
    text: str
    result: Any
    pending: tuple[Request, ...]
    spent: Spent
    commit: CommitId


class Runtime:
    """Runs and resumes the loops of one repository. Made by `Runtime.open`."""

    def __init__(self, services: Services, audience: Audience) -> None:
        self._services = services
        self._audience = audience
        self._supervisors: set[Supervisor] = set()
        self._stopping = False

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        repository: str | os.PathLike[str] | Store = ".caesura",
        *,
        agents: Iterable[Agent],
        model: Model | None = None,
        listener: Listener | None = None,
        changes: Changes | None = None,
        policy: Policy | None = None,
        max_tools: int = 8,
        poll: float = 0.5,
        durability: Durability = "power-cut",
        visibility: Visibility = "step",
        redaction: Redaction | None = None,
        now: Callable[[], dt.datetime] = utc_now,
    ) -> AsyncIterator["Runtime"]:
        """Open a repository (made if there is none) to run loops of these agents in it.

        `model` serves the agents that have none of their own. `listener` is called with each notice, in the event
        loop's thread; if it raises, every loop comes to rest, and `run` and `resume` raise its error then. `changes`
        says what becomes of loops whose agents' code has changed, and `policy` whose decisions count here; never those
        of whoever runs this to let something start, so git must know who that is. At most `max_tools` calls of one loop
        run at the same time. Every `poll` seconds the runtime looks for what others have committed. A step that was
        acknowledged survives what `durability` says: a power cut, or only a crash of this process, which is faster.
        By its `visibility` git sees it at once, or, much faster, with others: when `run` or `resume` returns, after a
        second without a step, or when many have come together. Whatever reads loops by Caesura sees it at once.
        `redaction` says what, besides keys and tokens of known shapes, is taken out of everything before it is written;
        what streams to the `listener` is as it comes. `now` tells the time, in UTC; it is called from several threads.

        Raises:
            NotInTrio: it is not trio that runs this.
            Unavailable: the repository cannot be opened or made.
            BadAgent: two agents share a name, a name holds a secret, or what is given as an agent or the model is none.
            BadSetting: there is no such durability, or visibility.
            NoModel: an agent has no model.
            NoPerson: there is a policy, and git does not know who runs this.
            BadPolicy: a file of signers is missing.
            CaesuraError: a model says that it cannot work.
        """
        check_trio()
        known = register(agents)
        check_model(model, "The runtime")
        models = [model, *(one for agent in known.values() for one in agent.models)]
        for one in _each(models):
            getattr(one, "check", _nobody)()
        store = await trio.to_thread.run_sync(_open, repository, durability, visibility)
        keeper = Keeper(store)
        audience = Audience(listener if listener is not None else _nobody, failed=lambda: runtime.stop())
        history = History(store, redaction)
        services = Services(
            history=history,
            agents=known,
            model=model,
            committer=Person(name="caesura", email=f"{_user()}@{socket.gethostname()}"),
            now=now,
            listen=_both(keeper.heard, audience.tell),
            changes=changes if changes is not None else Changes(),
            max_tools=max_tools,
            watch=Watch(store, poll),
            judge=None,
            keeper=keeper,
            threads=trio.CapacityLimiter(64),
            records=Records(history),
        )
        runtime = cls(services, audience)
        try:
            if policy is not None:
                services.judge = Judge(store, policy, _runners(store), now)
            for agent in known.values():
                services.spec(agent)
            yield runtime
        finally:
            with trio.CancelScope(shield=True):
                for one in _each(models):
                    await getattr(one, "aclose", _nowhere)()
                if store is not repository:
                    await services.sync(store.close)

    async def run(
        self,
        agent: str | Agent,
        prompt: Content,
        *,
        loop: str | None = None,
        budget: Budget | None = None,
        workspace: str | os.PathLike[str] | None = None,
        origin: str | None = None,
        borrow: bool = False,
        wait: bool = False,
    ) -> Outcome:
        """Start a loop and drive it until it ends or is suspended; with `wait`, until it ends.

        The loop is named `loop`, or for its agent with a random suffix. `budget` replaces the agent's own. `workspace`
        is a folder that it works on: its files, as they are and as the tools leave them, are part of each commit. With
        an `origin` they are those of a commit of a project, named like ``../project@main``, in a `workspace` that is
        empty or not there, or else in a folder of the loop's own. They are copied; to `borrow` them instead, the
        project has to stay.

        Raises:
            UnknownAgent: there is no such agent here.
            LoopExists: the name is taken.
            BadName, SecretName: the name cannot be a branch.
            Unkeepable, TooLarge: the files in the workspace cannot be kept.
            NoProject, NoSuchRevision: there is no such origin.
        """
        services = self._services
        known = services.agent(agent if isinstance(agent, str) else agent.name)
        worker = _new_worker()
        event = Started(
            at=services.now(),
            definition=services.spec(known),
            prompt=User(content=prompt),
            nonce=secrets.token_hex(8),
            worker=worker,
            budget=known.budget if budget is None else budget,
        )
        cross = services.step if workspace is None and origin is None else services.sync
        saved = await cross(self._begin, event, loop, workspace, origin, borrow=borrow)
        services.listen(committed(saved))
        return await self._drive(saved, worker, wait=wait)

    async def resume(self, loop: str, *, wait: bool = False, adopt: bool = False) -> Outcome:
        """Load a root loop's head and perform what is outstanding, in it and in everything nested in it.

        Gates that wait only for somebody to look (a pause, an unusable reply, an unreachable model) are lifted. A
        loop with nothing to do is left as it is. With `adopt`, agents whose code has changed are adopted as they are
        now, in the name of git's ``user.name``, whatever `changes` says; what a person has refused stays refused.

        Raises:
            NoSuchLoop: there is none of that name.
            NotARoot: it is nested in another.
            Driven: another worker drives it.
            UnknownAgent, ChangedAgent, VanishedTool: the agents' code is not what the loop needs.
            NoPerson: `adopt` is given, and git does not know who says so.
        """
        name = loop_name(loop)
        if parent_name(name) is not None:
            await self._services.sync(self._services.history.load, root_of(name))  # it may be gone
            raise NotARoot(
                f"{name} is nested in {root_of(name)} and goes on with it.",
                hint=f"Use 'caesura resume {root_of(name)}', or fork {name} to go on with it alone.",
            )
        saved = await self._services.sync(self._services.history.load, name)
        person = await self._services.sync(self._services.history.store.person) if adopt else None
        return await self._drive(saved, _new_worker(), wait=wait, by_hand=True, adopt=person)

    async def explore(
        self,
        revision: str,
        variants: Iterable[Variant],
        *,
        evaluator: Evaluator | Evaluate | None = None,
        limit: int = 4,
        budget: Budget | None = None,
        name: str | None = None,
        by: Person | str | None = None,
    ) -> list[Trial]:
        """Try variants of a commit, each in a fork of its own, at most `limit` of them driven at the same time.

        The trials come back with the best score first, and those without one last. One that fails, is suspended or
        cannot be made ends no other. What is asked of the forks is done in the name of `by`, else as git knows who runs
        this. `budget` is for all of them together, from the commit on; once it is spent, they come to rest as they are.

        A variant's loop is named `name`, else as the revision, and with the variant's name. By that it is found again:
        to explore again, after a cancellation, say, is to go on where the loops are, and what has ended and was scored
        is left as it is. One that was made when a variant of its name asked for something else is not taken for it: the
        trial has an error that says so.

        A loop that has completed is given to the `evaluator`; a score is a commit of its branch that changes nothing
        in it, with the trailers ``Score`` and ``Evaluator``.

        Raises:
            NoSuchRevision, NotALoop: there is no continuation there.
            BadExploration: two variants share a name, or none may be driven at a time.
            BadName: a loop cannot be named so.
        """
        judge = None if evaluator is None else evaluator_of(evaluator)

        async def drive(saved: Saved, pot: Pot | None) -> Outcome:
            return await self._drive(saved, _new_worker(), wait=False, by_hand=True, pot=pot)

        explorer = Explorer(self._services, drive, revision, name, by, judge)
        try:
            return await explorer.explore(tuple(variants), limit, budget)
        except BaseExceptionGroup:
            if self._audience.fault is not None:
                raise self._audience.fault from None
            raise
        finally:
            if judge is not None:
                with trio.CancelScope(shield=True):
                    await judge.aclose()

    def stop(self) -> None:
        """Let every loop come to rest, now and from now on: running tools are waited for, nothing new starts."""
        self._stopping = True
        for supervisor in self._supervisors:
            supervisor.stop()

    async def _drive(
        self,
        saved: Saved,
        worker: WorkerId,
        *,
        wait: bool,
        by_hand: bool = False,
        adopt: Person | None = None,
        pot: Pot | None = None,
    ) -> Outcome:
        if saved.state.ending is None:
            supervisor = Supervisor(
                self._services, worker, wait=wait, by_hand=by_hand, adopt=adopt, stopping=self._stopping, pot=pot
            )
            self._supervisors.add(supervisor)
            try:
                saved = await supervisor.drive(saved)
            finally:
                self._supervisors.discard(supervisor)
            await self._services.seal()
        if self._audience.fault is not None:
            raise self._audience.fault
        state = saved.state
        if state.ending is None:
            pending = await self._services.sync(self._services.loops().pending, saved.loop)
        else:
            pending = []
        return Outcome(
            loop=saved.loop,
            status=state.status,
            text="" if state.ending is None else state.ending.text,
            result=self._result(saved),
            pending=tuple(pending),
            spent=state.total,
            commit=saved.commit,
        )

    def _result(self, saved: Saved) -> Any:
        ending = saved.state.ending
        if ending is None or ending.status != "completed":
            return None
        agent = self._services.agents.get(saved.state.agent)
        if agent is None or agent.result is str:
            return ending.text
        try:
            return msgspec.json.decode(ending.text, type=agent.result)
        except (msgspec.MsgspecError, RecursionError):
            return ending.text  # the agent had another result type when the loop ended

    def _begin(
        self,
        event: Started,
        loop: str | None,
        workspace: str | os.PathLike[str] | None,
        origin: str | None,
        *,
        borrow: bool,
    ) -> Saved:
        return begin(self._services, loop, replace(event, by=self._person()), workspace, origin, borrow=borrow)

    def _person(self) -> Person | None:
        with suppress(NoPerson):
            return self._services.history.store.person()
        return None


def _open(repository: str | os.PathLike[str] | Store, durability: Durability, visibility: Visibility) -> Store:
    if isinstance(repository, str | os.PathLike):
        return GitStore.open(repository, create=True, durability=durability, visibility=visibility)
    return repository


def _both(first: Listener, second: Listener) -> Listener:
    def tell(notice: Notice) -> None:
        first(notice)
        second(notice)

    return tell


def _runners(store: Store) -> tuple[str, ...]:
    """The addresses of whoever runs this: as they decide here, and their own, whatever the repository says."""
    own = store.setting("user.email")
    return (store.person().email, *([own] if own else []))


def _each(models: Iterable[Model | None]) -> Iterable[Model]:
    """The models there are, each once: agents may share one."""
    return {id(model): model for model in models if model is not None}.values()


def _new_worker() -> WorkerId:
    """A name for one drive: when it was cancelled, a later one in this process must not take its work for its own."""
    return WorkerId(secrets.token_hex(8))


async def _nowhere() -> None:
    """For a model that has nothing to close."""


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"


def _nobody(*_: object) -> None:
    """Notices that nobody listens to, checks that nobody makes."""
