"""The way back to a project: a loop's files as a branch that merges with plain git, one commit for each step."""

import os
from collections.abc import Iterator
from functools import partial

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


def _steps(store: Store, saved: Saved) -> Iterator[FileStep]:
    """The steps that changed a loop's files, the first one among them, oldest first."""
    projects = store.projects()
    before: CommitId | None = None
    last: TreeId | None = None
    for commit in reversed([commit for commit, _ in store.line(saved.commit)]):
        tree = projects.files(commit)
        if tree is not None and tree != last:
            yield FileStep(commit, tree, partial(_describe, store, before, last, commit, tree))
        before, last = commit, tree


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
