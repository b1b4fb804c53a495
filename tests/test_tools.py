"""Tools: what a model is shown of a function, and what it may send."""

import datetime as dt
import functools
import inspect
import json
import keyword
import types
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from typing import Annotated, Any, Literal, NotRequired, TypedDict

import jsonschema
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from caesura.runtime._attempts import Returned
from caesura.runtime._context import ToolContext
from caesura.runtime._proposed import ProposedCall
from caesura.runtime._retry import Retry
from caesura.runtime._signature import ToolDefinition
from caesura.runtime._tools import BadArguments, ask, tool
from tests.arguments import CALL, LOOP, Box, Colour, Point, context

# Signatures --------------------------------------------------------------------------------------------------------


class Note(TypedDict):
    text: str
    stars: NotRequired[int]


Typed = tuple[Any, st.SearchStrategy[Any]]
"""A type, and values of it."""

POINTS = st.builds(Point, st.integers(-5, 5), st.floats(allow_nan=False, allow_infinity=False))
NOTES: st.SearchStrategy[Any] = st.fixed_dictionaries({"text": st.text()}, optional={"stars": st.integers(0, 5)})
PLAIN: list[Typed] = [
    (str, st.text()),
    (int, st.integers(-(2**63), 2**64 - 1)),
    (float, st.floats(allow_nan=False, allow_infinity=False)),
    (bool, st.booleans()),
    (Literal["a", "b"], st.sampled_from(["a", "b"])),
    (Colour, st.sampled_from(Colour)),
    (dt.datetime, st.datetimes(timezones=st.just(dt.UTC))),
    (dt.date, st.dates()),
    (int | str, st.integers(-9, 9) | st.text()),
    (Annotated[int, msgspec.Meta(ge=0, le=9)], st.integers(0, 9)),
    (Point, POINTS),
    (Box, st.builds(Box, POINTS, st.lists(st.text(), max_size=2))),
    (Note, NOTES),
    (Any, st.none() | st.booleans() | st.text() | st.lists(st.integers(-9, 9))),
]


def wrapped(inner: st.SearchStrategy[Typed]) -> st.SearchStrategy[Typed]:
    return (
        inner.map(lambda typed: (types.GenericAlias(list, typed[0]), st.lists(typed[1], max_size=2)))
        | inner.map(
            lambda typed: (types.GenericAlias(dict, (str, typed[0])), st.dictionaries(st.text(), typed[1], max_size=2))
        )
        | inner.map(lambda typed: (typed[0] | None, st.none() | typed[1]))
    )


TYPES = st.recursive(st.sampled_from(PLAIN), wrapped, max_leaves=3)
NAMES = st.from_regex(r"[a-z][a-z_0-9]{0,5}", fullmatch=True).filter(lambda name: not keyword.iskeyword(name))
SIGNATURES = st.dictionaries(NAMES, TYPES, max_size=4)


class Synthetic:
    """A callable with any signature."""

    def __init__(self, types: Mapping[str, Any]) -> None:
        kind = inspect.Parameter.KEYWORD_ONLY
        self.__signature__ = inspect.Signature(
            [inspect.Parameter(name, kind, annotation=type_) for name, type_ in types.items()]
        )

    def __call__(self, **arguments: Any) -> Any:
        return arguments


@given(SIGNATURES, st.data())
def test_values_of_the_annotated_types_pass_the_schema_and_come_back_equal(
    signature: dict[str, Typed], data: st.DataObject
) -> None:
    made = tool(Synthetic({name: type_ for name, (type_, _) in signature.items()}), name="made")
    values = {name: data.draw(strategy) for name, (_, strategy) in signature.items()}
    text = msgspec.json.encode(values).decode()
    jsonschema.validate(json.loads(text), made.spec.parameters)
    assert made.read(text) == values


@given(SIGNATURES, st.data())
def test_what_is_read_is_what_the_schema_allows(signature: dict[str, Typed], data: st.DataObject) -> None:
    made = tool(Synthetic({name: type_ for name, (type_, _) in signature.items()}), name="made")
    junk: st.SearchStrategy[Any] = (
        st.none() | st.booleans() | st.integers(-9, 9) | st.floats(0.1, 0.9) | st.text() | st.just([]) | st.just({})
    )
    values = {
        name: data.draw(strategy | junk) for name, (_, strategy) in signature.items() if data.draw(st.integers(0, 9))
    }
    text = msgspec.json.encode(values).decode()
    try:
        made.read(text)
    except BadArguments:
        return
    jsonschema.validate(json.loads(text), made.spec.parameters)


@given(SIGNATURES)
def test_a_schema_is_one_closed_object_and_names_the_tool_the_same_each_time(signature: dict[str, Typed]) -> None:
    types = {name: type_ for name, (type_, _) in signature.items()}
    spec = tool(Synthetic(types), name="made").spec
    jsonschema.Draft202012Validator.check_schema(spec.parameters)
    assert set(spec.parameters) - {"$defs"} == {"type", "properties", "required", "additionalProperties"}
    assert spec.parameters["type"] == "object"
    assert spec.parameters["additionalProperties"] is False
    assert set(spec.parameters["required"]) == set(spec.parameters["properties"]) == set(types)
    assert spec.digest == tool(Synthetic(types), name="made").spec.digest


GOOGLE = """Place an order.

    At the one shop we use.

    Args:
        item: what to buy,
            by its name
        amount (float): how much it may cost

    Returns:
        The order's number.
    """
NUMPY = """Place an order.

    At the one shop we use.

    Parameters
    ----------
    item : str
        what to buy,
        by its name
    amount
        how much it may cost

    Returns
    -------
    str
        The order's number.
    """
REST = """Place an order.

    At the one shop we use.

    :param item: what to buy,
        by its name
    :param float amount: how much it may cost
    :returns: The order's number.
    """


@pytest.mark.parametrize("docstring", [GOOGLE, NUMPY, REST])
def test_the_docstring_describes_the_tool_and_its_parameters(docstring: str) -> None:
    def order(item: str, amount: Annotated[float, msgspec.Meta(gt=0)], who: str = "me") -> str:
        return item

    order.__doc__ = docstring
    spec = tool(order).spec
    assert spec.description == "Place an order.\n\nAt the one shop we use."
    properties = spec.parameters["properties"]
    assert properties["item"]["description"].split() == ["what", "to", "buy,", "by", "its", "name"]
    assert properties["amount"] == {"type": "number", "exclusiveMinimum": 0, "description": "how much it may cost"}
    assert properties["who"] == {"type": "string", "default": "me"}


def test_what_is_said_at_the_decorator_wins_over_what_the_function_says() -> None:
    @tool(name="buy", description="Buy it.", idempotent=True, needs_approval=True, timeout=5, retry=None)
    def order(item: Annotated[str, msgspec.Meta(description="what")]) -> str:
        """Place an order.

        Args:
            item: something else
        """
        return item

    assert (order.spec.name, order.spec.description, order.spec.kind) == ("buy", "Buy it.", "function")
    assert order.spec.idempotent
    assert order.spec.approval == "always"
    assert order.spec.parameters["properties"]["item"]["description"] == "what"


async def test_a_tool_is_called_like_its_function() -> None:
    @tool
    def order(item: str, amount: float = 2.5) -> str:
        return f"{item}: {amount}"

    @tool(timeout=1)
    async def check(service: str) -> str:
        return service

    assert order("pen") == "pen: 2.5"
    assert order("pen", amount=1) == "pen: 1"
    assert await check("api") == "api"


class Absent:
    pass


async def test_a_default_reaches_the_function_as_it_is_even_if_no_schema_can_show_it() -> None:
    absent: Any = Absent()
    shared = ["a"]

    @tool
    def look(what: str = absent, tags: list[str] = shared, seen: frozenset[str] = frozenset("zxy")) -> str:
        assert what is absent
        assert tags is shared
        return "same"

    properties = look.spec.parameters["properties"]
    assert "default" not in properties["what"]
    assert properties["seen"]["default"] == ["x", "y", "z"]
    assert look.spec.parameters["required"] == []
    assert await look.perform("", context()) == Returned(content="same")
    assert dict(look.proposed("", LOOP, CALL).arguments) == {"tags": ["a"], "seen": ["x", "y", "z"]}


class Shop:
    def order(self, item: str, context: ToolContext | None = None) -> str:
        """Place an order."""
        return f"{item} for {context.call if context else 'nobody'}"

    def __call__(self, item: str) -> str:
        """Just look."""
        return item


def shout(text: str, end: str, sign: str = "") -> str:
    """Say it."""
    return text.upper() + end + sign


async def test_bound_methods_partials_and_callable_objects_make_tools() -> None:
    method, thing = tool(Shop().order), tool(Shop(), name="look")
    part = tool(functools.partial(shout, "hi", sign="?"))
    assert (method.name, method.spec.description) == ("order", "Place an order.")
    assert (thing.spec.description, part.spec.description) == ("Just look.", "Say it.")
    assert set(method.spec.parameters["properties"]) == {"item"}
    assert set(part.spec.parameters["properties"]) == {"end"}, "what is bound is neither shown nor set"
    assert await method.perform('{"item": "pen"}', context()) == Returned(content="pen for order-1")
    assert await thing.perform('{"item": "pen"}', context()) == Returned(content="pen")
    assert await part.perform('{"end": "!"}', context()) == Returned(content="HI!?")


async def test_annotations_as_text_are_resolved_and_a_return_type_need_not_be() -> None:
    def paint(point: "Point", colour: "list[Colour]", where: "ToolContext") -> "Nowhere":  # type: ignore[name-defined]  # noqa: F821
        return f"{point.x} {colour[0].name} {where.attempt}"

    made = tool(paint)
    assert set(made.spec.parameters["properties"]) == {"point", "colour"}
    result = await made.perform('{"point": {"x": 1}, "colour": ["red"]}', context(attempt=2))
    assert result == Returned(content="1 RED 2")


def no_type(item) -> str: ...  # type: ignore[no-untyped-def, empty-body]
def star(*items: str) -> str: ...  # type: ignore[empty-body]
def stars(**items: str) -> str: ...  # type: ignore[empty-body]
def by_place(item: str, /) -> str: ...  # type: ignore[empty-body]
def unsupported(item: complex) -> str: ...  # type: ignore[empty-body]
def nested(item: list[Absent]) -> str: ...  # type: ignore[empty-body]
def ambiguous(item: Point | Box) -> str: ...  # type: ignore[empty-body]
def forward(item: "Nowhere") -> str: ...  # type: ignore[empty-body, name-defined]  # noqa: F821
def two(one: ToolContext, other: ToolContext | None) -> str: ...  # type: ignore[empty-body]
def generator(item: str) -> Iterator[str]:
    yield item


async def async_generator(item: str) -> AsyncIterator[str]:
    yield item


async def waits(call: ProposedCall) -> bool:
    return True


def fine(item: str) -> str:
    return item


@pytest.mark.parametrize(
    ("define", "fault"),
    [
        (lambda: tool(no_type), "Parameter item of no_type has no type"),
        (lambda: tool(star), r"Parameter \*items of star cannot be given by name"),
        (lambda: tool(stars), r"Parameter \*\*items of stars cannot be given by name"),
        (lambda: tool(by_place), "Parameter item of by_place cannot be given by name"),
        (lambda: tool(unsupported), "Parameter item of unsupported has a type that JSON cannot carry: .*complex"),
        (lambda: tool(nested), "Parameter item of nested has a type that JSON cannot carry: .*Absent"),
        (lambda: tool(ambiguous), "Parameter item of ambiguous has a type that JSON cannot carry"),
        (lambda: tool(forward), "type of parameter item of forward is not known: name 'Nowhere'"),
        (lambda: tool(two), "two has two contexts: one and other"),
        (lambda: tool(generator), "generator is a generator"),
        (lambda: tool(async_generator), "async_generator is a generator"),
        (lambda: tool(Shop.order), "Parameter self of order has no type"),
        (lambda: tool(Shop), "is not a function"),
        (lambda: tool(lambda: None), "'<lambda>' cannot name a tool"),
        (lambda: tool(fine, name="not this"), "'not this' cannot name a tool"),
        (lambda: tool(fine, name="x" * 65), "cannot name a tool"),
        (lambda: tool(fine, name="x\n"), "cannot name a tool"),
        (lambda: tool(fine, timeout=0), "cannot have a timeout of 0 seconds"),
        (lambda: tool(fine, timeout=float("nan")), "cannot have a timeout of nan seconds"),
        (lambda: tool(fine, needs_approval=waits), "neither a bool nor a plain function"),  # type: ignore[arg-type]
        (lambda: tool(fine, needs_approval="yes"), "neither a bool nor a plain function"),  # type: ignore[call-overload]
        (lambda: ask(complex), "cannot be the type of an answer"),
        (lambda: Retry(on=(KeyboardInterrupt,)), "on is not a tuple of Exception classes"),  # type: ignore[arg-type]
        (lambda: Retry(on=ValueError), "on is not a tuple of Exception classes"),  # type: ignore[arg-type]
        (lambda: Retry(on=(ValueError,), attempts=0), "attempts is less than 1"),
        (lambda: Retry(on=(ValueError,), first=-1), "first is not a time"),
        (lambda: Retry(on=(ValueError,), factor=0.5), "factor is less than 1"),
        (lambda: Retry(on=(ValueError,), first=9, most=1), "most is less than first"),
        (lambda: Retry(on=(ValueError,), jitter=1.5), "jitter is not between 0 and 1"),
    ],
)
def test_what_cannot_be_a_tool_is_refused_where_it_is_defined(define: Callable[[], Any], fault: str) -> None:
    with pytest.raises(ToolDefinition, match=fault) as caught:
        define()
    assert caught.value.hint
