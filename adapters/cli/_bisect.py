"""Bisecting: the first step at which a test gives another answer, and the test alone, for git to bisect with."""

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Annotated, NamedTuple

from cyclopts import Parameter

from caesura.continuations import CallerError, CommitId, History, Loops, Store, line, utc_now

from ._faults import BadUsage
from ._look import state_json, state_page
from ._options import COMMAND, REPO, Json, Repo, place
from ._output import Page, err, out, write_json
from ._predicate import SKIP, NotTested, Predicate, predicate

Matches = Annotated[
    str | None,
    Parameter(
        name="--matches",
        help="A step is good if this regular expression is found in what 'caesura show COMMIT --full' prints.",
    ),
]
Judge = Annotated[
    str | None,
    Parameter(
        name="--judge",
        help="A step is good if this agent says so: module.py:agent, or one of caesura.toml, with result=bool. It is"
        " given what 'caesura show COMMIT --full' prints.",
    ),
]


class NotBefore(CallerError):
    """The first of two steps is not in the second one's past."""


def bisect(
    good: Annotated[str, Parameter(help="A good step: an earlier commit of the loop.", show_default=False)],
    bad: Annotated[str, Parameter(help="A bad step after it: the loop, or a commit of it.", show_default=False)],
    /,
    *command: Annotated[
        str,
        Parameter(
            help="After --: the test. It exits with 0 if the step on its standard input is good.", show_default=False
        ),
    ],
    matches: Matches = None,
    judge: Judge = None,
    repo: Repo = None,
    json: Json = False,
) -> None:
    """Find the first step of a loop that fails a test; of a hundred steps, about seven are tried.

    The test is a command, a regular expression or an agent. The command gets a step as 'caesura show COMMIT --json'
    prints it, on standard input, and exits with 0 for good, 1 to 124 for bad, 125 if the step cannot be tested. If it
    is GOOD that fails the test, and BAD that passes it, the first step that passes is found. Steps are those of
    git log --first-parent, where a fork was adopted that fork's, each with what was nested in it. Nothing is checked
    out and no ref is touched.

    With --json: {"first", "commit", "author", "subject", "suspects", "tested", "state"}.
    """
    if good.startswith(COMMAND) or bad.startswith(COMMAND):
        raise BadUsage("GOOD and BAD are missing.", hint="Name two steps of a loop before the --.")
    where = place(repo)
    test = predicate(where, command, matches, judge)
    with where.store() as store:
        loops, steps = Loops(store), _between(store, good, bad)
        found = first_change(len(steps), lambda step: _answer(loops, test, steps[step], say=not json))
        first, saved = steps[found.step], loops.show(steps[found.step].commit)
        suspects = [steps[step].commit for step in found.suspects]
        if json:
            write_json(
                {
                    "first": "good" if found.good else "bad",
                    **first._asdict(),
                    "suspects": suspects,
                    "tested": found.tested,
                    "state": state_json(loops, saved, at_head=False),
                }
            )
            return
        page = Page().add(("the first good step" if found.good else "the first bad step", "bold"), f": {first.commit}")
        page.add(f"  {first.subject}").add((f"  by {first.author}", "dim"))
        if suspects:
            page.add("or one of those before it, which cannot be tested:")
            for suspect in suspects:
                page.add(f"  {suspect}")
        out(page.add("").extend(state_page(loops, saved, utc_now(), at_head=False, full=False)))


def check(
    revision: Annotated[
        str | None,
        Parameter(help="The step. Default: where git bisect is, BISECT_HEAD or else HEAD.", show_default=False),
    ] = None,
    /,
    *command: Annotated[
        str,
        Parameter(
            help="After --: the test. It exits with 0 if the step on its standard input is good.", show_default=False
        ),
    ],
    matches: Matches = None,
    judge: Judge = None,
    repo: Repo = None,
) -> int:
    """Test one step of a loop, for 'git bisect run caesura test -- COMMAND'; 'caesura bisect' needs no git bisect.

    The command gets the step as 'caesura show COMMIT --json' prints it, on standard input. The exit status is 0 for a
    good step, 1 for a bad one, 125 for one that cannot be tested, and 128 for any error: git bisect then stops. The
    repository is --repo, else CAESURA_REPO, else the one that git names or that is here.
    """
    if revision is not None and revision.startswith(COMMAND):
        command, revision = (revision, *command), None
    where = place(repo or _gits_own())
    answers = predicate(where, command, matches, judge)
    with where.store() as store:
        good = answers(Loops(store), _gits_step(store) if revision is None else _commit(store, revision))
    return SKIP if good is None else int(not good)


class Change(NamedTuple):
    """Where the answer changes: the first step of the new one, and steps before it that may be the first as well.

    `tested` is how many were tried.
    """

    step: int
    good: bool
    suspects: tuple[int, ...]
    tested: int


def first_change(steps: int, answer: Callable[[int], bool | None]) -> Change:
    """Search so many steps, of which the first and the last are answered otherwise.

    A step without an answer is left out, and those nearest to it are tried.

    Raises:
        NotTested: the first and the last are answered alike, or not at all.
    """
    first, last = answer(0), answer(steps - 1)
    if first is None or last is None or first is last:
        how = "cannot be tested" if None in (first, last) else "are good" if first else "are bad"
        what = "GOOD or BAD cannot be tested" if None in (first, last) else f"GOOD and BAD {how}, both"
        raise NotTested(f"{what}.", hint="The test must tell the two apart; see what it says of each.")
    low, high = 0, steps - 1
    unknown: set[int] = set()
    tested = 2
    while open_ := [step for step in range(low + 1, high) if step not in unknown]:
        middle = min(open_, key=lambda step: abs(2 * step - low - high))
        found = answer(middle)
        tested += 1
        if found is None:
            unknown.add(middle)
        elif found is first:
            low = middle
        else:
            high = middle
    return Change(step=high, good=last, suspects=tuple(range(low + 1, high)), tested=tested)


class Step(NamedTuple):
    """What is said of one step."""

    commit: CommitId
    author: str
    subject: str


def _between(store: Store, good: str, bad: str) -> list[Step]:
    """The loop's own steps from the one to the other, both included, the oldest first."""
    start, end = _commit(store, good), _commit(store, bad)
    steps: list[Step] = []
    for commit in line(store, end):
        steps.append(Step(commit.id, str(commit.author), commit.message.partition("\n")[0]))
        if commit.id == start:
            return steps[::-1]
    raise NotBefore(f"{good} is no step before {bad}.", hint=f"See git log --first-parent of {bad}.")


def _answer(loops: Loops, test: Predicate, step: Step, *, say: bool) -> bool | None:
    found = test(loops, step.commit)
    if say:
        told = "cannot be tested" if found is None else "good" if found else "bad"
        err(Page().add((f"{step.commit[:10]} ", "dim"), f"{told:16}  ", (step.subject, "dim")))
    return found


def _gits_own() -> Path | None:
    """The repository that git runs a command in, if it says so, or if it is here and none of ours is."""
    if REPO in os.environ:
        return None
    if "GIT_DIR" in os.environ:
        return Path(os.environ["GIT_DIR"])
    return None if place(None).repo.exists() else Path()


def _gits_step(store: Store) -> CommitId:
    """Where git bisect is: without a work tree, and with one."""
    with suppress(CallerError):
        return store.resolve("BISECT_HEAD")
    return store.resolve("HEAD")


def _commit(store: Store, revision: str) -> CommitId:
    """The commit of a revision, or of a nested loop that has no branch yet."""
    saved, _ = History(store).at(revision)
    return saved.commit
