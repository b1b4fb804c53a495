"""Comparisons as a person reads them: side by side where there is room, else one above the other."""

import shutil
import sys
import textwrap
from collections.abc import Iterator, Sequence
from itertools import zip_longest
from typing import NamedTuple

from caesura.continuations import Comparison, Divergence, Entry, Row, Saved, call_text, count, one_line, printable

from ._forms import clip, path_text
from ._output import Page, Piece, is_screen
from ._screen import spent_text
from ._transcript import status_piece

_WIDE = 100
"""Columns that two loops need side by side."""
_NEAR = 1
"""Entries that are the same, shown before and after one that is not."""


def comparison_page(compared: Comparison, *, full: bool) -> Page:
    """Two loops. Long texts are cut, and what is the same is counted, unless it is to be `full`."""
    page = Page()
    for mark, side, style in (("---", compared.left, "red"), ("+++", compared.right, "green")):
        page.add((f"{mark} {side.loop}", f"bold {style}"), *_standing(compared, side))
    base = compared.base
    if base is None:
        page.add("They have no commit in common.")
    else:
        subject = base.message.partition("\n")[0]
        page.add(("the last commit in common: ", "dim"), base.commit[:10], f"  {subject}")
    parted = compared.divergence
    if parted is None:
        return page.add("They did the same." if compared.rows else "They did nothing since.")
    page.add(("they part: ", "dim"), where_text(parted)).add("")
    lines = list(_folded(compared.rows, 0, full=full))
    columns = shutil.get_terminal_size().columns
    if is_screen(sys.stdout) and columns >= _WIDE:
        _side_by_side(page, lines, (columns - 3) // 2)
    else:
        _stacked(page, lines)
    return page


def where_text(parted: Divergence) -> str:
    """Where two loops part, in one line."""
    row = parted.row
    ends = [one_line(_texts(entry, full=False)[0].strip(), 60) for entry in (row.left, row.right) if entry is not None]
    if row.left is None or row.right is None:
        ends.append("only the first" if row.right is None else "only the second")
    where = path_text(parted.path)
    return (f"in {where}: " if where else "") + " / ".join(ends)


def _standing(compared: Comparison, side: Saved) -> tuple[Piece, ...]:
    state = side.state
    since = "" if compared.base is None else f"; since then {spent_text(compared.spent_since(side))}"
    model = f"  model {state.definition.model.name}; {spent_text(state.total)}{since}"
    return "  ", (state.agent, "cyan"), "  ", status_piece(state.status.value), (model, "dim")


class _Line(NamedTuple):
    """One row of the comparison as text: what either has there, and whether it is the same."""

    depth: int
    left: tuple[str, ...]
    right: tuple[str, ...]
    same: bool


def _folded(rows: Sequence[Row], depth: int, *, full: bool) -> Iterator[_Line]:
    quiet = [_quiet(row) for row in rows]
    hidden = 0
    for place, row in enumerate(rows):
        near = quiet[max(0, place - _NEAR) : place + _NEAR + 1]
        if not full and all(near):
            hidden += 1
            continue
        yield from _counted(hidden, depth)
        hidden = 0
        left, right = _texts(row.left, full=full), _texts(row.right, full=full)
        yield _Line(depth, left, right, row.same)
        if full or not quiet[place]:
            yield from _folded(row.nested, depth + 1, full=full)
    yield from _counted(hidden, depth)


def _quiet(row: Row) -> bool:
    return row.same and all(map(_quiet, row.nested))


def _counted(hidden: int, depth: int) -> Iterator[_Line]:
    if hidden:
        text = (f"[{count(hidden, 'entry') if hidden == 1 else f'{hidden} entries'} the same]",)
        yield _Line(depth, text, text, same=True)


def _texts(entry: Entry | None, *, full: bool) -> tuple[str, ...]:
    """An entry's lines."""
    if entry is None:
        return ()
    said = _said(entry, full=full)
    if entry.tokens is not None:
        said += f"  ({entry.tokens.input:,} in, {entry.tokens.output:,} out)"
    first, *more = printable(said if full else clip(said, 8, 800)).expandtabs(4).splitlines() or [""]
    return (first, *(f"  {line}" for line in more))


def _said(entry: Entry, *, full: bool) -> str:
    width = 100_000 if full else 200
    who = entry.by or "the agent"
    match entry.kind:
        case "told":
            return f"{entry.by or 'user'}: {entry.text}"
        case "said":
            return f"assistant: {entry.text}"
        case "called":
            return f"→ {call_text(entry.tool, entry.arguments, width)}"
        case "edited":
            return f"  {who} asks instead: {call_text(entry.tool, entry.arguments, width)}"
        case "decided":
            verb = "approves" if entry.outcome == "approve" else "rejects"
            edited = f" as {call_text(entry.tool, entry.arguments, width)}" if entry.arguments else ""
            standing = " (a standing decision)" if entry.standing else ""
            return f"  {entry.by} {verb} {entry.tool}{edited}{standing}" + (f": {entry.text}" if entry.text else "")
        case "got":
            by = f" by {entry.by}" if entry.by else ""
            return f"← {entry.tool} {entry.outcome}{by}: {entry.text}"
        case "open":
            return f"  {entry.tool} is open: {entry.outcome}"
        case "gate":
            return f"stands still ({entry.outcome}): {entry.text}"
        case "lifted":
            return f"{who} lifts the gate: {entry.text}"
        case "refused":
            return f"{who} refuses, and the gate stands" + (f": {entry.text}" if entry.text else "")
        case "changed":
            return f"the agent's definition changed: {entry.text}"
        case "compacted":
            return f"{who} compacts the messages, {entry.text}" if entry.text else "a compaction fails"
        case "dropped":
            return f"{who} takes messages away: {entry.text}"
        case "ended":
            return f"{who} ends the loop, {entry.outcome}: {entry.text}"


def _stacked(page: Page, lines: Sequence[_Line]) -> None:
    for line in lines:
        indent = "  " * line.depth
        if line.same:
            for text in line.left:
                page.add(("  ", "dim"), (f"{indent}{text}", "dim"))
            continue
        for mark, texts, style in (("- ", line.left, "red"), ("+ ", line.right, "green")):
            for text in texts:
                page.add((mark, style), (f"{indent}{text}", style))


def _side_by_side(page: Page, lines: Sequence[_Line], width: int) -> None:
    for line in lines:
        marks = " " if line.same else "|" if line.left and line.right else "<" if line.left else ">"
        styles = ("dim", "dim") if line.same else ("red", "green")
        indent = "  " * min(line.depth, width // 8)
        for left, right in zip_longest(
            _cells(line.left, indent, width), _cells(line.right, indent, width), fillvalue=" " * width
        ):
            page.add((left, styles[0]), (f" {marks} ", "bold"), (right, styles[1]))


def _cells(texts: Sequence[str], indent: str, width: int) -> Iterator[str]:
    """Lines exactly so wide, as a terminal counts."""
    from rich.cells import cell_len, chop_cells, set_cell_size

    room = width - len(indent)
    for text in texts:
        own = " " * (len(text) - len(text.lstrip()))
        if cell_len(text) == len(text):
            pieces = textwrap.wrap(text, room, initial_indent=own, subsequent_indent=f"{own}  ", tabsize=1) or [""]
        else:
            pieces = chop_cells(text, room)
        for piece in pieces:
            yield set_cell_size(f"{indent}{piece}", width)
