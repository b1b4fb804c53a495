"""``kill -9`` at any moment loses nothing and doubles nothing."""

import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
import trio

from caesura.continuations import Request
from tests.agents import LOOP, Ledger, check_loop, company, company_script, decider, settle
from tests.models import ScriptedModel

ROOT = Path(__file__).parent.parent
MOVES = 31
"""Moves of a branch in the company's whole story: one more or less, as its parallel parts come."""


def driver(folder: Path, how: str) -> subprocess.Popen[str]:
    """A process that drives the company's loop."""
    command = [sys.executable, "-m", "tests.agents", str(folder / "r.git"), str(folder / "ledger"), how]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def check_after_kill(folder: Path, kills: int = 1) -> list[Request]:
    """Go on to the end after so many kills; whatever was asked again is returned."""
    path, ledger, asked = folder / "r.git", Ledger(folder / "ledger"), list[Request]()
    fsck = ["git", "-C", str(path), "fsck", "--strict"]
    subprocess.run(fsck, check=True, capture_output=True)
    if subprocess.run(["git", "-C", str(path), "rev-parse", f"loops/{LOOP}"], capture_output=True).returncode:
        return asked  # it was killed before it began
    before = Counter((entry["loop"], entry["call"]) for entry in ledger.entries())
    agent = company(ledger)
    outcome = trio.run(settle, path, LOOP, [agent], ScriptedModel(company_script), decider("ran"), asked)
    assert outcome.status == "completed"
    check_loop(path, LOOP, ledger.entries())
    # A person who says "it had run" of a call that had not is believed; all else ran exactly once.
    believed = {tuple(address.rpartition(".")[::2]) for address in people_on(folder, "Answered")}
    ran = Counter((entry["loop"], entry["call"]) for entry in ledger.entries())
    for loop, call in (
        (f"{LOOP}.hr-1", "send_mail-1"),
        (f"{LOOP}.it-1.accounts-1", "authorize_account-1"),
        (f"{LOOP}.it-1", "order-2"),
    ):
        if (loop, call) in believed:
            assert ran[loop, call] == before[loop, call] <= 1
        else:
            assert ran[loop, call] == 1
    assert 1 <= ran[f"{LOOP}.it-1.accounts-1", "create_account-1"] <= kills + 1  # it is idempotent: once more a kill
    assert len({(request.id, request.kind) for request in asked}) == len(asked), "something was asked twice"
    subprocess.run(fsck, check=True, capture_output=True)
    return asked


def people_on(folder: Path, event: str) -> set[str]:
    """The calls that people have decided on (``Decided``) or said the outcome of (``Answered``), by address."""
    log = ["git", "-C", str(folder / "r.git"), "log", "--branches=loops/*", f"--grep=^Event: {event}"]
    form = "--format=%(trailers:key=Loop,valueonly,separator=).%(trailers:key=Call,valueonly,separator=)"
    done = subprocess.run([*log, form], capture_output=True, text=True)
    return set(done.stdout.split())


def kill_and_go_on(folder: Path, how: str) -> None:
    with driver(folder, how) as process:
        process.wait()
    assert process.returncode in (0, -signal.SIGKILL)
    decided = people_on(folder, "Decided")
    asked = check_after_kill(folder)
    assert not [request.id for request in asked if request.kind == "approval" and request.id in decided]


@pytest.mark.parametrize("move", range(1, MOVES + 1, 2))
def test_a_kill_after_any_commit_loses_and_doubles_nothing(tmp_path: Path, move: int) -> None:
    kill_and_go_on(tmp_path, f"after:{move}")


@pytest.mark.parametrize("move", range(2, MOVES, 4))
def test_a_kill_between_writing_a_commit_and_moving_the_branch_loses_and_doubles_nothing(
    tmp_path: Path, move: int
) -> None:
    kill_and_go_on(tmp_path, f"before:{move}")


@pytest.mark.parametrize("lock", [2, 3, 4, 12, 30])
def test_a_kill_while_a_ref_is_locked_leaves_no_lock_behind_that_would_stop_the_next_worker(
    tmp_path: Path, lock: int
) -> None:
    kill_and_go_on(tmp_path, f"locked:{lock}")
    assert not list((tmp_path / "r.git").rglob("*.lock"))


@pytest.mark.parametrize("effect", range(1, 5))
def test_a_kill_inside_a_tool_after_its_effect_doubles_it_only_if_it_is_idempotent(tmp_path: Path, effect: int) -> None:
    kill_and_go_on(tmp_path, f"inside:{effect}")


@pytest.mark.soak
@pytest.mark.parametrize("moment", ["before", "after", "locked"])
@pytest.mark.parametrize("move", range(1, MOVES + 3))
def test_a_kill_at_each_boundary_loses_and_doubles_nothing(tmp_path: Path, moment: str, move: int) -> None:
    kill_and_go_on(tmp_path, f"{moment}:{move}")


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(400))
def test_a_kill_at_any_instant_loses_and_doubles_nothing(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311 - to be the same in each run
    kills = 0
    while kills < 3:  # the second and third kill what resumes after the one before
        with driver(tmp_path, "never:0") as process:
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(chance.uniform(0, 0.15))
            process.kill()
        if process.returncode == 0:
            break
        kills += 1
    decided = people_on(tmp_path, "Decided")
    asked = check_after_kill(tmp_path, kills)
    assert not [request.id for request in asked if request.kind == "approval" and request.id in decided]
