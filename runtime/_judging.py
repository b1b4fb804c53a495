"""Judging before going on: the gate, or the voided approvals, that a worker's policy puts in the place of an effect."""

from collections.abc import Awaitable, Callable

from caesura.continuations import AnyEvent, CallId, CommitId, Judge, Saved, Suspended, Voided

from ._agent import Agent
from ._services import Services


class Court:
    """Judges one loop's history by the policy, if there is one. `commit` makes a step of exactly what was judged."""

    def __init__(self, services: Services, agent: Agent, commit: Callable[[AnyEvent], Awaitable[bool]]) -> None:
        self._services = services
        self._agent = agent
        self._commit = commit
        self._accepted: CommitId | None = None

    async def stands(self, saved: Saved) -> bool:
        """Whether what others decided since it was last asked stands; else a gate is put."""
        judge, state = self._services.judge, saved.state
        if judge is None or saved.commit == self._accepted or state.gate is not None or state.ending is not None:
            return True
        reason = await self._services.sync(judge.unsound, saved, self._accepted)
        if reason is not None:
            await self._commit(Suspended(at=self._services.now(), kind="policy", reason=reason))
            return False
        self._accepted = saved.commit
        return True

    async def may_start(self, saved: Saved, call: CallId) -> bool:
        """Whether a call may start; else its approvals are taken back, or, if it has begun, a gate is put."""
        judge = self._services.judge
        objection = None if judge is None else await self._services.sync(self._objection, judge, saved, call)
        if objection is not None:
            await self._commit(objection)
        return objection is None

    def _objection(self, judge: Judge, saved: Saved, call_id: CallId) -> Suspended | Voided | None:
        call = saved.state.call(call_id)
        # As history knows it, secrets taken out: decisions are bound to that.
        tool = None if call is None else self._services.spec(self._agent).tool(call.tool)
        objection = None if call is None or tool is None else judge.objection(saved, call, tool)
        if objection is None:
            return None
        at, why = self._services.now(), objection.reason
        if call_id not in self._services.history.children(saved):
            return Voided(at=at, call=call_id, people=objection.people, needs=objection.needs, reason=why)
        if judge.let_on(saved, call_id):
            return None
        return Suspended(at=at, kind="policy", reason=f"{call_id} has begun, but {why}")
