"""A loop as a transcript: what was said, what was called, what came back, what is open."""

import datetime as dt
from collections.abc import Mapping

from caesura.continuations import (
    Assistant,
    CallId,
    CallState,
    Continuation,
    Message,
    Result,
    Saved,
    User,
    call_text,
    text_of,
)

from ._forms import ago, clip, moment
from ._output import Page
from ._screen import spent_text
from ._shown_files import preview_lines

_COLOURS = {"completed": "green", "failed": "red", "cancelled": "red", "suspended": "yellow", "active": "cyan"}


def transcript(saved: Saved, children: Mapping[CallId, Page], now: dt.datetime, *, full: bool) -> Page:
    """A loop's state. Long texts are cut, saying by how much, unless it is to be `full`."""
    state = saved.state
    page = Page().add((saved.loop, "bold"), "  ", (state.agent, "cyan"), "  ", status_piece(state.status.value))
    page.add((f"commit {saved.commit}", "dim"))
    page.add((f"{spent_text(state.total)}; model {state.definition.model.name}; last step {ago(state.at, now)}", "dim"))
    if state.context.times:
        times = "once" if state.context.times == 1 else f"{state.context.times} times"
        page.add((f"its messages were compacted {times}; all of them are in its earlier commits", "dim"))
    if state.rehearsal is not None:
        record = state.rehearsal.record
        does = (
            "a person is asked before each call" if record is None else f"calls are answered from {record.until[:12]}"
        )
        page.add((f"it rehearses: {does}", "yellow"))
    calls: dict[str, str] = {}
    for message in state.messages:
        page.add("")
        _message(page, message, calls, full=full)
    heard = "once the open calls have their results" if state.open_calls else "as it goes on"
    for told in state.told:
        page.add("").add((f"user, {heard}", "bold")).block(_cut(text_of(told.content), full))
    _open(page, state, children, now, full=full)
    if state.gate is not None:
        page.add("").add(("stands still", "yellow"), f" ({state.gate.kind}, {state.gate.id}): {state.gate.reason}")
    if state.ending is not None and state.ending.status != "completed":
        page.add("").add((state.ending.status, "red")).block(_cut(state.ending.text, full))
    return page


def status_piece(status: str) -> tuple[str, str]:
    """A status in its colour."""
    return status, _COLOURS.get(status, "")


def _message(page: Page, message: Message, calls: dict[str, str], *, full: bool) -> None:
    match message:
        case User():
            page.add(("user", "bold")).block(_cut(text_of(message.content), full))
        case Assistant():
            page.add(("assistant", "bold"))
            text = message.content or message.refusal
            if text:
                page.block(_cut(text, full))
            for request in message.tool_calls:
                calls[request.id] = request.function.name
                width = 100_000 if full else 100
                page.add("  → ", (call_text(request.function.name, request.function.arguments, width), "bold"))
        case Result():
            page.add("  ← ", (calls.get(message.tool_call_id, message.tool_call_id), "bold"))
            page.block(_cut(message.content, full), prefix="    │ ")


def _open(page: Page, state: Continuation, children: Mapping[CallId, Page], now: dt.datetime, *, full: bool) -> None:
    if state.open_calls:
        page.add("").add(("open calls", "bold"))
    for call in state.open_calls:
        page.add(
            "  ",
            (call.id, "bold"),
            "  ",
            (call.state.value, "yellow" if call.state in _STUCK else "cyan"),
            f"  {call_text(call.tool, call.arguments, 80)}",
            (f", {ago(call.since, now)}", "dim"),
        )
        if call.question is not None:
            page.block(call.question.text, prefix="      │ ")
        if call.needs is not None and call.needs.approvals > 1:
            names = ", ".join(one.by.name for one in call.granted)
            page.add(f"      {len(call.granted)} of {call.needs.approvals} approvals", f": {names}" if names else "")
        if call.not_before is not None:
            page.add(f"      not before {moment(call.not_before)}")
        if call.preview is not None and call.state in _STUCK:
            preview_lines(page, call.preview, full=full, indent="      ")
        if call.id in children:
            page.extend(children[call.id], indent="      ")


_STUCK = frozenset({CallState.AWAITING, CallState.UNKNOWN, CallState.WAITING})


def _cut(text: str, full: bool) -> str:
    return text if full else clip(text)
