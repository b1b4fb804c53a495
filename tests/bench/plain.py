"""The floors: sqlite with nothing around it, and git's own commands."""

import json
import os
import sqlite3
import subprocess
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO

from .sides import Side
from .work import Message, Step

_PATIENCE = 600
"""Seconds that a writer waits for its turn."""

_GIT = ["git", "-c", "core.fsync=all", "-c", "gc.auto=0"]


class Sqlite(Side):
    """A table of messages. A step is one transaction that inserts what is new."""

    def __init__(self, folder: Path, synchronous: str) -> None:
        self._folder, self._synchronous = folder, synchronous
        self._connection = sqlite3.connect(folder / "messages.db", isolation_level=None, timeout=_PATIENCE)
        self._connection.execute("PRAGMA journal_mode=WAL")
        self._connection.execute(f"PRAGMA synchronous={synchronous}")
        self._connection.execute(
            "CREATE TABLE IF NOT EXISTS messages (loop TEXT, place INTEGER, message TEXT, PRIMARY KEY (loop, place))"
        )
        self._places: dict[str, int] = {}

    def append(self, loop: str, step: Step) -> None:
        place = self._places.get(loop, 0)
        rows = [(loop, place + offset, json.dumps(message)) for offset, message in enumerate(step)]
        self._connection.execute("BEGIN IMMEDIATE")
        self._connection.executemany("INSERT INTO messages VALUES (?, ?, ?)", rows)
        self._connection.execute("COMMIT")
        self._places[loop] = place + len(step)

    def moment(self, loop: str, steps: Sequence[Step], taken: int) -> tuple[str, int]:
        return loop, sum(map(len, steps[:taken]))

    def fork(self, moment: tuple[str, int], name: str) -> None:
        copy = "INSERT INTO messages SELECT ?, place, message FROM messages WHERE loop = ? AND place < ?"
        self._connection.execute(copy, (name, *moment))

    def first_effect(self, loop: str) -> bool:
        return bool(self.read(loop))

    def read(self, loop: str) -> list[Message]:
        found = self._connection.execute("SELECT message FROM messages WHERE loop = ? ORDER BY place", (loop,))
        return [json.loads(text) for (text,) in found]

    def close(self) -> None:
        self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self._connection.close()


class SqliteWriters(Sqlite):
    """The same, where loops that are at work at once have a thread and a connection each."""

    def at_once(self, loops: Mapping[str, Sequence[Step]]) -> list[float]:
        def one(loop: str) -> list[float]:
            own = Sqlite(self._folder, self._synchronous)
            took = own.run(loop, loops[loop])
            own.close()
            return took

        with ThreadPoolExecutor(len(loops)) as threads:
            return [seconds for took in threads.map(one, loops) for seconds in took]


class _Repository(Side):
    """Repositories of git, in which a message is a file."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._places: dict[str, int] = {}

    def _files(self, loop: str, step: Step) -> list[tuple[str, bytes]]:
        """The files that a step adds, in folders of 64."""
        first = self._places.get(loop, 0)
        self._places[loop] = first + len(step)
        places = range(first, first + len(step))
        return [
            (f"messages/{n // 64:04}/{n % 64:02}.json", json.dumps(m).encode())
            for n, m in zip(places, step, strict=True)
        ]

    def _read(self, folder: Path, branch: str) -> list[Message]:
        names = git(folder, "ls-tree", "-r", "--format=%(objectname)", f"refs/heads/{branch}")
        batch = git(folder, "cat-file", "--batch", data=names.encode()).splitlines()
        return [json.loads(line) for line in batch[1::2]]  # each message is one line, and has one above it


def git(folder: Path, *arguments: str, data: bytes = b"") -> str:
    """What a command of git says in a folder; a failure of it is an error."""
    who = {f"GIT_{role}_{what}": "bench" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    command = [*_GIT, "-C", str(folder), *arguments]
    return subprocess.run(command, input=data, env=os.environ | who, capture_output=True, check=True).stdout.decode()


class GitCommit(_Repository):
    """A loop is a working folder: a step writes the new messages there, and is ``git add`` and ``git commit``."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._forks: dict[str, str] = {}

    def append(self, loop: str, step: Step) -> None:
        folder = self._folder / loop
        if not folder.exists():
            git(self._folder, "init", "--quiet", f"--initial-branch={loop}", loop)
        files = self._files(loop, step)
        for name, data in files:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(data)
        git(folder, "add", "--", *(name for name, _ in files))
        git(folder, "commit", "--quiet", "--message=step")

    def moment(self, loop: str, steps: Sequence[Step], taken: int) -> tuple[str, str]:
        return loop, git(self._folder / loop, "rev-parse", f"{loop}~{len(steps) - taken}").strip()

    def fork(self, moment: tuple[str, str], name: str) -> None:
        loop, commit = moment
        git(self._folder / loop, "branch", name, commit)
        self._forks[name] = loop

    def first_effect(self, loop: str) -> bool:
        return bool(self.read(loop))

    def read(self, loop: str) -> list[Message]:
        return self._read(self._folder / self._forks.get(loop, loop), loop)

    def close(self) -> None:
        """Every command has ended."""


class FastImport(_Repository):
    """Steps streamed to ``git fast-import``; with `durable`, a step is over when its checkpoint is."""

    def __init__(self, folder: Path, *, durable: bool) -> None:
        super().__init__(folder / "plain.git")
        self._durable = durable
        if not self._folder.exists():
            git(folder, "init", "--quiet", "--bare", "plain.git")
        command = [*_GIT, "-C", str(self._folder), "fast-import", "--quiet", "--done", "--force"]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    @property
    def _input(self) -> IO[bytes]:
        assert self._process.stdin is not None
        return self._process.stdin

    def run(self, loop: str, steps: Sequence[Step]) -> list[float]:
        if self._durable:
            return super().run(loop, steps)
        begin = time.perf_counter()
        for step in steps:
            self.append(loop, step)
        self._progress()  # only then are they with git
        each = (time.perf_counter() - begin) / len(steps)
        return [each] * len(steps)

    def append(self, loop: str, step: Step) -> None:
        parts = [f"commit refs/heads/{loop}\ncommitter bench <bench@localhost> 0 +0000\ndata 4\nstep\n".encode()]
        for path, data in self._files(loop, step):
            parts.append(f"M 100644 inline {path}\ndata {len(data)}\n".encode() + data + b"\n")
        self._input.write(b"".join(parts) + b"\n")
        if self._durable:
            self._input.write(b"checkpoint\n\n")
            self._progress()

    def read(self, loop: str) -> list[Message]:
        return self._read(self._folder, loop)

    def _progress(self) -> None:
        self._input.write(b"progress done\n\n")
        self._input.flush()
        assert self._process.stdout is not None
        self._process.stdout.readline()

    def close(self) -> None:
        self._input.write(b"done\n")
        self._input.close()
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._process.wait()
