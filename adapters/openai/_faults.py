"""Failures of the client and the network, told as `ModelUnavailable`: one sentence, and what to do."""

import ssl
from collections.abc import Iterator
from contextlib import contextmanager

import anyio
import httpx2
import openai

from caesura.continuations import Json
from caesura.runtime import ModelUnavailable

from ._broken import Broken, refused
from ._values import mapping, sentence, text

# What the client raises, what its transport does once a stream is open, and what decoding bytes does.
_FAULTS = (
    openai.OpenAIError,
    httpx2.HTTPError,
    httpx2.StreamError,
    httpx2.InvalidURL,
    anyio.EndOfStream,
    anyio.BrokenResourceError,
    anyio.ClosedResourceError,
    ssl.SSLError,
    OSError,
    ValueError,
    RecursionError,
)

_RESUME = "resume the loop when it is back"


@contextmanager
def told_as_unavailable(base_url: str, key: str, *, answering: bool) -> Iterator[None]:
    """Turn a failure of what is inside into `ModelUnavailable`; into `Broken` once the server is `answering`."""
    try:
        yield
    except _FAULTS as fault:
        raise _told(fault, base_url, key, answering=answering) from fault
    except ExceptionGroup as group:
        # A group that holds a cancellation is a BaseExceptionGroup and passes.
        _, others = group.split(_FAULTS)
        if others is not None:
            raise
        raise _told(_first(group), base_url, key, answering=answering) from group


def _first(error: Exception) -> Exception:
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    return error


def _told(fault: Exception, base_url: str, key: str, *, answering: bool) -> ModelUnavailable:
    if isinstance(fault, openai.APIStatusError):
        return _refused(fault, base_url, key)
    reason = sentence(str(fault)) or type(fault).__name__
    if answering:
        return Broken(f"The answer broke off: {reason}")
    if isinstance(fault, openai.APITimeoutError):
        return ModelUnavailable(
            f"The server at {base_url} did not answer in time",
            hint=f"Give it more time with timeout=, or {_RESUME}.",
        )
    cause = fault.__cause__ if isinstance(fault, openai.APIConnectionError) else None
    reason = sentence(str(cause or fault)) or type(cause or fault).__name__
    return ModelUnavailable(
        f"The server at {base_url} cannot be reached: {reason.replace(key, '[key]')}",
        hint=f"Check the network and the base URL (OPENAI_BASE_URL), or {_RESUME}.",
    )


def _refused(fault: openai.APIStatusError, base_url: str, key: str) -> ModelUnavailable:
    status = fault.status_code
    said = sentence(_message(fault.body)).replace(key, "[key]")
    answer = f"The server at {base_url} answered {status}" + (f": {said}" if said else "")
    code = text(mapping(fault.body).get("code"))
    wait = _wait(fault.response.headers) if status == 429 or status >= 500 else ""
    if wait:
        answer += f" (it asks to wait {wait})"
    match status:
        case 401:
            hint = "Check the key: OPENAI_API_KEY, or api_key= of the model."
        case 403:
            hint = "The key may not use this model here: check the project's permissions and the model's name."
        case 404:
            hint = "Check the model's name and the base URL (OPENAI_BASE_URL)."
        case 429 if code != "insufficient_quota":
            hint = f"The rate limit held through every retry: resume the loop {'after ' + wait if wait else 'later'}."
        case _ if status >= 500:
            hint = f"The server is failing: {_RESUME}."
        case _:
            return refused(answer, code, said)
    return ModelUnavailable(answer, hint=hint)


def _message(body: Json) -> str:
    """What an error's body says, in whichever of the usual places."""
    fields = mapping(body)
    return next((said for name in ("message", "error", "detail") if (said := text(fields.get(name)))), text(body))


def _wait(headers: httpx2.Headers) -> str:
    """How long the server asks to wait, for a person."""
    if milliseconds := headers.get("retry-after-ms", ""):
        return f"{milliseconds} ms"
    seconds = headers.get("retry-after", "")
    return f"{seconds} s" if seconds.isdecimal() else f"until {seconds}" if seconds else ""
