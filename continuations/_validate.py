"""Whether a JSON value fits a JSON schema: for answers and edited arguments, without any of the agent's code."""

from ._messages import Json


def misfit(value: Json, schema: Json) -> str | None:
    """How a value misses a schema, in one sentence that names the place; None if it fits."""
    import jsonschema  # a tenth of a second to import, and only these two uses

    validator = jsonschema.Draft202012Validator(schema, format_checker=jsonschema.FormatChecker())
    error = jsonschema.exceptions.best_match(validator.iter_errors(value))
    if error is None:
        return None
    return f"{error.message} (at {error.json_path})"
