"""Jobs in processes of their own: ``python -m tests.bench.child`` reads them from its input, a line each, and answers
each with a line, its outcome.

Every job has a process that is forked from this one, which has done nothing but import what all of them share: so each
is as fresh as the other, and none waits for the imports.
"""

import gc
import os
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import IO

import msgspec

from . import folder, scale, whole
from .job import Job, Outcome
from .limits import limits
from .ours import Caesura
from .peers import Dbos, LangGraph, LangGraphAsync, OpenAIAgents
from .plain import FastImport, GitCommit, Sqlite, SqliteWriters
from .sides import Missing, Side, bytes_on_disk
from .work import digest, steps

SIDES: Mapping[str, Callable[[Path], Side]] = {
    "caesura": partial(Caesura, settings="durable"),
    "caesura-step": partial(Caesura, settings="step"),
    "caesura-crash": partial(Caesura, settings="crash"),
    "langgraph": LangGraph,
    "langgraph-delta": partial(LangGraph, delta=True),
    "langgraph-async": LangGraphAsync,
    "langgraph-async-delta": partial(LangGraphAsync, delta=True),
    "openai-agents": OpenAIAgents,
    "dbos": Dbos,
    "sqlite-full": partial(Sqlite, synchronous="FULL"),
    "sqlite-writers": partial(SqliteWriters, synchronous="FULL"),
    "sqlite-normal": partial(Sqlite, synchronous="NORMAL"),
    "git-commit": GitCommit,
    "fast-import-durable": partial(FastImport, durable=True),
    "fast-import": partial(FastImport, durable=False),
}
"""Every side that can be given messages, by name."""


def work(job: Job) -> Outcome:
    """Take the steps of the job's loops, close, open again and read everything back."""
    folder = Path(job.folder)
    loops = {name: steps(job.seed, name, job.steps) for name in job.names}
    side = SIDES[job.side](folder)
    ready = {name: list(map(side.prepared, some)) for name, some in loops.items()}
    begin = time.perf_counter()
    match job.shape:
        case "one":
            took = [seconds for name, some in ready.items() for seconds in side.run(name, some)]
        case "at once":
            took = side.at_once(ready)
        case "nested":
            took = side.nested(job.names[0], ready[job.names[0]], {name: ready[name] for name in job.names[1:]})
    seconds = time.perf_counter() - begin
    begin = time.perf_counter()
    side.close()
    closing = time.perf_counter() - begin
    disk = bytes_on_disk(folder)
    read = _read_back(job)
    return Outcome(side=job.side, seconds=seconds, took=took, disk=disk, read=read, figures={"closing": [closing]})


def _read_back(job: Job) -> dict[str, list[str]]:
    side = SIDES[job.side](Path(job.folder))
    found = {name: _digests(side, name) for name in job.names}
    side.close()
    return found


def _digests(side: Side, loop: str) -> list[str]:
    return [digest(message) for message in side.read(loop)]


def resume(job: Job) -> Outcome:
    """Open what an earlier job has left, and find out what is to be done next in its loop."""
    with tempfile.TemporaryDirectory(dir=job.folder) as empty:
        SIDES[job.side](Path(empty)).close()  # what it imports is imported by now
    begin = time.perf_counter()
    side = SIDES[job.side](Path(job.folder))
    found = side.first_effect(job.names[0])
    seconds = time.perf_counter() - begin
    side.close()
    if not found:
        raise ValueError(f"{job.side} found nothing to do in {job.names[0]}")
    return Outcome(side=job.side, seconds=seconds, read=_read_back(job))


def forks(job: Job) -> Outcome:
    """Open what an earlier job has left, and fork its loop in the middle, so many times, into loops that hold what it
    held there."""
    side, loop = SIDES[job.side](Path(job.folder)), job.names[0]
    read = {loop: _digests(side, loop)}
    moment = side.moment(loop, steps(job.seed, loop, job.steps), job.steps // 2)
    took = [scale.timed(side.fork, moment, name) for name in job.forks]
    read |= {name: _digests(side, name) for name in job.forks}
    side.close()
    return Outcome(side=job.side, took=took, read=read)


TASKS: Mapping[str, Callable[[Job], Outcome]] = {
    "work": work,
    "resume": resume,
    "forks": forks,
    "length": scale.length,
    "fork": scale.fork,
    "refs": scale.refs,
    "runtime": whole.runtime,
    "files": folder.files,
    "memory": whole.memory,
    "crowd": whole.crowd,
    "limits": limits,
}
"""What a child can be told to do."""


def main() -> None:
    """Do the jobs on the standard input; the outcomes go where the standard output led when this began."""
    with os.fdopen(os.dup(1), "wb") as answers:
        os.dup2(2, 1)  # what a peer prints is no outcome
        for line in sys.stdin.buffer:
            job = msgspec.json.decode(line, type=Job)
            child = os.fork()
            if child == 0:
                gc.collect()  # what was imported is looked through here, and not within a step
                _answer(answers, outcome_of(job))
                os._exit(0)  # what a peer would still do is no part of the job
            _, status = os.waitpid(child, 0)
            if status:
                _answer(answers, Outcome(side=job.side, failed=f"its process ended with {_ending(status)}"))


def outcome_of(job: Job) -> Outcome:
    """Do a job; if it fails, the outcome says so."""
    try:
        return TASKS[job.task](job)
    except (Missing, OSError) as error:  # which say it all
        return Outcome(side=job.side, failed=str(error))
    except Exception as error:  # noqa: BLE001  # a peer's, of whatever kind: the run is refused by it
        return Outcome(side=job.side, failed=str(error) or type(error).__name__, trace=traceback.format_exc())


def _answer(answers: IO[bytes], outcome: Outcome) -> None:
    answers.write(msgspec.json.encode(outcome) + b"\n")
    answers.flush()


def _ending(status: int) -> str:
    code = os.waitstatus_to_exitcode(status)
    return f"status {code}" if code >= 0 else signal.strsignal(-code) or f"signal {-code}"


if __name__ == "__main__":
    main()
