"""Sealing: what the journal holds is brought to where git looks, and then taken out of the journal.

Each segment becomes one pack; then the branches are put where it has brought them; then it goes. Killed in between,
whoever does it again does the same: the same segment makes a pack of the same objects, and a branch that is there is
there.
"""

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from io import FileIO
from pathlib import Path
from typing import NamedTuple

from . import _disk, _refs, _unsynced
from ._early import Early
from ._errors import torn
from ._exclusive import Locks, Turns, sealing, settle
from ._format import Kind
from ._frames import Damaged, Place, RefMove, content
from ._journal import Journal, Segment
from ._journaled import JournaledRefs, Listed
from ._objects import MAX_OBJECT
from ._owner import is_dead, mark
from ._packing import keeper, tidy_kept, write_pack
from ._vanished import about_to_let_go
from ._versions import shortened

_BRANCH = "branch-"
_STRETCH, _PART = 2**13, 256  # bytes: about a tenth of a millisecond's work; or as large a part of what is to be sealed
_TURN = 1e-5  # seconds: what Python makes of it is enough for another thread to wake up


class _Ready(NamedTuple):
    """What a segment has become: a pack, a list of branches, and files for those that are in no list."""

    segment: Segment
    pack: Path | None
    listed: Listed | None
    files: dict[str, Path]


class _Sealed(Exception):
    """Somebody else has sealed a segment."""


class Sealer:
    """Seals the journal of a repository. Any process may, at any time, whoever wrote the journal."""

    def __init__(
        self,
        repository: Path,
        journal: Journal,
        refs: JournaledRefs,
        turns: Turns,
        early: Early,
        apart: Callable[[], str | None],
    ) -> None:
        """`apart` says why branches keep files of their own, if they do."""
        self._repository, self._objects, self._journal = repository, repository / "objects", journal
        self._refs, self._turns, self._early, self._apart = refs, turns, early, apart

    def seal(self) -> None:
        """Seal what was acknowledged by now. Writers are kept waiting for its beginning and its end alone.

        Raises:
            Locked: another process holds the repository.
            Torn: an earlier version has written what is no object.
            Unavailable: it cannot be written. Nothing was lost.
        """
        try:
            done = self._done()
            if self._journal.folder.is_dir():
                with sealing(self._repository):  # what is read from a segment must not be erased before it is in a pack
                    self._seal()
            self._early.let_go(done)
        except OSError as error:
            raise self._refs.fault("What the journal holds", error) from error

    def _done(self) -> list[Path]:
        """The packs that git may have once what is in the journal by now is sealed."""
        done, left = self._early.done(), self._early.left()
        if left:
            with suppress(OSError), self._turns.take(_refs.LOCK_SECONDS):
                # Whose they are may have slept, and be about to name them: that is journaled by now, or asks git.
                about_to_let_go(self._repository)
                done += left
        return done

    def _seal(self) -> None:
        with self._turns.take(_refs.LOCK_SECONDS):
            segments = self._journal.rotate()
            if not segments:
                # Of somebody who died, where who came after them has made another pack: ISA-L may, and a later version.
                tidy_kept(self._objects, sealed=True)
                self._tidy()
                return
        with self._prepared(segments) as ready:
            if any(map(self._lags, segments)):
                _disk.sync_all()  # most of what `_stand` would let everybody wait for
            with self._turns.take(_refs.LOCK_SECONDS) as locks:
                self._finish(ready, locks)

    def seal_within(self, locks: Locks) -> None:
        """Seal all there is, with exclusive access."""
        segments = self._journal.rotate()
        if segments:
            with self._prepared(segments, within=True) as ready:
                self._finish(ready, locks)
        self._refs.guard.take_stale_away(self._journal.heads())

    # Steps of it -------------------------------------------------------------------------------------------------

    @contextmanager
    def _prepared(self, segments: Sequence[Segment], *, within: bool = False) -> Iterator[Sequence[_Ready]]:
        """What closed segments have become, for as long as the block lasts."""
        ready: list[_Ready] = []
        try:
            for segment in segments:
                ready.append(self._prepare(segment, within=within))
            yield ready
        finally:
            for one in ready:
                for file in (*one.files.values(), *([] if one.listed is None else [one.listed.file])):
                    _disk.unlink(file)

    def _prepare(self, segment: Segment, *, within: bool) -> _Ready:
        """Make the pack of a segment, kept from git for now, and what its branches are to be put in place with."""
        segment.durable = segment.durable or self._journal.holds_durable  # for `_stand` to wait for nothing
        files: dict[str, Path] = {}
        try:
            pack = self._pack(segment, within=within)
            listed = self._refs.listed(segment.moves, self._new(), self._apart)
            try:
                if listed is not None and segment.durable:
                    _disk.sync(listed.file)
                for ref in segment.moves:
                    if listed is None or ref not in listed.moves:
                        self._write_branch(segment, ref, files)
            except BaseException:
                if listed is not None:
                    _disk.unlink(listed.file)
                raise
        except BaseException:
            for file in files.values():
                _disk.unlink(file)
            raise
        return _Ready(segment, pack, listed, files)

    def _pack(self, segment: Segment, *, within: bool) -> Path | None:
        places = segment.objects
        try:
            file = _disk.opened(segment.path)
        except FileNotFoundError:  # somebody else has sealed it
            return None
        found = shortened(contents(file, places, self._stretch))
        keep = self._still_there(segment, within=within)
        try:
            with file, suppress(_Sealed):
                if places:
                    return write_pack(
                        *(self._objects, len(places), found),
                        durable=segment.durable,
                        keep=keep,
                        source=segment.path.name,  # which no other segment ever has
                    )
        except Damaged as error:
            raise torn("An object in the journal", segment.path, str(error)) from error
        return None

    @contextmanager
    def _still_there(self, segment: Segment, *, within: bool) -> Iterator[None]:
        """Be the only one while a pack is kept from git, unless the segment is sealed by now.

        Git takes what is kept for what it need not pack, but deletes what was not when it began to look. So whoever
        comes second must not keep a pack that was let go of.

        Raises:
            _Sealed: somebody else has sealed it.
        """
        with nullcontext() if within else self._turns.take(_refs.LOCK_SECONDS):
            if not segment.path.exists():
                raise _Sealed
            yield

    def _stretch(self) -> int:
        """How many bytes to seal in a row: others wait meanwhile, the longer the less it keeps up with them."""
        return max(_STRETCH, self._journal.size // _PART)

    def _new(self) -> Path:
        return self._journal.folder / f"{_BRANCH}{mark()}"

    def _write_branch(self, segment: Segment, ref: str, files: dict[str, Path]) -> None:
        files[ref] = self._new()
        _disk.write(files[ref], f"{segment.moves[ref][-1].new}\n".encode())
        if segment.durable:
            _disk.sync(files[ref])

    def _finish(self, ready: Sequence[_Ready], locks: Locks) -> None:
        """Put branches where closed segments have brought them, and remove the segments."""
        for one in ready:
            if one.segment.path.exists():  # else somebody else has sealed it
                self._publish(one, locks)
                self._stand(one.segment)
                self._release(one.segment, one.pack)
            elif one.pack is not None:
                _disk.unlink(keeper(one.pack))
        self._tidy()

    def _publish(self, ready: _Ready, locks: Locks) -> None:
        segment, listed, files = ready.segment, ready.listed, ready.files
        enlisted = listed.moves if listed is not None and self._refs.enlist(listed, locks) else {}
        folders: dict[Path, None] = {}
        if enlisted:
            folders[self._repository] = None
        for ref, moves in segment.moves.items():
            if ref in enlisted:
                continue
            if ref not in files:
                self._write_branch(segment, ref, files)
            if not self._refs.publish(moves, files[ref]):
                self._set_aside(moves[-1], files[ref])
            folders.update(dict.fromkeys(self._refs.folders(ref)))
        if segment.durable:
            for folder in folders:
                settle(self._repository, folder)

    def _set_aside(self, last: RefMove, file: Path) -> None:
        """Keep steps of a branch that somebody has moved all the same, under a name of their own."""
        for digits in (7, 40):
            if self._refs.publish(
                [RefMove(f"{last.ref}-unsealed-{last.new[:digits]}", None, last.new, last.note)], file
            ):
                return
        raise FileExistsError(f"{last.ref} was moved by another program, and its steps since have no place to go")

    def _stand(self, segment: Segment) -> None:
        """What was not synced of a segment, as its steps need not outlast a power cut, is if later ones are to."""
        if self._lags(segment):
            _disk.sync_all()
            segment.durable = True
        elif not segment.durable:
            _unsynced.stand(self._repository, durable=False)

    def _lags(self, segment: Segment) -> bool:
        """Whether a segment was not synced, and holds what later steps that are to outlast a power cut build upon."""
        self._journal.catch_up()  # others may have added to it since
        return not segment.durable and self._journal.holds_durable

    def _release(self, segment: Segment, pack: Path | None) -> None:
        """Let git have what is sealed, in this order: until then it is in the journal, or safe from git, or both."""
        if pack is not None:
            _disk.unlink(keeper(pack))
            if segment.durable:
                _disk.sync(pack.parent)
        self._journal.set_torn_aside(segment)
        self._journal.remove(segment)
        held = self._journal.heads()
        for ref in segment.moves:
            if ref not in held:
                self._refs.guard.take_away(ref)

    def _tidy(self) -> None:
        """Remove what processes that died while they sealed have left behind."""
        self._refs.guard.take_stale_away(self._journal.heads())
        for file in self._journal.folder.glob(f"{_BRANCH}*"):
            if is_dead(file.name.removeprefix(_BRANCH)):
                _disk.unlink(file)


def contents(
    file: FileIO, places: Mapping[bytes, Place], size: Callable[[], int]
) -> Iterator[tuple[bytes, tuple[Kind, bytes]]]:
    """The objects at places of a segment, the last place first; a stretch of the file of some size is read at a time.

    Between two of them other threads have their turn. Python would let them wait for five milliseconds each time, as
    what is deflated here takes less than it takes them to wake up.

    Raises:
        Damaged: the file is shorter by now, or an earlier version has written what is no object.
    """
    stretch, begin, end = b"", 0, 0
    for name in sorted(places, key=lambda name: places[name][1], reverse=True):
        kind, at, length = places[name]
        if at < begin or at + length > end:  # where one before it has no bytes, that comes first
            time.sleep(_TURN)
            end = at + length
            begin = max(0, min(at, end - size()))
            stretch = os.pread(file.fileno(), end - begin, begin)
            if len(stretch) < end - begin:
                raise Damaged("the file was cut short")
        data = stretch[at - begin : at - begin + length]
        yield name, (content(kind, data, MAX_OBJECT) if kind is None else (kind, data))
