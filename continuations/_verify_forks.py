"""Verification of what forks do: how they depart from their source, and what a rehearsal answers calls with."""

from collections.abc import Iterator, Sequence

from msgspec.structs import replace

from ._calls import Call, CallState
from ._ids import CommitId
from ._messages import Assistant, Message, Result, User
from ._rehearsal import Rehearsal
from ._state import Continuation
from ._verify_bonds import Past, Recorded, looked_up

REWRITING = frozenset({"Rewound", "Reworded", "Overridden"})
"""The events that change or take away messages that were there: only forks do."""

AGAIN = frozenset({"Edited", "Overridden"})
"""The events of a call that may put in its place what stands there already."""


def departures(commit: Recorded, before: Continuation, past: Past) -> Iterator[str]:
    """What is wrong with a step that only a fork, or a rehearsal, can make."""
    match commit.event:
        case "Rewound":
            yield from _rewound(commit, before, past)
        case "Amended":
            yield from _amended(commit, before)
        case "Reworded":
            yield from _reworded(commit, before)
        case "Edited":
            yield from _edited(commit, before)
        case "Overridden":
            yield from _overridden(commit, before)
        case "Rehearsed":
            yield from _rehearsed(commit, before)
        case "Recalled":
            yield from _recalled(commit, before, past)
        case "Missed":
            yield from _missed(commit, before)
        case _:
            pass
    if commit.event != "Rehearsed" and _terms(commit.after) != _terms(before):
        yield f"{commit.event} changed what its tools do"


def nested_terms(state: Continuation) -> Iterator[str]:
    """Whether what is nested in a loop rehearses as the loop does: else its tools would act."""
    for call_id, child in state.children.items():
        if _terms(child.state) != _terms(state):
            yield f"the child loop of {call_id} does not rehearse as the loop does"


def _terms(state: Continuation) -> Rehearsal | None:
    return None if state.rehearsal is None else state.rehearsal.begun


def _rewound(commit: Recorded, before: Continuation, past: Past) -> Iterator[str]:
    after = commit.after
    to = CommitId("".join(commit.said.get("Back-To", ())))
    there = past.state(to)
    kept = len(after.messages) - len(before.told)
    stays = before.messages[: max(0, kept)]
    if commit.previous is None or there is None or not past.follows(commit.previous, to):
        yield "it goes back to a commit that is none of its own history"
    elif after.told or not stays or after.messages != (*stays, *before.told) or there.messages[:kept] != stays:
        yield "what stays of its messages is not what stood at their beginning"
    elif there.open_calls or any(isinstance(message, Assistant) for message in there.messages[kept:]):
        yield f"it goes back to {to[:12]}, in which more was under way than stays"
    elif after.calls != there.calls:
        yield f"its calls are not those of {to[:12]}"
    elif _files(after) != _files(there):
        yield f"its files are not those of {to[:12]}"


def _files(state: Continuation) -> object:
    return None if state.workspace is None else (state.workspace.tree, state.workspace.left_out)


def _amended(commit: Recorded, before: Continuation) -> Iterator[str]:
    old, new = before.amended, commit.after.amended
    lost = any(getattr(new, part) is None and getattr(old, part) is not None for part in ("model", "instructions"))
    if lost or commit.after.definition != before.definition.amended(new):
        yield "its definition is not the one that it had, amended"


def _reworded(commit: Recorded, before: Continuation) -> Iterator[str]:
    changed = _changed(before.messages, commit.after.messages)
    if changed is None or len(changed) > 1 or not all(isinstance(one, User) for pair in changed for one in pair):
        yield "Reworded changed something else than one message that the loop was told"


def _edited(commit: Recorded, before: Continuation) -> Iterator[str]:
    old, new = before.call(commit.call), commit.after.call(commit.call)
    if old is None or new is None:
        return
    tool = before.tool(old)
    free = tool is not None and tool.approval == "never" and old.needs is None and old.decision is None
    if old.attempt or old.id in before.children or old.kind in ("question", "sleep"):
        yield f"{old.id} had begun when a fork changed what it asks for"
    if new.granted or new.decision is not None or (new.state is not CallState.AWAITING and not free):
        yield f"{old.id} asks for something else, and goes by what was decided before"


def _overridden(commit: Recorded, before: Continuation) -> Iterator[str]:
    call = commit.after.call(commit.call)
    changed = _changed(before.messages, commit.after.messages)
    if (
        call is None
        or changed is None
        or len(changed) > 1
        or any(not isinstance(one, Result) or one.tool_call_id != call.key for pair in changed for one in pair)
    ):
        yield "Overridden changed something else than the result of the call that it names"


def _changed(old: Sequence[Message], new: Sequence[Message]) -> list[tuple[Message, Message]] | None:
    """The messages that differ, each with what it was; None if there are not as many as before."""
    if len(old) != len(new):
        return None
    return [(was, now) for was, now in zip(old, new, strict=True) if was != now]


# Rehearsals --------------------------------------------------------------------------------------------------------


def _rehearsed(commit: Recorded, before: Continuation) -> Iterator[str]:
    after, rehearsal = commit.after, commit.after.rehearsal
    record = None if rehearsal is None else rehearsal.record
    if record is not None and record.until not in commit.further:
        yield "the record that it is answered from is not one of its parents"
    if record is not None and record.used:
        yield "answers of the record count as used before any was"
    kept = before.rules if rehearsal is None else tuple(one for one in before.rules if one.decision.choice == "reject")
    if after.rules != kept:
        yield "its standing decisions are not those that a rehearsal lets stand"
    for call in after.open_calls:
        if call.kind == "agent" or call.state is not CallState.APPROVED:
            continue
        old = before.call(call.id)
        if rehearsal is not None and (record is None or call.granted):
            yield f"{call.id} may start on what was decided before the rehearsal"
        elif rehearsal is None and (old is None or old != call or looked_up(before, old, ask=True)):
            yield f"{call.id} may start without a decision once its tool acts again"


def _recalled(commit: Recorded, before: Continuation, past: Past) -> Iterator[str]:
    """Whether the record, as far as it is there, holds such an answer to such a call."""
    call = before.call(commit.call)
    if call is None or not looked_up(before, call):
        yield f"{commit.call} was not to be answered from a record"
        return
    source = past.state(CommitId("".join(commit.said.get("Record", ()))))
    if source is None:
        return  # a nested loop by itself does not reach its record
    there = [_result(source, one) for one in source.calls if not one.open and one.tool == call.tool]
    text = _result(commit.after, call)
    if not any(content is not None and text is not None and text.endswith(content) for content in there):
        yield f"{call.id} was answered with what the record does not hold"


def _result(state: Continuation, call: Call) -> str | None:
    results = (one for one in reversed(state.messages) if isinstance(one, Result) and one.tool_call_id == call.key)
    return next((one.content for one in results), None)


def _missed(commit: Recorded, before: Continuation) -> Iterator[str]:
    old, new = before.call(commit.call), commit.after.call(commit.call)
    if old is None or new is None or before.rehearsal is None:
        yield f"{commit.call} was not to be answered from a record"
        return
    record = before.rehearsal.record
    fails = record is not None and record.on_miss == "fail"
    if not looked_up(before, old, ask=True) or fails != (new.state is CallState.FAILED):
        yield f"{old.id} is {new.state}, and the record had no answer"
    tool = before.tool(old)
    if new.state is CallState.APPROVED and not any(
        tool is not None
        and rule.tool == old.tool
        and rule.arguments in (None, old.arguments_digest)
        and rule.decision.tool == tool.digest
        and new.decision == replace(rule.decision, arguments=old.arguments_digest, standing=True)
        for rule in before.rules
    ):
        yield f"{old.id} has a decision that nobody made for it"
