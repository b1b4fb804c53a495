"""Where continuations are kept: in git, or in memory."""

from typing import TYPE_CHECKING, Any

from ._errors import TooLarge, Torn, Withheld
from ._folder import FileChange, InTheWay, Occupied, Unkeepable
from ._holdings import Holdings, Upkeep, Upkept
from ._keeping import BadBundle, Bundle, Erased, Keeper, StillReached, Unclean
from ._memory import MemoryStore
from ._mending import Mender, Reader
from ._plumbing import is_bundle
from ._project import BadBranch, BranchInUse, NoProject, Project
from ._projects import Brought, FileStep, NothingToBring, Projects
from ._protocol import (
    BadSetting,
    Commit,
    Durability,
    Lease,
    Locked,
    Move,
    Moved,
    NoPerson,
    NoSuchRevision,
    NotALoop,
    Store,
    Trace,
    Unavailable,
    Visibility,
)
from ._shared import Work
from ._workspaces import Workspaces

if TYPE_CHECKING:
    from ._git import GitStore

__all__ = [
    "BadBranch",
    "BadBundle",
    "BadSetting",
    "BranchInUse",
    "Brought",
    "Bundle",
    "Commit",
    "Durability",
    "Erased",
    "FileChange",
    "FileStep",
    "GitStore",
    "Holdings",
    "InTheWay",
    "Keeper",
    "Lease",
    "Locked",
    "MemoryStore",
    "Mender",
    "Move",
    "Moved",
    "NoPerson",
    "NoProject",
    "NoSuchRevision",
    "NotALoop",
    "NothingToBring",
    "Occupied",
    "Project",
    "Projects",
    "Reader",
    "StillReached",
    "Store",
    "TooLarge",
    "Torn",
    "Trace",
    "Unavailable",
    "Unclean",
    "Unkeepable",
    "Upkeep",
    "Upkept",
    "Visibility",
    "Withheld",
    "Work",
    "Workspaces",
    "is_bundle",
]


def __getattr__(name: str) -> Any:
    # On first use: git takes a third of the time that a command's help may take.
    if name == "GitStore":
        from ._git import GitStore

        return GitStore
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
