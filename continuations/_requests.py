"""Requests: everything that waits for somebody, told the same way whatever it is."""

import datetime as dt
from collections.abc import Iterator
from typing import Literal

from ._calls import Call, CallState, Decision, Gate, GateKind, Needs
from ._changes import Change
from ._ids import Address, CommitId, Digest, LoopName, WorkerId, address, idempotency_key
from ._messages import Assistant, Json, Value
from ._moves import with_note
from ._patch import Preview
from ._state import Continuation, Record

RequestKind = Literal["approval", "question", "outcome", "sleep", "gate"]
"""A call to approve; a question to answer; a call whose outcome is unknown; a time to wait for; a gate to lift."""


class Attempt(Value, frozen=True, kw_only=True):
    """What is known of the last time a call was started: which attempt it was, when, by which worker, in which process.

    `idempotency_key` is what the tool was given to name the call to others: whoever received it can say whether the
    work was done. A loop of before format 2 does not know when and where.
    """

    number: int
    idempotency_key: Digest
    started: dt.datetime | None = None
    worker: WorkerId | None = None
    process: str = ""


class Request(Value, frozen=True, kw_only=True):
    """Something that waits for a decision, an answer or a time.

    `path` is the agents from the root down to the one that asks; `text` the question, or why a gate stands. For a
    call, `tool` and `arguments` (JSON text) are what was asked for, `reason` is what the model said with it, and the
    digests, `attempt` (the last start there was) and `commit` bind a decision to all that. `answer` is the JSON schema
    of a question's answer. `change` is what a changed agent's gate asks about. `needs` is what a policy asks for,
    `approvals` what has been given of it, and `expires` when it is too late for the rest. `preview` is what the call
    would have changed in the loop's files when it was asked for: `Loops.outdated` says whether those are others by now.
    """

    id: Address
    kind: RequestKind
    loop: LoopName
    path: tuple[str, ...]
    text: str
    since: dt.datetime
    commit: CommitId
    tool: str = ""
    arguments: str = ""
    arguments_digest: Digest = Digest("")
    tool_digest: Digest = Digest("")
    description: str = ""
    reason: str = ""
    remark: str = ""
    answer: Json = None
    wake_at: dt.datetime | None = None
    gate: GateKind | None = None
    change: Change | None = None
    attempt: Attempt | None = None
    needs: Needs | None = None
    approvals: tuple[Decision, ...] = ()
    expires: dt.datetime | None = None
    preview: Preview | None = None

    @property
    def attempts(self) -> int:
        """How often the call had been started when this was shown."""
        return 0 if self.attempt is None else self.attempt.number

    @property
    def fingerprint(self) -> Digest:
        """That of the changed agent that is asked about, or nothing."""
        return Digest("") if self.change is None else self.change.fingerprint

    @property
    def missing(self) -> int:
        """How many more people must approve."""
        return max(1, (self.needs or Needs()).approvals - len(self.approvals))


def requests(loop: LoopName, commit: CommitId, state: Continuation, path: tuple[str, ...]) -> Iterator[Request]:
    """What one loop itself waits for; its children's requests are their own."""
    if state.ending is not None:
        return
    if state.gate is not None:
        yield _gate(loop, commit, path, state.gate)
    for call in state.open_calls:
        kind = _kind(call)
        if kind is not None:
            yield _call(loop, commit, state, path, call, kind)


def asks(record: Record) -> bool:
    """Whether a loop itself waits for anything: whether there are `requests` of it."""
    asked = record.gate is not None or any(call.open and _kind(call) is not None for call in record.calls)
    return record.ending is None and asked


def _kind(call: Call) -> RequestKind | None:
    if call.state is CallState.WAITING and call.kind != "agent":
        return "question" if call.question is not None else "sleep"
    return _KINDS.get(call.state)


_KINDS: dict[CallState, RequestKind] = {CallState.AWAITING: "approval", CallState.UNKNOWN: "outcome"}


def _gate(loop: LoopName, commit: CommitId, path: tuple[str, ...], gate: Gate) -> Request:
    return Request(
        id=address(loop, gate.id),
        kind="gate",
        loop=loop,
        path=path,
        text=gate.reason,
        remark="" if gate.decision is None else f"refused by {with_note(gate.decision.by, gate.decision.note)}",
        since=gate.since,
        commit=commit,
        gate=gate.kind,
        change=gate.change,
    )


def _call(
    loop: LoopName, commit: CommitId, state: Continuation, path: tuple[str, ...], call: Call, kind: RequestKind
) -> Request:
    tool = state.tool(call)
    question = call.question
    bound = None if tool is None else (call.arguments_digest, tool.digest)
    return Request(
        id=address(loop, call.id),
        kind=kind,
        loop=loop,
        path=path,
        text=question.text if question is not None else "",
        since=call.since,
        commit=commit,
        tool=call.tool,
        arguments=call.arguments,
        arguments_digest=call.arguments_digest,
        tool_digest=tool.digest if tool is not None else Digest(""),
        description=tool.description if tool is not None else "",
        reason=_said(state),
        remark=call.remark,
        answer=question.answer if question is not None else None,
        wake_at=call.not_before if kind == "sleep" else None,
        needs=call.needs,
        approvals=tuple(one for one in call.approvals if (one.arguments, one.tool) == bound),
        expires=call.expires,
        preview=call.preview,
        attempt=_attempt(loop, call) if call.attempt else None,
    )


def _attempt(loop: LoopName, call: Call) -> Attempt:
    return Attempt(
        number=call.attempt,
        idempotency_key=idempotency_key(loop, call.id, call.nonce),
        started=call.started,
        worker=call.runner,
        process=call.process,
    )


def _said(state: Continuation) -> str:
    """What the model said with the calls of the present round."""
    spoken = (message for message in reversed(state.messages) if isinstance(message, Assistant))
    return next((message.content or "" for message in spoken), "")
