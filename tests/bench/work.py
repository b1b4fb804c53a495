"""The work: the same messages for every side, made from a seed."""

import hashlib
import json
import random
from collections.abc import Mapping, Sequence
from functools import cache
from pydoc_data.topics import topics

Message = Mapping[str, str]
"""A message as the Chat Completions API has it."""

Step = tuple[Message, ...]
"""What one step appends."""

SMALLEST, LARGEST = 500, 4_000
"""Characters of a message."""


@cache
def _lines() -> tuple[str, ...]:
    """Lines of real English: Python's own help. Each message is a shuffle of them, so that none repeats another."""
    texts: Sequence[str] = [topics[name] for name in sorted(topics)]
    return tuple(sorted({line for text in texts for line in text.splitlines() if line.strip()}))


def steps(seed: int, loop: str, count: int) -> tuple[Step, ...]:
    """So many steps of one loop: 1 to 3 messages each, of 0.5 to 4 KB."""
    source = random.Random(f"{seed} {loop}")  # noqa: S311  # no secret: the same for every side
    return tuple(_step(source, place) for place in range(count))


def _step(source: random.Random, place: int) -> Step:
    first = {"role": "user" if place == 0 else "assistant", "content": _text(source)}
    results = [
        {"role": "tool", "tool_call_id": f"call-{place}-{number}", "content": _text(source)}
        for number in range(source.randrange(3))
    ]
    return (first, *results)


def _text(source: random.Random) -> str:
    size = source.randint(SMALLEST, LARGEST)
    return "\n".join(source.choices(_lines(), k=size // 20))[:size].ljust(size, ".")


def messages(seed: int, loop: str, count: int) -> list[Message]:
    """Every message of a loop, in order."""
    return [message for step in steps(seed, loop, count) for message in step]


def digest(message: Message) -> str:
    """What two equal messages have in common, and no others."""
    text = json.dumps(message, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def loop_names(count: int) -> list[str]:
    """The loops of a job, by name."""
    return [f"loop-{number}" for number in range(1, count + 1)]
