"""The floors: sqlite with nothing around it, and git's own commands."""

import json
import os
import sqlite3
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from .sides import Side
from .work import Message, Step

_GIT = ["git", "-c", "core.fsync=all", "-c", "gc.auto=0"]


class Sqlite(Side):
    """A table of messages. A step is one transaction that inserts what is new."""

    def __init__(self, folder: Path, synchronous: str) -> None:
        self._connection = sqlite3.connect(folder / "messages.db", isolation_level=None)
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

    def read(self, loop: str) -> list[Message]:
        found = self._connection.execute("SELECT message FROM messages WHERE loop = ? ORDER BY place", (loop,))
        return [json.loads(text) for (text,) in found]

    def close(self) -> None:
        self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self._connection.close()


class _Repository(Side):
    """A bare repository: a branch a loop, a file a message."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "plain.git"
        if not self._folder.exists():
            subprocess.run(["git", "init", "--quiet", "--bare", self._folder], check=True)
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

    def _git(self, *arguments: str, data: bytes = b"", index: str = "") -> str:
        environment = os.environ | {
            "GIT_AUTHOR_NAME": "bench",
            "GIT_AUTHOR_EMAIL": "bench@localhost",
            "GIT_COMMITTER_NAME": "bench",
            "GIT_COMMITTER_EMAIL": "bench@localhost",
        }
        if index:
            environment["GIT_INDEX_FILE"] = str(self._folder / index)
        command = [*_GIT, "-C", str(self._folder), *arguments]
        return subprocess.run(command, input=data, env=environment, capture_output=True, check=True).stdout.decode()

    def read(self, loop: str) -> list[Message]:
        names = self._git("ls-tree", "-r", "--format=%(objectname)", f"refs/heads/{loop}")
        batch = self._git("cat-file", "--batch", data=names.encode()).splitlines()
        return [json.loads(line) for line in batch[1::2]]  # each message is one line, and has one above it


class GitCommands(_Repository):
    """A step by git's commands, without a worktree: hash-object, update-index, write-tree, commit-tree, update-ref."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._heads: dict[str, str] = {}

    def append(self, loop: str, step: Step) -> None:
        index = f"{loop}.index"
        for path, data in self._files(loop, step):
            blob = self._git("hash-object", "-w", "--stdin", data=data).strip()
            self._git("update-index", "--add", "--cacheinfo", f"100644,{blob},{path}", index=index)
        tree = self._git("write-tree", index=index).strip()
        old = self._heads.get(loop)
        parent = [] if old is None else ["-p", old]
        commit = self._git("commit-tree", tree, *parent, "-m", "step").strip()
        self._git("update-ref", f"refs/heads/{loop}", commit, *([] if old is None else [old]))
        self._heads[loop] = commit

    def close(self) -> None:
        """Every command has ended."""


class FastImport(_Repository):
    """Steps streamed to ``git fast-import``; with `durable`, a step is over when its checkpoint is."""

    def __init__(self, folder: Path, *, durable: bool) -> None:
        super().__init__(folder)
        self._durable = durable
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
