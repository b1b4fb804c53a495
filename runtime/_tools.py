"""Tools: functions that a model may ask for, as the runtime performs them."""

import datetime as dt
import inspect
import math
import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Annotated, Any, Generic, ParamSpec, TypeAlias, TypeVar, overload

import msgspec
import trio

from caesura.continuations import CallId, Json, LoopName, Question, ToolError, ToolKind, ToolSpec, plain_text

from ._attempts import Ask, AttemptEnd, BadTime, Failed, SleepUntil, Unencodable, answer_schema, outcome_of
from ._context import ToolContext
from ._proposed import Approval, ProposedCall, Writes, approval_of, checked_writes
from ._retry import Retry
from ._schema import Misfit, brief
from ._signature import Signature, ToolDefinition, signature_of

P = ParamSpec("P")
R = TypeVar("R")

AnyTool: TypeAlias = "Tool[..., Any]"
"""Any tool, whatever its function takes and returns."""


class BadArguments(ToolError):
    """A model asked for a call with arguments that do not fit; ``str(error)`` tells the model how to mend them."""


class ToolTimeout(ToolError, TimeoutError):
    """An attempt took longer than its tool's timeout. Whether it had its effect is not known."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Tool(Generic[P, R]):
    """A function that a model may ask for; made by `tool`. Calling it calls the function: no schema, no timeout.

    `spec` is what the model and the approvers see. `timeout` is in seconds, for one attempt. `writes` says what a call
    would write, for whoever is asked to approve it.
    """

    spec: ToolSpec
    function: Callable[P, R]
    needs_approval: Approval
    timeout: float | None
    retry: Retry | None
    signature: Signature
    writes: Writes | None = None

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the function itself, as a unit test does."""
        return self.function(*args, **kwargs)

    @property
    def name(self) -> str:
        """The name by which the model asks for it."""
        return self.spec.name

    def with_approval(self, needs_approval: Approval) -> "Tool[P, R]":
        """The same tool under another rule of approval, as in ``sleep_until.with_approval(True)``.

        Raises:
            ToolDefinition: the rule is neither a bool nor a plain predicate.
        """
        spec = msgspec.structs.replace(self.spec, approval=approval_of(self.name, needs_approval))
        return replace(self, needs_approval=needs_approval, spec=spec)

    def read(self, arguments: str) -> dict[str, Any]:
        """Turn a model's JSON text into the function's keyword arguments, defaults filled in.

        The empty text counts as ``{}``. Otherwise reading is strict (see `read_json`): a text is no number, a number
        with a point no int, and unknown or repeated keys are refused, because a guess would run what nobody asked for.

        Raises:
            BadArguments: the text does not fit.
        """
        try:
            return self.signature.read(arguments)
        except Misfit as error:
            raise BadArguments(
                f"The arguments do not fit. {error} {self.name} takes {brief(self.spec.parameters)}",
                hint=f"Ask for {self.name} again, with arguments that fit.",
            ) from error

    def proposed(self, arguments: str, loop: LoopName, call: CallId) -> ProposedCall:
        """The call that a model's JSON text proposes, for `asks_approval`.

        Raises:
            BadArguments: the text does not fit.
        """
        values: dict[str, Json] = {}
        for key, value in self.read(arguments).items():
            try:
                values[key] = msgspec.to_builtins(value, str_keys=True, order="deterministic")
            except (TypeError, ValueError, RecursionError):
                continue  # a default that only the function understands; a predicate that needs it fails, safely
        return ProposedCall(tool=self.name, arguments=MappingProxyType(values), loop=loop, call=call)

    def asks_approval(self, proposed: ProposedCall) -> tuple[bool, str]:
        """Whether a person must approve a call first, and a remark for that person.

        A predicate that raises, or returns anything but a bool, has not said that no approval is needed: it is.
        """
        if isinstance(self.needs_approval, bool):
            return self.needs_approval, ""
        try:
            answer: object = self.needs_approval(proposed)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever it raises, the call must wait
            return True, plain_text(f"the approval predicate of {self.name} failed: {described(error)}")
        if isinstance(answer, bool):
            return answer, ""
        if inspect.iscoroutine(answer):
            answer.close()
        kind = type(answer).__name__
        return True, f"the approval predicate of {self.name} failed: it returned {kind}, not a bool"

    def question(self, arguments: str) -> Question:
        """What a tool of kind ``question`` is to ask, out of a model's JSON text.

        Raises:
            BadArguments: the text does not fit.
            ToolError: the tool is of another kind.
        """
        value = self._call(self.read(arguments)) if self.spec.kind == "question" else None
        if not isinstance(value, Ask):
            raise self._other_kind("question")
        return value.question()

    def wake_at(self, arguments: str) -> dt.datetime:
        """The time, in UTC, that a tool of kind ``sleep`` is to wait for, out of a model's JSON text.

        Raises:
            BadArguments: the text does not fit, or is not a moment.
            ToolError: the tool is of another kind.
        """
        try:
            value = self._call(self.read(arguments)) if self.spec.kind == "sleep" else None
        except BadTime as error:
            raise BadArguments(f"{error} {error.hint}", hint=error.hint) from error
        if not isinstance(value, SleepUntil):
            raise self._other_kind("sleep")
        return value.utc()

    async def perform(
        self,
        arguments: str,
        context: ToolContext,
        *,
        limiter: trio.CapacityLimiter | None = None,
        random: Callable[[], float] = random.random,
    ) -> AttemptEnd:
        """Make one attempt at a call, and say how it ended.

        An async function runs in place; a plain one in a thread that `limiter` has room for, with the time spent
        waiting for room not counted. A plain function that is cancelled or times out is abandoned: its thread goes
        on until it ends, and what comes of it is ignored.

        What the function raises is a value here: `Failed`, which says after how many seconds to try again if the
        tool's `Retry` covers the error and attempts are left. `random` gives numbers from 0 to below 1 for the
        jitter. Only cancellation and interrupts pass; a tool that asks the process to exit has failed.
        """
        try:
            keywords = self.read(arguments)
        except BadArguments as error:
            return Failed(error=str(error))
        if self.signature.context is not None:
            keywords[self.signature.context] = context
        try:
            value = await self._attempt(keywords, limiter)
        except BaseExceptionGroup as group:
            # Beside a cancellation, a nursery's ordinary errors do not matter: the call is being cancelled.
            beyond = group.split((Exception, SystemExit))[1]
            if beyond is not None:
                raise beyond from None
            return self._failed(group, context.attempt, random)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - a failing tool is an event, whatever it raises
            return self._failed(error, context.attempt, random)
        try:
            return outcome_of(value)
        except (Unencodable, ToolDefinition) as error:
            return Failed(error=plain_text(f"{self.name}: {error}"))

    async def _attempt(self, keywords: dict[str, Any], limiter: trio.CapacityLimiter | None) -> Any:
        if self.signature.is_async and self.timeout is None:  # nothing to time
            return await self._call(keywords)
        with trio.CancelScope() as scope:

            def start() -> None:
                if self.timeout is not None:
                    scope.deadline = trio.current_time() + self.timeout

            if self.signature.is_async:
                start()
                return await self._call(keywords)

            def work() -> tuple[Any]:
                # From here on, not from the call: to wait for a thread is no fault of the tool's.
                trio.from_thread.run_sync(start)
                return (self._call(keywords),)

            (value,) = await trio.to_thread.run_sync(work, abandon_on_cancel=True, limiter=limiter)
            # A plain function that wraps an async one has only made the coroutine.
            return await value if inspect.iscoroutine(value) else value
        raise ToolTimeout(
            f"{self.name} took longer than {self.timeout:g} seconds and was given up; its effect may have happened.",
            hint="Find out whether it did before trying again, or give the tool a longer timeout.",
        )

    def _call(self, keywords: dict[str, Any]) -> Any:
        function: Callable[..., Any] = self.function
        return function(**keywords)

    def _failed(self, error: BaseException, attempt: int, random: Callable[[], float]) -> Failed:
        again = self.retry is not None and self.retry.applies(error, attempt)
        return Failed(
            error=plain_text(described(error)),
            retry_in=self.retry.delay(attempt, random()) if self.retry is not None and again else None,
        )

    def _other_kind(self, expected: ToolKind) -> ToolError:
        return ToolError(
            f"{self.name} is a tool of kind {self.spec.kind}, not {expected}.",
            hint="Only the tools of 'ask' and 'sleep_until' wait without being performed.",
        )


def described(error: BaseException) -> str:
    """An error as the model, or whoever is asked, reads it."""
    if isinstance(error, BaseExceptionGroup):
        return "; ".join(map(described, error.exceptions))
    try:
        text = str(error)
    except Exception:  # noqa: BLE001 - an error whose text cannot be made is still an error
        text = ""
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


@overload
def tool(
    function: Callable[P, R],
    /,
    *,
    needs_approval: Approval = False,
    idempotent: bool = False,
    timeout: float | None = None,
    retry: Retry | None = None,
    writes: Writes | None = None,
    name: str | None = None,
    description: str | None = None,
) -> Tool[P, R]: ...


@overload
def tool(
    *,
    needs_approval: Approval = False,
    idempotent: bool = False,
    timeout: float | None = None,
    retry: Retry | None = None,
    writes: Writes | None = None,
    name: str | None = None,
    description: str | None = None,
) -> Callable[[Callable[P, R]], Tool[P, R]]: ...


def tool(
    function: Callable[P, R] | None = None,
    /,
    *,
    needs_approval: Approval = False,
    idempotent: bool = False,
    timeout: float | None = None,
    retry: Retry | None = None,
    writes: Writes | None = None,
    name: str | None = None,
    description: str | None = None,
) -> Tool[P, R] | Callable[[Callable[P, R]], Tool[P, R]]:
    """Make a tool of a plain or async function, as a decorator or by a call: ``tool(shop.order, timeout=30)``.

    The model sees the function's name, the summary of its docstring and a JSON schema of its parameters, which are
    annotated with types that msgspec supports; a default makes one optional, and the docstring (Google, NumPy or
    reST style) describes them. One parameter may be annotated `ToolContext`; the model does not see that one.

    Args:
        function: what performs a call. A plain function runs in a thread.
        needs_approval: whether a person must approve a call first: always, never, or as a predicate says.
        idempotent: whether a call that was under way when its worker went away may simply be made again.
        timeout: seconds that one attempt may take. What a plain function does after that is ignored, not stopped.
        retry: which errors are worth another attempt.
        writes: says what a call would write in the loop's files, for whoever is asked to approve it; see `Writes`.
        name: in the place of the function's own name.
        description: in the place of the docstring's summary.

    Raises:
        ToolDefinition: the function cannot be a tool, or the other values make no sense.
    """

    def make(function: Callable[P, R]) -> Tool[P, R]:
        signature = signature_of(function, name, description)
        if timeout is not None and not 0 < timeout < math.inf:
            raise ToolDefinition(
                f"{signature.name} cannot have a timeout of {timeout!r} seconds.",
                hint="Give a number of seconds above 0, or None for no limit.",
            )
        spec = ToolSpec(
            name=signature.name,
            description=signature.description,
            parameters=signature.parameters,
            approval=approval_of(signature.name, needs_approval),
            idempotent=idempotent,
        )
        return Tool(
            spec=spec,
            function=function,
            needs_approval=needs_approval,
            timeout=timeout,
            retry=retry,
            signature=signature,
            writes=checked_writes(signature.name, writes),
        )

    return make if function is None else make(function)


def ask(
    answer: Any = str,
    *,
    name: str = "ask",
    description: str = "Ask a person a question and wait for the answer.",
    needs_approval: Approval = False,
) -> Tool[[str], Ask]:
    """Make a tool with which a model puts a question to a person, or another system: nothing is performed.

    `answer` is the type of a valid answer, anything that msgspec supports; the answer becomes the call's result.

    Raises:
        ToolDefinition: there is no JSON schema of the answer, or the other values make no sense.
    """

    def put(
        question: Annotated[str, msgspec.Meta(min_length=1, description="The question, complete in itself.")],
    ) -> Ask:
        return Ask(question, answer)

    made = tool(put, name=name, description=description, needs_approval=needs_approval)
    return replace(made, spec=msgspec.structs.replace(made.spec, kind="question", answer=answer_schema(answer)))


def _sleep_until(
    until: Annotated[
        dt.datetime, msgspec.Meta(tz=True, description="When to go on, with a timezone: 2030-01-31T09:00:00Z.")
    ],
) -> SleepUntil:
    """Wait until a time, then go on."""
    return SleepUntil(until)


def _sleep_tool() -> Tool[[dt.datetime], SleepUntil]:
    made = tool(_sleep_until, name="sleep_until")
    return replace(made, spec=msgspec.structs.replace(made.spec, kind="sleep"))


sleep_until = _sleep_tool()
"""A tool with which a model waits for a time: nothing is performed."""
