"""The port to a model: what an adapter must offer, and what it is given."""

from collections.abc import Callable
from typing import Protocol

from caesura.continuations import Json, Message, ModelError, ModelSpec, Reply, ToolSpec, Value


class ModelRequest(Value, frozen=True, kw_only=True):
    """One request to a model: everything it is to see.

    `result` is the JSON schema that a final answer must fit, or None for free text.
    """

    agent: str
    instructions: str
    messages: tuple[Message, ...]
    tools: tuple[ToolSpec, ...] = ()
    result: Json = None


class ModelUnavailable(ModelError):
    """The model could not be called, retries included, or its answer made no sense. Nothing was lost."""


class TooLong(ModelUnavailable):
    """The messages are more than the model takes. An agent that compacts does so now, and the model is called again."""


class Model(Protocol):
    """Something that answers: the one thing an adapter to a model API implements.

    It may also have ``check()``, which raises a `CaesuraError` if the model cannot work (no key, say) and is called
    before any loop is driven; ``async aclose()``, which is called when the runtime is closed; and ``another(spec)``,
    which returns a model of that `ModelSpec` that is reached the same way, for forks that ask for another model. It is
    called for each of their model calls, and what it returns is not closed.
    """

    @property
    def spec(self) -> ModelSpec:
        """Which model this is and how it is set, for the loop's history; no secrets."""
        ...

    async def reply(self, request: ModelRequest, listen: Callable[[str], None]) -> Reply:
        """Answer a request.

        `listen` is called with each piece of text as it streams; pieces never reach the history. Retries are the
        adapter's own affair. A cancelled call leaves nothing behind.

        Raises:
            ModelUnavailable: there is no answer, and trying again now would not help.
            TooLong: a `ModelUnavailable` because of how much there is to read.
        """
        ...
