"""The run: jobs in child processes, interleaved by rounds; what the sides hold in the end is compared with the work."""

import math
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
from msgspec.structs import replace

from .job import Job, Outcome
from .sides import Missing
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

    No round begins after so many `seconds`. Sides in `once` take part in the first alone: they take too long for more.
    """

    job: Job
    rounds: int
    seconds: float = math.inf
    before: Job | None = None
    once: frozenset[str] = field(default_factory=frozenset[str])


Worker = Callable[[Job], Outcome]
"""Who does a job."""


def in_child(job: Job) -> Outcome:
    """Do a job in a process of its own.

    Raises:
        Missing: a peer is not installed.
        Refused: it failed.
    """
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench.child"], cwd=ROOT, input=msgspec.json.encode(job), capture_output=True
    )
    if done.returncode != 0:
        said = done.stderr.decode("utf-8", "replace").strip()
        raise Refused(f"{job.side} failed at {job.task!r}:\n{said[-3000:]}")
    outcome = msgspec.json.decode(done.stdout, type=Outcome)
    if outcome.missing:
        raise Missing(outcome.missing)
    return outcome


def run(
    plan: Mapping[str, tuple[Measurement, Iterable[str]]],
    seed: int,
    tell: Callable[[str], None],
    do: Worker = in_child,
) -> Runs:
    """Measure what is planned: by name, the measurement and the sides that take part.

    Raises:
        Missing: a peer is not installed.
        Refused: a side holds something else than the work, or failed.
    """
    runs: Runs = {}
    for name, (measurement, sides) in plan.items():
        runs[name] = []
        end = time.monotonic() + measurement.seconds
        for number in range(measurement.rounds):
            if number and time.monotonic() > end:
                break
            taking_part = sorted(side for side in sides if number == 0 or side not in measurement.once)
            random.Random(f"{seed} {name} {number}").shuffle(taking_part)  # noqa: S311  # an order, no secret
            found: Round = {}
            for side in taking_part:
                tell(f"{name}: round {number + 1} of {measurement.rounds}: {side}")
                found[side] = _one(measurement, side, seed + number, do)
            runs[name].append(found)
    return runs


def _one(measurement: Measurement, side: str, seed: int, do: Worker) -> Outcome:
    with tempfile.TemporaryDirectory(prefix="caesura-bench-", ignore_cleanup_errors=True) as folder:
        jobs = [job for job in (measurement.before, measurement.job) if job is not None]
        outcome = Outcome(side=side)
        for job in jobs:
            own = replace(job, side=side, folder=folder, seed=seed)
            outcome = do(own)
            if own.task in ("work", "resume"):
                check(own, outcome)
    return outcome


def check(job: Job, outcome: Outcome) -> None:
    """Compare what a side holds with the work.

    Raises:
        Refused: they differ.
    """
    for loop in job.names:
        expected = [digest(message) for message in messages(job.seed, loop, job.steps)]
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
