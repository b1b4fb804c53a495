"""The demo: the first time it starts a loop, from then on it goes on with it."""

import os
from contextlib import nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from caesura.continuations import NoSuchLoop, Unavailable, loop_name, shell_quoted

from ._drive import drive
from ._options import Json, Repo, place, shown
from ._output import Page, err
from ._paste import option
from ._task import ModelName, Task

if TYPE_CHECKING:
    from caesura.runtime import Outcome, Runtime


def demo(
    *,
    loop: Annotated[
        str, Parameter(name="--loop", help="The loop to start, or to go on with. Default: onboarding")
    ] = "onboarding",
    model: ModelName = None,
    repo: Repo = None,
    json: Json = False,
) -> int:
    """Watch agents onboard somebody, stop for two decisions, and go on once you have made them.

    Run it, decide as it says, and run it again. What its tools do is left in the folder onboarding/. A scripted model
    plays along, behind a real HTTP server on this machine: it needs no key. With OPENAI_API_KEY set, a real one
    does (--model, else gpt-5-mini), at OPENAI_BASE_URL if that is set.

    With --json: {"loop", "status", "text", "result", "pending", "spent", "commit"}.
    """
    from caesura.adapters.demo import PROMPT, lead, scripted_model
    from caesura.adapters.openai import OpenAIModel

    where, name = place(repo), loop_name(loop)
    again = "caesura demo" if loop == "onboarding" else f"caesura demo {option('--loop', loop)}"
    where = replace(where, paste=replace(where.paste, known=lambda _: again))
    real = OpenAIModel(model or "gpt-5-mini") if model is not None or "OPENAI_API_KEY" in os.environ else None
    serve = scripted_model if real is None else lambda: nullcontext(real)
    task = Task(where=where, agent=lead, model=real, serve=serve)

    async def perform(runtime: "Runtime") -> "Outcome":
        if begun:
            return await runtime.resume(name)
        return await runtime.run(lead, PROMPT, loop=name)

    begun = False
    try:
        with where.loops() as loops:
            begun = loops.info(name).name == name
    except (NoSuchLoop, Unavailable):
        if not json:
            err(Page().add(PROMPT).add())
    status = drive(task, perform, name, json=json)
    if status == 0 and not json:
        log = f"git -C {shell_quoted(shown(where.repo))} log --graph --oneline --branches='loops/*'"
        err(Page().add().add(("what happened: ", "dim"), (log, "green")))
    return status
