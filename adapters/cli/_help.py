"""Help: the overview, a command's own page, and the same as data for the documentation."""

import inspect
import shutil
import textwrap
from typing import TYPE_CHECKING, NamedTuple

from ._commands import CLOSING, COMMANDS, GROUPS, INTRODUCTION, Command

if TYPE_CHECKING:
    from cyclopts.argument import Argument


class ParameterHelp(NamedTuple):
    """One argument or option: how it is written, and what it is for."""

    written: str
    text: str
    positional: bool


class CommandHelp(NamedTuple):
    """One command: how it is called, what it does, what it takes."""

    name: str
    usage: str
    summary: str
    text: str
    parameters: tuple[ParameterHelp, ...]


def overview() -> str:
    """What ``caesura --help`` prints. Nothing is imported for it."""
    lines = ["Usage: caesura COMMAND [OPTIONS]", "", INTRODUCTION, ""]
    for title, commands in GROUPS:
        lines.append(f"{title}:")
        lines.extend(f"  {command.name:<12}{command.summary}" for command in commands)
        lines.append("")
    lines += ["'caesura COMMAND --help' says more about one.", "", CLOSING]
    return "\n".join(lines) + "\n"


def command_help(name: str) -> str:
    """What ``caesura COMMAND --help`` prints."""
    page = describe(COMMANDS[name])
    width = min(100, shutil.get_terminal_size().columns)
    lines = [f"Usage: {page.usage}", "", page.text]
    for title, positional in (("Arguments", True), ("Options", False)):
        told = [one for one in page.parameters if one.positional is positional]
        if told:
            lines += ["", f"{title}:"]
        for one in told:
            lines.append(f"  {one.written}")
            lines.extend(textwrap.wrap(one.text, width, initial_indent=" " * 6, subsequent_indent=" " * 6))
    return "\n".join(lines) + "\n"


def reference() -> list[CommandHelp]:
    """Every command, described."""
    return [describe(command) for command in COMMANDS.values()]


def describe(command: Command) -> CommandHelp:
    """One command, from its signature and docstring."""
    from ._cyclopts import alone

    made = alone(command.name)
    parameters: list[ParameterHelp] = []
    for argument in made.assemble_argument_collection():
        names = [name for name in argument.names if name.startswith("-")]
        positional = not names
        label = argument.names[0].replace("_", "-")
        written = label if positional else ", ".join(names) + _takes(argument)
        parameters.append(ParameterHelp(written, argument.parameter.help or "", positional))
    assert made.default_command is not None  # noqa: S101  # alone() sets it
    return CommandHelp(
        name=command.name,
        usage=" ".join(part for part in ("caesura", command.name, command.usage, "[OPTIONS]") if part),
        summary=command.summary,
        text=inspect.getdoc(made.default_command) or command.summary,
        parameters=tuple(parameters),
    )


def _takes(argument: "Argument") -> str:
    """What follows an option."""
    choices = argument.get_choices()
    if argument.hint is bool:
        return ""
    if choices:
        return " " + "|".join(choices)
    kind = str(argument.hint)
    return " PATH" if "Path" in kind else " NUMBER" if "int" in kind or "float" in kind else " TEXT"
