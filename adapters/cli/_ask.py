"""Asking whoever is at the keyboard. Questions go to standard error, so that results stay alone on standard output."""

import select
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from ._faults import BadUsage, NotConfirmed


def can_ask() -> bool:
    """Whether somebody is at the keyboard."""
    return sys.stdin.isatty()


def ask(prompt: str) -> str:
    """Ask for a line.

    Raises:
        NotConfirmed: the input ended.
    """
    with _woken_by_signals() as signalled:
        sys.stderr.write(prompt)
        sys.stderr.flush()
        select.select([sys.stdin, signalled], [], [])
    line = sys.stdin.readline()
    if not line:
        sys.stderr.write("\n")
        raise NotConfirmed("There was no answer.", hint="Nothing was decided; it still waits.")
    return line.strip()


@contextmanager
def _woken_by_signals() -> Iterator[socket.socket]:
    """What becomes readable with a signal: a Ctrl-C just before a read would be noticed only after it."""
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    before = signal.set_wakeup_fd(theirs.fileno())
    try:
        yield ours
    finally:
        signal.set_wakeup_fd(before)
        ours.close()
        theirs.close()


def confirm(question: str, *, default: bool = False) -> bool:
    """Ask for yes or no; anything unclear is the default."""
    answer = ask(f"{question} [{'Y/n' if default else 'y/N'}] ").lower()
    return answer in ("y", "yes") if not default else answer not in ("n", "no")


def need_keyboard(otherwise: str) -> None:
    """Refuse to go on if nobody can be asked.

    Raises:
        BadUsage: there is no terminal; `otherwise` says what to do.
    """
    if not can_ask():
        raise BadUsage("There is nobody to ask: standard input is not a terminal.", hint=otherwise)
