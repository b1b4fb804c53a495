"""What a compaction's commit says."""

from ._codec import encode_message
from ._compaction import context_size
from ._events import Compacted
from ._messages import User, text_of
from ._state import Continuation
from ._text import count, excerpt


def told_by_compaction(before: Continuation | None, event: Compacted, after: Continuation) -> tuple[str, str]:
    """The subject, and the body."""
    old = () if before is None else before.messages
    known = set(map(encode_message, old))
    new = [message for message in after.messages if encode_message(message) not in known]
    policy = after.definition.compaction
    above = policy is not None and context_size(after) >= policy.at
    if len(old) == len(after.messages):
        subject = f"compacted {len(new)} of {count(len(old), 'message')}"
    else:
        subject = f"compacted {count(len(old), 'message')} to {len(after.messages)}"
    told = [
        f"By {event.how}: {len(after.messages) - len(new)} are as they were, {len(new)} new or shorter.",
        "This commit's first parent has all of them.",
        *(["That is still more than the agent's threshold."] if above else []),
    ]
    texts = (text_of(message.content) for message in new if isinstance(message, User))
    return subject, "\n\n".join(map(excerpt, [" ".join(told), *texts]))
