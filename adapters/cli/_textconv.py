"""Files of a loop's commits as text, for git to show and compare. Imports next to nothing: git waits for each file."""

import json
import sys
from collections.abc import Iterator
from typing import Any

from ._safe import compact_call, visible

_WIDTH = 100


def print_text(path: str) -> int:
    """Write a file as text; a file that is none of ours, or that cannot be told, as it is. The exit status."""
    with open(path, "rb") as file:  # noqa: PTH123  # pathlib costs a quarter of the time
        data = file.read()
    sys.stdout.flush()
    sys.stdout.buffer.write(readable(data))
    return 0


def readable(data: bytes) -> bytes:
    """The bytes of a commit's file as text, one thing a line; other bytes as they are.

    What tells two steps apart by chance alone (nonces, workers, times) is left out. The same bytes give the same text.
    """
    try:
        value = json.loads(data)
        lines = list(_lines(value)) if isinstance(value, dict) else []
    except (ValueError, RecursionError, LookupError, TypeError, AttributeError):
        lines = []  # another program's file, or another version's
    return ("\n".join(map(visible, lines)) + "\n").encode("utf-8", "replace") if lines else data


def _lines(value: dict[str, Any]) -> Iterator[str]:
    if "format" in value and "fingerprint" in value:
        yield from _record(value)
    elif value.get("role") in ("user", "assistant", "tool"):
        yield from _message(value)
    elif "name" in value and isinstance(value.get("model"), dict):
        yield from _definition(value)


def _message(value: dict[str, Any]) -> Iterator[str]:
    if value["role"] == "tool":
        yield f"result of {value['tool_call_id']}:"
    else:
        yield f"{value['role']}:"
    for part in (value.get("content"), value.get("refusal")):
        yield from _text(part)
    for request in value.get("tool_calls", ()):
        function = request["function"]
        yield from _call(function["name"], function["arguments"], "  → ")


def _call(tool: str, arguments: str, start: str) -> Iterator[str]:
    """A call on one line, or, if that would be a long one, its arguments on lines of their own."""
    try:
        value = json.loads(arguments)
    except (ValueError, RecursionError):
        value = arguments
    line = compact_call(tool, value, _WIDTH)
    yield start + (tool if line is None else line)
    if line is None:
        shown = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, indent=2)
        yield from _text(shown)


def _text(content: Any) -> Iterator[str]:
    """What was said, indented; of several parts each in turn."""
    if isinstance(content, str):
        yield from (f"  {line.expandtabs(4)}" for line in content.splitlines())
    for part in content if isinstance(content, list) else ():
        if part["type"] == "text":
            yield from _text(part["text"])
        else:
            yield f"  [image {part['image_url']['url'][:60]}]"


def _record(value: dict[str, Any]) -> Iterator[str]:
    yield f"agent {value['agent']} ({value['fingerprint']})"
    for call in value.get("calls", ()):
        attempt = f", attempt {call['attempt']}" if call.get("attempt") else ""
        yield from _call(call["tool"], call["arguments"], f"call {call['id']}: ")
        yield f"  {call['state']}{attempt}"
        if "question" in call:
            yield from _block("asks", call["question"]["text"])
        if "not_before" in call:
            yield f"  not before {call['not_before']}"
        for file in call.get("preview", {}).get("files", ()):
            yield f"  would change {file['path']}, +{file.get('added', 0)} -{file.get('removed', 0)}"
        if "decision" in call:
            yield from _decision(call["decision"])
        if "remark" in call:
            yield from _block("remark", call["remark"])
    for rule in value.get("rules", ()):
        reach = " with the same arguments" if "arguments" in rule else ""
        yield f"every later call of {rule['tool']}{reach}:"
        yield from _decision(rule["decision"])
    if "rehearsal" in value:
        record = value["rehearsal"].get("record")
        what = "asks before each call"
        if record is not None:
            until, since, miss = record["until"], record["since"], record.get("on_miss", "suspend")
            what = f"answers from {until}, since {since}, else {miss}"
        yield f"rehearses: {what}"
        for question, used in sorted((record or {}).get("used", {}).items()):
            yield f"  {question} used {used}"
    if "gate" in value:
        gate = value["gate"]
        yield from _block(f"gate {gate['id']} ({gate['kind']})", gate["reason"], indent="")
    for told in value.get("told", ()):
        yield "told, and not heard yet:"
        yield from _text(told["content"])
    context = value.get("context", {})
    if context.get("times"):
        yield f"compactions {context['times']}"
    if context.get("overflow") == "told":
        yield "the messages are too long for the model"
    if value.get("memory"):
        yield f"memory {json.dumps(value['memory'], ensure_ascii=False, sort_keys=True)}"
    if value.get("limit"):
        yield "limit " + ", ".join(f"{amount} {name}" for name, amount in value["limit"].items())
    yield from _spent("spent", value.get("spent", {}))
    yield from _spent("spent by finished children", value.get("absorbed", {}))
    if "ending" in value:
        yield from _block(value["ending"]["status"], value["ending"]["text"], indent="")


def _decision(decision: dict[str, Any]) -> Iterator[str]:
    verb = "approved" if decision["choice"] == "approve" else "rejected"
    how = " with edited arguments" if decision.get("edited") else ""
    standing = ", a standing decision" if decision.get("standing") else ""
    yield f"  {verb}{how} by {decision['by']['name']} <{decision['by']['email']}>{standing}"
    if decision.get("note"):
        yield from _block("note", decision["note"], indent="    ")


def _block(title: str, text: str, indent: str = "  ") -> Iterator[str]:
    first, *more = text.splitlines() or [""]
    yield f"{indent}{title}: {first}"
    yield from (f"{indent}  {line}" for line in more)


def _spent(title: str, spent: dict[str, Any]) -> Iterator[str]:
    tokens = spent.get("usage", {})
    if spent:
        calls = f"model calls {spent.get('steps', 0)}"
        yield f"{title}: {calls}, tokens {tokens.get('input', 0)} in, {tokens.get('output', 0)} out"


def _definition(value: dict[str, Any]) -> Iterator[str]:
    model = value["model"]
    yield f"agent {value['name']}"
    yield f"model {model['name']}" + (f" through {model['api']}" if model.get("api") else "")
    for name, setting in sorted(model.get("settings", {}).items()):
        yield f"  {name} = {json.dumps(setting, ensure_ascii=False, sort_keys=True)}"
    yield "instructions:"
    yield from _text(value.get("instructions", ""))
    for tool in value.get("tools", ()):
        kind = "" if tool.get("kind", "function") == "function" else f" ({tool['kind']})"
        yield f"tool {tool['name']}{kind}"
        yield from _text(tool.get("description", ""))
        if tool.get("approval", "never") != "never":
            yield "  wants approval" + ("" if tool["approval"] == "always" else " if its predicate says so")
        if tool.get("idempotent"):
            yield "  idempotent"
        yield from _schema("takes", tool.get("parameters"))
        yield from _schema("answer", tool.get("answer"))
    yield from _schema("result", value.get("result"), indent="")
    for name in value.get("suspensions", ()):
        yield f"suspends by {name}"
    if value.get("compaction"):
        yield f"compacts at {value['compaction']['at']} tokens: {value['compaction']['how']}"
    if value.get("budget"):
        yield "budget " + ", ".join(f"{amount} {name}" for name, amount in value["budget"].items())


def _schema(title: str, schema: Any, indent: str = "  ") -> Iterator[str]:
    if schema:
        yield from _block(title, json.dumps(schema, ensure_ascii=False, indent=2, sort_keys=True), indent=indent)
