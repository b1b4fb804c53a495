"""``kill -9`` at any moment loses nothing and doubles nothing."""

import os
import random
import signal
import subprocess
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import pytest
import trio

from caesura.continuations import GitStore, Request
from tests.agents import LOOP, Ledger, check_loop, company, company_script, decider, drive, settle
from tests.models import ScriptedModel
from tests.processes import Ended, Processes

MOVES, WRITES, EFFECTS = 34, 174, 4
"""Moves of a branch, changes of files of our own and effects of tools in the company's whole story: one more or less,
as its parallel parts come."""
SEALED_WRITES = 220
"""Changes of files where steps are sealed."""
KILLED = (-signal.SIGKILL, -signal.SIGALRM)
Recorder = Callable[[str, object], None]


@pytest.fixture(scope="module")
def seconds(processes: Processes, tmp_path_factory: pytest.TempPathFactory) -> dict[str, float]:
    """How long the story and its parts take when nobody is killed."""
    folder, other = tmp_path_factory.mktemp("measured"), tmp_path_factory.mktemp("parts")
    found: dict[str, float] = {}
    for role, place in (("whole", folder), ("worker", other), ("person", other)):
        (ended,) = processes.run((f"tests.agents.{role}", place / "r.git", place / "ledger"))
        found[role] = ended.value["seconds"]
    return found


def git(folder: Path, *words: str) -> str:
    """What git says of the repository; a failure of it fails the test."""
    done = subprocess.run(["git", "-C", str(folder / "r.git"), *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def begun(folder: Path) -> bool:
    """Whether there is a loop yet."""
    command = ["git", "-C", str(folder / "r.git"), "rev-parse", "--verify", f"loops/{LOOP}"]
    return not subprocess.run(command, capture_output=True).returncode


def people_on(folder: Path, event: str) -> set[str]:
    """The calls that people have decided on (``Decided``) or said the outcome of (``Answered``), by address."""
    form = "--format=%(trailers:key=Loop,valueonly,separator=).%(trailers:key=Call,valueonly,separator=)"
    return set(git(folder, "log", "--branches=loops/*", f"--grep=^Event: {event}", form).split())


def goes_on(folder: Path, kills: int) -> list[Request]:
    """Go on to the end after so many kills, and check all that must hold; whatever was asked meanwhile."""
    path, ledger, asked = folder / "r.git", Ledger(folder / "ledger"), list[Request]()
    store = GitStore.open(path, create=True)
    store.seal()  # git is about to look
    store.close()
    if not begun(folder):
        assert not ledger.entries()
        trio.run(partial(drive, path, ledger, to_the_end=False))  # it was killed before it began
    git(folder, "fsck", "--strict", "--no-dangling")
    decided = people_on(folder, "Decided")
    before = Counter((entry["loop"], entry["call"]) for entry in ledger.entries())
    outcome = trio.run(settle, path, LOOP, [company(ledger)], ScriptedModel(company_script), decider("ran"), asked)
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
    again = [request.id for request in asked if request.kind == "approval" and request.id in decided]
    assert not again, "what was decided was asked again"
    git(folder, "fsck", "--strict", "--no-dangling")
    return asked


def killed(ended: list[Ended]) -> int:
    """How many of them were killed; the others came to an end of their own."""
    assert all(one.status == 0 or one.status in KILLED for one in ended), ended
    return sum(one.status in KILLED for one in ended)


def kill_and_go_on(processes: Processes, folder: Path, death: str, record: Recorder) -> None:
    story = ("tests.agents.whole", folder / "r.git", folder / "ledger", death)
    kills = killed(processes.wait(processes.start(story)))
    report(record, kills, goes_on(folder, kills))
    assert not list((folder / "r.git").rglob("*.lock"))


def report(record: Recorder, kills: int, asked: list[Request]) -> None:
    """Count for the report of a soak."""
    record("kills", kills)
    record("unknown", sum(request.kind == "outcome" for request in asked))


@pytest.mark.parametrize("move", range(1, MOVES + 1, 3))
def test_a_kill_after_any_commit_loses_and_doubles_nothing(
    processes: Processes, tmp_path: Path, record_property: Recorder, move: int
) -> None:
    kill_and_go_on(processes, tmp_path, f"after:{move}", record_property)


@pytest.mark.parametrize("move", range(2, MOVES, 4))
def test_a_kill_between_writing_a_commit_and_moving_the_branch_loses_and_doubles_nothing(
    processes: Processes, tmp_path: Path, record_property: Recorder, move: int
) -> None:
    kill_and_go_on(processes, tmp_path, f"before:{move}", record_property)


@pytest.mark.parametrize("lock", [1, 2, 3, 4, 12, 30])
def test_a_kill_while_a_ref_is_locked_leaves_no_lock_behind_that_would_stop_the_next_worker(
    processes: Processes, tmp_path: Path, record_property: Recorder, lock: int
) -> None:
    kill_and_go_on(processes, tmp_path, f"locked:{lock}", record_property)


@pytest.mark.parametrize("write", [*range(1, 16), *range(18, WRITES, 26)])
def test_a_kill_while_a_repository_is_made_a_lease_changes_hands_or_a_lock_is_taken_holds_nobody_up(
    processes: Processes, tmp_path: Path, record_property: Recorder, write: int
) -> None:
    kill_and_go_on(processes, tmp_path, f"write:{write}", record_property)


@pytest.mark.parametrize("effect", range(1, EFFECTS + 1))
def test_a_kill_inside_a_tool_after_its_effect_doubles_it_only_if_it_is_idempotent(
    processes: Processes, tmp_path: Path, record_property: Recorder, effect: int
) -> None:
    kill_and_go_on(processes, tmp_path, f"inside:{effect}", record_property)


SEALED = (
    *(f"after:{move}" for move in range(2, MOVES, 4)),
    *(f"before:{move}" for move in range(3, MOVES, 8)),
    *(f"half:{frame}" for frame in range(1, MOVES, 4)),
    *(f"locked:{lock}" for lock in (1, 2, 5)),
    *(f"write:{write}" for write in range(10, SEALED_WRITES, 9)),
    *(f"inside:{effect}" for effect in range(1, EFFECTS + 1)),
)


@pytest.mark.parametrize("death", SEALED)
def test_a_kill_of_a_process_that_seals_its_steps_loses_and_doubles_nothing(
    processes: Processes, tmp_path: Path, record_property: Recorder, death: str
) -> None:
    kill_and_go_on(processes, tmp_path, f"sealed/{death}", record_property)


DECIDING = ("before:1", "after:1", "locked:1", *(f"write:{number}" for number in range(1, 6)))


@pytest.mark.parametrize("death", DECIDING)
@pytest.mark.parametrize("choice", ["approve", "reject"])
def test_a_kill_of_a_command_that_decides_leaves_the_decision_made_or_not(
    processes: Processes, tmp_path: Path, choice: str, death: str
) -> None:
    path, address = tmp_path / "r.git", f"{LOOP}.it-1.order-1"
    processes.run(("tests.agents.worker", path, tmp_path / "ledger"))
    words = [choice, address, "--repo", str(path), "--by", "Ada Lovelace <ada@example.com>"]
    words += ["--reason", "too dear"] if choice == "reject" else ["--yes"]
    assert killed(processes.wait(processes.start(("tests.agents.command", death, *words)))) == 1
    made = address in people_on(tmp_path, "Decided")
    assert not (made and death == "before:1")
    assert made or death != "after:1"
    (again,) = processes.run(("tests.agents.command", "", *words))
    assert again.value == 0
    log = git(
        tmp_path, "log", "--grep=^Event: Decided", "--format=%(trailers:key=Decision,valueonly)", f"loops/{LOOP}.it-1"
    )
    assert log.split() == [choice]
    git(tmp_path, "fsck", "--strict", "--no-dangling")


def scene(
    processes: Processes, folder: Path, seconds: dict[str, float], seed: int, prefixes: Sequence[str] = ("",)
) -> int:
    """Three rounds in which a process, or several at once, are killed at an instant of their time; how many were."""
    chance, kills = random.Random(seed), 0  # noqa: S311 - to be the same in each run
    place = folder / "r.git"
    for _ in range(3):  # the second and third kill what resumes after the one before
        roles = chance.choice((["whole"], ["whole", "person"], ["worker", "person"], ["worker", "whole", "person"]))
        deaths = {
            role: f"{chance.choice(prefixes)}time:{max(chance.uniform(0, seconds[role]), 0.0001):.4f}" for role in roles
        }
        calls = [(f"tests.agents.{role}", place, folder / "ledger", death) for role, death in deaths.items()]
        task = chance.choice(("", "gc --quiet", "repack -a --quiet", "pack-refs --all", "maintenance run --quiet"))
        moment = f"time:{max(chance.uniform(0, 0.05), 0.0001):.4f}"
        tidying = [("tests.agents.git", place, moment, *task.split())] if task else []
        ended = processes.wait(processes.start(*tidying, *calls))
        kills += killed(ended[len(tidying) :]) + sum(one.status in KILLED for one in ended[: len(tidying)])
    for there, _, names in os.walk(place):  # in which children of a git that was killed may still tidy up
        for lock in (name for name in names if name.endswith(".lock")):  # git asks people to delete it then
            (Path(there) / lock).unlink()
    return kills


@pytest.mark.parametrize("seed", range(16))
def test_kills_of_workers_people_and_git_at_any_instant_lose_and_double_nothing(
    processes: Processes, tmp_path: Path, seconds: dict[str, float], record_property: Recorder, seed: int
) -> None:
    kills = scene(processes, tmp_path, seconds, seed)
    report(record_property, kills, goes_on(tmp_path, kills))


@pytest.mark.parametrize("seed", range(2000, 2016))
def test_kills_at_any_instant_where_some_seal_their_steps_lose_and_double_nothing(
    processes: Processes, tmp_path: Path, seconds: dict[str, float], record_property: Recorder, seed: int
) -> None:
    kills = scene(processes, tmp_path, seconds, seed, ("", "sealed/", "sealed/"))
    report(record_property, kills, goes_on(tmp_path, kills))


@pytest.mark.soak
@pytest.mark.parametrize(
    "death",
    [
        *(f"{moment}:{move}" for moment in ("before", "after", "locked") for move in range(1, MOVES + 3)),
        *(f"write:{write}" for write in range(1, WRITES + 12)),
    ],
)
def test_a_kill_at_each_boundary_loses_and_doubles_nothing(
    processes: Processes, tmp_path: Path, record_property: Recorder, death: str
) -> None:
    kill_and_go_on(processes, tmp_path, death, record_property)


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(1000, 1300))
def test_hundreds_of_kills_at_any_instant_lose_and_double_nothing(
    processes: Processes, tmp_path: Path, seconds: dict[str, float], record_property: Recorder, seed: int
) -> None:
    kills = scene(processes, tmp_path, seconds, seed)
    report(record_property, kills, goes_on(tmp_path, kills))


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(3000, 3200))
def test_hundreds_of_kills_where_some_seal_their_steps_lose_and_double_nothing(
    processes: Processes, tmp_path: Path, seconds: dict[str, float], record_property: Recorder, seed: int
) -> None:
    kills = scene(processes, tmp_path, seconds, seed, ("", "sealed/", "sealed/"))
    report(record_property, kills, goes_on(tmp_path, kills))
