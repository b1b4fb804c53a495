"""Steering: make a repository, tell, pause, cancel."""

from typing import Annotated

from cyclopts import Parameter

from caesura.continuations import GitStore, Loops, NoPerson, Saved, Status, address, count, root_of

from ._decide import going_on
from ._gitdiff import set_up
from ._json import decided_json
from ._options import By, Json, Place, Repo, place, shown, text_from
from ._output import Page, err, out, write_json
from ._screen import ways_out

LoopArgument = Annotated[str, Parameter(help="The loop's name; 'caesura loops' lists them.", show_default=False)]


def init(*, repo: Repo = None, json: Json = False) -> None:
    """Make a bare git repository for loops; loops and files of one that is there already are left as they are.

    'caesura run' does the same when it needs to. Only init also teaches git to show loops as text in this repository
    (see 'caesura textconv'); in a clone, do it again. To undo that: git config --remove-section diff.caesura, and
    delete the lines with diff=caesura from info/attributes. With --json: {"repo", "created", "textconv"}.
    """
    where = place(repo)
    there = where.repo.is_dir() and any(where.repo.iterdir())
    store = GitStore.open(where.repo, create=True)
    try:
        store.seal()  # git is about to look
        store.person()
        unknown = None
    except NoPerson as error:
        unknown = error
    finally:
        store.close()
    shows_text = set_up(where.repo)
    if json:
        write_json({"repo": str(where.repo.resolve()), "created": not there, "textconv": shows_text})
        return
    out(Page().add(f"{shown(where.repo)} is {'there already' if there else 'made'}."))
    if unknown is not None:
        err(Page().add(str(unknown)).add(("hint: ", "bold cyan"), unknown.hint))


def tell(
    loop: LoopArgument,
    text: Annotated[str, Parameter(help="What to say; - reads it from standard input.", show_default=False)],
    /,
    *,
    by: By = None,
    repo: Repo = None,
    json: Json = False,
) -> None:
    """Say something to a loop: it hears it at once, or after the calls that are open. A completed loop goes on.

    With --json: {"loop", "status", "commit", "pending"}.
    """
    where = place(repo, writes=True)
    message = text_from(text, "to tell the loop")
    with where.loops() as loops:
        saved = loops.tell(loop, message, by=by)
        then = saved.state.status is Status.ACTIVE
        waits = bool(saved.state.told and saved.state.open_calls)
        later = " It will hear it once the open calls have their results." if waits else ""
        _steered(where, loops, saved, f"Told {saved.loop}.{later}", resume=then, json=json)


def pause(
    loop: LoopArgument,
    /,
    *,
    reason: Annotated[str, Parameter(name="--reason", help="Why; it is kept in the history.")] = "paused by hand",
    by: By = None,
    repo: Repo = None,
    json: Json = False,
) -> None:
    """Put a gate before the next step of a loop and of everything nested in it. Resuming lifts it.

    A process that drives the loop now finishes the tools that run, and stops. With --json: {"loop", "status",
    "commit", "pending"}.
    """
    where = place(repo, writes=True)
    with where.loops() as loops:
        saved = loops.pause(loop, reason, by=by)
        _steered(where, loops, saved, f"Paused {saved.loop}.", resume=True, json=json)


def compact(
    loop: LoopArgument,
    /,
    *,
    keep: Annotated[int, Parameter(name="--keep", help="How many of the newest results stay. Default: 10")] = 10,
    by: By = None,
    repo: Repo = None,
    json: Json = False,
) -> None:
    """Shorten what a loop's model is sent: leave out what tools returned, but for the newest results.

    What the model has not read yet stays, and so does what people said, decided or answered. The loop must not be
    driven meanwhile. All of it is in the loop's earlier commits: 'caesura fork LOOP~1' goes on from there.

    With --json: {"loop", "status", "commit", "pending"}.
    """
    where = place(repo)
    with where.loops() as loops:
        saved = loops.compact(loop, keep=keep, by=by)
        then = saved.state.status is Status.ACTIVE
        what = f"Compacted {saved.loop}: what tools returned is left out, but for the newest {count(keep, 'result')}."
        _steered(where, loops, saved, what, resume=then, json=json)


def cancel(
    loop: LoopArgument,
    /,
    *,
    reason: Annotated[str, Parameter(name="--reason", help="Why; it is kept in the history.")] = "cancelled by hand",
    by: By = None,
    repo: Repo = None,
    json: Json = False,
) -> None:
    """End a loop and everything nested in it. Any commit of it can still be forked.

    With --json: {"loop", "status", "commit", "pending"}.
    """
    where = place(repo, writes=True)
    with where.loops() as loops:
        saved = loops.cancel(loop, reason, by=by)
        _steered(where, loops, saved, f"Cancelled {saved.loop}.", resume=False, json=json)


def _steered(where: Place, loops: Loops, saved: Saved, what: str, *, resume: bool, json: bool) -> None:
    if json:
        write_json(decided_json(loops, saved, loops.pending(root_of(saved.loop))))
        return
    page = Page().add(what)
    gate = saved.state.gate
    if gate is not None:
        page.extend(ways_out(loops.request(address(saved.loop, gate.id)), where.paste))
    elif resume:
        page.extend(going_on(where, loops, saved.loop))
    out(page)
