"""Events: everything that can happen to a loop. Ids, times and randomness arrive inside them."""

import datetime as dt
from collections.abc import Mapping
from typing import Literal

from ._calls import Choice, GateKind, Needs, Person, Question, Scope
from ._changes import Change
from ._child_files import FileConflict
from ._event import Event
from ._events_of_forks import Amended, Edited, Missed, Overridden, Recalled, Rehearsed, Reworded, Rewound
from ._ids import CallId, CommitId, Digest, WorkerId
from ._messages import Json, Message, Reply, Usage, User, Value
from ._patch import Preview
from ._rehearsal import Rehearsal
from ._specs import AgentSpec, Budget
from ._workspace import Origin, Workspace


class Started(Event, tag=True, frozen=True, kw_only=True):
    """A loop began: an agent was given something to do. `nonce` is the call's for a child loop, random for a root; a
    child loop's `rehearsal` is its parent's. `workspace` is the files that it begins with, if any, and `origin` the
    commit of a project that they are; `copied` says that they are a copy of its parent's, which is to come back. With
    files that are no copy, a child loop works in its parent's folder."""

    definition: AgentSpec
    prompt: User
    nonce: str
    worker: WorkerId
    budget: Budget = Budget()
    rehearsal: Rehearsal | None = None
    by: Person | None = None
    workspace: Workspace | None = None
    origin: Origin | None = None
    copied: bool = False


class Proposal(Value, frozen=True, kw_only=True):
    """What the agent's own code says of one requested call, asked once.

    `error` is the result that the model reads if the call cannot be made as asked; `remark` is for the approver.
    `needs` is what the worker's policy asks for: such a call wants approval whatever else is said of it. `preview` is
    what it would change in the loop's files; it is kept for whoever is asked.
    """

    nonce: str
    needs_approval: bool = False
    error: str = ""
    remark: str = ""
    question: Question | None = None
    wake_at: dt.datetime | None = None
    needs: Needs | None = None
    preview: Preview | None = None


class ModelReplied(Event, tag=True, frozen=True, kw_only=True):
    """The model answered. There is one proposal for each tool call, in order.

    `shown` is how many messages it was sent, after so many compactions (`compactions`): a reply to an array that has
    since been answered or compacted does not count.
    `misfit` says how a final answer misses the agent's result type. `memory` is what the suspension functions keep.
    """

    reply: Reply
    shown: int
    compactions: int = 0
    proposals: tuple[Proposal, ...] = ()
    misfit: str = ""
    memory: Mapping[str, Json] = {}


class ModelFailed(Event, tag=True, frozen=True, kw_only=True):
    """The model could not be called, retries included. `shown` and `compactions` are as in `ModelReplied`.

    `too_long` says that the messages are more than it takes.
    """

    error: str
    shown: int
    compactions: int = 0
    too_long: bool = False


class Compacted(Event, tag=True, frozen=True, kw_only=True):
    """The messages became fewer or shorter: `messages` in the place of the first `shown`, whose digest is `replaces`.

    `how` says in which way, for a person. `usage` and `model` are those of a model call that was made for it.
    """

    messages: tuple[Message, ...]
    shown: int
    replaces: Digest
    how: str
    usage: Usage | None = None
    model: str = ""
    by: Person | None = None


class CompactionFailed(Event, tag=True, frozen=True, kw_only=True):
    """The messages were to be compacted, and could not be: the loop goes on with them as they are."""

    error: str
    usage: Usage | None = None
    model: str = ""


class ToolStarted(Event, tag=True, frozen=True, kw_only=True):
    """A worker claims an approved call. Committing this is the permission to run its side effect.

    `process` is where it runs, for whoever is asked about it should that process die.
    """

    call: CallId
    worker: WorkerId
    process: str = ""


class ToolReturned(Event, tag=True, frozen=True, kw_only=True):
    """A tool's attempt returned; `content` is the result that the model reads. `workspace` is the loop's files then, if
    they are not as they were; so it is in the other ends of an attempt."""

    call: CallId
    attempt: int
    content: str
    workspace: Workspace | None = None


class ToolFailed(Event, tag=True, frozen=True, kw_only=True):
    """A tool's attempt failed. With `retry_at` it is to start again then."""

    call: CallId
    attempt: int
    error: str
    retry_at: dt.datetime | None = None
    workspace: Workspace | None = None


class ToolAsked(Event, tag=True, frozen=True, kw_only=True):
    """A tool's attempt ended by asking a question or by sleeping: the call's result comes later."""

    call: CallId
    attempt: int
    question: Question | None = None
    wake_at: dt.datetime | None = None
    workspace: Workspace | None = None


class ChildSuspended(Event, tag=True, frozen=True, kw_only=True):
    """A child loop has nothing to do until somebody decides or something arrives."""

    call: CallId


class ChildResumed(Event, tag=True, frozen=True, kw_only=True):
    """A suspended child loop goes on."""

    call: CallId


class ChildFinished(Event, tag=True, frozen=True, kw_only=True):
    """A child loop completed; `text` is its result. `workspace` is the loop's files with the child's merged into them,
    if that changed any, and `conflicts` those of the child's that could not be; they are in the commit `kept_in`."""

    call: CallId
    text: str
    workspace: Workspace | None = None
    conflicts: tuple[FileConflict, ...] = ()
    kept_in: CommitId | None = None


class ChildFailed(Event, tag=True, frozen=True, kw_only=True):
    """A child loop failed or was cancelled. Files that it had changed by then are in the commit `kept_in`; if it worked
    in the loop's own folder, `workspace` is what is there, if that is not as it was."""

    call: CallId
    error: str
    workspace: Workspace | None = None
    kept_in: CommitId | None = None


class Suspended(Event, tag=True, frozen=True, kw_only=True):
    """The loop must stand still: a gate was put before its next effect.

    With a `change` it asks about the agent's changed code, in the place of what was asked about older code.
    """

    kind: GateKind
    reason: str
    gate_name: str = ""
    memory: Mapping[str, Json] = {}
    by: Person | None = None
    change: Change | None = None


class Decided(Event, tag=True, frozen=True, kw_only=True):
    """A person approved or rejected a call or a gate.

    `arguments` and `tool` are the digests of what the person saw, in the commit `seen`; both are empty for a gate.
    `fingerprint` is that of the definition that they saw, if the gate is about a changed agent.
    `attempt` counts the starts of the call by then: what has run since is another thing to decide about.
    `edited` is the arguments that the person put in the place of the model's, as JSON text.
    """

    call: CallId
    choice: Choice
    by: Person
    seen: CommitId
    arguments: Digest = Digest("")
    tool: Digest = Digest("")
    fingerprint: Digest = Digest("")
    attempt: int = 0
    note: str = ""
    edited: str | None = None
    scope: Scope = "call"


class Expired(Event, tag=True, frozen=True, kw_only=True):
    """Nobody decided about a call in time, or nobody started it in time."""

    call: CallId


class Voided(Event, tag=True, frozen=True, kw_only=True):
    """The worker's policy does not accept a call's approvals; those by `people` (addresses) are void, the others stand.

    `needs` is what the policy asks for, and `reason` which approval is none and why, for whoever is asked now.
    """

    call: CallId
    people: tuple[str, ...]
    needs: Needs
    reason: str


class Answered(Event, tag=True, frozen=True, kw_only=True):
    """A person or another system answered a question, or said how an unknown call ended. `value` is the
    result that the model reads: a text answer as it is, anything else as JSON. `attempt` is as in `Decided`."""

    call: CallId
    value: str
    attempt: int = 0
    by: Person


class Woke(Event, tag=True, frozen=True, kw_only=True):
    """The time that a call was sleeping for has come."""

    call: CallId


class Told(Event, tag=True, frozen=True, kw_only=True):
    """Somebody said something to the loop. A `nested` one that has ended hears nothing: its parent has its result."""

    message: User
    by: Person
    nested: bool = False


class FilesChanged(Event, tag=True, frozen=True, kw_only=True):
    """The loop's files were changed by somebody else than its tools, or by a tool whose end is not known; a person says
    that they are to stay."""

    workspace: Workspace
    by: Person


class Resumed(Event, tag=True, frozen=True, kw_only=True):
    """A worker took the loop up. `by_hand` is set when a person asked for it: that lifts some gates."""

    worker: WorkerId
    by_hand: bool = False


class AgentChanged(Event, tag=True, frozen=True, kw_only=True):
    """The agent's code is not what the loop knew, or was not: its definition is adopted.

    `ends` names the open calls that end with it, because their tool is gone. `by` is the person who said at that
    moment that it be adopted; what a worker's settings or an earlier approval say is nobody's here.
    """

    definition: AgentSpec
    ends: tuple[CallId, ...] = ()
    by: Person | None = None


class Cancelled(Event, tag=True, frozen=True, kw_only=True):
    """The loop was cancelled, and with it everything open in it."""

    reason: str
    by: Person | None = None


class Repaired(Event, tag=True, frozen=True, kw_only=True):
    """The loop's newest commits are damaged: it goes on from an earlier one. `lost` is the commits that were known to
    come after that one, `report` what was wrong and where it is kept, for a person."""

    reason: str
    by: Person
    lost: tuple[CommitId, ...] = ()
    report: str = ""


class Imported(Event, tag=True, frozen=True, kw_only=True):
    """A continuation came from another system; the first commit of its loop holds it as it came."""

    source: Literal["agent-continuations"]
    by: Person


AnyEvent = (
    Started
    | ModelReplied
    | ModelFailed
    | Compacted
    | CompactionFailed
    | ToolStarted
    | ToolReturned
    | ToolFailed
    | ToolAsked
    | ChildSuspended
    | ChildResumed
    | ChildFinished
    | ChildFailed
    | Suspended
    | Decided
    | Expired
    | Voided
    | Answered
    | Woke
    | Told
    | FilesChanged
    | Resumed
    | AgentChanged
    | Cancelled
    | Repaired
    | Rewound
    | Amended
    | Reworded
    | Edited
    | Overridden
    | Rehearsed
    | Recalled
    | Missed
    | Imported
)
"""Every kind of event."""
