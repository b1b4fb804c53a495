"""Calls and gates: everything a loop can wait for, and the one table of what may happen to a call.

The diagram in the documentation is generated from `TRANSITIONS`.
"""

import datetime as dt
import enum
from typing import Literal, NamedTuple

from ._changes import Change
from ._ids import CallId, CommitId, Digest, WorkerId, digest
from ._messages import Json, Time, Value
from ._patch import Preview
from ._specs import ToolKind


class CallState(enum.StrEnum):
    """Where a call is between being asked for and having its one result."""

    AWAITING = "awaiting"
    """A person must approve it first."""
    APPROVED = "approved"
    """It may run, and has not started."""
    RUNNING = "running"
    """A worker has won the commit that lets it run the side effect."""
    UNKNOWN = "unknown"
    """Its worker went away while it ran; a person must say what happened."""
    DELEGATED = "delegated"
    """A child loop works on it."""
    WAITING = "waiting"
    """Its child is suspended, its question is unanswered, or its time has not come."""
    RETURNED = "returned"
    FAILED = "failed"
    REJECTED = "rejected"
    CANCELLED = "cancelled"


CLOSED = frozenset({CallState.RETURNED, CallState.FAILED, CallState.REJECTED, CallState.CANCELLED})
"""States in which a call has its result."""


class Transition(NamedTuple):
    """One arrow of the state diagram; `source` None is the moment the model asks."""

    source: CallState | None
    target: CallState
    event: str
    reason: str


_S = CallState
TRANSITIONS = (
    Transition(None, _S.AWAITING, "ModelReplied", "the tool needs approval"),
    Transition(None, _S.APPROVED, "ModelReplied", "it needs none, or has it always; or a record is asked first"),
    Transition(None, _S.DELEGATED, "ModelReplied", "the tool is an agent"),
    Transition(None, _S.WAITING, "ModelReplied", "the tool is a question or a sleep"),
    Transition(None, _S.FAILED, "ModelReplied", "no such tool, bad arguments, cut-off reply"),
    Transition(None, _S.REJECTED, "ModelReplied", "always rejected"),
    Transition(_S.AWAITING, _S.APPROVED, "Decided", "approved"),
    Transition(_S.AWAITING, _S.DELEGATED, "Decided", "approved: the tool is an agent"),
    Transition(_S.AWAITING, _S.WAITING, "Decided", "approved: the tool is a question or a sleep"),
    Transition(_S.AWAITING, _S.AWAITING, "Decided", "approved, and more people must"),
    Transition(_S.AWAITING, _S.REJECTED, "Decided", "rejected"),
    Transition(_S.AWAITING, _S.REJECTED, "Expired", "nobody decided in time"),
    Transition(_S.AWAITING, _S.AWAITING, "Expired", "nobody decided in time: it is asked anew"),
    Transition(_S.APPROVED, _S.RUNNING, "ToolStarted", "a worker starts it"),
    Transition(_S.APPROVED, _S.REJECTED, "Expired", "it was not started in time"),
    Transition(_S.APPROVED, _S.AWAITING, "Expired", "it was not started in time: it is asked anew"),
    Transition(_S.APPROVED, _S.AWAITING, "Voided", "the worker's policy wants other approvals"),
    Transition(_S.APPROVED, _S.AWAITING, "AgentChanged", "the tool is not the one approved"),
    Transition(_S.DELEGATED, _S.AWAITING, "AgentChanged", "the agent is not the one approved, and has not begun"),
    Transition(_S.DELEGATED, _S.REJECTED, "Expired", "the agent did not begin in time"),
    Transition(_S.DELEGATED, _S.AWAITING, "Expired", "the agent did not begin in time: it is asked anew"),
    Transition(_S.DELEGATED, _S.AWAITING, "Voided", "the worker's policy wants other approvals, and it has not begun"),
    Transition(_S.RUNNING, _S.RETURNED, "ToolReturned", "it returned"),
    Transition(_S.RUNNING, _S.FAILED, "ToolFailed", "it raised or timed out"),
    Transition(_S.RUNNING, _S.APPROVED, "ToolFailed", "it is to be retried"),
    Transition(_S.RUNNING, _S.WAITING, "ToolAsked", "it asks a person, or sleeps"),
    Transition(_S.RUNNING, _S.UNKNOWN, "Resumed", "its worker went away"),
    Transition(_S.RUNNING, _S.APPROVED, "Resumed", "its worker went away; it is idempotent"),
    Transition(_S.APPROVED, _S.UNKNOWN, "Repaired", "steps were lost: it may have run in one of them"),
    Transition(_S.RUNNING, _S.UNKNOWN, "Repaired", "steps were lost, and with them how it ended"),
    Transition(_S.RUNNING, _S.APPROVED, "Repaired", "steps were lost; it is idempotent"),
    Transition(_S.UNKNOWN, _S.APPROVED, "Decided", "run it again"),
    Transition(_S.UNKNOWN, _S.UNKNOWN, "Decided", "run it again, if more people say so"),
    Transition(_S.UNKNOWN, _S.REJECTED, "Decided", "give it up"),
    Transition(_S.UNKNOWN, _S.RETURNED, "Answered", "it ran, with this result"),
    Transition(_S.UNKNOWN, _S.RETURNED, "ToolReturned", "its worker was only slow"),
    Transition(_S.UNKNOWN, _S.FAILED, "ToolFailed", "its worker was only slow"),
    Transition(_S.UNKNOWN, _S.WAITING, "ToolAsked", "its worker was only slow"),
    Transition(_S.DELEGATED, _S.WAITING, "ChildSuspended", "the child is suspended"),
    Transition(_S.WAITING, _S.DELEGATED, "ChildResumed", "the child goes on"),
    Transition(_S.DELEGATED, _S.RETURNED, "ChildFinished", "the child completed"),
    Transition(_S.DELEGATED, _S.FAILED, "ChildFailed", "the child failed or was cancelled"),
    Transition(_S.WAITING, _S.RETURNED, "ChildFinished", "the child completed"),
    Transition(_S.WAITING, _S.FAILED, "ChildFailed", "the child failed or was cancelled"),
    Transition(_S.WAITING, _S.RETURNED, "Answered", "a valid answer came"),
    Transition(_S.WAITING, _S.RETURNED, "Woke", "its time came"),
    Transition(_S.WAITING, _S.REJECTED, "Decided", "the question was turned down"),
    Transition(_S.AWAITING, _S.AWAITING, "Edited", "a fork asks for something else"),
    Transition(_S.APPROVED, _S.AWAITING, "Edited", "a fork asks for something else"),
    Transition(_S.DELEGATED, _S.AWAITING, "Edited", "a fork asks for something else, and the agent has not begun"),
    *(
        Transition(source, _S.APPROVED, "Rehearsed", "a fork looks it up in a record")
        for source in (_S.AWAITING, _S.RUNNING, _S.UNKNOWN, _S.WAITING)
    ),
    Transition(_S.APPROVED, _S.AWAITING, "Rehearsed", "a fork asks before each call"),
    Transition(_S.APPROVED, _S.WAITING, "Rehearsed", "a fork asks it live: the tool is a question or a sleep"),
    Transition(_S.APPROVED, _S.RETURNED, "Recalled", "the record says that it returned"),
    Transition(_S.APPROVED, _S.FAILED, "Recalled", "the record says that it failed"),
    Transition(_S.APPROVED, _S.REJECTED, "Recalled", "the record says that it was rejected"),
    Transition(_S.APPROVED, _S.AWAITING, "Missed", "the record has no answer"),
    Transition(_S.APPROVED, _S.APPROVED, "Missed", "the record has no answer, and it has approval always"),
    Transition(_S.APPROVED, _S.WAITING, "Missed", "the record has no answer: the tool is a question or a sleep"),
    Transition(_S.APPROVED, _S.UNKNOWN, "Missed", "the record has no answer, and it had started before the fork"),
    Transition(_S.APPROVED, _S.FAILED, "Missed", "the record has no answer, and the fork is not to wait for one"),
    *(
        Transition(source, _S.FAILED, "AgentChanged", "its tool is gone, and a person let the call end")
        for source in (_S.AWAITING, _S.APPROVED, _S.UNKNOWN, _S.DELEGATED, _S.WAITING)
    ),
    *(
        Transition(source, _S.CANCELLED, event, reason)
        for event, reason in (
            ("Cancelled", "the loop was cancelled"),
            ("Decided", "the loop was given up"),
        )
        for source in CallState
        if source not in CLOSED
    ),
)
"""The only ways in which a call moves, each caused by one kind of event."""

_ALLOWED = frozenset((t.source, t.target, t.event) for t in TRANSITIONS)


def allowed(source: CallState | None, target: CallState, event: str) -> bool:
    """Whether `TRANSITIONS` lets an event of this name move a call from one state to the other."""
    return (source, target, event) in _ALLOWED


class Person(Value, frozen=True, kw_only=True):
    """Somebody who decides, asks or tells, as git names them."""

    name: str
    email: str

    def __str__(self) -> str:
        return f"{self.name} <{self.email}>"

    @property
    def identity(self) -> str:
        """Tells people apart: two names with one address are one person."""
        return self.email.casefold()


Choice = Literal["approve", "reject"]
Scope = Literal["call", "arguments", "tool"]
"""How far a decision reaches in its loop: this call; this tool with these arguments; this tool."""


class Decision(Value, frozen=True, kw_only=True):
    """A person's approval or rejection of a call: a fact, bound to what was shown.

    `arguments` and `tool` are the digests of the exact arguments and of the tool's contract that the person saw, and
    `seen` is the commit they saw them in. `edited` says that the person changed the arguments while approving,
    `standing` that the decision was made on an earlier call, and covers this one with its own arguments.
    """

    choice: Choice
    by: Person
    at: Time
    seen: CommitId
    arguments: Digest
    tool: Digest
    note: str = ""
    edited: bool = False
    standing: bool = False


class Rule(Value, frozen=True, kw_only=True):
    """A standing decision: every later call of `tool` (with arguments of digest `arguments`, if given)."""

    tool: str
    arguments: Digest | None = None
    decision: Decision


class Needs(Value, frozen=True, kw_only=True):
    """What a worker's policy asks for before a call may start, kept with the call to be shown.

    So many distinct people must approve; only those of the addresses in `by` count, if there are any, and never
    `requesters`, the addresses of whoever ran the worker that asks. A request that is not decided within `expires`
    seconds, or an approval that is not used within as long, comes to what `on_expiry` says: the call is rejected, or
    asked about anew.
    """

    approvals: int = 1
    by: tuple[str, ...] = ()
    requesters: tuple[str, ...] = ()
    expires: int | None = None
    on_expiry: Literal["reject", "ask"] = "reject"

    def until(self, at: dt.datetime) -> dt.datetime | None:
        """When what begins at a time expires."""
        return None if self.expires is None else at + dt.timedelta(seconds=self.expires)

    def may_decide(self, who: Person, choice: Choice) -> bool:
        """Whether that person's decision counts. Whoever asks may also turn their own request down."""
        listed = not self.by or who.identity in {email.casefold() for email in self.by}
        return choice == "reject" if self.asked_by(who) else listed

    def asked_by(self, who: Person) -> bool:
        """Whether that person ran the worker that asks."""
        return who.identity in {email.casefold() for email in self.requesters}


class Question(Value, frozen=True, kw_only=True):
    """What a waiting call asks of a person or another system; `answer` is the JSON schema of a valid answer."""

    text: str
    answer: Json


class Call(Value, frozen=True, kw_only=True):
    """One requested use of a tool.

    `key` is the id that the messages know it by; `arguments` the JSON text that runs, edits included. `nonce` is
    random: it tells this call from one of the same id in another history. `since` is when it was asked for.
    `attempt` counts starts; `started`, `runner` and `process` are the time of the last one, its worker, and the process
    as a person knows it. `not_before` is when it may start (a retry) or
    ends (a sleep). `remark` is what was noticed when it was proposed or last failed.

    `needs` is what a policy asks for, None if none governs it. `approvals` came before the `decision` that settled it.
    `expires` is when the request, or the approval that has not been used, lapses. `preview` is what it would change in
    the loop's files, if its tool says that and a person was asked.
    """

    id: CallId
    key: str
    tool: str
    kind: ToolKind
    arguments: str
    state: CallState
    nonce: str
    since: Time
    attempt: int = 0
    started: Time | None = None
    runner: WorkerId | None = None
    process: str = ""
    decision: Decision | None = None
    question: Question | None = None
    not_before: Time | None = None
    remark: str = ""
    needs: Needs | None = None
    approvals: tuple[Decision, ...] = ()
    expires: Time | None = None
    preview: Preview | None = None

    @property
    def granted(self) -> tuple[Decision, ...]:
        """The approvals that it has: those so far while it waits for more, else all that let it start."""
        last = self.decision
        if last is None or last.choice == "reject" or self.state in (CallState.AWAITING, CallState.UNKNOWN):
            return self.approvals
        return (*self.approvals, last)

    @property
    def open(self) -> bool:
        """Whether its result is still to come."""
        return self.state not in CLOSED

    @property
    def arguments_digest(self) -> Digest:
        """Names its exact arguments: a decision is bound to them."""
        return digest(self.arguments.encode())


GateKind = Literal["pause", "condition", "budget", "reply", "model", "change", "repaired", "policy"]
"""Why a loop stands still: a person paused it; one of its agent's suspension functions says so; it has spent its
budget; the model's reply cannot be used (cut off, filtered, refused, empty, misfit); the model cannot be called; its
agent's code has changed; its last steps were lost with damaged objects; what passes for a decision in its history is
none by the worker's policy, and cannot be undone."""


class Gate(Value, frozen=True, kw_only=True):
    """Something that stands before the loop's next effect until it is lifted.

    `change` is what a changed agent's gate asks about; a `decision` that rejected it leaves the gate where it is, until
    the code is another one.
    """

    id: CallId
    kind: GateKind
    reason: str
    since: Time
    name: str = ""
    by: Person | None = None
    change: Change | None = None
    decision: Decision | None = None

    @property
    def lifts_on_resume(self) -> bool:
        """Whether resuming by hand is enough; the others want an approval."""
        return self.kind in ("pause", "reply", "model")
