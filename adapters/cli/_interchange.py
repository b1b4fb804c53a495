"""Export and import: continuations of agent-continuations."""

import json as jsonlib
import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from caesura.continuations import CallerError, GitStore, Loops

from ._decide import tell_rest
from ._json import decided_json
from ._options import STDIN, By, Json, Repo, place
from ._output import Page, err, out, write_json
from ._task import Agents, ModelApi, ModelName, make_task


class BadFile(CallerError):
    """What is to be imported cannot be read."""


def export_(
    revision: Annotated[
        str, Parameter(help="A loop, or any git revision of one: a branch, 'name~3', a commit.", show_default=False)
    ],
    /,
    *,
    form: Annotated[
        bool,
        Parameter(
            name="--form", negative="--no-form", help="List every request for its decision. --no-form decides nothing."
        ),
    ] = True,
    repo: Repo = None,
    json: Json = False,
) -> None:
    """Write a loop as the continuation object of agent-continuations, to standard output.

    The object is JSON, nested as the agents are. What the format has no place for is left out.
    """
    with place(repo).loops() as loops:
        document = loops.export(revision, form=form)
    if json:
        write_json(document)
    else:
        sys.stdout.write(jsonlib.dumps(document, indent=2) + "\n")


def import_(
    loop: Annotated[str, Parameter(help="The name of the loop to make.", show_default=False)],
    file: Annotated[str, Parameter(help="The continuation object; - reads standard input.", show_default=False)],
    /,
    *,
    agent: Annotated[str | None, Parameter(name="--agent", help="The root loop's agent, as for 'caesura run'.")] = None,
    agents: Agents = None,
    decide: Annotated[
        bool,
        Parameter(
            name="--decide",
            negative="--undecided",
            help="Decide what the form decides. --undecided is for a form that nobody has filled in.",
        ),
    ] = True,
    model: ModelName = None,
    api: ModelApi = None,
    by: By = None,
    repo: Repo = None,
    json: Json = False,
) -> None:
    """Make a loop of a continuation object of agent-continuations, and decide what its form decides.

    With --json: {"loop", "status", "commit", "pending"}.
    """
    from ._agents import everyone

    where = place(repo, writes=True)
    document = _read(file)
    task = make_task(where, agents, agent, model=model, api=api)
    specs = [one.spec(task.spec_of(one)) for one in everyone([task.agent])]
    config = where.config
    store = GitStore.open(where.repo, create=True, durability=config.durability, visibility=config.visibility)
    with Loops(store, redaction=where.config.redaction) as loops:
        saved = loops.import_(loop, document, agent=specs[0], agents=specs, by=by, decide=decide)
        if json:
            write_json(decided_json(saved, loops.pending(saved.loop)))
            return
        out(Page().add(saved.loop))
        tell_rest(task.where, loops, saved, to=err)


def _read(file: str) -> object:
    try:
        text = sys.stdin.read() if file == STDIN else Path(file).read_text(encoding="utf-8")
        return jsonlib.loads(text)
    except OSError as error:
        raise BadFile(
            f"{file} cannot be read: {error.strerror}.", hint="Name a file, or - for standard input."
        ) from error
    except (ValueError, RecursionError) as error:
        name = "Standard input" if file == STDIN else file
        raise BadFile(f"{name} is not JSON: {error}.", hint="It should be a continuation object.") from error
