"""The files that an agent works on, as a part of its loop's state."""

from collections.abc import Iterable
from typing import NamedTuple

from msgspec.structs import replace

from ._ids import BlobId, CommitId, TreeId, object_id
from ._messages import Value

LINK, SCRIPT, PLAIN = 0o120000, 0o100755, 0o100644
"""The modes that git gives a link, a file that may be run, and any other file."""


class Workspace(Value, frozen=True, kw_only=True):
    """The files of a loop's folder: the git tree that holds them, as ``workspace/`` in the loop's own.

    `left_out` names files (at most a hundred) that are in the folder and not in the tree, because they hold a secret
    or have a name that git refuses. `edition` counts how often the folder's files were committed as others than before,
    by whichever loop works there: of what two loops of one folder say, that with the higher one is newer.
    """

    tree: TreeId
    left_out: tuple[str, ...] = ()
    edition: int = 0

    def follows(self, before: "Workspace") -> "Workspace":
        """These files, as a later edition than others unless they are the same."""
        if (self.tree, self.left_out) == (before.tree, before.left_out):
            return before if before.edition >= self.edition else self
        return self if self.edition > before.edition else replace(self, edition=before.edition + 1)


def newest(own: Workspace, others: Iterable[Workspace]) -> Workspace:
    """Of what the loops of one folder say that its files are, what was said last."""
    return max((own, *others), key=_edition)


def _edition(workspace: Workspace) -> int:
    return workspace.edition


class Origin(Value, frozen=True, kw_only=True):
    """Where a loop's first files came from: a commit of a project, and the repository where that was at the time.

    `held_back` names what is in that commit and no loop's to have: files that hold a secret, another repository's
    commits (submodules), names that git refuses. When the files come back to the project, it stays as it was.
    """

    repository: str
    commit: CommitId
    held_back: tuple[str, ...] = ()


class FileContent(NamedTuple):
    """A file: what is in it, and git's mode for it. What is in a link is where it leads."""

    data: bytes
    mode: int = PLAIN

    @property
    def id(self) -> BlobId:
        """The id that git gives what is in it."""
        return BlobId(object_id("blob", self.data))
