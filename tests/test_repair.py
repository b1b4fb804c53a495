"""Repair under real damage: the loop goes on, nothing runs twice unasked, nothing is deleted."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given

from caesura.continuations import (
    CallId,
    CallState,
    GitStore,
    Loops,
    MemoryStore,
    NoSuchLoop,
    Plan,
    Repair,
    Repaired,
    Request,
    Resumed,
    SavedStateError,
    StillDriven,
    ToolReturned,
    Unavailable,
    WorkerId,
    claim_of,
    loop_name,
    outstanding,
    step,
)
from caesura.continuations._candidates import Candidate, newest
from caesura.continuations._state import FORMAT
from tests.damage import (
    HOW,
    REFS,
    copied,
    file_of,
    git,
    is_whole,
    object_of,
    snapshot,
    tear,
    tear_in_pack,
)
from tests.strategies import ADA, EPOCH, GRACE, NESTED, ROBOT, Step, World, last, sequences

LEVELS = {"root": "ops", "nested": "ops.team-1"}
PARTS = {
    "commit": "loops/{}",
    "tree": "loops/{}^{{tree}}",
    "folder": "loops/{}:messages",
    "record": "loops/{}:continuation.json",
    "message": "loops/{}:messages/00/01.json",
}


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tree of loops that waits for three approvals, one of which has been given."""
    folder = tmp_path_factory.mktemp("template") / "caesura"
    store = GitStore.open(folder, create=True)
    world = World(store, NESTED)
    world.settle()
    world.decide("ops.order-1", "approve")
    world.decide("ops.team-1.order-1", "approve")
    store.close()
    return folder


@pytest.fixture
def folder(template: Path, tmp_path: Path) -> Path:
    return copied(template, tmp_path / "caesura")


@pytest.fixture
def loops(folder: Path) -> Iterator[Loops]:
    with Loops.open(folder) as opened:
        yield opened


def check_repaired(folder: Path, loops: Loops, before: dict[str, bytes], repaired: Repair) -> None:
    """What is so after every repair: git and Caesura find no fault, a person must look, and nothing is gone."""
    assert loops.verify().faults == ()
    for saved in repaired.loops:
        assert saved.state.gate is not None
        assert saved.state.gate.kind == "repaired"
        assert outstanding(saved.state) == ()
        found = loops.show(saved.loop)
        assert found.commit == saved.commit
        assert "repaired: steps after" in found.message
        assert f"{saved.loop}.{saved.state.gate.id}" in {request.id for request in loops.pending()}
    after = list(snapshot(folder).values())
    assert [name for name, data in before.items() if data not in after and not name.startswith("refs/")] == []
    assert not loops.repair(by=GRACE).done


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("part", PARTS)
def test_a_loop_whose_newest_object_is_torn_goes_on_from_the_last_good_commit(
    folder: Path, loops: Loops, part: str, how: str, level: str
) -> None:
    loop = LEVELS[level]
    old = object_of(folder, f"loops/{loop}")
    tear(file_of(folder, object_of(folder, PARTS[part].format(loop))), how)
    assert not is_whole(folder)
    before = snapshot(folder)
    faults = loops.verify().faults
    assert any(fault.hint.startswith("'caesura repair ") for fault in faults), faults
    repaired = loops.repair(loop, by=ADA)
    mend = next(one for one in repaired.plan.mends if one.loop == loop)
    assert old in mend.lost
    assert is_whole(folder)
    check_repaired(folder, loops, before, repaired)
    commit = next(saved.commit for saved in repaired.loops if saved.loop == loop)
    assert git(folder, "log", "-1", "--format=%an %(trailers:key=Lost,valueonly,separator=%x2C)", commit) == (
        f"{ADA.name} {','.join(mend.lost)}"
    )
    assert git(folder, "rev-parse", f"{commit}^") == mend.good


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("content", REFS)
def test_a_loop_whose_branch_is_torn_is_found_by_what_its_commits_say(
    folder: Path, loops: Loops, content: str, level: str
) -> None:
    loop = LEVELS[level]
    head = object_of(folder, f"loops/{loop}")
    (folder / "refs/heads/loops" / loop).write_bytes(REFS[content].replace(b"LOOP", loop.encode()))
    assert not is_whole(folder)
    before = snapshot(folder)
    assert len(loops.verify().faults) == 1
    repaired = loops.repair(by=ADA)
    (saved,) = repaired.loops
    assert saved.loop == loop
    # An approval that nothing follows may be one that lost to another: only if nothing is missing is it taken.
    kept = head if content != "to nothing" else object_of(folder, f"{head}^")
    assert git(folder, "rev-parse", f"{saved.commit}^") == kept
    assert is_whole(folder)
    if content != "to nothing":
        assert [(folder / name).read_bytes() for name in repaired.kept] == [before[f"refs/heads/loops/{loop}"]]
    check_repaired(folder, loops, before, repaired)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("how", [*HOW, "an absurd length"])
def test_a_torn_pack_is_left_alone_and_its_loops_taken_back_or_from_a_copy(
    folder: Path, tmp_path: Path, how: str, level: str
) -> None:
    loop = LEVELS[level]
    copy = copied(folder, tmp_path / "copy")
    git(folder, "repack", "-aq")
    git(folder, "prune-packed")
    git(folder, "pack-refs", "--all")
    record = object_of(folder, f"loops/{loop}:continuation.json")
    tear_in_pack(folder, record, how)
    before = snapshot(folder)
    with Loops.open(folder) as loops:
        assert loops.verify().faults
        restored = loops.repair(copy=copy, by=ADA)
        assert record in restored.plan.restored
        assert restored.loops == ()
        assert loops.verify().faults == ()
        assert loops.show(loop).commit == object_of(copy, f"loops/{loop}")
    for name, data in before.items():
        assert (folder / name).read_bytes() == data
    copied(folder, tmp_path / "again")
    for file in (tmp_path / "again" / "objects").glob("[0-9a-f][0-9a-f]/*"):
        file.unlink()
    with Loops.open(tmp_path / "again") as loops:
        repaired = loops.repair(by=ADA)
        damaged = {mend.loop for mend in repaired.plan.mends} | {one.loop for one in repaired.plan.hopeless}
        assert loop in damaged
        if not repaired.plan.hopeless:
            assert loops.verify().faults == ()


@pytest.mark.parametrize("how", HOW)
def test_what_a_copy_still_has_is_taken_from_it_without_a_loss(
    folder: Path, loops: Loops, tmp_path: Path, how: str
) -> None:
    copy = tmp_path / "copy.git"
    git(folder, "clone", "--quiet", "--mirror", str(folder), str(copy))
    heads = git(folder, "for-each-ref", "refs/heads")
    torn = [object_of(folder, PARTS[part].format("ops")) for part in PARTS]
    for one in torn:
        tear(file_of(folder, one), how)
    repaired = loops.repair(copy=copy, by=ADA)
    assert set(torn) <= set(repaired.plan.restored)
    assert repaired.loops == ()
    assert git(folder, "for-each-ref", "refs/heads") == heads
    assert is_whole(folder)
    assert loops.verify().faults == ()
    assert len(repaired.kept) == (0 if how == "missing" else len(torn))


def test_a_branch_that_is_gone_is_brought_back_when_it_is_named(folder: Path, loops: Loops) -> None:
    head = object_of(folder, "loops/ops")
    (folder / "refs/heads/loops/ops").unlink()
    assert not loops.repair(by=ADA).plan.mends
    (saved,) = loops.repair("ops", by=ADA).loops
    assert git(folder, "rev-parse", f"{saved.commit}^") == head
    with pytest.raises(NoSuchLoop, match="no loop 'other', and no commit of one"):
        loops.repair("other", by=ADA)


def test_an_empty_list_of_branches_is_a_fault_and_its_loops_are_found_by_their_names(
    folder: Path, loops: Loops
) -> None:
    git(folder, "pack-refs", "--all")
    head = git(folder, "rev-parse", "loops/ops")
    (folder / "packed-refs").write_bytes(b"")  # which git takes for no branches at all
    for look in (loops.all, loops.pending, loops.verify):
        with pytest.raises(SavedStateError, match="packed"):
            look()
    assert loops.repair(by=ADA).plan.refs
    repaired = loops.repair("ops", by=ADA)
    assert "ops" in [saved.loop for saved in repaired.loops]
    git(folder, "merge-base", "--is-ancestor", head, "loops/ops")
    assert is_whole(folder)


@pytest.mark.parametrize("how", ["cut short", "a line of zeroes", "an id that is none"])
def test_a_torn_list_of_branches_keeps_its_whole_lines_and_loses_no_loop(folder: Path, loops: Loops, how: str) -> None:
    git(folder, "pack-refs", "--all")
    packed = folder / "packed-refs"
    heads = git(folder, "for-each-ref", "--format=%(refname)", "refs/heads").splitlines()
    data = packed.read_bytes()
    torn = {
        "cut short": data[:-9],
        "a line of zeroes": data + bytes(41) + b"\n",
        "an id that is none": data.replace(b" refs/heads/loops/ops\n", b"x refs/heads/loops/ops\n"),
    }[how]
    packed.write_bytes(torn)
    assert not is_whole(folder)
    before = snapshot(folder)
    repaired = loops.repair(by=ADA)
    assert len(repaired.plan.refs) == 1
    assert torn in [(folder / name).read_bytes() for name in repaired.kept]
    # The root is brought back because its line still names it; a nested loop is in its parent's commit.
    assert [saved.loop for saved in repaired.loops] == (["ops"] if how == "an id that is none" else [])
    lost = ["ops.team-1.team-1"] if how == "cut short" else []
    now = git(folder, "for-each-ref", "--format=%(refname)", "refs/heads").splitlines()
    assert now == [name for name in heads if name.removeprefix("refs/heads/loops/") not in lost]
    assert loops.show("ops.team-1.team-1").state.agent == "ops"
    check_repaired(folder, loops, before, repaired)
    assert is_whole(folder)


def test_a_torn_object_that_a_pack_has_too_is_moved_aside_and_nothing_is_lost(folder: Path, loops: Loops) -> None:
    git(folder, "repack", "-aq")
    heads = git(folder, "for-each-ref", "refs/heads")
    tear(file_of(folder, object_of(folder, "loops/ops")), "truncated")
    assert not is_whole(folder)
    repaired = loops.repair(by=ADA)
    assert (len(repaired.kept), repaired.loops) == (1, ())
    assert is_whole(folder)
    assert git(folder, "for-each-ref", "refs/heads") == heads


def test_a_damaged_past_is_no_reason_to_go_back(folder: Path, loops: Loops) -> None:
    head = object_of(folder, "loops/ops")
    tear(file_of(folder, object_of(folder, "loops/ops~1:continuation.json")), "zero length")
    assert loops.show("ops").commit == head
    repaired = loops.repair("ops", by=ADA)
    (hopeless,) = repaired.plan.hopeless
    assert hopeless.loop == "ops"
    assert "its past is damaged" in hopeless.why
    assert object_of(folder, "loops/ops") == head


def test_what_a_later_version_or_somebody_else_wrote_is_not_gone_back_behind(folder: Path, loops: Loops) -> None:
    record = git(folder, "show", "loops/ops:continuation.json").replace(f'"format": {FORMAT}', '"format": 99')
    newer = _with_record(folder, "loops/ops", record)
    strange = _with_record(folder, "loops/ops", "{}")
    for head, why in ((newer, "format 99"), (strange, "continuation.json cannot be read")):
        git(folder, "update-ref", "refs/heads/loops/ops", head)
        repaired = loops.repair("ops", by=ADA)
        assert not repaired.done
        assert why in repaired.plan.hopeless[0].why
        assert object_of(folder, "loops/ops") == head
    # Nor if the commit after it is torn.
    git(folder, "update-ref", "refs/heads/loops/ops", newer)
    after = _with_record(folder, "loops/ops", record + " ")
    git(folder, "update-ref", "refs/heads/loops/ops", after)
    tear(file_of(folder, object_of(folder, f"{after}^{{tree}}")), "truncated")
    assert not loops.repair("ops", by=ADA).done


def test_a_head_that_somebody_made_badly_is_not_gone_back_behind(folder: Path, loops: Loops) -> None:
    data = git(folder, "cat-file", "commit", "loops/ops").replace("> 17", "> 017", 1) + "\n"
    words = ["git", "-C", str(folder), "hash-object", "-w", "-t", "commit", "--literally", "--stdin"]
    bad = subprocess.run(words, input=data, capture_output=True, text=True, check=True).stdout
    (folder / "refs/heads/loops/ops").write_text(bad)
    repaired = loops.repair("ops", by=ADA)
    assert not repaired.done
    assert "is not well-formed" in repaired.plan.hopeless[0].why


def _with_record(folder: Path, base: str, record: str) -> str:
    """A commit after another, whose record is this."""
    written = subprocess.run(
        ["git", "-C", folder, "hash-object", "-w", "--stdin"], input=record, capture_output=True, text=True, check=True
    ).stdout.strip()
    lines = git(folder, "ls-tree", base).splitlines()
    lines = [f"100644 blob {written}\tcontinuation.json" if "continuation.json" in one else one for one in lines]
    tree = subprocess.run(
        ["git", "-C", folder, "mktree"], input="\n".join(lines) + "\n", capture_output=True, text=True, check=True
    ).stdout.strip()
    parents = git(folder, "show", "-s", "--format=%H %P", base).split()
    message = git(folder, "show", "-s", "--format=%B", base)
    words = [word for parent in (parents[0], *parents[2:]) for word in ("-p", parent)]
    return git(folder, "commit-tree", tree, *words, "-m", message)


def test_a_healthy_repository_is_not_touched(folder: Path, loops: Loops) -> None:
    before = snapshot(folder)
    assert not loops.repair(by=ADA).done
    assert not loops.repair("ops", by=ADA).done
    assert snapshot(folder) == before


def test_nothing_is_done_unless_it_is_agreed_to(folder: Path, loops: Loops) -> None:
    tear(file_of(folder, object_of(folder, "loops/ops")), "zero length")
    before = snapshot(folder)
    shown: list[Plan] = []

    def refuse(plan: Plan) -> bool:
        shown.append(plan)
        return False

    assert not loops.repair(by=ADA, agree=refuse).done
    assert [mend.loop for mend in shown[0].mends] == ["ops"]
    assert snapshot(folder) == before


def test_a_loop_that_a_living_worker_drives_is_not_repaired(folder: Path, loops: Loops) -> None:
    store = GitStore.open(folder)
    claim = claim_of(WorkerId("w"), loops._now().replace(year=2100))
    store.move_lease(loop_name("ops"), None, _encoded(claim))
    tear(file_of(folder, object_of(folder, "loops/ops.team-1")), "zero length")
    before = snapshot(folder)
    with pytest.raises(StillDriven, match="ops is being driven by process"):
        loops.repair(by=ADA)
    assert snapshot(folder) == before


def _encoded(value: object) -> bytes:
    import msgspec

    return msgspec.json.encode(value)


def test_a_store_in_memory_has_nothing_to_repair() -> None:
    with pytest.raises(Unavailable, match="in memory"):
        Loops(MemoryStore()).repair()


def test_the_loops_started_in_lost_steps_are_told_of(tmp_path: Path) -> None:
    folder = tmp_path / "caesura"
    store = GitStore.open(folder, create=True)
    World(store, NESTED).settle()
    tear(file_of(folder, object_of(folder, "loops/ops:messages/00/01.json")), "missing")
    repaired = Loops(store).repair("ops", by=ADA)
    assert len(repaired.plan.notes) == 2
    for note in repaired.plan.notes:
        git(folder, *note.rpartition(": git ")[2].split())
    names = git(folder, "for-each-ref", "--format=%(refname)").split()
    assert names == [f"refs/heads/loops/{name}" for name in ("ops", "ops-team-1", "ops-team-1.team-1")]
    world = World.resumed(store, "ops")
    world.decide("ops.gate-1", "approve")
    assert world.end(lambda _: "approve").state.ending is not None


def test_a_nested_branch_that_was_lost_with_its_parents_steps_is_brought_back(folder: Path, loops: Loops) -> None:
    world = World.resumed(GitStore.open(folder), "ops")
    world.worker = world.saved().state.worker
    world.perform(next(one for one in world.due() if one.loop == "ops.team-1" and one.event.name == "ToolStarted"))
    head = object_of(folder, "loops/ops.team-1")
    (folder / "refs/heads/loops/ops.team-1").unlink()
    assert not loops.repair(by=ADA).plan.mends
    tear(file_of(folder, object_of(folder, "loops/ops")), "zero length")
    repaired = loops.repair("ops", by=ADA)
    assert [saved.loop for saved in repaired.loops] == ["ops", "ops.team-1"]
    assert git(folder, "rev-parse", f"{repaired.loops[1].commit}^") == head
    assert next(call.state for call in repaired.loops[1].state.open_calls) is CallState.UNKNOWN
    # One that the parent's commit holds as it was last needs no branch.
    git(folder, "update-ref", "-d", "refs/heads/loops/ops.team-1.team-1")
    tear(file_of(folder, object_of(folder, "loops/ops.team-1")), "zero length")
    assert [saved.loop for saved in loops.repair("ops", by=ADA).loops] == ["ops.team-1"]


# Nothing runs twice unasked ------------------------------------------------------------------------------------------


@given(sequences())
def test_after_a_repair_nothing_that_may_have_run_can_run_before_a_person_has_decided(steps: list[Step]) -> None:
    state = last(steps)
    after = step(state, Repaired(at=state.at, reason="lost", by=ADA))
    assert outstanding(after) == outstanding(state) if state.ending is not None else outstanding(after) == ()
    for call in after.open_calls:
        tool = after.tool(call)
        if tool is None or not tool.idempotent:
            assert call.state not in (CallState.APPROVED, CallState.RUNNING)
        before = state.call(call.id)
        assert before is not None
        assert call.decision == before.decision
        if call.state is not before.state or call.state is CallState.AWAITING:
            assert "lost in a repair" in call.remark


@pytest.mark.parametrize("lost", range(1, 12))
def test_no_order_is_placed_twice_however_many_steps_are_lost(tmp_path: Path, lost: int) -> None:
    """The disk forgets the content of everything written in the last steps of all loops, as it may without syncs."""
    folder = tmp_path / "caesura"
    store = GitStore.open(folder, create=True)
    world = World(store, NESTED)
    world.settle()
    for request in world.loops.pending():
        world.decide(request, "approve")
    written: list[set[Path]] = []
    known = set((folder / "objects").glob("??/*"))
    while (due := next(world.due(), None)) is not None and len(written) < 14:
        world.perform(due)
        now = set((folder / "objects").glob("??/*"))
        written.append(now - known)
        known = now
    assert sum(world.runs.values()) >= 3
    for file in set().union(*written[-lost:]):
        file.chmod(0o644)
        file.write_bytes(b"")
    store.close()

    store = GitStore.open(folder)
    again = World.resumed(store, "ops")
    again.runs = world.runs
    repaired = again.loops.repair(by=ADA)
    assert repaired.loops
    assert again.loops.verify().faults == ()
    asked: list[Request] = []
    for _ in range(50):
        saved = again.settle()
        if saved.state.ending is not None:
            break
        for request in again.loops.pending("ops"):
            asked.append(request)
            _decide_with_care(again, request)
    assert again.saved().state.ending is not None
    assert {name: runs for name, runs in again.runs.items() if "order" in name and runs > 1} == {}
    assert any(request.gate == "repaired" for request in asked)
    assert again.loops.verify().faults == ()
    assert is_whole(folder)


def _decide_with_care(world: World, request: Request) -> None:
    """A person who knows from elsewhere that every order was placed."""
    if request.kind == "outcome":
        assert "lost in a repair" in request.remark
        world.loops.answer(request, "It was placed.", by=ADA)
    elif request.kind == "approval":
        world.decide(request, "reject")
    else:
        world.decide(request, "approve")


def test_the_late_result_of_a_lost_attempt_is_taken(folder: Path, loops: Loops) -> None:
    store = GitStore.open(folder)
    world = World.resumed(store, "ops")
    world.worker = world.saved().state.worker
    world.commit(world.saved(), Resumed(at=EPOCH, worker=world.worker))
    claim = next(one for one in world.due() if one.event.name == "ToolStarted" and one.loop == "ops")
    world.perform(claim)
    tear(file_of(folder, object_of(folder, "loops/ops")), "zero length")
    loops.repair("ops", by=ADA)
    call = loops.show("ops").state.call(CallId("order-1"))
    assert call is not None
    assert (call.state, call.attempt) == (CallState.UNKNOWN, 1)
    late = ToolReturned(at=EPOCH, call=call.id, attempt=1, content="Placed.")
    call = world.history.apply(world.saved(), late, ROBOT).state.call(call.id)
    assert call is not None
    assert call.state is CallState.RETURNED


# A decision that lost --------------------------------------------------------------------------------------------


def test_a_decision_that_lost_a_race_never_comes_to_count(folder: Path) -> None:
    """The rejection won and is torn; the approval that lost to it lies about in the repository, whole."""
    store = GitStore.open(folder)
    loops = Loops(store)
    (request,) = (one for one in loops.pending("ops") if one.id == "ops.order-2")
    head = loops.show("ops")
    loops.approve(request, by=GRACE)
    lost = loops.show("ops").commit
    git(folder, "update-ref", "refs/heads/loops/ops", head.commit)
    loops.reject(request, "no", by=ADA)
    winner = object_of(folder, "loops/ops")
    for tearing in ("zero length", "missing"):
        there = copied(folder, folder.parent / "there")
        tear(file_of(there, winner), tearing)
        with Loops.open(there) as damaged:
            repaired = damaged.repair(by=ADA)
            assert [mend.good for mend in repaired.plan.mends if mend.loop == "ops"] == [head.commit]
            call = damaged.show("ops").state.call(CallId("order-2"))
            assert call is not None
            assert (call.state, call.decision) == (CallState.AWAITING, None)
    assert lost != winner


def test_of_two_commits_that_nothing_follows_neither_is_taken() -> None:
    base, one, other = (Candidate(name, None, 1, False) for name in ("base", "one", "other"))  # type: ignore[arg-type]
    one, other = (replace_tuple(tip, base.id, 2) for tip in (one, other))
    everything = {tip.id: tip for tip in (base, one, other)}
    assert newest(everything, frozenset(), complete=True) == "base"
    assert newest(everything, frozenset({other.id}), complete=True) in ("base", "other")
    assert newest({base.id: base, one.id: one}, frozenset(), complete=False) == "one"
    person = one._replace(by_person=True)
    assert newest({base.id: base, person.id: person}, frozenset(), complete=False) == "base"
    assert newest({base.id: base, person.id: person}, frozenset(), complete=True) == "one"
    assert newest({base.id: base, person.id: person}, frozenset({person.id}), complete=False) == "one"
    assert newest({}, frozenset(), complete=True) is None


def replace_tuple(one: Candidate, previous: object, time: int) -> Candidate:
    return one._replace(previous=previous, time=time)  # type: ignore[arg-type]


# Killed half-way -------------------------------------------------------------------------------------------------

_KILLED = """
import os, signal, sys
from pathlib import Path
from caesura.continuations import Loops
from caesura.continuations.store import _disk
from tests.damage import copied, is_whole

template, folder = Path(sys.argv[1]), Path(sys.argv[2])
names = ("write", "append", "rename", "link", "unlink", "make_folder")  # to the others a kill makes no difference
_disk.sync = lambda path: None
kept = {name: getattr(_disk, name) for name in names}
kills = 0
while True:
    copied(template, folder)
    child = os.fork()
    if child == 0:
        left = kills
        def stand_between(name):
            def call(*arguments, **more):
                global left
                if left == 0:
                    os.kill(os.getpid(), signal.SIGKILL)
                left -= 1
                return kept[name](*arguments, **more)
            return call
        for name in names:
            setattr(_disk, name, stand_between(name))
        with Loops.open(folder) as loops:
            loops.repair(by="Ada <ada@example.com>")
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if os.WIFEXITED(status):
        assert status == 0
        break
    kills += 1
    with Loops.open(folder) as loops:
        loops.repair(by="Ada <ada@example.com>")
        assert loops.verify().faults == (), loops.verify().faults
        assert not loops.repair(by="Ada <ada@example.com>").done
        for name in ("ops", "ops.team-1"):
            assert loops.show(name).state.gate.kind == "repaired"
            assert [call.state.value for call in loops.show(name).state.calls][0] in ("awaiting", "unknown")
    assert is_whole(folder)
print(kills)
"""


def test_a_repair_that_is_killed_anywhere_is_finished_by_the_next(folder: Path, tmp_path: Path) -> None:
    tear(file_of(folder, object_of(folder, "loops/ops")), "truncated")
    (folder / "refs/heads/loops/ops.team-1").write_bytes(b"")
    done = subprocess.run(
        [sys.executable, "-c", _KILLED, folder, tmp_path / "killed"],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parent.parent,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 15, done.stdout
