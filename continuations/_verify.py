"""Verification: whether a commit's step is one that a loop can make. Pure: a commit, what it follows, a list of faults.

It does not apply `step` again, which would need what only the event knew. It is a second statement of the same law,
written against what the commits hold, so that each can find the other's mistakes.
"""

from collections.abc import Iterator, Mapping

from msgspec.structs import replace

from ._calls import Call, CallState, Gate, Person, allowed
from ._ids import CommitId
from ._marks import MARKS
from ._messages import Assistant, Result, User
from ._state import Continuation, Spent
from ._step import name_calls
from ._text import one_line
from ._trailers import trailers
from ._verify_bonds import Past, Recorded, bonds
from ._verify_compaction import COMPACTIONS, compaction_faults, context_faults
from ._verify_forks import AGAIN, REWRITING, departures
from ._verify_marks import marked
from ._verify_pruned import PRUNED, pruned_faults
from ._verify_state import begun, standing_faults

FIRST = frozenset({"Started", "Imported"})
"""The events that begin a loop: their commits follow no commit of their own loop."""

MAY_CHANGE: Mapping[str, frozenset[str]] = {
    "format": frozenset({"*"}),
    "agent": frozenset({"AgentChanged"}),
    "fingerprint": frozenset({"AgentChanged", "Amended"}),
    "definition": frozenset({"AgentChanged", "Amended"}),
    "nonce": frozenset(),
    "worker": frozenset({"Resumed"}),
    "at": frozenset({"*"}),
    "working_since": frozenset({"*"}),
    "calls": frozenset({"*"}),
    "counters": frozenset({"*"}),
    "gate": frozenset({"*"}),
    "ending": frozenset({"ModelReplied", "Cancelled", "Decided", "Told", "Rewound"}),
    "told": frozenset({"*"}),
    "rules": frozenset({"Decided", "Rehearsed"}),
    "memory": frozenset({"ModelReplied", "Suspended"}),
    "cleared": frozenset({"ModelReplied", "Decided"}),
    "accepted": frozenset({"Decided", "AgentChanged"}),
    "misfits": frozenset({"ModelReplied"}),
    "context": frozenset({"ModelReplied", "ModelFailed", "Compacted", "CompactionFailed"}),
    "amended": frozenset({"Amended"}),
    "rehearsal": frozenset({"*"}),
    "budget": frozenset({"AgentChanged"}),
    "limit": frozenset({"AgentChanged", "Decided"}),
    "spent": frozenset({"*"}),
    "absorbed": frozenset({"*"}),
    "workspace": frozenset({"*"}),
    "origin": frozenset(),
    "copy_of": frozenset(),
    "messages": frozenset({"*"}),
    "children": frozenset({"*"}),
}
"""Which events may change which part of a state; ``*`` is a part with rules of its own."""

_FORKING = frozenset({"Edited", "Rehearsed", "Missed"})
"""The events of forks after which a call may have to be decided on anew."""

CALL_MAY_CHANGE: Mapping[str, frozenset[str]] = {
    "id": frozenset(),
    "key": frozenset(),
    "tool": frozenset(),
    "kind": frozenset(),
    "arguments": frozenset({"Decided", "Edited"}),
    "state": frozenset({"*"}),
    "nonce": frozenset(),
    "since": frozenset({"Expired", "AgentChanged"}) | _FORKING,
    "attempt": frozenset({"ToolStarted", "Repaired"}),
    "started": frozenset({"ToolStarted"}),
    "runner": frozenset({"ToolStarted"}),
    "process": frozenset({"ToolStarted"}),
    "decision": frozenset({"Decided", "AgentChanged", "Expired", "Voided"}) | _FORKING,
    "needs": frozenset({"Voided"}),
    "approvals": frozenset({"Decided", "AgentChanged", "Expired", "Voided", "Resumed", "Repaired"}) | _FORKING,
    "expires": frozenset({"Decided", "AgentChanged", "Expired", "Voided", "ToolStarted", "Repaired"}) | _FORKING,
    "preview": frozenset({"Decided", "AgentChanged", "Edited"}),
    "question": frozenset({"ToolAsked"}),
    "not_before": frozenset({"ToolStarted", "ToolFailed", "ToolAsked"}),
    "remark": frozenset(
        {"Decided", "ToolFailed", "Resumed", "AgentChanged", "Expired", "Voided", "Repaired", "Overridden"}
    )
    | _FORKING,
}
"""Which events may change which part of a call that is there already."""

GATING = frozenset({"Suspended", "ModelFailed", "ModelReplied", "Repaired"})
"""The events that may put a gate."""

_MANY = frozenset({"Resumed", "AgentChanged", "Cancelled", "Repaired", "Rehearsed"})
"""The events that may move every call; the others move the one that they name."""


def faults(
    message: str, author: Person, parents: tuple[CommitId, ...], tree: str, after: Continuation, past: Past
) -> Iterator[str]:
    """What is wrong with one commit of a loop: nothing, if the product made it.

    `message`, `author`, `parents`, `tree` and `after` are the commit's; `past` knows the commits before it.
    """
    said = trailers(message)
    names = said.get("Event", ())
    if len(names) != 1:
        yield f"its message names {len(names)} events instead of one"
        return
    event = names[0]
    previous = None if event in FIRST or not parents else parents[0]
    before = None if previous is None else past.state(previous)
    commit = Recorded(
        event=event,
        said=said,
        author=author,
        previous=previous,
        further=parents if previous is None else parents[1:],
        before=before,
        after=after,
    )
    yield from _said(commit)
    yield from standing_faults(after)
    if event in MARKS:
        yield from marked(commit, message, parents, tree, past)
        return
    if previous is None:
        yield from begun(commit)
    elif event == PRUNED:
        yield from () if before is None else pruned_faults(commit, before)
        return
    elif before is not None:
        yield from _moved(commit, before)
        yield from departures(commit, before, past)
    else:
        return  # what it follows cannot be read, which is a fault of its own
    yield from bonds(commit, past)


def _said(commit: Recorded) -> Iterator[str]:
    """Whether the message says what the state shows."""
    after = commit.after
    expected = {"Agent": one_line(after.agent, 200), "Status": after.status.value}
    if commit.event in ("Started", "Resumed", "ToolStarted"):
        expected["Worker"] = after.worker
    for key, value in expected.items():
        if commit.said.get(key) != (value,):
            yield f"its message says {key} {', '.join(commit.said.get(key, ())) or 'nothing'}, its state {value}"
    if not commit.said.get("Loop"):
        yield "its message does not name its loop"


def _moved(commit: Recorded, before: Continuation) -> Iterator[str]:
    """Whether one state follows from the other by the event that the commit names."""
    event, after = commit.event, commit.after
    for field in Continuation.__struct_fields__:
        events = MAY_CHANGE.get(field, frozenset({"*"}))
        if "*" not in events and event not in events and getattr(before, field) != getattr(after, field):
            yield f"{event} changed its {field}"
    if (before.workspace is None) != (after.workspace is None):
        yield f"{event} gave the loop files to work on, or took them away"
    if before.ending is not None and event not in ("Told", "Repaired", "Rewound", "Amended", "Rehearsed"):
        yield f"{event} happened after the loop had {before.ending.status}"
    if event != "Rewound":
        yield from _calls(commit, before)
    if event not in REWRITING:
        yield from _messages(commit, before)
    yield from _gates(commit, before)
    yield from _endings(commit, before)
    yield from _numbers(commit, before)
    yield from context_faults(commit, before)


# Calls -------------------------------------------------------------------------------------------------------------


def _calls(commit: Recorded, before: Continuation) -> Iterator[str]:
    event, after = commit.event, commit.after
    if event == "ModelReplied":
        yield from _asked_for(commit, before)
        return
    if [call.id for call in before.calls] != [call.id for call in after.calls]:
        yield f"{event} changed which calls there are"
        return
    given_up = event == "Decided" and before.gate is not None and commit.call == before.gate.id
    for old, new in zip(before.calls, after.calls, strict=True):
        concerned = event in _MANY or old.id == commit.call or (given_up and after.ending is not None)
        if old == new:
            if old.id == commit.call and event not in _MANY | AGAIN:
                yield f"{event} names {old.id}, which it did not change"
        elif not concerned:
            yield f"{event} changed {old.id}, which it does not name"
        else:
            yield from _call(commit, before, old, new)
    if commit.call and commit.call not in {call.id for call in before.calls} and not given_up:
        yield f"{event} names {commit.call}, which is not there"


def _call(commit: Recorded, before: Continuation, old: Call, new: Call) -> Iterator[str]:
    event = commit.event
    if old.state is not new.state and not allowed(old.state, new.state, event):
        yield f"{event} made {old.id} {new.state}, which was {old.state}"
    for field in Call.__struct_fields__:
        events = CALL_MAY_CHANGE.get(field, frozenset({"*"}))
        if "*" not in events and event not in events and getattr(old, field) != getattr(new, field):
            yield f"{event} changed the {field} of {old.id}"
    edited = event != "Decided" or old.arguments != new.arguments
    if new.preview != old.preview and (new.preview is not None or not edited):
        yield f"{old.id} has another preview than was shown"
    started = new.attempt - old.attempt
    if started not in ((1,) if event == "ToolStarted" else (0, 1)):
        yield f"{old.id} went from attempt {old.attempt} to attempt {new.attempt}"
    if event == "ToolStarted":
        if before.gate is not None:
            yield f"{old.id} started while the loop stood still: {one_line(before.gate.reason)}"
        if not new.runner == before.worker == commit.after.worker:
            yield f"{old.id} was started by a worker that does not drive the loop"


def _asked_for(commit: Recorded, before: Continuation) -> Iterator[str]:
    """Whether the calls are those that the model's reply asks for, each in a state that a new call may have."""
    after = commit.after
    if before.open_calls:
        yield f"the model replied while {before.open_calls[0].id} had no result"
    spoken = after.messages[len(before.messages) : len(before.messages) + 1]
    requests = spoken[0].tool_calls if spoken and isinstance(spoken[0], Assistant) else ()
    ids, _ = name_calls(before, requests)
    if [call.id for call in after.calls] != list(ids):
        yield "the calls are not those that the model asked for"
        return
    for call, request in zip(after.calls, requests, strict=True):
        if (call.key, call.tool, call.arguments) != (request.id, request.function.name, request.function.arguments):
            yield f"{call.id} is not what the model asked for"
        if not allowed(None, call.state, commit.event):
            yield f"{call.id} was {call.state} as soon as it was asked for"
        if call.attempt or call.runner is not None:
            yield f"{call.id} has attempts before it could start"
        if call.preview is not None and call.state is not CallState.AWAITING:
            yield f"{call.id} has a preview that nobody was to be shown"


# Messages ----------------------------------------------------------------------------------------------------------


def _messages(commit: Recorded, before: Continuation) -> Iterator[str]:
    """Whether the messages, unless they were compacted, only grew, by what was said and the results of ended calls."""
    event, after = commit.event, commit.after
    kept = len(before.messages)
    if event == "Compacted":
        yield from compaction_faults(commit, before)
        return
    if after.messages[:kept] != before.messages:
        yield "messages that were there are gone or changed"
        return
    added = after.messages[kept:]
    spoken = [place for place, message in enumerate(added) if isinstance(message, Assistant)]
    if spoken != ([0] if event == "ModelReplied" else []):
        yield f"{event} added {len(spoken)} replies of the model"
    known = {} if event == "ModelReplied" else {call.id: call for call in before.calls}
    ended = [call.key for call in after.calls if not call.open and (call.id not in known or known[call.id].open)]
    results = [message.tool_call_id for message in added if isinstance(message, Result)]
    if results != ended:
        yield f"{event} ended {len(ended)} calls and added {len(results)} results"
    said = [message for message in added if isinstance(message, User)]
    new = len(said) + len(after.told) - len(before.told)
    fresh = {"Told": 1, "ModelReplied": 1}.get(event, 0)  # the correction of a reply that misses its form
    lost = [message for message in before.told if message not in said and message not in after.told]
    if lost or new < 0 or new > fresh or (event == "Told" and new != 1):
        yield f"{event} lost or invented something that the loop was told"


# The loop ----------------------------------------------------------------------------------------------------------


def _gates(commit: Recorded, before: Continuation) -> Iterator[str]:
    event, after = commit.event, commit.after
    old, new = before.gate, after.gate
    if event == "Repaired" and after.ending is None and (new is None or new.kind != "repaired"):
        yield "the loop was repaired, and goes on as if a person had looked"
    if old == new:
        return
    if new is not None and not (_refuses(commit, old, new) or _puts(event, old, new)):
        yield f"{event} put the gate {new.id}"
    if new is None and old is not None and not _lifts(commit, old):
        yield f"{event} lifted the gate {old.id}"


def _puts(event: str, old: Gate | None, new: Gate) -> bool:
    """Whether an event may put a gate, where none stood, or in the place of one that asked about other code."""
    asked_anew = old is not None and old.change is not None and new.change is not None and event == "Suspended"
    return event in GATING and (old is None or asked_anew or event == "Repaired")


def _refuses(commit: Recorded, old: Gate | None, new: Gate) -> bool:
    """Whether a person refused a changed agent: its gate stays, and holds the decision."""
    refused = old is not None and old.change is not None and old.decision is None and new.decision is not None
    return refused and commit.event == "Decided" and old == replace(new, decision=None)


def _lifts(commit: Recorded, gate: Gate) -> bool:
    match commit.event:
        case "Decided":
            return commit.call == gate.id
        case "Resumed":
            return gate.lifts_on_resume
        case "AgentChanged":
            return gate.change is not None
        case "Told" | "Rewound":
            return gate.kind in ("reply", "model")
        case "ModelReplied":  # it was put while the model was called, and the reply was the last one
            return commit.after.ending is not None
        case _:
            return commit.event == "Cancelled"


def _endings(commit: Recorded, before: Continuation) -> Iterator[str]:
    event, after = commit.event, commit.after
    old, new = before.ending, after.ending
    if old == new:
        return
    if event == "Rewound":
        last = after.messages[-1]
        said = last.content if isinstance(last, Assistant) else None
        if new is not None and (new.status, new.text) != ("completed", said):
            yield "its result is not what the model said last"
        return
    if new is None:
        if event != "Told" or old is None or old.status != "completed":
            yield f"{event} took back that the loop had ended"
        return
    expected = {"ModelReplied": "completed", "Cancelled": "cancelled", "Decided": "failed"}.get(event)
    if old is not None or new.status != expected:
        yield f"{event} made the loop {new.status}"
    if event == "ModelReplied" and not (
        isinstance(last := after.messages[-1], Assistant) and last.content == new.text and not after.calls
    ):
        yield "its result is not what the model said last"
    if event == "Decided" and (before.gate is None or commit.call != before.gate.id):
        yield "the loop was given up where no gate stood"


def _numbers(commit: Recorded, before: Continuation) -> Iterator[str]:
    """Whether what only grows has not shrunk, and grew by what the event accounts for."""
    event, after = commit.event, commit.after
    counters = dict(before.counters)
    if event == "ModelReplied":
        spoken = after.messages[len(before.messages) : len(before.messages) + 1]
        if spoken and isinstance(spoken[0], Assistant):
            counters = name_calls(before, spoken[0].tool_calls)[1]
    if after.gate is not None and (before.gate is None or after.gate.id != before.gate.id):
        counters["gate"] = counters.get("gate", 0) + 1
        if after.gate.id != f"gate-{counters['gate']}":
            yield f"the gate {after.gate.id} does not have the next number"
    if dict(after.counters) != counters:
        yield "its counters do not count its calls and gates"
    replied = event == "ModelReplied" or (event in COMPACTIONS and "Tokens" in commit.said)
    if after.spent.steps != before.spent.steps + replied:
        yield f"{event} made {before.spent.steps} model calls {after.spent.steps}"
    if _shrank(before.spent, after.spent) or (not replied and before.spent.usage != after.spent.usage):
        yield "what was spent is not what was spent before, and the step's own"
    if replied:
        tokens = [now - then for now, then in zip(_used(after.spent), _used(before.spent), strict=True)]
        if commit.said.get("Tokens") != (f"{tokens[0]} in, {tokens[1]} out",):
            yield "the tokens that its message tells are not those that its state adds"


def _used(spent: Spent) -> tuple[int, int, int, int]:
    usage = spent.usage
    return usage.input, usage.output, usage.cached, usage.reasoning


def _shrank(before: Spent, after: Spent) -> bool:
    return after.seconds < before.seconds or any(
        now < then for now, then in zip(_used(after), _used(before), strict=True)
    )
