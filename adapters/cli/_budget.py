"""Budgets, as the command line takes them."""

from typing import Annotated

from cyclopts import Parameter
from msgspec.structs import replace

from caesura.continuations import Budget

from ._faults import BadUsage

Steps = Annotated[
    int | None, Parameter(name="--budget-steps", help="Suspend after so many model calls, nested ones included.")
]
Tokens = Annotated[int | None, Parameter(name="--budget-tokens", help="Suspend after so many tokens, in and out.")]
Seconds = Annotated[float | None, Parameter(name="--budget-seconds", help="Suspend after so many seconds of work.")]


def budget_of(own: Budget, steps: int | None, tokens: int | None, seconds: float | None) -> Budget:
    """A budget with these limits in the place of its own.

    Raises:
        BadUsage: one is not above zero.
    """
    given = {"steps": steps, "tokens": tokens, "seconds": seconds}
    for name, limit in given.items():
        if limit is not None and not limit > 0:
            raise BadUsage(f"--budget-{name} must be more than 0.", hint="Leave it out for no limit.")
    return replace(own, **{name: limit for name, limit in given.items() if limit is not None})
