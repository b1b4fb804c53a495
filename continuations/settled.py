"""What was settled already: who was first, told to whoever comes later, however long ago it was."""

from collections.abc import Callable

from ._calls import Call, Choice, Decision, Person, Scope
from ._ids import Address, CallId, Digest, split_address
from ._messages import Result
from ._moves import AlreadyAnswered, AlreadyDecided, NotApplicable
from ._people import is_same
from ._requests import requests
from ._state import Continuation
from .history import History, Saved
from .store import Commit

Settled = AlreadyDecided | AlreadyAnswered


def settled(history: History, request: Address) -> Settled | None:
    """How a request that waits no more was settled by somebody, as the error for who comes later."""
    loop, call_id = split_address(request)
    saved = history.load(loop)
    gate = saved.state.gate
    if gate is not None and gate.id == call_id and gate.decision is not None:
        return AlreadyDecided(request, gate.decision)  # a refused change: the gate stands until the code is another
    if any(one.id == request for one in requests(loop, saved.commit, saved.state, ())):
        return None
    call = saved.state.call(call_id)
    commit = None if call is not None and call.open else _settling(history, saved, call_id)
    if commit is not None:
        return _first(request, call_id, commit)
    # Decided while the call goes on, or by a standing decision.
    return None if call is None or call.decision is None else AlreadyDecided(request, call.decision)


def check_first(history: History, request: Address) -> None:
    """Check that nobody has settled a request.

    Raises:
        AlreadyDecided, AlreadyAnswered: somebody has.
    """
    first = settled(history, request)
    if first is not None:
        raise first


def once(history: History, request: Address, made: Callable[[], bool], settle: Callable[[], Saved]) -> Saved:
    """Settle a request. Whoever was first, theirs stands; if `made` says that it was this very thing, it is done.

    Raises:
        AlreadyDecided, AlreadyAnswered: somebody was first, and differs.
        NotApplicable: as `settle` does.
    """
    try:
        return settle()
    except NotApplicable:
        if made():
            return history.load(split_address(request)[0])
        check_first(history, request)
        raise


def same_decision(
    history: History, request: Address, choice: Choice, by: Person, edited: str | None, scope: Scope
) -> bool:
    """Whether a request was decided so before: the same decision again is the one there is."""
    loop, call_id = split_address(request)
    state, first = history.load(loop).state, settled(history, request)
    if isinstance(first, AlreadyAnswered):
        return False
    call = state.call(call_id)
    # Where several people must approve, each of their approvals is a decision; until then nothing is settled.
    made = () if call is None or (first is not None and call.decision != first.decision) else call.approvals
    made = made if first is None else (*made, first.decision)
    mine = next((one for one in made if one.by.identity == by.identity), None)
    return mine is not None and is_same(mine, state.rules, choice, by, edited, scope)


def same_answer(history: History, request: Address, text: str, by: Person) -> bool:
    """Whether a request was answered so before."""
    first = settled(history, request)
    return isinstance(first, AlreadyAnswered) and (first.value, first.by) == (text, by)


def _settling(history: History, saved: Saved, call: CallId) -> Commit | None:
    """The commit in which a person decided on or answered a call or a gate."""
    for commit, message in history.store.line(saved.commit):
        trailers = _trailers(message)
        if f"Call: {call}" in trailers and ("Event: Decided" in trailers or "Event: Answered" in trailers):
            found = history.store.read(commit)
            # An imported loop has no parent of its own: what comes before its first commit is a nested loop's.
            return found if found.state.nonce == saved.state.nonce else None
    return None


def _first(request: Address, call_id: CallId, commit: Commit) -> Settled:
    call, trailers = commit.state.call(call_id), _trailers(commit.message)
    if call is not None and "Event: Answered" in trailers:
        return AlreadyAnswered(request, commit.author, commit.state.at, _result(commit.state, call))
    if call is not None and call.decision is not None:
        return AlreadyDecided(request, call.decision)
    # A gate: it is gone from the state with the decision.
    decision = Decision(
        choice="approve" if "Decision: approve" in trailers else "reject",
        by=commit.author,
        at=commit.state.at,
        seen=commit.parents[0],
        arguments=Digest(""),
        tool=Digest(""),
    )
    return AlreadyDecided(request, decision)


def _result(state: Continuation, call: Call) -> str:
    found = (said for said in state.messages if isinstance(said, Result) and said.tool_call_id == call.key)
    return next((said.content for said in found), "")


def _trailers(message: str) -> list[str]:
    return message.rstrip("\n").rpartition("\n\n")[2].split("\n")
