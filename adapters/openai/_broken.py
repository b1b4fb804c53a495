"""Replies that break: which failures that arrive inside an answer are worth another call."""

from caesura.continuations import Json
from caesura.runtime import ModelUnavailable, TooLong

from ._values import mapping, sentence, text

# A code or type in here blames the request: the same request would fail again.
_FINAL = frozenset(
    {
        "authentication_error",
        "bio_policy",
        "content_policy_violation",
        "context_length_exceeded",
        "data_residency_mismatch",
        "insufficient_quota",
        "invalid_api_key",
        "invalid_prompt",
        "invalid_request_error",
        "misalignment_policy_violation",
        "model_not_found",
        "not_found_error",
        "permission_error",
    }
)

_TEMPORARY_STATUSES = frozenset({408, 409, 425, 429})


class Broken(ModelUnavailable):
    """An answer began and did not end well; the whole call may be made again, since nothing of it was kept."""

    def __init__(self, message: str) -> None:
        super().__init__(message, hint="The server or the network may be unsound; resume the loop to try again.")


def told(error: Json) -> ModelUnavailable:
    """What to raise for an error that the server put inside an answer: `Broken` unless it blames the request."""
    fields = mapping(error)
    code, kind = fields.get("code"), text(fields.get("type"))
    message = sentence(text(fields.get("message")) or text(error)) or "no reason given"
    status = int(code) if isinstance(code, int) or (isinstance(code, str) and code.isdecimal()) else 0
    blames_request = 400 <= status < 500 and status not in _TEMPORARY_STATUSES
    if blames_request or kind in _FINAL or text(code) in _FINAL or text(code).startswith(("invalid_", "image_")):
        return refused(f"The server refused the request: {message}", text(code), message)
    return Broken(f"The server failed while answering: {message}")


def refused(what: str, code: str, message: str) -> ModelUnavailable:
    """What to raise for a request that the server will not take: `what` it did, its code and its message."""
    lowered = message.lower()
    if code == "context_length_exceeded" or "context length" in lowered or "context window" in lowered:
        hint = "The conversation is too long for the model: 'caesura compact' shortens it, or use another model."
        return TooLong(what, hint=hint)
    if code == "insufficient_quota":
        return ModelUnavailable(
            what, hint="The account's quota is used up: check the plan and billing with the provider."
        )
    hint = "Check the model's name, its settings and the tools' schemas; the loop can then be resumed."
    return ModelUnavailable(what, hint=hint)
