"""Deciding: approve and reject. What is decided on is exactly what was shown."""

from collections.abc import Callable
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from caesura.continuations import (
    AlreadyDecided,
    Choice,
    LoopName,
    Loops,
    Needs,
    Request,
    Saved,
    count,
    loop_name,
    root_of,
    split_address,
    summed,
    utc_now,
)
from caesura.continuations import (
    Json as JsonValue,
)

from ._ask import ask, can_ask, confirm, need_keyboard
from ._editor import edit as edit_arguments
from ._faults import BadUsage, NotConfirmed
from ._forms import pretty_value
from ._json import decided_json
from ._options import By, Json, Place, Repo, object_from, place
from ._output import Page, err, out, write_json
from ._screen import request_page, waiting_page
from ._shown_files import look_at

Ids = Annotated[str, Parameter(help="What to decide on, as 'caesura pending' names it.", show_default=False)]
Always = Annotated[
    Literal["tool", "arguments"] | None,
    Parameter(
        name="--always",
        help="Decide the same for later calls in the same loop: of this tool, or of it with these arguments.",
    ),
]


def approve(
    *ids: Ids,
    yes: Annotated[
        bool, Parameter(name=["--yes", "-y"], negative="", help="Do not ask; approve what stands there now.")
    ] = False,
    note: Annotated[str, Parameter(name="--note", help="A remark, kept in the history.")] = "",
    edit: Annotated[
        bool, Parameter(name="--edit", negative="", help="Change the arguments first, in VISUAL or EDITOR.")
    ] = False,
    arguments: Annotated[
        str | None, Parameter(name="--arguments", help="Approve with these arguments instead, a JSON object.")
    ] = None,
    always: Always = None,
    by: By = None,
    repo: Repo = None,
    json: Json = False,
) -> None:
    """Approve calls, let calls of unknown outcome run again, lift gates, or accept an agent's changed code.

    Each is shown in full, and approved if you say yes: that very call, with these arguments. If anything about it
    has changed by then, nothing is approved. Nothing runs before the loop is resumed, unless a process drives it.

    With --json: {"loop", "status", "commit", "pending"}, or {"decided": [...]} for several.
    """
    if not ids:
        raise BadUsage("There is nothing to approve.", hint="'caesura pending' lists what waits.")
    if (edit or arguments is not None) and len(ids) > 1:
        raise BadUsage("Only one call can be approved with other arguments.", hint="Approve them one by one.")
    if edit and arguments is not None:
        raise BadUsage("--edit and --arguments exclude each other.", hint="Use one of them.")
    given = None if arguments is None else object_from(arguments, "--arguments")
    where = place(repo, writes=True)

    def decide(loops: Loops, shown: Request) -> Saved:
        if shown.kind == "question":
            raise BadUsage(
                f"{shown.id} asks a question: it wants an answer, not an approval.",
                hint=f"{where.paste('answer', shown.id, raw='VALUE')}",
            )
        new = _edited(loops, shown) if edit else given
        if not yes:
            need_keyboard("Add --yes to approve what stands there now.")
        page = request_page(shown, utc_now(), look_at(loops)(shown), where.paste, full=True)
        if new is not None:
            page.add(("  with these arguments instead:", "yellow")).block(pretty_value(new), prefix="    │ ")
        if always is not None:
            reach = "every later call of this tool" if always == "tool" else "later calls with these arguments"
            page.add(("  and, without being asked again: ", "yellow"), f"{reach} in {shown.loop}")
        err(page)
        if not yes and not confirm("Approve?"):
            raise NotConfirmed(f"{shown.id} was not approved.", hint="Nothing was decided; it still waits.")
        return loops.approve(shown, note=note, arguments=new, always=always or "call", by=by)

    _each(where, ids, decide, "approve", new=edit or given is not None or always is not None, json=json)


def reject(
    *ids: Ids,
    reason: Annotated[str | None, Parameter(name="--reason", help="Why; the model is told.")] = None,
    always: Always = None,
    by: By = None,
    repo: Repo = None,
    json: Json = False,
) -> None:
    """Reject calls, turn questions down, give calls of unknown outcome up, or give loops up at a gate.

    A rejected call never runs, and the model is told, with your reason. At the gate of a changed agent it is the new
    code that is rejected, and the loop waits for other code. Without --reason each is shown, and you are
    asked for one.

    With --json: {"loop", "status", "commit", "pending"}, or {"decided": [...]} for several.
    """
    if not ids:
        raise BadUsage("There is nothing to reject.", hint="'caesura pending' lists what waits.")
    where = place(repo, writes=True)

    def decide(loops: Loops, shown: Request) -> Saved:
        why = reason
        if why is None:
            need_keyboard("Say why with --reason TEXT.")
            err(request_page(shown, utc_now(), look_at(loops)(shown), where.paste, full=True))
            what = "Give the loop up" if shown.kind == "gate" and shown.change is None else "Reject"
            why = ask(f"{what}, for which reason? (Ctrl-C leaves it as it is) ")
        return loops.reject(shown, why, always=always or "call", by=by)

    _each(where, ids, decide, "reject", new=always is not None, json=json)


def _each(
    where: Place,
    ids: tuple[str, ...],
    decide: Callable[[Loops, Request], Saved],
    choice: Choice,
    *,
    new: bool,
    json: bool,
) -> None:
    """Decide on one after the other, then say what is left to do."""
    done: list[dict[str, Any]] = []
    last: Saved | None = None
    with where.loops() as loops:
        for address in ids:
            try:
                shown = loops.request(address)
            except AlreadyDecided as before:
                if before.decision.choice != choice or new:
                    raise
                last = loops.show(split_address(address)[0])
                said = f"{address} was {'approved' if choice == 'approve' else 'rejected'} before."
            else:
                last = decide(loops, shown)
                said = _said(loops, shown, last, choice)
            done.append(decided_json(loops, last, loops.pending(root_of(last.loop))))
            if not json:
                out(Page().add(said))
        if json:
            write_json(done[0] if len(ids) == 1 else {"decided": done})
        elif last is not None:
            tell_rest(where, loops, last)


def _said(loops: Loops, shown: Request, saved: Saved, choice: Choice) -> str:
    """What came of a decision: it may be one of several that are needed, or have been made before."""
    if choice == "reject":
        return f"Rejected {shown.id}."
    verb = "Approved" if saved.commit != shown.commit else "You had approved"
    still = [one for one in loops.pending(saved.loop) if one.id == shown.id]
    if not still:
        call = saved.state.call(split_address(shown.id)[1])
        files = () if call is None or call.preview is None else call.preview.files
        return f"{verb} {shown.id}, as shown: {summed(files)}." if files else f"{verb} {shown.id}."
    return f"{verb} {shown.id}: {len(still[0].approvals)} of {(still[0].needs or Needs()).approvals} approvals."


def tell_rest(where: Place, loops: Loops, saved: Saved, *, to: Callable[[Page], None] = out) -> None:
    """Say what is still pending in the root loop, or how to go on with it."""
    root = root_of(saved.loop)
    rest = loops.pending(root)
    status = loops.info(root).status
    if status in ("completed", "failed", "cancelled"):
        to(Page().add(f"{root} has {status}." if status != "cancelled" else f"{root} is cancelled."))
        return
    page = Page()
    if rest:
        page.add(f"Still waiting in {root}: {count(len(rest), 'request')}.").add("")
        page.extend(waiting_page(None, rest, where.paste, utc_now(), look_at(loops)))
    to(page.extend(going_on(where, loops, loop_name(root))))


def going_on(where: Place, loops: Loops, loop: LoopName, *, lead: str = "go on: ") -> Page:
    """How a loop goes on: by itself, if a process drives it now, else with a command."""
    driver = loops.driver(loop)
    if driver is not None:
        return Page().add((f"{driver} drives {root_of(loop)}, and goes on with it.", "dim"))
    return Page().add((lead, "dim"), (where.paste.resume(loop), "green"))


def _edited(loops: Loops, shown: Request) -> JsonValue | None:
    tool = loops.show(shown.commit).state.definition.tool(shown.tool)
    if tool is None or shown.kind == "gate":
        raise BadUsage(f"{shown.id} has no arguments.", hint="Approve it as it is.")
    if not can_ask():
        return edit_arguments(shown.arguments, tool.parameters)
    err(request_page(shown, utc_now(), look_at(loops)(shown), full=True))
    return edit_arguments(shown.arguments, tool.parameters)
