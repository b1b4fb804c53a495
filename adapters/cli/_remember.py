"""How a loop was driven last, kept in the repository's own configuration so that the next command can be told whole.

Git never copies configuration from one repository to another, and what is found here is shown, never run.
"""

import re
import subprocess
from pathlib import Path

from caesura.continuations import LoopName, root_of

_REPO = re.compile(r" --repo (?:'[^']*'|\S+)")
_COMMAND = re.compile(r"caesura (?:resume|demo)(?: [A-Za-z0-9_./:=,'-]+)*")


def remember(repo: Path, loop: LoopName, command: str) -> None:
    """Keep the command that goes on with a loop; the repository is not named in it, for it may move."""
    if recall(repo, loop) != command:
        _git(repo, f"caesura.{root_of(loop)}.resume", command)


def recall(repo: Path, loop: LoopName) -> str:
    """The command that goes on with a loop, but for the repository, if it is known; empty if not."""
    found = _git(repo, "--get", f"caesura.{root_of(loop)}.resume").strip()
    return _REPO.sub("", found) if _COMMAND.fullmatch(found) else ""  # earlier versions kept it as it was named there


def forget(repo: Path, loop: LoopName) -> None:
    """Keep nothing of a loop that is gone."""
    _git(repo, "--remove-section", f"caesura.{root_of(loop)}")


def inherit(repo: Path, source: LoopName, fork: LoopName) -> None:
    """Let a fork be gone on with as the loop that it comes from."""
    known = recall(repo, source)
    if known.startswith("caesura demo"):
        remember(repo, fork, re.sub(r"caesura demo(?: --loop \S+)?", f"caesura demo --loop {fork}", known))
    elif known:
        remember(repo, fork, re.sub(r"caesura resume \S+", f"caesura resume {fork}", known))


def _git(repo: Path, *words: str) -> str:
    """`git config`; a repository that cannot be configured only forgets."""
    command = ["git", "-C", str(repo), "config", "--local", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout  # noqa: S603  # our own words
