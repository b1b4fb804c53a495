"""The goals: each a ratio within one run, and what it should be."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median

from msgspec.structs import replace

from .folder import LOOK
from .job import Job, Outcome
from .run import Measurement, Round, Runs

Ratios = list[float] | tuple[list[float], str]
"""A goal's figure of each round, and, where there is something to say, what."""


@dataclass(frozen=True, kw_only=True)
class Goal:
    """What should hold: the median of the rounds' figures is at least, or at most, `limit`.

    `needs` is what has to be measured for it, and with which sides.
    """

    name: str
    title: str
    limit: float
    at_least: bool
    needs: Mapping[str, tuple[str, ...]]
    ratios: Callable[[Runs], Ratios]


GOALS: dict[str, Goal] = {}
"""Every goal, by name, in the order in which they are shown."""


def goal(
    title: str, *, at_least: float | None = None, at_most: float | None = None, **needs: tuple[str, ...]
) -> Callable[[Callable[[Runs], Ratios]], Callable[[Runs], Ratios]]:
    """Make a goal of a function, which is given what was measured; it has the function's name."""

    def made(ratios: Callable[[Runs], Ratios]) -> Callable[[Runs], Ratios]:
        name = ratios.__name__.replace("_", "-")
        limit = at_least if at_least is not None else at_most
        assert limit is not None
        GOALS[name] = Goal(
            name=name, title=title, limit=limit, at_least=at_least is not None, needs=needs, ratios=ratios
        )
        return ratios

    return made


def plan(
    names: Sequence[str], sizes: Mapping[str, Measurement], more: Mapping[str, tuple[str, ...]]
) -> dict[str, tuple[Measurement, set[str]]]:
    """What has to be measured for some goals, each thing once, with every side that one needs, and `more`."""
    found: dict[str, tuple[Measurement, set[str]]] = {}
    for needs in (*(GOALS[name].needs for name in names), more):
        for measured, sides in needs.items():
            if measured in sizes:
                found.setdefault(measured, (sizes[measured], set()))[1].update(sides)
    return {measured: found[measured] for measured in sizes if measured in found}


def _each(runs: Runs, measured: str, figure: Callable[[Round], float], *sides: str) -> list[float]:
    """A figure of each round in which these sides took part."""
    return [figure(found) for found in runs[measured] if all(side in found for side in sides)]


def _faster(runs: Runs, measured: str, than: str, ours: str = "caesura") -> list[float]:
    """How often a mean step of ours goes into one of theirs, by rounds."""
    return _each(runs, measured, lambda found: fmean(found[than].took) / fmean(found[ours].took), than, ours)


def _smaller(runs: Runs, than: str) -> list[float]:
    return _each(runs, "one", lambda found: found["caesura"].disk / found[than].disk, than, "caesura")


def quantile(values: Sequence[float], share: float) -> float:
    """The value below which that share of them is."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def rate(outcome: Outcome) -> float:
    """Steps a second."""
    return len(outcome.took) / outcome.seconds


# Steps ---------------------------------------------------------------------------------------------------------------


@goal(
    "a durable step, one loop: faster than LangGraph SqliteSaver, plain channel, durability=sync",
    at_least=20,
    one=("caesura", "langgraph"),
)
def langgraph_plain(runs: Runs) -> Ratios:
    """LangGraph writes the whole array with each step."""
    return _faster(runs, "one", "langgraph")


@goal(
    "a durable step, one loop: faster than LangGraph SqliteSaver, DeltaChannel, durability=sync",
    at_least=4,
    one=("caesura", "langgraph-delta"),
)
def langgraph_delta(runs: Runs) -> Ratios:
    """With its newest channel LangGraph writes what is new."""
    return _faster(runs, "one", "langgraph-delta")


@goal(
    "a durable step, one loop: its time beside raw sqlite, WAL, synchronous=FULL, what is new alone",
    at_most=1.1,
    one=("caesura", "sqlite-full"),
)
def sqlite_full(runs: Runs) -> Ratios:
    """The floor for any durable store."""
    return [1 / ratio for ratio in _faster(runs, "one", "sqlite-full")]


@goal(
    "durable steps a second, 64 loops at once: beside raw sqlite FULL, a transaction a step",
    at_least=3,
    at_once_64=("caesura", "sqlite-full"),
)
def sqlite_at_once(runs: Runs) -> Ratios:
    """Sqlite takes the loops' steps in turn, without a thread or a lock between."""
    return _each(runs, "at_once_64", lambda found: rate(found["caesura"]) / rate(found["sqlite-full"]))


@goal("p99 of a commit's time beside its p50, 64 loops at once", at_most=5, at_once_64=("caesura",))
def latency_tail(runs: Runs) -> Ratios:
    """From a loop's wish to commit until that is acknowledged, so with the wait for other loops."""
    return _each(
        runs,
        "at_once_64",
        lambda found: quantile(found["caesura"].took, 0.99) / quantile(found["caesura"].took, 0.5),
    )


@goal(
    "not durable: steps a second beside git fast-import's",
    at_least=3,
    one=("caesura-crash", "fast-import"),
)
def fast_import(runs: Runs) -> Ratios:
    """Git's own fastest way to write commits."""
    return _faster(runs, "one", "fast-import", "caesura-crash")


# Length --------------------------------------------------------------------------------------------------------------


@goal("a durable step at message 10,000 beside one at message 100", at_most=1.2, length=("caesura",))
def long_loop(runs: Runs) -> Ratios:
    """In turn, so that both meet the same disk."""

    def figure(found: Round) -> float:
        figures = found["caesura"].figures
        return median(figures["10000"]) / median(figures["100"])

    return _each(runs, "length", figure)


@goal("bytes on disk after 1,000 steps, beside LangGraph, plain channel", at_most=1 / 500, one=("caesura", "langgraph"))
def disk_langgraph_plain(runs: Runs) -> Ratios:
    """In whole blocks, closed and checkpointed; nothing is repacked but by what Caesura does of itself."""
    return _smaller(runs, "langgraph")


@goal(
    "bytes on disk after 1,000 steps, beside LangGraph, DeltaChannel",
    at_most=1 / 8,
    one=("caesura", "langgraph-delta"),
)
def disk_langgraph_delta(runs: Runs) -> Ratios:
    """As with the plain channel."""
    return _smaller(runs, "langgraph-delta")


@goal("bytes on disk after 1,000 steps, beside raw sqlite", at_most=1 / 2, one=("caesura", "sqlite-full"))
def disk_sqlite(runs: Runs) -> Ratios:
    """As with LangGraph."""
    return _smaller(runs, "sqlite-full")


@goal(
    "a loop of 1,000 messages, from a fresh process to its first effect: beside LangGraph's get_state, DeltaChannel",
    at_most=1,
    resume=("caesura", "langgraph-delta"),
)
def resume(runs: Runs) -> Ratios:
    """What each does once its modules are imported: open, load, find out what is next."""
    return _each(runs, "resume", lambda found: found["caesura"].seconds / found["langgraph-delta"].seconds)


@goal("a fork of a commit in a loop of any length, beside a step", at_most=2, fork=("caesura",))
def fork(runs: Runs) -> Ratios:
    """The worst of 10, 100, 1,000 and 10,000 messages; both by stores that are open."""

    def figure(found: Round) -> float:
        figures = found["caesura"].figures
        return max(median(some) for name, some in figures.items() if name.isdecimal()) / median(figures["step"])

    return _each(runs, "fork", figure)


# Many loops ----------------------------------------------------------------------------------------------------------


@goal(
    "find 10,000 that wait among 1,000,000 loops, beside git for-each-ref over all",
    at_most=1 / 20,
    refs=("caesura",),
)
def find_waiting(runs: Runs) -> Ratios:
    """With `Store.waiting`, once there has been a first look: that may have had an index to make."""

    def figure(found: Round) -> float:
        figures = found["caesura"].figures
        return median(figures["list what waits 1000000"]) / median(figures["git lists all 1000000"])

    return _each(runs, "refs", figure)


@goal("update one ref among 1,000,000, beside among 1,000", at_most=1.2, refs=("caesura",))
def refs_update(runs: Runs) -> Ratios:
    """In turn; every ref is packed before."""

    def figure(found: Round) -> float:
        figures = found["caesura"].figures
        return median(figures["update 1000000"]) / median(figures["update 1000"])

    return _each(runs, "refs", figure)


# The whole -----------------------------------------------------------------------------------------------------------


@goal("µs of the runtime's own work a step, without model, tool and disk", at_most=200, runtime=("caesura",))
def runtime_step(runs: Runs) -> Ratios:
    """Over the store in memory: actor, core, codec, redaction. Nothing crosses to a thread for it: see the limits."""
    return _each(runs, "runtime", lambda found: fmean(found["caesura"].took) * 1e6)


@goal("ms of a step's look at 50,000 files that nobody has changed", at_most=100, files=("caesura",))
def files(runs: Runs) -> Ratios:
    """In turn with git in the same folder, all of them with the same tree in the end."""
    return _each(runs, "files", lambda found: median(found["caesura"].figures[LOOK]) * 1e3)


@goal("memory held for a suspended loop, beside its messages", at_most=0.01, memory=("caesura",))
def memory_suspended(runs: Runs) -> Ratios:
    """By tracemalloc: how what is held grows with each loop more."""
    return _each(runs, "memory", lambda found: found["caesura"].figures["suspended"][0])


@goal("memory held for an active loop of 1,000 messages, beside its messages", at_most=3, memory=("caesura",))
def memory_active(runs: Runs) -> Ratios:
    """By tracemalloc, at rest: with all that the runtime and the store keep. The most of any moment is told besides."""
    most = _each(runs, "memory", lambda found: found["caesura"].figures["active at most"][0])
    note = f"{median(most):.3g} at most, while it is loaded, sealed and tidied up"
    return _each(runs, "memory", lambda found: found["caesura"].figures["active"][0]), note


OWN_WORK = 0.1
"""The share of the wall time that the loops' own work may take."""


@goal(
    "the loops' own work by the wall time, where 1,000 loops at once have a model that answers in 1 s",
    at_most=OWN_WORK,
    crowd_1=("caesura",),
    crowd_10=("caesura",),
    crowd_100=("caesura",),
    crowd_1000=("caesura",),
)
def crowd(runs: Runs) -> Ratios:
    """CPU seconds of the process by wall seconds, at the largest number of loops that was measured.

    All of its work counts, in all of its threads; the wall time is that of the whole, the wait for the model included.
    """
    counts = sorted(int(name.removeprefix("crowd_")) for name in runs if name.startswith("crowd_"))
    shares = {
        count: _each(runs, f"crowd_{count}", lambda found: found["caesura"].figures["cpu"][0]) for count in counts
    }
    met = [count for count in counts if median(shares[count]) <= OWN_WORK]
    notes = [] if counts[-1] == 1000 else [f"with {counts[-1]} loops"]
    notes += [f"met with {met[-1]}"] if met and met[-1] < counts[-1] else []
    return shares[counts[-1]], ", ".join(notes)


# What is measured ----------------------------------------------------------------------------------------------------

SHOWN: Mapping[str, tuple[str, ...]] = {
    "one": (
        "caesura-step",
        "langgraph-async",
        "langgraph-async-delta",
        "openai-agents",
        "dbos",
        "sqlite-normal",
        "git-commit",
        "fast-import-durable",
    ),
    "at_once_64": ("sqlite-writers", "langgraph-async-delta"),
    "at_once_256": ("caesura", "sqlite-full", "langgraph-async-delta"),
    "nested": ("caesura", "sqlite-full", "langgraph-async-delta"),
    "in_a_row": ("caesura", "caesura-crash", "sqlite-full", "sqlite-normal", "fast-import"),
    "resume": ("langgraph", "openai-agents", "sqlite-full", "git-commit"),
    "forks": ("caesura", "langgraph", "langgraph-delta", "sqlite-full", "git-commit"),
    "limits": ("caesura",),
}
"""What is measured besides, for which there is no goal; a quick run leaves out all but the limits."""


LONG: Mapping[str, str] = {"files": "a disk may take long to make 50,000 files. Ask for it: --quick --goal files"}
"""Goals that a quick run measures only if they are asked for, each with why."""


def _sizes(*, quick: bool) -> dict[str, Measurement]:
    """What is measured and how much of it."""

    def jobs(task: str, size: int, many: int, few: int, rounds: int = 3, loops: int = 1) -> Measurement:
        job = Job(task=task, size=size, steps=few if quick else many, loops=loops)
        return Measurement(job=job, rounds=1 if quick else rounds)

    def at_once(loops: int, steps: int, rounds: int) -> Measurement:
        return Measurement(job=Job(task="work", shape="at once", loops=loops, steps=steps), rounds=rounds)

    one = Job(task="work", steps=1000)
    half = Job(task="work", steps=500)  # about 1,000 messages
    again = replace(half, task="resume")
    sizes = {
        "one": Measurement(job=one, rounds=1) if quick else Measurement(job=one, rounds=15, few=5),
        "at_once_64": at_once(64, 8, 1) if quick else at_once(64, 40, 5),
        "at_once_256": at_once(256, 20, 3),
        "nested": Measurement(job=Job(task="work", shape="nested", loops=16, steps=17), rounds=3),
        "in_a_row": Measurement(job=Job(task="work", steps=10_000), rounds=3),
        "resume": Measurement(before=half, job=again, times=5, rounds=1 if quick else 9, few=3),
        "forks": Measurement(before=half, job=replace(half, task="forks", size=10), rounds=2),
        "length": jobs("length", 10_000, 100, 20),
        "fork": jobs("fork", 10_000, 10, 5),
        "refs": jobs("refs", 1_000_000, 10, 10),
        "runtime": Measurement(job=Job(task="runtime", steps=300), rounds=2 if quick else 5),
        "files": jobs("files", 50_000, 15, 5),
        "memory": jobs("memory", 1000, 10, 3, 1, loops=16 if quick else 50),
        "limits": jobs("limits", 0, 500, 200),
        **{f"crowd_{loops}": jobs("crowd", 0, 2, 1, loops=loops) for loops in (1, 10, 100, 1000)},
    }
    sizes = {name: dataclasses.replace(one, seconds=_SECONDS.get(name, (1, 1))[quick]) for name, one in sizes.items()}
    left_out = ("at_once_256", "nested", "in_a_row", "forks", "crowd_1", "crowd_10", "crowd_1000") if quick else ()
    return {name: measurement for name, measurement in sizes.items() if name not in left_out}


_SECONDS: Mapping[str, tuple[float, float]] = {
    "at_once_64": (1.5, 0.3),
    "at_once_256": (3, 3),
    "in_a_row": (5, 5),
    "resume": (1, 1),
    "length": (3, 2),
    "fork": (5, 2.5),
    "refs": (10, 6),
    "runtime": (0.3, 0.2),
    "files": (20, 10),
    "memory": (60, 5),
    "limits": (1, 0.5),
    "crowd_1": (3, 2),
    "crowd_10": (3, 2),
    "crowd_100": (5, 3),
    "crowd_1000": (30, 20),
}
"""How long a side takes in a round, in a full and in a quick run."""

FULL = _sizes(quick=False)
QUICK = _sizes(quick=True)
