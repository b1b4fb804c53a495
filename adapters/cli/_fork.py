"""Forking: a new loop from any commit, as it is or with changes."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from caesura.continuations import Content, OnMiss, ToolUse, Variation

from ._faults import BadUsage, why
from ._json import decided_json
from ._options import By, Json, Repo, object_from, place
from ._output import Page, err, out, write_json
from ._remember import inherit

_Each = Parameter(negative="", consume_multiple=False, show_default=False)


def fork(
    revision: Annotated[
        str, Parameter(help="A loop, or any git revision of one: a branch, 'name~3', a commit.", show_default=False)
    ],
    /,
    *,
    name: Annotated[str | None, Parameter(name="--name", help="The new loop's name.")] = None,
    drop: Annotated[int, Parameter(name="--drop", help="Drop the last so many messages, and the calls in them.")] = 0,
    model: Annotated[
        str, Parameter(name="--model", help="Another model for this loop's agent, by its server's name.")
    ] = "",
    settings: Annotated[
        str | None, Parameter(name="--settings", help="Other settings of the model, as a JSON object.")
    ] = None,
    instructions: Annotated[
        str | None, Parameter(name="--instructions", help="Other instructions for this loop's agent, or @FILE.")
    ] = None,
    reword: Annotated[
        list[str] | None, _Each, Parameter(name="--reword", help="N=TEXT: what it was told in message N, instead.")
    ] = None,
    arguments: Annotated[
        list[str] | None,
        _Each,
        Parameter(name="--arguments", help="CALL=JSON: other arguments of a call that has not begun."),
    ] = None,
    result: Annotated[
        list[str] | None,
        _Each,
        Parameter(name="--result", help="CALL=TEXT: another result of a call that the model has not answered yet."),
    ] = None,
    tools: Annotated[
        ToolUse | None,
        Parameter(name="--tools", help="Let its tools act, answer calls from the record, or ask before each call."),
    ] = None,
    on_miss: Annotated[
        OnMiss | None,
        Parameter(name="--on-miss", help="Where the record has no answer: ask a person (suspend), or fail the call."),
    ] = None,
    tell: Annotated[str | None, Parameter(name="--tell", help="Say something to it.")] = None,
    by: By = None,
    repo: Repo = None,
    json: Json = False,
) -> None:
    """Start a new loop from any commit; without changes it is the same as git branch loops/NAME REVISION.

    Each change is a commit of the new loop, by you; they are made all or not at all, and the source stays as it is. An
    edited call is a new request, whatever was decided before. What dropped calls did is not undone.

    With --tools recorded, a call ends as the same call (tool and arguments) ended in what followed in the source, in
    order, and nothing is run; with --tools ask, nothing is run that you have not approved in the fork. Either holds for
    all that is nested in it.

    Prints the new loop's name, and on standard error how to go on with it. With --json: {"loop", "status", "commit",
    "pending"}.
    """
    if on_miss is not None and tools != "recorded":
        raise BadUsage("--on-miss is about a record.", hint="Give --tools recorded with it.")
    if drop < 0:
        raise BadUsage("--drop wants a number of messages.", hint="--drop 1 drops the last one.")
    variation = Variation(
        drop=drop,
        model=model,
        settings=None if settings is None else object_from(settings, "--settings"),
        instructions=None if instructions is None else _text(instructions),
        reword=_reworded(reword or ()),
        arguments={
            call: object_from(text, "--arguments") for call, text in _pairs(arguments or (), "--arguments").items()
        },
        results=_pairs(result or (), "--result"),
        tools=tools,
        on_miss=on_miss or "suspend",
        tell=tell,
    )
    where = place(repo, writes=True)
    with where.loops() as loops:
        forked = loops.fork(revision, name, variation, by=by)
        if forked.source is not None:
            inherit(where.repo, forked.source, forked.loop)
        if json:
            write_json(decided_json(loops, loops.show(forked.loop), loops.pending(forked.loop)))
            return
    out(Page().add(forked.loop))
    err(Page().add(("go on with it: ", "dim"), (where.paste.resume(forked.loop), "green")))


def _pairs(given: Iterable[str], option: str) -> Mapping[str, str]:
    """What was given as NAME=TEXT, by name."""
    found: dict[str, str] = {}
    for one in given:
        key, separator, text = one.partition("=")
        if not separator or not key or key in found:
            what = "twice for one" if separator and key else "without a"
            raise BadUsage(f"{option} was given {what} name: {one!r}.", hint=f"Write {option} NAME=…, once for each.")
        found[key] = text
    return found


def _reworded(given: Iterable[str]) -> Mapping[int, Content]:
    found: dict[int, Content] = {}
    for number, text in _pairs(given, "--reword").items():
        if not number.isascii() or not number.isdigit():
            raise BadUsage(f"{number!r} is no message's number.", hint="--reword 1=TEXT is about the first message.")
        found[int(number)] = text
    return found


def _text(given: str) -> str:
    """A text, or that of a file."""
    if not given.startswith("@"):
        return given
    try:
        return Path(given[1:]).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadUsage(f"{given[1:]} cannot be read: {why(error)}.", hint="@FILE names a file of text.") from error
