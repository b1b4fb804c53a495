"""Errors as the command line tells them: one sentence, a hint, an exit status."""

import enum
import traceback
from typing import Any, NamedTuple

from caesura.continuations import CaesuraError, CallerError, Unavailable


class Exit(enum.IntEnum):
    """The exit statuses; the table is in ``caesura --help``."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    SUSPENDED = 3
    INTERRUPTED = 130


class BadUsage(CallerError):
    """The command was given words that make no sense to it."""


class NotConfirmed(CaesuraError):
    """Somebody was asked whether to go on, and did not say yes."""


class Fault(NamedTuple):
    """An error, ready to be told."""

    kind: str
    message: str
    hint: str
    status: Exit
    trace: str

    @property
    def json(self) -> dict[str, Any]:
        """The error as ``--json`` tells it."""
        return {"error": {"type": self.kind, "message": self.message, "hint": self.hint}}


def why(error: Exception) -> str:
    """What went wrong, without the system's number for it."""
    return (isinstance(error, OSError) and error.strerror) or str(error)


def fault_of(error: BaseException) -> Fault:
    """Say what went wrong, whatever was raised."""
    trace = "".join(traceback.format_exception(error))
    cause = _first(error)
    kind = type(cause).__name__
    if isinstance(cause, CaesuraError):
        # What the system refuses is nobody's wrong usage.
        refused = isinstance(cause, Unavailable) and isinstance(cause.__cause__, OSError)
        status = Exit.USAGE if isinstance(cause, CallerError) and not refused else Exit.FAILED
        return Fault(kind, str(cause), cause.hint, status, trace)
    if isinstance(cause, KeyboardInterrupt):
        return Fault(
            "Interrupted", "Interrupted.", "Nothing was lost; every step so far is committed.", _STOPPED, trace
        )
    if isinstance(cause, OSError):
        said = f"{why(cause)}: {cause.filename}." if cause.strerror and cause.filename else f"{why(cause)}."
        return Fault(kind, said, "Check the path, its permissions and the free space.", Exit.FAILED, trace)
    message = f"This should not have happened: {kind}: {cause}"
    return Fault(kind, message, "Every committed step is safe. CAESURA_DEBUG=1 shows where.", Exit.FAILED, trace)


_STOPPED = Exit.INTERRUPTED


def _first(error: BaseException) -> BaseException:
    """The error to tell of a group: Caesura's own if there is one."""
    if not isinstance(error, BaseExceptionGroup):
        return error
    ours = error.subgroup(CaesuraError)
    return _first((ours or error).exceptions[0])
