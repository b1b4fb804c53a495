"""Pruning: the middle of a history becomes one commit, its ends stay what they were, and verification says so."""

import json
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from caesura.continuations import (
    Assistant,
    CallState,
    CommitId,
    Continuation,
    Cut,
    Function,
    GitStore,
    History,
    LoopName,
    Loops,
    ModelReplied,
    Move,
    Moved,
    Nested,
    NoSuchLoop,
    NotPrunable,
    Pruned,
    Reply,
    Resumed,
    Saved,
    StillDriven,
    Told,
    ToolRequest,
    Unavailable,
    Unclean,
    User,
    Visibility,
    WorkerId,
    claim_of,
    compare,
    loop_name,
    utc_now,
)
from tests.damage import git, is_whole, object_of, snapshot
from tests.killed import killed_after
from tests.strategies import ADA, GRACE, NESTED, World, proposal_for

OPS = loop_name("ops")


def asked(world: World, *tools: str) -> None:
    """Tell a loop that has ended to go on; it calls these tools, and comes to its end once all are approved."""
    world.commit(world.saved(), Told(at=world.now(), message=User(content="And more."), by=ADA))
    saved, at = world.saved(), world.now()
    if saved.state.worker != world.worker:
        saved = world.commit(saved, Resumed(at=at, worker=world.worker))
    requests = tuple(
        ToolRequest(id=f"{at.timestamp():.0f}-{place}", function=Function(name=name, arguments=json.dumps({"item": 1})))
        for place, name in enumerate(tools)
    )
    event = ModelReplied(
        at=at,
        reply=Reply(message=Assistant(content="Yes.", tool_calls=requests)),
        shown=len(saved.state.messages),
        proposals=tuple(proposal_for(saved.state, one, f"{world.root} {one.id}", ask=False, at=at) for one in requests),
    )
    world.commit(saved, event)
    world.end(lambda _: "approve")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A loop that went through several rounds, with others nested in its first, and one beside it."""
    folder = tmp_path / "r"
    world = World(GitStore.open(folder, create=True), NESTED)
    world.end(lambda _: "approve")
    for tools in (("look",), ("order",), ("look", "look"), ("order", "look")):
        asked(world, *tools)
    World(GitStore.open(folder), ["look"], "other").settle()
    return folder


@pytest.fixture
def loops(folder: Path) -> Iterator[Loops]:
    with Loops.open(folder) as opened:
        yield opened


def line(folder: Path, loop: str = "loops/ops") -> list[str]:
    return git(folder, "rev-list", "--first-parent", "--reverse", loop).splitlines()


def told(folder: Path, commits: list[str]) -> list[str]:
    """All of commits but their parents and their messages' last trailers."""
    form = "%T %an %ae %ad %cn %ce %cd %B"
    return [git(folder, "log", "-1", f"--format={form}", one).partition("\nWas: ")[0].strip() for one in commits]


def objects(folder: Path) -> set[str]:
    return set(git(folder, "cat-file", "--batch-all-objects", "--batch-check=%(objectname)").split())


def check_pruned(folder: Path, before: list[str], kept: list[str], keep: int) -> None:
    """What is so of a loop that was pruned: `before` is its commits, `kept` what was told of the last of them."""
    after = line(folder)
    assert len(after) < len(before)
    assert after[0] == before[0]
    assert told(folder, after[-keep:]) == kept
    assert [git(folder, "log", "-1", "--format=%(trailers:key=Was,valueonly)", one) for one in after[-keep:]] == (
        before[-keep:]
    )
    assert is_whole(folder)
    with Loops.open(folder) as opened:
        report = opened.verify()
        assert report.faults == ()
        assert any("cannot be checked any more" in note for note in report.notes)


@pytest.mark.parametrize("archived", [False, True])
@pytest.mark.parametrize("packed", [False, True])
def test_the_middle_becomes_one_commit_and_the_ends_stay(
    folder: Path, loops: Loops, packed: bool, archived: bool
) -> None:
    before, state, nested = line(folder), loops.show("ops").state, line(folder, "loops/ops.team-1")
    kept = told(folder, before[-3:])
    if packed:
        git(folder, "repack", "-a", "--quiet")
        for file in folder.glob("objects/[0-9a-f][0-9a-f]/*"):
            file.unlink()
    if archived:
        loops.archive("ops")
    others = set(git(folder, "rev-list", "--objects", "--no-object-names", "loops/other").split())
    there = objects(folder)
    done = loops.prune("ops", keep=3, by=GRACE)
    assert isinstance(done, Pruned)
    assert done.done
    assert done.gone > 50
    assert len(there - objects(folder)) == done.gone
    assert others <= objects(folder)
    if archived:
        assert loops.archived().keys() == {"ops", "ops.team-1", "ops.team-1.team-1"}
        loops.restore("ops")
    check_pruned(folder, before, kept, 3)
    after = line(folder)
    assert len(after) == 9, "the last round, of seven commits, was cut in two"
    squash = git(folder, "log", "-1", "--format=%an|%s|%b", after[1])
    assert squash.startswith(f"{GRACE.name}|ops: pruned {len(before) - 8} commits|")
    assert f"Commits: {len(before) - 8}\nFrom: {before[1]}\nTo: {before[-8]}" in squash
    assert object_of(folder, f"{after[1]}^{{tree}}") not in ("", object_of(folder, f"{after[0]}^{{tree}}"))
    assert loops.show("ops").state == state
    # One round is all that was nested, and stays.
    assert line(folder, "loops/ops.team-1") == nested


def test_a_pruned_loop_goes_on_is_forked_compared_and_pruned_again(folder: Path, loops: Loops) -> None:
    loops.prune("ops", keep=2, by=GRACE)
    world = World.resumed(GitStore.open(folder), "ops")
    asked(world, "order", "look")
    assert world.saved().state.status == "completed"
    loops.fork("ops~2", "fork")
    assert compare(History(GitStore.open(folder)), "ops", "fork").divergence is not None
    assert loops.verify().faults == ()
    before = line(folder)
    kept = told(folder, before[-2:])
    loops.prune("ops", keep=2, by=GRACE)
    check_pruned(folder, before, kept, 2)
    squashed = git(folder, "log", "--first-parent", "--format=%(trailers:key=Commits,valueonly)", "loops/ops").split()
    assert len(squashed) == 1
    assert int(squashed[0]) > len(before) - 4, "what an earlier squash stood for was forgotten"
    with Loops.open(folder) as opened:
        assert opened.prune("ops", keep=2, by=GRACE).cuts == ()


def test_a_decision_that_stays_is_still_bound_to_what_was_shown(folder: Path, loops: Loops) -> None:
    seen = git(folder, "log", "--first-parent", "--format=%(trailers:key=Seen,valueonly)", "-8", "loops/ops").split()
    assert seen
    loops.prune("ops", keep=8, by=GRACE)
    assert git(folder, "cat-file", "-t", seen[0], check=False) == "", "what it was is there still"
    assert loops.verify().faults == ()
    assert f"Was: {seen[0]}" in git(folder, "log", "--first-parent", "--format=%B", "loops/ops")


def test_what_a_fork_holds_stays_with_the_fork(folder: Path, loops: Loops) -> None:
    middle = line(folder)[6]
    loops.fork(middle, "fork")
    theirs = set(git(folder, "rev-list", "--objects", "--no-object-names", "loops/fork").split())
    loops.prune("ops", keep=1, by=GRACE)
    assert theirs <= objects(folder)
    assert line(folder, "loops/fork")[-1] == middle
    report = loops.verify()
    assert report.faults == ()
    assert is_whole(folder)


def test_a_standing_decision_keeps_its_commit(tmp_path: Path) -> None:
    store = GitStore.open(tmp_path / "r", create=True)
    world = World(store, ["order"])
    world.settle()
    world.loops.approve("ops.order-1", by=ADA, always="tool")
    world.end(lambda _: "approve")
    for _ in range(3):
        asked(world, "order")
    rules = world.saved().state.rules
    assert len(rules) == 1
    world.loops.prune("ops", keep=1, by=GRACE)
    assert world.loops.verify().faults == ()
    decided = git(tmp_path / "r", "log", "--first-parent", "--format=%s", "--grep=^Scope: tool", "loops/ops")
    assert len(decided.splitlines()) == 1
    asked(world, "order")
    assert world.loops.verify().faults == ()


def test_nothing_is_written_before_it_is_agreed_to(folder: Path, loops: Loops) -> None:
    before = snapshot(folder)
    planned = loops.prune("ops", "other", keep=3, by=GRACE, agree=lambda cuts: False)
    assert (planned.done, planned.gone) == (False, 0)
    assert (planned.cuts[0].loop, planned.cuts[0].before, planned.cuts[0].after) == ("ops", len(line(folder)), 9)
    assert snapshot(folder) == before


def test_what_works_waits_is_nested_or_is_driven_keeps_its_history(folder: Path, loops: Loops) -> None:
    store = GitStore.open(folder)
    World(store, ["order"], "waits").settle()
    lease = store.move_lease(OPS, None, msgspec.json.encode(claim_of(WorkerId("w"), utc_now())))
    before = snapshot(folder)
    for loop, error in (("waits", NotPrunable), ("ops", StillDriven), ("ops.team-1", Nested), ("nothing", NoSuchLoop)):
        with pytest.raises(error):
            loops.prune(loop, keep=1, by=GRACE)
        assert snapshot(folder) == before
    store.move_lease(OPS, lease, None)
    # Others may work meanwhile.
    store.move_lease(loop_name("waits"), None, msgspec.json.encode(claim_of(WorkerId("w"), utc_now())))
    assert loops.prune("ops", keep=1, by=GRACE).done


def test_what_would_be_in_the_way_is_told_before_anything_is_done(folder: Path, loops: Loops, tmp_path: Path) -> None:
    """Whoever is shown what would be done is not refused what was promised when it is."""

    def refused(what: str) -> None:
        before = snapshot(folder)
        with pytest.raises((NotPrunable, Unavailable, Unclean), match=what):
            loops.prune("ops", keep=1, by=GRACE, agree=lambda cuts: False)
        assert snapshot(folder) == before
        with pytest.raises((NotPrunable, Unavailable, Unclean), match=what):
            loops.prune("ops", keep=1, by=GRACE)

    git(folder, "worktree", "add", "--quiet", str(tmp_path / "w"), "loops/ops")
    refused("refs/heads/loops/ops is checked out")
    git(folder, "worktree", "remove", str(tmp_path / "w"))
    (folder / "objects" / "tmp_obj_stranger").touch()
    refused("tmp_obj_stranger is half an object")
    (folder / "objects" / "tmp_obj_stranger").unlink()
    head = object_of(folder, "loops/ops")
    forged = git(folder, "log", "-1", "--format=%B", head).replace("Status: completed", "Status: failed")
    bad = git(folder, "commit-tree", f"{head}^{{tree}}", "-p", f"{head}~1", "-m", forged)
    git(folder, "update-ref", "refs/heads/loops/ops", bad)
    refused("ops would have a fault at")
    git(folder, "update-ref", "refs/heads/loops/ops", head)
    loops.archive("ops")
    assert not loops.prune("ops", keep=1, by=GRACE, agree=lambda cuts: False).done
    assert loops.prune("ops", keep=1, by=GRACE).done


@pytest.mark.parametrize("visibility", ["step", "sealed"])
def test_what_would_be_pruned_is_what_is(folder: Path, visibility: Visibility) -> None:
    with Loops.open(folder, visibility=visibility) as loops:
        loops.tell("ops", "Go on.", by=ADA)
        loops.cancel("ops", by=ADA)
        planned = loops.prune("ops", keep=1, by=GRACE, agree=lambda cuts: False)
        assert planned.cuts
        assert loops.prune("ops", keep=1, by=GRACE).cuts == planned.cuts


def test_a_signed_history_stays_whole(folder: Path, loops: Loops) -> None:
    store = GitStore.open(folder)
    signing = History(
        store, sign=lambda content, author: "-----BEGIN SSH SIGNATURE-----\nx\n-----END SSH SIGNATURE-----"
    )
    told = Told(at=utc_now(), message=User(content="Signed."), by=ADA)
    signing.append(signing.load(OPS), told, ADA)
    loops.cancel("ops", by=ADA)
    before = snapshot(folder)
    with pytest.raises(NotPrunable, match="ops holds 1 signed commit"):
        loops.prune("ops", keep=1, by=GRACE)
    assert snapshot(folder) == before


def test_a_loop_that_is_moved_meanwhile_keeps_what_came(folder: Path, loops: Loops) -> None:
    def agree(cuts: tuple[Cut, ...]) -> bool:
        loops.tell("ops", "One thing more.", by=ADA)
        return True

    with Loops.open(folder) as late, pytest.raises(NotPrunable, match="has not ended"):
        late.prune("ops", keep=1, by=GRACE, agree=agree)
    before = line(folder)
    keeper = GitStore.open(folder).keeper()
    stale = Move(loop=OPS, old=CommitId(before[-2]), new=CommitId(before[0]))
    with pytest.raises(Moved):
        keeper.prune(OPS, [stale], lambda leased: None)
    loops.cancel("ops", by=ADA)
    assert line(folder)[: len(before)] == before
    assert loops.prune("ops", keep=1, by=GRACE).gone
    assert loops.verify().faults == ()


@settings(max_examples=10)
@given(
    rounds=st.lists(st.lists(st.sampled_from(["look", "order"]), min_size=1, max_size=3), min_size=1, max_size=4),
    keep=st.integers(1, 12),
    plan=st.sampled_from([["look"], ["order", ["look"]]]),
)
def test_whatever_a_loop_did_its_pruned_history_has_no_fault(
    tmp_path_factory: pytest.TempPathFactory, rounds: list[list[str]], keep: int, plan: list[object]
) -> None:
    folder = tmp_path_factory.mktemp("r") / "r"
    world = World(GitStore.open(folder, create=True), plan)
    world.end(lambda request: "reject" if request.kind == "approval" and "1" in request.commit else "approve")
    for tools in rounds:
        asked(world, *tools)
    before = line(folder)
    kept, state = told(folder, before[-keep:]), world.saved().state
    done = world.loops.prune("ops", keep=keep, by=GRACE)
    if any(cut.loop == "ops" for cut in done.cuts):
        check_pruned(folder, before, kept, min(keep, len(before)))
    with Loops.open(folder) as opened:
        assert opened.verify().faults == ()
        assert opened.show("ops").state == state


def test_a_pruning_that_is_killed_anywhere_is_finished_by_the_next(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = line(folder)
    kept = told(folder, before[-2:])

    def work(opened: Loops) -> None:
        opened.prune("ops", keep=2, by=GRACE)

    calls = killed_after(10**6, folder, tmp_path / "whole", work, monkeypatch)
    whole = objects(tmp_path / "whole")
    for last in range(0, calls, 17):
        copy = tmp_path / str(last)
        assert killed_after(last, folder, copy, work, monkeypatch) <= last
        with Loops.open(copy) as opened:
            assert opened.verify().faults == ()
            work(opened)
            assert opened.verify().faults == ()
        check_pruned(copy, before, kept, 2)
        assert not list(copy.glob("caesura.pruning*"))
        assert not (set(before[1:]) & objects(copy))
    assert len(whole) < len(objects(folder))


# Forged --------------------------------------------------------------------------------------------------------------


def forged(store: GitStore, saved: Saved, state: Continuation, *more: CommitId, change: str = "") -> None:
    """Put a commit on a loop's branch that claims to stand for many."""
    said = (
        f"ops: pruned 5 commits\n\nLoop: ops\nAgent: {state.agent}\nEvent: Pruned\nStatus: {state.status.value}\n"
        f"Commits: 5\nFrom: {saved.commit}\nTo: {saved.commit}\n"
    )
    old, _, new = change.partition("->")
    commit = store.write(
        state,
        parents=(saved.commit, *more),
        message=said.replace(old, new) if change else said,
        author=ADA,
        committer=ADA,
    )
    store.move(saved.loop, saved.commit, commit.id)


def test_what_stands_for_many_steps_lets_nothing_happen(tmp_path: Path) -> None:
    store = GitStore.open(tmp_path / "r", create=True)
    world = World(store, ["order"])
    waiting = world.settle()
    (call,) = waiting.state.calls
    done = world.end(lambda _: "approve")
    ended = done.state
    start = CommitId(line(tmp_path / "r")[0])
    first = Saved(loop=OPS, commit=start, message="", state=store.read(start).state)
    replace = msgspec.structs.replace
    approved = replace(waiting.state, calls=(replace(call, state=CallState.APPROVED),))
    forgeries: dict[str, tuple[Saved, Continuation, tuple[CommitId, ...], str]] = {
        "while something was under way": (first, approved, (), ""),
        "changed its limit": (first, replace(ended, limit=replace(ended.limit, steps=10**6)), (), ""),
        "changed its nonce": (first, replace(ended, nonce="another"), (), ""),
        "messages that were there": (first, replace(ended, messages=ended.messages[1:]), (), ""),
        "does not tell which steps": (first, ended, (), "Commits: 5->Commits: 1"),
        "as a parent, and stands": (first, ended, (done.commit,), ""),
        "what was spent is less": (done, replace(first.state, messages=ended.messages, calls=ended.calls), (), ""),
        "its counters went back": (done, replace(ended, counters={}), (), ""),
    }
    for place, (what, (saved, state, more, change)) in enumerate(forgeries.items()):
        name = LoopName(f"forged{place}")
        store.move(name, None, saved.commit)
        forged(store, replace(saved, loop=name), state, *more, change=change)
        found = " | ".join(fault.what for fault in world.loops.verify(name).faults)
        assert what in found, f"{what}: {found}"
    store.move(LoopName("sound"), None, first.commit)
    forged(store, replace(first, loop=LoopName("sound")), ended)
    assert world.loops.verify("sound").faults == ()


def test_a_commit_is_not_taken_for_another_that_it_says_it_was(folder: Path, loops: Loops) -> None:
    store = GitStore.open(folder)
    commits = line(folder)
    for name, was in (("before", commits[3]), ("after", commits[4])):
        head = store.read(CommitId(commits[5]))
        message = head.message.rstrip("\n") + f"\nWas: {was}\n"
        made = store.keeper().written_again(head.id, head.parents, message, None, utc_now())
        store.move(LoopName(name), None, made)
        assert any("it is not what" in fault.what for fault in loops.verify("ops", name).faults)
