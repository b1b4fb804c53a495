"""How a changed definition is told from the one before, and what it may do to a loop."""

from typing import Any

import pytest
from hypothesis import given
from msgspec.structs import replace

from caesura.continuations import (
    AgentChanged,
    AgentSpec,
    AlreadyDecided,
    Amended,
    Budget,
    CallId,
    CallState,
    Change,
    Changes,
    CommitId,
    Continuation,
    Decided,
    Digest,
    MemoryStore,
    ModelReplied,
    ModelSpec,
    NotApplicable,
    Proposal,
    Reply,
    Saved,
    StaleDecision,
    Started,
    Status,
    Suspended,
    ToolSpec,
    ToolStarted,
    User,
    as_lines,
    describe,
    differences,
    loop_name,
    outstanding,
    start,
    step,
)
from caesura.continuations import Assistant as Said
from caesura.continuations._effects import AdoptAgent
from caesura.runtime._changed import judge
from tests.models import request
from tests.strategies import ADA, AGENT, EPOCH, GRACE, WORKERS, Step, World, definitions, sequences

SEEN = CommitId("c" * 40)
LOOK, ORDER = AGENT.tools[1], AGENT.tools[0]
SCHEMA = {"type": "object", "properties": {"item": {"type": "string", "description": "What."}}, "required": ["item"]}


def with_tool(**fields: Any) -> AgentSpec:
    return replace(AGENT, tools=(replace(ORDER, parameters=SCHEMA, **fields), *AGENT.tools[1:]))


def with_item(**fields: Any) -> AgentSpec:
    return with_tool() if not fields else replaced_item({"type": "string", "description": "What.", **fields})


def replaced_item(item: Any, name: str = "item") -> AgentSpec:
    parameters = {**SCHEMA, "properties": {name: item}}
    return replace(AGENT, tools=(replace(ORDER, parameters=parameters), *AGENT.tools[1:]))


BASE = with_tool()


# Differences -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("new", "severity", "what"),
    [
        (replace(BASE, instructions="Be long."), "guidance", "instructions changed"),
        (replace(BASE, model=ModelSpec(name="other")), "guidance", "model changed"),
        (replace(BASE, model=ModelSpec(name="scripted", settings={"temperature": 1})), "guidance", "model changed"),
        (replace(BASE, budget=Budget(steps=3)), "guidance", "budget changed"),
        (replace(BASE, suspensions=("lunch",)), "guidance", "suspensions changed"),
        (replace(BASE, name="operations"), "guidance", "name changed"),
        (replace(BASE, tools=BASE.tools[::-1]), "guidance", "the order of its tools changed"),
        (with_tool(description="It orders."), "guidance", "tool order changed"),
        (with_item(description="Which."), "guidance", "tool order changed"),
        (with_item(title="Item", examples=["tea"]), "guidance", "tool order changed"),
        (replace(BASE, result={"type": "object"}), "contract", "result changed"),
        (replace(BASE, tools=BASE.tools[1:]), "contract", "tool order removed"),
        (replace(BASE, tools=(*BASE.tools, ToolSpec(name="new"))), "contract", "tool new added"),
        (with_tool(approval="never"), "contract", "tool order changed"),
        (with_tool(approval="predicate"), "contract", "tool order changed"),
        (with_tool(idempotent=True), "contract", "tool order changed"),
        (with_tool(kind="agent", agent="shop"), "contract", "tool order changed"),
        (with_item(default="tea"), "contract", "tool order changed"),
        (with_item(default={"description": "tea"}), "contract", "tool order changed"),
        (with_item(enum=["tea"]), "contract", "tool order changed"),
        (with_item(type="integer"), "contract", "tool order changed"),
        (replaced_item({"type": "string", "description": "What."}, "description"), "contract", "tool order changed"),
        (replaced_item({"type": "string", "description": "What."}, "title"), "contract", "tool order changed"),
    ],
)
def test_a_difference_is_as_severe_as_what_it_changes(new: AgentSpec, severity: str, what: str) -> None:
    (found,) = differences(BASE, new)
    assert (found.severity, found.what) == (severity, what)
    assert "order of its tools" in what or found.lines


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (replaced_item({"type": "string"}, "description"), replaced_item({"type": "integer"}, "description")),
        (with_item(default={"description": "tea"}), with_item(default={"description": "jam"})),
        (with_item(enum=[{"title": "tea"}]), with_item(enum=[{"title": "jam"}])),
    ],
)
def test_what_is_only_named_like_a_remark_is_none(old: AgentSpec, new: AgentSpec) -> None:
    assert [one.severity for one in differences(old, new)] == ["contract"]


@given(definitions, definitions)
def test_definitions_differ_where_their_fingerprints_do_and_nowhere_else(old: AgentSpec, new: AgentSpec) -> None:
    assert bool(differences(old, new)) == (old.fingerprint != new.fingerprint)
    assert differences(old, old) == ()


@given(definitions, definitions)
def test_no_line_of_a_difference_can_pass_for_a_trailer_or_for_one_of_ours(old: AgentSpec, new: AgentSpec) -> None:
    for found in differences(old, new):
        assert "\n" not in found.what
        assert all(line.startswith(("  + ", "  - ", "    ", "  too long")) for line in found.lines)


def test_a_part_too_long_to_compare_is_said_to_be() -> None:
    old, new = replace(BASE, instructions="a\n" * 3), replace(BASE, instructions="b\n" * 100_000)
    (found,) = differences(old, new)
    assert found.lines == ("  too long to compare: 3 lines before, 100,000 now",)


def test_what_changed_is_a_diff_in_the_commit() -> None:
    before = begun(BASE)
    new = replace(with_tool(approval="never"), instructions="Be brief.\nBe kind.")
    event = AgentChanged(at=EPOCH, definition=new)
    told = describe(loop_name("x"), before, event, step(before, event))
    assert told.subject == "ops: agent changed: instructions changed; tool order changed"
    assert told.body.splitlines() == [
        "instructions changed",
        "    Be brief.",
        "  + Be kind.",
        "tool order changed",
        "    kind: function",
        "  - needs approval: always",
        "  + needs approval: never",
        "    idempotent: no",
    ]
    assert ("Fingerprint", new.fingerprint) in told.trailers


# Steps -------------------------------------------------------------------------------------------------------------


def begun(definition: AgentSpec = AGENT) -> Continuation:
    event = Started(at=EPOCH, definition=definition, prompt=User(content="Go."), nonce="n", worker=WORKERS[0])
    return start(event)


def calling(*tools: str, ask: bool = False) -> Continuation:
    state = begun()
    asked = tuple(request(tool, {}, f"c{place}") for place, tool in enumerate(tools))
    proposals = tuple(Proposal(nonce=f"n{place}", needs_approval=ask) for place, _ in enumerate(tools))
    reply = Reply(message=Said(tool_calls=asked))
    return step(state, ModelReplied(at=EPOCH, reply=reply, shown=1, proposals=proposals))


def change_to(definition: AgentSpec, *ends: str) -> Change:
    lines = as_lines(differences(AGENT, definition))
    return Change(fingerprint=definition.fingerprint, lines=lines, ends=tuple(CallId(call) for call in ends))


def asked_about(state: Continuation, change: Change) -> Continuation:
    return step(state, Suspended(at=EPOCH, kind="change", reason="it changed", change=change))


def decision(state: Continuation, choice: Any = "approve", **fields: Any) -> Decided:
    assert state.gate is not None
    shown = Digest("") if state.gate.change is None else state.gate.change.fingerprint
    kept: dict[str, Any] = {"at": EPOCH, "call": state.gate.id, "choice": choice, "by": ADA, "seen": SEEN}
    return Decided(**({**kept, "fingerprint": shown} | fields))


LESS = replace(AGENT, tools=AGENT.tools[2:])


def test_an_accepted_change_is_to_be_adopted_before_anything_starts() -> None:
    state = asked_about(calling("look"), change_to(with_tool()))
    assert (state.status, outstanding(state)) == (Status.SUSPENDED, ())
    state = step(state, decision(state))
    assert (state.status, outstanding(state)) == (Status.ACTIVE, (AdoptAgent(),))
    with pytest.raises(NotApplicable, match="that was accepted"):
        step(state, ToolStarted(at=EPOCH, call=CallId("look-1"), worker=WORKERS[0]))
    state = step(state, AgentChanged(at=EPOCH, definition=with_tool()))
    assert state.accepted is None
    state = step(state, ToolStarted(at=EPOCH, call=CallId("look-1"), worker=WORKERS[0]))
    assert state.calls[0].state is CallState.RUNNING


def test_a_decision_on_a_change_is_bound_to_the_definition_that_was_shown() -> None:
    state = asked_about(begun(), change_to(LESS))
    with pytest.raises(StaleDecision, match="changed again"):
        step(state, decision(state, fingerprint=with_tool().fingerprint))
    with pytest.raises(StaleDecision, match="changed again"):
        step(state, decision(state, fingerprint=Digest("")))


def test_a_rejected_change_keeps_the_gate_and_only_other_code_takes_it_away() -> None:
    state = asked_about(calling("look"), change_to(LESS))
    state = step(state, decision(state, "reject", note="no"))
    assert (state.status, state.ending) == (Status.SUSPENDED, None)
    for choice in ("approve", "reject"):
        with pytest.raises(AlreadyDecided, match="already rejected by Ada Lovelace"):
            step(state, decision(state, choice, by=GRACE))
    again = asked_about(state, change_to(with_tool()))
    assert again.gate is not None
    assert (again.gate.id, again.gate.decision) == ("gate-2", None)
    assert step(state, AgentChanged(at=EPOCH, definition=AGENT)).gate is None


def test_what_is_asked_about_a_change_takes_the_place_of_no_other_gate() -> None:
    state = step(begun(), Suspended(at=EPOCH, kind="pause", reason="lunch", by=ADA))
    with pytest.raises(NotApplicable, match="already stands still: lunch"):
        asked_about(state, change_to(LESS))
    changed = step(state, AgentChanged(at=EPOCH, definition=LESS))
    assert changed.gate == state.gate, "and an adopted change lifts no other"


def test_only_a_call_whose_tool_is_gone_ends_with_a_change_and_none_that_runs() -> None:
    state = calling("look", "order")
    with pytest.raises(NotApplicable, match="look-1 is not gone"):
        step(state, AgentChanged(at=EPOCH, definition=with_tool(), ends=(CallId("look-1"),)))
    running = step(state, ToolStarted(at=EPOCH, call=CallId("look-1"), worker=WORKERS[0]))
    with pytest.raises(NotApplicable, match="running"):
        step(running, AgentChanged(at=EPOCH, definition=LESS, ends=(CallId("look-1"),)))
    ended = step(state, AgentChanged(at=EPOCH, definition=LESS, ends=(CallId("look-1"),)))
    assert [call.state for call in ended.calls] == [CallState.FAILED, CallState.APPROVED]


@given(sequences())
def test_a_definition_changes_by_its_own_events_alone_and_a_rejected_one_is_never_accepted(steps: list[Step]) -> None:
    for one in steps:
        before, after = one.before, one.after
        if after is None:
            continue
        if not isinstance(one.event, AgentChanged | Amended):
            assert after.definition == before.definition
            assert after.fingerprint == before.fingerprint
        if before.gate is not None and before.gate.decision is not None and after.gate != before.gate:
            asked = isinstance(one.event, Suspended) and one.event.change is not None
            assert asked or after.ending is not None or isinstance(one.event, AgentChanged)
            assert after.accepted is None


# Judged ------------------------------------------------------------------------------------------------------------


def judged(state: Continuation, definition: AgentSpec, changes: Changes) -> Any:
    saved = Saved(loop=loop_name("x"), commit=SEEN, message="", state=state)
    return judge(saved, definition, changes, adopt=None, now=lambda: EPOCH)


def test_what_was_accepted_ends_no_call_that_the_person_was_not_told_of() -> None:
    state = asked_about(calling("look", "order", ask=True), change_to(LESS, "look-1"))
    state = step(state, decision(state))
    ask = Changes(vanished="ask", contract="ask")
    event = judged(state, LESS, ask)
    assert isinstance(event, Suspended)
    assert event.change is not None
    assert event.change.ends == ("look-1", "order-1")
    told = replace(state, accepted=change_to(LESS, "look-1", "order-1"))
    assert isinstance(judged(told, LESS, ask), AgentChanged)


@pytest.mark.parametrize("contract", ["adopt", "ask"])
@pytest.mark.parametrize("guidance", ["adopt", "ask"])
def test_the_strictest_treatment_that_applies_counts(guidance: Any, contract: Any) -> None:
    both = replace(with_tool(), instructions="Be long.")
    event = judged(begun(), both, Changes(guidance=guidance, contract=contract))
    assert isinstance(event, Suspended) == ("ask" in (guidance, contract))


def test_a_loop_that_has_ended_is_not_judged() -> None:
    world = World(MemoryStore(), ["look"])
    assert judged(world.settle().state, LESS, Changes(guidance="refuse", contract="refuse")) is None
