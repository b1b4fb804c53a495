"""Objects by their ids: read from their own files, from packs and from alternates; written so that they last.

All of it is our own code. Libgit2 never returns from reading a file that was cut short, and takes a damaged object
that is there for a good one, so that the next step would build on it.
"""

import hashlib
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from threading import RLock

from .._codec import Unreadable
from .._errors import CaesuraError
from .._ids import header, object_id
from . import _disk
from ._deflate import NotDeflated, deflate, inflate
from ._errors import gone, too_large, torn
from ._format import KINDS, Kind, is_id
from ._frames import Damaged
from ._journal import FOLDER, Journal
from ._owner import is_dead, mark
from ._packing import packed, write_pack
from ._packs import Pack, Packs, deflated_at_most
from ._refused import unread

MAX_OBJECT = 100 * 2**20
"""The largest object that is read or written, in bytes."""

_KIND: dict[bytes, Kind] = {kind.encode(): kind for kind in KINDS}
_HEAD = re.compile(rb"(blob|tree|commit|tag) (0|[1-9][0-9]{0,18})\x00")
_HEAD_SIZE = 32
_FIRST = 4096  # bytes: more than most objects have
_TEMPORARY = "tmp_obj"  # git's own prune knows it
_OURS = "tmp_obj_caesura-"
_STRANGERS_AGE = 24 * 3600.0
_ALTERNATES = 5
_TRIES = 10
_TOGETHER = 32  # blobs that are read together


class Batch(dict[str, tuple[Kind, bytes]]):
    """Objects to be written together, by id."""

    def add(self, kind: Kind, data: bytes) -> str:
        """Put one in, and say what its id is.

        Raises:
            TooLarge: it is larger than is ever read.
        """
        if len(data) > MAX_OBJECT:
            raise too_large(f"A {kind}", f"{len(data):,} bytes", f"{MAX_OBJECT:,}")
        name = object_id(kind, data)
        self[name] = (kind, data)
        return name


class Objects:
    """A repository's objects. `folder` is its ``objects``; with `durable`, what is written outlasts a power cut.

    What the `journal` holds is among them. Its methods are for any thread at any time.
    """

    def __init__(self, folder: Path, *, durable: bool = True, journal: Journal | None = None) -> None:
        self._folder, self._durable, self._journal = folder, durable, journal
        self._turn = RLock()
        self._folders: tuple[Path, ...] = ()
        self._packs: list[Packs] = []
        self._recent: Pack | None = None
        self._find_folders()
        self._tidied = False

    def close(self) -> None:
        """Let go of the packs."""
        self._recent = None
        for packs in self._packs:
            packs.close()

    # Reading -----------------------------------------------------------------------------------------------------

    def read(self, name: str, *, limit: int = MAX_OBJECT) -> tuple[Kind, bytes]:
        """An object's kind and its bytes, which are those that its id was made of.

        Raises:
            Torn: it is not whole anywhere, or nowhere at all.
            TooLarge: it has more than `limit` bytes.
            Unavailable: it may be where too many open files keep us from looking.
        """
        with self._turn:
            return self._read(name, limit)

    def _read(self, name: str, limit: int) -> tuple[Kind, bytes]:
        faults: list[CaesuraError] = []
        found = self._look(name, limit, faults)
        others = True
        while found is None and others:
            # Git may have moved it into a pack, or out of one, while we looked; and once more while we looked again.
            others = self._refresh()
            found = self._look(name, limit, faults)
        if found is not None:
            return found
        faults += [fault for packs in self._packs for fault in packs.faults]
        faults.sort(key=lambda fault: isinstance(fault, Unreadable))  # what could not be looked at may be whole
        raise faults[0] if faults else gone(f"Object {name}", self._folder)

    def get(self, name: str, kind: Kind, *, limit: int = MAX_OBJECT) -> bytes:
        """The bytes of an object of this kind.

        Raises:
            Torn: it is not whole, or another kind.
            TooLarge: it has more than `limit` bytes.
        """
        found, data = self.read(name, limit=limit)
        if found != kind:
            raise torn(f"Object {name}", self._folder, f"it is a {found} where a {kind} should be")
        return data

    def blobs(self, names: Sequence[bytes]) -> Iterator[list[bytes]]:
        """`get`, for many blobs, by their ids in bytes: in order, some small ones or a large one at a time.

        It is quick for those that are in one pack, as most are.

        Raises:
            Torn, TooLarge: as `get`.
        """
        at = 0
        while at < len(names):
            recent = self._recent
            found = [] if recent is None else recent.blobs(names[at : at + _TOGETHER])
            found = found or [self.get(names[at].hex(), "blob")]
            yield found
            at += len(found)

    def find(self, prefix: str) -> set[str]:
        """The ids that begin so; `prefix` is at least two digits."""
        with self._turn:
            return self._find(prefix)

    def _find(self, prefix: str) -> set[str]:
        found = set[str]() if self._journal is None else self._journal.find(prefix)
        for folder in self._folders:
            with suppress(OSError):
                names = (prefix[:2] + file.name for file in (folder / prefix[:2]).iterdir())
                found.update(name for name in names if name.startswith(prefix) and is_id(name))
        # After the files: what git packs in the meantime is in a pack by now.
        while self._refresh():
            pass
        found.update(name for packs in self._packs for pack in packs for name in pack.ids(prefix))
        return found

    def all(self) -> Iterator[str]:
        """The ids of all objects there are, whole or not, in order."""
        for number in range(256):
            yield from sorted(self.find(f"{number:02x}"))

    def loose(self, name: str) -> Iterator[Path]:
        """The files of its own that an object has, here and in alternates."""
        return (file for folder in self._folders if (file := _file(folder, name)).exists())

    def refresh(self) -> None:
        """See what is there now."""
        with self._turn:
            self._refresh()

    def _refresh(self) -> bool:
        """See which packs there are now, and what is in the journal; whether it is other than at the last look."""
        self._recent = None  # it may be closed
        others = [self._journal is not None and self._journal.catch_up()]  # first: what is sealed then is in a pack
        others.append(self._find_folders())
        others += [packs.refresh() for packs in self._packs]
        return any(others)

    def _find_folders(self) -> bool:
        """See which folders objects are in; whether others are borrowed from than at the last look."""
        folders = (self._folder, *_alternates(self._folder, _ALTERNATES))
        if folders == self._folders:
            return False
        known = dict(zip(self._folders, self._packs, strict=True))
        self._folders = folders
        self._packs = [known.pop(one) if one in known else Packs(one) for one in folders]
        for left in known.values():
            left.close()
        return True

    def _journaled(self, name: str, limit: int, faults: list[CaesuraError]) -> tuple[Kind, bytes] | None:
        found = None
        try:
            found = None if self._journal is None else self._journal.object(name, limit)
        except Damaged as error:
            faults.append(torn(f"Object {name}", FOLDER, str(error)))
        if found is not None and len(found[1]) > limit:
            faults.append(torn(f"Object {name}", FOLDER, "it is larger than it may be"))
        elif found is not None and object_id(*found) != name:
            faults.append(torn(f"Object {name}", FOLDER, "its content is another's"))
        else:
            return found
        return None

    def _look(self, name: str, limit: int, faults: list[CaesuraError]) -> tuple[Kind, bytes] | None:
        found = self._journaled(name, limit, faults)
        if found is not None:
            return found
        raw = bytes.fromhex(name)
        for folder, packs in zip(self._folders, self._packs, strict=True):
            # They are at hand, and most objects are in one; those that belong together, in the same one.
            for pack in packs if self._recent is None else (self._recent, *packs):
                try:
                    found = pack.read(raw, limit)
                    if found is not None:
                        self._recent = pack
                        return found
                except Unreadable as fault:
                    faults.append(fault)  # another copy may be whole
            try:
                found = read_loose(_file(folder, name), name, limit)
                if found is not None:
                    return found
            except Unreadable as fault:
                faults.append(fault)
        return None

    # Writing -----------------------------------------------------------------------------------------------------

    def borrow(self, other: Path) -> None:
        """Take what is not here from another repository's folder of objects, from now on, as ``git clone --shared``.

        Raises:
            OSError: it cannot be noted; a path with a line's end in it cannot either.
        """
        line, info = f"{other.absolute()}", self._folder / "info"
        if "\n" in line:
            raise OSError(f"git cannot borrow from {line!r}")
        if not info.is_dir():
            _disk.make_folder(info)
        file, new = info / "alternates", info / f"alternates.{mark()}"
        known = file.read_text("utf-8", "surrogateescape") if file.exists() else ""
        if line in known.split("\n"):
            return
        _disk.write(new, f"{known}{line}\n".encode("utf-8", "surrogateescape"))
        _disk.sync(new)
        _disk.rename(new, file)
        for folder in (info, self._folder):
            _disk.sync(folder)
        with self._turn:
            self._refresh()

    def write(self, batch: Mapping[str, tuple[Kind, bytes]]) -> None:
        """Write objects; when this returns they are there, whole, and as durable as the store is.

        One that is there already stays if it is whole, and is replaced if it is not.

        Raises:
            OSError: the disk is full, or may not be written. No object is there in part.
        """
        with self._turn:
            for again in reversed(range(_TRIES)):
                try:
                    self._write(batch)
                    return
                except FileNotFoundError:
                    # Git has taken away a file that is in a pack, too, and the folder that was empty then.
                    if not again:
                        raise

    def _write(self, batch: Mapping[str, tuple[Kind, bytes]]) -> None:
        if not self._tidied:
            self.tidy()
            self._tidied = True
        new: dict[Path, Path] = {}
        folders: dict[Path, None] = {}
        try:
            for name, (kind, data) in batch.items():
                file = _file(self._folder, name)
                folders[file.parent] = None
                if self._is_whole(file, name, kind, data):
                    continue
                temporary = self._folder / (_OURS + mark())
                new[temporary] = file
                _disk.write(temporary, deflate(header(kind, len(data)) + data), 0o444)
                if self._durable:
                    _disk.sync(temporary)
            for temporary, file in new.items():
                self._place(temporary, file)
        except OSError:
            for temporary in new:
                _disk.unlink(temporary)
            raise
        if self._durable:
            for folder in (*folders, self._folder):
                _disk.sync(folder)

    def write_packed(self, batch: Mapping[str, tuple[Kind, bytes]], *, early: bool = False) -> Path:
        """`write`, as one pack: for so many that a file for each, and waiting for it, would take long. The pack.

        Git touches one that is `early` no sooner than it is let go of.

        Raises:
            OSError: the disk is full, or may not be written. There is no such pack then.
        """
        entries = ((bytes.fromhex(name), packed(kind, data)) for name, (kind, data) in batch.items())
        return write_pack(self._folder, len(batch), entries, durable=self._durable, early=early)

    def _is_whole(self, file: Path, name: str, kind: Kind, data: bytes) -> bool:
        """Whether an object is there already, as good as if it had just been written."""
        try:
            if read_loose(file, name, len(data)) != (kind, data):
                return False
            os.utime(file)  # to git's prune, it is new
            if self._durable:
                _disk.sync(file)  # whoever wrote it may not have waited
        except (Unreadable, OSError):
            return False
        return True

    def _place(self, temporary: Path, file: Path) -> None:
        while True:
            try:
                _disk.rename(temporary, file)
                return
            except FileNotFoundError:
                # Git removes empty folders of objects, perhaps at this moment.
                if not temporary.exists():
                    raise
                with suppress(FileExistsError):
                    _disk.make_folder(file.parent)

    def tidy(self) -> None:
        """Remove what writers that died have left behind; never what belongs to one that may be alive."""
        oldest = time.time() - _STRANGERS_AGE
        with suppress(OSError):
            for entry in list(os.scandir(self._folder)):
                if not entry.name.startswith(_TEMPORARY) or not entry.is_file(follow_symlinks=False):
                    continue
                with suppress(OSError):
                    dead = is_dead(entry.name.removeprefix(_OURS))
                    if dead or entry.stat(follow_symlinks=False).st_mtime < oldest:
                        _disk.unlink(Path(entry.path))


def read_loose(file: Path, name: str, limit: int = MAX_OBJECT) -> tuple[Kind, bytes] | None:
    """An object from its own file, or None if it has none.

    Raises:
        Torn: it is not whole.
        TooLarge: it has more than `limit` bytes.
        Unavailable: too many files are open.
    """
    try:
        with _disk.opened(file) as opened:
            data = opened.read(_FIRST)
            head = _HEAD.match(inflate(data, _HEAD_SIZE).text)
            if head is None:
                raise torn(f"Object {name}", file, "its header is no object's" if data else "it is empty")
            kind, size = _KIND[head[1]], int(head[2])
            if size > limit:
                raise too_large(f"Object {name}", f"{size:,} bytes", f"{limit:,}")
            if len(data) == _FIRST:
                data += opened.read(max(0, deflated_at_most(size) - _FIRST))
        found, whole, more = inflate(data, head.end() + size)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except NotDeflated as error:
        raise torn(f"Object {name}", file, str(error)) from None
    except OSError as error:
        raise unread(f"Object {name}", file, error) from error
    if not whole or more or len(found) != head.end() + size:
        raise torn(f"Object {name}", file, "it is cut short, or longer than it says")
    if hashlib.sha1(found, usedforsecurity=False).hexdigest() != name:
        raise torn(f"Object {name}", file, "its content is another's")
    return kind, found[head.end() :]


def fanned(objects: Path) -> Iterator[Path]:
    """What is in those folders where objects have files of their own, in order; git removes one once it is empty."""
    for number in range(256):
        with suppress(FileNotFoundError, NotADirectoryError):
            yield from sorted((objects / f"{number:02x}").iterdir())


def _file(folder: Path, name: str) -> Path:
    return folder / name[:2] / name[2:]


def _alternates(folder: Path, depth: int) -> Iterator[Path]:
    """The folders of objects that a repository borrows from."""
    try:
        lines = (folder / "info" / "alternates").read_text("utf-8", "surrogateescape").split("\n") if depth else []
    except OSError:
        return
    for line in lines:
        if line and not line.startswith("#"):
            yield folder / line
            yield from _alternates(folder / line, depth - 1)
