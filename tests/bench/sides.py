"""Sides: what stores loops, each opened in a folder of its own, appended to and read back."""

import importlib
import importlib.util
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .work import Message, Step

EXTRA = "pip install -c constraints.txt -e '.[bench]'"
"""What installs the peers."""


_LANGGRAPH = ("langgraph.graph", "langgraph.checkpoint.sqlite")

PEERS: Mapping[str, tuple[str, ...]] = {
    "langgraph": _LANGGRAPH,
    "langgraph-delta": _LANGGRAPH,
    "langgraph-async": (*_LANGGRAPH, "aiosqlite"),
    "langgraph-async-delta": (*_LANGGRAPH, "aiosqlite"),
    "openai-agents": ("agents",),
    "dbos": ("dbos",),
}
"""What the sides need that are not there without the extra."""


class Missing(Exception):
    """A peer is not installed."""


def peer(module: str) -> Any:
    """A module of a peer, or of what draws the plot.

    Raises:
        Missing: it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise Missing(f"{module} cannot be imported ({error}). Install the peers: {EXTRA}") from error


def lacking(side: str) -> str:
    """Why a side cannot take part: what it needs is not installed; empty if it can."""
    for module in PEERS.get(side, ()):
        try:
            found = importlib.util.find_spec(module)
        except ModuleNotFoundError:
            found = None
        if found is None:
            return f"{side} needs {module}, which is not installed. Install the peers: {EXTRA}"
    return ""


class Side(ABC):
    """One way to keep loops. A step is over when it is as safe as the side promises; each is given as `prepared`."""

    def run(self, loop: str, steps: Sequence[Any]) -> list[float]:
        """Take the steps of a loop one after another; the seconds that each took."""
        return [self.timed(loop, step) for step in steps]

    def at_once(self, loops: Mapping[str, Sequence[Any]]) -> list[float]:
        """Take the steps of many loops, all at the same time as far as the side can; the seconds of each step."""
        longest = max(map(len, loops.values()))
        return [
            self.timed(loop, steps[place])
            for place in range(longest)
            for loop, steps in loops.items()
            if place < len(steps)
        ]

    def nested(self, lead: str, lead_steps: Sequence[Any], children: Mapping[str, Sequence[Any]]) -> list[float]:
        """Take the steps of children in parallel, then those of the lead that takes up their results."""
        begun = self.run(lead, lead_steps[:1])
        return [*begun, *self.at_once(children), *self.run(lead, lead_steps[1:])]

    def prepared(self, step: Step) -> Any:
        """A step's messages as a program that uses this side has them; not counted."""
        return step

    def timed(self, loop: str, step: Any) -> float:
        """Take one step; the seconds that it took."""
        begin = time.perf_counter()
        self.append(loop, step)
        return time.perf_counter() - begin

    def append(self, loop: str, step: Any) -> None:
        """Take one step."""
        raise NotImplementedError

    def first_effect(self, loop: str) -> bool:
        """Load a loop as far as it takes to know what is to be done next; whether there is something."""
        raise NotImplementedError

    def moment(self, loop: str, steps: Sequence[Step], taken: int) -> Any:
        """Where a loop, all of whose steps these are, had taken so many of them; not counted."""
        raise NotImplementedError

    def fork(self, moment: Any, name: str) -> None:
        """Make a loop of that name that goes on from a `moment` of another."""
        raise NotImplementedError

    @abstractmethod
    def read(self, loop: str) -> list[Message]:
        """A loop's messages, in order."""

    @abstractmethod
    def close(self) -> None:
        """Let go of what is open, and leave the disk as it is to be measured."""


def bytes_on_disk(folder: Path) -> int:
    """What the files in a folder take, in whole blocks, as ``du`` counts."""
    return sum(path.lstat().st_blocks * 512 for path in folder.rglob("*"))
