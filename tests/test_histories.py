"""Recorded histories are read for ever. A bundle in ``histories/`` is never edited; a new format adds one.

`tests.record` makes them. What is checked of every bundle is what holds of any history.
"""

import re
import subprocess
from pathlib import Path

import pytest
import trio

from caesura.continuations import (
    AlreadyDecided,
    Call,
    CallState,
    CommitId,
    GitStore,
    LoopName,
    Loops,
    Person,
    Request,
    Saved,
    Status,
    outstanding,
    parent_name,
)
from caesura.continuations._calls import allowed
from caesura.continuations._codec import decode_record, encode_record
from caesura.continuations._marks import MARKS
from caesura.continuations._state import FORMAT
from caesura.continuations._verify_forks import REWRITING
from caesura.continuations._verify_pruned import PRUNED
from tests.models import ADA, check_results
from tests.record import BOB, bundle, record
from tests.strategies import finish

HISTORIES = Path(__file__).parent / "histories"
NOW = "recorded now"


def clone(file: Path, folder: Path) -> Path:
    """A bundle as a repository."""
    made = folder / "recorded.git"
    subprocess.run(["git", "clone", "--quiet", "--mirror", file, made], check=True)
    return made


@pytest.fixture(scope="module")
def now(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What would be recorded of the format as it is written now."""
    folder = tmp_path_factory.mktemp("now")
    bundle(trio.run(record, folder), folder / "now.bundle")
    return folder / "now.bundle"


@pytest.fixture(params=[*sorted(path.name for path in HISTORIES.glob("*.bundle")), NOW])
def recorded(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Every recorded history, and the one that would be recorded now."""
    file = request.getfixturevalue("now") if request.param == NOW else HISTORIES / request.param
    return clone(file, tmp_path)


def commits(repository: Path) -> list[CommitId]:
    """Every commit of a repository, parents before children."""
    command = ["git", "-C", str(repository), "rev-list", "--all", "--topo-order", "--reverse"]
    listed = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    assert len(listed) > 30
    return [CommitId(one) for one in listed]


def trailer(message: str, key: str) -> str:
    found = re.findall(rf"^{key}: (.*)$", message, re.MULTILINE)
    return found[-1] if found else ""


def test_every_commit_is_read_written_again_the_same_and_can_be_brought_to_an_end(recorded: Path) -> None:
    store = GitStore.open(recorded)
    for commit in commits(recorded):
        state = store.read(commit).state
        assert state.format == FORMAT, "its next step would be written in another format than its code's"
        again = decode_record(encode_record(state))
        assert all(getattr(again, name) == getattr(state, name) for name in again.__struct_fields__)
        check_results(state)
        assert outstanding(state) or state.status is not Status.COMPLETED
        for step in finish(state):
            assert step.after is not None
            check_results(step.after)
    store.close()


def test_every_step_moves_calls_along_the_table_only_and_messages_only_grow_unless_they_are_compacted(
    recorded: Path,
) -> None:
    store = GitStore.open(recorded)
    steps = 0
    for commit in commits(recorded):
        after = store.read(commit)
        event = trailer(after.message, "Event")
        if not after.parents or event in ("Started", "Imported"):
            continue
        before = store.read(after.parents[0])
        assert before.state.nonce == after.state.nonce, "the first parent is the loop's own last commit"
        if event in REWRITING | MARKS | {PRUNED}:
            continue  # somebody asked for it; verification looks at how
        known: dict[str, Call] = {call.id: call for call in before.state.calls}
        for call in after.state.calls:
            old = known.get(call.id)
            if old is None or old.state is not call.state:
                assert allowed(None if old is None else old.state, call.state, event), (commit, call.id, event)
        if event != "Compacted":
            assert after.state.messages[: len(before.state.messages)] == before.state.messages
        steps += 1
    assert steps > 20
    store.close()


def test_whatever_waits_is_decided_on_and_every_loop_can_be_forked(recorded: Path) -> None:
    with Loops.open(recorded) as loops:
        assert loops.unreadable() == {}
        for info in loops.all():
            assert loops.info(loops.fork(info.name).loop).status is info.status
        for who in (ADA, BOB):  # some calls want two
            for request in loops.pending():
                decide(loops, request, who)
        left = [one for one in loops.pending() if one.kind != "sleep" and not one.remark.startswith("refused")]
        assert left == []
        for info in loops.all():
            if info.status is Status.ACTIVE:
                assert info.ready


def decide(loops: Loops, request: Request, by: Person) -> Saved | None:
    """Deal with a request as whoever is asked would."""
    if request.kind == "sleep":
        return None
    if request.kind in ("question", "outcome"):
        return loops.answer(request, _fitting(request), by=by)
    try:
        return loops.approve(request, by=by)
    except AlreadyDecided:
        assert request.gate == "change"
        return None


def _fitting(request: Request) -> str | bool:
    return True if request.answer == {"type": "boolean"} else "as you like"


def test_a_history_as_it_is_recorded_now_holds_every_event_and_every_state(now: Path, tmp_path: Path) -> None:
    store = GitStore.open(clone(now, tmp_path))
    read = [store.read(commit) for commit in commits(tmp_path / "recorded.git")]
    events = {trailer(commit.message, "Event") for commit in read}
    states = {call.state.value for commit in read for call in commit.state.calls}
    gates = {commit.state.gate.kind for commit in read if commit.state.gate is not None}
    nested = [name for name in store.heads() if parent_name(name) is not None]
    assert EVENTS - events == set()
    assert states == {state.value for state in CallState}
    assert GATES - gates == set()
    assert max(name.count(".") for name in nested) == 2
    store.close()


EVENTS = {
    "Started",
    "ModelReplied",
    "ModelFailed",
    "Compacted",
    "CompactionFailed",
    "ToolStarted",
    "ToolReturned",
    "ToolFailed",
    "ToolAsked",
    "ChildSuspended",
    "ChildResumed",
    "ChildFinished",
    "ChildFailed",
    "Suspended",
    "Decided",
    "Answered",
    "Woke",
    "Told",
    "Resumed",
    "AgentChanged",
    "Cancelled",
    "Imported",
    "Expired",
    "Voided",
    "Repaired",
    "FilesChanged",
    "Rewound",
    "Amended",
    "Reworded",
    "Edited",
    "Overridden",
    "Rehearsed",
    "Recalled",
    "Missed",
    "Chosen",
    "Scored",
    "Tried",
    "Pruned",
}
GATES = {"pause", "condition", "budget", "reply", "model", "change", "repaired"}


def test_a_loop_recorded_in_format_1_is_decided_on_as_it_was(tmp_path: Path) -> None:
    """``onboarding`` has completed, ``waiting`` is a fork of it that waits for two decisions."""
    with Loops.open(clone(HISTORIES / "format-1.bundle", tmp_path)) as loops:
        assert loops.info("onboarding").status is Status.COMPLETED
        assert loops.show(LoopName("onboarding")).state.spent.steps == 2
        first, second = loops.pending("waiting")
        assert [first.tool, second.tool] == ["order", "authorize_account"]
        loops.reject(first, "not now", by=ADA)
        loops.approve(second, by=ADA)
        assert loops.pending("waiting") == []
        assert loops.info("waiting").ready
