"""A project: somebody's own repository, which files are taken from and brought back to. Git alone touches it.

Neither its worktree nor its index is ever looked at or changed.
"""

import os
from pathlib import Path
from typing import NamedTuple

from .._errors import CallerError, ConflictError
from .._ids import CommitId
from .._text import one_line, shell_quoted
from ._format import is_id
from ._layout import BRANCHES, LOOPS
from ._plumbing import GitFailed, git
from ._protocol import Moved, NoSuchRevision

_HERE = "HEAD"


class NoProject(CallerError):
    """There is no such repository, or none that files can be taken from or brought to."""


class BadBranch(CallerError):
    """A branch cannot have that name."""


class BranchInUse(ConflictError):
    """A branch of the project is checked out, or was moved by somebody else."""


class Named(NamedTuple):
    """A commit of a project."""

    project: "Project"
    commit: CommitId


class Project:
    """One repository, as git knows it. Made by `Project.open`."""

    def __init__(self, path: Path, folder: Path, objects: Path, shallow: Path) -> None:
        self.path, self.folder, self.objects, self.shallow = path, folder, objects, shallow

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> "Project":
        """The repository at a path: the top of a worktree, or a bare one.

        Raises:
            NoProject: there is none, or it names objects in another way.
            Unavailable: there is no git.
        """
        there = Path(path).expanduser().absolute()
        folder = there / ".git" if (there / ".git").exists() else there
        paths = ("rev-parse", "--path-format=absolute", "--git-path", "objects", "--git-path", "shallow")
        try:
            said = os.fsdecode(git(folder, *paths, "--show-object-format"))
        except GitFailed as error:
            raise NoProject(
                f"There is no git repository at {there}.", hint="Name the top of a project, or a bare repository."
            ) from error
        objects, shallow, form, *_ = (*said.split("\n"), "", "")
        if form != "sha1":
            raise NoProject(
                f"{there} names its objects by {one_line(form)}, and loops theirs by sha1.",
                hint="Git cannot bring the two together; name another repository.",
            )
        return cls(Path(os.path.normpath(there)), folder, Path(objects), Path(shallow))

    @classmethod
    def named(cls, text: str) -> Named:
        """The commit that ``PATH@REVISION`` names; without a revision, the one that is checked out there.

        Raises:
            NoProject: there is no repository of that path.
            NoSuchRevision: it has no such commit.
        """
        places = [len(text), *(at for at, mark in enumerate(text) if mark == "@")]
        for at in places:
            path, revision = text[:at] or ".", text[at + 1 :] or _HERE
            if text and Path(path).expanduser().is_dir():
                project = cls.open(path)
                return Named(project, project.resolve(revision))
        raise NoProject(
            f"There is no folder {one_line(text.partition('@')[0])}.", hint="Name a project's, as in ../project@main."
        )

    def resolve(self, revision: str) -> CommitId:
        """The commit that a revision names here, by git's own rules.

        Raises:
            NoSuchRevision: there is none.
        """
        named = self._ask("rev-parse", "--verify", "--quiet", "--end-of-options", revision)
        # Not in one: in ':/text' all that follows is text.
        found = named and self._ask("rev-parse", "--verify", "--quiet", f"{named}^{{commit}}")
        if not found or not is_id(found):
            raise NoSuchRevision(
                f"{self.path} has no commit {one_line(revision)!r}.",
                hint=f"To see those that it has: git -C {shell_quoted(self.path)} log --oneline --all",
            )
        return CommitId(found)

    def has(self, commit: CommitId) -> bool:
        """Whether a commit is here."""
        return is_id(commit) and self._ask("cat-file", "-e", f"{commit}^{{commit}}") is not None

    def branch(self, name: str) -> CommitId | None:
        """Where a branch is, or None if there is none.

        Raises:
            BadBranch: no branch can have that name, or only a loop's.
        """
        if name.startswith("-") or self._ask("check-ref-format", BRANCHES + name) is None:
            raise BadBranch(f"{one_line(name)!r} cannot name a branch.", hint="Name it like mend-calc, or agents/mend.")
        if (BRANCHES + name).startswith(LOOPS):
            raise BadBranch(f"The branches in {LOOPS} are loops.", hint="Name one elsewhere, like agents/mend.")
        found = self._ask("rev-parse", "--verify", "--quiet", BRANCHES + name)
        return None if not found else CommitId(found)

    def check_free(self, name: str) -> None:
        """See that nobody works on a branch.

        Raises:
            BranchInUse: it is checked out in a worktree.
        """
        worktree = ""
        for line in os.fsdecode(git(self.folder, "worktree", "list", "--porcelain")).split("\n"):
            key, _, value = line.partition(" ")
            if key == "worktree":
                worktree = value
            elif line == f"branch {BRANCHES}{name}":
                raise BranchInUse(
                    f"{name} is checked out in {worktree}, whose files would be left behind.",
                    hint=f"Name another branch, or leave that one: git -C {shell_quoted(worktree)} switch --detach",
                )

    def fetch(self, other: Path, name: str) -> None:
        """Take a branch from another repository, with all that it needs; never back to where it does not go on from.

        Raises:
            Moved: git refuses; somebody else moved it meanwhile.
        """
        quiet = ("--quiet", "--no-tags", "--no-write-fetch-head", "--no-auto-maintenance", "--no-recurse-submodules")
        whole = (
            "-c",
            "fetch.fsckObjects=true",
            "-c",
            "core.alternateRefsCommand=:",
            "-c",
            "protocol.file.allow=always",
        )
        try:
            git(self.folder, *whole, "fetch", *quiet, "--no-prune", str(other), f"{BRANCHES}{name}:{BRANCHES}{name}")
        except GitFailed as error:
            raise Moved(
                f"{self.path} did not take {name}: {one_line(str(error), 400)}.",
                hint="Nothing was changed there; see what git says, then try again.",
            ) from error

    def _ask(self, *words: str) -> str | None:
        """What git says in one line; None if it says no."""
        try:
            return os.fsdecode(git(self.folder, *words)).strip("\n")
        except GitFailed:
            return None


def leads(folder: Path, old: str, new: str) -> bool:
    """Whether one commit of a repository is the other, or comes before it.

    Raises:
        GitFailed: one of them is not there.
    """
    return not git(folder, "rev-list", "--max-count=1", old, f"^{new}")
