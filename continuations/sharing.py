"""The folder that loops share: whose it is, and which of their commits holds its files as they were committed last."""

from collections.abc import Iterator

from ._errors import SavedStateError
from ._ids import parent_name
from ._workspace import Workspace, newest
from .history import History, Saved
from .missing import NoSuchLoop
from .store._refused import or_refused


def holder(history: History, saved: Saved) -> Saved:
    """The loop whose folder a loop works in: itself, or, if it is nested and works on no copy, its parent's holder.

    A nested loop whose parent is gone goes on alone, in a folder of its own.
    """
    parent = parent_name(saved.loop)
    if parent is None or saved.state.shared is None:
        return saved
    try:
        above = history.load(parent)
    except NoSuchLoop:
        return saved
    return saved if above.state.workspace is None else holder(history, above)


def committed(history: History, held_by: Saved) -> Workspace | None:
    """The files of a holder's folder as they were committed last: by itself, or by a live loop that works there too."""
    own = held_by.state.workspace
    return None if own is None else newest(own, _below(history, held_by))


def forsaken(history: History, saved: Saved) -> None:
    """Note that a loop is about to go back behind commits that are lost: what they held may be in its folder alone.

    Raises:
        Unavailable: it cannot be written down.
    """
    if saved.state.workspace is None:
        return
    try:
        home = holder(history, saved).loop
    except SavedStateError:  # of those that it is nested in, one cannot be read: their folder is as it is
        home = saved.loop
    with or_refused("It could not be noted what became of a loop's files"):
        history.store.workspaces().unsettle(home)


def _below(history: History, saved: Saved) -> Iterator[Workspace]:
    for child in history.children(saved).values():
        shared = child.state.shared
        if shared is not None:
            yield shared
            yield from _below(history, child)
