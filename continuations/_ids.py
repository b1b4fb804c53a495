"""Names and addresses: a distinct type for each kind of id.

A call's address is its loop's name, a dot and its id: ``release.it-1``. A child loop is named by the address of
the call that started it, so one scheme names loops, calls and gates at any depth.
"""

import hashlib
import re
from functools import cache
from typing import NewType

from ._errors import CallerError
from ._text import one_line

LoopName = NewType("LoopName", str)
"""A loop's name: the root's name, then one ``.call`` for each level of nesting. Read from its branch."""

CallId = NewType("CallId", str)
"""A call's or gate's id within its loop: the tool's name and a counter, as in ``order-2``."""

Address = NewType("Address", str)
"""``<loop>.<call>``: a call, or a gate, anywhere in the repository."""

CommitId = NewType("CommitId", str)
"""A commit's object id in lower-case hexadecimal."""

TreeId = NewType("TreeId", str)
"""Names a git tree: 40 hexadecimal digits."""

BlobId = NewType("BlobId", str)
"""Names what is in a file, as git does: 40 hexadecimal digits."""

WorkerId = NewType("WorkerId", str)
"""Names one process that drives loops; random, never used twice."""

Digest = NewType("Digest", str)
"""The first 16 hexadecimal digits of a SHA-256."""

MAX_NAME = 200
"""Longest name of a loop, in characters: a branch is one file name to git, and file systems end at 255."""

_ROOT = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,98}[A-Za-z0-9_])?")
_CALL = re.compile(r"[A-Za-z0-9_-]{1,64}-[1-9][0-9]{0,8}")


class BadName(CallerError):
    """A loop or call was named in a way that cannot be a branch."""


def root_name(text: str) -> LoopName:
    """Check the name of a root loop: 1 to 100 letters, digits, ``-`` and ``_``.

    Raises:
        BadName: the text is something else.
    """
    if _ROOT.fullmatch(text) is None:
        raise BadName(
            f"{one_line(text)!r} cannot name a loop.",
            hint="Use 1 to 100 letters, digits, '-' and '_', not starting or ending with '-'.",
        )
    return LoopName(text)


def loop_name(text: str) -> LoopName:
    """Check the name of any loop: a root's name, then ``.call`` for each level of nesting.

    Raises:
        BadName: the text is something else, or longer than `MAX_NAME`.
    """
    root, *calls = text.split(".")
    if not calls:
        return root_name(text)
    if _ROOT.fullmatch(root) is None or not all(map(is_call_id, calls)) or len(text) > MAX_NAME:
        raise BadName(
            f"{one_line(text)!r} cannot name a nested loop.",
            hint="A nested loop is named like 'release.it-1': its parent, a dot and the call.",
        )
    return LoopName(text)


def is_call_id(text: str) -> bool:
    """Whether a text can be the id of a call or a gate."""
    return _CALL.fullmatch(text) is not None


def address(loop: LoopName, call: CallId) -> Address:
    """The address of a call of a loop."""
    return Address(f"{loop}.{call}")


def child_name(loop: LoopName, call: CallId) -> LoopName:
    """The name of the loop that a call starts."""
    return LoopName(address(loop, call))


def split_address(text: str) -> tuple[LoopName, CallId]:
    """Take an address apart into the loop and the call.

    Raises:
        BadName: the text is not an address.
    """
    loop, dot, call = text.rpartition(".")
    if not dot or not is_call_id(call):
        raise BadName(
            f"{one_line(text)!r} is not the address of a call.",
            hint="An address looks like 'release.it-1.order-1'; 'caesura pending' lists them.",
        )
    return loop_name(loop), CallId(call)


def parent_name(loop: LoopName) -> LoopName | None:
    """The loop that a loop is nested in, or None for a root."""
    parent, dot, _ = loop.rpartition(".")
    return LoopName(parent) if dot else None


def root_of(loop: LoopName) -> LoopName:
    """The root loop that a loop belongs to."""
    return LoopName(loop.partition(".")[0])


def idempotency_key(loop: LoopName, call: CallId, nonce: str) -> Digest:
    """What a service can know one call by, whatever it is asked for it: the same for every attempt at the call.

    The loop's name is in it: a fork that runs the call again does a deed of its own.
    """
    return digest(f"{address(loop, call)} {nonce}".encode())


def digest(data: bytes) -> Digest:
    """Name some bytes by their content."""
    return Digest(hashlib.sha256(data).hexdigest()[:16])


@cache
def _begun(kind: str) -> "hashlib._Hash":
    """A hash of what comes first in an object's header, to be copied: OpenSSL looks for SHA-1 anew for each new one."""
    return hashlib.sha1(b"%s " % kind.encode(), usedforsecurity=False)


def object_id(kind: str, data: bytes) -> str:
    """The id that git gives an object."""
    hashed = _begun(kind).copy()
    hashed.update(b"%d\x00" % len(data))
    hashed.update(data)
    return hashed.hexdigest()


def header(kind: str, size: int) -> bytes:
    """What stands before an object's bytes in its hash and in its file."""
    return b"%s %d\x00" % (kind.encode(), size)
