"""Export and import: continuations of agent-continuations, and loops whole in bundles."""

import json as jsonlib
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import msgspec
from cyclopts import Parameter

from caesura.continuations import (
    Arrival,
    CallerError,
    CommitId,
    ExportedBranch,
    GitStore,
    LoopName,
    Loops,
    count,
    is_bundle,
    parent_name,
    root_of,
    shell_quoted,
)

from ._decide import tell_rest
from ._faults import BadUsage
from ._json import decided_json
from ._options import STDIN, By, Json, Place, Repo, place, shown
from ._output import Page, err, out, passing, write_json, write_text
from ._task import Agents, ModelApi, ModelName, Task, make_task


class BadFile(CallerError):
    """What is to be imported cannot be read."""


def export_(
    *revisions: Annotated[
        str,
        Parameter(
            help="A loop, or any git revision of one: a branch, 'name~3', a commit. For a bundle: loops.",
            show_default=False,
        ),
    ],
    bundle: Annotated[
        Path | None, Parameter(name="--bundle", help="Write the loops, whole with their history, to this file.")
    ] = None,
    workspace: Annotated[
        str | None,
        Parameter(name="--workspace", help="Make this branch, in the project that the loop's files are from, of them."),
    ] = None,
    to: Annotated[
        Path | None, Parameter(name="--to", help="With --workspace: another repository to make the branch in.")
    ] = None,
    form: Annotated[
        bool,
        Parameter(
            name="--form", negative="--no-form", help="List every request for its decision. --no-form decides nothing."
        ),
    ] = True,
    repo: Repo = None,
    json: Json = False,
) -> None:
    """Write a loop as the continuation object of agent-continuations, to standard output; or loops as a bundle; or a
    loop's files as a branch.

    The object is JSON, nested as the agents are. What the format has no place for is left out.

    With --bundle, loops are written to a file of git's own format, with all that is nested in them and all their
    history, for 'caesura import FILE' on another machine. With --json: {"bundle", "loops": {loop: commit}}.

    With --workspace, the files come back to the project: a branch that merges with plain git, with a commit for each
    step that changed some, by the agent, with whoever approved it as co-author. The trailer Caesura-Commit of each
    names the step, for 'caesura show'. The same command again moves the branch forward; a branch that somebody else
    has moved, or that is checked out, is refused. With --json: {"project", "branch", "commit", "was", "commits"}.
    """
    if not revisions:
        raise BadUsage("Nothing is named.", hint="Name a loop, or several for a bundle: --bundle FILE.")
    revision, *more = revisions
    if workspace is None and to is not None:
        raise BadUsage("--to takes a branch.", hint="Name it too: --workspace BRANCH.")
    if workspace is not None and (more or bundle is not None):
        raise BadUsage("One loop at a time makes a branch.", hint="Name one loop, and no --bundle.")
    if more and bundle is None:
        raise BadUsage(
            "One loop at a time makes a continuation object.", hint="Several loops go into a bundle: --bundle FILE."
        )
    with place(repo).loops() as loops:
        if bundle is not None:
            _bundled(bundle, loops.export_bundle(*revisions, file=bundle), json=json)
            return
        if workspace is not None:
            _returned(loops.export_files(revision, workspace, to=to), json=json)
            return
        document = loops.export(revision, form=form)
    if json:
        write_json(document)
    else:
        write_text(jsonlib.dumps(document, indent=2))


def _bundled(file: Path, heads: Mapping[LoopName, CommitId], *, json: bool) -> None:
    if json:
        write_json({"bundle": str(file), "loops": dict(heads)})
        return
    roots = sorted({root_of(loop) for loop in heads})
    out(Page().add(f"{shown(file)} holds {', '.join(roots)}."))
    err(Page().add(("on the other machine: ", "dim"), (f"caesura import {file.name}", "green")))


def _returned(made: ExportedBranch, *, json: bool) -> None:
    if json:
        write_json(msgspec.to_builtins(made))
        return
    page = Page()
    where, project = f"{made.branch} in {shown(Path(made.project))}", shell_quoted(made.project)
    if made.commit == made.was:
        out(page.add(where, (" has all of it already", "dim"), f", at {made.commit[:10]}."))
    else:
        out(page.add((where, "bold"), f" is at {made.commit[:10]}: {count(made.commits, 'commit')} of the loop's."))
    if (Path(made.project) / ".git").exists():  # in a bare repository nothing is merged
        err(Page().add(("take it over: ", "dim"), (f"git -C {project} merge {made.branch}", "green")))


def import_(
    loop: Annotated[
        str, Parameter(help="The name of the loop to make. For a bundle it may be left out.", show_default=False)
    ],
    file: Annotated[
        str | None,
        Parameter(help="The continuation object, or a bundle; - reads an object from standard input."),
    ] = None,
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
    """Make a loop of a continuation object of agent-continuations, and decide what its form decides; or take a bundle.

    A bundle, which 'caesura export --bundle' makes, is verified first, as 'caesura verify' does; then its loops are
    loops here, or go on as far as they did there. One that went on otherwise here is refused: give it another name.

    With --json: {"loop", "status", "commit", "pending"}; for a bundle {"loops": [{"loop", "commit", "was"}]}.
    """
    where = place(repo, writes=True)
    named, source = (None, loop) if file is None else (loop, file)
    if source != STDIN and is_bundle(Path(source)):
        if agent is not None or agents is not None or model is not None or api is not None or not decide:
            raise BadUsage("A bundle needs no agents, and decides nothing.", hint="Leave the options out.")
        store = GitStore.open(where.repo, create=True, durability=where.config.durability)
        with Loops(store, redaction=where.config.redaction) as loops:
            arrivals = loops.import_bundle(source, named, progress=_progress)
            passing("")
        _arrived(arrivals, json=json)
        return
    if named is None:
        raise BadUsage(
            f"{source} is no bundle, and a continuation object needs a name.", hint="caesura import LOOP FILE"
        )
    _make(where, named, source, make_task(where, agents, agent, model=model, api=api), decide=decide, by=by, json=json)


def _make(where: Place, name: str, source: str, task: "Task", *, decide: bool, by: str | None, json: bool) -> None:
    """Make a loop of a continuation object."""
    from ._agents import everyone

    document = _read(source)
    specs = [one.spec(task.spec_of(one)) for one in everyone([task.agent])]
    config = where.config
    store = GitStore.open(where.repo, create=True, durability=config.durability, visibility=config.visibility)
    with Loops(store, redaction=where.config.redaction) as loops:
        saved = loops.import_(name, document, agent=specs[0], agents=specs, by=by, decide=decide)
        if json:
            write_json(decided_json(loops, saved, loops.pending(saved.loop)))
            return
        out(Page().add(saved.loop))
        tell_rest(task.where, loops, saved, to=err)


def _progress(commits: int) -> None:
    passing(f"{count(commits, 'commit')} checked …")


def _arrived(arrivals: Sequence[Arrival], *, json: bool) -> None:
    if json:
        write_json({"loops": [{"loop": one.loop, "commit": one.commit, "was": one.was} for one in arrivals]})
        return
    page = Page()
    for one in arrivals:
        tree = [other for other in arrivals if root_of(other.loop) == one.loop]
        if parent_name(one.loop) is not None:
            continue
        if one.was is None:
            told = "is here now"
        else:
            told = (
                "went on to where the bundle has it" if any(each.moved for each in tree) else "is as far here already"
            )
        nested = f", with {count(len(tree) - 1, 'loop')} nested in it" if len(tree) > 1 else ""
        page.add((one.loop, "bold"), f" {told}{nested}.")
    out(page)


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
