"""Options that several commands take, and the repository that they name."""

import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from caesura.continuations import GitStore, LoopName, Loops, Store, from_json
from caesura.continuations import Json as JsonValue

from ._config import Config, find_config
from ._faults import BadUsage
from ._output import Page, err
from ._paste import Paste, option
from ._remember import recall, remember

STDIN = "\0-"
"""Standard input, where a text is expected; no argument of a process can hold a NUL."""

COMMAND = "\0"
"""What marks each word of a command to run."""

REPO = "CAESURA_REPO"
"""The variable that names the repository for all commands."""

Repo = Annotated[
    Path | None,
    Parameter(name="--repo", env_var=REPO, help="The git repository with the loops. Default: .caesura"),
]
Json = Annotated[bool, Parameter(name="--json", negative="", help="Print one JSON object, for programs.")]
By = Annotated[
    str | None,
    Parameter(name="--by", help="Who does it, as 'Ada Lovelace <ada@example.com>'. Default: as git knows you"),
]


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a command works: the settings, the repository, and how to name both in the next command."""

    config: Config
    repo: Path
    paste: Paste

    @contextmanager
    def loops(self) -> Iterator[Loops]:
        """The repository's loops.

        Raises:
            Unavailable: there is no repository.
        """
        with self.store() as store:
            yield self.over(store)

    def over(self, store: Store) -> Loops:
        """The loops of a repository that was opened as one to read commits from."""
        return Loops(store, policy=self.config.policy, redaction=self.config.redaction)

    @contextmanager
    def store(self) -> Iterator[Store]:
        """The repository, to read commits from.

        Raises:
            Unavailable: there is no repository.
        """
        config = self.config
        opened = GitStore.open(self.repo, durability=config.durability, visibility=config.visibility)
        with closing(opened) as store:
            yield store

    def remember(self, loop: LoopName) -> None:
        """Keep the command that goes on with a loop, for the next one to tell; not one with a secret in it."""
        command = replace(self.paste, repo="").resume(loop)
        if self.config.redaction.text(command) == command:
            remember(self.repo, loop, command)


def place(repo: Path | None, *, writes: bool = False) -> Place:
    """Find the settings and the repository. What `writes` is warned of secrets that it would not know if it saw them.

    Raises:
        BadConfig: the settings cannot be read.
    """
    config = find_config()
    if writes and config.unset:
        for name in config.unset:
            what = f"{name} of redact.env is not set here: its value would not be recognized."
            err(Page().add(("warning: ", "yellow"), what))
    path = repo or config.repo
    agents = "" if config.agents else "--agents MODULE.py:AGENT"
    paste = Paste(repo=option("--repo", repo), agents=agents, known=partial(recall, path))
    return Place(config=config, repo=path, paste=paste)


def text_from(text: str, what: str) -> str:
    """The text, or standard input if that was named instead.

    Raises:
        BadUsage: there is nothing.
    """
    if text == STDIN:
        text = sys.stdin.read()
    if not text.strip():
        raise BadUsage(f"There is nothing {what}.", hint="Give a text, or - and the text on standard input.")
    return text


def object_from(text: str, option: str) -> dict[str, JsonValue]:
    """The JSON object that an option was given.

    Raises:
        BadUsage: it is none.
    """
    try:
        value = from_json(text)
    except ValueError as error:
        raise BadUsage(f"{option} is not JSON: {error}.", hint="""Write it like '{"amount": 10}'.""") from error
    if not isinstance(value, dict):
        raise BadUsage(f"{option} is no JSON object.", hint="""Write it like '{"amount": 10}'.""")
    return value


def shown(path: Path) -> str:
    """A path as short as it can be said here."""
    here = Path.cwd()
    return str(path.relative_to(here)) if here in path.parents else str(path)
