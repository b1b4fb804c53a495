"""Writing a loop as a continuation object."""

import msgspec
from msgspec.structs import replace

from .._calls import Call, CallState
from .._errors import CallerError
from .._ids import LoopName
from .._messages import Assistant, Json
from .._state import Continuation
from ..history import Children, History, Saved
from ._document import IMPORTABLE, SOURCE


class NotExportable(CallerError):
    """The loop is in a state for which the format has no form."""


def export_loop(history: History, revision: str, *, form: bool = True) -> dict[str, Json]:
    """A loop as a continuation object: its newest state, or the state in any commit.

    With `form`, ``approval_info`` lists every request: ``true`` where it is approved, ``null`` where nobody has
    decided. Without, it is empty: the object decides nothing, here or there.

    Raises:
        NoSuchRevision, NotALoop: there is no continuation there.
        NotExportable: something in it runs, asks, sleeps, is of unknown outcome, failed or was cancelled.
    """
    saved, children = history.at(revision)
    ending = saved.state.ending
    if ending is not None:
        if ending.status != "completed":
            raise NotExportable(
                f"{revision} {ending.said}, for which the format has no form.",
                hint="Export an earlier commit of it.",
            )
        return {"result": ending.text, "messages": _messages(saved.state), "end_reason": "completed"}
    items: list[dict[str, Json]] = []
    continuation = _continuation(saved, children, (), items)
    gates: list[str] = continuation.pop("suspend_list")
    if "resume_request" not in continuation:
        return {"continuation": continuation, "suspend_list": gates, "end_reason": "suspended"}
    document: dict[str, Json] = {"continuation": continuation, "approval_info": items if form else []}
    if gates:
        document["suspend_list"] = gates
    return {**document, "end_reason": "approval_required"}


def _continuation(
    saved: Saved, children: Children, above: tuple[Call, ...], items: list[dict[str, Json]]
) -> dict[str, Json]:
    """One loop's part of the object; adds its requests, and those below it, to the items."""
    state, live = saved.state, children(saved)
    if state.rehearsal is not None:
        raise NotExportable(
            f"{saved.loop} rehearses, and elsewhere its tools would act.",
            hint="Fork it with --tools live, and export the fork.",
        )
    written: dict[str, Json] = {"messages": _messages(state)}
    requests: list[Json] = []
    processed: list[Json] = []
    for call in state.open_calls:
        request: dict[str, Json] = {
            "id": call.key,
            "type": "function",
            "function": {"name": call.tool, "arguments": call.arguments},
        }
        path = (*above, call)
        child = live.get(call.id)
        approved: bool | None = None
        if child is not None:
            if child.state.ending is not None:
                raise NotExportable(f"{child.loop} has ended, and its parent has not heard.", hint="Resume it first.")
            request["continuation"] = _continuation(child, children, path, items)
            if "resume_request" not in request["continuation"]:
                items.append(_item(path, approved=None if child.state.gate else True))
        else:
            approved = _approval(saved.loop, call)
            items.append(_item(path, approved=approved, tool_call=request))
        requests.append(request)
        processed.append({"id": call.key, "approved": approved is True})
    if requests:
        written |= {"resume_request": requests, "processed": processed}
    if state.told:
        written["told"] = [msgspec.to_builtins(message) for message in state.told]
    gate = state.gate
    named = [] if gate is None else [gate.name or gate.kind]
    if named or not above or not requests:
        written["suspend_list"] = named
    return written


def _item(path: tuple[Call, ...], *, approved: bool | None, tool_call: Json = None) -> dict[str, Json]:
    item: dict[str, Json] = {"paths": [call.tool for call in path], "path_ids": [call.key for call in path]}
    if tool_call is not None:
        item["tool_call"] = tool_call
    return {**item, "approved": approved}


def _approval(loop: LoopName, call: Call) -> bool | None:
    """Whether a call is approved; None if nobody has decided."""
    if call.state is CallState.AWAITING and call.kind in IMPORTABLE:
        return None
    if call.state is CallState.APPROVED or (call.state is CallState.DELEGATED and call.kind == "agent"):
        return True
    what = f"{call.kind} that is {call.state}"
    raise NotExportable(
        f"{loop}.{call.id} is a {what}: the format knows approvals only.",
        hint="Let it end, answer it, or decide what became of it; then export the loop.",
    )


def _messages(state: Continuation) -> list[Json]:
    """The messages as Chat Completions has them, after the instructions."""
    written: list[Json] = [{"role": "developer", "content": state.definition.instructions}]
    for message in state.messages:
        if not isinstance(message, Assistant):
            written.append(msgspec.to_builtins(message))
            continue
        plain: dict[str, Json] = msgspec.to_builtins(replace(message, native={}))
        kept = message.native.get(SOURCE)
        written.append({"content": None, **(kept if isinstance(kept, dict) else {}), **plain})
    return written
