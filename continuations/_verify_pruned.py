"""Verification of a commit that stands for many: what became of them cannot be followed, so little may have.

Whoever squashes steps takes away the proof that they were legal. So nothing may come out of it that lets anything
happen: no open call, no gate, no decision that still counts, no other agent, no larger budget.
"""

from collections.abc import Iterator

from ._messages import Message
from ._state import Continuation, Spent
from ._verify_bonds import Recorded

PRUNED = "Pruned"
"""The event that such a commit's message names."""

KEPT = ("agent", "fingerprint", "definition", "nonce", "rules", "cleared", "accepted", "budget", "limit")
"""The parts of a state that are the same after it as before: they say what may be done, or by whose word."""


def at_rest(state: Continuation) -> bool:
    """Whether nothing in a state is under way: it lets nothing happen but the next call of the model."""
    return not state.open_calls and state.gate is None


def same_authority(before: Continuation, after: Continuation) -> bool:
    """Whether two states let the same be done."""
    return all(getattr(before, field) == getattr(after, field) for field in KEPT)


def pruned_faults(commit: Recorded, before: Continuation) -> Iterator[str]:
    """What is wrong with a commit that stands for many."""
    after = commit.after
    for field in KEPT:
        if getattr(before, field) != getattr(after, field):
            yield f"{PRUNED} changed its {field}"
    if not at_rest(after) or not at_rest(before):
        yield "steps were pruned while something was under way"
    if commit.further:
        yield f"it has {commit.further[0]} as a parent, and stands for steps of its own loop alone"
    numbers = commit.said.get("Commits", ())
    if len(numbers) != 1 or not numbers[0].isdigit() or int(numbers[0]) < 2 or not commit.said.get("From"):
        yield "its message does not tell which steps it stands for"
    if after.messages[: len(before.messages)] != before.messages:
        yield "messages that were there are gone or changed"
    said: tuple[Message, ...] = (*after.messages[len(before.messages) :], *after.told)
    if any(message not in said for message in before.told):
        yield "something that the loop was told is lost"
    if _less(before.spent, after.spent) or _less(before.absorbed, after.absorbed):
        yield "what was spent is less than before"
    if any(after.counters.get(name, 0) < number for name, number in before.counters.items()):
        yield "its counters went back"


def _less(before: Spent, after: Spent) -> bool:
    return any(
        new < old
        for old, new in (
            (before.steps, after.steps),
            (before.seconds, after.seconds),
            (before.usage.input, after.usage.input),
            (before.usage.output, after.usage.output),
        )
    )
