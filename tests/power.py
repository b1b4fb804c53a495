"""A disk that can lose power: records what a store asks of it, and says what may be left after a cut at any moment.

What it covers. Each call of `continuations.store._disk` is one moment, and the power may go after any of them. Then, as
POSIX has it and no kinder (ext4, say, would keep more):

- the data of a file that was not synced since is there, not there (the file ends before it), there in part, zeros, or
  what was in that place of the disk before;
- each name in a folder is what it last was when that folder was synced, or anything that it has been made since,
  independently of every other name: a rename may be seen at its new place, at its old one, at both or at neither;
- a folder that was made and not synced into its parent is there or not, with everything in it.

What it does not cover: a disk that loses what it said it had, sectors that change by themselves, and the making of the
repository itself, which is synced whole before it is used.
"""

import itertools
import math
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from caesura.continuations.store import _disk

Call = tuple[str, Any, Any]
"""What was asked of the disk, or ``("ack", loop, commit)``: paths are relative to the repository."""

Name = int | str | None
"""What a name is bound to: a file by its number, ``folder``, or nothing."""

Tree = dict[Path, tuple[int, bytes] | None]
"""Files by their paths, each with its number (two names of one file have the same) and its data; None for a folder."""

_WHOLE = 64
"""Up to so many outcomes of one moment are all looked at."""


@dataclass
class Recorder:
    """Writes down the calls that change the disk, as they are carried out."""

    root: Path
    calls: list[Call] = field(default_factory=list[Call])

    def install(self, patch: pytest.MonkeyPatch) -> None:
        for name in ("write", "append", "rename", "link", "unlink", "make_folder", "remove_folder"):
            patch.setattr(_disk, name, self._wrapped(name, getattr(_disk, name)))
        for name in ("begin", "grow", "put", "cut"):
            patch.setattr(_disk, name, self._growing(name, getattr(_disk, name)))
        patch.setattr(_disk, "sync", lambda path: self.note("sync", self._at(path)))
        patch.setattr(_disk, "sync_all", lambda: self.note("sync_all", Path()))
        patch.setattr(_disk, "settle", lambda file: self.note("sync", self._at(file.path)))

    def note(self, name: str, first: Any = None, second: Any = None) -> None:
        self.calls.append((name, first, second))

    def _wrapped(self, name: str, call: Callable[..., None]) -> Callable[..., None]:
        def carried_out(first: Path, second: Any = None, *more: Any) -> None:
            arguments = (first, *(() if second is None else (second,)), *more)
            call(*arguments)
            self.note(name, self._at(first), self._at(second) if isinstance(second, Path) else second)

        return carried_out

    def _growing(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        """A file that is kept open is known by the name that it was made under; it must not have got another since."""

        def carried_out(first: Path | _disk.Growing, *more: Any) -> Any:
            made = call(first, *more)
            path = first.path if isinstance(first, _disk.Growing) else first
            noted = {"begin": ("write", b""), "grow": ("append", *more), "put": ("put", more), "cut": ("cut", *more)}
            self.note(noted[name][0], self._at(path), noted[name][1])
            return made

        return carried_out

    def _at(self, path: Path) -> Path:
        return path.relative_to(self.root)


@dataclass
class File:
    """A file's contents: what is certain to be there, and what was written since."""

    synced: bytes = b""
    data: bytes = b""

    def possible(self) -> list[bytes]:
        if self.data == self.synced:
            return [self.data]
        differ = (at for at, (one, other) in enumerate(zip(self.synced, self.data, strict=False)) if one != other)
        sure = next(differ, min(len(self.synced), len(self.data)))
        new, lost = self.data[sure:].rstrip(b"\x00"), self.synced[sure:]
        half = len(new) // 2
        parts = [new[:half] + lost[half:], bytes(len(new)) + lost[len(new) :], self.data[sure:]]
        if sure:
            # Of several pages not the first; or what was in that place before: older bytes of the same kind, say.
            parts.append(lost[:half].ljust(half, b"\x00") + self.data[sure + half :])
            parts.append((self.synced[:sure][-len(new) :] + new)[: len(new)] + lost[len(new) :])
        return list(dict.fromkeys([self.synced, *(self.data[:sure] + part for part in parts)]))


class Disk:
    """What is certain on a disk, and what is not, while calls are played to it."""

    def __init__(self, root: Path) -> None:
        self.files: list[File] = []
        self.names: dict[Path, list[Name]] = {Path(): ["folder"]}
        for path in sorted(root.rglob("*")):
            self.names[path.relative_to(root)] = ["folder" if path.is_dir() else self._file(path.read_bytes())]

    def _file(self, data: bytes, synced: bytes | None = None) -> int:
        self.files.append(File(synced=data if synced is None else synced, data=data))
        return len(self.files) - 1

    def play(self, name: str, first: Path, second: Any) -> None:
        """One call."""
        match name:
            case "write":
                self._bind(first, self._file(second, b""))
            case "append":
                number = self.names.get(first, [None])[-1]
                if not isinstance(number, int):
                    self._bind(first, number := self._file(b"", b""))
                self.files[number].data += second
            case "put":
                number, (at, data) = self.names[first][-1], second
                assert isinstance(number, int)
                before = self.files[number].data
                self.files[number].data = before[:at].ljust(at, b"\x00") + data + before[at + len(data) :]
            case "cut":
                number = self.names[first][-1]
                assert isinstance(number, int)
                self.files[number].data = self.files[number].data[:second]
            case "rename" | "link":
                self._bind(second, self.names[first][-1])
                if name == "rename":
                    self._bind(first, None)
            case "unlink" | "remove_folder":
                self._bind(first, None)
            case "make_folder":
                self._bind(first, "folder")
            case "sync":
                number = self.names[first][-1]
                if isinstance(number, int):
                    self.files[number].synced = self.files[number].data
                else:
                    for path in [one for one in self.names if one.parent == first and one != first]:
                        del self.names[path][:-1]
            case "sync_all":
                for file in self.files:
                    file.synced = file.data
                for bound in self.names.values():
                    del bound[:-1]
            case _:
                raise AssertionError(name)

    def _bind(self, path: Path, name: Name) -> None:
        self.names.setdefault(path, [None]).append(name)

    def outcomes(self, chance: random.Random, samples: int) -> Iterator["Tree"]:
        """What may be on the disk if the power goes now.

        All of it, if there are few; else the two extremes, and so many others.
        """
        names = {path: list(dict.fromkeys(bound)) for path, bound in self.names.items()}
        files = {number: self.files[number].possible() for bound in names.values() for number in _numbers(bound)}
        open_names = [path for path, bound in names.items() if len(bound) > 1]
        open_files = [number for number, possible in files.items() if len(possible) > 1]
        options: list[list[Any]] = [*(names[path] for path in open_names), *(files[number] for number in open_files)]
        picks: Iterator[tuple[Any, ...]]
        if math.prod(map(len, options)) <= _WHOLE:
            picks = itertools.product(*options)
        else:
            lost = tuple(one[0] for one in options)
            kept = (*(names[path][-1] for path in open_names), *(files[number][0] for number in open_files))
            some = (tuple(chance.choice(one) for one in options) for _ in range(samples))
            picks = itertools.chain([lost, kept], some)
        for pick in picks:
            bound: dict[Path, Any] = {path: options[0] for path, options in names.items()}
            bound |= dict(zip(open_names, pick, strict=False))
            data = {number: possible[0] for number, possible in files.items()}
            data |= dict(zip(open_files, pick[len(open_names) :], strict=True))
            yield _reachable(bound, data)


def _numbers(bound: list[Name]) -> Iterator[int]:
    return (name for name in bound if isinstance(name, int))


def _reachable(bound: dict[Path, Any], data: dict[int, bytes]) -> Tree:
    """The tree of files: what is in a folder that is not there is not there either."""
    found: Tree = {}
    for path in sorted(bound):
        name = bound[path]
        if name is not None and (path == Path() or found.get(path.parent, b"") is None):
            found[path] = (name, data[name]) if isinstance(name, int) else None
    return found


class Pool:
    """Builds folders quickly: their files are second names of files that are there already."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._known = folder, dict[bytes, Path]()
        folder.mkdir()

    def build(self, root: Path, tree: Tree) -> None:
        made: dict[int, Path] = {}
        for path, file in tree.items():
            if file is None:
                (root / path).mkdir()
            elif file[0] in made:
                (root / path).hardlink_to(made[file[0]])
            elif path.parts[0] == "objects":  # which nobody changes in place
                (root / path).hardlink_to(self._file(file[1]))
            else:
                made[file[0]] = root / path
                made[file[0]].write_bytes(file[1])

    def _file(self, data: bytes) -> Path:
        file = self._known.get(data)
        if file is None:
            file = self._known[data] = self._folder / str(len(self._known))
            file.write_bytes(data)
        return file
