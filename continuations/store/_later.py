"""Sealing by itself: once nothing was added to the journal for a while, or much was, or what was is old."""

import threading
import time
from collections.abc import Callable
from contextlib import suppress

from .._errors import CaesuraError
from ._journal import Journal

IDLE = 1.0
"""Seconds without a step after which the journal is sealed."""

OLD = 10.0
"""Seconds after which it is sealed at the latest."""

LARGE = 8 * 2**20
"""Bytes with which it is sealed at once."""

FULL = 4 * LARGE
"""Bytes with which steps wait until it is sealed: the disk, or the processor, does not keep up."""

PATIENCE = 10.0
"""Seconds for which a step waits so."""

MANY = 2000
"""Steps with which it is sealed at once."""


class Gate:
    """Shut, until it is opened for one who passes. Unlike an Event's, its state is whole wherever a thread may be
    interrupted: Python interrupts no lock.
    """

    def __init__(self) -> None:
        self._shut = threading.Lock()
        self.is_shut: Callable[[], bool] = self._shut.locked  # each step asks
        self.pass_by()

    def open(self) -> None:
        with suppress(RuntimeError):  # it is open
            self._shut.release()

    def pass_by(self, seconds: float = 0) -> bool:
        """Wait until it is open, without end if `seconds` is -1, and shut it behind oneself; whether it was."""
        return self._shut.acquire(timeout=seconds)


class Later:
    """Seals a journal in a thread of its own, which begins with the first step and ends with `close`."""

    def __init__(self, journal: Journal, seal: Callable[[], None]) -> None:
        self._journal, self._seal = journal, seal
        self._thread: threading.Thread | None = None
        self._news, self._now, self._sealed, self._closed = Gate(), Gate(), Gate(), False

    def step(self) -> None:
        """Take note that there is something to seal."""
        if self._news.is_shut():
            if self._thread is None:
                thread = threading.Thread(target=self._work, name="caesura seal", daemon=True)
                try:
                    thread.start()
                except RuntimeError:  # there can be no more threads now: the next step tries again
                    return
                self._thread = thread
            self._news.open()  # last: who is interrupted before leaves it all to the next step
        journal = self._journal
        if journal.steps >= MANY or journal.size >= LARGE:
            self._now.open()
        if journal.size >= FULL:
            self._sealed.pass_by()
            if journal.size < FULL or self._sealed.pass_by(PATIENCE):
                self._sealed.open()  # for others who wait: it may have been opened for them, and been shut here

    def close(self) -> None:
        """End the thread; what it does is waited for."""
        self._closed = True
        self._news.open()
        self._now.open()
        if self._thread is not None:
            self._thread.join()

    def _work(self) -> None:
        while not self._closed and self._news.pass_by(-1) and not self._closed:
            began, before = time.monotonic(), -1
            while before != self._journal.steps and time.monotonic() < began + OLD:
                before = self._journal.steps
                if self._now.pass_by(IDLE):
                    break
            if self._closed:
                break
            self._now.pass_by()
            self._news.pass_by()  # before it is sealed: what comes meanwhile is news
            with suppress(CaesuraError):  # else it stays where it is, and the next step tries again
                self._seal()
            self._sealed.open()
        self._news.open()  # for another one, if whoever began this was interrupted over it
        self._now.open()
