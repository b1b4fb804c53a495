"""Erasing: what a loop held, out of the repository for good."""

from typing import Annotated

from cyclopts import Parameter

from caesura.continuations import Erased, LoopName, count

from ._ask import confirm, need_keyboard
from ._faults import NotConfirmed
from ._options import By, Json, Repo, place
from ._output import Page, err, out, write_json
from ._remember import forget

Yes = Annotated[bool, Parameter(name=["--yes", "-y"], negative="", help="Do not ask.")]


def erase(
    loop: Annotated[str, Parameter(help="The root loop, archived or not.", show_default=False)],
    /,
    *,
    why: Annotated[str, Parameter(name="--why", help="Why; it is kept, the rest is not.")] = "",
    with_forks: Annotated[
        bool, Parameter(name="--with-forks", negative="", help="Erase every loop that shares a commit with it, too.")
    ] = False,
    dry_run: Annotated[bool, Parameter(name="--dry-run", negative="", help="Only say what would be erased.")] = False,
    yes: Yes = False,
    by: By = None,
    repo: Repo = None,
    json: Json = False,
) -> None:
    """Take a loop, with all that is nested in it, out of the repository for good: from refs, logs, objects and packs.

    What stays is a commit at refs/archive/erased/LOOP that says who erased it, when, why, and which commits its refs
    were at; and what other loops hold as well, as they hold it. A loop that others share commits with is refused, and
    these are named. So is any while a process drives a loop here. Copies elsewhere (clones, bundles, backups, forks in
    other repositories) are not reached. An erasure that was interrupted is finished by the same command.

    With --json: {"erased": {loop: commit that says so}, "objects": how many are gone, "shared": how many stay with
    others, "done": whether it was}.
    """
    where = place(repo, writes=True)

    def agree(loops: tuple[LoopName, ...]) -> bool:
        if dry_run:
            told.extend(loops)
            return False
        if not yes:
            need_keyboard("Add --yes to erase without being asked. There is no way back.")
            err(Page().add(f"{', '.join(loops)}: all that was said and done, for good."))
            if not confirm("Erase?"):
                raise NotConfirmed("Nothing was erased.", hint="Everything is as it was.")
        return True

    told: list[LoopName] = []
    with where.loops() as opened:
        done = opened.erase(loop, why, forks=with_forks, by=by, agree=agree)
    if done is not None:
        for name in done.tombstones:
            forget(where.repo, name)
    if json:
        write_json(_erased_json(done, told))
    elif done is None:
        out(Page().add(f"{', '.join(told)} would be erased."))
    else:
        out(_erased_page(done))


def _erased_json(done: Erased | None, told: list[LoopName]) -> dict[str, object]:
    if done is None:
        return {"erased": dict.fromkeys(told), "objects": 0, "shared": 0, "done": False}
    return {"erased": dict(done.tombstones), "objects": done.gone, "shared": done.shared, "done": True}


def _erased_page(done: Erased) -> Page:
    page = Page()
    for name in done.tombstones:
        page.add((name, "bold"), f" is erased; refs/archive/erased/{name} says so.")
    page.add(f"{count(done.gone, 'object')} gone" + (f", {done.shared} stay with others." if done.shared else "."))
    return page
