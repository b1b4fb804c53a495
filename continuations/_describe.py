"""What a commit says: a subject that reads like a transcript, a body for a person, trailers for a program."""

import re

from ._calls import Call, CallState, Needs, Person
from ._changes import as_lines, differences
from ._child_files import and_files, told_of_conflicts, told_of_failure
from ._compaction import context_size
from ._describe_compaction import told_by_compaction
from ._describe_forks import told_by_departure, told_by_rehearsal, trailers_of_fork
from ._events import (
    AgentChanged,
    Answered,
    AnyEvent,
    Cancelled,
    ChildFailed,
    ChildFinished,
    ChildResumed,
    ChildSuspended,
    Compacted,
    CompactionFailed,
    Decided,
    Expired,
    FilesChanged,
    Imported,
    ModelFailed,
    ModelReplied,
    Repaired,
    Resumed,
    Started,
    Suspended,
    Told,
    ToolAsked,
    ToolFailed,
    ToolReturned,
    ToolStarted,
    Voided,
    Woke,
)
from ._events_of_forks import Amended, Edited, Missed, Overridden, Recalled, Rehearsed, Reworded, Rewound
from ._ids import LoopName, idempotency_key
from ._messages import Result, Value, plain_text, text_of
from ._patch import summed
from ._state import Continuation, Status
from ._text import call_text, count, excerpt, one_line, printable

SUBJECT = 72
"""Characters of a subject: what an ordinary terminal shows of `git log --oneline`."""

# What a model or a tool says must not pass for a trailer, for which `git log --grep` looks at the start of a line.
_TRAILER = re.compile(r"[A-Z][A-Za-z-]*:")
_LONG = (400, 40_000)
"""Lines and characters of what is shown of a changed agent: a person agrees to it."""
_CONFLICTS = 100


class Description(Value, frozen=True, kw_only=True):
    """The three parts of a commit's message."""

    subject: str
    body: str
    trailers: tuple[tuple[str, str], ...]

    @property
    def message(self) -> str:
        """The whole message, as git keeps it."""
        trailers = "\n".join([f"{key}: {one_line(value, 200)}" for key, value in self.trailers])
        # A body that the subject says already would be read twice; it can have no more words than that.
        words = self.body.split(maxsplit=self.subject.count(" ") + 1)
        # Git shows it as it is, escape sequences too.
        lines = [] if self.subject.endswith(" ".join(words)) else printable(self.body).strip("\n").split("\n")
        body = "\n".join([f"  {line}" if ":" in line and _TRAILER.match(line) else line for line in lines])
        # JSON may spell out half of a surrogate pair, which no commit can hold.
        return plain_text("\n\n".join([part for part in (self.subject, body, trailers) if part]) + "\n")


def describe(loop: LoopName, before: Continuation | None, event: AnyEvent, after: Continuation) -> Description:
    """Say what an event did to a loop. `before` is None for a loop's first commit."""
    what, body = _told_by(before, event, after)
    status = after.status
    trailers = [
        ("Loop", loop),
        ("Agent", after.agent),
        ("Event", event.name),
        ("Status", status.value),
        *_trailers(loop, before, event, after),
    ]
    if status is Status.SUSPENDED:
        trailers.append(("Waiting", count(len(after.open_calls) + (after.gate is not None), "request")))
    return Description(subject=one_line(f"{after.agent}: {what}", SUBJECT), body=body, trailers=tuple(trailers))


def author_of(event: AnyEvent) -> Person | None:
    """The person who caused the event, or None if the agent did."""
    return getattr(event, "by", None)


def _told_by(before: Continuation | None, event: AnyEvent, after: Continuation) -> tuple[str, str]:
    """The subject without the agent's name, and the body."""
    match event:
        case Started(prompt=prompt):
            text = text_of(prompt.content)
            return f"started: {text}", excerpt(text)
        case ModelReplied():
            return _reply(event, after)
        case ModelFailed(error=error) if after.gate is None:
            return f"the messages are too long for the model: {error}", excerpt(error)
        case ModelFailed(error=error):
            return f"suspended: the model could not be called: {error}", excerpt(error)
        case Compacted():
            return told_by_compaction(before, event, after)
        case CompactionFailed(error=error):
            return f"not compacted: {error}", excerpt(error)
        case Suspended(kind=kind, reason=reason):
            asked = () if event.change is None else event.change.lines
            return ("paused" if kind == "pause" else "suspended") + f": {reason}", excerpt("\n".join(asked), *_LONG)
        case Told(message=message):
            text = text_of(message.content)
            return f"told: {text}", excerpt(text)
        case FilesChanged():
            return "files changed by hand", _left_out(after)
        case Resumed():
            return "resumed", _interrupted(before, after)
        case AgentChanged():
            return _changed(before, event, after)
        case Cancelled(reason=reason):
            return f"cancelled: {reason}", excerpt(reason)
        case Repaired(reason=reason, report=report):
            return f"repaired: {reason}", excerpt(report, lines=60, width=6000)
        case Rewound() | Amended() | Reworded() | Edited() | Overridden() | Rehearsed():
            assert before is not None  # noqa: S101  # none of them begins a loop
            return told_by_departure(before, event, after)
        case Imported(source=source):
            return f"imported from {source}", _waiting(after)
        case _:
            return _call_event(event, _call(before, after, event.call), before, after)


def _call_event(
    event: AnyEvent, call: Call | None, before: Continuation | None, after: Continuation
) -> tuple[str, str]:
    """Events that concern one call."""
    if call is None:  # a gate
        assert isinstance(event, Decided)  # noqa: S101  # nothing else names a gate
        gate = before.gate if before is not None else None
        reason = gate.reason if gate is not None else ""
        if gate is not None and gate.change is not None:
            what = "accepted" if event.choice == "approve" else "refused"
        else:
            what = "lifted" if event.choice == "approve" else "given up"
        return f"{what}: {reason}", excerpt(event.note)
    match event:
        case ToolStarted():
            return f"running {_shown(call)}", _arguments(call)
        case ToolReturned(content=content):
            return f"{call.tool} returned: {content}", excerpt(content)
        case ToolFailed(error=error, retry_at=None):
            return f"{call.tool} failed: {error}", excerpt(error)
        case ToolFailed(error=error):
            return f"{call.tool} is to be retried: {error}", excerpt(error)
        case ToolAsked():
            return _asked(call), _arguments(call)
        case ChildSuspended():
            child = after.children.get(call.id)
            return f"{call.tool} is suspended", "" if child is None else _waiting(child.state)
        case ChildResumed():
            return f"{call.tool} goes on", ""
        case ChildFinished(text=text):
            note = told_of_conflicts(call.id, event.conflicts, event.kept_in)
            return f"{call.tool} returned: {text}", and_files(excerpt(text), note)
        case ChildFailed(error=error):
            note = told_of_failure(call.id, event.kept_in, shared=before is not None and before.shares(call.id))
            return f"{call.tool} failed: {error}", and_files(excerpt(error), note)
        case Decided(choice=choice, note=note, edited=edited):
            verb = "approved" if choice == "approve" else "rejected"
            if edited is not None:
                verb += " with edited arguments"
            verb += _so_far(call, event)
            reason = f": {note}" if choice == "reject" and note else ""
            return f"{verb}: {_shown(call)}{reason}", "\n\n".join(
                part for part in (excerpt(note), _arguments(call), _reach(event)) if part
            )
        case Expired():
            what = "rejected" if call.state is CallState.REJECTED else "asked anew"
            return f"expired, {what}: {_shown(call)}", _arguments(call)
        case Voided(reason=reason):
            return f"approval void: {_shown(call)}", f"{excerpt(reason)}\n\n{_arguments(call)}"
        case Answered(value=value):
            return f"answered: {value}", "\n\n".join(
                (call.question.text if call.question else _shown(call), excerpt(value))
            )
        case Woke():
            return f"{call.tool} woke", ""
        case Recalled() | Missed():
            return told_by_rehearsal(event, call, after)
    return event.name, ""


def _reply(event: ModelReplied, after: Continuation) -> tuple[str, str]:
    message = event.reply.message
    text = message.content or message.refusal or ""
    if after.gate is not None and after.gate.kind == "reply":
        return f"suspended: {after.gate.reason}", excerpt(text)
    if not message.tool_calls:
        done = "completed" if after.ending is not None else "said"
        return f"{done}: {text}", excerpt(text)
    asked = [call for call in after.calls if call.state is CallState.AWAITING]
    questions = [call for call in after.calls if call.state is CallState.WAITING]
    closed = [call for call in after.calls if not call.open]
    others = [call for call in after.calls if call not in asked and call not in questions and call not in closed]
    parts: list[str] = []
    if asked:
        parts.append("approval requested: " + _calls(asked))
    parts.extend(_asked(call) for call in questions)
    if others:
        parts.append("calls " + _calls(others))
    if closed:
        parts.append("not run: " + _calls(closed))
    paragraphs = [excerpt(text)] if text else []
    paragraphs.extend(_arguments(call) + _settled(call, after) for call in after.calls)
    return "; ".join(parts), "\n\n".join(paragraphs)


def _calls(calls: list[Call]) -> str:
    """One call in full; several by name, because the body has them in full."""
    if len(calls) == 1:
        return call_text(calls[0].tool, calls[0].arguments)
    return ", ".join(one_line(call.tool, 40) for call in calls)


def _asked(call: Call) -> str:
    if call.question is not None:
        return f"asks: {call.question.text}"
    if call.not_before is not None:
        return f"sleeps until {call.not_before.isoformat(timespec='seconds')}"
    return f"{call.tool} waits"


def _shown(call: Call) -> str:
    return call_text(call.tool, call.arguments)


def _arguments(call: Call) -> str:
    """A call with its arguments in full, and what was remarked about it."""
    lines = [f"{call.id}: {excerpt(call_text(call.tool, call.arguments, 2000))}"]
    if call.preview is not None and call.preview.files:
        lines.append(f"  it would change {summed(call.preview.files)}")
    if call.remark:
        lines.append(f"  {call.remark}")
    return "\n".join(lines)


def _settled(call: Call, after: Continuation) -> str:
    """What was settled as soon as a call was asked for: that it cannot run, or a standing decision about it."""
    if call.open:
        decision = call.decision
        return "" if decision is None else f"\n  approved by a standing decision of {decision.by.name}"
    keyed = (
        one.content for one in reversed(after.messages) if isinstance(one, Result) and one.tool_call_id == call.key
    )
    return f"\n  {one_line(next(keyed), 400)}"


def _so_far(call: Call, event: Decided) -> str:
    """How many have approved, if more than one must."""
    needed = (call.needs or Needs()).approvals
    return f" ({len(call.granted)} of {needed})" if needed > 1 and event.choice == "approve" else ""


def _reach(event: Decided) -> str:
    if event.scope == "tool":
        return "The same for every later call of this tool in this loop."
    if event.scope == "arguments":
        return "The same for every later call of this tool with these arguments in this loop."
    return ""


def _waiting(state: Continuation) -> str:
    """What a suspended loop waits for, one line each, nested ones under their agent."""
    lines = [f"{state.agent} stands still: {state.gate.reason}"] if state.gate else []
    for call in state.open_calls:
        if call.id in state.children:
            lines.append(_waiting(state.children[call.id].state))
        elif call.state is CallState.AWAITING:
            lines.append(f"{state.agent} wants approval: {call_text(call.tool, call.arguments)}")
        elif call.state is CallState.UNKNOWN:
            lines.append(f"{state.agent} does not know whether it ran: {call_text(call.tool, call.arguments)}")
        elif call.state is CallState.WAITING:
            lines.append(f"{state.agent} {_asked(call)}")
    return "\n".join(line for line in lines if line)


def _interrupted(before: Continuation | None, after: Continuation) -> str:
    known = {call.id: call.state for call in before.calls} if before is not None else {}
    return "\n".join(
        f"{call.id} was running when its worker went away: "
        + (
            "it is idempotent and runs again."
            if call.state is CallState.APPROVED
            else "whether it took effect is not known."
        )
        for call in after.calls
        if known.get(call.id) is CallState.RUNNING
    )


def _changed(before: Continuation | None, event: AgentChanged, after: Continuation) -> tuple[str, str]:
    found = () if before is None else differences(before.definition, after.definition)
    parts = [one.what for one in found] or ["its code is what the loop knew"]
    ended = [f"{call} ends: its tool is gone" for call in event.ends]
    return "agent changed: " + "; ".join([*parts, *ended]), excerpt("\n".join([*as_lines(found), *ended]), *_LONG)


def _left_out(after: Continuation) -> str:
    """The files that the loop's folder has and its commits have not."""
    names = () if after.workspace is None else after.workspace.left_out
    return "Left out: " + ", ".join(names) if names else ""


def _call(before: Continuation | None, after: Continuation, call_id: str) -> Call | None:
    for state in (after, before):
        for call in state.calls if state is not None else ():
            if call.id == call_id:
                return call
    return None


def _trailers(
    loop: LoopName, before: Continuation | None, event: AnyEvent, after: Continuation
) -> list[tuple[str, str]]:
    trailers: list[tuple[str, str]] = []
    call_id = getattr(event, "call", None)
    if call_id is not None:
        trailers.append(("Call", call_id))
        call = _call(before, after, call_id)
        if call is not None:
            trailers.append(("Tool", call.tool))
            if call.attempt:
                trailers.append(("Attempt", str(call.attempt)))
            if isinstance(event, ToolStarted):
                trailers.append(("Idempotency-Key", idempotency_key(loop, call.id, call.nonce)))
    match event:
        case ModelReplied(reply=reply):
            trailers.extend(("Call", call.id) for call in after.calls if reply.message.tool_calls)
            trailers.append(("Model", reply.model or after.definition.model.name))
            trailers.append(("Stop", reply.stop))
            trailers.append(("Tokens", f"{reply.usage.input} in, {reply.usage.output} out"))
        case Compacted(usage=usage, model=model) | CompactionFailed(usage=usage, model=model):
            if isinstance(event, Compacted) and before is not None:
                trailers.append(("Messages", f"{len(before.messages)}, now {len(after.messages)}"))
                trailers.append(("Context", f"about {context_size(before)} tokens, now {context_size(after)}"))
            if usage is not None:
                trailers.append(("Model", model or after.definition.model.name))
                trailers.append(("Tokens", f"{usage.input} in, {usage.output} out"))
        case Started(worker=worker) | Resumed(worker=worker) | ToolStarted(worker=worker):
            trailers.append(("Worker", worker))
            if isinstance(event, Started) and event.origin is not None:
                trailers.append(("Origin", event.origin.commit))
            if isinstance(event, ToolStarted) and event.process:
                trailers.append(("Process", event.process))
        case Decided():
            trailers.append(("Decision", event.choice))
            trailers.append(("Seen", event.seen))
            if event.arguments:
                trailers.append(("Arguments", event.arguments))
            if event.scope != "call":
                trailers.append(("Scope", event.scope))
        case Repaired(lost=lost):
            trailers.extend(("Lost", commit) for commit in lost)
        case ChildFinished(conflicts=conflicts):
            trailers.extend(("Conflict", one.path) for one in conflicts[:_CONFLICTS])
        case Voided(people=people):
            trailers.extend(("Void", email) for email in people)
        case Rewound() | Amended() | Rehearsed() | Recalled():
            trailers.extend(trailers_of_fork(event))
        case _:
            pass
    if after.workspace is not None and (before is None or before.workspace != after.workspace):
        trailers.append(("Files", after.workspace.tree))
    fingerprint = _fingerprint(event, after)
    if fingerprint:
        trailers.append(("Fingerprint", fingerprint))
    return trailers


def _fingerprint(event: AnyEvent, after: Continuation) -> str:
    """That of the definition which an event brings, asks about or decides on."""
    match event:
        case Started() | AgentChanged() | Amended():
            return after.fingerprint
        case Suspended(change=change) if change is not None:
            return change.fingerprint
        case Decided(fingerprint=fingerprint):
            return fingerprint
        case _:
            return ""
