"""Editing arguments in the person's own editor."""

import json
import os
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

from caesura.continuations import CallerError, Json, from_json, misfit

from ._ask import can_ask, confirm
from ._faults import why
from ._forms import parsed
from ._output import Page, err


class NoEditor(CallerError):
    """There is no editor, or it failed."""


class NotEdited(CallerError):
    """What came back from the editor cannot be used."""


def edit(arguments: str, schema: Json) -> Json | None:
    """Let a person edit a call's arguments; None if they are left as they were.

    On a terminal, what is not JSON or does not fit the schema can be edited again.

    Raises:
        NoEditor: there is no editor, or it failed.
        NotEdited: the result is not JSON or does not fit, and is not to be edited again.
    """
    before = parsed(arguments)
    text = json.dumps(before, indent=2, ensure_ascii=False) + "\n" if not isinstance(before, str) else arguments
    with tempfile.TemporaryDirectory(prefix="caesura-") as folder:
        file = Path(folder) / "arguments.json"
        file.write_text(text, encoding="utf-8", errors="replace")
        while True:
            _call_editor(file)
            problem, value = _read(file, schema)
            if problem is None:
                # As text, because to Python True and 1 are equal.
                return None if json.dumps(value, sort_keys=True) == json.dumps(before, sort_keys=True) else value
            err(Page().add(problem))
            if not can_ask() or not confirm("Edit again?", default=True):
                raise NotEdited(problem, hint="Nothing was decided; it still waits.")


def _read(file: Path, schema: Json) -> tuple[str | None, Json]:
    try:
        value = from_json(file.read_text(encoding="utf-8"))
    except ValueError as error:
        return f"This is not JSON: {error}.", None
    wrong = misfit(value, schema)
    return (None if wrong is None else f"This does not fit the tool: {wrong}."), value


def _call_editor(file: Path) -> None:
    editor = os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi"
    try:
        # The editor draws on the terminal itself; a result that goes elsewhere must not hold its output.
        output = None if sys.stdout.isatty() else sys.stderr
        status = subprocess.run([*shlex.split(editor), str(file)], stdout=output, check=False).returncode  # noqa: S603
    except (OSError, ValueError) as error:
        raise NoEditor(
            f"The editor {editor!r} cannot be started: {why(error)}.", hint="Set VISUAL or EDITOR."
        ) from error
    if status != 0:
        raise NoEditor(
            f"The editor {editor!r} ended with status {status}.", hint="Nothing was decided; it still waits."
        )
