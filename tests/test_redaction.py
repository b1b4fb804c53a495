"""Redaction: every known shape is found, in every form; twice is once; all else stays as it is; time is linear."""

import datetime as dt
import json
import re
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from caesura.continuations import AgentSpec, Assistant, BadRedaction, ModelSpec, Redaction, Told, ToolSpec, User
from caesura.continuations._needles import Needles, lowered
from tests.leaks import AMID, SHAPED, forms
from tests.strategies import ADA, EPOCH, json_values, texts

AWKWARD = 'p"a\\ss/wörd\\"\n\U0001f511\x01n1'
"""A value with everything that JSON escapes, in more than one way."""
REDACTION = Redaction(
    patterns=[r"ACME-\d{6}", r"(?i)codename: (\w+)"], secrets={"AWKWARD": AWKWARD, "PLAIN": "hunter22"}
)

# What is found ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SHAPED)
@pytest.mark.parametrize(
    "around", [("", ""), ("key=", " and on"), ('{"a": "', '"}'), ("line\\n", "\\n"), ("\\u000a", "")]
)
def test_a_key_of_a_known_shape_is_replaced_by_its_name_wherever_it_stands(name: str, around: tuple[str, str]) -> None:
    for form in forms(SHAPED[name]):
        found = Redaction().text(around[0] + form + around[1])
        assert found == f"{around[0]}[redacted: {name.partition(' ')[0]}]{around[1]}"


@pytest.mark.parametrize("name", AMID)
def test_a_secret_known_by_what_stands_around_it_is_replaced_and_the_rest_stays(name: str) -> None:
    before, secret, after = AMID[name]
    assert Redaction().text(before + secret + after) == f"{before}[redacted: {name.partition(' ')[0]}]{after}"
    escaped = json.dumps(json.dumps(before + secret + after))
    assert secret not in Redaction().text(escaped)
    assert json.loads(json.loads(Redaction().text(escaped))) == f"{before}[redacted: {name.partition(' ')[0]}]{after}"


@pytest.mark.parametrize("form", list(forms(AWKWARD)), ids=range(8))
def test_the_value_of_a_variable_is_found_at_any_depth_of_json_in_json(form: str) -> None:
    assert REDACTION.text(f"<{form}>") == "<[redacted: $AWKWARD]>"
    assert REDACTION.text(f"<{form}>".replace("/", "\\/")) == "<[redacted: $AWKWARD]>"


def test_letters_that_json_need_not_escape_hide_nothing() -> None:
    hidden = "".join(f"\\u00{ord(char):02x}" for char in "hunter22")
    assert REDACTION.text(f'{{"a": "{hidden}"}}') == '{"a": "[redacted: $PLAIN]"}'


def test_patterns_are_numbered_and_found_case_by_case() -> None:
    assert REDACTION.text("ACME-123456, CodeName: Aurora") == "[redacted: pattern 1], [redacted: pattern 2]"


def test_a_longer_value_that_begins_with_a_shorter_one_is_found_whole() -> None:
    redaction = Redaction(secrets={"SHORT": "password", "LONG": "password-and-more"})
    assert redaction.text("password-and-more") == "[redacted: $LONG]"


def test_a_key_that_was_cut_off_is_found_as_far_as_it_goes() -> None:
    whole = SHAPED["private-key of SSH"]
    assert Redaction().text("see " + whole[: len(whole) - 40]) == "see [redacted: private-key]"


def test_what_looks_like_a_marker_hides_nothing() -> None:
    assert REDACTION.text("[redacted: hunter22]") == "[redacted: [redacted: $PLAIN]]"
    assert REDACTION.text("[redacted: $PLAIN]hunter22") == "[redacted: $PLAIN][redacted: $PLAIN]"


def test_what_is_found_within_a_marker_leaves_it_whole() -> None:
    redaction = Redaction(secrets={"WORD": "redacted"})
    assert redaction.text("[redacted: $WORD]") == "[redacted: $WORD]"
    assert redaction.text("redacted: [redacted: $WORD]") == "[redacted: $WORD]: [redacted: $WORD]"


def test_json_is_searched_in_keys_and_numbers_too_and_nothing_is_lost() -> None:
    redaction = Redaction(secrets={"PIN": "12345678"})
    value = {"12345678": 1, "x": [12345678, 12345678.5, True, None], " 12345678": 2}
    assert redaction.json(value) == {
        "[redacted: $PIN]": 1,
        "x": ["[redacted: $PIN]", "[redacted: $PIN].5", True, None],
        " [redacted: $PIN]": 2,
    }
    assert len(redaction.json({"12345678": 1, "[redacted: $PIN]": 2})) == 2


def test_values_that_are_written_as_json_are_searched_as_that() -> None:
    @dataclass
    class Note:
        text: str

    times = {1: dt.date(2030, 1, 31), 2: Decimal("1.5"), 3: frozenset({"a"})}
    assert REDACTION.json(times) is times
    assert REDACTION.json([Note("hunter22"), {"hunter22"}, {7: "hunter22"}]) == [
        {"text": "[redacted: $PLAIN]"},
        ["[redacted: $PLAIN]"],
        {7: "[redacted: $PLAIN]"},
    ]


# What is left alone ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "risk-averse people ask-for-a-second-opinion-before-they-sign",
        "sk-learn, task-0123456789-of-the-quarter, a sk-fading-circle-of-dots",
        "the bearer of this letter; authorization: none",
        "https://example.com:8080/a@b and ssh://git@example.com/x.git and http://[::1]:80/",
        "eyJ is how base64 of a JSON object begins",
        "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----",
        "commit 14910bc7e348e45fcb8bd7c9eb8429ac02be6118, digest ca18f50d78117b1d",
        '{"id": "call_8ce4713b10d4a5c662c2a8e9", "u": "\\u00e9\\u0041"}',
    ],
)
def test_what_only_resembles_a_secret_stays(text: str) -> None:
    assert Redaction().text(text) is text


@given(texts)
def test_text_without_a_secret_is_the_very_same(text: str) -> None:
    assert REDACTION.text(text) is text


pieces = st.one_of(
    texts,
    st.sampled_from(
        [form for secret in (*SHAPED.values(), AWKWARD, "hunter22", "ACME-123456") for form in forms(secret)]
    ),
    st.sampled_from(
        ["[redacted: $PLAIN]", "[redacted: ", "sk-", "\\", "\\u0073", '"', "-----", "eyJ", "://a:b@", "\\n"]
    ),
    st.sampled_from(["".join(parts) for parts in AMID.values()]),
)


@given(st.lists(pieces, max_size=6).map("".join))
@example("ghp_" + "a" * 36 + "]" + "sk-" + "b" * 30)
@example("hunter22sk-" + "b" * 30)
def test_redacting_twice_is_redacting_once(text: str) -> None:
    once = REDACTION.text(text)
    assert REDACTION.text(once) == once


@given(
    st.lists(pieces, max_size=4), st.sampled_from([r".+", r"\w+", r"redacted", r"\]", r"a|\[redacted", r"(?<=\])\w"])
)
def test_redacting_twice_is_redacting_once_whatever_the_pattern(parts: list[str], pattern: str) -> None:
    redaction = Redaction(patterns=[pattern], secrets={"PLAIN": "redacted"})
    once = redaction.text("".join(parts))
    assert redaction.text(once) == once


@given(st.lists(texts, max_size=4), st.sampled_from([*SHAPED.values(), AWKWARD]))
def test_what_stands_around_a_secret_stays_to_the_byte(around: list[str], secret: str) -> None:
    marker = REDACTION.text(secret)
    assert re.fullmatch(r"\[redacted: [^\[\]]+\]", marker)
    parts = [f"<{part}>" for part in around]
    assert REDACTION.text(secret.join(parts)) == marker.join(parts)


@given(json_values)
def test_json_stays_json_and_a_value_without_a_secret_is_the_very_same(value: Any) -> None:
    assert REDACTION.json(value) is value
    assert json.loads(REDACTION.text(json.dumps({"a": value, "b": "hunter22"}))) == {
        "a": value,
        "b": "[redacted: $PLAIN]",
    }


def test_an_event_without_a_secret_is_the_very_same_and_one_with_keeps_its_ids() -> None:
    event = Told(at=EPOCH, message=User(content="hello"), by=ADA)
    assert REDACTION.value(event) is event
    hidden = REDACTION.value(Told(at=EPOCH, message=User(content="it is hunter22"), by=ADA))
    assert hidden == Told(at=EPOCH, message=User(content="it is [redacted: $PLAIN]"), by=ADA)


# What cannot work ------------------------------------------------------------------------------------------------


def test_a_definition_that_was_changed_in_place_is_searched_again() -> None:
    parameters: dict[str, Any] = {"type": "object"}
    definition = AgentSpec(
        name="a", model=ModelSpec(name="m"), tools=(ToolSpec(name="t", parameters=parameters), ToolSpec(name="u"))
    )
    for _ in range(2):
        assert REDACTION.value(definition) is definition
    parameters["default"] = "hunter22"
    for _ in range(2):
        assert REDACTION.value(definition).tools[0].parameters["default"] == "[redacted: $PLAIN]"


def test_a_value_that_is_too_short_is_refused_with_the_reason() -> None:
    with pytest.raises(BadRedaction, match="PIN has fewer than 8 characters: it would be found where it is no secret"):
        Redaction(secrets={"PIN": "1234567"})
    with pytest.raises(BadRedaction, match="fewer"):
        Redaction(secrets={"PIN": "   1234567\n"})


@pytest.mark.parametrize("pattern", ["(", "x*", "", "(?P<kept>", "[z-a]"])
def test_a_pattern_that_is_none_or_matches_nothing_is_refused(pattern: str) -> None:
    with pytest.raises(BadRedaction):
        Redaction(patterns=[pattern])


def test_a_value_that_holds_a_marker_is_refused() -> None:
    with pytest.raises(BadRedaction, match="marker"):
        Redaction(secrets={"A": "before [redacted: $A] and after"})


def test_a_name_that_could_break_its_marker_is_refused() -> None:
    with pytest.raises(BadRedaction, match="name of a variable"):
        Redaction(secrets={"A]B": "0123456789"})


# How long it takes -----------------------------------------------------------------------------------------------

HOSTILE = [
    "eyJ",
    "eyJaaaaaaaaa.",
    "eyJaaaaaaaa.aaaaaaaa",
    "-----BEGIN PRIVATE KEY-----",
    "-----BEGIN PRIVATE KEY-----\\n",
    "-----BEGIN AA",
    "-",
    "sk-",
    "sk-proj-",
    "://a:b",
    "://aaaaaaaaaaaaaaaa",
    "\\",
    "\\\\n",
    "\\u0073",
    "bearer ",
    "authorization: bearer ",
    'secret_access_key"""""',
    "secret_access_key=",
    "[redacted: $PLAIN]sk-",
    "[redacted: ",
    "SG.aaaaaaaaaaaaaaaaaaaaaaaa",
    "xoxb",
    "AKIA",
    "ghp_aaaaaaaa",
    'p"a\\',
    "hunter2",
    'p"a\\ss/w\\u00f6rd',
]


@pytest.mark.parametrize("unit", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_text_of_ten_megabytes_is_redacted(unit: str) -> None:
    # One that backtracked without a bound would be at it for hours: that it ends at all is the test.
    text = unit * (10_000_000 // len(unit))
    REDACTION.text(text)


_WORDS = st.text(st.sampled_from("-_.ajxk]^:/\\é"), min_size=1, max_size=5)


@given(st.sets(_WORDS, max_size=8), st.lists(_WORDS, max_size=6).map("".join))
def test_the_words_that_are_looked_for_first_are_found_wherever_they_are(words: set[str], text: str) -> None:
    for some in (text, text.rjust(1000, "b"), text.ljust(1000, "-")):
        found = Needles(word.encode() for word in words).within(some.encode())
        assert {word.decode() for word in found} == {word for word in words if word in some}


_PIECES = (
    *SHAPED.values(),
    *forms(AWKWARD),
    "hunter22",
    "secret_acce\N{KELVIN SIGN}ey",
    *("".join(one) for one in AMID.values()),
)
_TOLD = st.lists(st.sampled_from(_PIECES) | texts, max_size=3).map("".join)
_VALUES = st.recursive(
    _TOLD | st.none() | st.booleans() | st.integers(-(2**40), 2**40) | st.sampled_from((1e22, 0.1, -2.5)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_TOLD, inner, max_size=3),
    max_leaves=6,
)
_WHOLE = (
    Redaction(secrets={"AWKWARD": AWKWARD, "PLAIN": "hunter22"}),
    Redaction(patterns=["[0-9]{5}"]),
)


@given(st.sampled_from(_WHOLE), _VALUES)
@example(Redaction(secrets={"NUMBER": "1.25e-07"}), 1.25e-07)
@example(Redaction(secrets={"NUMBER": "1.2345678901234568e+17"}), 123456789012345680.0)
def test_a_value_looked_at_as_a_whole_is_redacted_as_its_parts_are(redaction: Redaction, value: Any) -> None:
    found = redaction.value(Assistant(content="It is so.", native={"chat": value}))
    assert found.native == {"chat": redaction.json(value)}


def test_no_letter_of_unicode_hides_one_of_ascii_from_the_look_for_words() -> None:
    for point in range(0x80, 0x110000):
        if not 0xD800 <= point < 0xE000 and any(char < "\x80" for char in chr(point).lower()):
            assert lowered(chr(point).encode()) == chr(point).lower().encode()
