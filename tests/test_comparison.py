"""Comparing: two loops from their last common commit on, in the order in which they can be read."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from caesura.continuations import (
    AgentChanged,
    Answered,
    AnyEvent,
    Assistant,
    CallId,
    Cancelled,
    Change,
    Choice,
    Commit,
    CommitId,
    Compacted,
    Continuation,
    Decided,
    Entry,
    Function,
    GitStore,
    History,
    Imported,
    LoopName,
    Loops,
    MemoryStore,
    ModelReplied,
    ModelSpec,
    Overridden,
    Reply,
    Request,
    Result,
    Rewound,
    Row,
    Started,
    Status,
    Store,
    Suspended,
    Told,
    ToolRequest,
    ToolReturned,
    ToolStarted,
    Usage,
    User,
    Variation,
    compare,
    line,
    loop_name,
    start,
    step,
    tally,
)
from caesura.continuations._alignment import align
from caesura.continuations._trajectory import Reader
from tests.strategies import (
    ADA,
    AGENT,
    EPOCH,
    GRACE,
    NESTED,
    PLANS,
    ROBOT,
    WORKERS,
    Plan,
    World,
    last,
    proposal_for,
    sequences,
)

X = loop_name("x")


@pytest.fixture(params=["memory", "git"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    made: Store = MemoryStore() if request.param == "memory" else GitStore.open(tmp_path / "caesura", create=True)
    yield made
    made.close()


def forked(store: Store, plan: Plan, name: str = "other") -> tuple[World, World]:
    """A tree of loops at rest, and a fork of it."""
    world = World(store, plan)
    world.settle()
    world.loops.fork("ops", name)
    return world, World.resumed(store, name)


def told(entry: Entry | None) -> tuple[str, ...]:
    return () if entry is None else (entry.kind, entry.tool, entry.outcome, entry.text)


def flat(rows: Sequence[Row]) -> list[Row]:
    return [one for row in rows for one in (row, *flat(row.nested))]


# From one commit, two futures --------------------------------------------------------------------------------------


def test_a_loop_compared_with_itself_has_nothing_to_tell(store: Store) -> None:
    world = World(store, NESTED)
    world.end(lambda _: "approve")
    compared = compare(world.history, "ops", "ops")
    assert (compared.rows, compared.divergence) == ((), None)
    assert compared.base is not None
    assert compared.base.commit == world.saved().commit


def test_approved_here_and_rejected_there_part_at_that_decision(store: Store) -> None:
    ours, theirs = forked(store, NESTED)
    base = ours.saved().commit
    ours.end(lambda _: "approve")
    theirs.end(lambda request: "reject" if request.id == "other.team-1.order-1" else "approve")
    compared = compare(ours.history, "ops", "other")
    assert compared.base is not None
    assert compared.base.commit == base
    parted = compared.divergence
    assert parted is not None
    assert parted.path == ("team-1",)
    assert told(parted.row.left)[:3] == ("decided", "order", "approve")
    assert told(parted.row.right)[:3] == ("decided", "order", "reject")
    different = [(told(row.left)[:3], told(row.right)[:3]) for row in flat(compared.rows) if not row.same]
    assert different == [
        (("decided", "order", "approve"), ("decided", "order", "reject")),
        (("got", "order", "returned"), ("got", "order", "rejected")),
    ]


def test_the_step_in_which_each_thing_happened_is_named(store: Store) -> None:
    ours, theirs = forked(store, ["order"])
    decided = ours.decide("ops.order-1", "approve")
    theirs.decide("other.order-1", "reject")
    parted = compare(ours.history, "ops", "other").divergence
    assert parted is not None
    assert parted.row.left is not None
    assert parted.row.left.commit == decided.commit


def test_a_decision_that_only_the_childs_branch_has_is_seen_at_the_head_and_not_in_the_commit(store: Store) -> None:
    ours, theirs = forked(store, [["order"]])
    ours.decide("ops.team-1.order-1", "approve")
    compared = compare(ours.history, "ops", "other")
    parted = compared.divergence
    assert parted is not None
    assert (told(parted.row.left)[0], told(parted.row.right)[0]) == ("decided", "open")
    commits = compare(ours.history, ours.saved().commit, theirs.saved().commit)
    assert commits.divergence is None


def test_an_earlier_commit_is_compared_with_what_came_of_it(store: Store) -> None:
    world = World(store, NESTED)
    waits = world.settle()
    world.end(lambda _: "approve")
    compared = compare(world.history, waits.commit, "ops")
    assert compared.base is not None
    assert compared.base.commit == waits.commit
    assert {told(row.left)[0] for row in flat(compared.rows) if not row.same and row.left} == {"open"}
    assert compared.spent_since(compared.left).steps == 0
    # One reply of each of the three agents; what the children had spent by then is in the base.
    assert compared.spent_since(compared.right).steps == 3
    assert compared.spent_since(compared.right).usage == Usage(input=30, output=15)


def test_a_nested_loop_is_compared_with_a_fork_of_it_alone(store: Store) -> None:
    world = World(store, NESTED)
    world.settle()
    world.loops.fork("ops.team-1", "alone")
    alone = World.resumed(store, "alone")
    world.decide("ops.team-1.order-1", "reject")
    alone.decide("alone.order-1", "approve")
    compared = compare(world.history, "ops.team-1", "alone")
    assert compared.base is not None
    parted = compared.divergence
    assert parted is not None
    assert (parted.path, told(parted.row.left)[2], told(parted.row.right)[2]) == ((), "reject", "approve")


class Counting(MemoryStore):
    """A store as another one, which counts the continuations that are read."""

    def __init__(self, store: Store) -> None:
        super().__init__()
        self._store = store
        self.reads: list[CommitId] = []

    def read(self, commit: CommitId) -> Commit:
        self.reads.append(commit)
        return self._store.read(commit)

    def head(self, loop: LoopName, *, archived: bool = False) -> CommitId | None:
        return self._store.head(loop, archived=archived)

    def resolve(self, revision: str) -> CommitId:
        return self._store.resolve(revision)

    def check(self, commit: CommitId) -> str:
        return self._store.check(commit)

    def parents(self, commit: CommitId) -> tuple[CommitId, ...]:
        return self._store.parents(commit)


def test_the_common_past_is_not_read_again(store: Store) -> None:
    world = World(store, ["look"])
    saved = world.end(lambda _: "approve")
    for _ in range(40):
        saved = world.commit(saved, Told(at=world.now(), message=User(content="More."), by=ADA))
        world.settle()
    world.loops.fork("ops", "other")
    counting = Counting(store)
    world.loops.tell("other", "Something else.", by=ADA)
    compared = compare(History(counting), "ops", "other")
    assert [told(row.right)[3] for row in compared.rows] == ["Something else."]
    assert len(set(counting.reads)) <= 4


def test_what_came_of_a_commit_is_read_once_and_what_only_leads_there_not_at_all(store: Store) -> None:
    world = World(store, ["look"])
    early = saved = world.end(lambda _: "approve")
    for _ in range(40):
        saved = world.commit(saved, Told(at=world.now(), message=User(content="More."), by=ADA))
        world.settle()
    steps = sum(1 for _ in line(store, saved.commit)) - sum(1 for _ in line(store, early.commit))
    counting = Counting(store)
    assert compare(History(counting), early.commit, "ops").base is not None
    assert len(counting.reads) - len(set(counting.reads)) < 8  # but for both ends
    assert len(set(counting.reads)) < steps + 8


# Without a common commit -------------------------------------------------------------------------------------------


def test_loops_that_did_the_same_in_another_order_did_the_same(store: Store) -> None:
    world = World(store, ["order", "order", ["order"]])
    world.settle()
    for request in world.loops.pending("ops"):
        world.decide(request, "approve")
    other = World(store, ["order", "order", ["order"]], "twin")
    other.settle()
    for request in reversed(other.loops.pending("twin")):
        other.decide(request, "approve")
    world.settle()
    while due := list(other.due()):
        other.perform(due[-1])  # what would come last comes first
    messages = [[type(one).__name__ + str(one) for one in each.saved().state.messages] for each in (world, other)]
    assert messages[0] != messages[1]
    compared = compare(world.history, "ops", "twin")
    assert compared.base is None
    assert compared.divergence is None
    assert [told(row.left)[:2] for row in compared.rows][:3] == [("told", ""), ("said", ""), ("called", "order")]


def test_arguments_are_the_same_however_they_are_written() -> None:
    entry = Entry(kind="called", commit=CommitId("a"), tool="order", arguments='{"a": 1, "b": [2]}')
    other = replace(entry, commit=CommitId("b"), arguments='{"b":[2],"a":1}')
    assert entry.meaning == other.meaning
    assert entry.meaning != replace(other, arguments='{"b":[2],"a":true}').meaning
    assert replace(entry, arguments="{not json").meaning != replace(entry, arguments="{not  json").meaning


def entries(*texts: str) -> list[Entry]:
    return [Entry(kind="said", commit=CommitId("c"), text=text) for text in texts]


def test_what_one_has_more_stands_alone_and_the_rest_in_line() -> None:
    rows = list(align(entries("a", "b", "c", "d"), entries("a", "x", "c", "d", "e")))
    pairs = [(row.left and row.left.text, row.right and row.right.text, row.same) for row in rows]
    assert pairs == [
        ("a", "a", True),
        ("b", "x", False),
        ("c", "c", True),
        ("d", "d", True),
        (None, "e", False),
    ]


def test_the_same_call_of_a_common_past_is_in_line_whatever_else_looks_like_it() -> None:
    call = Entry(kind="called", commit=CommitId("c"), tool="look", nonce="one")
    again = replace(call, nonce="two")
    got = Entry(kind="got", commit=CommitId("c"), tool="look", text="done")
    rows = list(align([call, got], [again, got, call, got]))
    assert [(row.left and row.left.nonce, row.right and row.right.nonce) for row in rows if row.left != got] == [
        (None, "two"),
        (None, ""),
        ("one", "one"),
    ]


@settings(max_examples=60)
@given(st.lists(st.sampled_from("abc")), st.lists(st.sampled_from("abcd")))
def test_everything_is_there_once_and_in_order(left: list[str], right: list[str]) -> None:
    rows = list(align(entries(*left), entries(*right)))
    assert [row.left.text for row in rows if row.left] == left
    assert [row.right.text for row in rows if row.right] == right


def choice_of(decisions: Mapping[str, Choice], request: Request) -> Choice:
    return decisions[request.id.partition(".")[2]]


CHOICES = st.lists(st.sampled_from(["approve", "approve", "reject"]), min_size=8, max_size=8)


@settings(max_examples=40)
@given(PLANS, CHOICES, CHOICES)
def test_two_futures_differ_exactly_if_something_was_decided_otherwise(
    plan: Plan, mine: list[Choice], yours: list[Choice]
) -> None:
    ours, theirs = forked(MemoryStore(), plan)
    asked = [request.id.partition(".")[2] for request in ours.loops.pending("ops")]
    for world, choices in ((ours, mine), (theirs, yours)):
        world.end(partial(choice_of, dict(zip(asked, choices, strict=False))))
    compared = compare(ours.history, "ops", "other")
    assert (compared.divergence is None) is (mine[: len(asked)] == yours[: len(asked)])
    decided = [row for row in flat(compared.rows) if row.left is not None and row.left.kind == "decided"]
    assert len(decided) == len(asked)
    assert sum(not row.same for row in decided) == sum(map(str.__ne__, mine[: len(asked)], yours[: len(asked)]))
    back = compare(ours.history, "other", "ops")
    assert [row.same for row in flat(back.rows)].count(False) == [row.same for row in flat(compared.rows)].count(False)
    counts = tally(ours.history, "ops")
    assert (counts.approvals, counts.rejections) == (
        mine[: len(asked)].count("approve"),
        mine[: len(asked)].count("reject"),
    )


@settings(max_examples=60)
@given(sequences())
def test_whatever_happens_to_a_loop_can_be_read(steps: list[Any]) -> None:
    reader = Reader(None, None)
    reader.step(CommitId("0"), steps[0].before, GRACE)
    for number, one in enumerate(steps, 1):
        if one.after is not None:
            reader.step(CommitId(str(number)), one.after, ROBOT)
    found = reader.entries({}, CommitId("end"))
    state = last(steps)
    spoken = [message for message in state.messages if isinstance(message, Assistant)]
    results = [message.content for message in state.messages if isinstance(message, Result)]
    if not any(one.after is not None and isinstance(one.event, Rewound | Overridden | Compacted) for one in steps):
        assert sorted(entry.text for entry in found if entry.kind == "got") == sorted(results)
        assert sum(entry.kind == "called" for entry in found) == sum(len(message.tool_calls) for message in spoken)
    assert sum(entry.kind == "open" for entry in found) == len(state.open_calls)
    tokens = sum((entry.tokens for entry in found if entry.tokens is not None), Usage())
    assert tokens == state.spent.usage


# What happened -----------------------------------------------------------------------------------------------------


def life(*events: AnyEvent) -> list[tuple[str, ...]]:
    """What is read of a loop to which these things happened."""
    begun = Started(at=EPOCH, definition=AGENT, prompt=User(content="Go."), nonce="n", worker=WORKERS[0])
    state = start(begun)
    reader = Reader(None, None)
    reader.step(CommitId("0"), state, GRACE)
    for number, event in enumerate(events, 1):
        state = step(state, event)
        by = getattr(event, "by", None)
        reader.step(CommitId(str(number)), state, replace(ROBOT, name=AGENT.name) if by is None else by)
    return [(entry.kind, entry.by, entry.outcome, entry.text) for entry in reader.entries({}, CommitId("end"))]


def reply(text: str, *tools: str, shown: int = 1, nonce: str = "n") -> ModelReplied:
    requests = tuple(
        ToolRequest(id=f"k{place}", function=Function(name=name, arguments="{}")) for place, name in enumerate(tools)
    )
    begun = Started(at=EPOCH, definition=AGENT, prompt=User(content="Go."), nonce="n", worker=WORKERS[0])
    return ModelReplied(
        at=EPOCH,
        reply=Reply(message=Assistant(content=text, tool_calls=requests), usage=Usage(input=1, output=1)),
        shown=shown,
        proposals=tuple(
            proposal_for(start(begun), request, f"{nonce}{place}", ask=False, at=EPOCH)
            for place, request in enumerate(requests)
        ),
    )


def test_words_gates_changes_and_ends_are_told_with_who_caused_them() -> None:
    changed = replace(AGENT, model=ModelSpec(name="another"))
    assert life(
        Suspended(at=EPOCH, kind="pause", reason="lunch", by=ADA),
        Decided(at=EPOCH, call=CallId("gate-1"), choice="approve", by=GRACE, seen=CommitId("c")),
        AgentChanged(at=EPOCH, definition=changed),
        Told(at=EPOCH, message=User(content="Hurry."), by=ADA),
        Cancelled(at=EPOCH, reason="enough", by=GRACE),
    ) == [
        ("told", "Grace Hopper", "", "Go."),
        ("gate", "Ada Lovelace", "pause", "lunch"),
        ("lifted", "Grace Hopper", "pause", "lunch"),
        ("changed", "", "", "model"),
        ("told", "Ada Lovelace", "", "Hurry."),
        ("ended", "Grace Hopper", "cancelled", "enough"),
    ]


def test_a_changed_agent_that_was_refused_is_told_and_its_gate_stands_until_the_code_is_another() -> None:
    change = Change(fingerprint=replace(AGENT, model=ModelSpec(name="another")).fingerprint)
    seen, gate = CommitId("c"), CallId("gate-1")
    assert life(
        Suspended(at=EPOCH, kind="change", reason="new model", change=change),
        Decided(
            at=EPOCH, call=gate, choice="reject", by=GRACE, seen=seen, fingerprint=change.fingerprint, note="too dear"
        ),
        Told(at=EPOCH, message=User(content="Hurry."), by=ADA),
        AgentChanged(at=EPOCH, definition=AGENT),
    )[1:] == [
        ("gate", "", "change", "new model"),
        ("refused", "Grace Hopper", "change", "too dear"),
        ("told", "Ada Lovelace", "", "Hurry."),
        ("lifted", "", "change", "new model"),
    ]


def test_an_answer_is_told_with_who_gave_it_and_what_was_said_meanwhile_after_it() -> None:
    assert life(
        reply("Let me ask.", "ask"),
        Told(at=EPOCH, message=User(content="By the way."), by=ADA),
        Answered(at=EPOCH, call=CallId("ask-1"), value="yes", by=GRACE),
        reply("Done.", shown=4),
    ) == [
        ("told", "Grace Hopper", "", "Go."),
        ("said", "", "", "Let me ask."),
        ("called", "", "", ""),
        ("got", "Grace Hopper", "returned", "yes"),
        ("told", "Ada Lovelace", "", "By the way."),
        ("said", "", "", "Done."),
    ]


def test_messages_taken_away_or_replaced_are_told() -> None:
    def state(*texts: str) -> Continuation:
        begun = Started(at=EPOCH, definition=AGENT, prompt=User(content="Go."), nonce="n", worker=WORKERS[0])
        return replace(start(begun), messages=tuple(User(content=text) for text in texts))

    reader = Reader(None, None)
    for number, texts in enumerate((("a", "b", "c"), ("a", "x", "c"), ("a",))):
        reader.step(CommitId(str(number)), state(*texts), ADA)
    assert [(entry.kind, entry.text) for entry in reader.entries({}, CommitId("end"))] == [
        ("told", "a"),
        ("told", "b"),
        ("told", "c"),
        ("dropped", "1"),
        ("told", "x"),
        ("dropped", "2"),
    ]


def test_a_fork_that_asks_for_something_else_says_so_where_it_parts(store: Store) -> None:
    world = World(store, ["order"])
    world.settle()
    varied = Variation(arguments={"order-1": {"item": "gold"}})
    world.loops.fork("ops", "gold", varied, by=GRACE)
    parted = compare(world.history, "ops", "gold").divergence
    assert parted is not None
    assert parted.row.right is not None
    entry = parted.row.right
    assert (entry.kind, entry.by, entry.tool, entry.arguments) == ("edited", GRACE.name, "order", '{"item": "gold"}')


def test_a_rehearsal_did_what_its_source_did_and_ran_nothing(store: Store) -> None:
    world = World(store, ["look", ["look"]])
    world.end(lambda _: "approve")
    first = [step.id for step in line(store, world.saved().commit)][-1]
    world.loops.fork(first, "again", Variation(tools="recorded"), by=GRACE)
    World.resumed(store, "again").end(lambda _: "reject")
    ours, theirs = tally(world.history, "ops"), tally(world.history, "again")
    assert (ours.tools_run, theirs.tools_run) == (2, 0)
    assert theirs.steps <= ours.steps, "its record counts as nothing of its own"
    compared = compare(world.history, "ops", "again")
    assert len(compared.rows) > 3
    assert compared.divergence is None


# Counting ----------------------------------------------------------------------------------------------------------


def test_a_tally_counts_what_is_nested_at_any_depth_and_finished_too(store: Store) -> None:
    world = World(store, NESTED)
    world.end(lambda request: "reject" if request.id == "ops.order-1" else "approve")
    counted = tally(world.history, "ops")
    assert counted.saved.state.status is Status.COMPLETED
    assert (counted.approvals, counted.rejections) == (3, 1)
    assert counted.tools_run == sum(world.runs.values()) == 4
    names = [name for name in store.heads() if name.startswith("ops")]
    assert counted.steps == sum(1 for name in names for _ in line(store, store.head(name) or CommitId("")))


def test_a_standing_decision_is_counted_where_it_was_made(store: Store) -> None:
    history, loops = History(store), Loops(store)
    begun = Started(at=EPOCH, definition=AGENT, prompt=User(content="Go."), nonce="n", worker=WORKERS[0])
    history.apply(history.begin(X, begun, ROBOT, GRACE), reply("", "order"), ROBOT)
    loops.approve("x.order-1", always="tool", by=ADA)
    for event in (
        ToolStarted(at=EPOCH, call=CallId("order-1"), worker=WORKERS[0]),
        ToolReturned(at=EPOCH, call=CallId("order-1"), attempt=1, content="done"),
        reply("", "order", shown=3, nonce="later"),
    ):
        history.apply(history.load(X), event, ROBOT)
    (call,) = history.load(X).state.calls
    assert call.decision is not None
    assert call.decision.standing
    assert tally(history, "x").approvals == 1


def test_the_line_of_a_loop_ends_at_its_first_commit_though_that_has_parents(store: Store) -> None:
    world = World(store, [["order"]])
    saved = world.settle()
    brought = world.history.bring(X, saved.state, Imported(at=EPOCH, source="agent-continuations", by=ADA), ADA)
    assert store.read(brought.commit).parents != ()
    later = world.commit(brought, Suspended(at=world.now(), kind="pause", reason="lunch", by=ADA))
    assert [step.id for step in line(store, later.commit)] == [later.commit, brought.commit]
    assert compare(world.history, "x", "ops").base is None
