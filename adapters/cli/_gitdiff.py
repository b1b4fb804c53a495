"""Teaching git to show the files of loops as text: what it is to call, and telling it so."""

import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from caesura.continuations import Unavailable

from ._textconv import print_text

_DRIVER = "diff.caesura.textconv"
_PATTERNS = ("/continuation.json", "/agent.json", "/messages/**/*.json", "/children/**/*.json")


def textconv(
    file: Annotated[str, Parameter(help="The file; git names a copy of its own.", show_default=False)], /
) -> int:
    """Print a file of a loop's commit (continuation.json, agent.json, a message) as text; any other file as it is.

    'caesura init' tells git to show loops so: in git diff, git log -p, git show and git blame. Nonces, workers and
    times are left out.
    """
    return print_text(file)


def set_up(repo: Path) -> bool:
    """Tell git to show the repository's loops as text; whether it is told now. What is set there already stays.

    The driver goes into the repository's own configuration and the paths into its ``info/attributes``: neither is
    copied by git, nor part of anybody's working tree.
    """
    file = _git(repo, "rev-parse", "--path-format=absolute", "--git-path", "info/attributes")
    if not file:
        return False  # there is no git to be told
    if not _git(repo, "config", "--local", "--get", _DRIVER):
        _git(repo, "config", "--local", _DRIVER, _command())
    attributes = Path(file)
    there = attributes.read_text(encoding="utf-8") if attributes.exists() else ""
    known = {line.split()[0] for line in there.splitlines() if line.strip()}
    missing = [f"{pattern} diff=caesura\n" for pattern in _PATTERNS if pattern not in known]
    if missing:
        try:
            attributes.parent.mkdir(exist_ok=True)
            with attributes.open("a", encoding="utf-8") as end:
                end.write("\n" * (there != "" and not there.endswith("\n")) + "".join(missing))
        except OSError as error:
            raise Unavailable(
                f"Git could not be told to show loops as text: {error.strerror}: {attributes}.",
                hint="Loops work without that. See who may write there, then: caesura init",
            ) from error
    return True


def _command() -> str:
    """What git calls, through a shell. If it failed, git would show nothing at all: then the file is shown as it is.

    First the command on the PATH, then the one beside the Python that runs now, which may be in no PATH then.
    """
    ways = ["caesura", shlex.quote(str(Path(sys.executable).with_name("caesura")))]
    calls = " || ".join(f'{way} textconv "$1" 2>/dev/null' for way in ways)
    return f'f() {{ {calls} || cat "$1"; }}; f'


def _git(repo: Path, *words: str) -> str:
    command = ["git", "-C", str(repo), *words]
    try:
        said = subprocess.run(command, capture_output=True, check=False).stdout  # noqa: S603  # our own words
    except FileNotFoundError:
        return ""
    return os.fsdecode(said).strip()  # a path may be no text
