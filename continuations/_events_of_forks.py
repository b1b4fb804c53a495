"""What happens in a fork that is to be other than its source, and in no other loop."""

from typing import Literal

from ._calls import Call, Person
from ._event import Event
from ._ids import CallId, CommitId
from ._messages import User
from ._rehearsal import Rehearsal
from ._specs import Amendment
from ._workspace import Workspace


class Rewound(Event, tag=True, frozen=True, kw_only=True):
    """A fork lets go of its last messages, and of the calls in them: the first `kept` messages stay.

    `to` is the newest commit of its own history in which nothing but those had been said by the model, and nothing was
    open; `calls` are the calls of the last round that stays, and `workspace` the loop's files, as they were there.
    """

    kept: int
    to: CommitId
    calls: tuple[Call, ...]
    by: Person
    workspace: Workspace | None = None


class Amended(Event, tag=True, frozen=True, kw_only=True):
    """A fork's agent has another model, or other instructions, than its code says. What is None stays as it was."""

    amendment: Amendment
    by: Person


class Reworded(Event, tag=True, frozen=True, kw_only=True):
    """A fork was told something else than its source: the message at `place`, counted from 0, which a person or a
    caller had said, is another."""

    place: int
    message: User
    by: Person


class Edited(Event, tag=True, frozen=True, kw_only=True):
    """A fork asks for a call with other arguments, as JSON text: a new request, which nobody has decided on."""

    call: CallId
    arguments: str
    by: Person


class Overridden(Event, tag=True, frozen=True, kw_only=True):
    """A fork reads another result of a call than there was; the model has not answered it yet."""

    call: CallId
    content: str
    by: Person


class Rehearsed(Event, tag=True, frozen=True, kw_only=True):
    """From here on a fork's tools do not act of themselves, as the rehearsal says; with None they do again."""

    rehearsal: Rehearsal | None
    by: Person


Ended = Literal["returned", "failed", "rejected"]
"""How a call of a record ended."""


class Recalled(Event, tag=True, frozen=True, kw_only=True):
    """A call ends as the same one ended in the record, in the commit `source`; nothing was run."""

    call: CallId
    ended: Ended
    content: str
    source: CommitId


class Missed(Event, tag=True, frozen=True, kw_only=True):
    """The record has no (further) answer to a call, or there is no record: a person is asked, or the call fails."""

    call: CallId
