"""Work that shares a wait: what several loops do at once, done in one thread, and waited for once."""

import time
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Work(Generic[T]):
    """A call that moves a branch, if any, as the last thing that it does to the store, and what came of it.

    It may be made again if the move turns out to be impossible, or is not the only one, and so must not mind that.

    `held` says that nothing came of it as yet, for another process held the branch: it is to be shared again.
    """

    def __init__(self, call: Callable[[], T]) -> None:
        self._call = call
        self._made: list[T] = []
        self._left: float | None = None
        self.error: BaseException | None = None
        self.held = False

    @property
    def seconds(self) -> float:
        """For how long it has been left by now."""
        return 0.0 if self._left is None else time.monotonic() - self._left

    def do(self) -> None:
        """Make the call; what it raises is kept."""
        self._made, self.error, self.held = [], None, False
        self.attempt(lambda: self._made.append(self._call()))

    def leave(self) -> None:
        """Take note that nothing came of the call: it is to be shared again."""
        self._made, self.held = [], True
        self._left = self._left or time.monotonic()

    def attempt(self, call: Callable[[], None]) -> None:
        """Make a call that belongs to it; what that raises is kept, if nothing went wrong before."""
        try:
            call()
        except BaseException as error:  # noqa: BLE001  # for whoever asked, not for the others whose work this thread does
            self.error = self.error or error

    def result(self) -> T:
        """What the call returned, or raises what it raised."""
        if self.error is not None:
            raise self.error
        return self._made[0]
