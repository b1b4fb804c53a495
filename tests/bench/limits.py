"""What the machine itself takes for the parts of a step: nothing that is made of them can be quicker."""

import hashlib
import os
import subprocess
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import ParamSpec

import trio

from .job import Job, Outcome
from .scale import timed
from .work import messages

P = ParamSpec("P")


def limits(job: Job) -> Outcome:
    """So many times each, in turn: appending, syncing, hashing, deflating, crossing to a thread, starting git."""
    folder = Path(job.folder)
    texts = [message["content"].encode() for message in messages(job.seed, "limits", job.steps)]
    log = os.open(folder / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    took: dict[str, list[float]] = {}

    def take(name: str, call: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> None:
        took.setdefault(name, []).append(timed(call, *args, **kwargs))

    for number, text in enumerate(texts):
        take("append a message and fdatasync", _append, log, text)
        take("a file of its own, and fsync it and its folder", _file, folder, number, text)
        take("hash a message", hashlib.sha1, text, usedforsecurity=False)
        take("deflate a message", zlib.compress, text, 1)
    os.close(log)
    took["cross to a thread and back"] = trio.run(_crossings, len(texts))
    for _ in range(10):
        take("start git", subprocess.run, ["git", "--version"], check=True, capture_output=True)
    return Outcome(side=job.side, figures=took)


def _append(log: int, data: bytes) -> None:
    os.write(log, data)
    os.fdatasync(log)


def _file(folder: Path, number: int, data: bytes) -> None:
    file = os.open(folder / f"{number}", os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    os.write(file, data)
    os.fsync(file)
    os.close(file)
    names = os.open(folder, os.O_RDONLY)
    os.fsync(names)
    os.close(names)


async def _crossings(count: int) -> list[float]:
    took: list[float] = []
    for _ in range(count):
        begin = time.perf_counter()
        await trio.to_thread.run_sync(int)
        took.append(time.perf_counter() - begin)
    return took
