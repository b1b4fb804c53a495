"""Records: the calls of a loop's past future, and how they ended, for a rehearsal to be answered from."""

import datetime as dt
from collections.abc import Iterator, Mapping
from contextlib import suppress

from ._calls import Call, CallState
from ._errors import SavedStateError
from ._events_of_forks import Ended, Missed, Recalled
from ._ids import CallId, CommitId, Digest, root_of
from ._messages import Assistant, Result, Value
from ._rehearsal import Recording, question_of, used_by
from ._state import Continuation
from ._trailers import trailers
from ._varied import last_reply
from .history import History, Saved
from .store import Commit, Store

_ENDS = frozenset({"ToolReturned", "ToolFailed", "Answered", "Decided", "Expired", "Woke", "Recalled"})
"""The events that end a call as it would end again; a loop that was cancelled, say, tells nothing of its calls."""

_ENDED: Mapping[CallState, Ended] = {
    CallState.RETURNED: "returned",
    CallState.FAILED: "failed",
    CallState.REJECTED: "rejected",
}


class Answer(Value, frozen=True, kw_only=True):
    """How a recorded call ended, in which commit; `asked` is when the model asked for it."""

    asked: dt.datetime
    ended: Ended
    content: str
    source: CommitId


class Records:
    """Looks calls up; every record is read once."""

    def __init__(self, history: History) -> None:
        self._history = history
        self._read: dict[tuple[CommitId, CommitId], Mapping[Digest, tuple[Answer, ...]]] = {}

    def look_up(self, saved: Saved, call_id: CallId, at: dt.datetime) -> Recalled | Missed:
        """The event that ends a call as the same one ended in the record, or says that there is no such answer (left).

        Answers are given in the order in which they were asked for, each once in the whole tree of the rehearsal.
        """
        rehearsal, call = saved.state.rehearsal, saved.state.call(call_id)
        record = None if rehearsal is None else rehearsal.record
        if record is None or call is None:
            return Missed(at=at, call=call_id)
        question = question_of(saved.state.agent, call.tool, call.arguments)
        answers = self._answers(record).get(question, ())
        used = self._used(saved, question)
        if used >= len(answers):
            return Missed(at=at, call=call_id)
        answer = answers[used]
        return Recalled(at=at, call=call_id, ended=answer.ended, content=answer.content, source=answer.source)

    def _used(self, saved: Saved, question: Digest) -> int:
        """How many answers to a question the whole tree has had, this loop as it is here."""
        root = self._history.load(root_of(saved.loop))
        states = {one.loop: one.state for one in self._history.tree(root)}
        states[saved.loop] = saved.state
        return sum(used_by(state.rehearsal).get(question, 0) for state in states.values())

    def _answers(self, record: Recording) -> Mapping[Digest, tuple[Answer, ...]]:
        span = (record.since, record.until)
        if span not in self._read:
            found: dict[Digest, list[Answer]] = {}
            for question, answer in _recorded(self._history.store, *span):
                found.setdefault(question, []).append(answer)
            self._read[span] = {key: tuple(sorted(some, key=_order)) for key, some in found.items()}
        return self._read[span]


def _order(answer: Answer) -> tuple[dt.datetime, CommitId]:
    return answer.asked, answer.source


def _recorded(store: Store, since: CommitId, until: CommitId) -> Iterator[tuple[Digest, Answer]]:
    """Every call that ended in the steps after one commit, up to another, nested loops' steps too.

    What can no longer be read answers nothing.
    """
    with suppress(SavedStateError):
        for named in (since, until):
            store.read(named)  # whoever wrote the state may have written anything for a commit
        known = _before(store, since)
        waiting = [until]
        while waiting:
            commit = waiting.pop()
            if commit not in known:
                known.add(commit)
                waiting.extend(store.parents(commit))
                with suppress(SavedStateError):
                    yield from _ended_in(store, store.read(commit))


def _before(store: Store, commit: CommitId) -> set[CommitId]:
    """A commit, and all that it comes from."""
    found, waiting = set[CommitId](), [commit]
    while waiting:
        one = waiting.pop()
        if one not in found:
            found.add(one)
            waiting.extend(store.parents(one))
    return found


def _ended_in(store: Store, commit: Commit) -> Iterator[tuple[Digest, Answer]]:
    """The calls that ended with one step."""
    if not commit.parents or not _ENDS.intersection(trailers(commit.message).get("Event", ())):
        return
    before, after = store.read(commit.parents[0]).state, commit.state
    for old in before.open_calls:
        call = after.call(old.id)
        if call is None or old.kind == "agent" or call.state not in _ENDED:
            continue
        answer = Answer(asked=call.since, ended=_ENDED[call.state], content=_result(after, call), source=commit.id)
        yield question_of(after.agent, call.tool, _asked_for(after, call)), answer


def _result(state: Continuation, call: Call) -> str:
    results = (one for one in reversed(state.messages) if isinstance(one, Result) and one.tool_call_id == call.key)
    return next((one.content for one in results), "")


def _asked_for(state: Continuation, call: Call) -> str:
    """The arguments before whoever approved the call edited them: the model would ask for those again."""
    decisions = (*call.approvals, *([call.decision] if call.decision is not None else []))
    if not any(one.edited for one in decisions):
        return call.arguments
    spoken = state.messages[last_reply(state.messages) or 0]
    requests = spoken.tool_calls if isinstance(spoken, Assistant) else ()
    return next((one.function.arguments for one in requests if one.id == call.key), call.arguments)
