"""The supervisor: owner of the nursery in which one root loop, and everything nested in it, is driven."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial

import trio

from caesura.continuations import (
    CaesuraError,
    CallId,
    ChildFailed,
    LoopExists,
    NoSuchLoop,
    Person,
    Saved,
    Spent,
    Started,
    User,
    WorkerId,
    Workspace,
    child_name,
    claim_of,
    ready,
)

from ._actor import Actor
from ._changed import judge
from ._lease import LeaseKeeper
from ._notices import committed
from ._pot import Pot
from ._proposals import prompt_of
from ._services import Services, as_author
from ._suspensions import worked
from ._tools import BadArguments


class Supervisor:
    """Drives one root loop until it ends, or, unless told to wait, until it has nothing to do.

    `worker` names this one drive in the history, `process` is where it runs; `adopt` is the person who has said that
    changed agents be adopted. `stopping` is set once nothing new may start. `pot` is what is spent together with other
    root loops.
    """

    def __init__(
        self,
        services: Services,
        worker: WorkerId,
        *,
        wait: bool,
        by_hand: bool,
        adopt: Person | None,
        stopping: bool,
        pot: Pot | None = None,
    ) -> None:
        self.services = services
        self.worker = worker
        self.process = claim_of(worker, services.now()).process
        self.adopt = adopt
        self.stopping = stopping
        self._pot = pot
        self._wait = wait
        self._by_hand = by_hand
        self._actors: list[Actor] = []
        self._asking: dict[Actor, set[Actor]] = {}  # those that go on once this one has looked again
        self._settled = trio.Event()
        self._failure: CaesuraError | None = None

    async def drive(self, root: Saved) -> Saved:
        """Drive a root loop under a lease; its last state.

        Raises:
            Driven, LeaseLost: another worker drives it.
            Occupied: another loop works in its folder now.
            UnkeptFiles, InTheWay, Unkeepable: its files are not as its last commit has them, and cannot be made so.
            UnknownAgent, ChangedAgent, VanishedTool: the agents' code is not what the loop needs.
            Unavailable: the repository cannot be read or written.
        """
        services = self.services
        # To look at files may take longer than others should wait for.
        cross = services.step if root.state.workspace is None else services.sync
        lease = LeaseKeeper(services.history.store, root.loop, self.worker, services.now)
        leaving: list[Callable[[], None]] = []
        try:
            root = await cross(self._take, root, lease, leaving)
            return await self._drive(root, lease)
        finally:
            with trio.CancelScope(shield=True):
                await cross(_leave, leaving)

    def _take(self, root: Saved, lease: LeaseKeeper, leaving: list[Callable[[], None]]) -> Saved:
        """Take a root loop, and its folder, until it is left; the loop as it is then."""
        # Before anything is touched: a loop is refused whole, not when its children's turn comes.
        self._check(root)
        lease.claim()
        leaving.append(lease.release)
        # Read again under the lease: until now another worker may have moved it.
        root = self.services.history.load(root.loop)
        leaving.append(self.services.files.occupy(root))
        self.services.files.take_up(root)
        return root

    def _check(self, saved: Saved) -> None:
        """Refuse a loop, or one nested in it, whose agent is not here, or is not to be gone on with.

        One in which there is nothing to do is not judged: it is left as it is.
        """
        services, state = self.services, saved.state
        definition, now = services.spec(services.agent(state.agent), state.amended), services.now()
        gate = state.gate
        lifts = gate is not None and (gate.change is not None or (self._by_hand and gate.lifts_on_resume))
        if lifts or ready(services.history, saved, now):
            judge(saved, definition, services.changes, adopt=self.adopt, now=services.now)
        for call, child in services.history.children(saved).items():
            asked = state.call(call)
            if asked is not None and definition.tool(asked.tool) is not None:  # else its call ends, or is refused
                self._check(child)

    async def _drive(self, root: Saved, lease: LeaseKeeper) -> Saved:
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                actor = self._add(root, None)
                if self._pot is not None:
                    self._pot.count(root.loop, partial(self._spent, actor))
                with self._attended(nursery, lease):
                    await self._settled.wait()
                nursery.cancel_scope.cancel()
        except BaseExceptionGroup as group:
            raise _first(group) from None
        if self._failure is not None:
            raise self._failure
        return actor.saved

    @contextmanager
    def _attended(self, nursery: trio.Nursery, lease: LeaseKeeper) -> Iterator[None]:
        """Meanwhile, what is done once for all drives is done for this one, too."""
        services = self.services
        services.watch.add(self)
        services.renewals.add(lease, self._give_up)
        services.duties.add(nursery)
        try:
            yield
        finally:
            services.duties.remove(nursery)
            services.renewals.remove(lease)
            services.watch.remove(self)

    def _give_up(self, error: CaesuraError) -> None:
        self._nursery.start_soon(_fail, error)

    @property
    def driven(self) -> list[Actor]:
        """The actors that drive loops now."""
        return [actor for actor in self._actors if not actor.done]

    def stop(self) -> None:
        """Start nothing more, drop model calls and waits, and settle once the tools that run have ended."""
        self.stopping = True
        for actor in self._actors:
            actor.wind_down()

    def _spent(self, actor: Actor) -> tuple[Spent, float]:
        return actor.committed_to, worked(actor.saved.state, self.services.now())

    def may_call(self) -> bool:
        """Whether there is something to spend on a model call; with an empty pot, everything comes to rest."""
        if self._pot is not None and self._pot.exhausted(self.services.now()) is not None:
            self.stop()
        return not self.stopping

    def check(self) -> None:
        """Called whenever an actor comes to rest: settle if they all have, and there is nothing to wait for."""
        resting = all(actor.idle or actor.done for actor in self._actors)
        if resting and (self._actors[0].done or self.stopping or not self._wait):
            self._settled.set()

    def moved(self, actor: Actor, *, gate: bool) -> None:
        """An actor has seen its loop's newest state: let those look again that wait for it, or are below its `gate`."""
        for one in self._asking.pop(actor, ()):
            one.post()
        if gate:
            self._wake_below(actor)

    def _wake_below(self, actor: Actor) -> None:
        for child in actor.children.values():
            child.post()
            self._wake_below(child)

    async def stopped_above(self, actor: Actor) -> bool:
        """Whether somebody has ended or paused a loop above one, and its actor has not seen that yet: it looks again,
        and then the one below, however long that takes.

        Who cancels ends what is nested by then: a loop that began since learns of it here, before its first effect.
        """
        above = list(actor.above())
        stopped = await self.services.step(self._stopped, above) if above else []
        for one in stopped:
            self._asking.setdefault(one, set()).add(actor)
            one.post()
        return bool(stopped)

    def _stopped(self, actors: Iterable[Actor]) -> list[Actor]:
        found: list[Actor] = []
        for actor in actors:
            try:
                state = self.services.history.load(actor.loop).state
            except NoSuchLoop:
                found.append(actor)
            else:
                found += [actor] if state.ending is not None or state.gate is not None else []
        return found

    async def start_child(self, parent: Actor, call_id: CallId) -> None:
        """Drive the child loop of a call: make it if it is not there yet."""
        call = parent.saved.state.call(call_id)
        tool = None if call is None else parent.saved.state.tool(call)
        if call is None or tool is None or call_id in parent.children:
            return
        services, above = self.services, parent.saved.state
        name = child_name(parent.loop, call_id)
        try:
            saved = await services.sync(services.history.load, name)
        except NoSuchLoop:
            agent = services.agent(tool.agent)
            try:
                prompt = prompt_of(parent.agent, call)
            except BadArguments as error:
                parent.post(ChildFailed(at=services.now(), call=call_id, error=str(error)))
                return
            files = None
            if above.workspace is not None and tool.workspace != "none":
                files = await services.sync(services.files.newest, parent.saved)
            copied = files is not None and tool.workspace == "copy"
            event = Started(
                at=services.now(),
                definition=services.spec(agent),
                prompt=User(content=prompt),
                nonce=call.nonce,
                worker=self.worker,
                budget=agent.budget,
                rehearsal=None if above.rehearsal is None else above.rehearsal.begun,
                workspace=Workspace(tree=files.tree) if files is not None and copied else files,
                copied=copied,
            )
            author = as_author(parent.agent.name)
            try:
                saved = await services.step(services.history.begin, name, event, services.committer, author)
                services.listen(committed(saved))
            except LoopExists:
                saved = await services.sync(services.history.load, name)
        await services.sync(self._take_up, saved)
        parent.children[call_id] = self._add(saved, parent)

    def _take_up(self, child: Saved) -> None:
        """Make sure that a child loop has a folder of its own with its files, if that is where something may look for
        them: a tool, or the child of one. What works in its parent's folder finds them there."""
        specs = [tool.spec for tool in self.services.agent(child.state.agent).tools]
        acts = any(spec.kind == "function" or spec.workspace == "share" for spec in specs)
        if child.state.copy_of is not None and child.state.ending is None and acts:
            self.services.history.ensure_branch(child)  # a fork's has none yet, and a new one begins without a folder
            self.services.files.take_up(child)

    def _add(self, saved: Saved, parent: Actor | None) -> Actor:
        agent = self.services.agent(saved.state.agent)
        actor = Actor(self, saved, agent, parent, by_hand=self._by_hand)
        self._actors = [actor for actor in self._actors if not actor.done or actor.parent is None]
        self._actors.append(actor)
        self._nursery.start_soon(self._run, actor, name=f"actor {saved.loop}")
        return actor

    async def _run(self, actor: Actor) -> None:
        """Drive one actor. If it cannot go on, tools that run elsewhere in the tree are still waited for."""
        try:
            await actor.drive()
        except BaseExceptionGroup as group:
            error = _first(group)
            if not isinstance(error, CaesuraError):
                raise
            self._failure = self._failure or error
            actor.done = True
            self.stop()
            self.check()


def _leave(leaving: Iterable[Callable[[], None]]) -> None:
    """Give up what was taken, the last first."""
    with ExitStack() as stack:
        for leave in leaving:
            stack.callback(leave)


async def _fail(error: CaesuraError) -> None:
    raise error


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The error to raise for a group: Caesura's own if it is only those, the group if it is a fault of ours."""
    ours, others = group.split(CaesuraError)
    while isinstance(ours, BaseExceptionGroup) and others is None:
        error = ours.exceptions[0]
        if not isinstance(error, BaseExceptionGroup):
            return error
        ours = error
    return group
