"""Packed refs: found as git finds them in a file of any size, and never taken for missing where the file is torn."""

import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caesura.continuations import GitStore, Torn, loop_name
from caesura.continuations.store._packed import PackedRefs, View, is_ref
from tests.repositories import STATE, git
from tests.strategies import ADA, ROBOT

HEADER = b"# pack-refs with: peeled fully-peeled sorted \n"
NAMES = st.lists(st.text("abz.-0é", min_size=1, max_size=5), min_size=1, max_size=3).map("/".join)


def one_id(name: str) -> str:
    return random.Random(name).randbytes(20).hex()  # noqa: S311 - to be the same in each run


def packed(names: list[str], header: bytes = HEADER, tags: frozenset[str] = frozenset()) -> bytes:
    """A file of these refs, in this order."""
    lines = [f"{one_id(name)} {name}\n" + f"^{one_id('')}\n" * (name in tags) for name in names]
    return header + "".join(lines).encode()


def view(data: bytes) -> View:
    return View(Path("packed-refs"), data)


HEADERS = st.sampled_from([HEADER, HEADER.replace(b"sorted ", b""), b""])
REFS = st.sets(NAMES.map("refs/heads/".__add__).filter(is_ref), max_size=40)


@given(REFS, REFS, st.randoms(use_true_random=False), HEADERS)
def test_what_is_in_the_file_is_found_and_nothing_else(
    names: set[str], others: set[str], chance: random.Random, header: bytes
) -> None:
    ordered = sorted(names, key=str.encode)
    if header != HEADER:
        chance.shuffle(ordered)
    if not header and not ordered:
        return
    found = view(packed(ordered, header, frozenset(chance.sample(ordered, len(ordered) // 2))))
    for name in names | others:
        assert found.find(name) == (one_id(name) if name in names else None)
    for prefix in ("refs/heads/", "refs/heads/a"):
        assert dict(found.entries(prefix)) == {name: one_id(name) for name in names if name.startswith(prefix)}


@given(REFS, st.dictionaries(NAMES.map("refs/heads/".__add__).filter(is_ref), st.booleans()), HEADERS, st.data())
def test_a_file_in_which_refs_are_replaced_holds_these_and_the_others_as_they_were(
    names: set[str], changed: dict[str, bool], header: bytes, data: st.DataObject
) -> None:
    ordered = sorted(names, key=str.encode)
    if header != HEADER:
        ordered = data.draw(st.permutations(ordered))
    if not header and not ordered:
        return
    tags = frozenset(name for name in names if data.draw(st.booleans()))
    changes = {name: one_id(f"{name}.") if kept else None for name, kept in changed.items()}
    changes |= {name: None for name in names if data.draw(st.booleans())}
    made = view(packed(ordered, header, tags)).replaced(changes)
    there = {name: one_id(name) for name in names} | changes
    expected = [name for name in sorted(there, key=str.encode) if there[name] is not None]
    lines = [line for line in made.decode().splitlines() if not line.startswith("#")]
    assert lines == [
        line
        for name in expected
        for line in (f"{there[name]} {name}", *([f"^{one_id('')}"] if name in tags and name not in changes else []))
    ]
    assert b" sorted " in made.splitlines()[0]


def test_what_a_file_says_of_its_own_order_is_not_believed() -> None:
    names = [f"refs/heads/{number:03}" for number in range(200)]
    random.Random(0).shuffle(names)  # noqa: S311 - to be the same in each run
    found = view(packed(names))
    assert all(found.find(name) == one_id(name) for name in names)
    assert [name for name, _ in found.entries("refs/heads/1")] == sorted(
        n for n in names if n.startswith("refs/heads/1")
    )


TEARS: dict[str, Callable[[bytes, int, int], bytes]] = {
    "zeros": lambda data, at, size: data[:at] + bytes(len(data[at : at + size])) + data[at + size :],
    "cut short": lambda data, at, size: data[:at] + data[at:][: -size or None].rstrip(b"\n"),
    "gone": lambda data, at, size: data[:at] if data[at - 1 : at] != b"\n" else b"",
}


@pytest.mark.parametrize("tear", TEARS)
def test_in_a_torn_file_a_ref_is_where_it_was_or_the_file_is_named(tear: str) -> None:
    names = [f"refs/heads/loops/{number:03}" for number in range(100)]
    whole, chance = packed(names), random.Random(0)  # noqa: S311 - to be the same in each run
    refused = 0
    for _ in range(200):
        data = TEARS[tear](whole, chance.randrange(len(whole)), chance.randrange(1, 700))
        for name in names:
            try:
                assert view(data).find(name) == one_id(name)
            except Torn:
                refused += 1
        with pytest.raises(Torn):
            list(view(data).entries("refs/heads/loops/"))
    assert refused > 200


def test_to_find_one_of_many_refs_few_lines_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"refs/heads/loops/{number:06}" for number in range(100_000)]
    found, looks = view(packed(names)), Counter[str]()
    entry = View._entry

    def counted(self: View, start: int) -> tuple[bytes, str | None, int]:
        looks[name] += 1
        return entry(self, start)

    monkeypatch.setattr(View, "_entry", counted)
    for name in (*names[::9999], names[-1]):
        assert found.find(name) == one_id(name)
        assert looks[name] < 20
    name = "refs/heads/loops/x"
    assert found.find(name) is None
    assert looks[name] < 20


def test_a_branch_that_git_packs_while_branches_are_listed_is_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = GitStore.open(tmp_path / "r.git", create=True)
    commit = store.write(STATE, parents=(), message="m", author=ADA, committer=ROBOT).id
    names = [loop_name(f"x{number}") for number in range(3)]
    for name in names:
        store.move(name, None, commit)
    looked = PackedRefs.view

    def late(self: PackedRefs) -> View:
        git(tmp_path / "r.git", "pack-refs", "--all")
        return looked(self)

    monkeypatch.setattr(PackedRefs, "view", late)
    assert list(store.heads()) == names
