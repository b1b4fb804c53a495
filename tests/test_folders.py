"""The folders of a loop's messages: laid out bit by bit as at once, and what is there already is not written again."""

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from caesura.continuations.store._folders import Folders, lay_out
from caesura.continuations.store._format import FILE, FOLDER, Entry, tree_bytes
from caesura.continuations.store._layout import message_path
from caesura.continuations.store._objects import Batch

FULL = 64 * 64
"""Messages after which they are laid out one level deeper."""

lengths = st.integers(0, 200) | st.builds(
    lambda near, by: near + by, st.sampled_from([FULL, 2 * FULL]), st.integers(-70, 70)
)


def blobs(begin: int, end: int) -> Sequence[str]:
    return [f"{number:040x}" for number in range(begin, end)]


def plain(batch: Batch, length: int) -> str:
    """The id of the folder of so many messages, made as any tree is: with all that are in it, in a batch."""

    def made(messages: Sequence[int], depth: int) -> str:
        inner: dict[str, list[int]] = {}
        entries: list[Entry] = []
        for number in messages:
            path = message_path(number)
            if depth == len(path) - 1:
                entries.append(Entry(FILE, path[depth], f"{number:040x}"))
            else:
                inner.setdefault(path[depth], []).append(number)
        entries += [Entry(FOLDER, name, made(some, depth + 1)) for name, some in inner.items()]
        return batch.add("tree", tree_bytes(entries))

    return made(range(length), 0)


@given(lengths)
def test_at_once_they_are_as_any_trees_and_each_is_made_once(length: int) -> None:
    expected, batch = Batch(), Batch()
    tree = plain(expected, length)

    assert lay_out(batch, None, blobs(0, length)).tree == tree
    assert batch == expected


@given(lengths, st.data())
def test_bit_by_bit_they_are_as_they_are_at_once(length: int, data: st.DataObject) -> None:
    first = data.draw(st.integers(max(0, length - 140), length), "at first")
    folders = lay_out(Batch(), None, blobs(0, first))
    there = Batch()
    plain(there, first)
    while folders.messages < length:
        more = data.draw(st.integers(1, length - folders.messages), "more")
        batch = Batch()
        folders = lay_out(batch, folders, blobs(folders.messages, folders.messages + more))
        expected = Batch()
        assert folders.tree == plain(expected, folders.messages)
        assert batch.items() == expected.items() - there.items()  # what is new, and nothing else
        there.update(batch)


def test_without_a_message_more_they_stay_as_they_are() -> None:
    folders, batch = lay_out(Batch(), None, blobs(0, 65)), Batch()

    assert lay_out(batch, folders, []) is folders
    assert not batch
    assert lay_out(batch, None, []) == Folders(plain(Batch(), 0), 0, (), (b"",))
    assert len(batch) == 1
