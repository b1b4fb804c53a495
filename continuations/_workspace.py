"""The files that an agent works on, as a part of its loop's state."""

from ._ids import TreeId
from ._messages import Value


class Workspace(Value, frozen=True, kw_only=True):
    """The files of a loop's folder: the git tree that holds them, as ``workspace/`` in the loop's own.

    `left_out` names files (at most a hundred) that are in the folder and not in the tree, because they hold a secret
    or have a name that git refuses.
    """

    tree: TreeId
    left_out: tuple[str, ...] = ()
