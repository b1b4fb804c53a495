"""How far a goal's figure could go: what it would be, by what was measured in the same run, if there were only what
nothing can do without."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import fmean, median

from .folder import STAT
from .goals import rate
from .limits import DECODE, DEFLATE, ENCODE, HASH, LIST, MAKE, OVER, READ, RECORD, STEP
from .run import Runs

_MESSAGES = 1000


@dataclass(frozen=True, kw_only=True)
class Bound:
    """The figure if there were only what `only` says."""

    only: str
    figure: Callable[[Runs], float]


def _takes(runs: Runs, *names: str) -> float:
    """The seconds that the machine itself takes for these."""
    found = [outcome["caesura"].figures for outcome in runs["limits"]]
    return sum(median(seconds for figures in found for seconds in figures[name]) for name in names)


def _made(runs: Runs, *, messages: int, steps: int) -> float:
    """Steps that are made as git has them, but for their folders."""
    return messages * _takes(runs, ENCODE, HASH, DEFLATE) + steps * _takes(runs, RECORD)


def _mean(runs: Runs, side: str) -> float:
    return median(fmean(found[side].took) for found in runs["one"] if side in found)


def _ours(runs: Runs, measured: str, figure: str) -> float:
    return median(seconds for found in runs[measured] for seconds in found["caesura"].figures[figure])


def _smallest(side: str) -> Bound:
    def figure(runs: Runs) -> float:
        least = median(found["caesura"].disk for found in runs["limits"])
        return least / median(found[side].disk for found in runs["one"] if side in found)

    return Bound(only="every message deflated at 9", figure=figure)


def _fixed(figure: float, only: str) -> Bound:
    return Bound(only=only, figure=lambda _: figure)


def _at_once(runs: Runs) -> float:
    return 1 / _takes(runs, MAKE) / median(rate(found["sqlite-full"]) for found in runs["at_once_64"])


def _resume(runs: Runs) -> float:
    least = _MESSAGES * _takes(runs, READ)
    return least / median(found["langgraph-delta"].seconds for found in runs["resume"])


def _crowd(runs: Runs) -> float:
    """Each loop takes a call, its beginning and its result a second."""
    loops = max(int(name.removeprefix("crowd_")) for name in runs if name.startswith("crowd_"))
    return loops * _made(runs, messages=2, steps=3)


_KEPT = "the objects of a step made, hashed and flushed, by Python"
_OBJECTS = "the objects of a step made and hashed, by Python"
_MADE = "messages, record and commit encoded, hashed and deflated, on one processor"

BOUNDS: Mapping[str, Bound] = {
    "langgraph-plain": Bound(only=_KEPT, figure=lambda runs: _mean(runs, "langgraph") / _takes(runs, STEP)),
    "langgraph-delta": Bound(only=_KEPT, figure=lambda runs: _mean(runs, "langgraph-delta") / _takes(runs, STEP)),
    "sqlite-full": Bound(only=_KEPT, figure=lambda runs: _takes(runs, STEP) / _mean(runs, "sqlite-full")),
    "sqlite-at-once": Bound(only=_OBJECTS, figure=_at_once),
    "latency-tail": _fixed(1, "steps that all take the same"),
    "fast-import": Bound(only=_OBJECTS, figure=lambda runs: _mean(runs, "fast-import") / _takes(runs, MAKE)),
    "long-loop": _fixed(1, "nothing that grows"),
    "disk-langgraph-plain": _smallest("langgraph"),
    "disk-langgraph-delta": _smallest("langgraph-delta"),
    "disk-sqlite": _smallest("sqlite-full"),
    "resume": Bound(only="1,000 messages inflated, hashed and decoded", figure=_resume),
    "fork": Bound(
        only="a message written over zeros, and flushed",
        figure=lambda runs: _takes(runs, OVER) / _ours(runs, "fork", "step"),
    ),
    "find-waiting": Bound(
        only="a list of 10,000 names read",
        figure=lambda runs: _takes(runs, LIST) / _ours(runs, "refs", "git lists all 1000000"),
    ),
    "refs-update": _fixed(1, "nothing that grows"),
    "runtime-step": Bound(only="a message decoded and hashed", figure=lambda runs: _takes(runs, DECODE, HASH) * 1e6),
    "files": Bound(only="os.lstat of each file", figure=lambda runs: _ours(runs, "files", STAT) * 1e3),
    "memory-suspended": _fixed(0, "nothing held"),
    "memory-active": _fixed(1, "its messages, once"),
    "crowd": Bound(only=f"for each loop and second, three steps' {_MADE}", figure=_crowd),
}
"""By the name of a goal."""
