"""JSON schemas from types, and one strict reader for the JSON text that a model or a person writes to fit them."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from caesura.continuations import Json, ModelError, plain_text

MAX_DEPTH = 64
"""How deep JSON text may nest. Nobody needs more, and what comes later walks the value recursively."""

_BRIEF = 600


class Misfit(ModelError):
    """JSON text is not JSON, or does not fit the type that was asked for."""


def schema_of(type_: Any) -> dict[str, Json]:
    """The JSON schema of a type that msgspec supports, in one piece: everything it refers to is in its ``$defs``.

    The outermost schema is spelled out, never a ``$ref``: several model APIs want ``"type": "object"`` on top.

    Raises:
        TypeError, NameError: the type, or one inside it, has no schema.
    """
    (schema,), definitions = msgspec.json.schema_components([type_], ref_template="#/$defs/{name}")
    reference = schema.get("$ref")
    if reference is not None:
        name = reference.removeprefix("#/$defs/")
        schema = {**definitions[name], **{key: value for key, value in schema.items() if key != "$ref"}}
        if reference not in _references([schema, *(body for key, body in definitions.items() if key != name)]):
            del definitions[name]
    return {**schema, "$defs": definitions} if definitions else schema


def read_json(decoder: msgspec.json.Decoder[Any], text: str) -> Any:
    """Decode JSON text into the decoder's type, as strictly as msgspec does, and more so.

    Nothing is guessed: ``"5"`` and ``5.0`` are no int, ``1`` is no bool; only an int stands for a float. Beyond
    msgspec, an object that has a key twice is refused, because two readers could act on different values, and so is
    a value nested more than `MAX_DEPTH` levels deep.

    Raises:
        Misfit: the text is not JSON or does not fit; says what is wrong, and where.
    """
    try:
        _check_form(text)
        return decoder.decode(text)
    except RecursionError:
        fault = _too_deep()
    except UnicodeEncodeError:
        fault = "The text holds half of a surrogate pair, which is no character"
    except json.JSONDecodeError as error:
        fault = f"The text is not JSON: {error}"
    except ValueError as error:  # msgspec's own errors are ValueErrors too
        fault = str(error)
    except Exception as error:  # noqa: BLE001 - a type's own __post_init__ may raise anything
        fault = f"{type(error).__name__}: {error}"
    raise Misfit(plain_text(f"{fault}."), hint="Write JSON that fits the schema.")


def check(type_: Any, text: str) -> str | None:
    """Say how JSON text misses a type, as a clause without a full stop; None if it fits.

    Raises:
        TypeError, NameError: msgspec does not support the type.
    """
    try:
        read_json(msgspec.json.Decoder(type_), text)
    except Misfit as error:
        return str(error).removesuffix(".")
    return None


def brief(schema: Mapping[str, Json]) -> str:
    """A schema in one short line for a reader in a hurry: ``{item: string, amount: number, note?: string}``."""
    line = _brief(schema, schema.get("$defs", {}), 4)
    return line if len(line) <= _BRIEF else line[: _BRIEF - 1] + "…"


def _references(value: Json) -> set[str]:
    if isinstance(value, Mapping):
        own = {value["$ref"]} if isinstance(value.get("$ref"), str) else set()
        return own.union(*map(_references, value.values()))
    if isinstance(value, list):
        return set().union(*map(_references, value))
    return set()


def _check_form(text: str) -> None:
    # The value is thrown away: msgspec reads the text again. Integers stay text, because making huge ones is slow.
    value = _FORM.decode(text)
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        level = [child for node in level for child in _children(node)]
        if not level:
            return
    raise ValueError(_too_deep())


def _children(node: Json) -> Iterable[Json]:
    if isinstance(node, dict):
        return node.values()
    return node if isinstance(node, list) else ()


def _too_deep() -> str:
    return f"The value is nested more than {MAX_DEPTH} levels deep"


def _object(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    value: dict[str, Json] = {}
    for key, item in pairs:
        if key in value:
            raise ValueError(f"The object has the key `{key}` twice")
        value[key] = item
    return value


def _constant(name: str) -> Json:
    raise ValueError(f"{name} is not JSON")


_FORM = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_constant, parse_int=str)


def _brief(schema: Mapping[str, Json], definitions: Mapping[str, Json], depth: int) -> str:
    if "$ref" in schema:
        name = schema["$ref"].removeprefix("#/$defs/")
        return _brief(definitions[name], definitions, depth - 1) if depth else name
    if "enum" in schema:
        return " | ".join(json.dumps(value, ensure_ascii=False) for value in schema["enum"])
    if "anyOf" in schema:
        return " | ".join(_brief(option, definitions, depth) for option in schema["anyOf"])
    kind = schema.get("type", "any")
    if kind == "array" and depth and isinstance(schema.get("items"), Mapping):
        return f"[{_brief(schema['items'], definitions, depth - 1)}]"
    if kind == "object" and depth and "properties" in schema:
        required = schema.get("required", ())
        fields = (
            f"{name}{'' if name in required else '?'}: {_brief(part, definitions, depth - 1)}"
            for name, part in schema["properties"].items()
        )
        return "{" + ", ".join(fields) + "}"
    return f"{kind} ({schema['format']})" if "format" in schema else str(kind)
