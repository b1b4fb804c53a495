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


class Later:
    """Seals a journal in a thread of its own, which begins with the first step and ends with `close`.

    What threads tell each other is a lock that is let go of: an Event of Python's stays locked for ever if whoever sets
    it, or waits for it, is interrupted at the wrong moment.
    """

    def __init__(self, journal: Journal, seal: Callable[[], None]) -> None:
        self._journal, self._seal = journal, seal
        self._thread: threading.Thread | None = None
        self._no_news, self._not_now, self._behind = _locked(), _locked(), _locked()
        self._closed = False

    def step(self) -> None:
        """Take note that there is something to seal."""
        if self._no_news.locked():
            if self._thread is None:
                thread = threading.Thread(target=self._work, name="caesura seal", daemon=True)
                thread.start()
                self._thread = thread  # if it is interrupted before, there will be another
            _let_go(self._no_news)
        journal = self._journal
        if journal.steps >= MANY or journal.size >= LARGE:
            _let_go(self._not_now)
        if journal.size >= FULL:
            self._behind.acquire(blocking=False)
            if journal.size >= FULL and self._behind.acquire(timeout=PATIENCE):
                _let_go(self._behind)  # for others that wait

    def close(self) -> None:
        """End the thread; what it does is waited for."""
        self._closed = True
        _let_go(self._no_news)
        _let_go(self._not_now)
        if self._thread is not None:
            self._thread.join()

    def _work(self) -> None:
        while not self._closed and self._no_news.acquire() and not self._closed:
            _let_go(self._no_news)  # until it is sealed
            began, before = time.monotonic(), -1
            while before != self._journal.steps and time.monotonic() < began + OLD:
                before = self._journal.steps
                if self._not_now.acquire(timeout=IDLE):
                    break
            if self._closed:
                break
            self._not_now.acquire(blocking=False)
            self._no_news.acquire(blocking=False)  # before it is sealed: what comes meanwhile is news
            with suppress(CaesuraError):  # else it stays where it is, and the next step tries again
                self._seal()
            _let_go(self._behind)
        _let_go(self._no_news)  # for another, if there is one


def _locked() -> threading.Lock:
    lock = threading.Lock()
    lock.acquire()
    return lock


def _let_go(lock: threading.Lock) -> None:
    with suppress(RuntimeError):  # it is not locked
        lock.release()
