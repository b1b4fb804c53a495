"""Marks: commits that say something of a loop and change nothing in it. Their trees are other commits', to the bit.

What they say stands in their messages alone, so that a loop which was tried, judged and chosen goes on exactly as if it
had not been.
"""

import json
import math
from typing import NamedTuple

from ._calls import Person
from ._describe import SUBJECT, Description
from ._ids import CommitId, Digest, LoopName
from ._messages import Time, Value
from ._state import Continuation
from ._text import count, excerpt, one_line
from ._trailers import trailers

MARKS = frozenset({"Chosen", "Scored", "Tried"})
"""The events that are only said."""

_LONG = (50, 5_000)
"""Lines and characters of what is told to have run."""


class Tip(Value, frozen=True, kw_only=True):
    """A loop, and where its branch was when something was said of it."""

    loop: LoopName
    commit: CommitId

    def __str__(self) -> str:
        return f"{self.commit} {self.loop}"  # in this order: a long name may be cut short


class Chosen(Value, frozen=True, kw_only=True):
    """A person let a loop go on as another one, which has a past in common with it.

    `over` is what was not chosen: first the loop as it was. `ran` is what had run in that since the two parted.
    """

    at: Time
    branch: Tip
    over: tuple[Tip, ...]
    by: Person
    why: str = ""
    ran: tuple[str, ...] = ()


class Scored(Value, frozen=True, kw_only=True):
    """An evaluator said how good a loop's outcome is: the more, the better."""

    at: Time
    evaluator: str
    score: float
    note: str = ""


class Tried(Value, frozen=True, kw_only=True):
    """A loop was made to try a variant. By the digest of all that was asked for, it is told from others of its name."""

    at: Time
    variant: str
    digest: Digest
    by: Person


Mark = Chosen | Scored | Tried


def describe_mark(loop: LoopName, mark: Mark, state: Continuation) -> Description:
    """Say what a mark says of a loop in this state."""
    match mark:
        case Chosen():
            others = [one.loop for one in mark.over if one.loop != loop]
            what = f"chosen: {mark.branch.loop}" + (f" over {', '.join(others)}" if others else "")
            ran = "\n".join(f"  {one}" for one in mark.ran)
            told = f"What had run in the meantime is not undone:\n{excerpt(ran, *_LONG)}" if ran else ""
            body = "\n\n".join(part for part in (excerpt(mark.why), told) if part)
            said = [("Chosen", str(mark.branch)), *(("Over", str(one)) for one in mark.over)]
        case Scored():
            score = json.dumps(mark.score)  # read back, it is the same
            what = f"scored {score} by {mark.evaluator}" + (f": {mark.note}" if mark.note else "")
            body = excerpt(mark.note)
            said = [("Score", score), ("Evaluator", mark.evaluator)]
            said += [("Note", mark.note)] if mark.note else []
        case Tried():
            what, body = f"tried as {mark.variant}", ""
            said = [("Variant", f"{mark.digest} {mark.variant}")]
    first = [("Loop", loop), ("Agent", state.agent), ("Event", type(mark).__name__), ("Status", state.status.value)]
    waiting = len(state.open_calls) + (state.gate is not None)
    if state.status == "suspended":
        said.append(("Waiting", count(waiting, "request")))
    subject = one_line(f"{state.agent}: {what}", SUBJECT)
    return Description(subject=subject, body=body, trailers=(*first, *said))


class Score(NamedTuple):
    """What a commit's trailers say of a score."""

    evaluator: str
    score: float
    note: str


def score_of(message: str) -> Score | None:
    """The score that a commit's message tells; None if it tells none."""
    said = trailers(message)
    evaluator, score = said.get("Evaluator", ()), said.get("Score", ())
    if said.get("Event") != ("Scored",) or len(evaluator) != 1 or len(score) != 1:
        return None
    try:
        value = float(score[0])
    except ValueError:
        return None
    return Score(evaluator[0], value, said.get("Note", ("",))[0]) if math.isfinite(value) else None


def variant_of(message: str) -> Digest | None:
    """The digest of the variant that a commit says its loop was made for; None if it says none."""
    said = trailers(message)
    told = said.get("Variant", ())
    return Digest(told[0].partition(" ")[0]) if said.get("Event") == ("Tried",) and len(told) == 1 else None


def goes_on_from(message: str, parents: tuple[CommitId, ...]) -> CommitId | None:
    """The commit whose state a commit goes on from, None if it begins a loop: its first parent, or what was chosen."""
    event = trailers(message).get("Event", ("",))[0]
    return next(iter(parents[1:] if event == "Chosen" else parents), None)
