"""Promises at the edges of the core: old approvals, idle time, strange branches, and ends that others race with."""

import datetime as dt
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from caesura.continuations import (
    AgentChanged,
    AlreadyDecided,
    Assistant,
    Budget,
    CallId,
    CallState,
    Cancelled,
    Child,
    CommitId,
    Continuation,
    Decided,
    Function,
    GitStore,
    LoopExists,
    LoopName,
    Loops,
    MemoryStore,
    ModelReplied,
    NoSuchRequest,
    NotApplicable,
    Proposal,
    Reply,
    Result,
    Resumed,
    Scope,
    Started,
    Status,
    Suspended,
    Told,
    ToolRequest,
    ToolReturned,
    ToolStarted,
    User,
    child_name,
    loop_name,
    start,
    step,
)
from caesura.continuations._state import FORMAT
from tests.repositories import git
from tests.strategies import ADA, AGENT, EPOCH, GRACE, NESTED, ROBOT, TREE_AGENT, WORKERS, Due, World

SEEN = CommitId("c" * 40)
DAYS = dt.timedelta(days=3)


def seconds(count: float) -> dt.timedelta:
    return dt.timedelta(seconds=count)


def begun(budget: Budget | None = None) -> Continuation:
    """A loop that has just started."""
    kept = AGENT.budget if budget is None else budget
    return start(
        Started(at=EPOCH, definition=AGENT, prompt=User(content="Go."), nonce="n", worker=WORKERS[0], budget=kept)
    )


def replied(
    state: Continuation, *tools: tuple[str, str], ask: bool = False, at: dt.datetime | None = None
) -> Continuation:
    """The model asks for these tools with these arguments; `ask` says what the agent's predicate says."""
    calls = tuple(
        ToolRequest(id=f"{len(state.messages)}-{place}", function=Function(name=name, arguments=arguments))
        for place, (name, arguments) in enumerate(tools)
    )
    return step(
        state,
        ModelReplied(
            at=at or state.at,
            reply=Reply(message=Assistant(content=None, tool_calls=calls)),
            shown=len(state.messages),
            proposals=tuple(Proposal(nonce=call.id, needs_approval=ask) for call in calls),
        ),
    )


def decided(state: Continuation, call_id: str, *, at: dt.datetime | None = None, **fields: Any) -> Continuation:
    """Ada decides about a call as it is now."""
    call = state.call(CallId(call_id))
    assert call is not None
    tool = state.tool(call)
    assert tool is not None
    kept: dict[str, Any] = {"choice": "approve", "by": ADA, "seen": SEEN, "attempt": call.attempt}
    event = Decided(
        at=at or state.at, call=call.id, arguments=call.arguments_digest, tool=tool.digest, **(kept | fields)
    )
    return step(state, event)


def started(state: Continuation, call: str, at: dt.datetime | None = None) -> Continuation:
    return step(state, ToolStarted(at=at or state.at, call=CallId(call), worker=state.worker))


def returned(state: Continuation, call: str, at: dt.datetime | None = None) -> Continuation:
    return step(state, ToolReturned(at=at or state.at, call=CallId(call), attempt=1, content="done"))


def states(state: Continuation) -> list[CallState]:
    return [call.state for call in state.calls]


# Decisions ---------------------------------------------------------------------------------------------------------


def changed_agent_tool(state: Continuation) -> Continuation:
    tools = tuple(replace(tool, description="It changed.") if tool.name == "it" else tool for tool in AGENT.tools)
    return step(state, AgentChanged(at=state.at, definition=replace(AGENT, tools=tools)))


def test_an_approved_agent_call_whose_tool_changed_before_its_child_began_is_asked_again() -> None:
    state = decided(replied(begun(), ("it", "{}"), ask=True), "it-1")
    assert states(state) == [CallState.DELEGATED]
    (call,) = changed_agent_tool(state).calls
    assert (call.state, call.decision) == (CallState.AWAITING, None)
    assert call.remark == "the tool changed since this was approved"


def test_an_approved_agent_call_whose_child_has_begun_goes_on_though_its_tool_changed() -> None:
    state = decided(replied(begun(), ("it", "{}"), ask=True), "it-1")
    state = replace(state, children={CallId("it-1"): Child(commit=SEEN, state=begun())})
    assert changed_agent_tool(state).calls == state.calls


def test_a_standing_rejection_stops_later_calls_even_where_no_approval_is_needed() -> None:
    state = decided(replied(begun(), ("a-b", "{}"), ask=True), "a-b-1", choice="reject", note="never", scope="tool")
    state = replied(state, ("a-b", '{"item": "tea"}'), ("look", "{}"), ask=False)
    assert states(state) == [CallState.REJECTED, CallState.APPROVED]
    result = state.messages[-1]
    assert isinstance(result, Result)
    assert result.content == "Rejected by Ada Lovelace: never. The call did not run."


def test_a_call_that_a_standing_decision_approved_still_starts_after_a_newer_standing_decision() -> None:
    state = decided(replied(begun(), ("order", "{}"), ask=True), "order-1", scope="tool")
    state = returned(started(state, "order-1"), "order-1")
    state = replied(state, ("order", '{"item": "tea"}'), ("order", '{"item": "jam"}'), ask=True)
    assert states(state) == [CallState.APPROVED] * 2
    state = step(started(state, "order-2"), Resumed(at=state.at, worker=WORKERS[1]))
    assert states(state) == [CallState.UNKNOWN, CallState.APPROVED]
    state = decided(state, "order-2", scope="tool", by=GRACE)
    assert states(started(state, "order-3")) == [CallState.APPROVED, CallState.RUNNING]


def asking(world: World) -> Loops:
    """A tree's loop that waits for the approval of ``ops.order-1``."""
    world.settle()
    return world.loops


def test_a_decision_again_that_reaches_further_is_already_decided_and_not_silently_the_same() -> None:
    loops = asking(World(MemoryStore(), ["order"]))
    first = loops.approve("ops.order-1", by=ADA)
    assert loops.approve("ops.order-1", by=ADA) == first
    scopes: tuple[Scope, ...] = ("tool", "arguments")
    for scope in scopes:
        with pytest.raises(AlreadyDecided):
            loops.approve("ops.order-1", always=scope, by=ADA)
    assert loops.show("ops") == first
    assert not first.state.rules


def test_a_standing_decision_again_that_reaches_further_is_already_decided() -> None:
    loops = asking(World(MemoryStore(), ["order"]))
    loops.approve("ops.order-1", always="arguments", by=ADA)
    with pytest.raises(AlreadyDecided):
        loops.approve("ops.order-1", always="tool", by=ADA)


def test_a_plain_approval_after_one_with_edited_arguments_is_already_decided() -> None:
    loops = asking(World(MemoryStore(), ["order"]))
    first = loops.approve("ops.order-1", arguments={"item": "tea"}, by=ADA)
    assert loops.approve("ops.order-1", arguments={"item": "tea"}, by=ADA) == first
    with pytest.raises(AlreadyDecided):
        loops.approve("ops.order-1", by=ADA)
    with pytest.raises(AlreadyDecided):
        loops.approve("ops.order-1", arguments={"item": "jam"}, by=ADA)
    assert loops.show("ops") == first


# Time and budgets --------------------------------------------------------------------------------------------------


def test_days_without_a_worker_are_not_spent_though_somebody_told_the_loop_something() -> None:
    state = step(begun(), Told(at=EPOCH + DAYS, message=User(content="Hello?"), by=ADA))
    state = step(state, Resumed(at=EPOCH + DAYS + seconds(60), worker=WORKERS[1]))
    assert state.spent.seconds == 0
    state = replied(state, ("look", "{}"), at=state.at + seconds(5))
    assert state.spent.seconds == 5


def test_days_without_a_worker_are_not_spent_though_somebody_approved_a_call_of_an_active_loop() -> None:
    state = replied(begun(), ("order", "{}"), ("order", "{}"), ask=True, at=EPOCH + seconds(2))
    state = decided(state, "order-1")  # the worker stopped before it could start it
    assert state.status is Status.ACTIVE
    state = decided(state, "order-2", at=EPOCH + DAYS)
    state = step(state, Resumed(at=EPOCH + DAYS + seconds(60), worker=WORKERS[1]))
    assert state.spent.seconds == 2


def test_days_of_waiting_for_an_approval_are_not_spent_by_the_worker_that_waits() -> None:
    state = replied(begun(), ("order", "{}"), ask=True, at=EPOCH + seconds(2))
    assert state.status is Status.SUSPENDED
    state = decided(state, "order-1", at=EPOCH + DAYS)
    state = started(state, "order-1", EPOCH + DAYS + seconds(1))
    assert state.spent.seconds == 3


def test_time_between_a_workers_events_is_spent_whoever_speaks_in_between() -> None:
    state = step(begun(), Told(at=EPOCH + seconds(10), message=User(content="Hello?"), by=ADA))
    state = replied(state, ("look", "{}"), at=EPOCH + seconds(20))
    assert state.spent.seconds == 20
    state = returned(started(state, "look-1", EPOCH + seconds(21)), "look-1", EPOCH + seconds(30))
    assert state.spent.seconds == 30


@pytest.mark.parametrize("own", [None, Budget(steps=7)])
def test_a_changed_agents_budget_is_adopted_unless_the_loop_was_given_its_own(own: Budget | None) -> None:
    changed = replace(AGENT, budget=Budget(steps=3))
    state = step(begun(own), AgentChanged(at=EPOCH, definition=changed))
    assert (state.budget, state.limit) == ((own or changed.budget),) * 2


def test_what_a_person_allowed_beyond_the_budget_survives_a_change_of_the_agents_instructions() -> None:
    agent = replace(AGENT, budget=Budget(steps=1))
    event = Started(
        at=EPOCH, definition=agent, prompt=User(content="Go."), nonce="n", worker=WORKERS[0], budget=agent.budget
    )
    state = replied(start(event), ("a.b", "{}"))
    state = step(state, Suspended(at=EPOCH, kind="budget", reason="spent"))
    assert state.gate is not None
    state = step(state, Decided(at=EPOCH, call=state.gate.id, choice="approve", by=ADA, seen=SEEN))
    assert state.limit == Budget(steps=2)
    state = step(state, AgentChanged(at=EPOCH, definition=replace(agent, instructions="Be long.")))
    assert state.limit == Budget(steps=2)


# Branches ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "r.git"


def empty(path: Path) -> str:
    return git(path, "mktree")


def rewritten(change: Callable[[str], str]) -> Callable[[Path], str]:
    """The tree of ``ops`` with another ``continuation.json``."""

    def tree(path: Path) -> str:
        text = change(git(path, "show", "loops/ops:continuation.json"))
        blob = git(path, "hash-object", "-w", "--stdin", data=text.encode())
        old = git(path, "rev-parse", "loops/ops:continuation.json")
        return git(path, "mktree", data=git(path, "ls-tree", "loops/ops").replace(old, blob).encode() + b"\n")

    return tree


@pytest.mark.parametrize(
    "tree",
    [
        pytest.param(empty, id="an empty tree"),
        pytest.param(rewritten(lambda text: text[: len(text) // 2]), id="truncated"),
        pytest.param(
            rewritten(lambda text: text.replace(f'"format": {FORMAT}', f'"format": {FORMAT + 1}')), id="a later format"
        ),
    ],
)
@pytest.mark.parametrize("name", ["bad", "ops.bad-1", "zzz"])
def test_an_unreadable_branch_hides_no_other_loop_and_is_named(
    path: Path, tree: Callable[[Path], str], name: str
) -> None:
    world = World(GitStore.open(path, create=True), ["order"])
    loops = asking(world)
    before = loops.all(), loops.pending()
    assert loops.unreadable() == {}
    git(path, "update-ref", f"refs/heads/loops/{name}", git(path, "commit-tree", "-m", "strange", tree(path)))
    assert (loops.all(), loops.pending()) == before
    assert [info.name for info in loops.all(nested=True)] == ["ops"]
    assert list(loops.unreadable()) == [name]
    loops.approve("ops.order-1", by=ADA)
    assert world.settle().state.status is Status.COMPLETED


def test_a_name_under_which_nested_branches_are_left_is_not_given_to_a_new_loop(path: Path) -> None:
    store = GitStore.open(path, create=True)
    world = World(store, [["order"]])
    loops = asking(world)
    loops.fork("ops", "copy")
    git(path, "update-ref", "-d", "refs/heads/loops/ops")
    event = Started(at=EPOCH, definition=TREE_AGENT, prompt=User(content="[]"), nonce="new", worker=WORKERS[0])
    with pytest.raises(LoopExists, match=r"ops\.team-1"):
        world.history.begin(loop_name("ops"), event, ROBOT, GRACE)
    with pytest.raises(LoopExists, match=r"ops\.team-1"):
        loops.fork("copy", "ops")
    assert store.head(loop_name("ops")) is None
    git(path, "update-ref", "-d", "refs/heads/loops/ops.team-1")
    assert loops.fork("copy", "ops").loop == "ops"


# Ends --------------------------------------------------------------------------------------------------------------


class Raced(MemoryStore):
    """A store in which something else happens just before the next move of a branch."""

    before: Callable[[], object] | None = None

    def move(self, loop: LoopName, old: CommitId | None, new: CommitId) -> None:
        before, self.before = self.before, None
        if before is not None:
            before()
        super().move(loop, old, new)


def test_what_is_told_to_a_nested_loop_that_completes_at_that_moment_is_refused_and_not_lost() -> None:
    store = Raced()
    world = World(store, [["look"]])
    child = child_name(world.root, CallId("team-1"))

    def completes(due: Due) -> bool:
        event = due.event
        return due.loop == child and isinstance(event, ModelReplied) and not event.reply.message.tool_calls

    while not completes(due := next(world.due())):
        world.perform(due)
    last = due
    store.before = lambda: world.perform(last)
    with pytest.raises(NotApplicable, match="nobody would go on with it"):
        world.loops.tell(child, "One more thing.", by=ADA)
    told = world.history.load(child)
    assert told.state.status is Status.COMPLETED
    assert "One more thing." not in str(told.state.messages)
    assert world.settle().state.status is Status.COMPLETED


@pytest.mark.parametrize("by_address", [True, False])
def test_nothing_is_decided_in_a_loop_whose_ancestor_has_ended(by_address: bool) -> None:
    world = World(MemoryStore(), NESTED)
    loops = asking(world)
    waiting = [one for one in loops.pending() if one.loop != world.root]
    assert {one.id.count(".") for one in waiting} == {2, 3}
    # The process that cancelled it died before it came to what is nested.
    world.commit(world.saved(), Cancelled(at=world.now(), reason="enough", by=ADA))
    heads = {info.name: info.commit for info in loops.all(nested=True)}
    for one in waiting:
        with pytest.raises(NoSuchRequest, match="has ended"):
            loops.approve(one.id if by_address else one, by=ADA)
        with pytest.raises(NoSuchRequest, match="has ended"):
            loops.reject(one.id if by_address else one, by=ADA)
    assert {info.name: info.commit for info in loops.all(nested=True)} == heads


def test_cancelling_a_cancelled_loop_again_ends_what_was_left_in_it() -> None:
    world = World(MemoryStore(), NESTED)
    loops = asking(world)
    cancelled = world.commit(world.saved(), Cancelled(at=world.now(), reason="enough", by=ADA))
    assert Status.SUSPENDED in {info.status for info in loops.all(nested=True)}
    for _ in range(2):
        assert loops.cancel("ops", by=ADA) == cancelled
        assert {info.status for info in loops.all(nested=True)} == {Status.CANCELLED}
        assert len(loops.all(nested=True)) == 3


def test_cancelling_a_completed_loop_is_refused() -> None:
    world = World(MemoryStore(), ["look"])
    assert world.settle().state.status is Status.COMPLETED
    with pytest.raises(NotApplicable):
        world.loops.cancel("ops", by=ADA)
