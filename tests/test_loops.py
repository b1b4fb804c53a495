"""What can be done to loops without a model or an agent's code: look, decide, answer, tell, pause, cancel, fork."""

import itertools
import re
import subprocess
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from caesura.continuations import (
    AlreadyDecided,
    Assistant,
    BadName,
    BadPerson,
    CallState,
    Cancelled,
    Choice,
    GitStore,
    History,
    InvalidAnswer,
    LoopExists,
    Loops,
    MemoryStore,
    ModelReplied,
    NoSuchLoop,
    NoSuchRequest,
    NoSuchRevision,
    NotApplicable,
    Reply,
    Result,
    Resumed,
    StaleDecision,
    Started,
    Status,
    Store,
    ToolRequest,
    ToolStarted,
    User,
    Variation,
    WrongType,
    loop_name,
    person,
)
from caesura.continuations._messages import Function
from tests.strategies import ADA, AGENT, EPOCH, GRACE, NESTED, ROBOT, WORKERS, Plan, World, proposal_for


@pytest.fixture(params=["memory", "git"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    made: Store = MemoryStore() if request.param == "memory" else GitStore.open(tmp_path / "caesura", create=True)
    yield made
    made.close()


def asking(*tools: str, store: Store | None = None, ask: bool = False) -> World:
    """A loop whose agent has just asked for these tools."""
    world = World(store or MemoryStore(), [])
    begun = Started(at=EPOCH, definition=AGENT, prompt=User(content="Go."), nonce="n", worker=world.worker)
    saved = world.history.begin(loop_name("x"), begun, ROBOT, GRACE)
    calls = tuple(
        ToolRequest(id=f"c{place}", function=Function(name=name, arguments='{"item": "tea"}'))
        for place, name in enumerate(tools)
    )
    tool = replace(AGENT.tools[0], parameters={"type": "object", "properties": {"item": {"type": "string"}}})
    definition = replace(AGENT, tools=(tool, *AGENT.tools[1:]))
    saved = replace(saved, state=replace(saved.state, definition=definition))
    event = ModelReplied(
        at=EPOCH,
        reply=Reply(message=Assistant(content="I need these.", tool_calls=calls)),
        shown=1,
        proposals=tuple(
            proposal_for(saved.state, call, f"n{place}", ask=ask, at=world.now()) for place, call in enumerate(calls)
        ),
    )
    world.history.append(saved, event, ROBOT)
    world.root = loop_name("x")
    return world


# Deciding: every order -----------------------------------------------------------------------------------------------

PLANS: dict[str, Plan] = {
    "flat": ["order", "order", "order"],
    "nested": [["order", "order"], "look"],
    "mixed": ["order", ["order"], "look"],
    "three levels": ["order", ["order", ["order"]]],
    "siblings": [["order"], ["order"]],
}


@pytest.mark.parametrize("between", [False, True], ids=["all at once", "going on between"])
@pytest.mark.parametrize("plan", PLANS)
def test_in_any_order_a_rejected_call_never_starts_and_an_approved_one_starts_once(plan: str, between: bool) -> None:
    first = World(MemoryStore(), PLANS[plan])
    first.settle()
    ids = [request.id for request in first.loops.pending("ops")]
    choices: tuple[Choice, ...] = ("approve", "reject")
    for order in itertools.permutations(ids):
        for chosen in itertools.product(choices, repeat=len(ids)):
            world = World(MemoryStore(), PLANS[plan])
            world.settle()
            _decide_all(world, dict(zip(order, chosen, strict=True)), between=between)


def _decide_all(world: World, decisions: dict[Any, Choice], *, between: bool) -> None:
    for request_id, choice in decisions.items():
        world.decide(request_id, choice)
        if between:
            world.settle()
    saved = world.settle()
    assert saved.state.status is Status.COMPLETED
    ran = {key: times for key, times in world.runs.items() if "order" in key}
    assert ran == {request_id: 1 for request_id, choice in decisions.items() if choice == "approve"}
    results = [message.content for message in saved.state.messages if isinstance(message, Result)]
    mine = {request_id: choice for request_id, choice in decisions.items() if request_id.count(".") == 1}
    assert sum(f"Rejected by {ADA.name}" in result for result in results) == sum(
        choice == "reject" for choice in mine.values()
    )


def test_what_to_do_next_stands_below_an_error_in_a_traceback() -> None:
    with Loops(MemoryStore()) as loops, pytest.raises(NoSuchLoop) as told:
        loops.info("nothing")
    assert told.value.hint
    assert "".join(traceback.format_exception(told.value)).endswith(f": {told.value}\nhint: {told.value.hint}\n")


def test_what_is_not_decided_stays_pending_whatever_happens_around_it(store: Store) -> None:
    world = World(store, NESTED)
    world.settle()
    first, *rest = world.loops.pending("ops")
    world.decide(first, "approve")
    world.settle()
    assert [one.id for one in world.loops.pending("ops")] == [one.id for one in rest]
    assert world.saved().state.status is Status.SUSPENDED
    assert not world.loops.info("ops").ready


# Deciding: facts -----------------------------------------------------------------------------------------------------


def test_a_request_shows_what_a_decision_is_bound_to(store: Store) -> None:
    world = World(store, NESTED)
    world.settle()
    deep = next(one for one in world.loops.pending() if one.id.count(".") == 3)
    assert deep.id == "ops.team-1.team-1.order-1"
    assert deep.path == ("ops", "ops", "ops")
    assert deep.reason == "Here is the plan."
    assert (deep.tool, deep.arguments) == ("order", '{"item": 0}')
    assert deep.commit == world.history.load(deep.loop).commit
    assert world.loops.request(deep.id) == deep
    decided = world.decide(deep, "approve")
    call = decided.state.calls[0]
    assert call.decision is not None
    assert call.decision.seen == deep.commit
    assert (call.decision.arguments, call.decision.tool) == (deep.arguments_digest, deep.tool_digest)
    assert store.read(decided.commit).author == ADA


@pytest.mark.parametrize("choice", ["approve", "reject"])
def test_the_same_decision_again_changes_nothing_and_another_is_refused(store: Store, choice: Choice) -> None:
    world = World(store, ["order", "order"])
    world.settle()
    request = world.loops.pending("ops")[0]
    first = world.decide(request, choice)
    assert world.decide(request, choice).commit == first.commit
    assert world.decide(request.id, choice).commit == first.commit
    other: Choice = "reject" if choice == "approve" else "approve"
    for again in (request, request.id):
        with pytest.raises(AlreadyDecided, match=r"Ada Lovelace at 2026-01-01T12") as refused:
            world.decide(again, other)
        assert refused.value.decision.choice == choice
    with pytest.raises(AlreadyDecided):
        world.loops.approve(request, by=GRACE)
    assert world.saved().commit == first.commit


def test_a_decision_on_what_has_changed_since_it_was_shown_is_refused() -> None:
    world = asking("order")
    (request,) = world.loops.pending("x")
    for field in ("arguments_digest", "tool_digest"):
        with pytest.raises(StaleDecision) as refused:
            world.decide(replace(request, **{field: "0" * 16}), "approve")
        assert "pending" in refused.value.hint
    assert world.loops.pending("x") == [request]


def test_an_address_where_nothing_waits_is_refused(store: Store) -> None:
    world = World(store, ["order"])
    world.settle()
    for missing in ("ops.order-2", "ops.look-1", "ops.gate-1"):
        with pytest.raises(NoSuchRequest):
            world.decide(missing, "approve")
    for nowhere in ("none.order-1", "ops.order-1.order-1"):
        with pytest.raises(NoSuchLoop):
            world.decide(nowhere, "approve")
    for bad in ("ops", "", "ops.", "ops.order", "ops.order-0", "../x.order-1", "ops.order-1\x00", "-.order-1"):
        with pytest.raises(BadName):
            world.decide(bad, "approve")
    for bad in ("../x", ".order-1", "a b.order-1", "ops.order"):
        with pytest.raises(BadName, match=re.escape(repr(bad))):
            world.loops.info(bad)


@pytest.mark.parametrize("scope", [True, "tools", None])
def test_a_decision_that_is_to_reach_as_far_as_none_can_is_refused(scope: Any) -> None:
    world = asking("order")
    (request,) = world.loops.pending("x")
    for decide in (world.loops.approve, world.loops.reject):
        with pytest.raises(InvalidAnswer, match=re.escape(f"{scope!r} is not how far a decision can reach.")):
            decide(request, always=scope, by=ADA)
    assert world.loops.pending("x") == [request]


def test_edited_arguments_are_validated_run_and_told_to_the_model() -> None:
    world = asking("order")
    (request,) = world.loops.pending("x")
    with pytest.raises(InvalidAnswer, match=r"\$\.item"):
        world.loops.approve(request, arguments={"item": 7}, by=ADA)
    assert world.loops.pending("x") == [request]
    with pytest.raises(InvalidAnswer, match="standing"):
        world.loops.approve(request, arguments={"item": "milk"}, always="tool", by=ADA)
    saved = world.loops.approve(request, arguments={"item": "milk"}, note="No tea.", by=ADA)
    assert saved.state.calls[0].arguments == '{"item": "milk"}'
    assert world.loops.approve(request, arguments={"item": "milk"}, by=ADA).commit == saved.commit
    due = [one for one in world.due() if isinstance(one.event, ToolStarted)]
    world.perform(due[0])
    world.perform(next(iter(world.due())))
    result = world.saved().state.messages[-1]
    assert isinstance(result, Result)
    assert '[Ada Lovelace changed the arguments to {"item": "milk"}]' in result.content


def test_a_rejection_tells_the_model_who_and_why() -> None:
    world = asking("order", "order")
    first, second = world.loops.pending("x")
    world.loops.reject(first, "too dear.", by="Grace Hopper <grace@example.com>")
    saved = world.loops.reject(second, by=ADA)
    said = [message.content for message in saved.state.messages if isinstance(message, Result)]
    assert said == [
        "Rejected by Grace Hopper: too dear. The call did not run.",
        "Rejected by Ada Lovelace. The call did not run.",
    ]


def test_a_person_must_be_named_like_git_names_them() -> None:
    assert person(" Ada Lovelace  <ada@example.com> ") == ADA
    for bad in ("Ada", "<ada@example.com>", "Ada <>", "Ada <a b>", "", "Ada <a@b> <c@d>", "A\nB <a@b>"):
        with pytest.raises(BadPerson):
            person(bad)
    world = asking("order")
    with pytest.raises(BadPerson):
        world.loops.approve("x.order-1", by="Ada")
    assert len(world.loops.pending("x")) == 1


# Questions and unknown outcomes --------------------------------------------------------------------------------------


def test_an_invalid_answer_leaves_the_question_waiting() -> None:
    world = asking("ask")
    (request,) = world.loops.pending("x")
    assert (request.kind, request.text) == ("question", "Well?")
    for invalid in (7, None, ["yes"]):
        with pytest.raises(InvalidAnswer, match=r"x\.ask-1"):
            world.loops.answer(request, invalid, by=ADA)
    assert world.loops.pending("x") == [request]
    with pytest.raises(NotApplicable, match="answer"):
        world.decide(request, "approve")
    saved = world.loops.answer(request.id, "yes", by=ADA)
    assert saved.state.messages[-1] == Result(tool_call_id="c0", content="yes")
    with pytest.raises(NotApplicable):
        world.loops.answer(request, "no", by=ADA)


def test_of_a_call_whose_child_waits_it_is_said_that_something_nested_does(store: Store) -> None:
    world = World(store, [["order"]])
    world.settle()
    with pytest.raises(NoSuchRequest, match=r"ops.team-1 waits for nobody: what is nested in it does\."):
        world.decide("ops.team-1", "approve")


def test_a_question_can_be_turned_down() -> None:
    world = asking("ask")
    saved = world.loops.reject("x.ask-1", "not my call", by=ADA)
    assert saved.state.calls[0].state is CallState.REJECTED
    assert "not my call" in str(saved.state.messages[-1])


def test_what_asks_no_question_cannot_be_answered() -> None:
    world = asking("order")
    with pytest.raises(NoSuchRequest):
        world.loops.answer("x.order-1", "yes", by=ADA)


@pytest.mark.parametrize("way", ["approve", "reject", "answer"])
def test_a_call_of_unknown_outcome_has_three_ways_on(way: str) -> None:
    world = asking("order")
    world.decide("x.order-1", "approve")
    world.perform(next(iter(world.due())))
    world.commit(world.saved(), Resumed(at=world.now(), worker=WORKERS[2]))
    (request,) = world.loops.pending("x")
    assert request.kind == "outcome"
    if way == "answer":
        assert world.loops.answer(request, "it came", by=ADA).state.calls[0].state is CallState.RETURNED
    else:
        call = world.loops.approve(request, by=ADA) if way == "approve" else world.loops.reject(request, by=ADA)
        assert call.state.calls[0].state is (CallState.APPROVED if way == "approve" else CallState.REJECTED)
    assert not world.loops.pending("x")


# Telling, pausing, cancelling ----------------------------------------------------------------------------------------


def test_what_is_told_amid_a_round_is_heard_after_it(store: Store) -> None:
    world = World(store, ["order"])
    world.settle()
    before = world.saved().state.messages
    told = world.loops.tell("ops", "And hurry.", by=ADA)
    assert told.state.messages == before
    assert store.read(told.commit).author == ADA
    world.end(lambda _: "reject")
    said = world.saved().state.messages
    assert User(content="And hurry.") in said
    assert said.index(User(content="And hurry.")) == len(before) + 1


def test_a_completed_loop_goes_on_when_told_something_and_a_cancelled_one_does_not(store: Store) -> None:
    world = World(store, ["look"])
    world.settle()
    assert world.loops.tell("ops", "More.", by=ADA).state.status is Status.ACTIVE
    assert world.settle().state.status is Status.COMPLETED
    world.loops.tell("ops", "Again.", by=ADA)
    world.loops.cancel("ops", by=ADA)
    with pytest.raises(NotApplicable):
        world.loops.tell("ops", "Too late.", by=ADA)


def test_a_pause_holds_everything_nested_without_deciding_anything(store: Store) -> None:
    world = World(store, NESTED)
    world.settle()
    pending = world.loops.pending("ops")
    world.loops.pause("ops", "lunch", by=GRACE)
    gate, *others = world.loops.pending("ops")
    assert (gate.kind, gate.gate, gate.text) == ("gate", "pause", "lunch")
    assert [one.id for one in others] == [one.id for one in pending]
    with pytest.raises(NotApplicable, match="stands still"):
        world.loops.pause("ops", by=GRACE)
    with pytest.raises(InvalidAnswer):
        world.loops.approve(gate, arguments={}, by=ADA)
    world.decide(gate, "approve")
    assert [one.id for one in world.loops.pending("ops")] == [one.id for one in pending]


def test_cancelling_ends_everything_nested_with_one_result_for_each_call(store: Store) -> None:
    world = World(store, NESTED)
    world.settle()
    loops = [saved.loop for saved in world.history.tree(world.saved())]
    assert len(loops) == 3
    cancelled = world.loops.cancel("ops", "enough", by=ADA)
    assert not world.loops.pending()
    for loop in loops:
        state = world.history.load(loop).state
        assert state.status is Status.CANCELLED
        assert not state.open_calls
        asked = [call.key for call in state.calls]
        assert sorted(m.tool_call_id for m in state.messages if isinstance(m, Result)) == sorted(asked)
    assert world.loops.cancel("ops", by=ADA).commit == cancelled.commit


def test_giving_a_loop_up_at_a_gate_ends_what_is_nested_in_it(store: Store) -> None:
    world = World(store, NESTED)
    world.settle()
    world.loops.pause("ops", by=ADA)
    saved = world.loops.reject("ops.gate-1", "no use", by=ADA)
    assert saved.state.status is Status.FAILED
    assert not world.loops.pending()


def test_a_nested_loop_can_be_cancelled_alone_and_its_parent_goes_on(store: Store) -> None:
    world = World(store, ["order", ["order"]])
    world.settle()
    world.loops.cancel("ops.team-1", by=ADA)
    assert world.end(lambda _: "approve").state.status is Status.COMPLETED
    assert world.runs == {"ops.order-1": 1}


@pytest.mark.parametrize("text", ["\ud800 half", "\x00", ""])
def test_anything_can_be_said_in_a_note_or_an_answer(store: Store, text: str) -> None:
    world = asking("order", "ask", store=store)
    world.loops.approve("x.order-1", note=text, by=ADA)
    world.loops.answer("x.ask-1", text, by=ADA)
    world.loops.tell("x", text, by=ADA)
    world.loops.pause("x", text, by=ADA)
    world.loops.cancel("x", text, by=ADA)
    assert world.loops.info("x").status is Status.CANCELLED


@pytest.mark.parametrize("given", [b"Go on.", bytearray(b"Go on."), 7, [b"Go on."]])
def test_what_is_no_text_is_refused_wherever_a_text_belongs_and_nothing_is_done(store: Store, given: Any) -> None:
    world = asking("order", "ask", store=store)
    loops, before = world.loops, store.heads()
    refused = pytest.raises(WrongType, match=r"^What was given cannot be kept: expected `.*`, got `.*`")
    for call in (
        lambda: loops.tell("x", given, by=ADA),
        lambda: loops.approve("x.order-1", note=given, by=ADA),
        lambda: loops.reject("x.order-1", given, by=ADA),
        lambda: loops.pause("x", given, by=ADA),
        lambda: loops.cancel("x", given, by=ADA),
        lambda: loops.fork("x", "y", Variation(tell=given), by=ADA),
        lambda: loops.fork("x", "y", Variation(instructions=given), by=ADA),
        lambda: loops.fork("x", "y", Variation(reword={1: given}), by=ADA),
    ):
        with refused as error:
            call()
        assert ".decode()" in error.value.hint
    assert store.heads() == before
    assert len(loops.pending("x")) == 2


def test_what_json_cannot_hold_is_no_answer_and_no_argument(store: Store) -> None:
    world = asking("order", "ask", store=store)
    loops, before = world.loops, store.heads()
    said = r"cannot be written as JSON: .*bytes"
    with pytest.raises(InvalidAnswer, match=said):
        loops.answer("x.ask-1", b"yes", by=ADA)
    with pytest.raises(InvalidAnswer, match=said):
        loops.approve("x.order-1", arguments={"item": b"milk"}, by=ADA)
    with pytest.raises(BadPerson, match="Ada"):
        loops.tell("x", "Go on.", by=b"Ada Lovelace <ada@example.com>")  # type: ignore[arg-type]
    assert store.heads() == before


# Looking -------------------------------------------------------------------------------------------------------------


def test_pending_lists_every_loops_requests_and_info_counts_them(store: Store) -> None:
    for name in ("b", "a"):
        world = World(store, NESTED, name)
        world.settle()
    loops = Loops(store)
    assert [info.name for info in loops.all()] == ["a", "b"]
    assert [info.waiting for info in loops.all()] == [4, 4]
    assert [info.name for info in loops.all(nested=True)][:3] == ["a", "a.team-1", "a.team-1.team-1"]
    assert len(loops.pending()) == 8
    assert len({request.id for request in loops.pending()}) == 8
    assert len(loops.pending("a.team-1")) == 2
    with pytest.raises(NoSuchLoop):
        loops.pending("c")


def test_a_loop_is_ready_when_resuming_it_would_do_something(store: Store) -> None:
    world = World(store, ["order", ["order"]])
    assert world.loops.info("ops").ready
    world.settle()
    assert not world.loops.info("ops").ready
    world.decide("ops.team-1.order-1", "approve")
    assert world.loops.info("ops").ready
    world.settle()
    assert not world.loops.info("ops").ready


def test_a_cancelled_loops_children_do_not_wait_for_anybody(store: Store) -> None:
    world = World(store, [["order"]])
    world.settle()
    # The first of the commits that a cancellation makes: the process may end right after it.
    world.commit(world.saved(), Cancelled(at=world.now(), reason="enough"))
    assert not world.loops.pending()
    assert not world.loops.pending("ops")


# Forking -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("revision", ["ops", "ops~1", "ops.team-1", "ops.team-1.team-1"])
def test_a_fork_goes_on_by_itself_and_leaves_the_first_as_it_was(store: Store, revision: str) -> None:
    world = World(store, NESTED)
    world.settle()
    heads = dict(store.heads())
    fork = world.loops.fork(revision, "copy")
    assert fork.commit == store.resolve(revision)
    copied = World.resumed(store, "copy")
    assert copied.end(lambda _: "approve").state.status is Status.COMPLETED
    assert {name: head for name, head in store.heads().items() if name.startswith("ops")} == heads
    assert len(world.loops.pending("ops")) == 4


def test_forks_get_names_of_their_own_and_never_a_taken_one(store: Store) -> None:
    world = World(store, ["order"])
    world.settle()
    assert [world.loops.fork("ops~1").loop for _ in range(3)] == ["ops-fork-1", "ops-fork-2", "ops-fork-3"]
    with pytest.raises(LoopExists):
        world.loops.fork("ops", "ops-fork-1")
    with pytest.raises(BadName):
        world.loops.fork("ops", "a/b")
    with pytest.raises(NoSuchRevision):
        world.loops.fork("nonsense")


@pytest.mark.parametrize("choice", ["approve", "reject"])
def test_a_plain_git_branch_can_be_decided_on_at_any_depth_without_branches_of_its_children(
    tmp_path: Path, choice: Choice
) -> None:
    store = GitStore.open(tmp_path / "caesura", create=True)
    world = World(store, NESTED)
    world.settle()
    subprocess.run(["git", "branch", "loops/plain", "loops/ops"], cwd=tmp_path / "caesura", check=True)
    copied = World.resumed(store, "plain")
    assert [one.id.partition(".")[2] for one in copied.loops.pending("plain")] == [
        one.id.partition(".")[2] for one in world.loops.pending("ops")
    ]
    assert [name for name in store.heads() if name.startswith("plain")] == ["plain"]
    copied.decide("plain.team-1.team-1.order-1", choice)
    copied.loops.tell("plain.team-1", "Hurry.", by=ADA)
    copied.end(lambda _: "reject")
    assert copied.runs.get("plain.team-1.team-1.order-1", 0) == (choice == "approve")
    assert len(world.loops.pending("ops")) == 4
    store.close()


def test_an_older_commit_shows_the_children_it_nests(store: Store) -> None:
    world = World(store, NESTED)
    commit = world.settle().commit
    world.end(lambda _: "approve")
    shown = world.loops.show(commit)
    assert [child.state.status for child in shown.state.children.values()] == [Status.SUSPENDED]
    # Its name is a revision, below which there can be no branches.
    tree = list(History(store).tree(world.loops.show(f"{commit}~0")))
    assert [saved.state.status for saved in tree] == [Status.SUSPENDED] * 3
