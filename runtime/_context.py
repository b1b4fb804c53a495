"""What a tool is told about the call that it performs."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from caesura.continuations import CallId, LoopName, plain_text


def _nobody(_: str) -> None:
    """Progress that nobody listens to."""


@dataclass(frozen=True, kw_only=True)
class ToolContext:
    """What a tool is told about its call, if it has a parameter annotated with this class.

    `attempt` counts from 1. `idempotency_key` is the same for every attempt at one call and never used for another:
    give it to a service that can recognise a request it has already served. `report` receives what `progress` is
    told; the runtime gives one that may be called from any thread. `workspace` is the folder with the loop's files, if
    there are any: what the tool changes in it is committed with its result.
    """

    loop: LoopName
    call: CallId
    idempotency_key: str
    attempt: int = 1
    workspace: Path | None = None
    report: Callable[[str], None] = field(default=_nobody, repr=False, compare=False)

    def progress(self, text: str) -> None:
        """Tell whoever is watching how far the work has come; it never reaches the history. Any thread may call."""
        self.report(plain_text(text))
