"""Whether a JSON value fits a JSON schema: for answers and edited arguments, without any of the agent's code."""

import json

from ._errors import CallerError
from ._ids import Address
from ._messages import Json
from ._specs import ToolSpec


class InvalidAnswer(CallerError):
    """An answer, or an edited argument, does not have the form that was asked for."""


def written(value: Json, what: str) -> str:
    """A value as JSON; by `what` it is told.

    Raises:
        InvalidAnswer: it is no JSON.
    """
    try:
        return json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError) as error:
        raise InvalidAnswer(
            f"{what} cannot be written as JSON: {error}.",
            hint="Nothing was decided. JSON has texts, but no bytes.",
        ) from error


def misfit(value: Json, schema: Json) -> str | None:
    """How a value misses a schema, in one sentence that names the place; None if it fits.

    A schema may come from a stranger's repository. One that cannot be used fits nothing, and none is fetched.
    """
    # A tenth of a second to import, for the few times that an answer or an edit comes.
    from jsonschema import Draft202012Validator, FormatChecker
    from jsonschema.exceptions import best_match
    from referencing import Registry

    try:
        # A registry of its own: the default one would fetch what a schema refers to.
        validator = Draft202012Validator(schema, format_checker=FormatChecker(), registry=Registry())
        error = best_match(validator.iter_errors(value))
    except Exception as fault:  # noqa: BLE001  # nothing is known of a schema that was never checked
        return f"the schema that it should fit cannot be used ({type(fault).__name__})"
    return None if error is None else f"{error.message} (at {error.json_path})"


def check_answer(request: Address, value: Json, schema: Json) -> None:
    """Check an answer.

    Raises:
        InvalidAnswer: it does not fit the question's schema.
    """
    problem = misfit(value, schema)
    if problem is not None:
        raise InvalidAnswer(
            f"This does not answer {request}: {problem}.",
            hint=f"It must fit {json.dumps(schema, ensure_ascii=False)}. The question still waits.",
        )


def check_edit(tool: ToolSpec | None, name: str, arguments: Json) -> None:
    """Check the arguments that a person puts in the place of the model's.

    Raises:
        InvalidAnswer: they do not fit the tool of that name, or none do.
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
