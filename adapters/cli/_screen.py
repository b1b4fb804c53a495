"""What waits, as a person reads it: the request, and the commands that deal with it."""

import datetime as dt
from collections.abc import Sequence

from caesura.continuations import Attempt, LoopName, Needs, Request, Spent, count

from ._forms import ago, asked_for, clip, duration, moment, parsed, path_text, pretty
from ._output import Page
from ._paste import Paste
from ._safe import compact_call
from ._shown_files import Look, Shown, files_page

_WIDTH = 90
_LINES = 16

_WHAT = {
    "approval": "wants approval",
    "question": "asks",
    "outcome": "does not know whether this ran",
    "sleep": "sleeps",
    "gate": "stands still",
}


def _unseen(_: Request) -> Shown:
    return Shown()


def waiting_page(
    loop: LoopName | None, pending: Sequence[Request], paste: Paste, now: dt.datetime, look: Look = _unseen
) -> Page:
    """Everything that waits in a loop, or in all of them, with what to type next."""
    page = Page()
    for request in pending:
        page.extend(request_page(request, now, look(request), paste)).extend(ways_out(request, paste)).add("")
    if loop is not None:
        then = "then" if any(request.kind != "sleep" for request in pending) else "later"
        page.add((f"{then}: ", "dim"), paste.resume(loop))
    return page


def request_page(
    request: Request, now: dt.datetime, files: Shown, paste: Paste | None = None, *, full: bool = False
) -> Page:
    """One request: who asks, for what, why, since when, and what of files; with `full`, nothing of the call is cut."""
    page = Page().add(
        (request.id, "bold"),
        "  ",
        (path_text(request.path), "cyan"),
        f" {_WHAT[request.kind]}",
        (f", {ago(request.since, now)}", "dim"),
    )
    if request.text:
        page.block(request.text if full else clip(request.text))
    if request.change is not None:
        _change(page, request.change.lines, full=full)
    if request.tool and request.kind != "question":
        _call(page, request, full=full)
    if full and request.description:
        page.add(("  the tool: ", "dim")).block(request.description)
    if request.reason.strip():
        page.add(("  the model said: ", "dim")).block(request.reason if full else clip(request.reason, 6, 600))
    if request.remark:
        page.add(("  remarked: ", "dim")).block(request.remark if full else clip(request.remark, 4, 400))
    page.extend(files_page(request, files, paste, full=full))
    if request.kind == "outcome" and request.attempt is not None:
        _attempt(page, request.attempt, now)
    _policy(page, request, now)
    if request.kind == "question":
        page.add(("  answer with: ", "dim"), asked_for(request.answer))
    if request.wake_at is not None:
        left = (request.wake_at - now).total_seconds()
        when = f"in {duration(left)}" if left > 0 else "which has come"
        page.add(("  until: ", "dim"), f"{moment(request.wake_at)}, {when}")
    if request.kind == "outcome":
        page.add("  It may have had its effect, or a part of it, or none.")
    return page


def _attempt(page: Page, attempt: Attempt, now: dt.datetime) -> None:
    """What is known of a start whose end is not."""
    when = "" if attempt.started is None else f", {moment(attempt.started)}, {ago(attempt.started, now)}"
    where = f", by {attempt.process}" if attempt.process else ""
    page.add(("  started: ", "dim"), f"attempt {attempt.number}{when}{where}")
    page.add(("  idempotency key: ", "dim"), attempt.idempotency_key)


_DIFF = {"-": "red", "+": "green"}


def _change(page: Page, lines: Sequence[str], *, full: bool) -> None:
    """What changed in an agent's code, as a diff."""
    shown = lines if full else lines[:_LINES]
    for line in shown:
        page.block(line, prefix="    │ ", style=_DIFF.get(line.strip()[:1], "bold") if line[:1] == " " else "bold")
    if len(shown) < len(lines):
        more = count(len(lines) - len(shown), "more line")
        page.add((f"    [{more}; 'caesura approve' shows all of it first]", "dim"))


def _policy(page: Page, request: Request, now: dt.datetime) -> None:
    """What a policy asks for, what of it is there, and until when the rest can come."""
    needs = request.needs
    if needs is None:
        return
    if needs.approvals > 1 or needs.by:
        approved = ", ".join(one.by.name for one in request.approvals)
        page.add(
            ("  approvals: ", "dim"),
            f"{len(request.approvals)} of {needs.approvals}",
            f" ({approved})" if approved else "",
            ("; still needed: ", "dim"),
            _still(request),
        )
    if request.expires is not None:
        left = (request.expires - now).total_seconds()
        then = "is rejected" if needs.on_expiry == "reject" else "is asked anew"
        when = f"{moment(request.expires)}, in {duration(left)}" if left > 0 else "which is over"
        page.add(("  until: ", "dim"), f"{when}; then it {then}")


def _still(request: Request) -> str:
    """Who else must approve."""
    needs = request.needs or Needs()
    given = {one.by.identity for one in request.approvals}
    given |= {email.casefold() for email in needs.requesters}
    among = [email for email in needs.by if email.casefold() not in given]
    if not needs.by:
        return count(request.missing, "more person") if request.missing == 1 else f"{request.missing} more people"
    return " and ".join(among) if len(among) <= request.missing else f"{request.missing} of {', '.join(among)}"


def _call(page: Page, request: Request, *, full: bool) -> None:
    line = compact_call(request.tool, parsed(request.arguments), _WIDTH)
    if line is not None and not full:
        page.add("    ", (line, "bold"))
        return
    page.add("    ", (request.tool, "bold"))
    shown = pretty(request.arguments)
    lines = shown.splitlines()
    cut = 0 if full else max(0, len(lines) - _LINES)
    clipped = [line if full or len(line) <= 400 else f"{line[:400]}… [{len(line) - 400:,} more]" for line in lines]
    page.block("\n".join(clipped[: len(lines) - cut]), prefix="    │ ")
    if cut:
        page.add((f"    [{count(cut, 'more line')}; 'caesura approve' shows all of it first]", "dim"))


def ways_out(request: Request, paste: Paste) -> Page:
    """The commands that deal with a request."""
    page = Page()
    approve, because = paste("approve", request.id), paste("reject", request.id, raw='--reason "…"')
    resume, tell = paste.resume(request.loop), paste("tell", request.loop, raw='"…"')
    match request.kind, request.gate:
        case "approval", _:
            ways = [(approve, ""), (because, "")]
        case "question", _:
            ways = [(paste("answer", request.id, raw="VALUE"), ""), (because, "turns it down")]
        case "outcome", _:
            ways = [
                (paste("answer", request.id, raw="RESULT"), "it ran, with this result"),
                (approve, "it did not: run it"),
                (because, "give it up"),
            ]
        case "gate", "budget":
            ways = [(approve, "allow as much again"), (because, "give the loop up")]
        case "gate", "condition":
            ways = [(approve, "let it go on"), (because, "give the loop up")]
        case "gate", "change" if request.remark:
            ways = [(resume, "once its code is another one"), (paste("cancel", request.loop), "give the loop up")]
        case "gate", "change":
            ways = [
                (approve, "go on with the code as it is now"),
                (because, "refuse it: the loop waits for other code"),
                (paste("cancel", request.loop), "give the loop up"),
            ]
        case "gate", "pause":
            ways = [(resume, "go on"), (approve, "go on where a process drives it"), (because, "give the loop up")]
        case "gate", _:
            ways = [
                (resume, "try again"),
                (approve, "try again where a process drives it"),
                (tell, "say something first"),
                (because, "give the loop up"),
            ]
        case _:
            ways = []
    width = max((len(command) for command, _ in ways), default=0)
    for command, what in ways:
        page.add("  ", (command.ljust(width) if what else command, "green"), (f"  # {what}" if what else "", "dim"))
    return page


def summary(waiting: int) -> str:
    """How much waits."""
    return f"{count(waiting, 'request')} {'waits' if waiting == 1 else 'wait'}"


def spent_text(spent: Spent) -> str:
    """What was spent, in one line."""
    parts = [count(spent.steps, "model call")]
    if spent.usage.total:
        parts.append(f"{spent.usage.total:,} tokens")
    return ", ".join([*parts, f"{spent.seconds:.1f} s"])
