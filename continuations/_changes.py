"""Changed code: how an agent's definition differs from the one that a loop knows, and how much that matters."""

import difflib
from collections.abc import Iterator, Mapping
from typing import Literal

import msgspec

from ._ids import CallId, Digest
from ._messages import Json, Value
from ._specs import AgentSpec, ToolSpec

Severity = Literal["guidance", "contract"]
"""How much a difference matters: it changes how the agent is to work, or what it can do and hand back."""

Treatment = Literal["adopt", "ask", "refuse"]
"""What becomes of a changed agent: the loop goes on with it; a person is asked first; the loop is not driven."""


class Changes(Value, frozen=True, kw_only=True):
    """What a worker does about agents whose code is not what their loops know; the strictest that applies counts.

    `guidance` is for instructions, descriptions, the model and its settings, the budget, suspension functions and
    compaction; `contract` for tools that came, went or changed in what they take, need or promise, and for the type of
    the result; `vanished` for a call that is open for a tool that is gone: once a person agrees it ends as failed, and
    the model is told. `renamed` gives agents' new names by the old ones.
    """

    guidance: Treatment = "adopt"
    contract: Treatment = "ask"
    vanished: Literal["ask", "refuse"] = "refuse"
    renamed: Mapping[str, str] = {}


class Difference(Value, frozen=True, kw_only=True):
    """One part of a definition that differs: what happened to it, and its text, line by line, as a diff."""

    what: str
    severity: Severity
    lines: tuple[str, ...] = ()


class Change(Value, frozen=True, kw_only=True):
    """A definition that a person is asked about: its fingerprint, what differs as lines, and the calls that would
    end because their tool is gone."""

    fingerprint: Digest
    lines: tuple[str, ...] = ()
    ends: tuple[CallId, ...] = ()


def differences(old: AgentSpec, new: AgentSpec) -> tuple[Difference, ...]:
    """How a definition differs from an older one, part by part; empty if it does not."""
    old, new = (msgspec.json.decode(msgspec.json.encode(one), type=AgentSpec) for one in (old, new))
    found = [*_parts(old, new), *_tools(old, new)]
    if not found and old != new:
        found.append(Difference(what="the order of its tools changed", severity="guidance"))
    return tuple(found)


def as_lines(found: tuple[Difference, ...]) -> tuple[str, ...]:
    """Differences as a person reads them."""
    return tuple(line for one in found for line in (one.what, *one.lines))


_SEVERITIES: tuple[tuple[str, Severity], ...] = (
    ("name", "guidance"),
    ("instructions", "guidance"),
    ("model", "guidance"),
    ("suspensions", "guidance"),
    ("budget", "guidance"),
    ("compaction", "guidance"),
    ("result", "contract"),
)


def _parts(old: AgentSpec, new: AgentSpec) -> Iterator[Difference]:
    for part, severity in _SEVERITIES:
        was, now = getattr(old, part), getattr(new, part)
        if was != now:
            yield Difference(what=f"{part} changed", severity=severity, lines=_diff(_lines(was), _lines(now)))


def _tools(old: AgentSpec, new: AgentSpec) -> Iterator[Difference]:
    for name in dict.fromkeys(tool.name for tool in (*old.tools, *new.tools)):
        was, now = old.tool(name), new.tool(name)
        if was == now:
            continue
        what = "added" if was is None else "removed" if now is None else "changed"
        same = was is not None and now is not None and _promise(was) == _promise(now)
        yield Difference(
            what=f"tool {name} {what}",
            severity="guidance" if same else "contract",
            lines=_diff(_tool_lines(was), _tool_lines(now)),
        )


def _promise(tool: ToolSpec) -> Json:
    """All of a tool but the words that describe it."""
    fields = msgspec.to_builtins(tool)
    fields.pop("description", None)
    return {key: _bare(value) if key in ("parameters", "answer") else value for key, value in fields.items()}


_REMARKS = frozenset({"description", "title", "examples", "$comment"})
_BY_NAME = frozenset({"properties", "patternProperties", "$defs", "definitions", "dependentSchemas"})
_LITERAL = frozenset({"const", "enum", "default"})


def _bare(schema: Json) -> Json:
    """A JSON schema without its remarks; what is only named like one, a property say, stays."""
    if isinstance(schema, list | tuple):
        return [_bare(one) for one in schema]
    if not isinstance(schema, Mapping):
        return schema
    bare: dict[str, Json] = {}
    for key, value in schema.items():
        if key in _BY_NAME and isinstance(value, Mapping):
            bare[key] = {name: _bare(one) for name, one in value.items()}
        elif key not in _REMARKS:
            bare[key] = value if key in _LITERAL else _bare(value)
    return bare


# As lines ----------------------------------------------------------------------------------------------------------

_MOST = 1000
"""Lines of one part that are compared: the time that takes grows with their square."""


def _lines(value: Json) -> list[str]:
    if isinstance(value, str):
        return value.splitlines()
    plain = msgspec.to_builtins(value)
    return [] if plain in (None, {}, []) else _pretty(plain)


def _pretty(value: Json) -> list[str]:
    return msgspec.json.format(msgspec.json.encode(value), indent=2).decode().splitlines()


def _tool_lines(tool: ToolSpec | None) -> list[str]:
    if tool is None:
        return []
    lines = [*tool.description.splitlines(), f"kind: {tool.kind}", f"needs approval: {tool.approval}"]
    lines += [f"idempotent: {'yes' if tool.idempotent else 'no'}"]
    lines += [f"agent: {tool.agent}", f"its files: {tool.workspace}"] if tool.agent else []
    for name, schema in (("parameters", tool.parameters), ("answer", tool.answer)):
        lines += [name, *(f"  {line}" for line in _pretty(schema))] if schema else []
    return lines


def _diff(old: list[str], new: list[str]) -> tuple[str, ...]:
    """What came and went, indented, so that no line of it can pass for one of ours or for a trailer."""
    if max(len(old), len(new)) > _MOST:
        return (f"  too long to compare: {len(old):,} lines before, {len(new):,} now",)
    changed = list(difflib.unified_diff(old, new, lineterm="", n=1))[2:]  # the first two name files
    return tuple(f"  {line[0]} {line[1:]}" for line in changed if line[0] != "@")
