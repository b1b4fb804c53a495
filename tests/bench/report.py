"""The report: goals and tables as JSON, as text for a terminal and as Markdown for the page of the documentation."""

import os
import platform
import sqlite3
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from statistics import fmean, median
from typing import Any

import msgspec

from .bounds import BOUNDS
from .goals import GOALS, quantile, rate
from .job import Outcome
from .run import Runs

_LIBRARIES = ("pygit2", "langgraph", "langgraph-checkpoint-sqlite", "openai-agents", "dbos")

BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"


class Reached(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a goal: the median of the rounds, the least and the most of them.

    `limit` is what the figure would be if there were only what nothing can do without, where that was measured.
    """

    title: str
    ratio: float
    goal: float
    at_least: bool
    met: bool
    spread: tuple[float, float]
    rounds: int
    limit: float | None = None
    note: str = ""


class Table(msgspec.Struct, frozen=True, kw_only=True):
    """A table of figures: the first column is text, the others are numbers as they are to be read."""

    title: str
    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """All that a run has to say; `left_out` is which goals are not in it, and why."""

    goals: dict[str, Reached]
    machine: dict[str, str]
    tables: tuple[Table, ...]
    left_out: dict[str, str] = {}


def report(runs: Runs, names: Sequence[str], left_out: Mapping[str, str] | None = None) -> Report:
    """What a run says of these goals, and the tables of everything that was measured for them."""
    goals = {name: _reached(name, runs) for name in names}
    tables = [table for make in _TABLES for table in make(runs)]
    bounded = tuple(
        (f"{name}: {BOUNDS[name].only}", _number(one.ratio), _number(one.limit))
        for name, one in goals.items()
        if one.limit is not None
    )
    if bounded:
        tables.append(Table(title="The limit: if there were only this", heads=("only", "ratio", "limit"), rows=bounded))
    return Report(goals=goals, machine=machine(), tables=tuple(tables), left_out=dict(left_out or {}))


def _reached(name: str, runs: Runs) -> Reached:
    goal = GOALS[name]
    found = goal.ratios(runs)
    ratios, note = (found, "") if isinstance(found, list) else found
    ratio = median(ratios)
    return Reached(
        title=goal.title,
        ratio=ratio,
        goal=goal.limit,
        at_least=goal.at_least,
        met=ratio >= goal.limit if goal.at_least else ratio <= goal.limit,
        spread=(min(ratios), max(ratios)),
        rounds=len(ratios),
        limit=BOUNDS[name].figure(runs) if "limits" in runs and name in BOUNDS else None,
        note=note,
    )


def machine() -> dict[str, str]:
    """Where this is running, and on what."""
    git = subprocess.run(["git", "--version"], capture_output=True, text=True, check=True).stdout.split()[2]
    found = {
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "processor": _processor(),
        "cores": str(os.cpu_count()),
        "disk": file_system(),
        "python": platform.python_version(),
        "git": git,
        "sqlite": sqlite3.sqlite_version,
    }
    for library in _LIBRARIES:
        try:
            found[library] = metadata.version(library)
        except metadata.PackageNotFoundError:
            continue
    return found


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")


def file_system() -> str:
    """The file system that temporary folders are on: there the work is done."""
    done = subprocess.run(["df", "--output=fstype", tempfile.gettempdir()], capture_output=True, text=True)
    return done.stdout.split()[-1] if done.returncode == 0 else "unknown"


# Tables --------------------------------------------------------------------------------------------------------------


def _together(runs: Runs, name: str) -> dict[str, list[Outcome]]:
    """Every round's outcome of each side."""
    found: dict[str, list[Outcome]] = {}
    for one in runs.get(name, []):
        for side, outcome in one.items():
            found.setdefault(side, []).append(outcome)
    return found


def _steps(runs: Runs) -> Iterator[Table]:
    for name, title in (("one", "A step of one loop, {} steps"), ("in_a_row", "The same, {} steps without a pause")):
        yield from _means(title, _together(runs, name))


def _means(title: str, sides: Mapping[str, Sequence[Outcome]]) -> Iterator[Table]:
    if not sides:
        return
    ours = median(fmean(outcome.took) for outcome in sides["caesura"]) if "caesura" in sides else None
    rows: list[tuple[float, tuple[str, ...]]] = []
    for side, outcomes in sides.items():
        mean = median(fmean(outcome.took) for outcome in outcomes)
        tail = max(1, len(outcomes[0].took) // 10)
        rows.append(
            (
                mean,
                (
                    side,
                    _micro(mean),
                    _micro(median(quantile(outcome.took, 0.5) for outcome in outcomes)),
                    _micro(median(quantile(outcome.took, 0.99) for outcome in outcomes)),
                    _micro(median(fmean(outcome.took[-tail:]) for outcome in outcomes)),
                    "-" if ours is None else _number(mean / ours),
                    f"{median(outcome.figures['closing'][0] for outcome in outcomes) * 1e3:,.0f}",
                    f"{median(outcome.disk for outcome in outcomes) / 1e6:,.1f}",
                ),
            )
        )
    count = len(next(iter(sides.values()))[0].took)
    yield Table(
        title=f"{title.format(f'{count:,}')} of 1 to 3 messages of 0.5 to 4 KB (µs; ms of closing, MB on disk)",
        heads=("side", "mean", "p50", "p99", "last 10 %", "by caesura", "closing", "MB"),
        rows=tuple(row for _, row in sorted(rows)),
    )


def _at_once(runs: Runs) -> Iterator[Table]:
    for name, title in (
        ("at_once_64", "64 loops at once"),
        ("at_once_256", "256 loops at once"),
        ("nested", "A lead with 16 children in parallel, whose results it takes up"),
    ):
        sides = _together(runs, name)
        if sides:
            yield Table(
                title=f"{title} (steps a second; ms from a loop's wish to commit until it is acknowledged)",
                heads=("side", "steps/s", "p50", "p99"),
                rows=tuple(
                    (
                        side,
                        f"{median(map(rate, outcomes)):,.0f}",
                        *(
                            f"{median(quantile(outcome.took, share) for outcome in outcomes) * 1e3:,.2f}"
                            for share in (0.5, 0.99)
                        ),
                    )
                    for side, outcomes in sorted(sides.items())
                ),
            )


def _figures(runs: Runs, name: str, title: str, head: str) -> Iterator[Table]:
    """A table of the times that a job measures by name."""
    outcomes = _together(runs, name).get("caesura", [])
    if outcomes:
        yield Table(
            title=title,
            heads=(head, "µs", "least", "most"),
            rows=tuple(
                (figure, _micro(median(found)), _micro(min(found)), _micro(max(found)))
                for figure in outcomes[0].figures
                if (found := [seconds for outcome in outcomes for seconds in outcome.figures.get(figure, [])])
            ),
        )


def _long(runs: Runs) -> Iterator[Table]:
    yield from _figures(runs, "length", "A step of one message, at a loop's length", "messages")
    yield from _figures(runs, "fork", "A fork, at a loop's length", "messages")
    yield from _figures(runs, "refs", "Branches: what, and among how many, of which one in a hundred waits", "what")
    yield from _figures(runs, "files", "A look at 50,000 files that nobody has changed, in turn in one folder", "by")
    yield from _figures(runs, "limits", "What the machine itself takes", "for")


def _resumed(runs: Runs) -> Iterator[Table]:
    sides = _together(runs, "resume")
    if sides:
        yield Table(
            title="From a fresh process to the first effect, a loop of 1,000 messages (ms)",
            heads=("side", "ms"),
            rows=tuple(
                (side, f"{median(outcome.seconds for outcome in outcomes) * 1e3:,.1f}")
                for side, outcomes in sorted(sides.items())
            ),
        )


def _forked(runs: Runs) -> Iterator[Table]:
    sides = _together(runs, "forks")
    if sides:
        yield Table(
            title="A fork in the middle of a loop of 1,000 messages, in a process that has it open (ms)",
            heads=("side", "ms", "p99"),
            rows=tuple(
                (side, f"{median(took) * 1e3:,.2f}", f"{quantile(took, 0.99) * 1e3:,.2f}")
                for side, outcomes in sorted(sides.items())
                if (took := [seconds for outcome in outcomes for seconds in outcome.took])
            ),
        )


def _crowds(runs: Runs) -> Iterator[Table]:
    counts = sorted(int(name.removeprefix("crowd_")) for name in runs if name.startswith("crowd_"))
    rows: list[tuple[str, ...]] = []
    fewest = 0.0
    for count in counts:
        outcomes = _together(runs, f"crowd_{count}")["caesura"]
        took = [seconds for outcome in outcomes for seconds in outcome.took]
        figures = {name: median(outcome.figures[name][0] for outcome in outcomes) for name in outcomes[0].figures}
        fewest = fewest or figures["memory"]
        more = (figures["memory"] - fewest) / max(1, count - counts[0])
        rows.append(
            (
                f"{count:,}",
                f"{figures['cpu']:.1%}",
                _micro(figures["step"]),
                f"{figures['over']:.1%}",
                f"{quantile(took, 0.5) * 1e3:,.1f}",
                f"{quantile(took, 0.99) * 1e3:,.1f}",
                f"{figures['memory'] / 1e6:,.0f}",
                "-" if count == counts[0] else f"{more / 1e3:,.0f}",
            )
        )
    if rows:
        yield Table(
            title="Loops at once in one process, whose model answers in 1 s (CPU: of all the process's threads, by "
            "the wall time; a step with its share of how a loop begins and ends)",
            heads=("loops", "CPU", "µs a step", "wall over the model's", "p50 ms", "p99 ms", "MB in all", "KB a loop"),
            rows=tuple(rows),
        )


_TABLES: tuple[Callable[[Runs], Iterator[Table]], ...] = (_steps, _at_once, _long, _resumed, _forked, _crowds)


def _micro(seconds: float) -> str:
    return f"{seconds * 1e6:,.0f}"


def _number(value: float) -> str:
    """A number with three digits that count."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


# As it is read -------------------------------------------------------------------------------------------------------


def _goal_rows(goals: Mapping[str, Reached]) -> tuple[tuple[str, ...], ...]:
    return tuple(
        (
            name,
            f"{_number(one.ratio)}",
            f"{_number(one.spread[0])} - {_number(one.spread[1])}",
            f"{'at least' if one.at_least else 'at most'} {_number(one.goal)}",
            "-" if one.limit is None else _number(one.limit),
            "met" if one.met else "NOT MET",
            one.title + (f" ({one.note})" if one.note else ""),
        )
        for name, one in goals.items()
    )


_HEADS = ("goal", "ratio", "spread", "wanted", "limit", "", "what")


def as_text(found: Report) -> str:
    """For a terminal: columns, no colours."""
    parts = [_columns(_HEADS, _goal_rows(found.goals), last_is_text=True)]
    if found.left_out:
        parts.append("\n".join(f"{name} was left out: {why}" for name, why in found.left_out.items()))
    parts += [as_columns(table) for table in found.tables]
    parts.append("\n".join(f"{name}: {value}" for name, value in found.machine.items()))
    return "\n\n".join(parts)


def as_columns(table: Table) -> str:
    """One table for a terminal."""
    return f"{table.title}\n{_columns(table.heads, table.rows)}"


def _columns(heads: Sequence[str], rows: Sequence[Sequence[str]], *, last_is_text: bool = False) -> str:
    widths = [max(len(row[place]) for row in (heads, *rows)) for place in range(len(heads))]
    left = {0, len(heads) - 1} if last_is_text else {0}
    return "\n".join(
        "  ".join(
            cell.ljust(width) if place in left else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in (heads, *rows)
    )


def as_markdown(found: Report, plot: str = "") -> str:
    """For the documentation."""
    where = ", ".join(f"{name} {value}" for name, value in found.machine.items())
    parts = [f"Measured on: {where}.", _markdown(_HEADS, _goal_rows(found.goals), numbers=4)]
    if plot:
        parts.append(f"![The time of a step as a loop grows, by side]({plot})")
    for table in found.tables:
        parts += [f"**{table.title}**", _markdown(table.heads, table.rows, numbers=len(table.heads) - 1)]
    return "\n\n".join(parts)


def _markdown(heads: Sequence[str], rows: Sequence[Sequence[str]], *, numbers: int) -> str:
    rules = ["---:" if 0 < place <= numbers else "---" for place in range(len(heads))]
    return "\n".join("| " + " | ".join(row) + " |" for row in (heads, rules, *rows))


def as_json(found: Report) -> bytes:
    """For programs."""
    plain: Any = msgspec.to_builtins(found)
    return msgspec.json.format(msgspec.json.encode(plain), indent=2) + b"\n"


def written_into(page: str, text: str) -> str:
    """A page with what was measured between its marks.

    Raises:
        ValueError: it has no such marks.
    """
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the page has no lines {BEGIN} and {END}")
    return f"{before}{BEGIN}\n\n{text}\n\n{END}{after}"
