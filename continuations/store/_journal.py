"""The journal: steps that are done, and that git does not see yet. Read by every process, written to by one at a time.

It is a folder of segments, of which the last one grows. Whoever has exclusive access adds frames to it, or begins the
next segment; a segment that is not the last one changes no more, and goes once all that is in it is where git looks.
So a look at the last one's size, at how many names the others have, and at whether there is a next one, tells what
others have done.
"""

import os
import secrets
from collections.abc import Mapping, Sequence
from contextlib import suppress
from itertools import chain
from pathlib import Path
from threading import RLock

from . import _disk, _unsynced
from ._format import Kind
from ._frames import (
    HEAD,
    HEADER,
    VERSION,
    Damaged,
    Frame,
    Place,
    RefMove,
    content,
    frame_bytes,
    length,
    new_header,
    read_frame,
    read_header,
)
from ._refused import or_refused
from ._vanished import about_to_erase

FOLDER, TORN = "caesura.journal", "torn-"
"""The folder in the repository that the journal is in; with what a file's name begins there that keeps a torn end."""

_NUMBERS = 10**7
_LEAST, _ROOM, _LONG = 2**16, 2**20, 2**15
"""By how many bytes at least and at most a segment is made longer than need be, for a frame of fewer than how many."""


class Segment:
    """One file of the journal, as far as it was read. Its frames end where one is damaged, or not all there yet."""

    def __init__(self, path: Path) -> None:
        """Open it, and read nothing.

        Raises:
            OSError: it is gone, or may not be read.
        """
        self.path, self.number = path, int(path.name)
        self._name, self._next = str(path), str(path.with_name(f"{self.number + 1:08}"))
        self.objects: dict[bytes, Place] = {}
        self.moves: dict[str, list[RefMove]] = {}
        self.durable, self.steps = False, 0
        self.whole = False  # by the last look: whether another frame can follow the last one
        self.end, self._file = 0, -1
        self.size = 0  # how many bytes the file had by the last look, the room for frames to come included
        with _disk.opened(path) as file:
            self._file = os.dup(file.fileno())
        self._version = VERSION
        self.chain = 0  # what the checksum of the next frame goes on from

    def close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    __del__ = close  # by a store that nobody closes, as Python does with files

    def gone(self) -> bool:
        """See whether it has been removed, or what was read from it taken back."""
        if not self.end:  # whoever began it may have failed, and have begun another of that name since
            return os.fstat(self._file).st_nlink == 0
        # Not by its status: once somebody has looked at its times, the next write sets new ones, and to sync that takes
        # half as long again. No two segments have one name.
        self.size = os.lseek(self._file, 0, os.SEEK_END)
        return self.size < self.end or not os.access(self._name, os.F_OK)

    def is_last(self) -> bool:
        """Whether there is no next one."""
        return not os.access(self._next, os.F_OK)

    @property
    def room(self) -> int:
        """How many bytes the file has, those that are yet to be written to included."""
        return os.lseek(self._file, 0, os.SEEK_END)

    def tail(self) -> bytes:
        """What follows the last frame, but for the room that was made for others."""
        return self.read(self.end, self.room - self.end).rstrip(b"\x00")

    def read(self, at: int, length: int) -> bytes:
        """Bytes at a place."""
        return os.pread(self._file, length, at)

    def read_on(self) -> list[Frame]:
        """Read what was added since; the new frames."""
        frames: list[Frame] = []
        try:
            if not self.end:
                self._version, self.chain = read_header(self.read(0, HEADER))
                self.end = HEADER
            while (head := os.pread(self._file, HEAD, self.end)).strip(b"\x00"):
                size = length(head)
                if not size or self.end + size > self.room:
                    raise Damaged("it is not all there, or no frame")
                frame = read_frame(self.read(self.end, size), self.end, self.chain, self._version)
                self.add(frame)
                frames.append(frame)
            self.whole = self._version == VERSION
        except Damaged:
            self.whole = False
        return frames

    def add(self, frame: Frame) -> None:
        """Take note of the next frame."""
        self.durable |= frame.durable
        self.objects.update(frame.objects)
        for move in frame.moves:
            self.moves.setdefault(move.ref, []).append(move)
        self.steps += len(frame.moves)
        self.end, self.chain = frame.end, frame.chain


class Journal:
    """A repository's journal; its methods are for any thread at any time, but those that say that they are not."""

    def __init__(self, repository: Path, *, durable: bool) -> None:
        self.folder, self.repository = repository / FOLDER, str(repository)
        self._durable = durable
        self._turn = RLock()
        self._segments: list[Segment] = []
        self._heads: dict[str, str] = {}
        # How many moves it holds, and how many bytes they take, as far as it was read.
        self.steps = self.size = 0
        # Objects kept for the next frame, and of how many bytes; those of one that is being written, or could not be.
        self._pending: dict[str, tuple[Kind, bytes]] = {}
        self._waiting = 0
        self._due: dict[str, tuple[Kind, bytes]] = {}
        # The objects of commits that no branch was moved to yet, whoever's frame has taken them.
        self._unmoved: dict[str, Mapping[str, tuple[Kind, bytes]]] = {}
        self.waited = True  # with the last frame, for what others had not synced; so may the first
        self._growing: _disk.Growing | None = None
        self._grows = self._settled = -1

    def close(self) -> None:
        """Let go of the files."""
        with self._turn:
            for segment in self._segments:
                segment.close()
            self._segments.clear()
            self._heads.clear()
            self._unmoved.clear()
            self.steps = self.size = 0
            self._let_go()

    # Reading -----------------------------------------------------------------------------------------------------

    def head(self, ref: str) -> str | None:
        """Where a branch is by the journal; None if the journal does not hold it."""
        with self._turn:
            self.catch_up()
            return self._heads.get(ref)

    def known(self, ref: str) -> str | None:
        """`head`, as far as the journal was read."""
        return self._heads.get(ref)

    def heads(self) -> Mapping[str, str]:
        """Where the branches are that the journal holds."""
        with self._turn:
            self.catch_up()
            return self.known_heads()

    def known_heads(self) -> Mapping[str, str]:
        """`heads`, as far as the journal was read."""
        return dict(self._heads)

    def object(self, name: str, limit: int) -> tuple[Kind, bytes] | None:
        """An object's kind and its bytes, by its id, as far as the journal was read.

        Raises:
            Damaged: an earlier version has written it, and it is not whole, or has more than `limit` bytes.
        """
        with self._turn:
            found = self._pending.get(name) or self._due.get(name)
            if found is not None:
                return found
            raw = bytes.fromhex(name)
            for segment in reversed(self._segments):
                if (place := segment.objects.get(raw)) is not None:
                    kind, at, size = place
                    return content(kind, segment.read(at, size), limit)
            return None

    def find(self, prefix: str) -> set[str]:
        """The ids of objects in it that begin so."""
        with self._turn:
            self.catch_up()
            written = (name.hex() for segment in self._segments for name in segment.objects)
            return {name for name in chain(self._pending, self._due, written) if name.startswith(prefix)}

    def catch_up(self) -> bool:
        """See what others have added and removed; whether there was anything."""
        with self._turn:
            gone = [segment for segment in self._segments if segment.gone()]
            if gone or not self._segments or not self._segments[-1].is_last():
                return self._look_around(gone)
            begin, frames = self._segments[-1].end, self._segments[-1].read_on()
            for frame in frames:
                self._note(frame, begin)
                begin = frame.end
            return bool(frames)

    def _look_around(self, gone: list[Segment]) -> bool:
        """See which segments there are now."""
        there = self._there()
        for segment in gone:
            self._segments.remove(segment)
            segment.close()
        known = {segment.number for segment in self._segments}  # one that was taken back from is read anew
        for number in sorted(there - known):
            with or_refused("The journal could not be read"), suppress(FileNotFoundError):  # it went meanwhile
                self._segments.append(Segment(self._path(number)))
        self._segments.sort(key=lambda segment: segment.number)
        frames = [frame for segment in self._segments for frame in segment.read_on()]
        self._heads = {ref: moves[-1].new for segment in self._segments for ref, moves in segment.moves.items()}
        self.steps = sum(segment.steps for segment in self._segments)
        self.size = sum(segment.end for segment in self._segments)
        return bool(gone or frames or there - known)

    def _there(self) -> set[int]:
        # Who takes what may not be looked at for nothing adds a step where others have gone on.
        with or_refused("The journal could not be read"), suppress(FileNotFoundError, NotADirectoryError):
            return {int(path.name) for path in self.folder.iterdir() if path.name.isdecimal()}
        return set()

    def _note(self, frame: Frame, begin: int) -> None:
        self.steps += len(frame.moves)
        self.size += frame.end - begin
        for move in frame.moves:
            self._heads[move.ref] = move.new

    def _path(self, number: int) -> Path:
        return self.folder / f"{number:08}"

    # Objects to come ---------------------------------------------------------------------------------------------

    def prepare(self, objects: dict[str, tuple[Kind, bytes]]) -> int:
        """Keep objects for the next frame, and for that which moves a branch to the last one; how many bytes wait."""
        with self._turn:
            self._pending.update(objects)
            self._unmoved[next(reversed(objects))] = objects
            self._waiting += sum([len(data) for _, data in objects.values()])
            return self._waiting

    def unmoved(self, commit: str) -> Mapping[str, tuple[Kind, bytes]]:
        """The objects of a commit that no branch was moved to yet, by their ids, unless it was forgotten."""
        return self._unmoved.get(commit) or {}

    def forget(self, commit: str) -> None:
        """Let go of the objects of a commit; who moves a branch to it now asks git whether they are all there."""
        self._unmoved.pop(commit, None)

    # Writing, for whoever has exclusive access ---------------------------------------------------------------------

    def append(self, moves: Sequence[RefMove]) -> None:
        """Add a frame with moves and the objects that are kept for it, if there are any, after a `catch_up`.

        When this returns it is as durable as the journal is.

        Raises:
            OSError: it cannot be written. It is not there then.
        """
        with self._turn:
            # What an earlier frame holds is in this one, too: it might be taken back yet, or sealed, and erased.
            objects = self._due = {**self._due, **self._pending} if self._due else self._pending
            self._pending, self._waiting = {}, 0
            for move in moves:
                # Another's frame may have taken them: once that is sealed, they are in a pack, and to git in no branch.
                if (theirs := self._unmoved.get(move.new)) and move.new not in objects:
                    objects.update(theirs)
            if not objects and not moves:
                return
            segment, growing = self._writable()
        self.waited = _unsynced.stand(self.repository, durable=self._durable)
        data, frame = frame_bytes(objects, moves, durable=self._durable, at=segment.end, chain=segment.chain)
        begin, written = segment.end, False
        try:
            if self._durable and len(data) < _LONG and frame.end > segment.size:
                try:  # over what is there already, the disk need not note how long the file is, each time
                    _disk.put(growing, frame.end, bytes(min(max(frame.end, _LEAST), _ROOM)))
                except OSError:  # there may be room for the step itself, without what that took
                    _disk.cut(growing, begin)
            _disk.put(growing, begin, data)
            written = True
            if self._durable:
                _disk.settle(growing)
        except OSError:
            self._take_back(growing, begin, trusted=not written)
            raise
        with self._turn:
            if segment.end == begin:  # else a look from another thread has found it by now
                segment.add(frame)
                self._note(frame, begin)
            self._due = {}
            for move in moves:
                self.forget(move.new)

    def _take_back(self, growing: _disk.Growing, size: int, *, trusted: bool) -> None:
        """Make a frame undone that is there in part, or may not have reached the disk."""
        with self._turn:
            if not trusted:
                with suppress(OSError):  # another process may have read it, and be about to build on what it holds
                    about_to_erase(self.folder.parent)
            with suppress(OSError):
                # What a sync that failed has left of a file, no later one brings back. By its first byte everybody
                # sees that nothing can be added here; by its size, whoever has read it, that it is no more.
                _disk.cut(growing, size if trusted else size + 1)
            self._let_go()
            self.catch_up()  # a look from another thread may have found it

    def _writable(self) -> tuple[Segment, _disk.Growing]:
        """The segment to add to: the last one, if it is whole and ends with a frame."""
        last = self._segments[-1] if self._segments else None
        mine = last is not None and last.number == self._grows
        # A power cut leaves anything; who dies while it writes, the beginning of a frame.
        if last is None or not last.end or not last.whole or (not mine and last.tail()):
            last = self._begin_next()
        if self._growing is None or last.number != self._grows:
            self._let_go()
            self._growing, self._grows = _disk.reopen(last.path), last.number
        if self._durable and self._settled != last.number and not last.durable:
            # Others may have written and not have waited; whoever has added a durable frame has waited before.
            for segment in self._segments[:-1]:
                _disk.sync(segment.path)
            _disk.sync(self.folder)
            _disk.sync(self.folder.parent)
            self._settled = last.number
        return last, self._growing

    def _let_go(self) -> None:
        if self._growing is not None:
            _disk.end(self._growing)
            self._growing, self._grows = None, -1

    def _begin_next(self) -> Segment:
        # The last one stays: so no name comes twice, not even where somebody has removed them all.
        path = self._path(1 + max(self._there(), default=secrets.randbelow(_NUMBERS)))
        with suppress(FileExistsError):
            _disk.make_folder(self.folder)
        self._let_go()
        growing = _disk.begin(path)
        try:
            _disk.grow(growing, new_header())
        except OSError:
            _disk.end(growing)
            _disk.unlink(path)
            raise
        self._growing, self._grows = growing, int(path.name)
        self._look_around([])
        return self._segments[-1]

    def rotate(self) -> list[Segment]:
        """Begin the next segment if anything is in the last one; all that are closed then, oldest first."""
        with self._turn:
            self.catch_up()
            if self._segments and (self._segments[-1].end != HEADER or self._segments[-1].tail()):
                self._begin_next()
            return self._segments[:-1]

    def set_torn_aside(self, segment: Segment) -> None:
        """Keep what follows the last frame of a closed segment, unless it is nothing."""
        tail = segment.tail()
        if len(tail) > 1:  # else it is what was left of one that was taken back, and says nothing
            kept = self.folder / f"{TORN}{segment.path.name}-{segment.end}"
            _disk.unlink(kept)
            _disk.write(kept, tail)
            _disk.sync(kept)

    @property
    def holds_durable(self) -> bool:
        """Whether any step in it is to outlast a power cut, as far as it was read."""
        with self._turn:
            return any(segment.durable for segment in self._segments)

    def remove(self, segment: Segment) -> None:
        """Remove a closed segment, all of which is where git looks."""
        _disk.unlink(segment.path)
        if segment.durable:
            _disk.sync(self.folder)
        with self._turn:
            self._look_around([one for one in self._segments if one.gone()])
