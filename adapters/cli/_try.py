"""Trying: variants of one commit, each in a fork of its own, at the same time, and scored."""

import re
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from caesura.continuations import (
    BadName,
    Budget,
    LoopName,
    Loops,
    Saved,
    Status,
    loop_name,
    one_line,
    variant_loop,
)

from ._budget import budget_of
from ._drive import leave
from ._evaluate import evaluator
from ._faults import BadUsage, Exit
from ._json import pending_json, spent_json
from ._options import COMMAND, By, Json, Repo, place
from ._output import Page, err, out, write_json
from ._remember import inherit
from ._task import Agents, ModelApi, ModelName, Task, task_of
from ._transcript import status_piece
from ._variants import read_variants

if TYPE_CHECKING:
    from caesura.runtime import Runtime, Trial


def try_(
    revision: Annotated[
        str, Parameter(help="A loop, or any git revision of one: a branch, 'name~3', a commit.", show_default=False)
    ],
    /,
    *command: Annotated[
        str,
        Parameter(help="After --: what scores a loop that has completed, given on standard input.", show_default=False),
    ],
    variants: Annotated[Path, Parameter(name="--variants", help="A TOML file of what to try.", show_default=False)],
    judge: Annotated[
        str | None,
        Parameter(
            name="--judge",
            help="Let an agent score instead: module.py:agent, or one of caesura.toml, whose result is a number, true"
            " or false, or has a score and a note.",
        ),
    ] = None,
    name: Annotated[
        str | None, Parameter(name="--name", help="What the forks' names begin with. Default: the loop's name")
    ] = None,
    limit: Annotated[int, Parameter(name="--limit", help="How many are driven at the same time. Default: 4")] = 4,
    budget_steps: Annotated[
        int | None, Parameter(name="--budget-steps", help="Stop after so many model calls, all of them together.")
    ] = None,
    budget_tokens: Annotated[
        int | None, Parameter(name="--budget-tokens", help="Stop after so many tokens, all of them together.")
    ] = None,
    budget_seconds: Annotated[
        float | None,
        Parameter(name="--budget-seconds", help="Stop after so many seconds of work, all of them together."),
    ] = None,
    agents: Agents = None,
    model: ModelName = None,
    api: ModelApi = None,
    by: By = None,
    repo: Repo = None,
    json: Json = False,
) -> int:
    """Try variants of a commit at the same time, each in a fork of its own, and see which comes out best.

    The file has a table for each variant; its name and the loop's make the fork's. A table may say what 'caesura fork'
    takes: drop, model, settings, instructions, reword, arguments, results, tools, on_miss, tell; and what is decided
    there, by the calls' names: approve = ["deploy-1"], reject = { deploy-1 = "not today" }, answer = { ask-1 = "no" }.

    The command gets a completed loop as 'caesura show LOOP --json' prints it, on standard input. If it exits with 0,
    the number with which its last line begins is the score, and what follows there a note; without one the score is 1.
    With 1 to 124 it is 0, with 125 there is none. A score is a commit of the fork: git log
    --format='%(trailers:key=Score)' finds it.

    Done again, the same command goes on where the forks are; what has ended and was scored is left as it is. Exit
    status: 0 if all completed and, if that was asked, were scored; 1 if one of them failed; 3 if none did and one waits
    or was stopped by the budget. With --json: {"revision", "trials": [{"variant", "loop", "status", "text", "score",
    "note", "error", "pending", "spent", "commit"}]}, the best first.
    """
    import trio

    from ._driving import Driving
    from ._trying import table

    if revision.startswith(COMMAND):
        raise BadUsage("The commit is missing.", hint="Name a loop, or a commit of one, before the --.")
    where = place(repo, writes=True)
    wanted = read_variants(variants)
    asked = (budget_steps, budget_tokens, budget_seconds)
    budget = None if asked == (None, None, None) else budget_of(Budget(), *asked)
    with where.loops() as loops:
        saved = loops.show(revision)
    source = _source(saved)
    task = task_of(where, source, saved.state.agent, agents, model=model, api=api)
    scores = evaluator(task.where, command, judge)
    rows = {variant_loop(revision, variant, name): variant.name for variant in wanted}

    async def explore(runtime: "Runtime") -> "list[Trial]":
        for loop in rows:
            inherit(where.repo, source, loop)
        return await runtime.explore(revision, wanted, evaluator=scores, limit=limit, budget=budget, name=name, by=by)

    driving = Driving(task, source, table(rows))
    trials = trio.run(driving.drive, explore)
    if trials is not None:
        if json:
            with where.loops() as loops:
                write_json({"revision": revision, "trials": [_trial_json(loops, trial) for trial in trials]})
        else:
            _tell(task, source, trials, spent=budget is not None and not driving.interrupted)
        status = _status(trials)
    else:
        err(Page().add("Left at once; every step so far is committed. The same command goes on."))
        status = Exit.INTERRUPTED
    if driving.left:
        leave(status)
    return Exit.INTERRUPTED if driving.interrupted and status is not Exit.DONE else status


def _source(saved: Saved) -> LoopName:
    """The loop that a commit is one of, as it says itself; else the name by which it was found."""
    for name in re.findall(r"^Loop: (\S+)$", saved.message, re.MULTILINE)[-1:]:
        with suppress(BadName):  # whoever wrote the commit may have written anything
            return loop_name(name)
    return saved.loop


def _status(trials: "Sequence[Trial]") -> Exit:
    if any(trial.error is not None or trial.status in (Status.FAILED, Status.CANCELLED) for trial in trials):
        return Exit.FAILED
    if any(trial.status is not Status.COMPLETED for trial in trials):
        return Exit.SUSPENDED
    return Exit.DONE


def _tell(task: Task, source: LoopName, trials: "Sequence[Trial]", *, spent: bool) -> None:
    """Show what came of all; if one came to rest before its end, the budget for all of them is `spent`."""
    out(_page(trials))
    paste, page = task.where.paste, Page()
    if any(trial.status is Status.SUSPENDED for trial in trials):
        page.add(("what waits: ", "dim"), (paste("pending"), "green"))
    stopped = [trial.variant.name for trial in trials if trial.status is Status.ACTIVE]
    if spent and stopped:
        page.add("The budget is spent: ", ", ".join(stopped), " stopped; the same command goes on with a larger one.")
    best, *others = trials
    if best.score is not None:
        words = ["adopt", best.loop, "--into", source]
        words += [word for trial in others if trial.outcome is not None for word in ("--over", trial.loop)]
        page.add(("go on as the best: ", "dim"), (paste(*words), "green"))
    err(page)


def _trial_json(loops: Loops, trial: "Trial") -> dict[str, Any]:
    outcome = trial.outcome
    return {
        "variant": trial.variant.name,
        "loop": trial.loop,
        "status": None if outcome is None else outcome.status.value,
        "text": "" if outcome is None else outcome.text,
        "score": trial.score,
        "note": trial.note,
        "error": None if trial.error is None else str(trial.error),
        "pending": [] if outcome is None else pending_json(loops, outcome.pending),
        "spent": None if outcome is None else spent_json(outcome.spent),
        "commit": None if outcome is None else outcome.commit,
    }


_TITLES = ("VARIANT", "STATUS", "SCORE", "MODEL CALLS", "TOKENS")


def _page(trials: "Sequence[Trial]") -> Page:
    rows = [_TITLES, *map(_row, trials)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_TITLES))]
    page = Page()
    for number, row in enumerate(rows):
        name, status, *counts = (
            f"{cell:>{width}}  " if column > 1 else f"{cell:{width}}  "
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        if number == 0:
            page.add(("".join((name, status, *counts)), "dim"))
            continue
        page.add((name, "bold"), (status, status_piece(row[1])[1]), *counts)
        page.extend(_what(trials[number - 1]))
    return page


def _row(trial: "Trial") -> tuple[str, ...]:
    outcome = trial.outcome
    status = "none" if outcome is None else "stopped" if outcome.status is Status.ACTIVE else outcome.status.value
    score = "" if trial.score is None else f"{trial.score:g}"
    spent = None if outcome is None else outcome.spent
    counts = ("", "") if spent is None else (f"{spent.steps:,}", f"{spent.usage.total:,}")
    return (trial.variant.name, status, score, *counts)


def _what(trial: "Trial") -> Page:
    """What came of a variant, in a line each."""
    page, outcome = Page(), trial.outcome
    if trial.note:
        page.add(("  because ", "dim"), one_line(trial.note, 90))
    if trial.error is not None:
        page.add(("  error: ", "red"), str(trial.error))
        if trial.error.hint:
            page.add(("  hint: ", "cyan"), trial.error.hint)
    if outcome is not None and outcome.text:
        page.add(("  came to ", "dim"), one_line(outcome.text, 90))
    for request in () if outcome is None else outcome.pending:
        page.add(("  waits for ", "dim"), request.id)
    return page
