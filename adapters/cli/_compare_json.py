"""Comparisons as programs read them."""

from typing import Any

from caesura.continuations import Comparison, Divergence, Entry, Row, Saved, Tally

from ._forms import parsed
from ._json import spent_json


def comparison_json(compared: Comparison) -> dict[str, Any]:
    """Two loops: the last common commit, what became of each, and their entries row by row."""
    return {
        "base": None if compared.base is None else _commit_json(compared.base),
        "left": _side_json(compared, compared.left),
        "right": _side_json(compared, compared.right),
        "divergence": divergence_json(compared.divergence),
        "rows": [_row_json(row) for row in compared.rows],
    }


def divergence_json(parted: Divergence | None) -> dict[str, Any] | None:
    """Where two loops first differ: the calls down to the loop, and what each has there."""
    if parted is None:
        return None
    return {
        "path": list(parted.path),
        "left": _entry_json(parted.row.left),
        "right": _entry_json(parted.row.right),
    }


def tally_json(counted: Tally) -> dict[str, Any]:
    """What a loop came to."""
    state = counted.saved.state
    return {
        "loop": counted.saved.loop,
        "commit": counted.saved.commit,
        "agent": state.agent,
        "model": state.definition.model.name,
        "status": state.status.value,
        "text": "" if state.ending is None else state.ending.text,
        "steps": counted.steps,
        "tools_run": counted.tools_run,
        "approvals": counted.approvals,
        "rejections": counted.rejections,
        "spent": spent_json(state.total),
    }


def _commit_json(saved: Saved) -> dict[str, Any]:
    return {"commit": saved.commit, "subject": saved.message.partition("\n")[0]}


def _side_json(compared: Comparison, side: Saved) -> dict[str, Any]:
    state = side.state
    return {
        "loop": side.loop,
        "commit": side.commit,
        "agent": state.agent,
        "model": state.definition.model.name,
        "status": state.status.value,
        "text": "" if state.ending is None else state.ending.text,
        "spent": spent_json(state.total),
        "since": spent_json(compared.spent_since(side)),
    }


def _row_json(row: Row) -> dict[str, Any]:
    return {
        "same": row.same,
        "left": _entry_json(row.left),
        "right": _entry_json(row.right),
        "nested": [_row_json(inner) for inner in row.nested],
    }


def _entry_json(entry: Entry | None) -> dict[str, Any] | None:
    if entry is None:
        return None
    tokens = entry.tokens
    return {
        "kind": entry.kind,
        "commit": entry.commit,
        "text": entry.text,
        "by": entry.by or None,
        "outcome": entry.outcome or None,
        "call": entry.call or None,
        "tool": entry.tool or None,
        "arguments": parsed(entry.arguments) if entry.arguments else None,
        "standing": entry.standing,
        "tokens": None if tokens is None else {"input": tokens.input, "output": tokens.output},
    }
