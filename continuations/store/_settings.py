"""What git's configuration says of whoever uses a repository, and of how it is kept."""

import os
from collections.abc import Iterable
from contextlib import suppress
from typing import Protocol, get_args

from .._calls import Person
from .._text import one_line
from ._protocol import BadSetting, Durability, NoPerson, Visibility
from ._refs import Logging

_OWN = 4  # libgit2's level of a person's own configuration; above it are the repository's


class Config(Protocol):
    """Git's configuration: values by their full names."""

    def __getitem__(self, key: str, /) -> str | None: ...

    def get_bool(self, key: str, /) -> bool: ...


def check_promised(durability: Durability, visibility: Visibility) -> None:
    """Make sure that both are what a store can promise: one that is misspelt must not promise less.

    Raises:
        BadSetting: one is not.
    """
    for what, value, known in (
        ("durability", durability, get_args(Durability)),
        ("visibility", visibility, get_args(Visibility)),
    ):
        if value not in known:
            raise BadSetting(
                f"{value!r} is no {what}.", hint=f"It may be {' or '.join(map(repr, known))}; the first is the default."
            )


def person(config: Config) -> Person:
    """Whom git would name as the author of a commit.

    Raises:
        NoPerson: nobody is configured.
    """
    name = os.environ.get("GIT_AUTHOR_NAME") or _value(config, "user.name")
    email = os.environ.get("GIT_AUTHOR_EMAIL") or _value(config, "user.email")
    if not name or not email:
        raise NoPerson(
            "Git does not know who you are, and a decision needs a name.",
            hint="git config --global user.name 'Your Name'; git config --global user.email you@example.com",
        )
    return Person(name=name, email=email)


def own(values: Iterable[tuple[int, str | None]]) -> str | None:
    """Of a setting's values, each after its level, the one that a person's own configuration has."""
    found = [value for value in values if value[0] <= _OWN]
    return max(found, key=lambda value: value[0])[1] if found else None


def logged_as(config: Config) -> str:
    """Whom a branch's log names."""
    with suppress(NoPerson):
        return one_line(str(person(config)))
    return "caesura <caesura@localhost>"


def logged(config: Config, *, bare: bool) -> Logging:
    """Which refs git would log the moves of here."""
    value = _value(config, "core.logAllRefUpdates").lower()
    if value == "always":
        return "always"
    wanted = value in ("true", "yes", "on", "1") or (not value and not bare)
    return "branches" if wanted else "no"


def precious(config: Config) -> bool:
    """Whether git removes no object here, whatever it is asked."""
    return _value(config, "extensions.preciousObjects").lower() == "true"


def apart(config: Config, *, bare: bool) -> str | None:
    """Why branches are to keep files of their own, as git's ``gc.packRefs`` has it; None if they need not.

    Where git would refuse the value they keep them, too: to put branches into the list cannot be undone.
    """
    name = "gc.packRefs"
    try:
        if config[name] == "notbare":
            return f"{name} is notbare, and the repository is bare" if bare else None
        return None if config.get_bool(name) else f"{name} is false"
    except KeyError:
        return None
    except ValueError:
        return f"{name} is neither true, false nor notbare"


def _value(config: Config, key: str) -> str:
    try:
        return config[key] or ""
    except KeyError:
        return ""
