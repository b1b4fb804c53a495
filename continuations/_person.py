"""People, as they are named on a command line."""

import re

from ._calls import Person
from ._errors import CallerError
from ._text import one_line

_LONGEST = 1000


class BadPerson(CallerError):
    """A person was not named like ``Ada Lovelace <ada@example.com>``."""


def person(text: str) -> Person:
    """Read ``Name <email>``.

    Raises:
        BadPerson: it is something else.
    """
    named = text[:_LONGEST] if isinstance(text, str) else ""
    match = re.fullmatch(r"\s*([^<>\n]*[^<>\s])\s*<([^<>\s]+)>\s*", named)
    if match is None:
        said = one_line(str(text))
        raise BadPerson(f"{said!r} does not name a person.", hint="Write it as 'Ada Lovelace <ada@example.com>'.")
    return Person(name=match[1], email=match[2])
