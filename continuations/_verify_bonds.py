"""Verification of what binds commits: decisions to what was shown, children to the histories they come from."""

from collections.abc import Iterator, Mapping
from typing import Protocol

import msgspec
from msgspec.structs import replace

from ._calls import Call, CallState, Decision, Needs, Person
from ._ids import CallId, CommitId, Digest
from ._messages import Result
from ._moves import GRANTED
from ._rehearsal import question_of, used_by
from ._state import Continuation, Spent
from ._text import one_line
from ._verify_files import brought_back, committed_files, copied, is_told


class Past(Protocol):
    """The commits before the one that is looked at."""

    def state(self, commit: CommitId) -> Continuation | None:
        """The state in a commit, or None if it is none of a loop."""
        ...

    def follows(self, new: CommitId, old: CommitId) -> bool:
        """Whether one commit is the other, or comes after it in the same loop's own history."""
        ...

    def origin(self, commit: CommitId) -> CommitId | None:
        """The commit with which a commit's loop began, or None if it is none of a loop."""
        ...

    def tree(self, commit: CommitId) -> str:
        """The name of a commit's tree: what is the same has the same."""
        ...


class Recorded(msgspec.Struct, frozen=True, kw_only=True):
    """One commit as it was read back: what it says of itself, and the states before and after it."""

    event: str
    said: Mapping[str, tuple[str, ...]]
    author: Person
    previous: CommitId | None
    further: tuple[CommitId, ...]
    before: Continuation | None
    after: Continuation

    @property
    def call(self) -> CallId:
        """The one call or gate that it is about, or the empty text."""
        named = self.said.get("Call", ())
        return CallId(named[0]) if len(named) == 1 and self.event != "ModelReplied" else CallId("")


def bonds(commit: Recorded, past: Past) -> Iterator[str]:
    """What is wrong with a commit's decisions and children."""
    before = commit.before
    yield from _children(commit, past)
    if before is None:
        return
    match commit.event:
        case "Decided" if before.gate is not None and commit.call == before.gate.id:
            yield from _gate_decided(commit, before, past)
        case "Decided":
            yield from _decided(commit, before, past)
        case "ModelReplied":
            yield from _admitted(commit, before)
        case "ToolStarted":
            yield from _started(commit, before)
        case _:
            return


# Decisions ---------------------------------------------------------------------------------------------------------


def _decided(commit: Recorded, before: Continuation, past: Past) -> Iterator[str]:
    old, new = before.call(commit.call), commit.after.call(commit.call)
    decision = None if old is None or new is None else _made(old, new)
    if old is None or new is None or decision is None:
        yield "it decides nothing that is there"
        return
    tool = before.tool(old)
    contract = tool.digest if tool is not None else Digest("")
    if commit.after.accepted != before.accepted:
        yield f"the decision on {old.id} accepts changed code"
    if not same_person(decision.by, commit.author):
        yield f"the decision on {old.id} is {decision.by.name}'s, and its commit's author is {commit.author.name}"
    told = [commit.said.get(key) for key in ("Decision", "Seen", "Arguments")]
    if told != [(decision.choice,), (decision.seen,), (old.arguments_digest,)]:
        yield f"its message tells another decision on {old.id} than its state holds"
    if decision.arguments != new.arguments_digest or (old.arguments != new.arguments and not decision.edited):
        yield f"the decision on {old.id} is about other arguments"
    if decision.tool != contract:
        yield f"the decision on {old.id} is about another tool"
    yield from _counted(old, new, decision, contract)
    if not _was_shown(commit, old, contract, decision.seen, past):
        yield f"what the decision on {old.id} says it saw did not wait there"
    yield from _ruled(commit, before, new, decision)


def _made(old: Call, new: Call) -> Decision | None:
    """The decision that moved a call, or that stands beside others as long as more people must approve."""
    if new.state is old.state:
        return new.approvals[-1] if new.approvals else None
    return new.decision


def _counted(old: Call, new: Call, decision: Decision, contract: Digest) -> Iterator[str]:
    """Whether a call came as far as its decisions let it, and all of them are about what it is now."""
    needed = (old.needs or Needs()).approvals
    state = CallState.REJECTED
    if decision.choice == "approve":
        state = GRANTED[old.kind] if len(new.granted) >= needed else old.state
    if new.state is not state:
        yield f"{old.id} is {new.state}, and the decision was to {decision.choice} it"
    earlier = new.approvals[:-1] if new.state is old.state else new.approvals
    if any(one not in old.approvals for one in earlier):
        yield f"{old.id} has an approval that nobody made"
    if decision.choice == "approve" and not _sound(new, contract):
        yield f"an approval of {old.id} is about something else, or a second one of the same person"


def _sound(call: Call, contract: Digest) -> bool:
    """Whether each approval of a call is by another person, and of this very call."""
    people = {one.by.identity for one in call.granted}
    return len(people) == len(call.granted) and all(
        (one.choice, one.tool, one.arguments) == ("approve", contract, call.arguments_digest) for one in call.granted
    )


def _was_shown(commit: Recorded, call: Call, contract: Digest, seen: CommitId, past: Past) -> bool:
    """Whether the commit that was looked at is this loop's, and the call waited there as it was when decided."""
    if commit.previous is None or not past.follows(commit.previous, seen):
        return False
    state = past.state(seen)
    shown = None if state is None else state.call(call.id)
    if state is None or shown is None or shown.nonce != call.nonce:
        return False
    tool = state.tool(shown)
    waits = shown.state in (CallState.AWAITING, CallState.UNKNOWN) or (
        shown.state is CallState.WAITING and shown.question is not None
    )
    return (
        waits
        and shown.arguments_digest == call.arguments_digest
        and (tool.digest if tool is not None else Digest("")) == contract
    )


def _ruled(commit: Recorded, before: Continuation, call: Call, decision: Decision) -> Iterator[str]:
    """Whether a standing decision is the one that was made, and no more."""
    added = commit.after.rules[len(before.rules) :]
    scope = commit.said.get("Scope", ("call",))
    kept = commit.after.rules[: len(before.rules)] == before.rules
    expected = [] if scope == ("call",) else [(call.tool, decision.arguments if scope == ("arguments",) else None)]
    if (
        not kept
        or [(rule.tool, rule.arguments) for rule in added] != expected
        or any(rule.decision != decision for rule in added)
    ):
        yield f"the decision on {call.id} does not reach as far as its state says"


def _gate_decided(commit: Recorded, before: Continuation, past: Past) -> Iterator[str]:
    (seen,) = commit.said.get("Seen", ("",))[:1]
    state = past.state(CommitId(seen)) if seen else None
    shown = commit.previous is not None and seen != "" and past.follows(commit.previous, CommitId(seen))
    if not shown or state is None or state.gate != before.gate:
        yield f"the gate {commit.call} did not stand in the commit that the decision on it says it saw"
    after, change = commit.after, None if before.gate is None else before.gate.change
    rejected = after.ending is not None or (change is not None and after.gate is not None)
    if commit.said.get("Decision") != ("reject" if rejected else "approve",):
        yield f"its message tells another decision on {commit.call} than its state holds"
    accepted = before.accepted if change is None or rejected else replace(change, lines=())
    if after.accepted != accepted:
        yield f"the decision on {commit.call} accepts other code than it was about"
    if commit.after.rules != before.rules:
        yield f"the decision on {commit.call} became a standing one"


def _admitted(commit: Recorded, before: Continuation) -> Iterator[str]:
    """Whether each new call that may go on needs no decision, or has a standing one that covers it."""
    for call in commit.after.calls:
        tool = before.tool(call)
        if looked_up(before, call):
            continue  # it starts only once a person has approved it here
        if before.rehearsal is not None and call.kind == "function" and call.state in _THROUGH and not call.granted:
            yield f"{call.id} was let through in a rehearsal without a decision"
        if call.approvals or (call.needs is not None and call.state in _THROUGH):
            yield f"{call.id} was let through before its policy was asked"
        if call.decision is None:
            governed = tool is not None and tool.approval == "always"
            if governed and call.state in _THROUGH:
                yield f"{call.id} was let through without a decision"
            if call.state is CallState.REJECTED:
                yield f"{call.id} was rejected by nobody"
        elif tool is None or not any(
            rule.tool == call.tool
            and rule.arguments in (None, call.arguments_digest)
            and rule.decision.tool == tool.digest
            and call.decision == replace(rule.decision, arguments=call.arguments_digest, standing=True)
            for rule in before.rules
        ):
            yield f"{call.id} has a decision that nobody made for it"


_THROUGH = frozenset({CallState.APPROVED, CallState.DELEGATED, CallState.WAITING})


def _started(commit: Recorded, before: Continuation) -> Iterator[str]:
    """Whether a call that starts is what was approved."""
    call = before.call(commit.call)
    if call is None:
        return
    tool = before.tool(call)
    if before.rehearsal is not None and not call.granted:
        yield f"{call.id} was started in a rehearsal without a decision"
    if call.decision is None:
        # One that needed none when it first started may need one by now: its later attempts are the same call's.
        if call.attempt == 0 and (call.needs is not None or (tool is not None and tool.approval == "always")):
            yield f"{call.id} was started without a decision"
    elif tool is None or not _sound(call, tool.digest) or len(call.granted) < (call.needs or Needs()).approvals:
        yield f"{call.id} was started, and is not what was approved"


def looked_up(state: Continuation, call: Call, *, ask: bool = False) -> bool:
    """Whether a call waits for its rehearsal to answer it; with `ask`, for one without a record too."""
    rehearsal = state.rehearsal
    there = rehearsal is not None and (ask or rehearsal.record is not None)
    return there and call.kind != "agent" and call.state is CallState.APPROVED and not call.granted


def same_person(person: Person, author: Person) -> bool:
    """Whether a commit's author is a person, whose name git may have had to shorten or clean."""
    return [_in_git(part) for part in (person.name, person.email)] == [
        _in_git(part) for part in (author.name, author.email)
    ]


def _in_git(part: str) -> str:
    # As git keeps it: in one line, without what ends a name, and without what it takes off at both ends.
    return one_line("".join(letter for letter in part if letter not in "<>"), 100).strip(" .,:;<>\"\\'") or "unknown"


# Children ----------------------------------------------------------------------------------------------------------


def _children(commit: Recorded, past: Past) -> Iterator[str]:
    """Whether each child goes on from where it was, and those that are gone were heard to the end."""
    before, after = commit.before, commit.after
    known = {} if before is None else before.children
    for call_id, child in after.children.items():
        call = after.call(call_id)
        if call is not None and call.nonce != child.state.nonce:
            yield f"the child loop of {call_id} was started by another call"
        if call_id in known and not past.follows(child.commit, known[call_id].commit):
            yield f"the child loop of {call_id} does not go on from where it was"
        if before is not None and call is not None and call_id not in known and commit.event != "Repaired":
            yield from copied(before, call, child.state)
    for call_id in known:
        call = after.call(call_id)
        if call_id not in after.children and call is not None and call.open:
            yield f"the child loop of {call_id} is no longer nested"
    nested = {child.commit for child in after.children.values()}
    left = [parent for parent in commit.further if parent not in nested]
    if commit.event == "Rehearsed" and after.rehearsal is not None and after.rehearsal.record is not None:
        left = [parent for parent in left if parent != after.rehearsal.record.until]
    ended: list[Continuation] = []
    absorbed = Spent() if before is None else before.absorbed
    rehearsal = None if before is None else before.rehearsal
    for call in () if before is None else before.open_calls:
        now = after.call(call.id)
        if call.kind != "agent" or (now is not None and now.open):
            continue
        found = next((parent for parent in left if _nonce(parent, past) == call.nonce), None)
        state = None if found is None else past.state(found)
        if found is None or state is None:
            if call.id in known or commit.event == "ChildFinished":
                yield f"{call.id} ended, and its child loop's last commit is not a parent"
            continue
        left.remove(found)
        ended.append(state)
        absorbed = absorbed.with_nested(state.total)
        rehearsal = None if rehearsal is None else rehearsal.joined(used_by(state.rehearsal))
        if call.id in known and not past.follows(found, known[call.id].commit):
            yield f"the child loop of {call.id} does not go on from where it was"
        yield from _heard(commit, call, state)
        if before is not None and commit.event in ("ChildFinished", "ChildFailed"):
            yield from brought_back(commit.event, before, after, call, state)
            yield from () if call.id in known else copied(before, call, state)
    if before is not None:
        yield from committed_files(commit.event, before, after, ended)
    if left:
        yield f"it has {left[0]} as a parent, which is no child loop of its own"
    if after.absorbed != absorbed:
        yield "what its child loops spent is not what they say"
    recalled = None if before is None or commit.event != "Recalled" else before.call(commit.call)
    if before is not None and rehearsal is not None and recalled is not None:
        rehearsal = rehearsal.having(question_of(before.agent, recalled.tool, recalled.arguments))
    if before is not None and commit.event != "Rehearsed" and used_by(after.rehearsal) != used_by(rehearsal):
        yield "the answers of the record that count as used are not those that were"


def _nonce(commit: CommitId, past: Past) -> str | None:
    state = past.state(commit)
    return None if state is None else state.nonce


def _heard(commit: Recorded, call: Call, child: Continuation) -> Iterator[str]:
    """Whether what is told of a child that ended is how it ended."""
    if commit.event not in ("ChildFinished", "ChildFailed"):
        return
    finished = commit.event == "ChildFinished"
    if child.ending is None or (child.ending.status == "completed") != finished:
        yield f"{call.id} ended as {commit.event}, and its child loop is {child.status}"
        return
    result = next(
        (one for one in reversed(commit.after.messages) if isinstance(one, Result) and one.tool_call_id == call.key),
        None,
    )
    if result is None or not is_told(result.content, child.ending.text):
        yield f"the result of {call.id} is not its child loop's"
