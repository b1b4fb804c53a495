"""Races of real processes, eight at a time: one outcome, whoever is late is told before it acts, nothing is lost."""

import itertools
import os
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
import trio

from caesura.continuations import (
    CallId,
    GitStore,
    History,
    Loops,
    Resumed,
    Status,
    ToolStarted,
    User,
    WorkerId,
    loop_name,
)
from tests.agents import Ledger, check_loop
from tests.models import ADA, NOON, check_results
from tests.processes import Processes
from tests.racing import desk, desk_model, drive

EIGHT = range(8)
NAMES = ("Ada", "Bob", "Cleo", "Dan", "Eve", "Flo", "Gus", "Hal")


def git(path: Path, *words: str) -> str:
    """What git says; a failure of it fails the test."""
    done = subprocess.run(["git", *words], cwd=path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def fsck(path: Path) -> None:
    """Git finds no fault with the repository."""
    git(path, "fsck", "--strict", "--no-dangling")


def count(path: Path, event: str, revision: str = "--branches=loops/*") -> int:
    """How many commits say that such an event happened."""
    return len(git(path, "log", "--format=%H", f"--grep=^Event: {event}$", revision).split())


def suspended(tmp_path: Path, *asks: str) -> Path:
    """A repository with the desk's loop ``x``, in which these calls wait."""
    path, ledger = tmp_path / "r.git", Ledger(tmp_path / "ledger")
    trio.run(lambda: drive(path, desk(ledger), desk_model(*asks), "x", new=True))
    return path


def to_the_end(path: Path, ledger: Path, *asks: str, loop: str = "x") -> None:
    """Approve what waits, and drive a loop to its end. A fork of a step in which a call ran asks about that, too."""
    for _ in range(2):
        with Loops.open(path) as loops:
            for request in loops.pending(loop):
                loops.approve(request, by=ADA)
        trio.run(lambda: drive(path, desk(Ledger(ledger)), desk_model(*asks), loop, new=False))
    with Loops.open(path) as loops:
        assert loops.info(loop).status is Status.COMPLETED


# Making ------------------------------------------------------------------------------------------------------------


def test_eight_processes_make_a_repository_at_once_and_each_has_its_loop_in_it(
    processes: Processes, tmp_path: Path
) -> None:
    for again in EIGHT:
        path = tmp_path / f"{again}.git"
        made = processes.run(*(("tests.racing.begin", path, f"x{number}") for number in EIGHT))
        assert not [one.error for one in made if one.error]
        with Loops.open(path) as loops:
            assert [(loop.name, loop.commit) for loop in loops.all()] == [
                (f"x{number}", made[number].value) for number in EIGHT
            ]
        assert git(path, "config", "extensions.preciousObjects") == "true\n"
        assert git(path, "rev-parse", "HEAD").strip() in [one.value for one in made]
        fsck(path)


def test_of_eight_that_start_a_loop_of_one_name_one_does_and_the_others_are_told_before_anything_ran(
    processes: Processes, tmp_path: Path
) -> None:
    path, ledger = tmp_path / "r.git", tmp_path / "ledger"
    for again in EIGHT:
        ended = processes.run(*[("tests.racing.run", path, ledger, f"x{again}")] * 8)
        assert sorted(one.error or one.value for one in ended) == ["LoopExists"] * 7 + ["completed"]
        assert len(Ledger(ledger).entries(f"x{again}")) == 1
    fsck(path)


# Driving -----------------------------------------------------------------------------------------------------------


def test_of_eight_that_resume_a_loop_one_drives_and_the_others_are_told_who_before_its_tool_is_over(
    processes: Processes, tmp_path: Path
) -> None:
    path, ledger, gate = tmp_path / "r.git", tmp_path / "ledger", tmp_path / "gate"
    os.mkfifo(gate)
    history = History(GitStore.open(path, create=True))
    for again in EIGHT:
        loop = loop_name(f"x{again}")
        (begun,) = processes.run(("tests.racing.begin_desk", path, ledger, loop))
        pids = processes.start(*[("tests.racing.resume", path, ledger, loop, gate, 7)] * 8)
        ended = processes.wait(pids)
        assert sorted(one.error or one.value for one in ended) == ["Driven"] * 7 + ["completed"]
        driver = next(pid for pid, one in zip(pids, ended, strict=True) if not one.error)
        assert all(f"driven by process {driver} on" in one.text for one in ended if one.error)
        assert len(Ledger(ledger).entries(loop)) == 1
        assert count(path, "Resumed", f"loops/{loop}") == 1
        assert history.load(loop).commit != begun.value
    fsck(path)


# Deciding ----------------------------------------------------------------------------------------------------------


def unknown(path: Path, calls: Sequence[str]) -> None:
    """Let calls be found running by another worker than the one that started them."""
    history, loop = History(GitStore.open(path)), loop_name("x")
    for worker in ("w1", "w2"):
        history.apply(history.load(loop), Resumed(at=NOON, worker=WorkerId(worker)), ADA)
        for call in calls if worker == "w1" else ():
            event = ToolStarted(at=NOON, call=CallId(call), worker=WorkerId(worker))
            history.apply(history.load(loop), event, ADA)


@pytest.mark.parametrize("kind", ["approval", "question", "outcome"])
def test_of_eight_that_settle_a_request_one_does_and_the_others_are_told_who_was_first(
    processes: Processes, tmp_path: Path, kind: str
) -> None:
    tool = "word" if kind == "question" else "order"
    path = suspended(tmp_path, *[tool] * 8)
    calls = [f"{tool}-{number + 1}" for number in EIGHT]
    if kind == "outcome":
        with Loops.open(path) as loops:
            for request in loops.pending("x"):
                loops.approve(request, by=ADA)
        unknown(path, calls)
    choices = ["answer" if kind == "question" else "approve", "reject", *(["answer"] if kind == "outcome" else [])]
    before = count(path, "Decided") + count(path, "Answered")
    won = Counter[str]()
    for call in calls:
        parts = [(NAMES[number], choices[number % len(choices)]) for number in EIGHT]
        ended = processes.run(*(("tests.racing.settle", path, f"x.{call}", choice, name) for name, choice in parts))
        ((name, choice),) = [part for part, one in zip(parts, ended, strict=True) if not one.error]
        won[choice] += 1
        verb = {"approve": "approved", "reject": "rejected", "answer": "answered"}[choice]
        for one in ended:
            assert one.error in ("", "AlreadyAnswered" if choice == "answer" else "AlreadyDecided"), one
            assert not one.error or f"was already {verb} by {name} at " in one.text
    assert count(path, "Decided") + count(path, "Answered") == before + 8
    assert sum(won.values()) == 8
    fsck(path)


@pytest.mark.parametrize(("tool", "choice"), [("order", "approve"), ("order", "reject"), ("word", "answer")])
def test_the_same_decision_by_eight_processes_at_once_is_one(
    processes: Processes, tmp_path: Path, tool: str, choice: str
) -> None:
    path = suspended(tmp_path, *[tool] * 4)
    for number in range(4):
        ended = processes.run(*[("tests.racing.settle", path, f"x.{tool}-{number + 1}", choice, "Ada")] * 8)
        assert [one.error for one in ended] == [""] * 8, ended
    assert count(path, "Decided") + count(path, "Answered") == 4
    fsck(path)


# Everything at once ------------------------------------------------------------------------------------------------


@contextmanager
def tidied(path: Path, *commands: str, guarded: bool = False) -> Iterator[Counter[str]]:
    """Git's own maintenance, one command after the other for as long as the block lasts; how often each was given.

    Where branches are `guarded`, git does not cut their logs, and says so. It gives up, too, if upkeep has taken an
    object's own file away since it was listed.
    """
    made, over = Counter[str](), threading.Event()
    failures: list[str] = []

    def tidy() -> None:
        while not over.is_set() or len(made) < len(commands):
            for command in commands:
                done = subprocess.run(["git", *command.split()], cwd=path, capture_output=True, text=True)
                made[command] += 1
                refused = guarded and "failed to run reflog" in done.stderr and "loops/x.lock'" in done.stderr
                given_up = any(why in done.stderr for why in ("precious-objects repo", "recent objects"))
                if done.returncode and not given_up and not refused:
                    failures.append(f"git {command}: {done.stderr}")

    thread = threading.Thread(target=tidy)
    thread.start()
    try:
        yield made
    finally:
        over.set()
        thread.join()
    assert not failures


SAFE = ("gc --quiet", "repack -ad --quiet", "pack-refs --all", "fetch --quiet . +refs/heads/loops/*:refs/copies/*")
ANY = (*SAFE, "gc --quiet --prune=now", "prune", "maintenance run --quiet")


@pytest.mark.parametrize(
    ("place", "kinds"),
    [
        ("its own repository", ["step"]),
        ("a project", ["step"]),
        ("its own repository", ["sealed"]),
        ("its own repository", ["sealed", "step", "sealed"]),
        ("a project", ["sealed", "sealed", "step"]),
    ],
    ids=["step", "project", "sealed", "both", "project, both"],
)
def test_eight_processes_and_git_at_work_on_a_loop_lose_nothing_of_each_other(
    processes: Processes, tmp_path: Path, place: str, kinds: list[str]
) -> None:
    """One drives; two decide, half each; three tell; two fork. Two more do nothing but upkeep."""
    path, ledger = tmp_path / "r.git", tmp_path / "ledger"
    if place == "a project":
        git(tmp_path, "init", "--quiet", str(path))
    asks = ["order"] * 12
    suspended(tmp_path, *asks)
    ids = [f"x.order-{number + 1}" for number in range(12)]
    kind = itertools.cycle(kinds)
    with tidied(path, *(SAFE if place == "a project" else ANY), guarded="sealed" in kinds):
        ended = processes.run(
            ("tests.racing.wait_for_all", path, ledger, "x", 12, next(kind)),
            ("tests.racing.settle_all", path, ids[:6], "approve", "Ada", next(kind)),
            ("tests.racing.settle_all", path, ids[6:], "approve", "Bob", next(kind)),
            *(("tests.racing.tell", path, "x", f"word {number}", 6, next(kind)) for number in range(3)),
            *(("tests.racing.fork", path, "x", 4, next(kind)) for _ in range(2)),
            *[("tests.racing.keep_up", path, 12)] * 2,
        )
        # Not file by file: git itself may take one away meanwhile.
        git(tmp_path, "clone", "--quiet", "--mirror", "--no-local", str(path), str(tmp_path / "copy"))
    assert [one for one in ended if one.error] == []
    fsck(path)
    fsck(tmp_path / "copy")
    to_the_end(path, ledger, *asks)
    with Loops.open(path) as loops:
        state = loops.show("x").state
        forks = [name for one in ended[6:8] for name in one.value]
        assert len(set(forks)) == 8
    check_results(state)
    heard = Counter(said.content for said in state.messages if isinstance(said, User))
    assert heard == {"go": 1} | {f"word {who} {each}": 1 for who in range(3) for each in range(6)}
    assert Counter(entry["call"] for entry in Ledger(ledger).entries("x")) == {one[2:]: 1 for one in ids}
    own = ["--first-parent", "loops/x"]
    decided = git(path, "log", "--format=%an", "--grep=^Event: Decided$", *own).split("\n")[:-1]
    assert Counter(decided) == {"Ada": 6, "Bob": 6}
    assert len(git(path, "log", "--format=%H", "--grep=^Event: Told$", *own).split()) == 18
    for copy, loop in ((path, forks[0]), (path, forks[-1]), (tmp_path / "copy", "x")):
        to_the_end(copy, tmp_path / f"ledger of {loop}", *asks, loop=loop)
        check_loop(copy, loop, Ledger(tmp_path / f"ledger of {loop}").entries())
    fsck(path)


def test_a_loop_that_some_cancel_while_its_tool_runs_and_others_decide_and_tell_ends_once(
    processes: Processes, tmp_path: Path
) -> None:
    path, ledger, gate = tmp_path / "r.git", tmp_path / "ledger", tmp_path / "gate"
    os.mkfifo(gate)
    for again in range(4):
        loop = f"x{again}"
        ended = processes.run(
            ("tests.racing.hold", path, ledger, loop, gate),
            *[("tests.racing.cancel", path, ledger, loop)] * 3,
            *(("tests.racing.tell_late", path, ledger, loop, f"word {number}") for number in range(4)),
        )
        assert ended[0].value == "cancelled"
        assert [one.error for one in ended[1:4]] == [""] * 3
        assert len({one.value for one in ended[1:4]}) == 1, "one commit cancels it; to the others it is cancelled"
        assert {one.error for one in ended[4:]} <= {"", "NotApplicable"}
        with Loops.open(path) as loops:
            state = loops.show(loop).state
        check_results(state)
        assert state.status is Status.CANCELLED
        assert count(path, "Cancelled", f"loops/{loop}") == 1
        assert count(path, "Told", f"loops/{loop}") == sum(not one.error for one in ended[4:])
        assert not count(path, "ToolReturned", f"loops/{loop}"), "a tool's result came after the end"
        assert len(Ledger(ledger).entries(loop)) == 1
    fsck(path)
