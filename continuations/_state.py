"""The continuation: an immutable value sufficient to go on, nesting its children's."""

import enum
from collections.abc import Mapping, Sequence
from typing import Literal

from ._calls import CLOSED, Call, CallState, Gate, Rule
from ._changes import Change
from ._ids import CallId, CommitId, Digest, TreeId, WorkerId
from ._messages import Json, Message, Time, Usage, User, Value
from ._rehearsal import Rehearsal
from ._specs import AgentSpec, Amendment, Budget, ToolSpec
from ._workspace import Origin, Workspace, newest

FORMAT = 4
"""The version of the format on disk that this code writes; it reads this one and every earlier one."""


class Status(enum.StrEnum):
    """What a loop is at, derived from its state; it says nothing about whether a process is running."""

    ACTIVE = "active"
    SUSPENDED = "suspended"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Spent(Value, frozen=True, kw_only=True):
    """What was spent: model calls, tokens, and seconds in which there was work to do."""

    steps: int = 0
    usage: Usage = Usage()
    seconds: float = 0.0

    def with_nested(self, other: "Spent") -> "Spent":
        """This and what a nested loop spent. The seconds are this loop's own: they span its children's."""
        return Spent(steps=self.steps + other.steps, usage=self.usage + other.usage, seconds=self.seconds)


class Context(Value, frozen=True, kw_only=True):
    """How full the model's context is, and how often the messages were compacted (`times`) to make room in it.

    The first `messages` messages took `tokens`, with the instructions and the tools; both are 0 as long as no reply has
    told, and kept for agents alone that compact. `left` is the tokens that the last compaction, or attempt, left.
    `overflow` says that the model has refused the messages as too long, and whether they were compacted since.
    """

    tokens: int = 0
    messages: int = 0
    left: int = 0
    times: int = 0
    overflow: Literal["", "told", "tried"] = ""


Final = Literal["completed", "failed", "cancelled"]
"""The statuses of a loop that has ended."""


class Ending(Value, frozen=True, kw_only=True):
    """How a loop ended: the result (text, or JSON where the agent has a result type) or the reason."""

    status: Final
    text: str

    @property
    def said(self) -> str:
        """What is said of the loop: that it has completed or failed, or was cancelled."""
        return "was cancelled" if self.status == "cancelled" else f"has {self.status}"


class Record(Value, frozen=True, kw_only=True):
    """The small, changing part of a continuation: the contents of ``continuation.json``.

    `nonce` is that of the call that started a child loop, random for a root; `worker` is the process that drives
    the loop, or did last; `at` is the time of the last event, and `working_since` that up to which work is counted
    in `spent`. `told` waits for the open calls' results before it
    joins the messages. `absorbed` is what finished children spent. `cleared` says that a person has let the next
    model call through. `accepted` is the changed definition that a person has agreed to and no worker has adopted
    yet. `misfits` counts replies in a row that did not fit the agent's result type. `context` is what is known of the
    messages' size. `amended` is what a fork has put in the place of parts of the agent's definition, and `rehearsal`
    says that its tools do not act of themselves. `workspace` is the files that the agent works on, if it has any,
    `origin` the commit of a project that they were at first, and `copy_of`, in a child loop, those of its parent's that
    they began as.
    """

    format: int
    agent: str
    fingerprint: Digest
    nonce: str
    worker: WorkerId
    at: Time
    working_since: Time
    calls: tuple[Call, ...] = ()
    counters: Mapping[str, int] = {}
    gate: Gate | None = None
    ending: Ending | None = None
    told: tuple[User, ...] = ()
    rules: tuple[Rule, ...] = ()
    memory: Mapping[str, Json] = {}
    cleared: bool = False
    accepted: Change | None = None
    misfits: int = 0
    context: Context = Context()
    amended: Amendment = Amendment()
    rehearsal: Rehearsal | None = None
    budget: Budget = Budget()
    limit: Budget = Budget()
    spent: Spent = Spent()
    absorbed: Spent = Spent()
    workspace: Workspace | None = None
    origin: Origin | None = None
    copy_of: TreeId | None = None


class Continuation(Record, frozen=True, kw_only=True, weakref=True, gc=True):
    """A loop's whole state. `children` holds the newest committed state of each live child, by call.

    `messages` are as a tuple, to whoever looks; where a real one is needed, it is ``tuple(state.messages)``, and
    ``msgspec.json.encode(state, enc_hook=tuple)`` makes JSON of all.
    """

    definition: AgentSpec
    messages: Sequence[Message] = ()
    children: Mapping[CallId, "Child"] = {}

    @property
    def status(self) -> Status:
        """Derived: final once it has ended, suspended if nothing can be done now, else active."""
        if self.ending is not None:
            return Status(self.ending.status)
        states = {call.state for call in self.calls} - CLOSED
        if CallState.RUNNING in states:
            return Status.ACTIVE
        if self.gate is not None:
            return Status.SUSPENDED
        waits = states and self.accepted is None and _MOVING.isdisjoint(states)
        return Status.SUSPENDED if waits else Status.ACTIVE

    @property
    def open_calls(self) -> tuple[Call, ...]:
        """The calls whose results are still to come."""
        return tuple([call for call in self.calls if call.open])

    def call(self, call_id: CallId) -> Call | None:
        """The call of that id in the present round, or None."""
        return next((call for call in self.calls if call.id == call_id), None)

    def tool(self, call: Call) -> ToolSpec | None:
        """The tool that a call asks for, or None if the agent has none of that name."""
        return self.definition.tool(call.tool)

    @property
    def shared(self) -> Workspace | None:
        """In a child loop, the files that it says are in its parent's folder, if it works there."""
        return self.workspace if self.copy_of is None else None

    def shares(self, call_id: CallId) -> bool:
        """Whether the live child of a call works in this loop's folder."""
        child = self.children.get(call_id)
        return child is not None and child.state.shared is not None

    @property
    def files(self) -> Workspace | None:
        """The files that the loop works on, as it or a live child that shares its folder has committed them last."""
        if self.workspace is None:
            return None
        below = [child.state.shared for child in self.children.values()]
        return newest(self.workspace, (one for one in below if one is not None))

    @property
    def total(self) -> Spent:
        """What this loop and all its children, finished and live, have spent."""
        total = self.spent.with_nested(self.absorbed)
        for child in self.children.values():
            total = total.with_nested(child.state.total)
        return total


class Child(Value, frozen=True, kw_only=True):
    """A child's newest committed state, and the commit that holds it."""

    commit: CommitId
    state: Continuation


_MOVING = frozenset({CallState.APPROVED, CallState.DELEGATED})
