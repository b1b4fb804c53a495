"""The command line: `main` is the ``caesura`` command, `reference` describes every command for the documentation.

Both load what they need when they are called: ``caesura --help`` must not wait for a model's client or for git.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ._help import CommandHelp

__all__ = ["main", "reference"]


def main(arguments: "Sequence[str] | None" = None) -> int:
    """Run one command, given as the words after ``caesura``; its exit status. The default is the process's own."""
    from ._app import main

    return main(arguments)


def reference() -> "list[CommandHelp]":
    """What every command says about itself, in the order of ``caesura --help``."""
    from ._help import reference

    return reference()
