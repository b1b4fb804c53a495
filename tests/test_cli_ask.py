"""Questions at the keyboard: a Ctrl-C is heard whenever it comes."""

import os
import pty
import signal
import sys
import threading
from pathlib import Path

import pytest

from caesura.adapters.cli._ask import ask


def test_a_ctrl_c_that_does_not_interrupt_the_read_is_heard_before_it_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = pty.openpty()
    heard, typed = threading.Event(), threading.Event()
    asking = Path(f"/proc/self/task/{threading.get_native_id()}/stat")

    def press() -> None:
        while " S " not in asking.read_text():  # until the question waits for its answer
            os.sched_yield()
        # To this thread: like a signal that comes just before a read, it does not interrupt the one that waits.
        signal.pthread_kill(threading.get_ident(), signal.SIGINT)
        if not heard.wait(300):
            typed.set()
            os.write(ours, b"\n")

    with os.fdopen(theirs) as keyboard:
        monkeypatch.setattr(sys, "stdin", keyboard)
        thread = threading.Thread(target=press)
        thread.start()
        with pytest.raises(KeyboardInterrupt):
            ask("Approve? ")
        heard.set()
        thread.join()
    os.close(ours)
    assert not typed.is_set()
