"""What programs read: the shapes that ``--json`` prints."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from caesura.continuations import Attempt, CallId, Decision, LoopInfo, Loops, Request, Saved, Spent, root_of, use_of

from ._forms import parsed
from ._shown_files import Shown, diff_json, look_at, preview_json


def pending_json(loops: Loops, pending: Sequence[Request]) -> list[dict[str, Any]]:
    """What waits, with what there is to see of its loops' files."""
    look = look_at(loops)
    return [request_json(request, look(request)) for request in pending]


def request_json(request: Request, shown: Shown) -> dict[str, Any]:
    """One request; `arguments` is a value, or the text if the model did not write JSON. `shown` is what was seen of its
    loop's files."""
    return {
        "id": request.id,
        "kind": request.kind,
        "loop": request.loop,
        "root": root_of(request.loop),
        "path": list(request.path),
        "text": request.text,
        "since": request.since.isoformat(),
        "commit": request.commit,
        "tool": request.tool or None,
        "arguments": parsed(request.arguments) if request.tool else None,
        "arguments_digest": request.arguments_digest or None,
        "tool_digest": request.tool_digest or None,
        "description": request.description,
        "reason": request.reason,
        "remark": request.remark,
        "answer": request.answer,
        "wake_at": request.wake_at.isoformat() if request.wake_at else None,
        "gate": request.gate,
        "change": msgspec.to_builtins(request.change),
        "attempt": None if request.attempt is None else _attempt_json(request.attempt),
        "approvals": [_decision(one) for one in request.approvals],
        "missing": request.missing if request.kind in ("approval", "outcome") else None,
        "by": list(request.needs.by) if request.needs else [],
        "preview": preview_json(request.preview, shown.outdated),
        "changes": diff_json(shown.unseen),
        "expires": request.expires.isoformat() if request.expires else None,
        "on_expiry": request.needs.on_expiry if request.needs and request.expires else None,
    }


def _attempt_json(attempt: Attempt) -> dict[str, Any]:
    return {
        "number": attempt.number,
        "idempotency_key": attempt.idempotency_key,
        "started": attempt.started.isoformat() if attempt.started else None,
        "worker": attempt.worker,
        "process": attempt.process or None,
    }


def _decision(decision: Decision) -> dict[str, Any]:
    return {
        "choice": decision.choice,
        "by": {"name": decision.by.name, "email": decision.by.email},
        "at": decision.at.isoformat(),
        "note": decision.note,
        "edited": decision.edited,
    }


def spent_json(spent: Spent) -> dict[str, Any]:
    """What was spent."""
    return {
        "steps": spent.steps,
        "tokens": spent.usage.total,
        "input": spent.usage.input,
        "output": spent.usage.output,
        "seconds": spent.seconds,
    }


def info_json(info: LoopInfo) -> dict[str, Any]:
    """A loop at a glance."""
    return {
        "loop": info.name,
        "agent": info.agent,
        "status": info.status.value,
        "ready": info.ready,
        "waiting": info.waiting,
        "messages": info.messages,
        "spent": spent_json(info.spent),
        "at": info.at.isoformat(),
        "commit": info.commit,
    }


def saved_json(saved: Saved, children: Mapping[CallId, dict[str, Any]]) -> dict[str, Any]:
    """A loop's state, its messages as the model is sent them."""
    state = saved.state
    return {
        "loop": saved.loop,
        "commit": saved.commit,
        "agent": state.agent,
        "model": state.definition.model.name,
        "tools": use_of(state.rehearsal),
        "status": state.status.value,
        "at": state.at.isoformat(),
        "text": "" if state.ending is None else state.ending.text,
        "spent": spent_json(state.total),
        "compactions": state.context.times,
        "messages": msgspec.to_builtins(tuple(state.messages)),
        "calls": [
            {
                "id": call.id,
                "tool": call.tool,
                "arguments": parsed(call.arguments),
                "state": call.state.value,
                "since": call.since.isoformat(),
                "attempt": call.attempt,
                "preview": preview_json(call.preview, None),
            }
            for call in state.open_calls
        ],
        "gate": None
        if state.gate is None
        else {"id": state.gate.id, "kind": state.gate.kind, "reason": state.gate.reason},
        "children": dict(children),
    }


def decided_json(loops: Loops, saved: Saved, pending: Sequence[Request]) -> dict[str, Any]:
    """What a decision, an answer or a word to a loop led to."""
    return {
        "loop": saved.loop,
        "status": saved.state.status.value,
        "commit": saved.commit,
        "pending": pending_json(loops, pending),
    }
