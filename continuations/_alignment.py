"""Alignment: two trajectories side by side, what is the same on one line. Pure."""

from collections.abc import Callable, Hashable, Iterator, Sequence
from difflib import SequenceMatcher

from ._messages import Value
from ._trajectory import Entry


class Row(Value, frozen=True, kw_only=True):
    """What two loops did at the same place: one of the two may have done nothing there.

    `nested` is how the loops compare that the calls in this row started.
    """

    left: Entry | None = None
    right: Entry | None = None
    nested: tuple["Row", ...] = ()

    @property
    def same(self) -> bool:
        """Whether both did the same here; what is nested may differ still."""
        return self.left is not None and self.right is not None and self.left.meaning == self.right.meaning


def align(left: Sequence[Entry], right: Sequence[Entry]) -> Iterator[Row]:
    """Pair two loops' entries: first the calls that both have from their common past, then by what the entries mean."""
    places = {entry.nonce: place for place, entry in enumerate(right) if entry.nonce}
    start_left = start_right = 0
    for place, entry in enumerate(left):
        other = places.get(entry.nonce) if entry.nonce else None
        if other is not None and other >= start_right:
            yield from _aligned(left[start_left:place], right[start_right:other])
            yield Row(left=entry, right=right[other])
            start_left, start_right = place + 1, other + 1
    yield from _aligned(left[start_left:], right[start_right:])


def _aligned(left: Sequence[Entry], right: Sequence[Entry]) -> Iterator[Row]:
    for same, ours, theirs in _matched(left, right, _meaning):
        if same:
            yield from (Row(left=one, right=other) for one, other in zip(ours, theirs, strict=True))
            continue
        # What is at the same place and of the same kind is the same thing done otherwise.
        for alike, mine, yours in _matched(ours, theirs, _kind):
            if alike:
                yield from (Row(left=one, right=other) for one, other in zip(mine, yours, strict=True))
            else:
                yield from (Row(left=one) for one in mine)
                yield from (Row(right=other) for other in yours)


def _matched(
    left: Sequence[Entry], right: Sequence[Entry], key: Callable[[Entry], Hashable]
) -> Iterator[tuple[bool, Sequence[Entry], Sequence[Entry]]]:
    """Cut two sequences into runs, of equal keys or of others."""
    matcher = SequenceMatcher(None, [key(entry) for entry in left], [key(entry) for entry in right], autojunk=False)
    for tag, start, end, other_start, other_end in matcher.get_opcodes():
        yield tag == "equal", left[start:end], right[other_start:other_end]


def _meaning(entry: Entry) -> Hashable:
    return entry.meaning


def _kind(entry: Entry) -> Hashable:
    if entry.kind != "open":
        return entry.kind, entry.tool
    # A call that is open still stands where the other was decided, or got its result.
    return "decided" if entry.outcome in ("awaiting", "unknown") else "got", entry.tool
