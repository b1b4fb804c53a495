"""Schemas and the strict reader: what a model is told to write is what is read."""

import dataclasses
import json
from typing import Any

import jsonschema
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from caesura.runtime._schema import MAX_DEPTH, Misfit, brief, check, read_json, schema_of


class Leaf(msgspec.Struct):
    size: int


class Tree(msgspec.Struct):
    leaf: Leaf
    branches: list["Tree"] = []


class Moody(msgspec.Struct):
    size: int

    def __post_init__(self) -> None:
        raise KeyError("mood")


@dataclasses.dataclass
class Pair:
    left: Leaf
    right: Leaf | None = None


ANYTHING: msgspec.json.Decoder[Any] = msgspec.json.Decoder(Any)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@pytest.mark.parametrize("type_", [Leaf, Tree, Pair, list[Tree], Tree | None, int])
def test_a_schema_stands_alone_and_has_no_reference_on_top(type_: Any) -> None:
    schema = schema_of(type_)
    jsonschema.Draft202012Validator.check_schema(schema)
    assert "$ref" not in schema
    referred = {text.split('"')[0] for text in json.dumps(schema).split('"#/$defs/')[1:]}
    assert referred == set(schema.get("$defs", {}))


def test_a_recursive_type_can_still_be_referred_to_from_inside() -> None:
    schema = schema_of(Tree)
    good = {"leaf": {"size": 1}, "branches": [{"leaf": {"size": 2}}]}
    bad = {"leaf": {"size": 1}, "branches": [{"leaf": {"size": "two"}}]}
    jsonschema.validate(good, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(bad, schema)


def test_a_type_without_a_schema_is_refused() -> None:
    with pytest.raises(TypeError):
        schema_of(complex)


@given(JSON)
def test_any_json_value_is_read_as_it_was_written(value: Any) -> None:
    assert read_json(ANYTHING, json.dumps(value)) == value
    assert read_json(ANYTHING, json.dumps(value, ensure_ascii=False)) == value


@given(st.text() | st.text(alphabet='{}[]",:0123456789.eE+-truefalsn\\u'))
def test_no_text_gets_anything_but_a_value_or_a_misfit_out_of_the_reader(text: str) -> None:
    try:
        value = read_json(ANYTHING, text)
    except Misfit:
        return
    assert value == json.loads(text)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ('{"a": 1, "a": 2}', "The object has the key `a` twice."),
        ('[{"a": {"b": 1, "b": 1}}]', "The object has the key `b` twice."),
        ("NaN", "NaN is not JSON."),
        ("[Infinity, -Infinity]", "Infinity is not JSON."),
        ("{", "The text is not JSON: Expecting property name"),
        ("", "The text is not JSON: Expecting value"),
        ("1e999", "Number out of range."),
        ("[" * 100_000, "nested more than 64 levels"),
        ('{"a":' * 100_000, "nested more than 64 levels"),
        ("[" * 90 + "]" * 90, "nested more than 64 levels"),
        ('"\ud800"', "half of a surrogate pair"),
        ('{"\\ud800": 1, "\\ud800": 2}', "the key `\N{REPLACEMENT CHARACTER}` twice"),
        ("5" * 5000, "Integer value out of range."),
    ],
)
def test_text_that_readers_could_take_differently_is_refused_with_the_reason(text: str, fault: str) -> None:
    with pytest.raises(Misfit) as caught:
        read_json(ANYTHING, text)
    assert fault in str(caught.value)
    assert caught.value.hint


def test_nesting_is_read_down_to_the_limit_and_no_further() -> None:
    assert read_json(ANYTHING, "[" * MAX_DEPTH + "1" + "]" * MAX_DEPTH)
    with pytest.raises(Misfit):
        read_json(ANYTHING, "[" * (MAX_DEPTH + 1) + "1" + "]" * (MAX_DEPTH + 1))


@pytest.mark.parametrize("text", ['"5"', "5.0", "true", "null", "5" * 5000])
def test_nothing_but_an_integer_in_range_is_an_int(text: str) -> None:
    assert check(int, text) is not None


def test_an_integer_stands_for_a_float_and_for_nothing_else() -> None:
    assert check(float, "5") is None
    assert check(bool, "1") is not None
    assert check(str, "5") is not None


def test_check_says_what_is_wrong_and_where_as_a_clause() -> None:
    assert check(Tree, '{"leaf": {"size": 1}}') is None
    assert check(Tree, '{"leaf": {"size": "big"}}') == "Expected `int`, got `str` - at `$.leaf.size`"
    assert check(Leaf, "big") == "The text is not JSON: Expecting value: line 1 column 1 (char 0)"


def test_a_type_that_raises_while_it_is_made_is_a_misfit_and_no_crash() -> None:
    assert check(Moody, '{"size": 1}') == "KeyError: 'mood'"


def test_a_brief_schema_is_one_readable_line() -> None:
    assert brief(schema_of(Tree)).startswith("{leaf: {size: integer}, branches?: [{leaf: ")
    assert brief(schema_of(Pair)) == "{left: {size: integer}, right?: {size: integer} | null}"
    assert brief({"enum": ["a", 1]}) == '"a" | 1'


def test_a_brief_schema_stays_brief() -> None:
    wide = msgspec.defstruct("Wide", [(f"field_{number}", int) for number in range(500)])
    assert len(brief(schema_of(wide))) <= 600
    assert len(brief(schema_of(Tree))) <= 600
