"""Upkeep: what a repository holds stays in few files, however many steps are made, while work goes on in it.

By itself it does nothing until there is more than the bounds below, which are counted. A process that dies in the
middle of it, or a power cut, leaves all there was; a process that works meanwhile finds each thing where it was or
where it is now.
"""

import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext, suppress
from functools import partial
from pathlib import Path

from .._codec import Unreadable
from . import _disk
from ._exclusive import keeping_up
from ._format import Kind, is_id
from ._holdings import Holdings, Upkeep, Upkept
from ._objects import MAX_OBJECT, Objects
from ._pack_refs import Branches
from ._packing import keeper, tidy_kept
from ._packs import Pack
from ._refs import Refs
from ._refused import or_refused
from ._repack import Breathe, NotWhole, Repacking
from ._waiting import Waiting

LOOSE = 4096
"""So many objects may have files of their own."""

PACKS = 16
"""So many packs there may be, besides the large ones."""

BRANCHES = 1000
"""So many branches of root loops may have files of their own."""

_LARGE = 2**25  # bytes: a pack of that size becomes a part of a larger one only by hand
_COPIED = 2**20  # bytes: what are deltas in a pack of that size are so for good
_COMMITS = 256  # that are packed at a time: a good deal less than a second's work
_SAMPLED = ("17", "5a", "a3", "e8")
_AGE = 24 * 3600.0  # seconds: what is older is packed by itself, whoever reaches it, where git tidies up nothing
_OTHERS = (".keep", ".promisor", ".mtimes", ".bitmap")  # beside a pack that is not like others
_INDEX_OF_PACKS = "multi-pack-index"

Progress = Callable[[int, int], None]


class GitUpkeep(Upkeep):
    """Keeps one repository. It uses no object that another thread does."""

    def __init__(
        self,
        folder: Path,
        refs: Refs,
        loops: str,
        *,
        alone: bool,
        apart: Callable[[], str | None],
        breathe: Breathe,
        progress: Callable[[int, int], None],
    ) -> None:
        """`alone`: git itself tidies up nothing there. `apart` says why branches keep files of their own, if they do.

        `breathe` is called often, and may end it by raising.
        """
        self._folder, self._refs, self._alone, self._apart = folder, refs, alone, apart
        self._where = folder / "objects"
        objects = Objects(self._where)
        self._branches = Branches(folder, loops, breathe, Waiting(folder, objects, refs, loops).follow)
        self._packing, self._merging = Repacking(objects, self._where), Repacking(objects, self._where, breathe)
        self._breathe, self._progress = breathe, progress

    def due(self) -> bool:
        sampled = sum(_entries(self._where / name) for name in _SAMPLED)
        if sampled * 256 > LOOSE * len(_SAMPLED) or len(self._small()) > PACKS:
            return True
        return self._apart() is None and self._branches.count() > BRANCHES

    def holdings(self) -> Holdings:
        packs = list((self._where / "pack").glob("pack-*.pack"))
        loose = self._loose()
        files = [*loose.values(), *packs, *(pack.with_suffix(".idx") for pack in packs)]
        return Holdings(
            objects=len(loose),
            packs=len(packs),
            branches=self._branches.count(),
            size=sum(map(_size, files)),
        )

    def run(self, *, thorough: bool = False, dry: bool = False) -> Upkept | None:
        what = f"{self._folder} could not be tidied up"
        with or_refused(what), nullcontext(True) if dry else keeping_up(self._folder) as first:
            if not first:
                return None
            before = self.holdings()
            if not dry:
                self._tidy()
            there = set(self._packs())
            objects = self._pack_loose(bound=0 if thorough else LOOSE, dry=dry)
            merged = self._roll_up(bound=1 if thorough else PACKS, dry=dry, more=bool(objects))
            most, left = 0 if thorough else BRANCHES, self._apart()
            branches = 0 if left else self._branches.pack(bound=most, dry=dry)
            after = before if dry else self.holdings()
            left = left if after.branches > most else None
            packs = len(there & merged)
            return Upkept(objects=objects, packs=packs, branches=branches, left=left, before=before, after=after)

    def _tidy(self) -> None:
        """Take away what somebody who died has left, and git does not know: packs without an index, and the reverse."""
        for kind, other in ((".pack", ".idx"), (".idx", ".pack")):
            for file in (self._where / "pack").glob(f"pack-*{kind}"):
                if not file.with_suffix(other).exists() and _changed(file) < time.time() - _AGE:
                    _disk.unlink(file)
        tidy_kept(self._where)

    # Objects with files of their own ---------------------------------------------------------------------------------

    def _loose(self) -> dict[str, Path]:
        found: dict[str, Path] = {}
        for number in range(256):
            folder = self._where / f"{number:02x}"
            with suppress(OSError):
                files = ((folder.name + entry.name, entry.path) for entry in os.scandir(folder))
                found.update((name, Path(path)) for name, path in files if is_id(name))
        return found

    def _pack_loose(self, *, bound: int, dry: bool) -> int:
        # First: then all that these lead to is there when it is listed, and no gap ends the walk before older ones.
        heads = list(self._heads(every=not bound))
        loose = self._loose()
        if len(loose) <= bound:
            return 0
        total, old = len(loose), time.time() - _AGE
        for name in self._doubles(loose):
            # A step that is being made may need it, and git delete the pack, as no branch leads to what is in it.
            if not self._alone and _changed(loose[name]) >= old:
                continue
            file = loose.pop(name)
            if not dry:
                _disk.unlink(file)
        commits = self._packing.lines(heads, loose)
        for at in range(0, len(commits), _COMMITS):
            # At least this much of it is done, however soon whoever drives loops has come to their end.
            layout = self._packing.layout(reversed(commits[at : at + _COMMITS]), loose)
            self._into_pack(layout, loose, dry=dry)
            self._progress(total - len(loose), total)
            self._breathe()
        # What no branch reaches, and steps that lie behind some that were sealed: those in packs were not gone through.
        rest = [name for name, file in loose.items() if self._alone and (not bound or _changed(file) < old)]
        for at in range(0, len(rest), 8 * _COMMITS):
            self._into_pack(dict.fromkeys(rest[at : at + 8 * _COMMITS]), loose, dry=dry)
        return total - len(loose)

    def _into_pack(self, layout: dict[str, str | None], loose: dict[str, Path], *, dry: bool) -> None:
        """Pack objects, then take their own files away."""
        if dry:
            for name in layout:
                del loose[name]
            return
        made = self._packing.pack(layout)
        if made is not None:
            for name in made.ids():
                _disk.unlink(loose.pop(name))
            made.close()
            _disk.unlink(keeper(made.file))

    def _heads(self, *, every: bool) -> Iterator[str]:
        """Where branches are: those with files of their own, and `every` other, which is seldom of any use."""
        yield from self._branches.loose().values()
        if every:
            yield from (head for _, head in self._refs.entries("refs/") if isinstance(head, str))

    def _doubles(self, loose: dict[str, Path]) -> set[str]:
        """The objects that are whole in a pack, besides."""
        found: set[str] = set()
        for index in self._packs():
            with suppress(OSError, Unreadable):
                pack = Pack(index)
                doubles: set[str] = set()
                for name in loose.keys() - found:
                    self._breathe()
                    if pack.offset(bytes.fromhex(name)) is not None and pack.read(bytes.fromhex(name), MAX_OBJECT):
                        doubles.add(name)
                pack.close()
                for file in (pack.file, index, index.parent) if doubles else ():  # who made it need not have waited
                    _disk.sync(file)
                found |= doubles
        return found

    # Packs -----------------------------------------------------------------------------------------------------------

    def _packs(self) -> list[Path]:
        """The indexes of the packs, the smallest pack first.

        Those that git is making are not among them: they have other names, and if git does not come to its end, it
        takes them away.
        """
        found = (index for index in (self._where / "pack").glob("pack-*.idx") if index.with_suffix(".pack").exists())
        return sorted(found, key=lambda index: (_size(index.with_suffix(".pack")), index.name))

    def _small(self, largest: float = _LARGE) -> list[Path]:
        """The indexes of those that may become a part of another."""
        return [
            index
            for index in self._packs()
            if _size(index.with_suffix(".pack")) < largest
            and not any(index.with_suffix(suffix).exists() for suffix in _OTHERS)
        ]

    def _roll_up(self, *, bound: int, dry: bool, more: bool) -> set[Path]:
        """Make one pack of all, or, by itself, of the smallest, so that each that is left is twice as large.

        The indexes of those that it was made of. `more`: where nothing is done, there would be another one by now.
        """
        small = self._small() if bound > 1 else self._small(math.inf)
        if dry:
            return set(small if more and bound == 1 else _due(small, bound))
        done = set[Path]()
        if bound > 1:
            # First those that take a good deal less than a second: this much is done, however soon the rest is ended.
            done = self._merge(_due(small, bound, _COPIED), self._packing)
            if done:
                small = self._small()
        return done | self._merge(_due(small, bound), self._merging)

    def _merge(self, indexes: list[Path], merging: Repacking) -> set[Path]:
        """Make one pack of those that are whole; which they were."""
        chosen: list[Pack] = []
        try:
            for index in indexes:
                with suppress(OSError, Unreadable):  # it went, or it is damaged, which is for a repair
                    chosen.append(Pack(index))
            return self._replace(chosen, merging)
        finally:
            for pack in chosen:
                pack.close()

    def _replace(self, packs: list[Pack], merging: Repacking) -> set[Path]:
        while len(packs) > 1:
            try:
                made = self._merged(packs, merging)
            except NotWhole as fault:
                packs = [one for one in packs if all(one.offset(bytes.fromhex(name)) is None for name in fault.names)]
                continue
            if made is None:
                break
            made.close()
            old = [pack for pack in packs if pack.file != made.file]
            # As git does: a list of packs that names one that is gone is of no use, and is made again at will.
            for file in (self._where / "pack").glob(f"{_INDEX_OF_PACKS}*"):
                _disk.unlink(file)
            # The indexes last: a pack that is without one, as whoever dies here left it, could be one that git makes.
            for pack in old:
                _disk.unlink(pack.file)
            _disk.sync(self._where / "pack")
            for pack in old:
                for suffix in (".rev", ".idx"):
                    _disk.unlink(pack.file.with_suffix(suffix))
            # Not before: git that repacked all meanwhile may have made one of these anew, and taken this one away.
            _disk.unlink(keeper(made.file))
            return {pack.file.with_suffix(".idx") for pack in packs}
        return set()

    def _merged(self, packs: list[Pack], merging: Repacking) -> Pack | None:
        """One pack of several: what is a delta in a larger one stays as it is, and of the rest more become deltas."""
        ready: dict[bytes, Callable[[], bytes]] = {}
        fresh: dict[str, Kind | None] = {}
        for pack in packs:
            merging.breathe()
            entries = pack.entries()
            kinds: dict[bytes, Kind | None] = {name: pack.kind(start) for name, (start, _) in entries.items()}
            if _size(pack.file) < _COPIED or None not in kinds.values():
                fresh.update((name.hex(), kind) for name, kind in kinds.items())
                continue
            names = {start: name for name, (start, _) in entries.items()}
            for name, (start, end) in entries.items():
                ready.setdefault(name, partial(pack.entry, start, end, names))
        for name in ready:
            fresh.pop(name.hex(), None)
        found = (name for name, kind in fresh.items() if kind in ("commit", None))  # None: told as a delta
        commits = merging.lines(found, fresh)
        layout = merging.layout(reversed(commits), fresh)
        return merging.pack(layout | {name: None for name in fresh if name not in layout}, ready)


def _due(small: list[Path], bound: int, most: float = math.inf) -> list[Path]:
    """The indexes of those packs that are to become one, at `most` of so many bytes together."""
    if len(small) <= bound:
        return []
    sizes = [_size(index.with_suffix(".pack")) for index in small]
    count = len(small)
    while bound > 1 and count > 2 and sizes[count - 1] >= 2 * sum(sizes[: count - 1]):
        count -= 1
    while sum(sizes[:count]) > most:
        count -= 1
    return small[:count]


def _entries(folder: Path) -> int:
    try:
        return sum(1 for _ in os.scandir(folder))
    except OSError:
        return 0


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError:
        return 0


def _changed(file: Path) -> float:
    try:
        return file.stat().st_mtime
    except OSError:
        return time.time()
