"""Answering: a question's answer, or what a call of unknown outcome returned."""

from typing import Annotated

from cyclopts import Parameter

from caesura.continuations import AlreadyAnswered, Loops, Request, Saved, misfit, root_of, split_address, utc_now
from caesura.continuations import Json as JsonValue

from ._ask import ask, need_keyboard
from ._decide import tell_rest
from ._forms import parsed
from ._json import decided_json
from ._options import STDIN, By, Json, Place, Repo, place, text_from
from ._output import Page, err, out, write_json
from ._screen import request_page
from ._shown_files import look_at


def answer(
    address: Annotated[
        str, Parameter(name="ID", help="The question, as 'caesura pending' names it.", show_default=False)
    ],
    value: Annotated[
        str | None,
        Parameter(help="The answer: JSON, or plain text where text is asked for; - reads it from standard input."),
    ] = None,
    /,
    *,
    by: By = None,
    repo: Repo = None,
    json: Json = False,
) -> None:
    """Answer a question, or say what a call of unknown outcome returned.

    An answer that does not fit what was asked for changes nothing: the question still waits. Without a value you are
    shown the question and asked. With --json: {"loop", "status", "commit", "pending"}.
    """
    where = place(repo, writes=True)
    with where.loops() as loops:
        try:
            shown = loops.request(address)
        except AlreadyAnswered as first:
            if value is None or first.value != _given(value):
                raise
            last = loops.show(split_address(address)[0])
            _tell(where, loops, last, f"{address} was answered so before.", json=json)
            return
        if value is None:
            need_keyboard("Give the answer after the ID.")
            err(request_page(shown, utc_now(), look_at(loops)(shown), where.paste, full=True))
            text = ask("Answer: ")
        else:
            text = _given(value)
        saved = loops.answer(shown, meant(text, shown), by=by)
        _tell(where, loops, saved, f"Answered {address}.", json=json)


def _given(value: str) -> str:
    return text_from(value, "to answer").removesuffix("\n") if value == STDIN else value


def _tell(where: Place, loops: Loops, saved: Saved, what: str, *, json: bool) -> None:
    if json:
        write_json(decided_json(loops, saved, loops.pending(root_of(saved.loop))))
        return
    out(Page().add(what))
    tell_rest(where, loops, saved)


def meant(text: str, shown: Request) -> JsonValue:
    """What was meant: JSON if that fits the question, else the text itself if that does."""
    if shown.kind != "question":
        return text
    value = parsed(text)
    fits = not isinstance(value, str) and misfit(value, shown.answer) is None
    if fits or (isinstance(value, str) and value != text and misfit(value, shown.answer) is None):
        return value
    return text if misfit(text, shown.answer) is None else value
