"""Running and resuming: the commands that need agents, a model and an event loop."""

import os
import sys
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import msgspec
from cyclopts import Parameter

from caesura.continuations import CallerError, LoopName, Status, loop_name, utc_now

from ._budget import Seconds, Steps, Tokens, budget_of
from ._faults import BadUsage, Exit
from ._json import pending_json, spent_json
from ._options import Json, Repo, place, text_from
from ._output import Page, err, write_json, write_text
from ._screen import spent_text, summary, waiting_page
from ._shown_files import look_at
from ._task import Agents, ModelApi, ModelName, Task, make_task, task_of

if TYPE_CHECKING:
    from caesura.runtime import Outcome, Runtime

Wait = Annotated[
    bool, Parameter(name="--wait", negative="", help="Stay while the loop waits, and go on as decisions arrive.")
]


def run(
    agent_or_prompt: Annotated[
        str,
        Parameter(
            help="The agent: module.py:agent, package.module:agent, or the name of one in caesura.toml. Alone:"
            " the prompt for the first agent of caesura.toml.",
            show_default=False,
        ),
    ],
    prompt: Annotated[str | None, Parameter(help="What it is to do; - reads it from standard input.")] = None,
    /,
    *,
    agent: Annotated[
        str | None, Parameter(name="--agent", help="The agent, named as above, with the prompt as the only argument.")
    ] = None,
    agents: Agents = None,
    loop: Annotated[
        str | None, Parameter(name="--loop", help="The loop's name. Default: the agent's, and four random digits")
    ] = None,
    workspace: Annotated[
        Path | None,
        Parameter(name="--workspace", help="A folder that the agent works on: its files become a part of each commit."),
    ] = None,
    origin: Annotated[
        str | None,
        Parameter(
            name="--from",
            help="Begin with the files of a commit of a project, as ../project@main, put into --workspace, which must"
            " be empty or not there; without it, into a folder of the loop's own.",
        ),
    ] = None,
    borrow: Annotated[
        bool,
        Parameter(name="--borrow", negative="", help="With --from: do not copy the files; the project has to stay."),
    ] = False,
    wait: Wait = False,
    budget_steps: Steps = None,
    budget_tokens: Tokens = None,
    budget_seconds: Seconds = None,
    model: ModelName = None,
    api: ModelApi = None,
    repo: Repo = None,
    json: Json = False,
) -> int:
    """Start a loop and drive it until it ends, or until all that is left waits for somebody.

    The result goes to standard output, progress and what waits to standard error. Ctrl-C lets running tools finish
    and leaves the loop resumable; a second Ctrl-C leaves at once, and loses nothing that was committed.

    With --json: {"loop", "status", "text", "result", "pending", "spent", "commit"}.
    """
    where = place(repo, writes=True)
    if agent is not None and prompt is not None:
        raise BadUsage("The agent was named twice.", hint="Use --agent or the first argument, not both.")
    named, text = (agent, agent_or_prompt) if prompt is None else (agent_or_prompt, prompt)
    if borrow and origin is None:
        raise BadUsage("There is nothing to borrow.", hint="Say from which project: --from ../project@main.")
    task = make_task(where, agents, named, prompt=text, model=model, api=api)
    content = text_from(text, "for the agent to do")
    budget = budget_of(task.agent.budget, budget_steps, budget_tokens, budget_seconds)

    async def start(runtime: "Runtime") -> "Outcome":
        return await runtime.run(
            task.agent,
            content,
            loop=loop,
            budget=budget,
            workspace=workspace,
            origin=origin,
            borrow=borrow,
            wait=wait,
        )

    return drive(replace(task, wait=wait), start, None if loop is None else LoopName(loop), json=json)


def resume(
    loop: Annotated[str, Parameter(help="The root loop's name; 'caesura loops' lists them.", show_default=False)],
    /,
    *,
    agents: Agents = None,
    wait: Wait = False,
    adopt: Annotated[
        bool,
        Parameter(
            name="--adopt",
            negative="",
            help="Go on with the agents as their code is now, whatever changed; a call whose tool is gone fails.",
        ),
    ] = False,
    model: ModelName = None,
    api: ModelApi = None,
    repo: Repo = None,
    json: Json = False,
) -> int:
    """Go on with a loop from where it is, and with everything nested in it.

    A pause is lifted, and a model that could not be reached is asked again. If an agent's code is not what the loop
    knows, caesura.toml says what becomes of it. See 'caesura run --help' for the rest.

    With --json: {"loop", "status", "text", "result", "pending", "spent", "commit"}.
    """
    where = place(repo, writes=True)
    with where.loops() as loops:
        # Before any code is loaded: there may be no such loop.
        named = loops.info(loop).agent
    task = task_of(where, loop_name(loop), named, agents, model=model, api=api)

    async def go_on(runtime: "Runtime") -> "Outcome":
        return await runtime.resume(loop, wait=wait, adopt=adopt)

    return drive(replace(task, wait=wait), go_on, loop_name(loop), json=json)


def drive(task: Task, perform: "Callable[[Runtime], Awaitable[Outcome]]", loop: LoopName | None, *, json: bool) -> int:
    """Drive a loop with a task, and tell how far it has come; the exit status."""
    import trio

    from ._driving import Driving

    driving = Driving(task, loop)
    outcome = trio.run(driving.drive, perform)
    if driving.loop is not None:
        task.where.remember(driving.loop)
    if driving.left:
        # Threads of plain tools may still run, and must not keep the process.
        status = _report(task, driving.loop, outcome, interrupted=True, json=json)
        leave(status)
    return _report(task, driving.loop, outcome, interrupted=driving.interrupted, json=json)


def leave(status: int) -> NoReturn:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _report(task: Task, loop: LoopName | None, outcome: "Outcome | None", *, interrupted: bool, json: bool) -> int:
    """Tell how far the loop has come; the exit status."""
    if outcome is None:
        return _report_left(task, loop, json=json)
    final = outcome.status in (Status.COMPLETED, Status.FAILED, Status.CANCELLED)
    if json:
        write_json(_outcome_json(task, outcome))
    else:
        _tell(task, outcome, interrupted=interrupted and not final)
    if interrupted and not final:
        return Exit.INTERRUPTED
    match outcome.status:
        case Status.COMPLETED:
            return Exit.DONE
        case Status.SUSPENDED | Status.ACTIVE:
            return Exit.SUSPENDED
        case _:
            return Exit.FAILED


def _report_left(task: Task, loop: LoopName | None, *, json: bool) -> int:
    """Left at once: what is known is what is committed."""
    left = _committed(task, loop)
    if json:
        write_json(left or {"loop": loop, "status": None})
    elif left is None or loop is None:
        err(Page().add("Left before anything was committed."))
    else:
        page = Page().add("Left at once; every step so far is committed.")
        err(page.add(("go on with it: ", "dim"), (task.where.paste.resume(loop), "green")))
    return Exit.INTERRUPTED


def _committed(task: Task, loop: LoopName | None) -> dict[str, Any] | None:
    """The loop's outcome so far, as the history has it."""
    if loop is None:
        return None
    try:
        with task.where.loops() as loops:
            info, pending = loops.info(loop), pending_json(loops, loops.pending(loop))
    except CallerError:
        return None
    return {
        "loop": loop,
        "status": info.status.value,
        "text": "",
        "result": None,
        "pending": pending,
        "spent": spent_json(info.spent),
        "commit": info.commit,
    }


def _tell(task: Task, outcome: "Outcome", *, interrupted: bool) -> None:
    loop, paste = outcome.loop, task.where.paste
    spent = spent_text(outcome.spent)
    match outcome.status:
        case Status.COMPLETED:
            err(Page().add((f"{loop} completed: {spent}", "dim")))
            write_text(outcome.text)
        case Status.FAILED | Status.CANCELLED:
            verb = "failed" if outcome.status is Status.FAILED else "was cancelled"
            err(Page().add((f"{loop} {verb}: ", "bold red"), outcome.text).add((f"spent {spent}", "dim")))
            err(
                Page().add(
                    ("hint: ", "bold cyan"),
                    f"'{paste('show', loop)}' tells all; a fork of an earlier commit can go on.",
                )
            )
        case _:
            page = Page().add("")
            if interrupted:
                page.add((f"{loop} is interrupted", "bold yellow"), f" after {spent}; nothing is lost.")
            else:
                what = f": {summary(len(outcome.pending))}" if outcome.pending else ""
                page.add((f"{loop} is suspended", "bold yellow"), f"{what} (so far {spent})")
            with task.where.loops() as loops:
                page.add("").extend(waiting_page(loop, outcome.pending, paste, utc_now(), look_at(loops)))
            err(page)


def _outcome_json(task: Task, outcome: "Outcome") -> dict[str, Any]:
    with task.where.loops() as loops:
        pending = pending_json(loops, outcome.pending)
    return {
        "loop": outcome.loop,
        "status": outcome.status.value,
        "text": outcome.text,
        "result": msgspec.to_builtins(outcome.result),
        "pending": pending,
        "spent": spent_json(outcome.spent),
        "commit": outcome.commit,
    }
