"""Names that no loop has."""

from ._errors import CallerError
from ._ids import LoopName
from .store import Store


class NoSuchLoop(CallerError):
    """There is no loop of that name."""


def missing(store: Store, loop: LoopName) -> NoSuchLoop:
    """There is no loop of a name, though perhaps some that were nested in it."""
    left = next(iter((*store.heads(loop), *store.heads(loop, archived=True))), None)
    if left is None:
        return NoSuchLoop(f"There is no loop {loop!r}.", hint="'caesura loops' lists the loops there are.")
    return NoSuchLoop(
        f"There is no loop {loop!r} any more, only what was nested in it: {left}.",
        hint=f"To go on with that alone: 'caesura fork {left}'.",
    )
