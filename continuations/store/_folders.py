"""The folders of a loop's messages: those of a step cost what it adds, at any length of the loop."""

from collections.abc import Sequence

import msgspec

from ._format import FILE, FOLDER, Entry, entry_bytes
from ._layout import WIDTH, message_path
from ._objects import Batch

HEADS = tuple(entry_bytes(Entry(FILE, message_path(number)[-1], "")) for number in range(WIDTH))
"""The entries in a folder of messages, but for the ids that these end with."""


class Folders(msgspec.Struct, frozen=True, gc=False):
    """The folders of so many messages; `tree` is the id of the outermost one.

    `names` are those of the others that the last message is in, outermost first. `closed` has of the outermost one and
    of these the bytes of the entries: but for that of the folder which comes next, for it changes with every message.
    """

    tree: str
    messages: int
    names: tuple[str, ...]
    closed: tuple[bytes, ...]


def lay_out(batch: Batch, before: Folders | None, blobs: Sequence[str]) -> Folders:
    """Add the blobs of messages, by their ids, after those that are there before; what is new is put into a batch."""
    if before is None:
        before = Folders("", 0, (), (b"",))
    elif not blobs:
        return before  # as it is: it need not be written, or synced, again
    number, names, closed = before.messages, before.names, [*before.closed]
    end = number + len(blobs)
    while number < end:
        place = number % WIDTH
        if place == 0:
            there = number == before.messages  # nothing was added to what is closed now
            to = message_path(number)[:-1]
            closed, names = _gone_on(Batch() if there else batch, closed, names, to), to
        some = blobs[number - end :][: WIDTH - place]
        closed[-1] += b"".join([head + bytes.fromhex(blob) for head, blob in zip(HEADS[place:], some, strict=False)])
        number += len(some)
    return Folders(_closed(batch, closed, names), number, names, tuple(closed))


def _gone_on(batch: Batch, closed: list[bytes], names: Sequence[str], to: Sequence[str]) -> list[bytes]:
    """The folders from which the next message's are reached: those that it is not in are closed, and others begun."""
    shared = next((place for place, pair in enumerate(zip(names, to, strict=False)) if len(set(pair)) > 1), len(names))
    kept = closed[: shared + 1]
    if shared < len(names):
        below = _closed(batch, closed[shared + 1 :], names[shared + 1 :])
        kept[-1] += entry_bytes(Entry(FOLDER, names[shared], below))
    return kept + [b""] * (len(to) - shared)


def _closed(batch: Batch, closed: Sequence[bytes], names: Sequence[str]) -> str:
    """Put folders, each in the one before it, into a batch; the id of the first."""
    *above, last = closed
    tree = batch.add("tree", last)
    for entries, name in zip(reversed(above), reversed(names), strict=True):
        tree = batch.add("tree", entries + entry_bytes(Entry(FOLDER, name, tree)))
    return tree
