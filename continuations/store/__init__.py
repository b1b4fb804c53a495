"""Where continuations are kept: in git, or in memory."""

from ._git import GitStore, Locked, NoPerson
from ._memory import MemoryStore
from ._protocol import Commit, Lease, Moved, NoSuchRevision, NotALoop, Store, Unavailable

__all__ = [
    "Commit",
    "GitStore",
    "Lease",
    "Locked",
    "MemoryStore",
    "Moved",
    "NoPerson",
    "NoSuchRevision",
    "NotALoop",
    "Store",
    "Unavailable",
]
