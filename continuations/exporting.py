"""The way back to a project: a loop's files as a branch that merges with plain git, one commit for each step."""

import datetime as dt
import os
from collections.abc import Iterator
from functools import partial
from operator import attrgetter
from typing import NamedTuple

from ._calls import Person
from ._exported import describe_files
from ._ids import CallId, CommitId, LoopName, TreeId
from ._messages import Value
from ._trailers import trailers
from ._workspace import Origin
from .files import Filing, workspace_of
from .history import Saved
from .store import FileStep, NoProject, Project, Store

_ABSORBING = ("ChildFinished", "ChildFailed")
"""The events after which a nested loop's last commit is the last parent."""


class ExportedBranch(Value, frozen=True, kw_only=True):
    """A branch of a project that holds a loop's files: where it is, where it was before (None if there was none), and
    how many of its commits are the loop's."""

    project: str
    branch: str
    commit: CommitId
    was: CommitId | None
    commits: int


class Exporting(Filing):
    """What brings the files of loops to where they are wanted."""

    def export_files(self, revision: str, branch: str, *, to: str | os.PathLike[str] | None = None) -> ExportedBranch:
        """Make a branch in a project of the files of a loop, or of any commit of one: a commit for each step that
        changed some, after the commit that they came from; by the agent, with each person who approved as co-author.

        The trailer ``Caesura-Commit`` of each names the loop's. The project is the one that the loop's files are from,
        unless it is said. Its worktree and index are not touched. The same steps make the same commits, so that a
        branch that was made before is moved forward, and those of forks share their history.

        Raises:
            NoSuchRevision, NotALoop: there is no continuation there.
            NoFiles: it works on none, or never had one.
            NoProject: there is no such repository, or it has not got the commit that the files are from.
            BadBranch, BranchInUse: there can be no such branch, or it has commits of others, or is checked out.
            Moved, Unavailable: git refuses, or cannot do it. No branch was moved.
        """
        saved = self._history.at(revision)[0]
        workspace_of(saved)
        origin = saved.state.origin
        project = Project.open(to) if to is not None else _home(saved.loop, origin)
        steps = tuple(_steps(self._store, saved))
        made = self._store.projects().bring(project, branch, origin, steps)
        return ExportedBranch(
            project=str(project.path), branch=branch, commit=made.commit, was=made.was, commits=made.commits
        )


def _home(loop: LoopName, origin: Origin | None) -> Project:
    """The project that a loop's files are from."""
    if origin is None:
        raise NoProject(f"The files of {loop} are from no project.", hint="Say which one is to have them: --to PATH.")
    try:
        return Project.open(origin.repository)
    except NoProject as error:
        raise NoProject(
            f"The files of {loop} are from {origin.repository}, and that is no repository now.",
            hint="Say where the project is: --to PATH.",
        ) from error


class _Filed(NamedTuple):
    """A step after which the files in a loop's folder were others: the commit before it in its own loop, if any, its
    own, the files, which edition of them, and when that was."""

    before: CommitId | None
    commit: CommitId
    tree: TreeId
    edition: int
    at: dt.datetime


def _steps(store: Store, saved: Saved) -> Iterator[FileStep]:
    """The steps that changed a loop's files, the first one among them, oldest first."""
    last: TreeId | None = None
    for step in _line(store, saved.commit, set()):
        if step.tree != last:
            told = partial(_describe, store, step.before, last, step.commit, step.tree)
            yield FileStep(step.commit, step.tree, told)
        last = step.tree


def _line(store: Store, head: CommitId, seen: set[CommitId]) -> Iterator[_Filed]:
    """The steps of a loop, and of those nested in it that worked in its folder, that found other files there than the
    one before in the same loop; in the order in which they were made. `seen` are commits that are looked at already.

    What a child has done until a commit of its parent nests it was done since the one that nested it before.
    """
    projects = store.projects()
    commits: list[CommitId] = []
    for commit, _ in store.line(head):
        if commit in seen:
            break
        commits.append(commit)
    before = next(iter(store.parents(commits[-1])), None) if commits else None
    last = None if before is None else projects.files(before)
    seen.update(commits)
    for commit in reversed(commits):
        below = [step for child in _sharing(store, commit) for step in _line(store, child, seen)]
        yield from sorted(below, key=attrgetter("edition", "at"))  # who found an edition there comes after who made it
        tree = projects.files(commit)
        if tree is not None and tree != last:
            state = store.read(commit).state
            edition = 0 if state.workspace is None else state.workspace.edition
            yield _Filed(before, commit, tree, edition, state.at)
        before, last = commit, tree


def _sharing(store: Store, commit: CommitId) -> Iterator[CommitId]:
    """The commits of nested loops that a commit has as parents, and which work in its loop's folder, or did."""
    parents = store.parents(commit)[1:]
    calls = {call.nonce for call in store.read(commit).state.calls if call.kind == "agent"} if parents else set[str]()
    for parent in parents:
        state = store.read(parent).state
        if state.nonce in calls and state.shared is not None:
            yield parent


def _describe(store: Store, before: CommitId | None, last: TreeId | None, commit: CommitId, tree: TreeId) -> str:
    made = store.read(commit)
    said = trailers(made.message)
    event, call = (said.get(key, ("",))[0] for key in ("Event", "Call"))
    return describe_files(
        None if before is None else store.read(before).state,
        made.state,
        event,
        CallId(call) if call else None,
        made.author,
        [change.path for change in store.workspaces().changes(last or "", tree)],
        commit,
        _approvers(store, made.parents[-1]) if event in _ABSORBING and len(made.parents) > 1 else (),
    )


def _approvers(store: Store, child: CommitId) -> Iterator[Person]:
    """Whoever approved a call in a nested loop that was absorbed, or in what that had absorbed; the newest first."""
    for commit, message in store.line(child):
        said = trailers(message)
        event = said.get("Event", ("",))[0]
        if said.get("Decision") == ("approve",) and "Tool" in said:  # a gate has none
            yield store.reader().trace(commit).author
        elif event in _ABSORBING and len(parents := store.parents(commit)) > 1:
            yield from _approvers(store, parents[-1])
