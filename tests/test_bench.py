"""The benchmark says only what is so: what the sides hold is compared with the work, and a report has its form."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import count
from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace

from caesura.continuations import UnkeptFiles
from tests.bench import __main__ as command
from tests.bench import folder, whole
from tests.bench.bounds import BOUNDS
from tests.bench.child import SIDES, TASKS
from tests.bench.folder import ADD, LOOK, STAT, STATUS
from tests.bench.goals import FULL, GOALS, LONG, QUICK, SHOWN, plan
from tests.bench.job import Job, Outcome
from tests.bench.limits import LIMITS, STEP
from tests.bench.profile import profile
from tests.bench.report import BEGIN, END, Report, as_json, as_markdown, as_text, report, written_into
from tests.bench.run import Measurement, Refused, Runs, check, children, run
from tests.bench.sides import PEERS, Missing, peer
from tests.bench.work import LARGEST, SMALLEST, digest, messages, steps

ROOT = Path(__file__).parent.parent
WANTED = {
    "langgraph-plain",
    "langgraph-delta",
    "sqlite-full",
    "sqlite-at-once",
    "latency-tail",
    "fast-import",
    "long-loop",
    "disk-langgraph-plain",
    "disk-langgraph-delta",
    "disk-sqlite",
    "resume",
    "fork",
    "find-waiting",
    "refs-update",
    "runtime-step",
    "files",
    "memory-suspended",
    "memory-active",
    "crowd",
}
WITHOUT_PEERS = [
    "caesura",
    "caesura-step",
    "caesura-crash",
    "sqlite-full",
    "sqlite-writers",
    "sqlite-normal",
    "git-commit",
    "fast-import-durable",
    "fast-import",
]
TINY = {
    "one": Measurement(job=Job(task="work", steps=4), rounds=2),
    "at_once_64": Measurement(job=Job(task="work", shape="at once", loops=3, steps=2), rounds=1),
}


def here(job: Job) -> Outcome:
    """Do a job in this process."""
    return TASKS[job.task](job)


def silent(text: str) -> None:
    """Nobody watches."""


def test_every_goal_has_a_function_and_something_that_measures_it() -> None:
    assert set(GOALS) == WANTED
    for sizes in (FULL, QUICK):
        for name in GOALS:
            planned = plan([name], sizes, {})
            assert planned, f"nothing is measured for {name}"
            assert {measurement.job.task for measurement, _ in planned.values()} <= set(TASKS)
    assert {
        side for planned in (FULL, QUICK) for _, sides in plan(list(GOALS), planned, SHOWN).values() for side in sides
    } == set(SIDES)


def test_the_work_is_the_same_for_a_seed_and_another_for_another() -> None:
    assert steps(1, "a", 50) == steps(1, "a", 50)
    assert steps(1, "a", 50)[:20] == steps(1, "a", 20)
    assert len({tuple(map(digest, messages(seed, loop, 5))) for seed in (1, 2) for loop in ("a", "b")}) == 4
    assert {len(step) for step in steps(1, "a", 50)} == {1, 2, 3}
    assert all(SMALLEST <= len(message["content"]) <= LARGEST for message in messages(1, "a", 50))


@pytest.mark.parametrize("side", WITHOUT_PEERS)
def test_a_side_holds_the_work_in_every_shape(side: str, tmp_path: Path) -> None:
    for number, shape in enumerate(
        (Job(task="work", shape="one", steps=3), Job(task="work", shape="nested", loops=2, steps=3))
    ):
        (tmp_path / f"{number}").mkdir()
        job = replace(shape, side=side, folder=str(tmp_path / f"{number}"), seed=7)
        outcome = here(job)
        check(job, outcome)
        assert len(outcome.took) == len(job.names) * 3
        assert outcome.disk > 0


@pytest.mark.peers
@pytest.mark.parametrize("side", PEERS)
def test_a_peer_holds_the_work(side: str, tmp_path: Path) -> None:
    job = Job(task="work", side=side, steps=3, seed=7, folder=str(tmp_path))
    with children() as do:
        check(job, do(job))


Held = list[str]


def dropped(held: Held) -> Held:
    """The last message is lost."""
    return held[:-1]


def doubled(held: Held) -> Held:
    """A message is there twice."""
    return [*held, held[0]]


def swapped(held: Held) -> Held:
    """Two messages have changed places."""
    return [held[1], held[0], *held[2:]]


def changed(held: Held) -> Held:
    """A message is another."""
    return [*held[:2], digest({"role": "user", "content": "another"}), *held[3:]]


def lost(held: Held) -> Held:
    """The loop is gone."""
    return []


@pytest.mark.parametrize("tampered", [dropped, doubled, swapped, changed, lost])
def test_a_run_is_refused_if_one_side_does_not_hold_the_work(tampered: Callable[[Held], Held]) -> None:
    def do(job: Job) -> Outcome:
        outcome = here(job)
        if job.side == "sqlite-full" and job.seed == 2:  # in the second round
            outcome.read = {loop: tampered(held) for loop, held in outcome.read.items()}
        return outcome

    with pytest.raises(Refused, match="sqlite-full did not do the same work as the others: loop-1 holds"):
        run({"one": (TINY["one"], {"caesura-crash", "sqlite-full"})}, 1, silent, do)


HALF = Job(task="work", steps=6)
FORKS = Measurement(before=HALF, job=replace(HALF, task="forks", size=2), rounds=1)


@pytest.mark.parametrize("side", ["caesura", "sqlite-full", "git-commit"])
def test_forks_hold_what_their_loop_held_where_they_began(side: str) -> None:
    runs = run({"forks": (FORKS, {side})}, 7, silent, here)
    outcome = runs["forks"][0][side]
    assert [len(outcome.read[name]) for name in ("fork-1", "fork-2")] == [len(messages(7, "loop-1", 3))] * 2
    assert len(outcome.took) == 2


def test_a_run_is_refused_if_a_fork_holds_something_else() -> None:
    def do(job: Job) -> Outcome:
        outcome = here(job)
        if job.task == "forks":
            outcome.read["fork-2"] = outcome.read["loop-1"]
        return outcome

    with pytest.raises(Refused, match="sqlite-full did not do the same work as the others: fork-2 holds"):
        run({"forks": (FORKS, {"sqlite-full"})}, 7, silent, do)


def test_of_a_job_that_is_done_several_times_the_median_counts() -> None:
    seconds = iter([5.0, 1.0, 3.0])

    def do(job: Job) -> Outcome:
        return Outcome(side=job.side, seconds=next(seconds))

    measurement = Measurement(job=Job(task="limits"), rounds=1, times=3)
    assert run({"limits": (measurement, {"caesura"})}, 1, silent, do)["limits"][0]["caesura"].seconds == 3.0


def test_a_run_says_how_much_of_it_is_left() -> None:
    told: list[str] = []
    measurement = Measurement(job=Job(task="limits"), rounds=2, seconds=10)
    plans = {"limits": (measurement, {"caesura", "dbos"})}  # which takes five times as long
    run(plans, 1, told.append, lambda job: Outcome(side=job.side))
    assert told[0].startswith("some 2 min left: limits, round 1 of 2: ")
    assert told[-1].startswith("some 0 s left: limits, round 2 of 2: ")  # as it did in the first round


def test_slow_sides_take_part_in_the_first_rounds_only() -> None:
    measurement = Measurement(job=Job(task="limits"), rounds=3, few=1)
    plans = {"limits": (measurement, {"caesura", "sqlite-full", "dbos"})}
    rounds = run(plans, 1, silent, lambda job: Outcome(side=job.side))["limits"]
    assert [set(found) for found in rounds] == [{"caesura", "sqlite-full", "dbos"}, *[{"caesura", "sqlite-full"}] * 2]


@pytest.mark.parametrize(
    ("job", "figures"),
    [
        (Job(task="length", size=100, steps=2), {"10", "100"}),
        (Job(task="fork", size=10, steps=2), {"10", "step", "first"}),
        (
            Job(task="refs", size=1000, steps=3),
            {
                *("update 1000", "create 1000", "finish 1000"),
                *("list what waits 1000", "their requests 1000", "first look 1000", "git lists all 1000"),
            },
        ),
        (Job(task="runtime", steps=9), set[str]()),
        (Job(task="files", size=250, steps=2), {LOOK, STATUS, ADD, STAT}),
        (Job(task="memory", size=6, loops=2, steps=1), {"suspended", "active", "active at most"}),
        (
            Job(task="limits", steps=2),
            set(LIMITS),
        ),
        (Job(task="crowd", loops=2, steps=1), {"cpu", "step", "over", "memory"}),
    ],
    ids=lambda value: value.task if isinstance(value, Job) else "",
)
def test_every_other_job_measures_what_it_names(
    job: Job, figures: set[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(whole, "MODEL_SECONDS", 0.001)
    outcome = here(replace(job, folder=str(tmp_path)))
    assert set(outcome.figures) == figures
    assert all(outcome.figures.values())
    assert outcome.took or job.task not in ("runtime", "crowd")


@pytest.mark.parametrize("place", range(3))
def test_looks_at_files_are_refused_if_a_side_sees_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: int
) -> None:
    calls = count()

    def timed(call: Callable[..., object], *words: object) -> float:
        if next(calls) == place:
            (tmp_path / "files" / "more").touch()
        call(*words)
        return 0.1

    monkeypatch.setattr(folder, "timed", timed)
    with pytest.raises((UnkeptFiles, ValueError), match=r"differs|changed|same tree"):
        here(Job(task="files", folder=str(tmp_path), size=3, steps=1))


def test_a_profile_says_where_all_of_a_step_goes() -> None:
    table = profile(60)
    assert sum(float(share.rstrip("%")) for _, _, share in table.rows) == pytest.approx(100, abs=2)
    assert table.rows[-1][0] == "everything else"


def test_a_job_is_done_in_a_process_of_its_own_and_its_failure_refuses_the_run(tmp_path: Path) -> None:
    job = Job(task="work", side="sqlite-normal", folder=str(tmp_path), seed=3, steps=2)
    with children() as do:
        check(job, do(job))
        with pytest.raises(Refused, match="sqlite-normal failed at 'work': unable to open database file"):
            do(replace(job, folder=str(tmp_path / "nowhere")))
        (tmp_path / "again").mkdir()
        again = replace(job, folder=str(tmp_path / "again"))
        check(again, do(again))


def test_a_peer_that_cannot_be_imported_is_named_with_the_command_that_installs_it() -> None:
    with pytest.raises(Missing, match=r"no_such_peer cannot be imported .*pip install .*\[bench\]"):
        peer("no_such_peer")


@pytest.fixture
def without_langgraph(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where LangGraph is not installed, nothing but two goals is there, and little work."""
    for module in [name for name in sys.modules if name.split(".")[0] == "langgraph"]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "langgraph", None)
    one = Measurement(job=Job(task="work", steps=2), rounds=1)
    monkeypatch.setattr(command, "QUICK", {"one": one})
    monkeypatch.setattr(command, "GOALS", {name: GOALS[name] for name in ("langgraph-plain", "sqlite-full")})


@pytest.mark.usefixtures("without_langgraph")
def test_what_needs_a_missing_peer_is_left_out_and_said_to_be(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "out.json"
    assert command.main(["--quick", "--json", str(file)]) == 0
    printed = capsys.readouterr()
    why = "langgraph needs langgraph.graph, which is not installed. Install the peers: pip install "
    assert f"langgraph-plain is left out: {why}" in printed.err
    assert f"langgraph-plain was left out: {why}" in printed.out
    plain = json.loads(file.read_text())
    assert set(plain["goals"]) == {"sqlite-full"}
    assert set(plain["left_out"]) == {"langgraph-plain"}


@pytest.mark.usefixtures("without_langgraph")
@pytest.mark.parametrize("wanted", [["--goal", "langgraph-plain"], ["--write", str(ROOT / "docs/performance.md")]])
def test_nothing_is_begun_if_a_peer_is_missing_for_what_was_asked_for(
    wanted: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", pytest)  # whatever draws
    assert command.main(["--quick", *wanted]) == 1
    assert capsys.readouterr().err.startswith("langgraph needs langgraph.graph, which is not installed.")


def test_nothing_is_begun_that_could_not_be_written_in_the_end(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", pytest)  # whatever draws
    page = tmp_path / "page.md"
    page.write_text("a page of something else")
    for option, file in (("--json", tmp_path / "no/where.json"), ("--plot", tmp_path), ("--write", page)):
        assert command.main(["--quick", "--goal", "sqlite-full", option, str(file)]) == 1
        said = capsys.readouterr().err
        assert str(file) in said
        assert said.count("\n") == 1


def test_what_a_quick_run_leaves_out_is_a_goal_that_can_be_asked_for() -> None:
    assert LONG.keys() <= GOALS.keys()
    assert all(set(GOALS[name].needs) <= QUICK.keys() for name in LONG)


def test_nothing_is_begun_where_there_is_no_room_for_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(9 * 10**9, 8 * 10**9, 9 * 10**8))
    assert command.main(["--quick", "--goal", "sqlite-full"]) == 1
    said = capsys.readouterr().err
    assert "takes up to 1 GB in " in said
    assert "which has 0.9 GB left" in said
    assert "TMPDIR" in said


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_is_stopped_leaves_no_process_and_no_file(number: signal.Signals, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.bench", "--goal", "sqlite-full"]
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    with subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True) as stopped:
        assert stopped.stderr is not None
        said = stopped.stderr.readline()
        while "left: one" not in said:
            said = stopped.stderr.readline()
            assert said
        while not list(tmp_path.glob("caesura-bench-*/*")):
            assert stopped.poll() is None
        stopped.send_signal(number)
        assert "Stopped. What was being written has been removed; there is nothing to report." in stopped.stderr.read()
    assert stopped.returncode == 130
    assert list(tmp_path.iterdir()) == []
    assert list(working_in(tmp_path)) == []


@pytest.mark.parametrize(("wanted", "doing"), [("--profile", "profile"), ("--quick", "run")])
def test_a_command_that_is_stopped_says_so_in_a_line(
    wanted: str, doing: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(command, doing, stop)
    assert command.main([wanted]) == 130
    assert capsys.readouterr().err.splitlines()[-1].startswith("Stopped. ")


def working_in(folder: Path) -> Iterator[Path]:
    """The processes that have a folder in their environment, where there is a list of these."""
    for process in Path("/proc").glob("[0-9]*/environ"):
        with suppress(OSError):  # it has ended, or is another's
            if os.fsencode(folder) in process.read_bytes():
                yield process.parent


def made_up(ours: float, theirs: float) -> Runs:
    """Two rounds in which our steps took so long, and sqlite's so long."""

    def outcome(side: str, seconds: float) -> Outcome:
        return Outcome(side=side, seconds=seconds * 4, took=[seconds] * 4, disk=1000, figures={"closing": [0.0]})

    return {
        "one": [
            {"caesura": outcome("caesura", ours * factor), "sqlite-full": outcome("sqlite-full", theirs)}
            for factor in (1, 2)
        ]
    }


def test_a_goal_is_met_by_the_median_of_its_rounds() -> None:
    met, missed = (report(made_up(ours, 1.0), ["sqlite-full"]).goals["sqlite-full"] for ours in (0.7, 0.8))
    assert [met.ratio, *met.spread] == pytest.approx([1.05, 0.7, 1.4])
    assert met.met
    assert missed.ratio == pytest.approx(1.2)
    assert not missed.met


def test_a_goal_has_its_limit_where_the_machine_was_measured_and_only_there() -> None:
    runs = made_up(1.0, 2.0)
    assert report(runs, ["sqlite-full"]).goals["sqlite-full"].limit is None
    runs["limits"] = [{"caesura": Outcome(side="caesura", figures={STEP: [0.5, 1.5, 1.0]})}]
    found = report(runs, ["sqlite-full"])
    assert found.goals["sqlite-full"].limit == pytest.approx(0.5)  # of sqlite's two seconds
    assert found.tables[-1].rows == (
        ("sqlite-full: the objects of a step made, hashed and flushed, by Python", "0.75", "0.5"),
    )


@pytest.mark.parametrize("name", BOUNDS)
def test_a_limit_is_made_of_what_is_measured_for_its_goal(name: str) -> None:
    figures = {figure: [1.0] for figure in (*LIMITS, "step", STAT, "git lists all 1000000")}
    planned = plan([name], FULL, {"limits": SHOWN["limits"]})
    runs: Runs = {
        measured: [{side: Outcome(side=side, seconds=1, took=[1.0], disk=1, figures=figures) for side in sides}]
        for measured, (_, sides) in planned.items()
    }
    assert BOUNDS[name].figure(runs) >= 0


def test_the_json_has_the_goals_by_name_and_the_machine() -> None:
    found = report(made_up(1.0, 2.0), ["sqlite-full", "disk-sqlite"])
    plain = json.loads(as_json(found))
    assert set(plain["goals"]) == {"sqlite-full", "disk-sqlite"}
    for one in plain["goals"].values():
        assert {"ratio", "goal", "met", "spread"} <= set(one)
    assert plain["goals"]["sqlite-full"]["spread"] == [0.5, 1.0]
    assert plain["machine"]["git"]
    assert msgspec.json.decode(as_json(found), type=Report) == found


def test_the_table_is_plain_text_with_a_line_for_each_goal_and_side() -> None:
    text = as_text(report(made_up(1.0, 2.0), ["sqlite-full", "disk-sqlite"]))
    lines = text.splitlines()
    assert [line.split()[0] for line in lines[:3]] == ["goal", "sqlite-full", "disk-sqlite"]
    assert "met" in lines[1]
    assert "NOT MET" in lines[2]
    assert "\x1b" not in text


def test_the_page_is_written_between_its_marks_and_has_them() -> None:
    text = as_markdown(report(made_up(1.0, 2.0), ["sqlite-full"]), "plot.svg")
    assert written_into(f"a\n{BEGIN}\nold\n{END}\nb", text) == f"a\n{BEGIN}\n\n{text}\n\n{END}\nb"
    with pytest.raises(ValueError, match="no lines"):
        written_into("a page of something else", text)
    page = (ROOT / "docs/performance.md").read_text()
    assert page.count(BEGIN) == page.count(END) == 1


def test_the_command_measures_prints_and_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "QUICK", {"one": Measurement(job=Job(task="work", steps=2), rounds=1)})
    file = tmp_path / "out.json"
    assert command.main(["--quick", "--goal", "sqlite-full", "--json", str(file)]) == 0
    printed = capsys.readouterr()
    assert printed.out.startswith("goal ")
    assert " left: one, round 1 of 1: sqlite-full" in printed.err
    assert set(json.loads(file.read_text())["goals"]) == {"sqlite-full"}


def test_the_command_says_in_a_line_what_keeps_it_from_reporting(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def refuse(*_: object) -> Runs:
        raise Refused("the sides differ")

    monkeypatch.setattr(command, "run", refuse)
    file = tmp_path / "out.json"
    assert command.main(["--goal", "sqlite-full", "--json", str(file)]) == 1
    assert capsys.readouterr().err.splitlines()[-1] == "the sides differ"
    assert not file.exists()


def test_the_command_answers_help() -> None:
    done = subprocess.run([sys.executable, "-m", "tests.bench", "--help"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0
    assert all(name in done.stdout.replace("\n", " ") for name in ("--quick", "--json", "--plot", "--goal", "--write"))
