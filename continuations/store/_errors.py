"""What can be wrong with what a repository holds, as errors that name the thing and its file."""

from .._codec import Unreadable
from .._ids import CommitId, LoopName


class Torn(Unreadable):
    """An object or a ref is not whole: cut short, with flipped bits, or gone."""


class Withheld(Unreadable):
    """An object or a ref may not be read by who asks, which says nothing of whether it is whole."""


class TooLarge(Unreadable):
    """Something is larger, longer or deeper than Caesura reads or writes."""


def torn(what: str, where: object, fault: str) -> Torn:
    """An object or a ref that is not what it should be, and the file that it is in."""
    return Torn(
        f"{what} is damaged ({where}): {fault}.",
        hint="'caesura repair' goes back to the last good commit, or takes the object from an intact copy.",
    )


def gone(what: str, where: object) -> Torn:
    """An object that something points to, and that is nowhere."""
    return Torn(
        f"{what} is missing from {where}.",
        hint="'caesura repair' goes back to the last good commit, or takes the object from an intact copy.",
    )


def too_large(what: str, size: str, limit: str) -> TooLarge:
    """Something beyond a limit of the data model."""
    return TooLarge(
        f"{what} has {size}; the limit is {limit}.",
        hint="The data model lists the limits; keep large things outside of the loop and name them in it.",
    )


def unreadable(loop: LoopName, error: Unreadable, good: CommitId | None) -> Unreadable:
    """The same error, for a person who asked for a loop."""
    whole = isinstance(error, TooLarge | Withheld)
    known = "" if good is None or isinstance(error, Withheld) else f" Its last good commit is {good[:10]}."
    hint = error.hint if whole else f"'caesura repair {loop}' goes back to its last good commit."
    return type(error)(f"{loop} cannot be read: {error}{known}", hint=hint)
