"""Commands to paste: what to type next, with the options that this process was given itself."""

from collections.abc import Callable
from dataclasses import dataclass

from caesura.continuations import LoopName, root_of, shell_quoted


def _unknown(_: LoopName) -> str:
    return ""


@dataclass(frozen=True, kw_only=True)
class Paste:
    """Writes the next commands; `repo`, `agents` and `model` are the options to repeat in them, already quoted.

    `known` tells the command that goes on with a loop, but for the repository, if there is a better one than these
    options make.
    """

    repo: str = ""
    agents: str = ""
    model: str = ""
    known: Callable[[LoopName], str] = _unknown

    def __call__(self, *words: str, raw: str = "") -> str:
        """A command for the same repository; `raw` follows as it is."""
        return " ".join(part for part in ("caesura", " ".join(map(shell_quoted, words)), raw, self.repo) if part)

    def resume(self, loop: LoopName) -> str:
        """How to go on with the root of a loop."""
        options = " ".join(part for part in (self.agents, self.model) if part)
        known = self.known(loop)
        return f"{known} {self.repo}".rstrip() if known else self("resume", root_of(loop), raw=options)


def option(name: str, value: object) -> str:
    """An option and its value; empty if there is none."""
    return "" if value is None else f"{name} {shell_quoted(value)}"
