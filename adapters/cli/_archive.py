"""The archive: loops that have ended go out of the way, and come back."""

import datetime as dt
from typing import Annotated

from cyclopts import Parameter

from caesura.continuations import LoopName, Loops, loop_name

from ._ages import seconds_in
from ._faults import BadUsage
from ._options import Json, Repo, place
from ._output import Page, err, out, write_json

Finished = Annotated[
    bool, Parameter(name="--finished", negative="", help="Every loop that has completed, failed or been cancelled.")
]
OlderThan = Annotated[
    str | None,
    Parameter(name="--older-than", help="With --finished: only those whose last step is older, as '12h' or '30d'."),
]
DryRun = Annotated[bool, Parameter(name="--dry-run", negative="", help="Only say what would be done.")]


def archive(
    *loops: Annotated[str, Parameter(help="The loops, each with all that is nested in it.", show_default=False)],
    finished: Finished = False,
    older_than: OlderThan = None,
    restore: Annotated[
        bool, Parameter(name="--restore", negative="", help="Bring the loops back from the archive.")
    ] = False,
    dry_run: DryRun = False,
    repo: Repo = None,
    json: Json = False,
) -> None:
    """Take loops that have ended out of the way: from refs/heads/ to refs/archive/, whole, until they are brought back.

    'caesura loops --archived' lists them; show, diff and fork find them by their names; git keeps every object. Nothing
    decides on them or drives them before --restore. A loop that has not ended is refused, and so is one that a process
    drives.

    With --json: {"loops": [loop, ...], "done": whether it was}.
    """
    where = place(repo)
    with where.loops() as opened:
        if restore:
            if finished or older_than is not None:
                raise BadUsage("--restore takes the names of loops.", hint="'caesura loops --archived' lists them.")
            names = chosen(opened, loops, finished=False, older_than=None)
        else:
            names = chosen(opened, loops, finished=finished, older_than=older_than)
            opened.check_ended(names)
        shelf = opened.archived()
        idle = {name for name in names if (name in shelf) != restore}  # there already
        for name in [] if dry_run else names:
            opened.restore(name) if restore else opened.archive(name)
    if json:
        write_json({"loops": names, "done": not dry_run})
        return
    told = "back from the archive" if restore else "archived"
    if dry_run:
        told = f"would be {told}"
    page = Page()
    for name in names:
        already = " is in no archive." if restore else " is in the archive already."
        page.add((name, "bold"), already if name in idle else f" {told}.")
    out(page if names else Page().add("No loop has ended so long ago." if older_than else "No loop has ended."))
    if names and not restore and not dry_run:
        it = "it" if len(names) == 1 else "one of them"
        err(Page().add((f"bring {it} back: ", "dim"), (where.paste("archive", names[0], "--restore"), "green")))


def chosen(opened: Loops, loops: tuple[str, ...], *, finished: bool, older_than: str | None) -> list[LoopName]:
    """The loops that are named, or those that have ended, so long ago.

    Raises:
        BadUsage: the words choose none, or contradict each other.
    """
    if older_than is not None and not finished:
        raise BadUsage("--older-than chooses among --finished.", hint="Add --finished, or leave it out.")
    if loops and finished:
        raise BadUsage("Name loops, or say --finished.", hint="Not both.")
    if loops:
        return [loop_name(loop) for loop in loops]
    if not finished:
        raise BadUsage("No loop is named.", hint="Name loops, or say --finished, perhaps with --older-than 30d.")
    seconds = 0 if older_than is None else seconds_in(older_than)
    if seconds is None:
        raise BadUsage(f"{older_than!r} is no span of time.", hint="Write it like '30m', '12h' or '30d'.")
    return opened.ended(dt.timedelta(seconds=seconds))
