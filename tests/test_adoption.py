"""Adoption: a loop goes on as another that was tried, its tree that one's to the bit; what lost is kept, or not."""

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from caesura.continuations import (
    CommitId,
    ConflictError,
    GitStore,
    History,
    MemoryStore,
    Moved,
    NoSuchLoop,
    Saved,
    Scored,
    Status,
    StillDriven,
    StillRunning,
    Store,
    Unrelated,
    Variation,
    claim_of,
    compare,
    loop_name,
    score_of,
)
from caesura.continuations._marks import Chosen, Tip, describe_mark
from tests.repositories import git
from tests.strategies import ADA, EDITH, EPOCH, NESTED, PLANS, ROBOT, WORKERS, Plan, World
from tests.test_policy_rules import rule, shop_world
from tests.test_runtime_rules import Shop

OPS = loop_name("ops")


@pytest.fixture
def store(tmp_path: Path) -> GitStore:
    return GitStore.open(tmp_path / "r.git", create=True)


def tree(store: GitStore, revision: str) -> str:
    return git(Path(store.location), "rev-parse", f"{revision}^{{tree}}")


def tried(store: Store) -> World:
    """A loop that waits, and two forks of it: in one everything is approved, in the other nothing."""
    world = World(store, ["order", "look"])
    world.settle()
    world.loops.fork("ops", "yes")
    world.loops.fork("ops", "no")
    World.resumed(store, "yes").end(lambda _: "approve")
    World.resumed(store, "no").end(lambda _: "reject")
    return world


def test_the_loop_goes_on_as_the_one_that_was_chosen(store: GitStore) -> None:
    world = tried(store)
    before, yes, no = (store.heads()[loop_name(name)] for name in ("ops", "yes", "no"))
    adopted = world.loops.adopt("yes", "ops", why="It ran.\n\nOver: nobody", over=["no"], by=ADA)
    assert (adopted.loop, adopted.state.status) == (OPS, Status.COMPLETED)
    assert store.heads() == {OPS: adopted.commit}
    assert store.heads(archived=True) == {loop_name("no"): no}
    assert world.loops.verify().faults == ()
    folder = Path(store.location)
    assert git(folder, "rev-parse", "loops/ops^@").split() == [before, yes]
    assert tree(store, "loops/ops") == tree(store, yes)
    assert git(folder, "log", "-1", "--format=%an|%s", "loops/ops") == "Ada Lovelace|ops: chosen: yes over no"
    trailers = git(folder, "log", "-1", "--format=%(trailers:only)", "loops/ops").splitlines()
    assert trailers == [
        "Loop: ops",
        "Agent: ops",
        "Event: Chosen",
        "Status: completed",
        f"Chosen: {yes} yes",
        f"Over: {before} ops",
        f"Over: {no} no",
    ]
    assert "It ran." in git(folder, "log", "-1", "--format=%b", "loops/ops")
    git(folder, "fsck", "--strict")
    assert adopted.state == store.read(yes).state
    # The chosen one's steps are the loop's own now.
    assert compare(world.history, "ops", yes).divergence is None


def test_a_loop_that_has_adopted_another_is_pruned_as_others_are(store: GitStore) -> None:
    world = World(store, ["order", "look"])
    world.end(lambda _: "approve")
    world.loops.fork("ops", "again", Variation(tell="Once more."), by=ADA)
    World.resumed(store, "again").end(lambda _: "approve")
    adopted = world.loops.adopt("again", "ops", by=ADA)
    before = store.parents(adopted.commit)[0]
    assert world.loops.prune("ops", keep=1, by=ADA).gone
    assert store.parents(store.heads()[OPS])[0] != before
    assert world.loops.verify().faults == ()


def test_losers_are_dropped_if_so_asked(store: GitStore) -> None:
    world = tried(store)
    world.loops.adopt("yes", "ops", over=["no"], drop=True, by=ADA)
    assert list(store.heads()) == ["ops"]
    assert store.heads(archived=True) == {}


def test_what_had_run_in_the_loop_is_told_for_it_is_not_undone(store: GitStore) -> None:
    world = World(store, NESTED)
    world.settle()
    world.loops.fork("ops", "fork")
    World.resumed(store, "fork").end(lambda _: "reject")
    world.end(lambda _: "approve")
    ran = git(Path(store.location), "log", "--format=%s", "--grep=^Event: ToolStarted", "loops/ops", "^loops/fork")
    assert ran
    adopted = world.loops.adopt("fork", "ops", by=ADA)
    body = adopted.message
    assert "What had run in the meantime is not undone:" in body
    assert sorted(line.strip() for line in body.splitlines() if ": running " in line) == sorted(ran.splitlines())


@settings(max_examples=60, deadline=None)
@given(data=st.data(), plan=PLANS)
def test_whatever_is_adopted_the_tree_is_the_chosen_ones_and_every_history_is_sound(
    data: st.DataObject, plan: Plan, tmp_path_factory: pytest.TempPathFactory
) -> None:
    store = GitStore.open(tmp_path_factory.mktemp("a") / "r.git", create=True, durability="crash")
    world = World(store, plan)
    _work(data, world)
    fork = world.loops.fork("ops~1" if len(list(store.line(store.heads()[OPS]))) > 1 else "ops", "fork")
    other = World.resumed(store, "fork")
    _work(data, other)
    _work(data, world)
    chosen, before = other.saved(), world.saved()
    children = world.history.tree
    theirs = [saved.state for saved in children(chosen)]
    heads = dict(store.heads())
    try:
        adopted = world.loops.adopt("fork", "ops", why="so", by=ADA)
    except (Unrelated, StillRunning):
        assert store.heads() == heads
        return
    assert fork.loop not in store.heads()
    assert tree(store, "loops/ops") == tree(store, chosen.commit)
    assert store.read(adopted.commit).parents[:2] == (before.commit, chosen.commit)
    assert [saved.state for saved in children(world.saved())] == theirs
    # Nothing that there was is out of reach.
    reach = git(Path(store.location), "rev-list", "--all").split()
    assert set(heads.values()) <= set(reach)
    assert world.loops.verify().faults == ()
    done = World.resumed(store, "ops")
    done.end(lambda _: data.draw(st.sampled_from(["approve", "reject"])))
    assert world.loops.verify().faults == ()
    assert GitStore.open(store.location).read(done.saved().commit).state == done.saved().state
    store.close()


def _work(data: st.DataObject, world: World) -> None:
    for _ in range(data.draw(st.integers(0, 12))):
        try:
            due, waiting = list(world.due()), world.loops.pending(world.root)
            if due and (not waiting or data.draw(st.booleans())):
                world.perform(data.draw(st.sampled_from(due)))
            elif waiting:
                world.decide(data.draw(st.sampled_from(waiting)), data.draw(st.sampled_from(["approve", "reject"])))
        except ConflictError:
            pass


def test_a_nested_loop_goes_on_as_a_fork_of_it_and_its_parent_hears_of_it(store: GitStore) -> None:
    world = World(store, NESTED)
    world.settle()
    nested = next(name for name in store.heads() if name != OPS)
    world.loops.fork(nested, "fork")
    ended = World.resumed(store, "fork").end(lambda _: "reject")
    adopted = world.loops.adopt("fork", nested, by=ADA)
    assert (adopted.loop, adopted.state) == (nested, ended.state)
    parent = world.history.load(loop_name(nested.rpartition(".")[0]))
    assert adopted in world.history.children(parent).values()
    assert world.loops.verify().faults == ()
    assert world.end(lambda _: "approve").state.status is Status.COMPLETED
    assert world.loops.verify().faults == ()


def test_a_nested_loop_that_has_no_branch_yet_gets_one(store: GitStore) -> None:
    world = World(store, NESTED)
    world.settle()
    nested = next(name for name in store.heads() if name != OPS)
    world.loops.fork(nested, "fork")
    World.resumed(store, "fork").end(lambda _: "reject")
    git(Path(store.location), "branch", "loops/copy", "loops/ops")
    adopted = world.loops.adopt("fork", nested.replace("ops", "copy"), by=ADA)
    assert store.head(loop_name(nested.replace("ops", "copy"))) == adopted.commit
    assert World.resumed(store, "copy").end(lambda _: "approve").state.status is Status.COMPLETED
    assert world.loops.verify().faults == ()


def test_what_is_no_fork_is_not_adopted(store: GitStore) -> None:
    world = tried(store)
    World(store, ["order"], "stranger").settle()
    heads = store.heads()
    for branch, over in (("stranger", []), ("ops", []), ("yes", ["yes"]), ("yes", ["ops"])):
        with pytest.raises(Unrelated):
            world.loops.adopt(branch, "ops", over=over, by=ADA)
    with pytest.raises(NoSuchLoop):
        world.loops.adopt("nothing", "ops", by=ADA)
    with pytest.raises(NoSuchLoop):
        world.loops.adopt("yes", "ops", over=["nothing"], by=ADA)
    assert store.heads() == heads


@pytest.mark.parametrize("driven", ["ops", "yes", "no"])
def test_what_is_driven_is_not_touched(store: GitStore, driven: str) -> None:
    world = tried(store)
    heads = store.heads()
    claim = claim_of(WORKERS[0], world.now())
    lease = store.move_lease(loop_name(driven), None, msgspec.json.encode(claim))
    with pytest.raises(StillDriven, match=f"{driven} is being driven"):
        world.loops.adopt("yes", "ops", over=["no"], by=ADA)
    assert store.heads() == heads
    store.move_lease(loop_name(driven), lease, None)
    world.loops.adopt("yes", "ops", over=["no"], by=ADA)
    assert all(store.lease(name) is None for name in heads)


@pytest.mark.parametrize("running", ["ops", "fork"])
def test_what_runs_is_not_touched(store: GitStore, running: str) -> None:
    world = World(store, ["look"])
    world.perform(next(world.due()))
    world.loops.fork("ops", "fork")
    other = world if running == "ops" else World.resumed(store, "fork")
    while not any(call.state == "running" for call in other.saved().state.calls):
        other.perform(next(other.due()))
    with pytest.raises(StillRunning, match=f"look-1 runs in {running}"):
        world.loops.adopt("fork", "ops", by=ADA)


def test_a_loop_that_moves_meanwhile_is_not_overrun(store: GitStore, monkeypatch: pytest.MonkeyPatch) -> None:
    world = tried(store)
    moves = store.move_all

    def late(*given: object) -> None:
        monkeypatch.setattr(store, "move_all", moves)
        world.loops.tell("no", "One more thing.", by=ADA)
        moves(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(store, "move_all", late)
    before = store.heads()
    with pytest.raises(Moved):
        world.loops.adopt("yes", "ops", over=["no"], by=ADA)
    assert {**store.heads(), loop_name("no"): None} == {**before, loop_name("no"): None}


# Verification ------------------------------------------------------------------------------------------------------

Forge = Callable[[Store, Saved, Saved], tuple[CommitId, tuple[CommitId, ...], str]]


def honest(before: Saved, chosen: Saved) -> str:
    tips = Tip(loop=chosen.loop, commit=chosen.commit), Tip(loop=before.loop, commit=before.commit)
    mark = Chosen(at=EPOCH, branch=tips[0], over=tips[1:], by=ADA)
    return describe_mark(before.loop, mark, chosen.state).message


FORGERIES: dict[str, tuple[str, Forge]] = {
    "another tree": (
        "Chosen changed the loop",
        lambda store, ops, yes: (ops.commit, (ops.commit, yes.commit), honest(ops, yes)),
    ),
    "another branch than it says": (
        "its second parent is",
        lambda store, ops, yes: (yes.commit, (ops.commit, yes.commit), honest(ops, ops)),
    ),
    "nothing that was chosen": (
        "follows nothing",
        lambda store, ops, yes: (ops.commit, (ops.commit,), honest(ops, yes)),
    ),
    "over nothing": (
        "does not say over what",
        lambda store, ops, yes: (yes.commit, (ops.commit, yes.commit), honest(yes, yes)),
    ),
    "a parent too many": (
        "further parents",
        lambda store, ops, yes: (yes.commit, (ops.commit, yes.commit, ops.commit), honest(ops, yes)),
    ),
    "a stranger": (
        "no past in common",
        lambda store, ops, yes: (
            store.heads()[loop_name("stranger")],
            (ops.commit, store.heads()[loop_name("stranger")]),
            honest(ops, History(store).load(loop_name("stranger"))),
        ),
    ),
    "a score that changes": (
        "Scored changed the loop",
        lambda store, ops, yes: (yes.commit, (ops.commit,), scored(ops, "Score: 1")),
    ),
    "a score that is none": (
        "it tells no score",
        lambda store, ops, yes: (ops.commit, (ops.commit,), scored(ops, "Score: much")),
    ),
    "a variant that is none": (
        "it tells no variant",
        lambda store, ops, yes: (ops.commit, (ops.commit,), scored(ops, "Score: 1").replace("Scored", "Tried")),
    ),
}


def scored(ops: Saved, score: str) -> str:
    mark = Scored(at=EPOCH, evaluator="e", score=1.5)
    return describe_mark(ops.loop, mark, ops.state).message.replace("Score: 1.5", score)


@pytest.mark.parametrize("memory", [True, False])
@pytest.mark.parametrize("name", FORGERIES)
def test_a_mark_that_is_not_what_it_says_is_found(store: GitStore, name: str, memory: bool) -> None:
    used = MemoryStore() if memory else store
    world = tried(used)
    World(used, ["order"], "stranger").settle()
    ops, yes = world.saved(), world.history.load(loop_name("yes"))
    what, forge = FORGERIES[name]
    commit, parents, message = forge(used, ops, yes)
    made = used.mark(commit, parents=parents, message=message, author=ADA, committer=ADA, at=EPOCH)
    used.move(OPS, ops.commit, made.id)
    found = [fault.what for fault in world.loops.verify().faults]
    assert any(what in one for one in found), found


def test_a_score_is_a_commit_that_changes_nothing_and_git_finds_it(store: GitStore) -> None:
    world = World(store, NESTED)
    saved = world.settle()
    mark = Scored(at=world.now(), evaluator="tests", score=0.1 + 0.2, note="two of\nthree\n\nScore: 9")
    made = world.history.score(saved, mark, ROBOT, ROBOT)
    assert tree(store, "loops/ops") == tree(store, saved.commit)
    folder = Path(store.location)
    assert git(folder, "log", "-1", "--format=%(trailers:key=Score,valueonly)", "loops/ops") == "0.30000000000000004"
    assert git(folder, "log", "--format=%h", "--grep=^Event: Scored", "--all").split() == [made.commit[:7]]
    assert score_of(made.message) == ("tests", 0.1 + 0.2, "two of three Score: 9")
    assert (made.state, world.saved()) == (saved.state, made)
    assert world.loops.verify().faults == ()
    with pytest.raises(Moved):
        world.history.score(saved, mark, ROBOT, ROBOT)
    world.end(lambda _: "approve")
    assert world.loops.verify().faults == ()
    git(folder, "fsck", "--strict")


# Policies ----------------------------------------------------------------------------------------------------------


async def test_a_policy_is_not_got_around_by_adopting(tmp_path: Path) -> None:
    shop = Shop()
    world = shop_world(tmp_path, shop, None, needs_approval=True)
    await world.run()
    loops = world.loops()
    for name in ("approved", "rejected"):
        loops.fork("x", name)
    loops.approve("approved.order-1", by=ADA)
    loops.reject("rejected.order-1", "no", by=EDITH)
    world.options["policy"] = rule(by=(ADA.email,))
    # An approval is of the loop in which it was given.
    loops.fork("x", "first")
    loops.adopt("approved", "first", by=EDITH)
    (asked,) = (await world.resume("first")).pending
    assert (asked.kind, shop.ran) == ("approval", [])
    assert "the approval by Ada Lovelace <ada@example.com> was given in approved, not here" in asked.remark
    loops.approve(asked, by=ADA)
    assert (await world.resume("first")).status is Status.COMPLETED
    assert shop.ran == ["tea"]
    # What nobody had the right to decide is found in the history that the loop has now.
    loops.fork("x", "second")
    loops.adopt("rejected", "second", by=EDITH)
    (gate,) = (await world.resume("second")).pending
    assert (gate.kind, gate.gate) == ("gate", "policy")
    assert f"the decision by {EDITH} does not count" in gate.text


async def test_a_choice_that_changes_the_loop_is_no_way_around_a_policy(tmp_path: Path) -> None:
    world = shop_world(tmp_path, Shop(), None, needs_approval=True)
    await world.run()
    loops, history = world.loops(), History(GitStore.open(tmp_path / "r.git"))
    loops.fork("x", "fork")
    rejected = loops.reject("fork.order-1", "no", by=EDITH)
    x = history.load(loop_name("x"))
    forged = history.store.mark(
        rejected.commit, parents=(x.commit, x.commit), message=honest(x, x), author=ADA, committer=ADA, at=EPOCH
    )
    history.store.move(x.loop, x.commit, forged.id)
    world.options["policy"] = rule(by=(ADA.email,))
    (gate,) = (await world.resume()).pending
    assert gate.gate == "policy"
    assert "that says to change nothing" in gate.text
