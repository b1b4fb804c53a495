"""Git itself, run for what it does best: bundles, packs, and telling what leads to what."""

import os
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from . import _disk
from ._keeping import BadBundle
from ._packing import put_in_place, temporary
from ._protocol import Unavailable

_CHUNK = 2**20
_MARKS = (b"# v2 git bundle\n", b"# v3 git bundle\n")
# What would let git work on another repository than the one that it is told.
_ELSEWHERE = (
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_COMMON_DIR",
    "GIT_CONFIG",
    "GIT_CONFIG_COUNT",
    "GIT_CONFIG_PARAMETERS",
    "GIT_DEFAULT_REF_FORMAT",
    "GIT_DIR",
    "GIT_GRAFT_FILE",
    "GIT_INDEX_FILE",
    "GIT_NAMESPACE",
    "GIT_OBJECT_DIRECTORY",
    "GIT_PREFIX",
    "GIT_QUARANTINE_PATH",
    "GIT_REPLACE_REF_BASE",
    "GIT_SHALLOW_FILE",
    "GIT_WORK_TREE",
)


class GitFailed(Exception):
    """Git ended with an error; what it said."""


def git(folder: Path, *words: str, given: bytes = b"", into: IO[bytes] | None = None) -> bytes:
    """What git prints, with `given` on its standard input; objects are what they are, whatever replaces them.

    What it prints goes `into` a file, if there is one.

    Raises:
        GitFailed: it ended with an error.
        Unavailable: there is no git.
    """
    environment = {name: value for name, value in os.environ.items() if name not in _ELSEWHERE}
    environment |= {"GIT_NO_REPLACE_OBJECTS": "1", "GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"}
    try:
        done = subprocess.run(  # noqa: S603  # no word can be taken for an option: paths are absolute, refs are ours
            ["git", f"--git-dir={folder.absolute()}", *words],  # noqa: S607  # wherever this machine has it
            input=given,
            stdout=subprocess.PIPE if into is None else into,
            stderr=subprocess.PIPE,
            env=environment,
            check=False,
        )
    except OSError as error:
        raise Unavailable(f"git cannot be run: {error.strerror}.", hint="Install git 2.31 or later.") from error
    if done.returncode:
        raise GitFailed(done.stderr.decode("utf-8", "replace").strip().removeprefix("fatal: ") or "it says nothing")
    return done.stdout or b""


@contextmanager
def beside(objects: Path, refs: Mapping[str, str], *more: Path) -> Iterator[Path]:
    """A repository for as long as the context lasts: what is in `objects` and `more` is in it, and branches of its own.

    What git writes there is not in the repository until it is taken over.
    """
    with tempfile.TemporaryDirectory(prefix="caesura-") as made:
        folder = Path(made)
        try:
            plain = ("--quiet", "--bare", "--template=", "--object-format=sha1")
            git(folder, "-c", "init.defaultRefFormat=files", "init", *plain)
        except GitFailed as error:
            raise Unavailable(f"git could make no repository at {folder}: {error}.", hint="Is there space?") from error
        (folder / "objects" / "info").mkdir(exist_ok=True)
        (folder / "objects" / "info" / "alternates").write_text(
            "".join(f"{one.absolute()}\n" for one in (objects, *more))
        )
        for name, target in refs.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(f"{target}\n")
        yield folder


def pack_of(folder: Path, scratch: Path, ids: Iterable[str], *, reached: bool = False) -> Path | None:
    """A pack of objects with its index, made by git in the folder `scratch`; None if it would be empty.

    With `reached`, of all that commits reach and that is not borrowed from another repository.

    Raises:
        GitFailed: one of them is missing or damaged.
    """
    chosen = ("--revs", "--local") if reached else ()
    given = "".join(f"{one}\n" for one in ids).encode()
    pack = scratch / "new.pack"
    # To a file of ours: git would make its own among the repository's objects, and move it from there.
    with pack.open("wb") as into:
        git(folder, "pack-objects", "--stdout", "--quiet", "--delta-base-offset", *chosen, given=given, into=into)
    with pack.open("rb") as made:
        if made.read(12)[8:] in (b"", bytes(4)):
            return None
    git(folder, "index-pack", str(pack))
    return pack


def take_over(
    pack: Path, objects: Path, *, durable: bool, stands_for_others: bool = False, early: bool = False
) -> Path:
    """Put a pack that git made elsewhere, and its index, among a repository's objects; where it is now.

    See `put_in_place`.

    Raises:
        OSError: the disk is full, or may not be written. There is no such pack then.
    """
    with pack.open("rb") as opened:
        opened.seek(-20, os.SEEK_END)
        trailer = opened.read()
    copy, index = temporary(objects), temporary(objects)
    try:
        _copy(pack, copy)
        _copy(pack.with_suffix(".idx"), index)
        if durable:
            _disk.sync(copy)
            _disk.sync(index)
        return put_in_place(copy, index, trailer, durable=durable, stands_for_others=stands_for_others, early=early)
    except BaseException:
        _disk.unlink(copy)
        _disk.unlink(index)
        raise


def _copy(source: Path, target: Path) -> None:
    growing = _disk.begin(target, 0o444)
    try:
        with source.open("rb") as opened:
            while chunk := opened.read(_CHUNK):
                _disk.grow(growing, chunk)
    finally:
        _disk.end(growing)


def is_bundle(file: Path) -> bool:
    """Whether a file begins as a bundle does.

    Raises:
        BadBundle: it cannot be read, or is empty: then it is nothing at all.
    """
    try:
        with _disk.opened(file) as opened:
            start = opened.read(len(_MARKS[0]))
    except OSError as error:
        raise BadBundle(f"{file} cannot be read: {error.strerror}.", hint="Name a file that is there.") from error
    if not start:
        raise BadBundle(f"{file} is empty.", hint="Have it made and sent anew.")
    return start in _MARKS
