"""The files that an agent works on, as a part of its loop's state."""

from ._ids import CommitId, TreeId
from ._messages import Value


class Workspace(Value, frozen=True, kw_only=True):
    """The files of a loop's folder: the git tree that holds them, as ``workspace/`` in the loop's own.

    `left_out` names files (at most a hundred) that are in the folder and not in the tree, because they hold a secret
    or have a name that git refuses.
    """

    tree: TreeId
    left_out: tuple[str, ...] = ()


class Origin(Value, frozen=True, kw_only=True):
    """Where a loop's first files came from: a commit of a project, and the repository where that was at the time.

    `held_back` names what is in that commit and no loop's to have: files that hold a secret, another repository's
    commits (submodules), names that git refuses. When the files come back to the project, it stays as it was.
    """

    repository: str
    commit: CommitId
    held_back: tuple[str, ...] = ()
