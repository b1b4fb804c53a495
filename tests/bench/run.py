"""The run: jobs in child processes, interleaved by rounds; what the sides hold in the end is compared with the work."""

import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO

import msgspec
from msgspec.structs import replace

from .job import Job, Outcome
from .work import digest, messages

ROOT = Path(__file__).parent.parent.parent

Round = dict[str, Outcome]
"""What came of one round, by side."""

Runs = dict[str, list[Round]]
"""Every round, by the name of what was measured."""


class Refused(Exception):
    """The sides did not do the same work, or one failed: there is nothing to report."""


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """A job that every side does in turn, so many rounds; `before` prepares each side's folder and is not measured.

    Slow sides take part in the first `few` rounds alone. The job is done so many `times` in a round, and the median
    counts. So many `seconds` a side may take in a round, to tell how long it all takes: a guess until one has.
    """

    job: Job
    rounds: int
    few: int | None = None
    times: int = 1
    seconds: float = 1.0
    before: Job | None = None


Worker = Callable[[Job], Outcome]
"""Who does a job."""

SLOW: Mapping[str, float] = {
    "langgraph": 14,
    "langgraph-async": 8,
    "langgraph-delta": 2,
    "langgraph-async-delta": 2.5,
    "sqlite-writers": 3,
    "openai-agents": 3,
    "dbos": 5,
    "git-commit": 15,
    "fast-import-durable": 8,
}
"""How often they take as long as the others."""

_QUICK = 2  # sides that take longer than so often as long are slow


@contextmanager
def children() -> Iterator[Worker]:
    """Who does jobs one after the other, each in a process of its own (see `child`).

    These are a group for themselves, so that Ctrl-C reaches this process alone: it ends them, and only then removes
    what they were writing.
    """
    command = [sys.executable, "-m", "tests.bench.child"]
    with (
        tempfile.TemporaryFile() as said,
        subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=said, start_new_session=True
        ) as process,
    ):
        try:
            yield partial(_in_child, process, said)
        finally:
            _end(process)


def _in_child(process: subprocess.Popen[bytes], said: IO[bytes], job: Job) -> Outcome:
    """Do a job.

    Raises:
        Refused: it failed.
    """
    assert process.stdin is not None
    assert process.stdout is not None
    said.seek(0)  # of both processes
    said.truncate()
    try:
        process.stdin.write(msgspec.json.encode(job) + b"\n")
        process.stdin.flush()
        answer = process.stdout.readline()
    except BaseException:
        _end(process)  # before somebody takes its folder away
        raise
    outcome = msgspec.json.decode(answer, type=Outcome) if answer else Outcome(side=job.side, failed="it has ended")
    if outcome.failed:
        said.seek(0)
        more = said.read().decode("utf-8", "replace") + outcome.trace
        raise Refused(f"{job.side} failed at {job.task!r}: {outcome.failed}\n{more.strip()[-3000:]}".strip())
    return outcome


def _end(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    assert process.stdout is not None
    process.stdout.read()  # until the last of them is gone
    process.wait()


def run(
    plan: Mapping[str, tuple[Measurement, Iterable[str]]],
    seed: int,
    tell: Callable[[str], None],
    do: Worker,
) -> Runs:
    """Measure what is planned: by name, the measurement and the sides that take part.

    Raises:
        Refused: a side holds something else than the work, or failed.
    """
    runs: Runs = {name: [{} for _ in range(measurement.rounds)] for name, (measurement, _) in plan.items()}
    to_come: list[tuple[str, int, str]] = []
    for name, (measurement, sides) in plan.items():
        for number in range(measurement.rounds):
            late = measurement.few is not None and number >= measurement.few
            taking_part = sorted(side for side in sides if not late or SLOW.get(side, 1) <= _QUICK)
            random.Random(f"{seed} {name} {number}").shuffle(taking_part)  # noqa: S311  # an order, no secret
            to_come += [(name, number, side) for side in taking_part]
    guess = {(name, side): plan[name][0].seconds * SLOW.get(side, 1) for name, _, side in to_come}
    took: dict[tuple[str, str], float] = {}
    for place, (name, number, side) in enumerate(to_come):
        pace = sum(took.values()) / sum(guess[one] for one in took) if took else 1
        left = sum(took.get((name, side), guess[name, side] * pace) for name, _, side in to_come[place:])
        measurement = plan[name][0]
        tell(f"{_span(left)} left: {name}, round {number + 1} of {measurement.rounds}: {side}")
        begin = time.monotonic()
        runs[name][number][side] = _one(measurement, side, seed + number, do)
        took[name, side] = time.monotonic() - begin
    return runs


def _span(seconds: float) -> str:
    return f"some {seconds:.0f} s" if seconds < 100 else f"some {seconds / 60:.0f} min"


def _one(measurement: Measurement, side: str, seed: int, do: Worker) -> Outcome:
    def done(job: Job) -> Outcome:
        own = replace(job, side=side, folder=folder, seed=seed)
        outcome = do(own)
        check(own, outcome)
        return outcome

    with tempfile.TemporaryDirectory(prefix="caesura-bench-", ignore_cleanup_errors=True) as folder:
        if measurement.before is not None:
            done(measurement.before)
        outcomes = [done(measurement.job) for _ in range(measurement.times)]
    return sorted(outcomes, key=lambda outcome: outcome.seconds)[len(outcomes) // 2]


def check(job: Job, outcome: Outcome) -> None:
    """Compare what a side holds with the work; other tasks than these compare for themselves.

    Raises:
        Refused: they differ.
    """
    if job.task not in ("work", "resume", "forks"):
        return
    held = dict.fromkeys(job.names, job.steps)
    if job.task == "forks":
        held |= dict.fromkeys(job.forks, job.steps // 2)
    for loop, steps in held.items():
        source = job.names[0] if loop in job.forks else loop
        expected = [digest(message) for message in messages(job.seed, source, steps)]
        found = outcome.read.get(loop, [])
        if found != expected:
            place = next(
                (place for place, (a, b) in enumerate(zip(found, expected, strict=False)) if a != b),
                min(len(found), len(expected)),
            )
            raise Refused(
                f"{job.side} did not do the same work as the others: {loop} holds {len(found)} messages "
                f"of {len(expected)}, and differs from message {place} on. Nothing is reported."
            )
