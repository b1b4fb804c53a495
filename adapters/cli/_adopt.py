"""Adopting: a loop goes on as the branch that was chosen."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from caesura.continuations import Loops, NoFiles, Status, loop_name, utc_now

from ._decide import going_on
from ._json import decided_json
from ._options import By, Json, Repo, place
from ._output import Page, out, write_json
from ._screen import waiting_page
from ._shown_files import look_at


def adopt(
    branch: Annotated[str, Parameter(help="The root loop that was chosen.", show_default=False)],
    /,
    *,
    into: Annotated[str, Parameter(name="--into", help="The loop that goes on as it.", show_default=False)],
    why: Annotated[str, Parameter(name="--why", help="Why; it is kept in the history.")] = "",
    over: Annotated[
        list[str] | None,
        Parameter(
            name="--over",
            negative="",
            consume_multiple=False,
            show_default=False,
            help="A loop that was not chosen; once for each.",
        ),
    ] = None,
    drop: Annotated[
        bool, Parameter(name="--drop", negative="", help="Delete the branches of what was not chosen.")
    ] = False,
    by: By = None,
    repo: Repo = None,
    json: Json = False,
) -> None:
    """Let a loop go on as another one that was tried in its place, as a fork of any of its commits.

    It is a merge: one commit by you, with two parents, the loop as it was and the one that was chosen, whose tree it
    has, to the bit. It says what was chosen, over what and why. The branch itself goes, as it is a part of the loop
    now; so do the loops after --over, to refs/archive/, where they can still be shown, compared and forked, or with
    --drop for good.

    What had run in a loop that was not chosen is not undone; the commit names it. Nothing is done if one of the loops
    is driven, or has something running. With --json: {"loop", "status", "commit", "pending"}.
    """
    where = place(repo, writes=True)
    losers = over or []
    with where.loops() as loops:
        folder = _folder(loops, branch)
        saved = loops.adopt(branch, into, why=why, over=losers, drop=drop, by=by)
        pending = loops.pending(saved.loop)
        if json:
            write_json(decided_json(loops, saved, pending))
            return
        page = Page().add(f"{saved.loop} goes on as {branch}.")
        if losers:
            page.add(f"{'Dropped' if drop else 'In the archive'}: {', '.join(losers)}.")
        if folder is not None:
            page.add(f"The folder of {branch} stays until somebody deletes it: ", (str(folder), "bold"))
        if pending:
            page.add("").extend(waiting_page(None, pending, where.paste, utc_now(), look_at(loops)))
            page.extend(going_on(where, loops, loop_name(into), lead="then: "))
        elif saved.state.status is Status.ACTIVE:
            page.extend(going_on(where, loops, loop_name(into)))
        out(page)


def _folder(loops: Loops, branch: str) -> Path | None:
    """The folder that a loop works in, if it works on files and the folder is there."""
    try:
        folder = Path(loops.files(branch).folder)
    except NoFiles:
        return None
    return folder if folder.exists() else None
