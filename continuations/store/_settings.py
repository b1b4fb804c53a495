"""What git's configuration says of whoever uses a repository, and of how it is kept."""

import os
from typing import Protocol, get_args

from .._calls import Person
from ._protocol import BadSetting, Durability, NoPerson, Visibility
from ._refs import Logging


class Config(Protocol):
    """Git's configuration: values by their full names."""

    def __getitem__(self, key: str, /) -> str | None: ...


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


def _value(config: Config, key: str) -> str:
    try:
        return config[key] or ""
    except KeyError:
        return ""
