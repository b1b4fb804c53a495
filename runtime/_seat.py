"""A loop's seat at the folder that it works in: others may share the folder, and what they do there must not mix."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from functools import cached_property

import trio

from caesura.continuations import AnyEvent, CallState, ChildFinished, Continuation

_ALONE = nullcontext()


class _Folder:
    """What the loops that work in one folder have in common."""

    def __init__(self) -> None:
        self.seats: list[Seat] = []

    @cached_property  # many loops work on no files
    def lock(self) -> trio.Lock:
        return trio.Lock()


class Seat:
    """A loop's place among those that work in one folder.

    `state` is the loop's, and `look_again` makes its actor ask what is due. `above` is the seat of the loop that it is
    nested in, whose folder it may share; else the folder is its own.
    """

    def __init__(self, state: Callable[[], Continuation], look_again: Callable[[], None], above: "Seat | None") -> None:
        self._state, self._look_again = state, look_again
        self._folder: _Folder = _Folder() if above is None or state().shared is None else above._folder
        self._folder.seats.append(self)
        self._kept: list[ChildFinished] = []

    def leave(self) -> None:
        """The loop has ended."""
        self._folder.seats.remove(self)

    def turn(self) -> AbstractAsyncContextManager[object]:
        """A turn at committing: whoever looks at the files, or has others put there, does so alone. So what a later
        commit says of them is newer."""
        return _ALONE if self._state().workspace is None else self._folder.lock

    def keep(self, event: AnyEvent | None) -> bool:
        """Keep the end of a child loop, whose files may have to be merged, if it must wait until no tool works in the
        folder: what those have written is theirs to commit first."""
        waits = isinstance(event, ChildFinished) and self._works
        if isinstance(event, ChildFinished) and waits:
            self._kept.append(event)
        return waits

    def due(self) -> ChildFinished | None:
        """The next end that need not wait any more."""
        return self._kept.pop(0) if self._kept and not self._works else None

    def moved(self) -> None:
        """The loop has moved on: what waits for that at another seat may be due."""
        for seat in self._folder.seats:
            if seat is not self and seat._kept:
                seat._look_again()

    @property
    def _works(self) -> bool:
        states = (seat._state() for seat in self._folder.seats)
        return any(
            state.workspace is not None and any(call.state is CallState.RUNNING for call in state.calls)
            for state in states
        )
