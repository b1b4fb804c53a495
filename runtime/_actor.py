"""The actor: the task that drives one loop. Disposable: all that is needed to go on is in the loop's state."""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

import trio
from msgspec.structs import replace

from caesura.continuations import (
    AdoptAgent,
    AgentChanged,
    AnyEvent,
    CallId,
    CallModel,
    CallState,
    Cancelled,
    ChildFailed,
    ChildFinished,
    ChildResumed,
    ChildSuspended,
    Compact,
    Compacted,
    Continuation,
    Expire,
    Expired,
    Finish,
    LoopName,
    Moved,
    NoSuchLoop,
    NotApplicable,
    Recall,
    Resumed,
    RunTool,
    Saved,
    Spent,
    StartChild,
    Status,
    Suspended,
    ToolStarted,
    WaitUntil,
    Woke,
    child_name,
    outstanding,
)

from ._agent import Agent
from ._changed import judge
from ._compaction import compact, not_taken
from ._judging import Court
from ._lease import LeaseLost, branch_gone
from ._mailbox import Mailbox
from ._notices import Dropped, committed
from ._perform import call_model, run_tool
from ._prompter import Prompter
from ._seat import Seat
from ._services import as_author
from ._suspensions import due, over_budget
from ._under_way import EXPIRY, MODEL, RETRY, SLEEP, UnderWay, sleeping

if TYPE_CHECKING:
    from ._supervisor import Supervisor


class Actor:
    """Drives one loop: commits the events that come to its mailbox, and performs what is outstanding.

    `idle` says that nothing is under way and nothing can be done until something arrives; `done`, that the loop
    has ended and this actor with it.
    """

    def __init__(
        self, supervisor: "Supervisor", saved: Saved, agent: Agent, parent: "Actor | None", *, by_hand: bool
    ) -> None:
        self.saved = saved
        self.agent = agent
        self.parent = parent
        self.by_hand = by_hand
        self.children: dict[CallId, Actor] = {}
        self.idle = False
        self.done = False
        self._supervisor = supervisor
        self._services = supervisor.services
        self._definition = supervisor.services.spec(agent, saved.state.amended)
        self._taken_over = False
        self._worker = supervisor.worker
        self._mailbox: Mailbox[tuple[str, AnyEvent | None]] = Mailbox()
        self._under_way = UnderWay(saved.loop, self.post)
        self.seat: Seat = Seat(self._state, self.post, None if parent is None else parent.seat)
        exactly = partial(self._commit, exact=True)
        self._court = Court(self._services, agent, exactly)
        self._prompter = Prompter(self._services, exactly)
        call = self._own_call()
        self._told: Status = Status.SUSPENDED if call == CallState.WAITING else Status.ACTIVE

    @property
    def loop(self) -> LoopName:
        """The name of the loop that it drives."""
        return self.saved.loop

    def _state(self) -> Continuation:
        return self.saved.state

    @property
    def total(self) -> Spent:
        """What the loop and everything nested in it has spent by now."""
        state = self.saved.state
        total = state.spent.with_nested(state.absorbed)
        for call in state.open_calls:
            if call.id in self.children:
                total = total.with_nested(self.children[call.id].total)
            elif call.id in state.children:
                total = total.with_nested(state.children[call.id].state.total)
        return total

    @property
    def committed_to(self) -> Spent:
        """`total`, with the model calls that are under way in it: they will be spent."""
        total = self.total
        return replace(total, steps=total.steps + self._calling())

    def _calling(self) -> int:
        return (MODEL in self._under_way) + sum(child._calling() for child in self.children.values())

    def post(self, event: AnyEvent | None = None, key: str = "") -> None:
        """Put an event into the mailbox; None asks to look again. `key` names the work that has ended with it."""
        if not self.done:
            self.idle = False
            self._mailbox.put((key, event))

    def wind_down(self) -> None:
        """Drop what can be dropped without a loss: model calls and waits. Tools that run are waited for."""
        self._under_way.drop(MODEL, SLEEP, RETRY)
        self.post()

    async def drive(self) -> None:
        """Go on with the loop until it ends, or the supervisor stops it.

        Raises:
            LeaseLost: another worker has taken the loop over.
            ChangedAgent, VanishedTool: the agent's code has changed in a way that the settings refuse.
        """
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            self._tell_parent()
            await self._take_up()
            while not await self._perform():
                key, event = await self._next()
                if event is None:
                    await self._look_again()
                elif not await self._commit(event) and isinstance(event, Compacted):
                    # Else it would be due at once again, and what it cost would not count.
                    await self._commit(not_taken(event, self._services.now()))
                self._under_way.end(key)  # only now: what a model call costs is in the state, or will be
            nursery.cancel_scope.cancel()
        self.done = True
        self.seat.leave()
        self._supervisor.check()

    async def _next(self) -> tuple[str, AnyEvent | None]:
        while (returned := self.seat.due()) is None:
            if not self._mailbox:
                self.idle = self._under_way.sleeps
                self._supervisor.check()
            key, event = await self._mailbox.take()
            if not self.seat.keep(event):
                return key, event
        return "", returned

    # The history ---------------------------------------------------------------------------------------------------

    async def _take_up(self) -> None:
        """If there is work, a gate that resuming lifts, or an answer to whether the agent may change, become the loop's
        worker at once; else when there is."""
        state, gate = self.saved.state, self.saved.state.gate
        lifts = self.by_hand and gate is not None and gate.lifts_on_resume
        asked = self._supervisor.adopt is not None or (gate is not None and gate.change is not None)
        settled = asked and self._judged() is not None
        if state.ending is None and (lifts or settled or state.status is Status.ACTIVE):
            await self._take_over(lifts=lifts)

    async def _take_over(self, *, lifts: bool = False) -> None:
        """Become the loop's worker in its history, with the agent as its code defines it now."""
        self._judged()  # refused, if it is, before anything is touched
        self._taken_over = True
        if lifts or self.saved.state.worker != self._worker:
            await self._commit(Resumed(at=self._services.now(), worker=self._worker, by_hand=lifts))
        await self._reconcile()

    def _judged(self) -> AgentChanged | Suspended | None:
        services = self._services
        return judge(self.saved, self._definition, services.changes, adopt=self._supervisor.adopt, now=services.now)

    async def _reconcile(self) -> None:
        """Adopt the agent as its code defines it now, or ask about it, before anything is done with it."""
        event = self._judged()
        if event is None or not await self._commit(event) or not isinstance(event, AgentChanged):
            return
        self._definition = self.saved.state.definition  # as it could be kept
        for call in event.ends:  # and with them what they had begun
            cancel = self._services.loops().cancel
            with suppress(NoSuchLoop, NotApplicable):
                reason = f"{self.agent.name} no longer has a tool for it"
                child = child_name(self.loop, call)
                await self._services.sync(cancel, child, reason, by=as_author(self.agent.name))
            if call in self.children:
                self.children[call].post()

    async def _commit(self, event: AnyEvent, *, exact: bool = False) -> bool:
        """Commit an event's step; False if the loop has moved on so that the event does not apply.

        An `exact` event applies to the loop as it is here, as it was judged, and not to what others made of it since.
        """
        before = self.saved
        if not self._taken_over:
            await self._take_over()
        if exact and self.saved is not before:
            return False
        services = self._services
        author = as_author(self.agent.name)
        try:
            async with self.seat.turn():
                if self.seat.keep(event):
                    return False
                saved = await services.write(self.saved, event, author, exact=exact)
                self._settle_on(saved)
        except Moved:
            await self._look_again()
            return False
        except NotApplicable as error:
            services.listen(Dropped(loop=self.loop, event=event.name, reason=str(error)))
            await self._look_again()
            return False
        except NoSuchLoop:
            raise branch_gone(self.saved) from None
        if isinstance(event, ChildFinished | ChildFailed):
            self.children.pop(event.call, None)
        services.listen(committed(saved))
        return True

    async def _look_again(self) -> None:
        """See what others have committed."""
        try:
            self._settle_on(await self._services.sync(self._services.history.load, self.loop))
        except NoSuchLoop:
            raise branch_gone(self.saved) from None

    def _settle_on(self, saved: Saved) -> None:
        gate_before, self.saved = self.saved.state.gate, saved
        state = saved.state
        if self._taken_over and state.ending is None and state.worker != self._worker:
            raise LeaseLost(f"Another worker has taken {self.loop} over.", hint="It goes on there; nothing was lost.")
        if state.gate is not None:
            self._under_way.drop(RETRY)  # behind a gate there is nothing to wait for
        self.seat.moved()
        self._supervisor.moved(self, gate=gate_before != state.gate)

    # What is outstanding -------------------------------------------------------------------------------------------

    async def _perform(self) -> bool:
        """Start what is outstanding and not under way. True once the loop has ended."""
        before = None
        while before != self.saved.commit:  # a claim is a step, and what is outstanding follows from the newest one
            before = self.saved.commit
            if self._taken_over:
                await self._reconcile()
            if not await self._court.stands(self.saved):
                continue
            for effect in outstanding(self.saved.state):
                match effect:
                    case Finish():
                        self._finish(effect)
                        return True
                    case _ if self._held():
                        break
                    case AdoptAgent():
                        await self._take_over()
                    case CallModel() | Compact():
                        await self._model_due(effect)
                    case RunTool():
                        await self._tool_due(effect)
                    case StartChild() if not self._taken_over and self._has_lost(effect.call):
                        await self._take_over()
                    case StartChild():
                        await self._child_due(effect)
                    case Recall():
                        await self._prompter.answer(self.saved, effect.call)
                    case WaitUntil() | Expire():
                        await self._time_due(effect)
                if before != self.saved.commit:
                    break
        self._tell_parent()
        return False

    def _held(self) -> bool:
        """Whether nothing may start: the supervisor is stopping, or a loop above stands behind a gate."""
        return self._supervisor.stopping or any(above.saved.state.gate for above in self.above())

    def _has_lost(self, call_id: CallId) -> bool:
        """Whether the agent has no tool for a call any more: that is settled before anything of the call goes on."""
        call = self.saved.state.call(call_id)
        return call is not None and self._definition.tool(call.tool) is None

    def above(self) -> "Iterator[Actor]":
        """The actors of the loops that this one is nested in, up to the root's."""
        actor = self.parent
        while actor is not None:
            yield actor
            actor = actor.parent

    async def _model_due(self, effect: CallModel | Compact) -> None:
        if MODEL in self._under_way:
            return
        now = self._services.now()
        for actor in (self, *self.above()):
            spent = over_budget(actor.saved.state, actor.committed_to, now)
            if spent is not None:
                if actor is self:
                    await self._commit(spent)
                else:
                    actor.post(spent)
                return
        gate, memory = due(self.agent.suspend if isinstance(effect, CallModel) else (), self.saved.state, now)
        if gate is not None:
            await self._commit(gate)
            return
        if not self._taken_over:
            before = self.saved
            await self._take_over()
            if self.saved is not before:
                return  # somebody may have put a gate, or stopped the supervisor: look again
        compacting = partial(compact, self._services, self.agent, self.saved)
        calling = partial(call_model, self._services, self.agent, self.saved, memory)
        if self._supervisor.may_call():  # asked last, with nothing in between for which others may be asked too
            self._start(MODEL, compacting if isinstance(effect, Compact) else calling)

    async def _tool_due(self, effect: RunTool) -> None:
        now = self._services.now()
        if effect.not_before is not None and effect.not_before > now:
            self._start(RETRY + effect.call, sleeping(self._services.now, effect.not_before))
            return
        if self._under_way.tools >= self._services.max_tools or await self._supervisor.stopped_above(self):
            return
        if not await self._court.may_start(self.saved, effect.call):
            return
        started = ToolStarted(at=now, call=effect.call, worker=self._worker, process=self._supervisor.process)
        claimed = await self._commit(started, exact=True)
        call = self.saved.state.call(effect.call)
        if claimed and call is not None:
            saved = self.saved
            self._start(call.id, lambda: run_tool(self._services, self.agent, saved, call))

    async def _child_due(self, effect: StartChild) -> None:
        if effect.call not in self.children and await self._court.may_start(self.saved, effect.call):
            await self._supervisor.start_child(self, effect.call)

    async def _time_due(self, effect: WaitUntil | Expire) -> None:
        now = self._services.now()
        kind, event = (EXPIRY, Expired) if isinstance(effect, Expire) else (SLEEP, Woke)
        if effect.at > now:
            self._start(kind + effect.call, sleeping(self._services.now, effect.at))
        else:
            await self._commit(event(at=now, call=effect.call))

    def _start(self, key: str, work: Callable[[], Awaitable[AnyEvent | None]]) -> None:
        self._under_way.start(self._nursery, key, work)

    # The family ----------------------------------------------------------------------------------------------------

    @property
    def _call(self) -> CallId:
        """The call in its parent that started this loop."""
        return CallId(self.loop.rpartition(".")[2])

    def _own_call(self) -> CallState | None:
        """How this loop's call stands in its parent."""
        call = None if self.parent is None else self.parent.saved.state.call(self._call)
        return None if call is None else call.state

    def _tell_parent(self) -> None:
        state = self.saved.state
        if self.parent is None or state.ending is not None or (status := state.status) == self._told:
            return  # an end is told by itself
        self._told = status
        told = ChildSuspended if status is Status.SUSPENDED else ChildResumed
        self.parent.post(told(at=self._services.now(), call=self._call))

    def _finish(self, effect: Finish) -> None:
        """The loop has ended: tell its parent, and end what is nested in it, if anything still is."""
        ending, at = effect.ending, self._services.now()
        for child in self.children.values():
            child.post(Cancelled(at=at, reason=f"{self.agent.name} {ending.said}"))
        if self.parent is None:
            return
        if ending.status == "completed":
            self.parent.post(ChildFinished(at=at, call=self._call, text=ending.text))
        else:
            verb = "was cancelled" if ending.status == "cancelled" else "failed"
            self.parent.post(ChildFailed(at=at, call=self._call, error=f"{self.agent.name} {verb}: {ending.text}"))
