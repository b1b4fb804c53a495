"""A job in a process of its own: ``python -m tests.bench.child`` reads it from its input and prints its outcome."""

import os
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import msgspec

from . import scale, whole
from .job import Job, Outcome
from .limits import limits
from .ours import Caesura
from .peers import Dbos, LangGraph, LangGraphAsync, OpenAIAgents
from .plain import FastImport, GitCommands, Sqlite
from .sides import Missing, Side, bytes_on_disk
from .work import digest, steps

SIDES: Mapping[str, Callable[[Path], Side]] = {
    "caesura": partial(Caesura, settings="durable"),
    "caesura-step": partial(Caesura, settings="step"),
    "caesura-crash": partial(Caesura, settings="crash"),
    "langgraph": LangGraph,
    "langgraph-delta": partial(LangGraph, delta=True),
    "langgraph-async": LangGraphAsync,
    "openai-agents": OpenAIAgents,
    "dbos": Dbos,
    "sqlite-full": partial(Sqlite, synchronous="FULL"),
    "sqlite-normal": partial(Sqlite, synchronous="NORMAL"),
    "git-commands": GitCommands,
    "fast-import-durable": partial(FastImport, durable=True),
    "fast-import": partial(FastImport, durable=False),
}
"""Every side that can be given messages, by name."""


def work(job: Job) -> Outcome:
    """Take the steps of the job's loops, close, open again and read everything back."""
    folder = Path(job.folder)
    loops = {name: steps(job.seed, name, job.steps) for name in job.names}
    side = SIDES[job.side](folder)
    begin = time.perf_counter()
    match job.shape:
        case "one":
            took = [seconds for name, some in loops.items() for seconds in side.run(name, some)]
        case "at once":
            took = side.at_once(loops)
        case "nested":
            took = side.nested(job.names[0], loops[job.names[0]], {name: loops[name] for name in job.names[1:]})
    seconds = time.perf_counter() - begin
    begin = time.perf_counter()
    side.close()
    closing = time.perf_counter() - begin
    disk = bytes_on_disk(folder)
    read = _read_back(job)
    return Outcome(side=job.side, seconds=seconds, took=took, disk=disk, read=read, figures={"closing": [closing]})


def _read_back(job: Job) -> dict[str, list[str]]:
    side = SIDES[job.side](Path(job.folder))
    found = {name: [digest(message) for message in side.read(name)] for name in job.names}
    side.close()
    return found


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


TASKS: Mapping[str, Callable[[Job], Outcome]] = {
    "work": work,
    "resume": resume,
    "length": scale.length,
    "fork": scale.fork,
    "refs": scale.refs,
    "waiting": scale.waiting,
    "runtime": whole.runtime,
    "memory": whole.memory,
    "crowd": whole.crowd,
    "limits": limits,
}
"""What a child can be told to do."""


def main() -> None:
    """Do the job on the standard input; its outcome goes where the standard output led when this began."""
    job = msgspec.json.decode(sys.stdin.buffer.read(), type=Job)
    with os.fdopen(os.dup(1), "wb") as answer:
        os.dup2(2, 1)  # what a peer prints is no outcome
        try:
            answer.write(msgspec.json.encode(TASKS[job.task](job)))
        except Missing as error:
            answer.write(msgspec.json.encode(Outcome(side=job.side, missing=str(error))))


if __name__ == "__main__":
    main()
