"""Pruning: the middle of histories that have ended, made one commit."""

from typing import Annotated, Literal

from cyclopts import Parameter

from caesura.continuations import ConflictError, Cut, LoopName, Loops, NotPrunable, Pruned, SavedStateError, count

from ._archive import DryRun, Finished, OlderThan, chosen
from ._ask import confirm, need_keyboard
from ._erase import Yes
from ._faults import BadUsage, NotConfirmed
from ._options import By, Json, Repo, place
from ._output import Page, err, out, write_json

Final = Literal["completed", "failed", "cancelled"]


def prune(
    *loops: Annotated[str, Parameter(help="Root loops that have ended, archived or not.", show_default=False)],
    finished: Finished = False,
    older_than: OlderThan = None,
    status: Annotated[
        Final | None, Parameter(name="--status", help="With --finished: only those that ended so.")
    ] = None,
    keep: Annotated[
        int, Parameter(name="--keep", help="How many of the last commits of each loop to keep. Default: 10")
    ] = 10,
    dry_run: DryRun = False,
    yes: Yes = False,
    by: By = None,
    repo: Repo = None,
    json: Json = False,
) -> None:
    """Shorten the histories of loops that have ended, and of what is nested in them; what they came to stays.

    The first commit stays as it is, and the last ones with their trees, authors, times and messages, under new ids; a
    round of calls is never cut in two, so more than --keep may stay. What lies between becomes one commit by you, which
    says which steps it stands for: 'caesura verify' can check these no more, and says so. Steps that changed what may
    be done keep their commits. What only led there is gone from the repository; forks keep what they share. A history
    with signed commits is refused; of --finished it is left out. It is shown first, and an interrupted pruning is
    finished by the same command.

    With --json: {"cuts": [{"loop", "before", "after"}], "objects": how many are gone, "done": whether it was}.
    """
    where = place(repo, writes=True)
    if keep < 1:
        raise BadUsage("--keep is at least 1: the last commit is the loop.", hint="'caesura erase' forgets it all.")
    if status is not None and not finished:
        raise BadUsage("--status chooses among --finished.", hint="Add --finished, or leave it out.")

    def agree(cuts: tuple[Cut, ...]) -> bool:
        if dry_run or not cuts:
            return not dry_run
        if not yes:
            need_keyboard("Add --yes to prune without being asked.")
        if not json or not yes:
            err(_plan_page(cuts))
        if not yes and not confirm("Prune?"):
            raise NotConfirmed("Nothing was pruned.", hint="Everything is as it was.")
        return True

    with where.loops() as opened:
        names = chosen(opened, loops, finished=finished, older_than=older_than)
        if status is not None:
            names = [name for name in names if opened.info(name).status == status]
        if finished:
            names = [name for name in names if _may_be(opened, name, keep, by)]
        done = opened.prune(*names, keep=keep, by=by, agree=agree)
    if json:
        write_json(_pruned_json(done))
    elif not done.cuts:
        out(Page().add(f"{count(done.gone, 'object')} gone." if done.gone else "There is nothing to prune."))
    elif dry_run:
        out(_plan_page(done.cuts))
    else:
        out(Page().add(f"{count(len(done.cuts), 'loop')} pruned, {count(done.gone, 'object')} gone."))


def _may_be(opened: Loops, name: LoopName, keep: int, by: str | None) -> bool:
    """Whether one of many can be pruned; if not, that is said, and the others are."""
    try:
        opened.prune(name, keep=keep, by=by, agree=lambda cuts: False)
    except (NotPrunable, ConflictError, SavedStateError) as error:
        err(Page().add((name, "bold"), f" stays as it is: {error} {error.hint}"))
        return False
    return True


def _plan_page(cuts: tuple[Cut, ...]) -> Page:
    page = Page()
    for cut in cuts:
        page.add((cut.loop, "bold"), f": {count(cut.before, 'commit')} would become {cut.after}.")
    return page


def _pruned_json(done: Pruned) -> dict[str, object]:
    cuts = [{"loop": cut.loop, "before": cut.before, "after": cut.after} for cut in done.cuts]
    return {"cuts": cuts, "objects": done.gone, "done": done.done}
