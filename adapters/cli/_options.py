"""Options that several commands take, and the repository that they name."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from caesura.continuations import Loops

from ._config import Config, find_config
from ._paste import Paste, option

Repo = Annotated[
    Path | None,
    Parameter(name="--repo", env_var="CAESURA_REPO", help="The git repository with the loops. Default: .caesura"),
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
        with Loops.open(self.repo) as loops:
            yield loops


def place(repo: Path | None) -> Place:
    """Find the settings and the repository.

    Raises:
        BadConfig: the settings cannot be read.
    """
    config = find_config()
    agents = "" if config.agents else "--agents MODULE.py:AGENT"
    return Place(config=config, repo=repo or config.repo, paste=Paste(repo=option("--repo", repo), agents=agents))
