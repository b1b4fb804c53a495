"""Looking: what waits, which loops there are, what one of them says."""

import datetime as dt
from collections.abc import Mapping
from contextlib import suppress
from typing import Annotated, Any

from cyclopts import Parameter

from caesura.continuations import (
    CaesuraError,
    CallerError,
    CallId,
    CommitId,
    LoopInfo,
    LoopName,
    Loops,
    Policy,
    Request,
    Saved,
    SavedStateError,
    Store,
    child_name,
    count,
    parent_name,
    root_of,
    signature_of,
    split_address,
    utc_now,
)

from ._decide import going_on
from ._faults import Exit
from ._forms import ago
from ._json import info_json, pending_json, request_json, saved_json
from ._options import Json, Place, Repo, place, shown
from ._output import Page, err, out, write_json
from ._screen import request_page, summary, waiting_page, ways_out
from ._shown_files import changes_page, look_at
from ._transcript import status_piece, transcript


def pending(
    loop: Annotated[str | None, Parameter(help="Only what waits in this loop and in everything nested in it.")] = None,
    /,
    *,
    repo: Repo = None,
    json: Json = False,
) -> int:
    """List what waits for a decision, an answer or a time, with the commands that deal with it.

    If a loop cannot be read, the list may lack what waits in it: that is said, and the exit status is 1.

    With --json: {"pending": [request, ...], "unreadable": {branch: why}}.
    """
    where = place(repo)
    with where.loops() as loops:
        found, unreadable = loops.pending(loop), {} if loop else loops.unreadable(loops.waiting())
        roots = dict.fromkeys(root_of(request.loop) for request in found)
        steps = [going_on(where, loops, root, lead="") for root in roots]
        if json:
            write_json({"pending": pending_json(loops, found), "unreadable": _told(unreadable)})
            return _complete(unreadable)
        page = waiting_page(None, found, where.paste, utc_now(), look_at(loops))
    _warn(unreadable)
    if not found:
        everywhere = "Nothing waits in the loops that can be read." if unreadable else "Nothing waits."
        out(Page().add(f"Nothing waits in {loop}." if loop else everywhere))
        return _complete(unreadable)
    page.add((f"{summary(len(found))}; then:", "dim"))
    for step in steps:
        page.extend(step, indent="  ")
    out(page)
    return _complete(unreadable)


def loops(
    *,
    all_: Annotated[bool, Parameter(name="--all", negative="", help="List the loops nested in others, too.")] = False,
    archived: Annotated[bool, Parameter(name="--archived", negative="", help="List those in the archive.")] = False,
    repo: Repo = None,
    json: Json = False,
) -> int:
    """List the loops: who works in each, what it is at, what it waits for, what it has spent.

    A loop is ready if resuming it would do something. If one cannot be read, that is said, and the exit status is 1.

    With --json: {"loops": [loop, ...], "unreadable": {branch: why}}.
    """
    where = place(repo)
    with where.loops() as opened:
        shelved, erased = 0, list[LoopName]()
        if archived:
            found, unreadable = opened.shelf(nested=all_)
        else:
            found, unreadable = opened.all(nested=all_), opened.unreadable()
            shelved = sum(1 for name in opened.archived() if parent_name(name) is None)
            erased = [] if found else opened.erased()
    if json:
        write_json({"loops": [info_json(info) for info in found], "unreadable": _told(unreadable)})
        return _complete(unreadable)
    _warn(unreadable)
    if found:
        out(_table(found))
    elif archived:
        out(Page().add("There are no loops in the archive."))
    else:
        start = where.paste("run", raw='"…"' if where.config.agents else 'MODULE.py:AGENT "…"')
        yet = "; " + count(len(erased), "loop") + (" was erased" if len(erased) == 1 else " were erased")
        told = yet if erased else "" if shelved or unreadable else " yet"
        out(Page().add(f"There are no loops in {shown(where.repo)}{told}.").add("start one: ", (start, "green")))
    if shelved:
        err(
            Page().add(
                (f"{count(shelved, 'loop')} in the archive: ", "dim"), (where.paste("loops", "--archived"), "green")
            )
        )
    return _complete(unreadable)


def _table(found: list[LoopInfo]) -> Page:
    now = utc_now()
    rows = [
        (
            info.name,
            info.agent,
            info.status.value + (", ready" if info.ready and info.status == "suspended" else ""),
            str(info.waiting or ""),
            f"{info.spent.steps:,}",
            f"{info.spent.usage.total:,}",
            ago(info.at, now),
        )
        for info in found
    ]
    titles = ("LOOP", "AGENT", "STATUS", "WAITING", "MODEL CALLS", "TOKENS", "LAST CHANGE")
    widths = [max(len(row[column]) for row in [titles, *rows]) for column in range(len(titles))]
    page = Page().add(*((f"{title:{width}}  ", "dim") for title, width in zip(titles, widths, strict=True)))
    for row in rows:
        name, agent, status, waiting, steps, tokens, last = (
            f"{cell:>{width}}  " if 3 <= column <= 5 else f"{cell:{width}}  "
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        colour = status_piece(status.strip().partition(",")[0])[1]
        page.add((name, "bold"), agent, (status, colour), waiting, steps, tokens, (last, "dim"))
    return page


def show(
    revision: Annotated[
        str,
        Parameter(
            help="A loop, any git revision of one ('name~3', a commit), or what waits, as 'caesura pending' names it.",
            show_default=False,
        ),
    ],
    /,
    *,
    full: Annotated[bool, Parameter(name="--full", negative="", help="Cut nothing, however long it is.")] = False,
    repo: Repo = None,
    json: Json = False,
) -> None:
    """Show a loop as a transcript: what was said, the calls and their results, what is open, what is nested in it. Or,
    by its ID, something that waits, with what it would change in files, and what its loop has changed in them.

    With --json: the state, with its messages as the model is sent them; or the request.
    """
    where = place(repo)
    with where.store() as store:
        loops = where.over(store)
        try:
            saved = loops.show(revision)
        except CallerError:
            request = _request(loops, revision)
            if request is None:
                raise
            _show_request(where, loops, request, json=json)
            return
        at_head = _is_head(loops, revision)
        is_archived = not at_head and revision in loops.archived()
        if json:
            write_json(state_json(loops, saved, at_head=at_head))
            return
        page = state_page(loops, saved, utc_now(), at_head=at_head, full=full)
        if at_head and saved.state.workspace is not None:
            page.extend(changes_page(loops, saved.loop, where.paste, full=full))
        signature = _signature(store, saved.commit, where.config.policy)
    if signature:
        page.add("").add(signature)
    if is_archived:
        back = where.paste("archive", root_of(saved.loop), "--restore")
        err(Page().add(f"{saved.loop} is in the archive. ", ("bring it back: ", "dim"), (back, "green")))
    if saved.state.status == "suspended" and at_head:
        page.add("").add(("what it waits for: ", "dim"), (where.paste("pending", saved.loop), "green"))
    out(page)


def _request(loops: Loops, address: str) -> Request | None:
    """What waits at an address, or None if it is not that of anything in a loop.

    Raises:
        NoSuchRequest, AlreadyDecided, AlreadyAnswered: it is, and that does not wait.
    """
    try:
        loops.show(split_address(address)[0])
    except CallerError:
        return None
    return loops.request(address)


def _show_request(where: Place, loops: Loops, request: Request, *, json: bool) -> None:
    shown = look_at(loops)(request)
    if json:
        write_json(request_json(request, shown))
        return
    page = request_page(request, utc_now(), shown, where.paste, full=True)
    out(page.extend(ways_out(request, where.paste)))


def _signature(store: Store, commit: CommitId, policy: Policy | None) -> tuple[str, str] | None:
    """What is to be told of a commit's signature, if it has one."""
    try:
        checked = signature_of(store, commit, policy, utc_now())
    except CaesuraError as error:  # the loop can be shown without
        return f"its commit is signed, and that was not checked: {error}", "yellow"
    if checked is None:
        return None
    if checked.fault:
        return f"its commit {checked.fault}", "yellow"
    return f"its commit is signed by a key that the policy lists for its author: {checked.key}", "green"


def _told(unreadable: Mapping[LoopName, SavedStateError]) -> dict[str, str]:
    return {f"loops/{name}": str(error) for name, error in unreadable.items()}


def _complete(unreadable: Mapping[LoopName, SavedStateError]) -> int:
    """The exit status: whoever takes a list for the whole must not miss that it is not."""
    return Exit.FAILED if unreadable else Exit.DONE


def _warn(unreadable: Mapping[LoopName, SavedStateError]) -> None:
    for name, error in unreadable.items():
        err(Page().add((f"loops/{name}: ", "yellow"), str(error)).add(("hint: ", "bold cyan"), error.hint))


def state_page(loops: Loops, saved: Saved, now: dt.datetime, *, at_head: bool, full: bool) -> Page:
    """What ``caesura show`` prints; times are told as of `now`."""
    children = {
        call: state_page(loops, child, now, at_head=at_head, full=full)
        for call, child in _children(loops, saved, at_head=at_head).items()
    }
    return transcript(saved, children, now, full=full)


def state_json(loops: Loops, saved: Saved, *, at_head: bool) -> dict[str, Any]:
    """What ``caesura show --json`` prints."""
    children = _children(loops, saved, at_head=at_head)
    return saved_json(saved, {call: state_json(loops, child, at_head=at_head) for call, child in children.items()})


def _children(loops: Loops, saved: Saved, *, at_head: bool) -> dict[CallId, Saved]:
    """What is nested: in a loop as it is now, the newest state of each child; in a commit, what the commit holds."""
    found: dict[CallId, Saved] = {}
    for call in saved.state.open_calls:
        child = saved.state.children.get(call.id)
        if at_head and call.kind == "agent":
            with suppress(CaesuraError):  # it has not started yet
                found[call.id] = loops.show(child_name(saved.loop, call.id))
        elif child is not None:
            name = child_name(saved.loop, call.id)
            found[call.id] = Saved(loop=name, commit=child.commit, message="", state=child.state)
    return found


def _is_head(loops: Loops, revision: str) -> bool:
    with suppress(CaesuraError):
        loops.info(revision)
        return True
    return False
