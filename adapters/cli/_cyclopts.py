"""The commands as a `cyclopts` application."""

import os
from collections.abc import Sequence
from importlib import import_module
from typing import Any

from cyclopts import App
from cyclopts.exceptions import (
    CycloptsError,
    MissingArgumentError,
    UnknownCommandError,
    UnknownOptionError,
    UnusedCliTokensError,
)

from caesura.continuations import person

from ._commands import COMMANDS, READS_STDIN, TAKES_COMMAND
from ._faults import BadUsage
from ._options import COMMAND, REPO, STDIN

_MAY_BE_EMPTY = frozenset({"--instructions", "--note", "--reason", "--why"})
"""The options whose empty text is a text that somebody may want."""


def app() -> App:
    """The whole application; a command's module is imported when the command is looked at."""
    made = App(
        name="caesura",
        exit_on_error=False,
        print_error=False,
        result_action="return_value",
        suppress_keyboard_interrupt=False,
    )
    for command in COMMANDS.values():
        made.command(f"{__package__}.{command.module}:{command.function}", name=command.name, help=command.summary)
    return made


def alone(name: str) -> App:
    """One command as an application of its own, to ask it about its parameters."""
    command = COMMANDS[name]
    function: Any = getattr(import_module(f".{command.module}", __package__), command.function)
    return App(name=name, default_command=function)


def call(words: Sequence[str]) -> int:
    """Run the command that the words name; its exit status.

    Raises:
        BadUsage: they make no sense.
        CaesuraError: as the command does.
    """
    try:
        if not os.environ.get(REPO, "").strip():
            os.environ.pop(REPO, None)  # what is set to nothing is not set
        _check_given(words)
        return int(app()(_marked(words)) or 0)
    except UnknownCommandError as error:
        name = words[0]
        hint = "'caesura --help' lists the commands."
        if name == "log":
            hint = "Git is the log: git -C .caesura log loops/LOOP"
        if name.startswith("-"):
            hint = f"Options follow the command: caesura COMMAND {name}"
        raise BadUsage(f"There is no command {name!r}.", hint=_similar(name) or hint) from error
    except CycloptsError as error:
        name = words[0] if words and words[0] in COMMANDS else ""
        hint = f"'caesura {name} --help' says what it takes." if name else ""
        raise BadUsage(_sentence(error, name), hint=_about_dashes(error, words) or hint) from error


def _check_given(words: Sequence[str]) -> None:
    """See whether what options are given can be meant, also of those that may come to nothing.

    Raises:
        BadUsage: an option's value is empty.
        BadPerson: nobody is named so.
    """
    if (
        not words
        or words[0] not in COMMANDS
        or not any(not word.strip() or word == "--by" or "=" in word for word in words)
    ):
        return
    takes = {
        name
        for one in alone(words[0]).assemble_argument_collection()
        if one.token_count()[0]
        for name in one.names
        if name.startswith("--")
    }
    end = words.index("--") if "--" in words else len(words)
    for place, word in enumerate(words[:end]):
        option, given, value = word.partition("=")
        if option not in takes or (not given and place + 1 == end):
            continue
        value = value if given else words[place + 1]
        if not value.strip() and option not in _MAY_BE_EMPTY:
            raise BadUsage(f"{option} is empty.", hint="Give it a value, or leave it out.")
        if option == "--by":
            person(value)


def _marked(words: Sequence[str]) -> list[str]:
    """The words, marked where cyclopts would misread them: the lone ``-`` that means standard input, and a command."""
    name = words[0] if words else ""
    if name in TAKES_COMMAND and "--" in words:
        end = words.index("--")
        return [*words[:end], *(f"{COMMAND}{word}" for word in words[end + 1 :])]
    if name in READS_STDIN:
        return [STDIN if word == "-" else word for word in words]
    return list(words)


def _sentence(error: CycloptsError, name: str) -> str:
    match error:
        case UnusedCliTokensError(unused_tokens=[*tokens]):
            return f"{' '.join(map(repr, tokens))} is too much; a text of several words needs quotes."
        case MissingArgumentError(argument=argument) if argument is not None and argument.names[0][0] != "-":
            return f"{argument.names[0].replace('_', '-')} is missing."
        case UnknownOptionError(token=token) if " " in token.value or str(error).endswith(f" {token.keyword}?"):
            return f"There is no option {token.keyword or token.value!r} here."
        case _:
            message = str(error).removeprefix(f'Command "{name}" ').strip()
            return message[:1].upper() + message[1:]


def _about_dashes(error: CycloptsError, words: Sequence[str]) -> str:
    """What to do about a text that was taken for an option, or an option for a text."""
    match error:
        case UnknownOptionError() if "--" in words:
            return "What follows -- is no option: put options before it."
        case UnknownOptionError(token=token) if " " in token.value:
            return "A text that begins with a dash comes after all options, and after --."
        case MissingArgumentError(keyword=str(option)) if words[-1] != option:
            return f"Join a value that begins with a dash to it: {option}='-…'"
        case _:
            return ""


def _similar(name: str) -> str:
    from difflib import get_close_matches

    near = get_close_matches(name, COMMANDS, n=1)
    return f"Did you mean 'caesura {near[0]}'?" if near else ""
