"""Verification of one state by itself: what is so in every state, and what a loop begins with."""

from collections.abc import Iterator

from ._calls import CallState
from ._messages import Assistant, Message, Result, User
from ._state import Continuation, Spent
from ._verify_bonds import Recorded
from ._verify_forks import nested_terms


def standing_faults(state: Continuation) -> Iterator[str]:
    """What is wrong with a state, whatever came before it."""
    if state.fingerprint != state.definition.fingerprint or state.agent != state.definition.name:
        yield "its agent's name and fingerprint are not those of its definition"
    if state.definition != state.definition.amended(state.amended):
        yield "its agent's definition is not as a fork has amended it"
    if state.origin is not None and state.workspace is None:
        yield "it says where its files came from, and works on none"
    yield from nested_terms(state)
    yield from _round(state)
    for call_id in state.children:
        call = state.call(call_id)
        if call is None or call.kind != "agent" or call.state not in (CallState.DELEGATED, CallState.WAITING):
            yield f"a child loop is nested for {call_id}, which no child works on"
    if state.ending is not None and (state.open_calls or state.gate is not None):
        yield f"it {state.ending.said}, and still waits for something"


def _round(state: Continuation) -> Iterator[str]:
    """Whether the calls are those of the model's last reply, each closed one with its one result."""
    last = next((place for place in range(len(state.messages) - 1, -1, -1) if _spoke(state.messages[place])), None)
    spoken = None if last is None else state.messages[last]
    asked = [(one.id, one.function.name) for one in spoken.tool_calls] if isinstance(spoken, Assistant) else []
    if [(call.key, call.tool) for call in state.calls] != asked or len(set(asked)) != len(asked):
        yield "its calls are not those of the model's last reply"
        return
    results = [] if last is None else [one.tool_call_id for one in state.messages[last:] if isinstance(one, Result)]
    for call in state.calls:
        number = results.count(call.key)
        if number != (not call.open):
            yield f"{call.id} is {call.state} and has {number} results"
    if len(results) > len(state.calls):
        yield "it has results of calls that nobody made"


def _spoke(message: Message) -> bool:
    return isinstance(message, Assistant)


def begun(commit: Recorded) -> Iterator[str]:
    """Whether a loop's first commit is one."""
    state = commit.after
    if commit.event == "Started":
        fresh = Continuation(
            format=state.format,
            agent=state.agent,
            fingerprint=state.fingerprint,
            nonce=state.nonce,
            worker=state.worker,
            at=state.at,
            working_since=state.at,
            budget=state.budget,
            limit=state.budget,
            definition=state.definition,
            messages=state.messages,
            rehearsal=None if state.rehearsal is None else state.rehearsal.begun,
            workspace=state.workspace,
            origin=state.origin,
            copy_of=state.copy_of,
        )
        if state != fresh or len(state.messages) != 1 or not isinstance(state.messages[0], User):
            yield "the loop begins with more than its prompt"
        if state.copy_of is not None and (state.workspace is None or state.copy_of != state.workspace.tree):
            yield "the files that it begins with are not those that it says they are a copy of"
    elif commit.event != "Imported":
        yield f"{commit.event} cannot begin a loop"
    elif state.spent != Spent() or state.absorbed != Spent() or any(call.decision for call in state.calls):
        yield "an imported loop begins with decisions, or with something spent"
    elif any(call.state in (CallState.APPROVED, CallState.RUNNING, CallState.UNKNOWN) for call in state.calls):
        yield "an imported loop begins with calls that may run"
