"""Recorded histories are read for ever. A bundle in ``histories/`` is never edited; a new format adds one."""

import subprocess
from pathlib import Path

import pytest

from caesura.continuations import GitStore, LoopName, Loops, Person, Status, User, outstanding
from caesura.continuations._state import FORMAT

HISTORIES = Path(__file__).parent / "histories"
ADA = Person(name="Ada Lovelace", email="ada@example.com")


@pytest.fixture(params=sorted(path.name for path in HISTORIES.glob("*.bundle")))
def recorded(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A recorded demo: ``onboarding`` has completed, ``waiting`` is a fork of it that waits for two decisions."""
    clone = tmp_path / "recorded.git"
    subprocess.run(["git", "clone", "--quiet", "--mirror", HISTORIES / request.param, clone], check=True)
    return clone


def test_every_commit_of_a_recorded_history_is_read_and_can_go_on(recorded: Path) -> None:
    listed = subprocess.run(
        ["git", "-C", recorded, "rev-list", "--all"], check=True, capture_output=True, text=True
    ).stdout.split()
    assert len(listed) > 30
    store = GitStore.open(recorded)
    for commit in listed:
        state = store.read(store.resolve(commit)).state
        assert state.format == FORMAT, "its next step would be written in another format than its code's"
        prompt = state.messages[0]
        assert isinstance(prompt, User)
        assert "Ada" in str(prompt.content) or "ada" in str(prompt.content)
        assert outstanding(state) or state.status is not Status.COMPLETED


def test_a_recorded_loop_is_decided_on_as_it_was(recorded: Path) -> None:
    with Loops.open(recorded) as loops:
        assert loops.info("onboarding").status is Status.COMPLETED
        assert loops.show(LoopName("onboarding")).state.spent.steps == 2
        first, second = loops.pending("waiting")
        assert [first.tool, second.tool] == ["order", "authorize_account"]
        loops.reject(first, "not now", by=ADA)
        loops.approve(second, by=ADA)
        assert loops.pending("waiting") == []
        assert loops.info("waiting").ready
