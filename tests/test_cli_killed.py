"""What a person is told, and can do, after the process that drove a loop was killed."""

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.cli_process import AGENTS, Shell

HOLDER, THINKER = f"{AGENTS}:holder", f"{AGENTS}:thinker"


class Killed(Shell):
    """A folder in which a command was killed while it was in the middle of something."""

    pid = 0

    def __init__(self, folder: Path, agent: str) -> None:
        super().__init__(folder, CLI_TEST_FILE=str(folder / "held"))
        with self.start("run", agent, "x", "--loop", "x") as process:
            while not (folder / "held").exists():
                assert process.poll() is None
                os.sched_yield()
            process.kill()
        self.pid = process.pid
        self.agents = ("--agents", agent)

    def trailer(self, key: str) -> list[str]:
        """A trailer's values in the loop's commits, oldest first."""
        log = ["git", "-C", str(self.folder / ".caesura"), "log", "--reverse", "loops/x"]
        form = f"--format=%(trailers:key={key},valueonly)"
        done = subprocess.run([*log, form], capture_output=True, text=True, check=True)
        return [line for line in done.stdout.split("\n") if line]

    def asked(self) -> dict[str, Any]:
        """The one request that waits."""
        (request,) = self("pending", "--json").json["pending"]
        found: dict[str, Any] = request
        return found


@pytest.fixture
def killed(tmp_path: Path) -> Killed:
    """One that was killed while a tool ran."""
    return Killed(tmp_path, HOLDER)


def test_whoever_is_asked_about_an_unknown_outcome_is_told_all_that_is_known(killed: Killed) -> None:
    told = killed("resume", "x", *killed.agents)
    assert told.status == 3
    asked = killed.asked()
    attempt = asked["attempt"]
    (key,) = killed.trailer("Idempotency-Key")
    assert attempt["number"] == 1
    assert attempt["idempotency_key"] == key
    assert attempt["process"] == f"process {killed.pid} on {os.uname().nodename}"
    assert attempt["worker"] in killed.trailer("Worker")
    assert attempt["started"] >= asked["since"]
    assert asked["arguments"] == {"file": str(killed.folder / "held")}
    for screen in (told.err, killed("pending").out):
        assert "holder does not know whether this ran" in screen
        assert f'hold(file="{killed.folder / "held"}")' in screen
        assert f"by process {killed.pid} on " in screen
        assert "started: attempt 1, " in screen
        assert f"idempotency key: {key}" in screen
        assert "It may have had its effect, or a part of it, or none." in screen
        assert "caesura answer x.hold-1 RESULT" in screen
        assert "# it ran, with this result" in screen
        assert "# it did not: run it" in screen
        assert "# give it up" in screen


def test_it_ran_with_this_result(killed: Killed) -> None:
    killed("resume", "x", *killed.agents)
    assert killed("answer", "x.hold-1", "by hand").status == 0
    told = killed("resume", "x", *killed.agents)
    assert (told.status, told.out) == (0, "held: by hand\n")


def test_it_did_not_run_and_runs_as_a_second_attempt_under_the_same_key(killed: Killed) -> None:
    killed("resume", "x", *killed.agents)
    (killed.folder / "held").unlink()
    assert killed("approve", "x.hold-1", "--yes").status == 0
    process = killed.start("resume", "x", *killed.agents)
    while not (killed.folder / "held").exists():
        os.sched_yield()
    (killed.folder / "held").unlink()
    assert process.communicate(timeout=300)[0] == "held: let go\n"
    first, second = killed.trailer("Idempotency-Key")
    assert first == second
    assert killed.trailer("Attempt") == ["1", "1", "2", "2"]


def test_it_is_given_up_and_the_model_is_told_that_nobody_knows(killed: Killed) -> None:
    killed("resume", "x", *killed.agents)
    assert killed("reject", "x.hold-1", "--reason", "let it be").status == 0
    told = killed("resume", "x", *killed.agents)
    assert told.out == "held: Given up by Ada Tester: let it be. Whether the call took effect is not known.\n"


def test_a_model_call_that_was_under_way_is_made_again(tmp_path: Path) -> None:
    killed = Killed(tmp_path, THINKER)
    assert killed.trailer("Event") == ["Started"]
    told = killed("resume", "x", *killed.agents, CLI_TEST_FILE="")
    assert (told.status, told.out) == (0, "I thought about: x. at once\n")
    assert killed.trailer("Event") == ["Started", "Resumed", "ModelReplied"]
