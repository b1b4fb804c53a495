"""Objects judged as strictly as ``git fsck --strict`` does, from their bytes alone."""

import re
from typing import NamedTuple

from ._format import Entry, Malformed, RawCommit, read_commit, read_tree, tree_bytes

_PERSON = rb"[^\n<>\x00]*<[^\n<>\x00]*> (?:0|[1-9][0-9]{0,18}) [+-][0-9]{4}"
_HEAD = re.compile(
    rb"tree [0-9a-f]{40}\n(?:parent [0-9a-f]{40}\n)*author "
    + _PERSON
    + rb"\ncommitter "
    + _PERSON.replace(rb"(?:0", rb"(?P<time>0")
    + rb"\n(?s:.*)"
)
_MODES = frozenset({0o100644, 0o100755, 0o120000, 0o040000, 0o160000})


def strict_tree(data: bytes) -> tuple[Entry, ...]:
    """The entries of a tree.

    Raises:
        Malformed: git would find fault with it.
    """
    entries = read_tree(data)
    for entry in entries:
        if entry.mode not in _MODES:
            raise Malformed(f"{entry.name!r} has the mode {entry.mode:o}")
    if tree_bytes(entries) != data:
        raise Malformed("its entries are out of order, or a mode is padded")
    return entries


class Header(NamedTuple):
    """What a commit says, and when it was committed, in seconds since 1970."""

    raw: RawCommit
    time: int


def strict_commit(data: bytes) -> Header:
    """What a commit says.

    Raises:
        Malformed: git would find fault with it.
    """
    commit = read_commit(data)
    head = _HEAD.fullmatch(data)
    if head is None:
        raise Malformed("its author, its committer or a time is not as git writes it")
    if b"\x00" in data:
        raise Malformed("its message holds a NUL")
    return Header(commit, int(head["time"]))
