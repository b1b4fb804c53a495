"""A loop's messages: a tuple of them, to whoever looks."""

from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from caesura.continuations._messages import Message, Messages, User, beyond, extended

LONG: tuple[Message, ...] = tuple(User(content=f"{number}") for number in range(64 * 3 + 1))

lengths = st.one_of(st.integers(0, 200), st.sampled_from([0, 1, 63, 64, 65, 127, 128, 129]))
places = st.none() | st.integers(-210, 210)
slices: st.SearchStrategy[Any] = st.builds(slice, places, places, st.none() | st.integers(-70, 70).filter(bool))


def of(length: int) -> tuple[Message, ...]:
    return (LONG * 2)[:length]


@st.composite
def grown(draw: st.DrawFn) -> tuple[tuple[Message, ...], Messages]:
    """Some messages, and the same, to which the last ones were added bit by bit."""
    whole = of(draw(lengths))
    at = draw(st.integers(0, len(whole)))
    held = Messages(whole[:at])
    while at < len(whole):
        more = draw(st.integers(1, len(whole) - at))
        held, at = extended(held, *whole[at : at + more]), at + more
    return whole, held


@given(grown(), slices)
def test_they_are_as_a_tuple_however_they_came_together(both: tuple[tuple[Message, ...], Messages], part: Any) -> None:
    plain, held = both

    assert (len(held), bool(held), hash(held), repr(held)) == (len(plain), bool(plain), hash(plain), repr(plain))
    assert tuple(held) == plain
    assert tuple(reversed(held)) == plain[::-1]
    assert held[part] == plain[part]
    assert [held[place] for place in range(-len(plain), len(plain))] == [*plain, *plain]
    assert held == plain
    assert plain == held
    assert held == Messages(plain)


@given(lengths, lengths)
def test_those_of_another_length_are_others_and_none_is_beyond_their_end(one: int, other: int) -> None:
    assert (Messages(of(one)) == Messages(of(other))) == (one == other) == (Messages(of(one)) == of(other))
    for place in (one, -one - 1):
        try:
            found: object = Messages(of(one))[place]
        except IndexError:
            found = None
        assert found is None


@given(grown(), lengths, st.integers(0, 200))
@example((of(129), Messages(of(129))), 64, 63)
@example((of(129), Messages(of(129))), 128, 128)
def test_whether_they_go_on_from_others_is_a_matter_of_what_they_hold(
    both: tuple[tuple[Message, ...], Messages], length: int, changed: int
) -> None:
    plain, held = both
    before = of(length)

    expected = plain[length:] if length <= len(plain) else None
    assert beyond(held, Messages(before)) == beyond(plain, before) == expected
    if changed < length:
        other = (*before[:changed], User(content="another"), *before[changed + 1 :])
        assert beyond(held, Messages(other)) is None


def test_what_is_added_to_many_touches_few() -> None:
    held = Messages(LONG)
    longer = extended(held, User(content="more"))

    assert longer.beyond(held) == (User(content="more"),)
    assert all(one is other for one, other in zip(held._pieces, longer._pieces, strict=True))
