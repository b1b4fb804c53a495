"""Pages of the documentation that are made from the code: ``python -m tests.generated`` writes them."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from caesura.adapters.cli import reference
from caesura.continuations import CLOSED, TRANSITIONS, CallState

DOCS = Path(__file__).parent.parent / "docs"


def states_page() -> str:
    """The diagram and the table of what may happen to a call, from the one table in the core."""
    return "\n".join(
        [
            "# Call states",
            "",
            "*Generated from `TRANSITIONS` in `continuations/_calls.py`, which is also what `step` obeys.*",
            "",
            "```mermaid",
            "stateDiagram-v2",
            *_arrows(),
            "```",
            "",
            "From every state without a result a call can also be `cancelled`: its loop was cancelled, or given up.",
            "",
            "| from | to | by the event | because |",
            "| --- | --- | --- | --- |",
            *(
                f"| {'(asked for)' if source is None else f'`{source}`'} | `{target}` | `{event}` | {reason} |"
                for source, target, event, reason in TRANSITIONS
            ),
            "",
        ]
    )


def _arrows() -> Iterator[str]:
    events: dict[tuple[str, str], list[str]] = {}
    for source, target, event, _ in TRANSITIONS:
        if target is not CallState.CANCELLED:
            known = events.setdefault(("[*]" if source is None else source, target), [])
            known += [event] if event not in known else []
    for (start, end), names in events.items():
        yield f"    {start} --> {end}: {', '.join(names)}"
    for state in sorted(CLOSED - {CallState.CANCELLED}):
        yield f"    {state} --> [*]"


def cli_page() -> str:
    """Every command with its arguments and options, from the commands' own help."""
    lines = ["# Command reference", "", "*Generated from the commands' own help.*", "", "```text", _overview(), "```"]
    for command in reference():
        lines += ["", f"## {command.name}", "", "```text", command.usage, "```", "", command.text, ""]
        if command.parameters:
            lines += ["| argument or option | meaning |", "| --- | --- |"]
        for parameter in command.parameters:
            written, text = (part.replace("|", "\\|") for part in (parameter.written, parameter.text))
            lines.append(f"| `{written}` | {text} |")
    return "\n".join(lines) + "\n"


def _overview() -> str:
    return subprocess.run(
        [sys.executable, "-m", "caesura", "--help"], capture_output=True, text=True, check=True
    ).stdout.rstrip()


PAGES: dict[str, Callable[[], str]] = {"states.md": states_page, "cli.md": cli_page}
"""Each page's name and maker."""


def main() -> None:
    """Write every page."""
    for name, page in PAGES.items():
        (DOCS / name).write_text(page())


if __name__ == "__main__":
    main()
