"""Comparing loops: what two did otherwise, or what many came to."""

from typing import Annotated, Any

from cyclopts import Parameter

from caesura.continuations import Comparison, History, Tally, compare, one_line, tally

from ._compare_json import comparison_json, divergence_json, tally_json
from ._compare_screen import comparison_page, where_text
from ._faults import BadUsage
from ._options import Json, Repo, place
from ._output import Page, out, write_json
from ._transcript import status_piece


def diff(
    *revisions: Annotated[
        str,
        Parameter(help="Loops, or git revisions of them: two to compare; with --stat, any number.", show_default=False),
    ],
    stat: Annotated[bool, Parameter(name="--stat", negative="", help="A table: what each revision came to.")] = False,
    full: Annotated[bool, Parameter(name="--full", negative="", help="Cut nothing, however long it is.")] = False,
    repo: Repo = None,
    json: Json = False,
) -> None:
    """Compare loops, related or not: where they part, what each said, called, got and was decided after that.

    Two loops stand side by side if the terminal has 100 columns, else one above the other: - is the first, + the
    second. What is nested in them is compared where they call it. When something was done, and in which order calls
    made side by side came back, is no difference. The table of --stat counts everything nested, too, and says where
    each parts from the first.

    With --json: {"base", "left", "right", "divergence", "rows"}; with --stat, {"loops": [loop, ...]}.
    """
    if len(revisions) < 2 and not (stat and revisions):
        raise BadUsage("There is nothing to compare.", hint="Name two loops, or git revisions of them.")
    if len(revisions) > 2 and not stat:
        raise BadUsage("Two loops can be compared side by side.", hint="--stat makes a table of any number.")
    with place(repo).store() as store:
        history = History(store)
        if stat:
            _stat(history, revisions, json=json)
            return
        compared = compare(history, *revisions)
    if json:
        write_json(comparison_json(compared))
    else:
        out(comparison_page(compared, full=full))


def _stat(history: History, revisions: tuple[str, ...], *, json: bool) -> None:
    tallies = [tally(history, revision) for revision in revisions]
    compared = [None, *(compare(history, revisions[0], revision) for revision in revisions[1:])]
    if json:
        write_json({"loops": [_stat_json(*pair) for pair in zip(tallies, compared, strict=True)]})
    else:
        out(_table(tallies, compared))


def _stat_json(counted: Tally, compared: Comparison | None) -> dict[str, Any]:
    base = None if compared is None or compared.base is None else compared.base.commit
    parted = None if compared is None else divergence_json(compared.divergence)
    return {**tally_json(counted), "base": base, "divergence": parted}


_TITLES = ("LOOP", "STATUS", "STEPS", "MODEL CALLS", "TOOLS RUN", "APPROVED", "REJECTED", "TOKENS", "SECONDS")


def _table(tallies: list[Tally], compared: list[Comparison | None]) -> Page:
    rows = [_TITLES, *map(_counts, tallies)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_TITLES))]
    page = Page()
    page.add(*((f"{title:{width}}  ", "dim") for title, width in zip(_TITLES, widths, strict=True)))
    for counted, other, row in zip(tallies, compared, rows[1:], strict=True):
        name, status, *counts = (
            f"{cell:>{width}}  " if column > 1 else f"{cell:{width}}  "
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        page.add((name, "bold"), (status, status_piece(row[1])[1]), *counts)
        if other is not None:
            parted = other.divergence
            page.add(("  parts ", "dim"), "nowhere" if parted is None else where_text(parted))
        page.add(("  came to ", "dim"), _result(counted))
    return page


def _counts(counted: Tally) -> tuple[str, ...]:
    state = counted.saved.state
    spent = state.total
    numbers = (
        counted.steps,
        spent.steps,
        counted.tools_run,
        counted.approvals,
        counted.rejections,
        spent.usage.total,
    )
    return (
        one_line(counted.saved.loop, 40),
        state.status.value,
        *(f"{number:,}" for number in numbers),
        f"{spent.seconds:.1f} s",
    )


def _result(counted: Tally) -> str:
    """What came of a loop, in one line."""
    state = counted.saved.state
    if state.ending is not None:
        text = state.ending.text
    elif state.gate is not None:
        text = state.gate.reason
    else:
        text = ", ".join(f"{call.id} {call.state.value}" for call in state.open_calls) or "nothing yet"
    return one_line(text, 90)
