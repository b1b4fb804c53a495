"""Judgement: whether what a loop's history calls a decision is one, by the policy of the worker that goes on with it.

What a state says of its decisions is not believed: each is looked for in the history, in the commit that made it.
"""

import datetime as dt
from collections.abc import Callable, Iterator
from typing import NamedTuple

from ._calls import TRANSITIONS, Call, CallState, Choice, Decision, Needs, Person, Rule
from ._ids import CallId, CommitId, LoopName
from ._marks import MARKS, goes_on_from
from ._specs import ToolSpec
from ._state import Continuation
from ._text import one_line, span
from .history import Saved
from .policy import Policy
from .signatures import allowed_signers, split_signature
from .store import Commit, Store


class Objection(NamedTuple):
    """Why a call may not start: whose approvals do not count, what is needed, and both in words."""

    people: tuple[str, ...]
    needs: Needs
    reason: str


class Step(NamedTuple):
    """A commit and the one before it."""

    before: Commit
    commit: Commit


_ARROWS = frozenset((arrow.source, arrow.target) for arrow in TRANSITIONS)


class Judge:
    """A policy, and the worker that has it: `runners` are the addresses of whoever runs that worker.

    Raises:
        BadPolicy: a file of signers is missing.
    """

    def __init__(self, store: Store, policy: Policy, runners: tuple[str, ...], now: Callable[[], dt.datetime]) -> None:
        self._store = store
        self._policy = policy
        self._runners = runners
        self._now = now
        self._allowed = allowed_signers(policy)
        if self._allowed is not None:
            self._allowed.require()

    def needs(self, agent: str, tool: str) -> Needs | None:
        """What a call of an agent's tool needs before it may start, if a rule names it."""
        return self._policy.needs(agent, tool, self._runners)

    def objection(self, saved: Saved, call: Call, tool: ToolSpec) -> Objection | None:
        """Why a call may not start, or None if it may. `tool` is its tool as the agent's code defines it.

        Raises:
            BadPolicy: a file of signers is missing.
            SigningFailed: there is no ssh-keygen.
        """
        needs = self.needs(saved.state.agent, call.tool)
        if needs is None:
            if not call.granted and tool.approval != "always":
                return None  # nobody had to be asked
            needs = Needs(requesters=self._runners)
        people: set[str] = set()
        keys: set[str] = set()
        void: dict[str, str] = {}
        for decision in call.granted:
            key, fault = self._approval(saved, call, decision, tool, needs)
            if not fault and (decision.by.identity in people or key in keys):
                fault = "is by somebody who has approved already"
            if fault:
                void[decision.by.email] = f"the approval by {decision.by} {fault}"
                continue
            people.add(decision.by.identity)
            keys |= {key} if key else set()
        newest = max((decision.at for decision in call.granted), default=None)
        until = None if newest is None or call.attempt else needs.until(newest)
        if until is not None and until <= self._now():
            assert needs.expires is not None  # noqa: S101  # or there would be no such time
            void = {one.by.email: f"it was approved more than {span(needs.expires)} ago" for one in call.granted}
            people = set()
        if len(people) >= needs.approvals:
            return None
        reasons = list(dict.fromkeys(void.values()))
        if not reasons:
            reasons = [f"{len(people)} of {needs.approvals} people have approved it"]
        return Objection(tuple(void), needs, "; ".join(reasons))

    def unsound(self, saved: Saved, judged: CommitId | None) -> str | None:
        """What passes for a decision, is none and cannot be taken back: a rejection, a gate lifted, an outcome told.

        Looks at what came after the commit `judged`, or else at the present round, back to where somebody whose word
        counts has let the loop go on all the same. None if there is nothing to object to.

        Raises:
            BadPolicy, SigningFailed: as above.
        """
        for step in self._back(saved.commit, judged):
            lifts, fault = self._settled(step)
            if fault:
                return fault
            if lifts or (judged is None and _event(step.commit) == "ModelReplied"):
                return None
        return None

    def let_on(self, saved: Saved, call: CallId) -> bool:
        """Whether, since the call was there, somebody whose word counts has lifted a gate that a policy had put."""
        for step in self._back(saved.commit, None):
            if step.before.state.call(call) is None:
                return False
            lifts, fault = self._settled(step)
            if lifts and not fault:
                return True
        return False

    # The history -----------------------------------------------------------------------------------------------------

    def _back(self, head: CommitId, until: CommitId | None) -> Iterator[Step]:
        """A loop's own steps, newest first; where another was chosen, those of that one."""
        commit = self._store.read(head)
        while commit.id != until and (own := goes_on_from(commit.message, commit.parents)) is not None:
            before = self._store.read(own)
            yield Step(before, commit)
            commit = before

    def _origin(self, saved: Saved, call: Call, decision: Decision) -> Step | None:
        """The step that brought a decision into the history, if the call came from there to here by steps that calls
        can make."""
        if decision.standing:
            rule = next((one for one in saved.state.rules if _covers(one, decision)), None)
            return next((step for step in self._back(saved.commit, None) if rule not in step.before.state.rules), None)
        for step in self._back(saved.commit, None):
            was, then = step.before.state.call(call.id), step.commit.state.call(call.id)
            if was is None or then is None or (was.nonce, then.nonce) != (call.nonce, call.nonce):
                return None
            if was.state is not then.state and (was.state, then.state) not in _ARROWS:
                return None
            if decision not in was.granted:
                return step
        return None

    # Judging ---------------------------------------------------------------------------------------------------------

    def _approval(self, saved: Saved, call: Call, decision: Decision, tool: ToolSpec, needs: Needs) -> tuple[str, str]:
        """The key that signed an approval, if it must be signed, and what is wrong with it."""
        if not needs.may_decide(decision.by, "approve"):
            return "", self._not_entitled(decision.by, needs)
        if (decision.arguments, decision.tool) != (call.arguments_digest, tool.digest):
            return "", "is of other arguments, or of another tool"
        step = self._origin(saved, call, decision)
        fault = "is in no commit of this loop" if step is None else _misfit(saved.loop, step, call, decision)
        if step is None or fault:
            return "", fault
        return self._signature(step.commit, decision.by)

    def _not_entitled(self, who: Person, needs: Needs) -> str:
        if needs.asked_by(who):
            return "does not count: they run the worker that asks"
        return f"does not count: the policy names {', '.join(needs.by)}"

    def _signature(self, commit: Commit, who: Person) -> tuple[str, str]:
        if commit.author.identity != who.identity:
            return "", f"is in a commit by {commit.author}"
        if self._allowed is None:
            return "", ""
        signed, signature = split_signature(self._store.raw(commit.id))
        return self._allowed.check(signed, signature, who, self._now())

    def _settled(self, step: Step) -> tuple[bool, str]:
        """Whether a step lifts a gate that a policy had put, and what is wrong with a decision that it makes."""
        event, call_id = _event(step.commit), CallId(_trailer(step.commit, "Call"))
        if event in MARKS and step.before.state != step.commit.state:
            return False, f"what changed in a commit by {step.commit.author} that says to change nothing"
        if event not in ("Decided", "Answered"):
            return False, ""
        state, who = step.before.state, step.commit.author
        if state.gate is not None and state.gate.id == call_id:
            if state.gate.lifts_on_resume:
                return False, ""
            fault = self._word(step.commit, who, Needs(requesters=self._runners), "approve")
            what = f"the gate that was lifted ({state.gate.reason})"
            return state.gate.kind == "policy", fault and f"{what}: the decision by {who} {fault}"
        was, then = state.call(call_id), step.commit.state.call(call_id)
        if was is None or then is None or then.open or (event == "Answered" and was.state is not CallState.UNKNOWN):
            return False, ""
        needs = self.needs(state.agent, was.tool) or Needs(requesters=self._runners)
        fault = self._word(step.commit, who, needs, "reject")
        return False, fault and f"what became of {call_id}: the decision by {who} {fault}"

    def _word(self, commit: Commit, who: Person, needs: Needs, choice: Choice) -> str:
        if not needs.may_decide(who, choice):
            return self._not_entitled(who, needs)
        return self._signature(commit, who)[1]


def _misfit(loop: LoopName, step: Step, call: Call, decision: Decision) -> str:
    """What shows that a commit does not make this decision about this call of this loop."""
    commit, state = step.commit, step.before.state
    if _event(commit) != "Decided" or _trailer(commit, "Decision") != "approve":
        return "is in no commit that decides"
    made_in = _trailer(commit, "Loop")
    if made_in != loop:
        return f"was given in {one_line(made_in, 80)}, not here"
    on = state.call(CallId(_trailer(commit, "Call")))
    if on is None or on.state not in (CallState.AWAITING, CallState.UNKNOWN):
        return "is of nothing that was waiting for it"
    if decision.standing:
        return "" if _trailer(commit, "Scope") in ("tool", "arguments") else "is no standing one"
    if (on.id, on.nonce) != (call.id, call.nonce):
        return "is of another call"
    return _unbound(state, on, decision, _trailer(commit, "Arguments"))


def _unbound(state: Continuation, on: Call, decision: Decision, shown: str) -> str:
    tool = state.tool(on)
    same = decision.edited or decision.arguments == on.arguments_digest
    if shown != on.arguments_digest or not same or tool is None or tool.digest != decision.tool:
        return "is of other arguments, or of another tool"
    return ""


def _covers(rule: Rule, applied: Decision) -> bool:
    """Whether a standing decision is the one that was applied to a later call."""
    made = rule.decision
    return rule.arguments in (None, applied.arguments) and (made.by, made.at, made.seen, made.tool, made.choice) == (
        applied.by,
        applied.at,
        applied.seen,
        applied.tool,
        applied.choice,
    )


def _event(commit: Commit) -> str:
    return _trailer(commit, "Event")


def _trailer(commit: Commit, key: str) -> str:
    """A trailer's value; the message's last paragraph holds them."""
    last = commit.message.rstrip("\n").rpartition("\n\n")[2]
    found = (line.partition(": ")[2] for line in last.split("\n") if line.startswith(f"{key}: "))
    return next(found, "")
