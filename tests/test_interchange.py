"""Interchange with agent-continuations: what goes out comes back the same, and nothing but a decision decides."""

import copy
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from caesura.continuations import (
    AgentSpec,
    Assistant,
    CallState,
    Choice,
    GitStore,
    History,
    LoopExists,
    MemoryStore,
    Request,
    Saved,
    Status,
    ToolUse,
    User,
    Variation,
)
from caesura.continuations.interchange import BadDocument, NotExportable, export_loop, import_loop
from caesura.continuations.interchange._document import MAX_DEPTH
from tests.strategies import ADA, EPOCH, GRACE, NESTED, PLANS, TREE_AGENT, Plan, World, json_values

Document = dict[str, Any]


def exported(plan: Plan) -> Document:
    """The object of a loop that has come to rest, through JSON as it would travel."""
    world = World(MemoryStore(), plan)
    world.settle()
    document: Document = json.loads(json.dumps(export_loop(world.history, world.root)))
    return document


def imported(document: Any, *, name: str = "copy", decide: bool = True, agent: AgentSpec = TREE_AGENT) -> World:
    """A world that has taken the object up."""
    store = MemoryStore()
    import_loop(History(store), name, document, agent=agent, agents=[TREE_AGENT], by=GRACE, now=EPOCH, decide=decide)
    return World.resumed(store, name)


def asked(world: World) -> list[tuple[str, str, str, str]]:
    """What waits in a world, wherever the loop's name does not matter."""
    return [
        (request.id.partition(".")[2], request.kind, request.tool, request.arguments)
        for request in world.loops.pending(world.root)
    ]


def below(saved: Saved, world: World) -> Iterator[tuple[str, Any]]:
    """Every loop's messages, by its place in the tree."""
    for one in world.history.tree(saved):
        yield one.loop.partition(".")[2], one.state.messages


def items(document: Document) -> list[Document]:
    """The form, item by item, by the path of its ids."""
    found: list[Document] = document["approval_info"]
    return found


# There and back ----------------------------------------------------------------------------------------------------


@given(PLANS)
@settings(max_examples=40)
def test_a_loop_comes_back_with_the_same_messages_and_requests_and_nothing_decided(plan: Plan) -> None:
    world = World(MemoryStore(), plan)
    saved = world.settle()
    if saved.state.status is Status.COMPLETED:
        return
    copied = imported(json.loads(json.dumps(export_loop(world.history, world.root))))
    assert asked(copied) == asked(world)
    assert dict(below(copied.saved(), copied)) == dict(below(saved, world))
    assert copied.saved().state.status is Status.SUSPENDED


@given(PLANS, st.randoms(use_true_random=False))
@settings(max_examples=40)
def test_the_same_decisions_lead_to_the_same_end_made_here_or_in_the_object(plan: Plan, random: Any) -> None:
    world = World(MemoryStore(), plan)
    if world.settle().state.status is Status.COMPLETED:
        return
    document: Document = json.loads(json.dumps(export_loop(world.history, world.root)))
    requests = world.loops.pending(world.root)
    choices: dict[str, Choice] = {request.id: random.choice(["approve", "reject"]) for request in requests}
    # The form lists the requests in the order in which they are pending.
    by_path = [item for item in items(document) if item["approved"] is None]
    assert len(by_path) == len(requests)
    for item, request in zip(sorted(by_path, key=_path), sorted(requests, key=_place), strict=True):
        item["approved"] = choices[request.id] == "approve"
    copied = imported(document)
    assert not asked(copied)
    for request in requests:
        world.decide(request, choices[request.id])
    ran_before = set(world.runs)
    ends = [one.end(lambda request: "approve") for one in (world, copied)]
    assert [one.state.status for one in ends] == [Status.COMPLETED] * 2
    ran_since = {key.partition(".")[2]: runs for key, runs in world.runs.items() if key not in ran_before}
    assert {key.partition(".")[2]: runs for key, runs in copied.runs.items()} == ran_since
    assert set(ran_since.values()) <= {1}
    ours, theirs = (end.state.messages for end in ends)
    assert [_unsigned(message) for message in theirs] == [_unsigned(message) for message in ours]


def _path(item: Document) -> list[str]:
    return [f"{tool} {key}" for tool, key in zip(item["paths"], item["path_ids"], strict=True)]


def _place(request: Request) -> list[str]:
    # A simulated model numbers a round's calls c0, c1, … whatever their tools; the paths above hold both.
    arguments = json.loads(request.arguments)
    calls = request.id.split(".")[1:]
    return [f"team {call}" for call in calls[:-1]] + [f"{request.tool} c{arguments['item']}"]


def _unsigned(message: Any) -> Any:
    return json.loads(json.dumps(repr(message)).replace(ADA.name, "?").replace(GRACE.name, "?"))


@pytest.mark.parametrize("approved", [True, False])
def test_a_decision_at_any_depth_is_a_commit_by_the_person_on_the_loop_it_is_about(approved: bool) -> None:
    document = exported(NESTED)
    for item in items(document):
        item["approved"] = approved if len(item["path_ids"]) == 3 and item["paths"][-1] == "order" else None
    world = imported(document)
    deep = next(saved for saved in world.history.tree(world.saved()) if saved.loop.count(".") == 2)
    call = next(call for call in deep.state.calls if call.tool == "order")
    assert call.state is (CallState.APPROVED if approved else CallState.REJECTED)
    assert call.decision is not None
    assert call.decision.by == GRACE
    decided = world.history.store.read(deep.commit)
    assert decided.author == GRACE
    assert call.decision.seen in decided.parents
    assert len(asked(world)) == 3


def test_only_the_items_that_decide_decide() -> None:
    document = exported(["order", "order", "order", "order"])
    first, second, third, fourth = items(document)
    first["approved"], second["approved"] = True, False
    del third["approved"]
    items(document).remove(fourth)
    for entry in document["continuation"]["processed"]:
        entry["approved"] = True  # no decision, whatever it says
    states = [call.state for call in imported(document).saved().state.calls]
    assert states == [CallState.APPROVED, CallState.REJECTED, CallState.AWAITING, CallState.AWAITING]
    del document["approval_info"]
    assert len(asked(imported(document))) == 4


def test_an_untouched_form_of_theirs_can_be_taken_as_undecided() -> None:
    document = exported(NESTED)
    for item in items(document):
        item["approved"] = False
    assert len(asked(imported(document, decide=False))) == 4
    rejected = imported(document)
    end = rejected.end(lambda request: pytest.fail(f"{request.id} was rejected"))
    assert end.state.status is Status.COMPLETED
    assert not any("order" in address for address in rejected.runs)


def test_an_export_without_its_form_decides_nothing_anywhere() -> None:
    world = World(MemoryStore(), NESTED)
    world.settle()
    document = export_loop(world.history, world.root, form=False)
    assert document["approval_info"] == []
    assert '"approved": true' not in json.dumps(document)
    assert asked(imported(document)) == asked(world)


def test_an_approval_given_here_travels_and_an_edit_with_it() -> None:
    world = World(MemoryStore(), ["order", "order"])
    world.settle()
    first, second = world.loops.pending(world.root)
    world.loops.approve(first, arguments={"item": "decaf"}, by=ADA)
    document = export_loop(world.history, world.root)
    assert [item["approved"] for item in items(document)] == [True, None]
    copied = imported(document).saved().state
    assert [call.state for call in copied.calls] == [CallState.APPROVED, CallState.AWAITING]
    assert json.loads(copied.calls[0].arguments) == {"item": "decaf"}
    assert copied.calls[0].decision is not None
    assert copied.calls[0].decision.edited
    assert copied.calls[1].arguments == second.arguments


@pytest.mark.parametrize("revision", ["ops", "ops~0", "ops.team-1"])
def test_an_older_commit_and_a_nested_loop_can_be_exported(revision: str) -> None:
    world = World(MemoryStore(), NESTED)
    world.settle()
    document = export_loop(world.history, revision)
    assert len(asked(imported(document))) == (2 if "." in revision else 4)


def test_a_pause_travels_with_what_waits_behind_it_and_what_was_told() -> None:
    world = World(MemoryStore(), NESTED)
    world.settle()
    world.loops.pause("ops", by=ADA)
    world.loops.pause("ops.team-1", by=ADA)
    world.loops.tell("ops", "Hurry.", by=ADA)
    copied = imported(json.loads(json.dumps(export_loop(world.history, world.root))))
    assert asked(copied) == asked(world)
    assert copied.saved().state.told == world.saved().state.told
    gates = [saved.state.gate.kind for saved in copied.history.tree(copied.saved()) if saved.state.gate]
    assert gates == ["pause", "pause"]


def test_a_loop_behind_a_gate_comes_back_behind_it() -> None:
    document = {
        "continuation": {"messages": [{"role": "user", "content": "[]"}]},
        "suspend_list": ["pause_per_n"],
        "end_reason": "suspended",
    }
    world = imported(document)
    (gate,) = world.loops.pending("copy")
    assert (gate.kind, gate.gate) == ("gate", "condition")
    assert "pause_per_n" in gate.text
    again = export_loop(world.history, "copy")
    assert again["suspend_list"] == ["pause_per_n"]
    assert again["end_reason"] == "suspended"
    world.loops.approve(gate, by=ADA)
    assert world.end(lambda _: "approve").state.status is Status.COMPLETED


@pytest.mark.parametrize(("approved", "waits"), [(True, 0), (None, 1), (False, 0)])
def test_a_nested_loop_behind_a_gate_waits_for_the_item_at_its_path(approved: bool | None, waits: int) -> None:
    document = exported([["order"]])
    nested = document["continuation"]["resume_request"][0]["continuation"]
    del nested["resume_request"], nested["processed"], nested["messages"][2:]
    document["approval_info"] = [{"paths": ["team"], "path_ids": ["c0"], "approved": approved}]
    world = imported(document)
    assert len(asked(world)) == waits
    (saved,) = [one for one in world.history.tree(world.saved()) if one.loop != "copy"]
    assert (saved.state.status is Status.FAILED) == (approved is False)


def test_a_completed_loop_comes_back_completed_and_listens() -> None:
    world = World(MemoryStore(), ["look"])
    world.settle()
    document = export_loop(world.history, world.root)
    assert document["end_reason"] == "completed"
    copied = imported(document)
    assert copied.saved().state.ending == world.saved().state.ending
    copied.loops.tell("copy", "Thanks.", by=ADA)
    assert copied.settle().state.status is Status.COMPLETED


def test_the_instructions_of_the_object_stand_in_the_first_commit() -> None:
    document = exported(["order"])
    assert document["continuation"]["messages"][0] == {"role": "developer", "content": TREE_AGENT.instructions}
    document["continuation"]["messages"][0] = {"role": "system", "content": "Be kind."}
    assert imported(document).saved().state.definition == replace(TREE_AGENT, instructions="Be kind.")
    del document["continuation"]["messages"][0]
    assert imported(document).saved().state.definition == TREE_AGENT


def test_what_a_model_said_beside_the_usual_is_kept_and_written_again() -> None:
    document = exported(["order"])
    said = document["continuation"]["messages"][2]
    said |= {"annotations": [], "audio": None, "function_call": None, "refusal": None, "reasoning_content": "Hm."}
    world = imported(document)
    message = world.saved().state.messages[1]
    assert isinstance(message, Assistant)
    assert message.native == {"agent-continuations": {"reasoning_content": "Hm."}}
    assert export_loop(world.history, "copy")["continuation"]["messages"][2]["reasoning_content"] == "Hm."


def test_lone_surrogates_are_replaced() -> None:
    document = exported(["order"])
    document["continuation"]["messages"][1]["content"] = "half a pair: \ud83d"
    first = imported(document).saved().state.messages[0]
    assert first == User(content="half a pair: \N{REPLACEMENT CHARACTER}")


def test_an_import_into_git_is_whole_and_publishes_one_branch(tmp_path: Path) -> None:
    store = GitStore.open(tmp_path / "caesura", create=True)
    saved = import_loop(History(store), "copy", exported(NESTED), agent=TREE_AGENT, by=GRACE, now=EPOCH)
    assert list(store.heads()) == ["copy"]
    fresh = GitStore.open(tmp_path / "caesura")
    copied = World.resumed(fresh, "copy")
    assert copied.saved() == saved
    assert asked(copied) == asked(imported(exported(NESTED)))
    assert copied.end(lambda _: "approve").state.status is Status.COMPLETED
    subprocess.run(["git", "fsck", "--strict", "--no-dangling"], cwd=tmp_path / "caesura", check=True)
    store.close()
    fresh.close()


# What cannot go out --------------------------------------------------------------------------------------------------


def test_a_call_that_runs_or_is_of_unknown_outcome_cannot_be_exported() -> None:
    world = World(MemoryStore(), ["look", "order"])
    while not any(call.state is CallState.RUNNING for call in world.saved().state.calls):
        world.perform(next(world.due()))
    with pytest.raises(NotExportable, match=r"look-1 .* running"):
        export_loop(world.history, world.root)


@pytest.mark.parametrize("end", ["cancelled", "failed"])
def test_a_loop_that_failed_or_was_cancelled_cannot_be_exported(end: str) -> None:
    world = World(MemoryStore(), ["order"])
    world.settle()
    if end == "cancelled":
        world.loops.cancel("ops", by=ADA)
    else:
        world.loops.pause("ops", by=ADA)
        world.loops.reject("ops.gate-1", by=ADA)
    with pytest.raises(NotExportable, match=end):
        export_loop(world.history, "ops")


@pytest.mark.parametrize("tools", ["ask", "recorded"])
def test_a_rehearsal_cannot_be_exported_because_elsewhere_its_tools_would_act(tools: ToolUse) -> None:
    world = World(MemoryStore(), [["order"]])
    waiting = world.settle().commit
    world.end(lambda _: "approve")
    world.loops.fork(waiting, "play", Variation(tools=tools), by=ADA)
    with pytest.raises(NotExportable, match="play rehearses"):
        export_loop(world.history, "play")
    world.loops.fork("play", "live", Variation(tools="live"), by=ADA)
    assert export_loop(world.history, "live")["end_reason"] == "approval_required"


# What cannot come in -----------------------------------------------------------------------------------------------


def _deep(levels: int) -> Document:
    """A continuation within a continuation within …"""
    inner: Document = {"messages": [{"role": "user", "content": "[]"}], "suspend_list": []}
    for _ in range(levels):
        call = {"id": "c0", "type": "function", "function": {"name": "team", "arguments": "{}"}}
        said = {"role": "assistant", "content": None, "tool_calls": [call]}
        messages = [{"role": "user", "content": "[]"}, said]
        inner = {"messages": messages, "resume_request": [{**call, "continuation": inner}]}
    return {"continuation": inner}


def _cycle() -> Document:
    document = exported(["order"])
    document["continuation"]["resume_request"][0]["continuation"] = document["continuation"]
    return document


def _without_result(document: Document) -> None:
    document["continuation"]["resume_request"].pop()


def _others(document: Document) -> None:
    document["continuation"]["resume_request"][0]["function"]["arguments"] = '{"item": 9}'
    del document["approval_info"]


def _put(*path: str | int, value: Any) -> Callable[[Document], None]:
    def change(document: Document) -> None:
        at: Any = document
        for key in path[:-1]:
            at = at[key]
        at[path[-1]] = value

    return change


def _twice(*path: str | int) -> Callable[[Document], None]:
    def change(document: Document) -> None:
        at: Any = document
        for key in path:
            at = at[key]
        at.append(copy.deepcopy(at[-1]))

    return change


REQUEST = ("continuation", "resume_request", 0)
MESSAGES = ("continuation", "messages")
FAULTS: dict[str, tuple[Callable[[Document], None], str]] = {
    "nothing": (lambda document: document.clear(), "the document"),
    "unknown field": (_put("continuation", "extra", value=1), r"continuation: .*extra"),
    "messages are no list": (_put(*MESSAGES, value={}), r"continuation\.messages"),
    "no messages": (_put(*MESSAGES, value=[]), r"continuation\.messages"),
    "an unknown role": (_put(*MESSAGES, 1, value={"role": "critic"}), r"continuation\.messages\[1\]"),
    "instructions amid": (_put(*MESSAGES, 1, value={"role": "system", "content": ""}), r"continuation\.messages\[1\]"),
    "content is no text": (_put(*MESSAGES, 1, value={"role": "user", "content": 7}), r"continuation\.messages\[1\]"),
    "a result of nothing": (
        _put(*MESSAGES, 1, value={"role": "tool", "tool_call_id": "x", "content": ""}),
        r"continuation\.messages\[1\].*'x'",
    ),
    "a missing request": (_without_result, r"continuation\.resume_request: call 'c1'"),
    "another id": (_put(*REQUEST, "id", value="c9"), r"continuation\.resume_request\[0\].*'c9'"),
    "another tool": (_put(*REQUEST, "function", "name", value="look"), r"resume_request\[0\].*'look'"),
    "other arguments": (_others, "resume_request: the arguments of order-1"),
    "arguments that do not fit": (_put(*REQUEST, "function", "arguments", value="[]"), "resume_request.*fit 'order'"),
    "a continuation of a tool": (
        _put(*REQUEST, "continuation", value={"messages": [{"role": "user", "content": ""}]}),
        r"resume_request\[0\].*no agent",
    ),
    "a request twice": (_twice("continuation", "resume_request"), r"continuation\.resume_request\[2\]"),
    "a call twice": (_twice(*MESSAGES, 2, "tool_calls"), r"continuation\.messages\[2\]"),
    "processed of nothing": (
        _put("continuation", "processed", value=[{"id": "c9", "approved": True}]),
        r"continuation\.processed\[0\].*'c9'",
    ),
    "said amid a round": (
        lambda document: document["continuation"]["messages"].append({"role": "user", "content": "Hm?"}),
        r"continuation\.messages\[3\]",
    ),
    "an item twice": (_twice("approval_info"), r"approval_info\[2\]"),
    "a wrong path": (_put("approval_info", 0, "path_ids", value=["c7"]), r"approval_info\[0\]\.path_ids"),
    "a path too deep": (_put("approval_info", 0, "path_ids", value=["c0", "c0"]), r"approval_info\[0\]\.path_ids"),
    "an empty path": (_put("approval_info", 0, "path_ids", value=[]), r"approval_info\[0\]\.path_ids"),
    "a path of other tools": (_put("approval_info", 0, "paths", value=["look"]), r"approval_info\[0\]\.paths"),
    "a decision that is a text": (_put("approval_info", 0, "approved", value="no"), r"approval_info\[0\]\.approved"),
    "a decision that is a number": (_put("approval_info", 0, "approved", value=1), r"approval_info\[0\]\.approved"),
    "a decision on another call": (
        _put("approval_info", 0, "tool_call", "function", "arguments", value='{"item": 1000}'),
        r"approval_info\[0\]\.tool_call",
    ),
    "what is not JSON": (_put("continuation", "told", value={1, 2}), r"continuation\.told.*set"),
    "a number too large": (_put("continuation", "told", value=2**64), r"continuation\.told"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_faulty_object_is_refused_with_the_place_and_nothing_is_written(fault: str) -> None:
    change, place = FAULTS[fault]
    document = exported(["order", "order"])
    change(document)
    _refused(document, place)


def _refused(document: Any, place: str, agent: AgentSpec = TREE_AGENT) -> None:
    store = MemoryStore()
    with pytest.raises(BadDocument, match=place):
        import_loop(History(store), "copy", document, agent=agent, agents=(), by=ADA, now=EPOCH)
    assert not store.heads()


@pytest.mark.parametrize("levels", [60, 100, 10_000])
def test_absurd_nesting_is_refused(levels: int) -> None:
    _refused(_deep(levels), "deep")


def test_deep_nesting_that_a_name_allows_works() -> None:
    assert imported(_deep(20)).settle().state.status is Status.COMPLETED


def test_an_object_that_contains_itself_is_refused() -> None:
    _refused(_cycle(), "contains itself")


def test_a_tool_or_an_agent_that_is_not_there_is_named() -> None:
    lacking = replace(TREE_AGENT, tools=TREE_AGENT.tools[1:])
    _refused(exported(["order"]), r"resume_request\[0\]: agent ops has no tool 'order'", lacking)
    strange = replace(TREE_AGENT, tools=(replace(TREE_AGENT.tools[2], agent="it"),))
    _refused(exported([["order"]]), r"resume_request\[0\]: the definition of agent 'it'", strange)
    asking = replace(TREE_AGENT, tools=(replace(TREE_AGENT.tools[0], kind="question"),))
    _refused(exported(["order"]), r"resume_request\[0\]: 'order' is a question", asking)


@pytest.mark.parametrize("branch", ["copy", "copy.team-1"])
def test_a_name_that_is_taken_even_by_a_nested_loop_is_refused(branch: str) -> None:
    store = MemoryStore()
    world = World(store, ["order"])
    store.move(branch, None, world.settle().commit)  # type: ignore[arg-type]  # a name
    before = store.heads()
    with pytest.raises(LoopExists, match=branch):
        import_loop(History(store), "copy", exported([["order"]]), agent=TREE_AGENT, by=ADA, now=EPOCH)
    assert store.heads() == before


@given(st.data())
@settings(max_examples=150)
def test_no_garbled_object_raises_anything_but_a_refusal(data: st.DataObject) -> None:
    document = exported(NESTED)
    for _ in range(data.draw(st.integers(1, 2))):
        at: Any = document
        while True:
            keys: list[Any] = list(at) if isinstance(at, dict) else list(range(len(at)))
            if not keys:
                break
            key = data.draw(st.sampled_from(keys))
            if isinstance(at[key], dict | list) and data.draw(st.sampled_from([True, True, True, False])):
                at = at[key]
                continue
            if data.draw(st.booleans()):
                at[key] = data.draw(json_values)
            elif isinstance(at, dict):
                del at[key]
            else:
                at.insert(key, copy.deepcopy(at[key]))
            break
    store = MemoryStore()
    with suppress(BadDocument):
        import_loop(History(store), "copy", document, agent=TREE_AGENT, by=ADA, now=EPOCH)
        World.resumed(store, "copy").end(lambda _: "approve")
        return
    assert not store.heads()


def test_the_limit_of_depth_is_below_what_the_interpreter_can_take() -> None:
    assert sys.getrecursionlimit() / 2 > MAX_DEPTH
