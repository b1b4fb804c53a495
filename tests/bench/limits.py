"""What the machine itself takes for the parts of a step: nothing that is made of them can be quicker."""

import hashlib
import os
import subprocess
import time
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import ParamSpec

import trio

from caesura.continuations import Continuation, Message, decode_message, encode_message
from caesura.continuations._codec import decode_messages, encode_record
from caesura.continuations.store._deflate import deflate, inflate, inflate_all
from caesura.continuations.store._format import commit_bytes
from caesura.continuations.store._layout import WIDTH

from .job import Job, Outcome
from .ours import AUTHOR, COMMITTER, as_ours, first_state
from .scale import timed
from .work import messages

P = ParamSpec("P")

_MOST = 2**14
"""Bytes of a step that is written, at most."""

_ROUNDS = 5

APPEND = "append a message and fdatasync"
OVER = "write a message over zeros, and fdatasync"
STEP = "make and hash the objects of a step, write them over zeros, and fdatasync"
MAKE = "make and hash the objects of a step"
FILE = "a file of its own, and fsync it and its folder"
HASH = "hash a message"
ENCODE = "encode a message"
DEFLATE = "deflate a message"
INFLATE = "inflate a message"
DECODE = "decode a message"
READ = "inflate, hash and decode a message, of many in a row"
RECORD = "encode, hash and deflate a record and a commit"
CROSS = "cross to a thread and back"
LIST = "read a list of 10,000 names"
GIT = "start git"

LIMITS = (APPEND, OVER, STEP, MAKE, FILE, ENCODE, HASH, DEFLATE, INFLATE, DECODE, READ, RECORD, CROSS, LIST, GIT)
"""Everything that is measured, by name."""


def limits(job: Job) -> Outcome:
    """So many times each, in turn: appending, syncing, encoding, hashing, deflating, crossing to a thread, git itself.

    `STEP` is what a step takes of which nothing is looked up or checked: the floor of any journal of git's objects that
    is written in Python. `MAKE` is its part that is not shared, where many are written together.

    `disk` is what a loop of 1,000 steps is with each message deflated as far as it goes, and nothing else.
    """
    folder = Path(job.folder)
    whole = [as_ours(message) for message in messages(job.seed, "limits", job.steps)]
    texts, state = [encode_message(message) for message in whole], first_state((), "limits")
    log = os.open(folder / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    over, step = (_zeros(folder / name, len(texts) * _MOST) for name in ("over", "step"))
    took: dict[str, list[float]] = {}

    def take(name: str, call: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> None:
        took.setdefault(name, []).append(timed(call, *args, **kwargs))

    for number, text in enumerate(texts):
        take(APPEND, _append, log, text)
        take(OVER, _write_over, over, number * _MOST, text)
        take(STEP, _step, step, number * _MOST, (whole[number - 1], whole[number]), state)
        take(MAKE, _make, (whole[number - 1], whole[number]), state)
        take(FILE, _file, folder, number, text)
        take(ENCODE, encode_message, whole[number])
        take(HASH, hashlib.sha1, text, usedforsecurity=False)
        take(DEFLATE, deflate, text)
        take(INFLATE, inflate, deflate(text), len(text))
        take(DECODE, decode_message, text, "message")
        take(RECORD, _record, state)
    for file in (log, over, step):
        os.close(file)
    deflated = [deflate(text) for text in texts]
    for _ in range(_ROUNDS):
        took.setdefault(READ, []).append(timed(_read, deflated, list(map(len, texts))) / len(texts))
    took[CROSS] = trio.run(_crossings, len(texts))
    names = folder / "names"
    names.write_text("".join(f"refs/heads/loops/loop-{number:07}\n" for number in range(10_000)))
    for _ in range(10):
        take(LIST, lambda: names.read_text().splitlines())
        take(GIT, subprocess.run, ["git", "--version"], check=True, capture_output=True)
    loop = (encode_message(as_ours(message)) for message in messages(job.seed, "loop-1", 1000))
    return Outcome(side=job.side, figures=took, disk=sum(len(zlib.compress(one, 9)) for one in loop))


def _append(log: int, data: bytes) -> None:
    os.write(log, data)
    os.fdatasync(log)


def _zeros(path: Path, size: int) -> int:
    """A file whose bytes are on the disk, so that only what is written over them is waited for."""
    file = os.open(path, os.O_WRONLY | os.O_CREAT)
    os.write(file, bytes(size))
    os.fsync(file)
    return file


def _write_over(file: int, at: int, data: bytes) -> None:
    os.pwrite(file, data, at)
    os.fdatasync(file)


def _step(file: int, at: int, added: Sequence[Message], state: Continuation) -> None:
    body = _make(added, state)
    _write_over(file, at, zlib.crc32(body).to_bytes(4, "big") + body)


def _make(added: Sequence[Message], state: Continuation) -> bytes:
    """The objects of a step, or as many bytes: messages, their folder, that of such folders, the record, the tree of
    all, the commit."""
    entry = b"100644 00.json\x00".ljust(35)
    folders = [entry * (WIDTH // 2), entry * 8, entry * 3]
    objects = [*map(encode_message, added), *folders, encode_record(state), _commit(state)]
    names = [hashlib.sha1(b"blob %d\x00%b" % (len(data), data), usedforsecurity=False).digest() for data in objects]
    return b"".join((*names, *objects))


def _commit(state: Continuation) -> bytes:
    none = "0" * 40
    return commit_bytes(none, (none,), author=AUTHOR, committer=COMMITTER, at=state.at, message="lead: step")


def _record(state: Continuation) -> None:
    for data in (encode_record(state), _commit(state)):
        hashlib.sha1(data, usedforsecurity=False)
        deflate(data)


def _read(deflated: Sequence[bytes], sizes: Sequence[int]) -> None:
    texts = list(map(inflate_all, deflated, sizes))
    for text in texts:
        hashlib.sha1(text, usedforsecurity=False)
    decode_messages(texts, 0, str)


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
