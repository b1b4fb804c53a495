"""What the commits say in which a fork departs from its source, and those of a rehearsal."""

from collections.abc import Iterator, Sequence

from ._calls import Call, CallState
from ._changes import as_lines, differences
from ._events_of_forks import Amended, Edited, Missed, Overridden, Recalled, Rehearsed, Reworded, Rewound
from ._messages import Assistant, Message, Result, User, text_of
from ._rehearsal import use_of
from ._state import Continuation
from ._text import call_text, count, excerpt, one_line

Departure = Rewound | Amended | Reworded | Edited | Overridden | Rehearsed
"""The events by which a fork departs from its source."""


def told_by_departure(before: Continuation, event: Departure, after: Continuation) -> tuple[str, str]:
    """The subject, without the agent's name, and the body."""
    match event:
        case Rewound(kept=kept):
            dropped = before.messages[kept:]
            what = "message" if len(dropped) == 1 else count(len(dropped), "message")
            return f"dropped the last {what}", "\n".join(_let_go(before, dropped))
        case Amended(amendment=amendment):
            model = amendment.model
            what = "other instructions" if model is None else f"model {model.name}"
            if model is not None and model.name == before.definition.model.name:
                what = "other settings of its model"
            found = differences(before.definition, after.definition)
            return f"with {what}", excerpt("\n".join(as_lines(found)), 400, 40_000)
        case Reworded(place=place, message=message):
            new = text_of(message.content)
            return f"told instead: {new}", _instead(new, _said(before.messages[place]))
        case Edited(call=call_id):
            asked, instead = _asked(after.call(call_id)), _asked(before.call(call_id))
            return f"asks instead: {call_text(*asked)}", _instead(call_text(*asked, 2000), call_text(*instead, 2000))
        case Overridden(call=call_id, content=content):
            call = before.call(call_id)
            had = next((_said(one) for one in reversed(before.messages) if _is_result(one, call)), "")
            return f"{_asked(call)[0]} returned instead: {content}", _instead(content, had)
        case Rehearsed():
            return _rehearsal(event)


def told_by_rehearsal(event: Recalled | Missed, call: Call, after: Continuation) -> tuple[str, str]:
    """The subject, without the agent's name, and the body."""
    if isinstance(event, Recalled):
        return f"{call.tool} {event.ended}, from the record: {event.content}", f"{excerpt(event.content)}\n\nNot run."
    shown = call_text(call.tool, call.arguments)
    body = f"{call.id}: {excerpt(call_text(call.tool, call.arguments, 2000))}"
    if call.remark:
        body += f"\n  {call.remark}"
    match call.state:
        case CallState.FAILED:
            return f"{call.tool} failed: the record has no answer", body
        case CallState.APPROVED:
            return f"approved always, and not in the record: {shown}", body
        case CallState.UNKNOWN:
            return f"not known whether it ran: {shown}", body
        case CallState.WAITING:
            return f"{call.tool} waits: the record has no answer", body
        case _:
            return f"approval requested: {shown}", body


def trailers_of_fork(event: Departure | Recalled) -> Iterator[tuple[str, str]]:
    """What a program is told of such a commit."""
    match event:
        case Rewound(to=to):
            yield "Back-To", to
        case Amended(amendment=amendment) if amendment.model is not None:
            yield "Model", amendment.model.name
        case Rehearsed(rehearsal=rehearsal):
            record = None if rehearsal is None else rehearsal.record
            yield "Tools", use_of(rehearsal)
            if record is not None:
                yield from (("Record", record.until), ("Since", record.since), ("On-Miss", record.on_miss))
        case Recalled(source=source):
            yield "Record", source
        case _:
            return


def _rehearsal(event: Rehearsed) -> tuple[str, str]:
    if event.rehearsal is None:
        return "its tools act again", ""
    record = event.rehearsal.record
    if record is None:
        return "rehearses: each call is asked about", "Approvals given before, standing ones too, are void here."
    then = "a person is asked" if record.on_miss == "suspend" else "it fails, and the model is told"
    body = f"Calls end as they ended from {record.since[:12]} to {record.until[:12]}; none is run.\nElse {then}."
    return "rehearses: calls are answered from the record", body


def _let_go(before: Continuation, dropped: Sequence[Message]) -> Iterator[str]:
    """The calls that a removed tail holds, with what is known of them."""
    results = {one.tool_call_id: one.content for one in dropped if isinstance(one, Result)}
    lines = list[str]()
    for message in dropped:
        for asked in message.tool_calls if isinstance(message, Assistant) else ():
            call = next((one for one in before.open_calls if one.key == asked.id), None)
            result = results.get(asked.id, "it did not run")
            if call is not None:
                begun = call.attempt or call.id in before.children
                result = "whether it took effect is not known" if begun else f"it was {call.state}"
            name = call_text(asked.function.name, asked.function.arguments)
            lines.append(f"  {one_line(name, 200)}: {one_line(result, 200)}")
    if lines:
        yield "What the calls in them did is not undone:"
        yield from lines


def _instead(new: str, old: str) -> str:
    return f"{excerpt(new)}\n\ninstead of: {excerpt(old)}"


def _asked(call: Call | None) -> tuple[str, str]:
    return ("", "") if call is None else (call.tool, call.arguments)


def _is_result(message: Message, call: Call | None) -> bool:
    return isinstance(message, Result) and call is not None and message.tool_call_id == call.key


def _said(message: Message) -> str:
    match message:
        case User(content=content):
            return text_of(content)
        case _:
            return message.content or ""
