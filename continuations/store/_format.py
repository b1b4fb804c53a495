"""Git's objects as bytes: trees and commits built exactly, and read without trust."""

import datetime as dt
import functools
import re
import time
from collections.abc import Iterable
from typing import Literal, NamedTuple

import msgspec

from .._calls import Person
from .._messages import plain_text
from .._text import one_line

Kind = Literal["blob", "tree", "commit", "tag"]
KINDS: tuple[Kind, ...] = ("blob", "tree", "commit", "tag")
NUMBERS: dict[Kind, int] = {"commit": 1, "tree": 2, "blob": 3, "tag": 4}
"""By what packs tell objects' kinds."""

FILE, FOLDER = 0o100644, 0o040000

_ID = re.compile(r"[0-9a-f]{40}")
# An entry; or the rest, if no more come, so that nothing is tried twice.
_ENTRY = re.compile(rb"([0-7]{1,7}) ([^\x00]*)\x00(.{20})|.+", re.DOTALL)
# Names that no entry may have, between the zeros that part them, and what no name may have in it.
_ODD = ("\x00\x00", "\x00.\x00", "\x00..\x00", "\x00.git\x00", "/")
_SIGNED = re.compile(rb"(?P<name>.*?) ?<(?P<email>[^<>]*)>[^<>]*")
# What git takes away at the ends of names, and what it ends them at.
_CRUD = " .,:;<>\"\\'"
_UNSAFE = str.maketrans("", "", "<>")


class Malformed(ValueError):
    """Bytes that are no object of their kind."""


class Entry(msgspec.Struct, frozen=True, gc=False):
    """One entry of a tree."""

    mode: int
    name: str
    id: str

    @property
    def is_folder(self) -> bool:
        return self.mode == FOLDER

    @property
    def is_file(self) -> bool:
        """Whether it is a plain file; a link or another repository's commit is not."""
        return self.mode & 0o170000 == 0o100000


class RawCommit(NamedTuple):
    """What a commit says, before its tree is looked at."""

    tree: str
    parents: tuple[str, ...]
    author: Person
    message: str


def is_id(text: str) -> bool:
    """Whether a text is an object's id, written out."""
    return _ID.fullmatch(text) is not None


def tree_bytes(entries: Iterable[Entry]) -> bytes:
    """A tree: folders sort as if their names ended in a slash."""
    return b"".join([entry_bytes(entry) for entry in sorted(entries, key=tree_order)])


def tree_order(entry: Entry) -> bytes:
    """What the entries of a tree are sorted by."""
    return entry.name.encode("utf-8", "surrogateescape") + (b"/" if entry.mode == FOLDER else b"")


def entry_bytes(entry: Entry) -> bytes:
    """One entry, as it stands in a tree."""
    return b"%o %s\x00" % (entry.mode, entry.name.encode("utf-8", "surrogateescape")) + bytes.fromhex(entry.id)


def read_tree(data: bytes) -> tuple[Entry, ...]:
    """The entries of a tree, in its order.

    Raises:
        Malformed: it is cut short, two entries share a name, or a name could lead out of its folder.
    """
    found: list[tuple[bytes, bytes, bytes]] = _ENTRY.findall(data)  # in one go: a long loop has many
    if found and not found[-1][0]:
        raise Malformed("it is cut short, or an entry has no mode")
    entries = tuple(
        [Entry(int(mode, 8), name.decode("utf-8", "surrogateescape"), one.hex()) for mode, name, one in found]
    )
    names = [entry.name for entry in entries]
    together = "\x00".join(["", *names, ""]).lower()
    if entries and any(odd in together for odd in _ODD):
        odd = next(name for name in names if any(one in f"\x00{name}\x00".lower() for one in _ODD))
        raise Malformed(f"an entry is named {odd!r}")
    if len(set(names)) < len(names):
        raise Malformed("two entries have the same name")
    return entries


def commit_bytes(
    tree: str,
    parents: Iterable[str],
    *,
    author: Person,
    committer: Person,
    at: dt.datetime,
    message: str,
    signature: str = "",
) -> bytes:
    """A commit; a signature is over these bytes without it."""
    when = _when(at)
    before = "".join([f"parent {parent}\n" for parent in parents])
    who = f"author {_signed(author)} {when}\ncommitter {_signed(committer)} {when}\n"
    signed = "gpgsig " + signature.strip("\n").replace("\n", "\n ") + "\n" if signature else ""
    said = plain_text(message).replace("\x00", "\N{REPLACEMENT CHARACTER}")
    return f"tree {tree}\n{before}{who}{signed}\n{said}".encode()


def read_commit(data: bytes) -> RawCommit:
    """What a commit says.

    Raises:
        Malformed: it is no commit.
    """
    head, found, message = data.partition(b"\n\n")
    lines = head.split(b"\n")
    ids = [line.partition(b" ")[2].decode("latin-1") for line in lines]
    parents: list[str] = []
    while len(parents) + 1 < len(lines) and lines[len(parents) + 1].startswith(b"parent "):
        parents.append(ids[len(parents) + 1])
    author = lines[len(parents) + 1] if len(parents) + 1 < len(lines) else b""
    if not found or not lines[0].startswith(b"tree ") or not all(map(is_id, (ids[0], *parents))):
        raise Malformed("its header is not a commit's")
    signed = _SIGNED.fullmatch(author.removeprefix(b"author "))
    if not author.startswith(b"author ") or signed is None:
        raise Malformed("it has no author")
    name, email = (signed[part].decode("utf-8", "replace") for part in ("name", "email"))
    return RawCommit(ids[0], tuple(parents), Person(name=name, email=email), message.decode("utf-8", "replace"))


@functools.lru_cache(256)
def _signed(person: Person) -> str:
    name, email = (_named(part) for part in (person.name, person.email))
    return f"{name} <{email}>"


def _when(at: dt.datetime) -> str:
    seconds = max(0, int(at.timestamp()))  # git has no moment before its epoch's
    return f"{seconds} {_offset(seconds // 60)}"


@functools.lru_cache(256)
def _offset(minute: int) -> str:
    """How far this machine's time was from UTC in a minute: clocks are set at the beginning of one."""
    minutes = time.localtime(60 * minute).tm_gmtoff // 60
    return f"{'-' if minutes < 0 else '+'}{abs(minutes) // 60:02}{abs(minutes) % 60:02}"


def _named(part: str) -> str:
    # Git ends a name at '<', '>' or a line's end, and has no empty ones.
    return one_line(plain_text(part).translate(_UNSAFE), 100).strip(_CRUD) or "unknown"
