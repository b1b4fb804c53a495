"""The signature and docstring of a function, read as the parameters of a tool."""

import functools
import inspect
import re
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import docstring_parser
import msgspec

from caesura.continuations import Json, ToolError

from ._context import ToolContext
from ._schema import read_json, schema_of

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")


class ToolDefinition(ToolError):
    """A function, or what is said about it, cannot make a tool."""


@dataclass(frozen=True)
class Signature:
    """A function as a tool: `parameters` is its JSON schema, `context` the name of its parameter for the context."""

    name: str
    description: str
    parameters: Mapping[str, Json]
    context: str | None
    is_async: bool
    decoder: msgspec.json.Decoder[Any]

    def read(self, text: str) -> dict[str, Any]:
        """Keyword arguments out of JSON text, defaults filled in; no text at all counts as ``{}``.

        Raises:
            Misfit: the text does not fit the parameters.
        """
        values = read_json(self.decoder, text if text.strip() else "{}")
        return {name: getattr(values, name) for name in self.parameters["properties"]}


def signature_of(function: Callable[..., Any], name: str | None, description: str | None) -> Signature:
    """Read a function, bound method, partial or callable object; `name` and `description` replace its own.

    What a partial has bound is not a parameter any more: the model neither sees nor sets it.

    Raises:
        ToolDefinition: the function cannot be a tool.
    """
    if not callable(function) or inspect.isclass(function):
        raise ToolDefinition(f"{function!r} is not a function.", hint="Give 'tool' a function or a bound method.")
    bare = _bare(function)
    code = _code(bare)
    if name is None:
        name = str(getattr(bare, "__name__", type(bare).__name__))
    if _NAME.fullmatch(name) is None:
        raise ToolDefinition(
            f"{name!r} cannot name a tool.",
            hint="Use 1 to 64 letters, digits, '_' and '-'; give another with name=.",
        )
    if any(map(inspect.isgeneratorfunction, (bare, code))) or any(map(inspect.isasyncgenfunction, (bare, code))):
        raise ToolDefinition(
            f"{name} is a generator: a call has one result.",
            hint="Return the whole result, and report progress through a ToolContext.",
        )
    summary, documented = _documentation(code.__doc__ or ("" if code is bare else type(bare).__doc__) or "")
    fields, defaults, context = _fields(name, function)
    decoder, parameters = _contract(name, fields, defaults)
    for parameter, schema in parameters["properties"].items():
        if parameter in documented:
            schema.setdefault("description", documented[parameter])
    return Signature(
        name=name,
        description=summary if description is None else description,
        parameters=parameters,
        context=context,
        is_async=inspect.iscoroutinefunction(bare) or inspect.iscoroutinefunction(code),
        decoder=decoder,
    )


def _bare(function: Any) -> Any:
    while isinstance(function, functools.partial):
        function = function.func
    return function


def _code(bare: Any) -> Any:
    """The plain function that a callable object or a method runs."""
    return bare if inspect.isroutine(bare) else type(bare).__call__


def _fields(name: str, function: Callable[..., Any]) -> tuple[dict[str, Any], dict[str, Any], str | None]:
    """The types of the parameters that a model sets, the defaults, and the parameter for the context."""
    try:
        signature = inspect.signature(function)
    except (ValueError, TypeError) as error:
        raise ToolDefinition(f"The parameters of {name} cannot be known.", hint="Wrap it in a function.") from error
    bound = function.keywords if isinstance(function, functools.partial) else {}
    fields: dict[str, Any] = {}
    defaults: dict[str, Any] = {}
    context = None
    for parameter in signature.parameters.values():
        if parameter.name in bound:
            continue
        hint = _hint(name, function, parameter)
        if _is_context(hint):
            if context is not None:
                raise ToolDefinition(
                    f"{name} has two contexts: {context} and {parameter.name}.",
                    hint="One parameter annotated ToolContext is enough.",
                )
            context = parameter.name
            continue
        fields[parameter.name] = hint
        if parameter.default is not parameter.empty:
            defaults[parameter.name] = parameter.default
    return fields, defaults, context


def _hint(name: str, function: Callable[..., Any], parameter: inspect.Parameter) -> Any:
    if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD, parameter.POSITIONAL_ONLY):
        raise ToolDefinition(
            f"Parameter {str(parameter).partition(':')[0]} of {name} cannot be given by name.",
            hint="Name every parameter: no *args, no **kwargs, nothing before a '/'.",
        )
    if parameter.annotation is parameter.empty:
        raise ToolDefinition(
            f"Parameter {parameter.name} of {name} has no type.",
            hint="Make a tool of the bound method: tool(thing.method)."
            if parameter.name in ("self", "cls")
            else f"Annotate it, as in '{parameter.name}: str'.",
        )

    def probe() -> None: ...

    # One parameter at a time, so that the error can name it, and a return type need not be importable.
    probe.__annotations__ = {parameter.name: parameter.annotation}
    code = inspect.unwrap(_code(_bare(function)))
    try:
        hints = typing.get_type_hints(probe, globalns=getattr(code, "__globals__", {}), include_extras=True)
    except Exception as error:  # an annotation is any expression
        raise ToolDefinition(
            f"The type of parameter {parameter.name} of {name} is not known: {error}.",
            hint="Types in quotes, or under 'from __future__ import annotations', must be names of the module.",
        ) from error
    return hints[parameter.name]


def _is_context(hint: Any) -> bool:
    origin = typing.get_origin(hint)
    if origin is typing.Annotated:
        return _is_context(typing.get_args(hint)[0])
    if origin in (typing.Union, types.UnionType):
        return all(_is_context(option) for option in typing.get_args(hint) if option is not types.NoneType)
    return hint is ToolContext


def _contract(
    name: str, fields: Mapping[str, Any], defaults: Mapping[str, Any]
) -> tuple[msgspec.json.Decoder[Any], dict[str, Json]]:
    for parameter, hint in fields.items():
        # Schemas and decoders refuse different types.
        try:
            schema_of(hint)
            msgspec.json.Decoder(hint)
        except Exception as error:  # resolving a user's type may run any code
            reason = str(error).strip().splitlines()[-1:] or [type(error).__name__]
            raise ToolDefinition(
                f"Parameter {parameter} of {name} has a type that JSON cannot carry: {reason[0]}.",
                hint="Use the types that msgspec supports: str, int, list, dict, Literal, Enum, Struct, dataclass…",
            ) from error
    struct = msgspec.defstruct(
        "Arguments",
        # A factory hands the very default on, as Python does; msgspec would refuse or copy mutable ones.
        [
            (key, hint, msgspec.field(default_factory=functools.partial(_same, defaults[key])))
            if key in defaults
            else (key, hint)
            for key, hint in fields.items()
        ],
        kw_only=True,
        forbid_unknown_fields=True,
    )
    parameters = schema_of(struct)
    del parameters["title"]
    for parameter, default in defaults.items():
        try:
            # Deterministic, or a set would give the tool another digest in each process.
            value = msgspec.to_builtins(default, order="deterministic")
            msgspec.json.encode(value)
        except (TypeError, ValueError, OverflowError, RecursionError):
            continue  # a marker of the function's own: it applies, but nobody can be shown it
        parameters["properties"][parameter]["default"] = value
    return msgspec.json.Decoder(struct), parameters


def _same(value: Any) -> Any:
    return value


def _documentation(docstring: str) -> tuple[str, dict[str, str]]:
    """What a docstring says of the whole, and of each parameter."""
    text = inspect.cleandoc(docstring)
    try:
        parsed = docstring_parser.parse(text)
    except docstring_parser.ParseError:
        return text, {}
    described = {
        name.strip(" *`"): parameter.description
        for parameter in parsed.params
        if parameter.description
        for name in parameter.arg_name.split(",")
    }
    return (parsed.description or "").strip(), described
