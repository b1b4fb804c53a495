"""Where continuations are kept: in git, or in memory."""

from typing import TYPE_CHECKING, Any

from ._errors import TooLarge, Torn
from ._folder import FileChange, InTheWay, Occupied, Unkeepable
from ._memory import MemoryStore
from ._protocol import (
    Commit,
    Durability,
    Lease,
    Locked,
    Mender,
    Move,
    Moved,
    NoPerson,
    NoSuchRevision,
    NotALoop,
    Reader,
    Store,
    Trace,
    Unavailable,
)
from ._workspaces import Workspaces

if TYPE_CHECKING:
    from ._git import GitStore

__all__ = [
    "Commit",
    "Durability",
    "FileChange",
    "GitStore",
    "InTheWay",
    "Lease",
    "Locked",
    "MemoryStore",
    "Mender",
    "Move",
    "Moved",
    "NoPerson",
    "NoSuchRevision",
    "NotALoop",
    "Occupied",
    "Reader",
    "Store",
    "TooLarge",
    "Torn",
    "Trace",
    "Unavailable",
    "Unkeepable",
    "Workspaces",
]


def __getattr__(name: str) -> Any:
    # On first use: git takes a third of the time that a command's help may take.
    if name == "GitStore":
        from ._git import GitStore

        return GitStore
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
