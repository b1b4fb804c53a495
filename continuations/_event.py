"""What every event has."""

import datetime as dt

from ._messages import Value


class Event(Value, tag_field="event", frozen=True, kw_only=True):
    """Something that happened at a time, `at`, in UTC."""

    at: dt.datetime

    @property
    def name(self) -> str:
        """The event's name, as in the ``Event`` trailer of its commit."""
        return type(self).__name__
