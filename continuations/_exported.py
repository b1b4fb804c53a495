"""What a commit says that brings a step's files back to a project."""

from collections.abc import Iterable, Iterator, Sequence

from ._calls import Call, CallState, Person
from ._describe import Description
from ._ids import CallId, CommitId
from ._messages import Assistant
from ._state import Continuation
from ._text import call_text, excerpt, one_line
from ._varied import last_reply

SUBJECT = 72
"""Characters of a subject."""

COMMIT = "Caesura-Commit"
"""The trailer that names the loop's commit, in which the reasoning is."""

_NAMED = 2
_ACTING = (CallState.RUNNING, CallState.UNKNOWN)


def describe_files(
    before: Continuation | None,
    after: Continuation,
    event: str,
    call_id: CallId | None,
    author: Person,
    paths: Sequence[str],
    commit: CommitId,
    below: Iterable[Person] = (),
) -> str:
    """The message of a commit that brings the files of one step back, the step's own `commit`.

    `event` and `call_id` are the step's, and `paths` the files that it changed. Whoever approved what may have changed
    them is named as a co-author, and so is who approved something in a nested loop whose files these are, `below`; with
    what the model said when it asked for it.
    """
    call = None if before is None or call_id is None else before.call(call_id)
    body: list[str] = []
    if call is not None and before is not None:
        body += [excerpt(_said(before)), excerpt(call_text(call.tool, call.arguments, 2000))]
    people = {one.identity: one for one in (*_approvers(before, call), *below) if one.identity != author.identity}
    described = Description(
        subject=one_line(f"{after.agent}: {_told(event, call)}{_named(paths)}", SUBJECT),
        body="\n\n".join(part for part in body if part),
        trailers=(*(("Co-authored-by", str(one)) for one in people.values()), (COMMIT, commit)),
    )
    return described.message


def _told(event: str, call: Call | None) -> str:
    if call is not None:
        return call.tool
    match event:
        case "Started":
            return "the files that it began with"
        case "FilesChanged":
            return "changed by hand"
        case "Rewound":
            return "went back"
        case "Pruned":
            return "earlier steps"
        case _:
            return event


def _named(paths: Sequence[str]) -> str:
    if not paths:
        return ""
    more = f" and {len(paths) - _NAMED} more" if len(paths) > _NAMED else ""
    return f": {', '.join(one_line(path, 60) for path in paths[:_NAMED])}{more}"


def _said(state: Continuation) -> str:
    """What the model said when it asked for the calls that there are."""
    last = last_reply(state.messages)
    message = None if last is None else state.messages[last]
    return message.content or "" if isinstance(message, Assistant) else ""


def _approvers(before: Continuation | None, ended: Call | None) -> Iterator[Person]:
    """Whoever approved the call that ended, or one that was under way then and may have changed files as well."""
    for call in () if before is None else before.calls:
        if call == ended or call.state in _ACTING:
            decisions = (*call.approvals, *(() if call.decision is None else (call.decision,)))
            yield from (decision.by for decision in decisions if decision.choice == "approve")
