"""What leads to objects in a repository: refs, logs, worktrees, and files of git's own that name commits.

More than git itself follows is followed here, never less: what is reached by none of it is reached by nobody.
"""

import re
from collections.abc import Collection, Iterator, Set
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from . import _disk
from ._refs import Refs

_ID = re.compile(rb"(?<![0-9a-f])[0-9a-f]{40}(?![0-9a-f])")
_NONE = "0" * 40
_OURS = "caesura."
# What names no objects that it would be the only one to name, or is looked at by its own rules.
_APART = frozenset({"objects", "refs", "logs", "worktrees", "packed-refs", "config", "hooks", "info", "index"})


class Lead(NamedTuple):
    """A ref, or a file in the repository, and the ids that it names."""

    name: str
    ids: frozenset[str]


def leads(folder: Path, refs: Refs, without: Collection[str], forgotten: Set[str]) -> Iterator[Lead]:
    """Everything that leads to objects, but for some refs with their logs.

    Of the logs of ``HEAD``, the moves to and from `forgotten` commits are left out, too: it is no branch, and goes
    where it was pointed.

    Raises:
        Torn: a ref points nowhere, so that what it led to cannot be told.
    """
    for ref in refs.all("refs/"):
        found = None if ref in without else refs.get(ref)
        if found is not None:
            yield Lead(ref, frozenset({found}))
    seen = set[Path]()
    # Git takes files away meanwhile, and gives others new names: it is over once there is none with a name not seen.
    while new := {file: log for file, log in _naming(folder) if file not in seen}:
        seen.update(new)
        for file, log in new.items():
            if log not in without:
                with suppress(FileNotFoundError, NotADirectoryError):  # a log may have the name now that its folder had
                    kept = [line for line in lines(file) if log != "HEAD" or not forgotten & ids_of(line)]
                    yield Lead(file.relative_to(folder).as_posix(), frozenset[str]().union(*map(ids_of, kept)))


def worktrees(folder: Path) -> list[Path]:
    """What git keeps of each linked worktree; with the last one it removes the folder of them."""
    with suppress(FileNotFoundError, NotADirectoryError):
        return sorted((folder / "worktrees").iterdir())
    return []


def logs_of_head(folder: Path) -> Iterator[Path]:
    """The logs of ``HEAD``, of each worktree."""
    return (file for place in (folder, *worktrees(folder)) if (file := place / "logs" / "HEAD").is_file())


def lines(file: Path) -> list[bytes]:
    """The lines of a log, each with its end."""
    with _disk.opened(file) as opened:
        return opened.readall().splitlines(keepends=True)


def ids_of(text: bytes) -> frozenset[str]:
    """The ids that stand in a text, whatever they are of."""
    return frozenset(found.decode() for found in _ID.findall(text)) - {_NONE}


def _naming(folder: Path) -> Iterator[tuple[Path, str]]:
    """The files of git's own that may name objects, each with the ref whose log it is, if it is one."""
    for place in (folder, *worktrees(folder)):
        yield from ((file, "") for file in _files(place, apart=_APART))
        yield from ((file, "") for file in (_files(place / "refs") if place != folder else ()))
        yield from ((file, file.relative_to(place / "logs").as_posix()) for file in _files(place / "logs"))


def _files(folder: Path, *, apart: Collection[str] = ()) -> Iterator[Path]:
    """The files in a folder and below it."""
    try:
        entries = sorted(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return
    for entry in entries:
        if entry.name in apart or entry.name.startswith(_OURS) or entry.is_symlink():
            continue
        if entry.is_dir():
            yield from _files(entry)
        elif entry.is_file():
            yield entry
