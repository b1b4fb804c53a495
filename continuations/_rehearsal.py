"""Rehearsals: loops whose tools do not act of themselves, and what they are answered from instead."""

from collections.abc import Mapping
from typing import Annotated, Literal

import msgspec
from msgspec.structs import replace

from ._ids import CommitId, Digest, digest
from ._json import canonical
from ._messages import Value

ToolUse = Literal["live", "recorded", "ask"]
"""What a loop's tools do: they act; calls are answered from a record; a person is asked before each call."""

OnMiss = Literal["suspend", "fail"]
"""What becomes of a call that the record has no answer to: a person is asked, or it fails and the model is told."""


class Recording(Value, frozen=True, kw_only=True):
    """The steps whose calls are answered again: all that lead to the commit `until`, and not to the commit `since`.

    `used` counts the answers that this loop and those that ended within it have had, by `question_of`.
    """

    until: CommitId
    since: CommitId
    on_miss: OnMiss = "suspend"
    used: Mapping[Digest, Annotated[int, msgspec.Meta(ge=0)]] = {}


class Rehearsal(Value, frozen=True, kw_only=True):
    """A loop in which no tool runs that a person has not approved in it, whatever the tool itself asks for.

    With a `record`, calls are first looked up there.
    """

    record: Recording | None = None

    @property
    def begun(self) -> "Rehearsal":
        """The same for a loop that begins within it: it has had no answers yet."""
        record = self.record
        return self if record is None else Rehearsal(record=replace(record, used={}))

    def having(self, question: Digest) -> "Rehearsal":
        """The same, one more answer used."""
        return self.joined({question: 1})

    def joined(self, used: Mapping[Digest, int]) -> "Rehearsal":
        """The same, with what a loop that ended within it has used."""
        record = self.record
        if record is None or not used:
            return self
        both = {key: record.used.get(key, 0) + used.get(key, 0) for key in sorted({*record.used, *used})}
        return Rehearsal(record=replace(record, used=both))


def use_of(rehearsal: Rehearsal | None) -> ToolUse:
    """What a loop's tools do."""
    if rehearsal is None:
        return "live"
    return "ask" if rehearsal.record is None else "recorded"


def used_by(rehearsal: Rehearsal | None) -> Mapping[Digest, int]:
    """The answers that a loop has had, if it is answered from a record."""
    return {} if rehearsal is None or rehearsal.record is None else rehearsal.record.used


def question_of(agent: str, tool: str, arguments: str) -> Digest:
    """Names what a call asks: two calls of one tool with the same JSON arguments, by one agent, ask the same."""
    return digest(f"{agent}\0{tool}\0{canonical(arguments)}".encode())
