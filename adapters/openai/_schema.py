"""JSON schemas as OpenAI's structured output takes them.

Source: https://platform.openai.com/docs/guides/structured-outputs#supported-schemas
"""

import re
from typing import Any

from caesura.continuations import Json

from ._values import mapping, sequence

_STRICT_KEYWORDS = frozenset(
    {"type", "title", "description", "enum", "const", "anyOf", "$ref", "$defs", "definitions"}
    | {"properties", "required", "additionalProperties", "items", "minItems", "maxItems", "pattern", "format"}
    | {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"}
)


def result_format(agent: str, schema: Json) -> dict[str, Any] | None:
    """Name, schema and strictness for a `json_schema` format; None where the API takes no such schema.

    The API wants an object at the root. Any other result is left to the model's instructions and to the check of
    the final answer.
    """
    if mapping(schema).get("type") != "object":
        return None
    name = re.sub(r"[^a-zA-Z0-9_-]", "_", agent)[:64] or "result"
    return {"name": name, "schema": schema, "strict": strict(schema)}


def strict(schema: Json) -> bool:
    """Whether strict mode takes this schema: known keywords only, and every object closed with all it has required."""
    if not isinstance(schema, dict) or not schema.keys() <= _STRICT_KEYWORDS:
        return False
    kind = schema.get("type")
    if kind == "object" or "object" in sequence(kind) or "properties" in schema:
        properties = mapping(schema.get("properties"))
        if schema.get("additionalProperties") is not False or set(sequence(schema.get("required"))) != set(properties):
            return False
    elif not schema.keys() & {"type", "enum", "const", "anyOf", "$ref"}:
        return False
    inner = [
        *mapping(schema.get("properties")).values(),
        *mapping(schema.get("$defs")).values(),
        *mapping(schema.get("definitions")).values(),
        *sequence(schema.get("anyOf")),
        *([schema["items"]] if "items" in schema else []),
    ]
    return all(strict(part) for part in inner)


def parameters(schema: Json) -> dict[str, Any]:
    """A tool's parameters; a tool without any takes an empty object, which some servers want said."""
    return mapping(schema) or {"type": "object", "properties": {}}
