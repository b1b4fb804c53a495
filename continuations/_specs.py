"""What a loop carries about its agent: enough to decide, answer and show without any of the agent's code."""

from collections.abc import Mapping
from typing import Literal

import msgspec
from msgspec.structs import replace

from ._errors import CallerError
from ._ids import Digest, digest
from ._messages import Json, Time, Value

ToolKind = Literal["function", "agent", "question", "sleep"]
"""What performs the call: a function, a child loop, a person or other system, the clock."""

ChildFiles = Literal["copy", "share", "none"]
"""What a child loop works on, if its parent works on files: a copy of them, which is merged into the parent's once it
has returned, its parent's own folder, or none."""


class ToolSpec(Value, frozen=True, kw_only=True):
    """A tool as its model and its approvers see it.

    `parameters` and `answer` are JSON schemas; `answer` is that of the answer to a question. `approval` says
    whether a person is asked always, never, or when the agent's own predicate says so. `workspace` is what the child
    loop of an agent works on.
    """

    name: str
    description: str = ""
    parameters: Mapping[str, Json] = {}
    kind: ToolKind = "function"
    approval: Literal["never", "always", "predicate"] = "never"
    idempotent: bool = False
    agent: str = ""
    answer: Json = None
    workspace: ChildFiles = "copy"

    @property
    def digest(self) -> Digest:
        """Names this tool's contract: a decision is bound to it."""
        return digest(msgspec.json.encode(self, order="sorted"))


class ModelSpec(Value, frozen=True, kw_only=True):
    """Which model, through which API, with which settings."""

    name: str
    api: str = ""
    settings: Mapping[str, Json] = {}


class BadBudget(CallerError, ValueError):
    """A budget's limit is not above zero."""


class BadCompaction(CallerError, ValueError):
    """A compaction's threshold is not above zero, or it is to keep fewer than no messages."""


class Budget(Value, frozen=True, kw_only=True):
    """What a loop and its children together may spend: model calls (`steps`), tokens, seconds of work.

    None is no limit. Seconds count while there is work and a worker for it; `deadline` is a moment, whatever happens
    before it.

    Raises:
        BadBudget: a limit is not above zero: nothing could be done, and as much again would be nothing too.
    """

    steps: int | None = None
    tokens: int | None = None
    seconds: float | None = None
    deadline: Time | None = None

    def __post_init__(self) -> None:
        for name, limit in (("steps", self.steps), ("tokens", self.tokens), ("seconds", self.seconds)):
            if limit is not None and not limit > 0:
                raise BadBudget(f"A budget of {limit} {name} is none.", hint="Give a number above zero, or no limit.")


class CompactionSpec(Value, frozen=True, kw_only=True):
    """When a loop's messages are compacted: once a request to the model takes `at` tokens; and how, for a person.

    Raises:
        BadCompaction: the threshold is not above zero.
    """

    at: int
    how: str

    def __post_init__(self) -> None:
        if not self.at > 0:
            raise BadCompaction(f"Messages cannot be compacted at {self.at} tokens.", hint="Give a number above zero.")


class Amendment(Value, frozen=True, kw_only=True):
    """What a fork puts in the place of parts of its agent's definition, whatever the agent's code says."""

    model: ModelSpec | None = None
    instructions: str | None = None


class AgentSpec(Value, frozen=True, kw_only=True):
    """An agent's definition, as data."""

    name: str
    instructions: str = ""
    model: ModelSpec
    tools: tuple[ToolSpec, ...] = ()
    result: Json = None
    suspensions: tuple[str, ...] = ()
    budget: Budget = Budget()
    compaction: CompactionSpec | None = None

    @property
    def fingerprint(self) -> Digest:
        """Names this definition: it changes whenever anything in it does."""
        return digest(msgspec.json.encode(self, order="sorted"))

    def tool(self, name: str) -> ToolSpec | None:
        """The tool of that name, or None."""
        return next((tool for tool in self.tools if tool.name == name), None)

    def amended(self, amendment: Amendment) -> "AgentSpec":
        """The definition with an amendment in it."""
        return replace(
            self,
            model=self.model if amendment.model is None else amendment.model,
            instructions=self.instructions if amendment.instructions is None else amendment.instructions,
        )
