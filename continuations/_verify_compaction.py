"""Verification of a compaction: what of the messages must be there still, and what it may say of its cost."""

from collections.abc import Iterator

from ._compaction import lost_decisions
from ._messages import Assistant, Message, Result
from ._state import Continuation
from ._verify_bonds import Recorded

COMPACTIONS = frozenset({"Compacted", "CompactionFailed"})
"""The events of which each may have cost a model call."""


def compaction_faults(commit: Recorded, before: Continuation) -> Iterator[str]:
    """What is wrong with the messages that a compaction left."""
    old, new = before.messages, commit.after.messages
    replies = [place for place, message in enumerate(old) if isinstance(message, Assistant)]
    if old[:1] != new[:1]:
        yield "the compaction took the prompt away"
    if not replies or old[replies[-1] :] != new[max(1, len(new) - len(old) + replies[-1]) :]:
        yield "the compaction changed the model's last reply, or what follows it"
        return
    owed: list[str] = []
    for message in new[: len(new) - len(old) + replies[-1]]:
        if owed and not _answers(message, owed):
            yield f"the compaction left {owed[0]!r} without its result"
            return
        if isinstance(message, Result):
            if message.tool_call_id not in owed:
                yield f"the compaction left a result of {message.tool_call_id!r}, which nothing asks for"
                return
            owed.remove(message.tool_call_id)
        elif isinstance(message, Assistant):
            owed = [request.id for request in message.tool_calls]
    if owed:
        yield f"the compaction left {owed[0]!r} without its result"
    for word in lost_decisions(old, new):
        yield f"the compaction took away what the model was told of a decision: {word}"
    if commit.after.told != before.told:
        yield "the compaction lost or invented something that the loop was told"


def _answers(message: Message, owed: list[str]) -> bool:
    return isinstance(message, Result) and message.tool_call_id in owed


def context_faults(commit: Recorded, before: Continuation) -> Iterator[str]:
    """What is wrong with what a state says of its compactions."""
    old, new = before.context, commit.after.context
    if new.times != old.times + (commit.event == "Compacted"):
        yield f"{commit.event} made {old.times} compactions {new.times}"
    if new.left != old.left and commit.event not in COMPACTIONS:
        yield f"{commit.event} changed what the last compaction left"
