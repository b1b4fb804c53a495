"""Whether a JSON value fits a JSON schema: for answers and edited arguments, without any of the agent's code."""

from ._errors import CallerError
from ._messages import Json
from ._specs import ToolSpec


class InvalidAnswer(CallerError):
    """An answer, or an edited argument, does not have the form that was asked for."""


def misfit(value: Json, schema: Json) -> str | None:
    """How a value misses a schema, in one sentence that names the place; None if it fits."""
    # A tenth of a second to import, for the few times that an answer or an edit comes.
    from jsonschema import Draft202012Validator, FormatChecker
    from jsonschema.exceptions import best_match

    validator = Draft202012Validator(schema, format_checker=FormatChecker())
    error = best_match(validator.iter_errors(value))
    if error is None:
        return None
    return f"{error.message} (at {error.json_path})"


def check_edit(tool: ToolSpec | None, name: str, arguments: Json) -> None:
    """Check that a tool of that name can be called with arguments that a person puts in the place of the model's.

    Raises:
        InvalidAnswer: it cannot.
    """
    if tool is not None and tool.kind in ("question", "sleep"):
        # What it asks, or until when it sleeps, was read from the model's arguments when it was proposed.
        raise InvalidAnswer(
            f"The arguments of {name} cannot be edited.", hint="Reject it, and say what to ask for instead."
        )
    problem = "there is no such tool" if tool is None else misfit(arguments, tool.parameters)
    if problem is not None:
        raise InvalidAnswer(
            f"The edited arguments do not fit {name}: {problem}.", hint="Nothing was decided; mend them."
        )
