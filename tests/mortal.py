"""Processes that die by ``kill -9``, at an instant that is chosen beforehand."""

import os
import signal
import sys
from pathlib import Path
from typing import Any

from caesura.continuations import CommitId, GitStore, LoopName, Visibility
from caesura.continuations.store import _disk


class Fate:
    """When this process dies, and what it has done until then.

    ``before:3`` and ``after:3`` are the third move of a branch; ``locked:3`` is while it holds git's own lock on a ref
    for the third time; ``write:3`` is before the third time that it creates, locks, renames, cuts or deletes a file
    (a lease, or the lock that a branch moves under); ``inside:3`` is after the third effect of a tool, before the
    tool returns; ``half:3`` is in the middle of the third frame that it adds to a journal; ``time:0.3`` is that many
    seconds from now, wherever it is; and nothing is never. With ``sealed/`` before it, it is of a process that seals
    its steps, which is its `visibility`.
    """

    def __init__(self, death: str) -> None:
        self.moves = self.locks = self.writes = self.effects = self.frames = 0
        sealed, _, death = death.rpartition("/")
        self.visibility: Visibility = "sealed" if sealed else "step"
        self._when, _, self._at = death.partition(":")
        if self._when == "time":
            # What nobody handles ends a process where it stands, as SIGKILL does.
            signal.setitimer(signal.ITIMER_REAL, float(self._at))
        if self._when in ("", "write"):
            self._watch_files()
        self._watch_branches()
        if self._when in ("", "half"):
            self._watch_frames()

    def effect(self) -> None:
        """A tool has done the one thing that cannot be undone."""
        self.effects += 1
        self._die_if("inside", self.effects)

    def _die_if(self, when: str, number: int) -> None:
        if when == self._when and number == int(self._at):
            os.kill(os.getpid(), signal.SIGKILL)

    def _watch_branches(self) -> None:
        move, link = GitStore.move, _disk.link

        def moves(store: GitStore, loop: LoopName, old: CommitId | None, new: CommitId) -> None:
            self.moves += 1
            self._die_if("before", self.moves)
            move(store, loop, old, new)
            self._die_if("after", self.moves)

        def links(old: Path, new: Path) -> None:
            link(old, new)  # git's own lock on a ref, or on HEAD, is taken
            self.locks += new.name.endswith(".lock")
            self._die_if("locked", self.locks)

        setattr(GitStore, "move", moves)  # noqa: B010 - a method is put in the place of another
        setattr(_disk, "link", links)  # noqa: B010

    def _watch_frames(self) -> None:
        put = _disk.put

        def puts(file: _disk.Growing, at: int, data: bytes) -> None:
            self.frames += 1
            if self._when == "half" and self.frames == int(self._at):
                put(file, at, data[: len(data) // 2])
                self._die_if("half", self.frames)
            put(file, at, data)

        setattr(_disk, "put", puts)  # noqa: B010

    def _watch_files(self) -> None:
        def hook(event: str, arguments: tuple[Any, ...]) -> None:
            written = event in ("os.rename", "os.remove", "os.link", "os.truncate", "os.mkdir", "fcntl.flock")
            if event == "open" and isinstance(arguments[2], int):
                written = bool(arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
            if written:
                self.writes += 1
                self._die_if("write", self.writes)

        sys.addaudithook(hook)
