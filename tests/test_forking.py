"""Forks with intent, as `Loops.fork` makes them: all changes or none, each a commit of the person's."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from caesura.continuations import (
    CallerError,
    CallId,
    CommitId,
    ConflictError,
    GitStore,
    InvalidAnswer,
    LoopExists,
    Loops,
    MemoryStore,
    NotApplicable,
    NothingRecorded,
    Recording,
    Redaction,
    Rehearsal,
    Rehearsed,
    Status,
    Store,
    Variation,
)
from caesura.continuations._trailers import trailers
from caesura.continuations.verify import verify
from tests.strategies import ADA, GRACE, NESTED, PLANS, Plan, World, variations


@pytest.fixture(params=["memory", "git"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """Each kind of store."""
    made = MemoryStore() if request.param == "memory" else GitStore.open(tmp_path / "caesura", create=True)
    yield made
    made.close()


def events(world: World, loop: str, since: str) -> list[str]:
    """The events of a loop after a commit, the oldest first."""
    found: list[str] = []
    for commit, message in world.history.store.line(world.loops.show(loop).commit):
        if commit == since:
            break
        found.append(trailers(message)["Event"][0])
    return found[::-1]


@settings(max_examples=60)
@given(data=st.data(), plan=PLANS)
def test_a_fork_begins_with_its_sources_tree_and_leaves_the_source_as_it_was(data: st.DataObject, plan: Plan) -> None:
    store = MemoryStore()
    world = World(store, plan)
    for _ in range(data.draw(st.integers(0, 12))):
        for due in list(world.due())[:1]:
            world.perform(due)
        for request in world.loops.pending()[:1]:
            world.decide(request, data.draw(st.sampled_from(["approve", "reject"])))
    heads = dict(store.heads())
    name = data.draw(st.sampled_from(sorted(heads)))
    steps = [commit for commit, _ in store.line(heads[name])]
    source = store.read(data.draw(st.sampled_from(steps)))
    plain = world.loops.fork(source.id, "plain")
    assert (plain.commit, world.loops.show("plain").state) == (source.id, source.state)
    varied = data.draw(variations(source.state))
    try:
        fork = world.loops.fork(source.id, "fork", varied, by=GRACE)
    except (ConflictError, CallerError):
        assert store.head(plain.loop.replace("plain", "fork")) is None  # type: ignore[arg-type]
    else:
        line = [store.read(commit) for commit, _ in store.line(fork.commit)]
        made = line[: [step.id for step in line].index(source.id)]
        assert all(step.author == GRACE for step in made)
        assert (made == []) == (world.loops.show("fork").state == source.state)
        assert len(made) <= sum(getattr(varied, part) != getattr(Variation(), part) for part in PARTS) + len(
            varied.arguments
        ) + len(varied.results)
    assert {loop: store.head(loop) for loop in heads} == heads
    assert verify(store).faults == ()


PARTS = Variation.__struct_fields__


def test_each_change_is_a_commit_in_the_order_in_which_they_apply(store: Store) -> None:
    world = World(store, ["order", "look"])
    source = world.settle().commit
    varied = Variation(
        model="gpt-9",
        settings={"seed": 1},
        instructions="Be quick.",
        reword={1: "[]"},
        arguments={"ops.order-1": {"item": 9}},
        results={"look-1": "nothing"},
        tools="ask",
        tell="Mind the price.",
    )
    world.loops.fork("ops", "other", varied, by=GRACE)
    assert events(world, "other", source) == [
        "Amended",
        "Amended",
        "Reworded",
        "Edited",
        "Overridden",
        "Rehearsed",
        "Told",
    ]
    model = world.loops.show("other").state.definition.model
    assert (model.name, model.settings) == ("gpt-9", {"seed": 1})
    assert [request.arguments for request in world.loops.pending("other")] == ['{"item": 9}']
    assert verify(store).faults == ()


def test_a_change_that_cannot_be_made_leaves_no_branch(store: Store) -> None:
    world = World(store, ["order", "look"])
    world.settle()
    heads = dict(store.heads())
    for varied, error in (
        (Variation(drop=9), NotApplicable),
        (Variation(drop=1), NotApplicable),
        (Variation(reword={2: "x"}), NotApplicable),
        (Variation(tell="x", reword={0: "x"}), NotApplicable),
        (Variation(arguments={"look-1": {}}), NotApplicable),
        (Variation(arguments={"order-9": {}}), NotApplicable),
        (Variation(arguments={"order-1": 9}), InvalidAnswer),
        (Variation(arguments={"other.order-1": {}}), NotApplicable),
        (Variation(results={"order-1": "x"}), NotApplicable),
        (Variation(tools="recorded"), NothingRecorded),
    ):
        with pytest.raises(error) as caught:
            world.loops.fork("ops", "other", varied, by=GRACE)
        assert getattr(caught.value, "hint", "")
        assert dict(store.heads()) == heads
    with pytest.raises(LoopExists):
        world.loops.fork("ops", "ops", Variation(tell="x"), by=GRACE)


def test_a_tail_is_removed_back_to_any_message_between_rounds(store: Store) -> None:
    world = World(store, ["order", "look"])
    world.end(lambda _: "approve")
    world.loops.tell("ops", "More.", by=ADA)
    messages = world.saved().state.messages
    for kept in range(1, len(messages)):
        if kept in (2, 3):  # amid the round
            with pytest.raises(NotApplicable, match="amid a round"):
                world.loops.fork("ops", f"kept-{kept}", Variation(drop=len(messages) - kept), by=GRACE)
            continue
        fork = world.loops.fork("ops", f"kept-{kept}", Variation(drop=len(messages) - kept), by=GRACE)
        state = world.loops.show(fork.loop).state
        assert state.messages == messages[:kept]
        assert [call.id for call in state.calls] == (["order-1", "look-1"] if kept == 4 else [])
        assert World.resumed(store, fork.loop).end(lambda _: "reject").state.status is Status.COMPLETED
    assert verify(store).faults == ()


def test_a_nested_loop_is_forked_alone_with_changes_and_is_a_root_loop(store: Store) -> None:
    world = World(store, NESTED)
    world.settle()
    heads = dict(store.heads())
    world.loops.fork(
        "ops.team-1", "alone", Variation(arguments={"ops.team-1.order-1": {"item": 9}}, tools="ask"), by=GRACE
    )
    assert "alone" in [info.name for info in world.loops.all()]
    state = world.loops.show("alone").state
    nested = state.children[CallId("team-1")].state
    assert nested.rehearsal is not None
    assert nested.rehearsal == state.rehearsal
    assert [request.id for request in world.loops.pending("alone")] == ["alone.order-1", "alone.team-1.order-1"]
    copied = World.resumed(store, "alone")
    assert copied.end(lambda _: "approve").state.status is Status.COMPLETED
    assert sorted(copied.runs) == ["alone.order-1", "alone.team-1.order-1"]
    assert {loop: store.head(loop) for loop in heads} == heads
    assert verify(store).faults == ()


def test_the_future_that_a_fork_is_answered_from_is_that_of_the_loop_it_names(store: Store) -> None:
    world = World(store, ["order"])
    waiting = world.settle().commit
    world.loops.fork("ops", "no")
    other = World.resumed(store, "no")
    other.end(lambda _: "reject")
    world.end(lambda _: "approve")
    for revision, result in ((waiting, "order-1 is done"), ("ops~3", "order-1 is done"), ("no~3", "Rejected by")):
        name = f"again-{revision[:3].strip('~')}"
        world.loops.fork(revision, name, Variation(tools="recorded"), by=GRACE)
        assert world.loops.show(name).state.calls[0].state == "approved"
        ended = World.resumed(store, name)
        messages = ended.end(lambda _: "reject").state.messages
        assert any(str(getattr(message, "content", "")).startswith(result) for message in messages), messages
        assert ended.runs == {}


@pytest.mark.parametrize("named", ["", "x", "../../HEAD", "\0", "a" * 40])
def test_a_record_that_a_stranger_made_up_answers_nothing(store: Store, named: str) -> None:
    world = World(store, ["look"])
    while not world.saved().state.calls:
        world.perform(next(world.due()))
    recording = Recording(until=CommitId(named), since=CommitId(named))
    world.commit(world.saved(), Rehearsed(at=world.now(), rehearsal=Rehearsal(record=recording), by=ADA))
    assert [request.id for request in world.loops.pending()] == []
    world.settle()
    assert [request.id for request in world.loops.pending()] == ["ops.look-1"]


def test_a_loop_in_the_archive_is_a_record_too(store: Store) -> None:
    world = World(store, ["order", ["look"]])
    world.end(lambda _: "approve")
    first = [commit for commit, _ in store.line(world.saved().commit)][-1]
    world.loops.archive("ops")
    world.loops.fork(first, "again", Variation(tools="recorded"), by=GRACE)
    again = World.resumed(store, "again")
    assert again.end(lambda _: "reject").state.status is Status.COMPLETED
    assert again.runs == {}


def test_no_secret_gets_into_a_fork(store: Store) -> None:
    world = World(store, ["order", "look"])
    world.settle()
    loops, secret = Loops(store, redaction=Redaction(patterns=["ACME-[0-9]+"])), "ACME-123"
    varied = Variation(
        model=f"m-{secret}",
        settings={"key": secret},
        instructions=f"Use {secret}.",
        reword={1: secret},
        arguments={"order-1": {"item": secret}},
        results={"look-1": secret},
        tell=secret,
    )
    fork = loops.fork("ops", "other", varied, by=GRACE)
    assert secret not in str(loops.show("other").state)
    assert not any(secret in message for _, message in store.line(fork.commit))


def test_git_shows_a_fork_as_a_transcript_of_its_changes(tmp_path: Path) -> None:
    store = GitStore.open(tmp_path / "caesura", create=True)
    world = World(store, ["order", "look"])
    world.end(lambda _: "approve")
    world.loops.fork("ops", "again", Variation(drop=4, model="gpt-9", tools="recorded", tell="Again."), by=GRACE)
    log = subprocess.run(
        ["git", "-C", tmp_path / "caesura", "log", "--first-parent", "--format=%an: %s", "-4", "loops/again"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    assert log.splitlines() == [
        "Grace Hopper: ops: told: Again.",
        "Grace Hopper: ops: rehearses: calls are answered from the record",
        "Grace Hopper: ops: with model gpt-9",
        "Grace Hopper: ops: dropped the last 4 messages",
    ]
    again = World.resumed(store, "again")
    assert again.end(lambda _: "reject").state.status is Status.COMPLETED
    assert again.runs == {}
    store.close()
