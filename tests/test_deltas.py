"""Deltas: made of any two objects they make the one of the other, and what the two have in common is not told again."""

import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from caesura.continuations.store._delta import Deltas
from caesura.continuations.store._format import FILE, FOLDER, Entry, entry_bytes
from caesura.continuations.store._packs import applied

pieces = st.one_of(
    st.sampled_from([b"{\n", b'  "counters": {\n', b'    "look": 12\n', b"  }\n", b"\n", b"\x00", b"Status: active\n"]),
    st.binary(min_size=1, max_size=40),
    st.integers(0, 3).map(lambda number: entry_bytes(Entry(FILE, f"{number:02}", f"{number:040x}"))),
    st.integers(1, 5).map(lambda number: b"the same again and again, at any length" * number**3),
)
texts = st.lists(pieces, max_size=30)
"""Of few pieces, so that two of them have many in common."""


def check(base: bytes, target: bytes, deltas: Deltas | None = None) -> bytes:
    """A delta makes what it was made of."""
    made = (deltas or Deltas()).delta(base, target)
    assert applied(base, made, 2**30, b"it") == target
    return made


@given(texts, texts, st.data())
@settings(deadline=None, max_examples=200)
def test_a_delta_makes_its_object_of_any_other(one: list[bytes], other: list[bytes], data: st.DataObject) -> None:
    check(b"".join(one), b"".join(other))
    changed = list(one)
    for _ in range(data.draw(st.integers(0, 3))):
        at = data.draw(st.integers(0, len(changed)))
        changed[at : at + data.draw(st.integers(0, 2))] = data.draw(texts.filter(lambda found: len(found) < 4))
    check(b"".join(one), b"".join(changed))


@given(
    st.lists(pieces, min_size=2, max_size=20).map(b"".join),
    st.lists(st.lists(st.tuples(st.integers(0), st.binary(min_size=1, max_size=50)), max_size=4), max_size=40),
    st.integers(0, 2),
)
@settings(deadline=None, max_examples=200)
def test_deltas_of_many_versions_each_make_their_own_wherever_those_before_have_differed(
    first: bytes, changes: list[list[tuple[int, bytes]]], growth: int
) -> None:
    deltas, base = Deltas(), first
    for number, change in enumerate(changes):
        target = bytearray(base + b"%" * (growth if number % 8 == 0 else 0))
        for at, new in change:
            at %= len(target)
            target[at : at + len(new)] = new[: len(target) - at]
        check(base, bytes(target), deltas)
        base = bytes(target)


def test_of_versions_that_differ_in_less_than_those_before_soon_no_more_than_that_is_told() -> None:
    base = b"".join(b"%03d the same in each\n" % number for number in range(30))
    much = base.replace(b"007 the same", os.urandom(12)).replace(b"017 the same", os.urandom(12))
    deltas, little = Deltas(), base.replace(b"007", b"008")
    alone, wide = len(check(base, little)), len(check(base, much, deltas))
    told = [len(check(base, little, deltas)) for _ in range(40)]
    assert set(told) == {alone, wide}
    assert told[20:] == [alone] * 20


@pytest.mark.parametrize("size", [0, 1, 7, 8, 9, 127, 128, 2**16 - 1, 2**16, 2**16 + 1, 2**24 + 2**17])
def test_a_delta_of_any_size_makes_its_object(size: int) -> None:
    base = os.urandom(2**10) * (size // 2**10) + os.urandom(size % 2**10)
    new = os.urandom(300)
    for target in (base, base[:-1], base[1:], base + new, new + base, base[: size // 2] + new + base[size // 2 :], new):
        made = check(base, target)
        assert len(made) < 20 + size % 2**10 + 2 * len(new) or size < 2**10


def record(*calls: str, at: int = 0, seconds: float = 1.0) -> bytes:
    """A record, much as it is written."""
    listed = "".join(f'    {{\n      "id": "{call}-1",\n      "state": "returned"\n    }},\n' for call in calls)
    return (
        f'{{\n  "format": 4,\n  "nonce": "{os.urandom(8).hex()}",\n  "at": "2030-01-31T12:00:{at:02}Z",\n'
        f'  "calls": [\n{listed}  ],\n  "counters": {{\n    "look": {at}\n  }},\n  "budget": {{}},\n  "limit": {{}},\n'
        f'  "spent": {{\n    "steps": {at},\n    "usage": {{}},\n    "seconds": {seconds}\n  }}\n}}\n'
    ).encode()


def test_of_a_record_only_the_lines_that_have_changed_are_told_again() -> None:
    calls = ["look", "write_file", "deploy", "send_mail"]
    cases = [
        (record(*calls, at=9, seconds=1.25), record(*calls, at=10, seconds=1.5)),
        (record(*calls), record(*calls[:2], "order", *calls[2:])),
        (record(*calls, at=12, seconds=2.25), record(*calls[1:], at=9, seconds=0.125)),
    ]
    for base, target in cases:
        assert len(check(base, target)) < 150 < len(target) / 2.5


def test_of_a_folder_only_the_entries_that_have_changed_are_told_again() -> None:
    entries = [Entry(FOLDER if number % 3 else FILE, f"{number:02}", os.urandom(20).hex()) for number in range(40)]
    base = b"".join(map(entry_bytes, entries))
    new = [Entry(FILE, name, os.urandom(20).hex()) for name in ("02.txt", "20")]
    changed = [*entries[:3], new[0], *entries[3:20], new[1], *entries[21:]]
    assert len(check(base, b"".join(map(entry_bytes, changed)))) < 120 < len(base) / 8
    without = [*entries[:7], *entries[8:30], *entries[31:]]
    assert len(check(base, b"".join(map(entry_bytes, without)))) < 120


def test_of_a_folder_in_which_one_entry_has_moved_that_entry_alone_is_told_again() -> None:
    entries = [Entry(FILE, f"{number:03}", os.urandom(20).hex()) for number in range(100)]
    base = b"".join(map(entry_bytes, entries))
    moved = [*entries[:7], *entries[8:80], Entry(FILE, "07:", entries[7].id), *entries[80:]]
    assert len(moved) == len(entries)
    assert len(check(base, b"".join(map(entry_bytes, moved)))) < 100 < len(base) / 20


def test_what_stands_before_each_entry_of_a_folder_hides_no_entry_that_stands_elsewhere_by_now() -> None:
    entries = [Entry(FILE, f"{number:05}", os.urandom(20).hex()) for number in range(300)]
    base = b"".join(map(entry_bytes, entries))
    without = b"".join(entry_bytes(entry) for number, entry in enumerate(entries) if number % 20 != 7)
    assert len(check(base, without)) < 400 < len(without) / 20


def test_what_has_little_in_common_is_no_delta() -> None:
    base, target = os.urandom(1000), os.urandom(1000)
    assert Deltas().entry(bytes(20), base, target) is None
    assert Deltas().entry(bytes(20), base, base[:200] + target) is None
    assert Deltas().entry(bytes(20), base, base + target[:300]) is not None
    assert Deltas().entry(bytes(20), base, base[:63]) is None
