"""The codec: what is written is read back the same, and what is not of this format is refused by name."""

import datetime as dt
import json
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from msgspec.structs import replace

from caesura.continuations import (
    AgentSpec,
    Continuation,
    Message,
    NewerFormat,
    Unreadable,
    User,
    decode_message,
    encode_message,
    step,
)
from caesura.continuations._codec import (
    decode_definition,
    decode_messages,
    decode_record,
    encode_definition,
    encode_record,
)
from caesura.continuations._state import FORMAT
from caesura.continuations.store._layout import message_path
from tests.strategies import EPOCH, Step, definitions, events, last, messages, sequences

NAME = "00/00.json"


def record_of(state: Continuation) -> Any:
    """``continuation.json`` as plain JSON."""
    return json.loads(encode_record(state))


@given(messages)
def test_a_message_is_read_back_the_same(message: Message) -> None:
    assert decode_message(encode_message(message), NAME) == message


@given(definitions)
def test_a_definition_is_read_back_the_same_and_keeps_its_fingerprint(definition: AgentSpec) -> None:
    read = decode_definition(encode_definition(definition))
    assert read == definition
    assert read.fingerprint == definition.fingerprint


@given(sequences())
def test_a_record_is_read_back_the_same_to_the_byte(steps: list[Step]) -> None:
    state = last(steps)
    written = encode_record(state)
    read = decode_record(written)
    assert all(getattr(read, name) == getattr(state, name) for name in read.__struct_fields__)
    rebuilt = {name: getattr(read, name) for name in read.__struct_fields__}
    assert encode_record(Continuation(**rebuilt, definition=state.definition)) == written


@given(sequences())
def test_a_state_is_json_for_whoever_asks_msgspec(steps: list[Step]) -> None:
    state = last(steps)
    made = json.loads(msgspec.json.encode(state, enc_hook=tuple))
    assert made["messages"] == [json.loads(encode_message(message)) for message in state.messages]


@given(messages, st.sampled_from(["", '"content": ""', "[{", "\n  "]))
def test_a_message_has_a_line_for_each_field_whatever_its_text_is(message: Message, text: str) -> None:
    for one in (message, replace(message, content=text)):
        assert encode_message(one) == msgspec.json.format(msgspec.json.encode(one), indent=2) + b"\n"


@given(messages)
def test_a_file_is_lines_of_text_that_end_in_a_newline(message: Message) -> None:
    written = encode_message(message)
    assert written.endswith(b"\n")
    assert b"\r" not in written
    assert b"\x00" not in written


@given(sequences())
def test_the_format_comes_first(steps: list[Step]) -> None:
    assert next(iter(record_of(last(steps)))) == "format"


@pytest.mark.parametrize("version", [FORMAT + 1, FORMAT + 2, 10**30])
def test_a_newer_format_is_refused_by_name_whatever_else_it_holds(version: int) -> None:
    with pytest.raises(NewerFormat, match=f"format {version}.*up to format {FORMAT}"):
        decode_record(json.dumps({"format": version, "something": "new"}).encode())


@given(sequences())
def test_a_record_of_an_earlier_format_is_read_and_written_again_in_this_one(steps: list[Step]) -> None:
    written = encode_record(last(steps))
    for version in range(1, FORMAT):
        earlier = written.replace(b'"format": %d' % FORMAT, b'"format": %d' % version, 1)
        assert decode_record(earlier) == decode_record(written)


@pytest.mark.parametrize("version", [0, -1, "1", None, 1.5])
def test_a_format_that_never_was_is_unreadable(version: object) -> None:
    with pytest.raises(Unreadable):
        decode_record(json.dumps({"format": version}).encode())


@given(sequences(), st.data())
def test_an_unknown_field_anywhere_is_refused_by_name(steps: list[Step], data: st.DataObject) -> None:
    record = record_of(last(steps))
    free = ("memory", "counters", "answer", "parameters", "settings")
    places: list[dict[str, Any]] = []

    def collect(value: Any) -> None:
        if isinstance(value, dict):
            places.append(value)
            for key, inner in value.items():
                if key not in free:
                    collect(inner)
        elif isinstance(value, list):
            for inner in value:
                collect(inner)

    collect(record)
    data.draw(st.sampled_from(places))["from_tomorrow"] = 1
    with pytest.raises(Unreadable, match="from_tomorrow"):
        decode_record(json.dumps(record).encode())


@given(messages)
def test_an_unknown_field_of_a_message_is_refused_by_name(message: Message) -> None:
    written = {**json.loads(encode_message(message)), "from_tomorrow": 1}
    with pytest.raises(Unreadable, match=r"00/00\.json.*from_tomorrow"):
        decode_message(json.dumps(written).encode(), NAME)


@given(sequences(6), st.data())
def test_a_truncated_or_garbled_file_is_unreadable_or_another_whole_one(steps: list[Step], data: st.DataObject) -> None:
    written = bytearray(encode_record(last(steps)))
    if data.draw(st.booleans()):
        del written[data.draw(st.integers(0, len(written) - 2)) :]
    else:
        for _ in range(data.draw(st.integers(1, 3))):
            written[data.draw(st.integers(0, len(written) - 1))] = data.draw(st.integers(0, 255))
    try:
        read = decode_record(bytes(written))
    except (Unreadable, NewerFormat):
        return
    # What is still a record is one that the loop can go on from.
    state = Continuation(
        **{name: getattr(read, name) for name in read.__struct_fields__}, definition=last(steps).definition
    )
    assert decode_record(encode_record(state)) == read
    assert (state.at - EPOCH) is not None


@given(st.binary(max_size=60))
@example(b"[" * 100_000)
@example(b'{"format":' + b"[" * 100_000)
@example(b'{"format": 1, "agent": "\\ud800"}')
@example(b"\xff\xfe")
@example(b"")
def test_any_bytes_at_all_are_refused_in_the_same_way(data: bytes) -> None:
    for decode in (decode_record, decode_definition, lambda data: decode_message(data, NAME)):
        with pytest.raises((Unreadable, NewerFormat)):
            decode(data)


@given(st.lists(messages, max_size=20))
def test_messages_are_read_together_as_each_is_read_alone(some: list[Message]) -> None:
    assert decode_messages(list(map(encode_message, some)), 0, str) == some


@given(st.lists(messages, min_size=1, max_size=6), st.data())
def test_files_that_are_messages_together_alone_are_refused(some: list[Message], data: st.DataObject) -> None:
    """Each file must hold one message, wherever else the same bytes would be parted."""
    whole = b"".join(map(encode_message, some))
    places = [place + 2 for place in range(len(whole)) if whole[place : place + 2] == b"}\n"]  # where it looks like one
    anywhere = st.one_of(st.sampled_from(places), st.integers(0, len(whole)))
    cuts = sorted(data.draw(st.lists(anywhere, min_size=len(some) - 1, max_size=len(some) - 1)))
    files = [whole[begin:end] for begin, end in pairwise([0, *cuts, len(whole)])]
    assert _outcome(lambda: decode_messages(files, 0, str)) == _outcome(
        lambda: [decode_message(file, str(place)) for place, file in enumerate(files)]
    )


def _outcome(read: Callable[[], list[Message]]) -> list[Message] | str:
    try:
        return read()
    except Unreadable as error:
        return str(error)


def test_a_message_that_nests_too_deep_is_refused_among_others() -> None:
    deep = '{"role": "assistant", "native": {"a": ' + "[" * 300 + "]" * 300 + "}}\n"
    whole = encode_message(User(content="a"))
    with pytest.raises(Unreadable, match="8 cannot be read: it nests more than"):
        decode_messages([whole, deep.encode(), whole], 7, str)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ('{"role":"user","content":"}', '{"}{"role":"user","content":"b"}'),
        ('{"role":"assistant","native":{"a":', '{}}}\n{"role":"user","content":"b"}'),
        ('{"role":"assistant","native":{"a":{}', '}}\n{"role":"user","content":"b"}'),
        ('{"role":"assistant","native":{"a":{}', '{}}}\n{"role":"user","content":"b"}'),
        ('{"role":"assistant","native":{"a":[{}', '{}]}}\n{"role":"user","content":"b"}'),
        ('{"role":"user","content":"a"}{"role":"user","content":"b"}', ""),
        ('{"role":"user","content":"a"}\n{"role":"user","content":"b"}', ""),
        ('{"role":"user","content":"a"}\n{"role":"user","content":"b"}', '{"role":"user","content":"c"}'),
        ('{"role":"user","content":"a"', '}{"role":"user","content":"b"}'),
        ('{"role":"user","content":"a"}', ',{"role":"user","content":"b"}'),
    ],
)
def test_a_message_does_not_go_on_in_the_next_file(first: str, second: str) -> None:
    files = [f"{text}\n".encode() for text in (first, second)]
    with pytest.raises(Unreadable):
        decode_messages(files, 0, str)


def test_a_time_without_a_zone_is_unreadable() -> None:
    # It could be compared with no other time: the first step would fail.
    written = msgspec.json.encode({"role": "user", "content": "x"})
    assert decode_message(written, NAME)
    record = {
        "format": 1,
        "agent": "ops",
        "fingerprint": "f",
        "nonce": "n",
        "worker": "w",
        "at": EPOCH.replace(tzinfo=None).isoformat(),
        "working_since": EPOCH.isoformat(),
    }
    with pytest.raises(Unreadable, match="at"):
        decode_record(json.dumps(record).encode())
    record["at"] = EPOCH.astimezone(dt.timezone(dt.timedelta(hours=2))).isoformat()
    assert decode_record(json.dumps(record).encode()).at == EPOCH


@given(sequences(), st.data())
def test_a_state_that_was_read_steps_like_the_one_that_was_written(steps: list[Step], data: st.DataObject) -> None:
    state = last(steps)
    read = decode_record(encode_record(state))
    again = Continuation(
        **{name: getattr(read, name) for name in read.__struct_fields__},
        definition=state.definition,
        messages=state.messages,
    )
    event = data.draw(events(state))

    def outcome(of: Continuation) -> object:
        try:
            return step(of, event)
        except Exception as error:  # noqa: BLE001  # whatever it is, it must be the same
            return type(error), str(error)

    assert outcome(again) == outcome(state)


@given(st.lists(st.integers(0, 4096 * 1000 - 1), min_size=2, max_size=30, unique=True))
@example([63, 64, 65, 4095, 4096, 4097, 8191, 8192])
def test_every_message_has_a_place_of_its_own_and_the_places_sort_as_the_messages(indexes: list[int]) -> None:
    indexes.sort()
    places = [message_path(index) for index in indexes]
    assert len(set(places)) == len(places)
    assert sorted("/".join(place) for place in places) == ["/".join(place) for place in places]


@pytest.mark.parametrize(
    ("index", "path"),
    [
        (0, "00/00.json"),
        (63, "00/63.json"),
        (64, "01/00.json"),
        (4095, "63/63.json"),
        (4096, "64/001/00/00.json"),
        (8191, "64/001/63/63.json"),
        (8192, "64/002/00/00.json"),
    ],
)
def test_the_places_of_messages_are_those_of_the_data_model(index: int, path: str) -> None:
    assert "/".join(message_path(index)) == path


def test_a_file_that_holds_what_no_definition_may_is_unreadable() -> None:
    with pytest.raises(Unreadable, match=r"agent\.json"):
        decode_definition(b'{"name": "ops", "model": {"name": "m"}, "budget": {"steps": 0}}')
