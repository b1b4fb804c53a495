"""Erasing: a loop's content out of a repository for good, and a commit in its place that says so.

First the refs go, then the objects, and a list of these is kept until they are gone: so an erasure that was interrupted
is finished by doing it again. All of it happens while no process of ours can move a ref or take a lease.
"""

import datetime as dt
import shutil
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from .._calls import Person
from .._codec import decode_definition, decode_message, decode_record
from .._errors import SavedStateError
from .._ids import BadName, CommitId, LoopName, loop_name, root_of
from .._trailers import trailers
from . import _disk, _unsynced
from ._exclusive import keeping_up, sealing
from ._forgetter import Forgetter, unclean
from ._format import Malformed, commit_bytes, read_commit, read_tree
from ._keeping import Erased, StillReached
from ._layout import ARCHIVE, LOOPS
from ._leads import ids_of, leads, lines, logs_of_head
from ._leases import LeaseFiles
from ._leftovers import ERASING, PRUNING
from ._looks import folders_of, folders_of_none, looks_of
from ._objects import Batch, Objects
from ._protocol import Locked, Move
from ._together import JointRefs, Swap, check_unused

TOMBSTONES = "refs/archive/erased/"
PLACES = (LOOPS, ARCHIVE)
"""Where the refs of loops are."""

_GRACE = 3600.0  # seconds: what a writer at work has written and no ref names yet is younger
_NAMED = 10


class Eraser:
    """Erases loops of one repository."""

    def __init__(self, folder: Path, objects: Objects, refs: JointRefs, *, bare: bool) -> None:
        self._folder, self._objects, self._refs, self._bare = folder, objects, refs, bare
        self._forgetter = Forgetter(folder, objects)

    def kin(self, root: LoopName) -> tuple[LoopName, ...]:
        """See `Keeper.kin`."""
        roots = {root}
        while True:
            family = self._family(roots)
            more = {one for name in self._holders(family, self._content(family)) if (one := _root(name)) is not None}
            if more <= roots:
                return tuple(sorted(roots))
            roots |= more

    def erase(
        self,
        roots: Iterable[LoopName],
        said: Callable[[LoopName, Mapping[str, CommitId]], str],
        by: Person,
        at: dt.datetime,
        check: Callable[[Iterable[LoopName]], None],
    ) -> Erased:
        """See `Keeper.erase`."""
        chosen, done = sorted(set(roots)), list[Erased]()
        name = chosen[0]

        def change(moves: Callable[[Sequence[Swap], str], None]) -> None:
            leases = LeaseFiles(self._folder)
            family, content = self._erasable(chosen, check)
            doomed = content.objects | (self._forgetter.plan(ERASING + name) or set())
            commits = content.commits | doomed
            left = {*family, *self._left_logs(chosen)}
            others = self._others(left, commits)
            doomed |= self._strays(chosen, others, commits) | self._looked_at(chosen, content.objects)
            shared = len(doomed & others)
            doomed -= others
            tombstones: dict[LoopName, CommitId] = {}
            if family:
                swaps: list[Swap] = []
                for one in sorted({root for ref in family if (root := _root(ref)) is not None}):
                    was = {ref: CommitId(head) for ref, head in family.items() if _root(ref) == one}
                    tombstones[one] = self._tombstone(one, said(one, was), by, at)
                    swaps.append(Swap(TOMBSTONES + one, self._refs.get(TOMBSTONES + one), tombstones[one]))
                doomed -= self._forgetter.reached(tombstones.values())  # one may be left of an attempt before
                self._forgetter.put_plan(ERASING + name, doomed)
                moves([*swaps, *(Swap(ref, head, None) for ref, head in family.items())], "caesura: erased")
            self._forget_logs(left, commits)
            gone = self._forgetter.forget(doomed)
            for one in chosen:
                leases.forget(one)
                self._forget_folders(one)
            self._forgetter.drop_plan(ERASING + name)
            done.append(Erased(tombstones=tombstones, gone=gone, shared=shared))

        self._alone(change)
        if self._bare:
            self._refs.see_to_head()
        return done[-1]

    def check_erasable(self, roots: Iterable[LoopName], check: Callable[[Iterable[LoopName]], None]) -> None:
        """See `Keeper.check_erasable`."""
        self._erasable(sorted(set(roots)), check)

    def _erasable(
        self, chosen: Sequence[LoopName], check: Callable[[Iterable[LoopName]], None]
    ) -> tuple[dict[str, str], "_Content"]:
        """The refs of what is to be erased, and what they lead to, if nothing is in the way."""
        check(LeaseFiles(self._folder).all())
        self._forgetter.check_clean()
        self._check_folders(chosen)
        family = self._family(set(chosen))
        content = self._content(family)
        self._check_alone(family, content)
        return family, content

    def check_prunable(
        self, root: LoopName, moves: Sequence[Move], check: Callable[[Iterable[LoopName]], None]
    ) -> bool:
        """See `Keeper.check_prunable`."""
        check(LeaseFiles(self._folder).all())
        if not moves and self._forgetter.plan(PRUNING + root) is None:
            return False
        self._forgetter.check_clean()
        for one in moves:
            check_unused(self._folder, _ref(one), bare=self._bare)
        return True

    def prune(self, root: LoopName, moves: Sequence[Move], check: Callable[[Iterable[LoopName]], None]) -> int:
        """See `Keeper.prune`."""
        done: list[int] = []
        swaps = [Swap(_ref(one), one.old, one.new) for one in moves]

        def change(move: Callable[[Sequence[Swap], str], None]) -> None:
            if not self.check_prunable(root, moves, check):
                return
            begun = self._forgetter.plan(PRUNING + root)
            heads = {one.ref: one.old for one in swaps if one.old is not None}
            content = self._content(heads)
            doomed = content.objects | (begun or set())
            self._forgetter.put_plan(PRUNING + root, doomed)
            if swaps:
                move(swaps, "caesura: pruned")
            commits = content.commits | doomed
            self._forget_logs([ref for place in PLACES for ref in self._refs.all(place) if _root(ref) == root], commits)
            doomed -= self._others(set(), commits)
            done.append(self._forgetter.forget(doomed))
            self._forgetter.drop_plan(PRUNING + root)

        self._alone(change)
        return sum(done[-1:])

    def _alone(self, change: Callable[[Callable[[Sequence[Swap], str], None]], None]) -> None:
        """Make a change with exclusive access, while nobody puts what is to go into other files.

        Raises:
            Locked: upkeep is at work, or steps are being sealed.
        """
        _unsynced.lighten(self._folder, durable=True)  # as the forgetter waits for all of it
        with keeping_up(self._folder) as first, sealing(self._folder, alone=True) as still:
            if not first:
                raise Locked("Upkeep is at work in the repository.", hint="Try again once 'caesura gc' is done.")
            if not still:
                raise Locked("Steps are being sealed in the repository.", hint="Try again in a moment.")
            self._refs.alone(change)

    # What it is --------------------------------------------------------------------------------------------------

    def _family(self, roots: set[LoopName]) -> dict[str, str]:
        """The refs of loops with all that is nested in them, and where each is.

        Raises:
            Torn, Withheld: one points nowhere, or may not be read.
            Unavailable: one is checked out.
        """
        family: dict[str, str] = {}
        for place in PLACES:
            for name, head in self._refs.loops(place):
                if root_of(name) in roots:
                    if not isinstance(head, str):
                        raise head
                    check_unused(self._folder, place + name, bare=self._bare)
                    family[place + name] = head
        return family

    def _content(self, family: Mapping[str, str]) -> "_Content":
        """All that refs, and their logs, lead to."""
        ids = {*family.values()}
        for ref in family:
            with suppress(FileNotFoundError):
                ids |= {one for line in lines(self._folder / "logs" / ref) for one in ids_of(line)}
        return _Content(ids, self._forgetter.reached(ids), self._forgetter.commits(ids)) if ids else _NOTHING

    def _check_alone(self, family: Mapping[str, str], content: "_Content") -> None:
        """Make sure that nothing else leads to a commit of these refs.

        Raises:
            StillReached: something does.
        """
        holders = self._holders(family, content)
        if holders:
            more = f" and {len(holders) - _NAMED} more" if len(holders) > _NAMED else ""
            raise StillReached(
                f"What is to be erased is a part of {', '.join(holders[:_NAMED])}{more} as well.",
                hint="--with-forks erases the loops among these, too; delete other refs and files with git first."
                if any(_root(name) for name in holders)
                else "Delete these first: 'git branch -D', 'git tag -d', 'git reflog expire', or a file of git's own.",
            )

    def _holders(self, family: Mapping[str, str], content: "_Content") -> list[str]:
        """What else leads to a commit of these refs."""
        if not content.commits:
            return []
        others = list(leads(self._folder, self._refs, family.keys(), content.commits))
        reached = self._forgetter.commits({one for lead in others for one in lead.ids})
        # Whoever leads to a commit leads to a first one.
        first = self._forgetter.commits(content.ids, "--max-parents=0") & reached
        holding = self._forgetter.holding(first)
        found = {
            lead.name: None
            for lead in others
            if lead.name in holding
            or not content.objects.isdisjoint(lead.ids)
            or (not lead.name.startswith("refs/") and first & self._forgetter.commits(lead.ids))
        }
        return [name for name in found if name.removeprefix("logs/") not in found or not name.startswith("logs/")]

    def _others(self, refs: set[str], forgotten: set[str]) -> set[str]:
        """All that anything leads to but these refs, and the past of ``HEAD`` as far as it is to be forgotten."""
        ids = {one for lead in leads(self._folder, self._refs, refs, forgotten) for one in lead.ids}
        return self._forgetter.reached(ids, "--indexed-objects")

    def _strays(self, roots: Collection[LoopName], others: set[str], commits: set[str]) -> set[str]:
        """What steps of the loops that came to nothing have left: of writers that lost a race, or that died."""
        doomed: set[str] = set()
        unreached = {name: kind for name, kind in self._forgetter.all() if name not in others}
        lost = dict[str, tuple[frozenset[str], str | None]]()
        for name in (name for name, kind in unreached.items() if kind == "commit" and name not in commits):
            with suppress(SavedStateError, Malformed):
                raw = read_commit(self._objects.get(name, "commit"))
                lost[name] = (frozenset(raw.parents), trailers(raw.message).get("Loop", (None,))[0])
        theirs = set(commits)
        while more := {
            name
            for name, (parents, loop) in lost.items()
            if name not in theirs and (not theirs.isdisjoint(parents) or (loop or "").partition(".")[0] in roots)
        }:
            theirs |= more
        for name in theirs - commits:
            doomed |= {name, *self._below([read_commit(self._objects.get(name, "commit")).tree])}
        for name, kind in unreached.items():
            if kind == "blob" and name not in doomed and self._is_old(name) and self._is_ours(name):
                doomed.add(name)
        return doomed

    def _looked_at(self, roots: Iterable[LoopName], known: Collection[str]) -> set[str]:
        """The files that were read in the loops' folders, and are in none of the commits: changed by hand, and never
        kept, or merged and given up."""
        return self._below([tree for root in roots for tree in looks_of(self._folder, root)], known)

    def _below(self, trees: Iterable[str], known: Collection[str] = ()) -> set[str]:
        """Trees that may not be whole, and what is there of what is in them, but for what is known."""
        found, waiting = set[str](), list(trees)
        while waiting:
            name = waiting.pop()
            if name in found or name in known:
                continue
            found.add(name)
            with suppress(SavedStateError, Malformed):
                kind, data = self._objects.read(name)
                if kind == "tree":
                    waiting += [entry.id for entry in read_tree(data)]
        return found

    def _is_old(self, name: str) -> bool:
        """Whether no writer that is at work can have written an object."""
        oldest = time.time() - _GRACE
        for file in self._objects.loose(name):
            with suppress(FileNotFoundError):  # git takes away what is in a pack, too
                if file.stat().st_mtime >= oldest:
                    return False
        return True

    def _is_ours(self, name: str) -> bool:
        """Whether a blob is a file of a loop's."""
        data = self._objects.get(name, "blob")
        for decode in (decode_record, decode_definition, lambda text: decode_message(text, "")):
            with suppress(SavedStateError):
                decode(data)
                return True
        return False

    # What stays and what goes ------------------------------------------------------------------------------------

    def _tombstone(self, root: LoopName, message: str, by: Person, at: dt.datetime) -> CommitId:
        batch = Batch()
        before = self._refs.get(TOMBSTONES + root)
        tree = batch.add("tree", b"")
        data = commit_bytes(tree, [before] if before else [], author=by, committer=by, at=at, message=message)
        name = CommitId(batch.add("commit", data))
        self._objects.write(batch)
        return name

    def _left_logs(self, roots: Iterable[LoopName]) -> Iterator[str]:
        """The refs of loops that are gone, and whose logs an interrupted erasure may have left."""
        for place in PLACES:
            for root in roots:
                with suppress(FileNotFoundError):  # git removes the folder with the last log in it
                    for file in sorted((self._folder / "logs" / place).glob(f"{root}*")):
                        if _root(place + file.name) == root and self._refs.get(place + file.name) is None:
                            yield place + file.name

    def _check_folders(self, chosen: Iterable[LoopName]) -> None:
        """Make sure that every folder in which loops worked is of one that is there.

        Raises:
            Unclean: the loop of one is gone; it may have been a fork of what is to be erased.
        """

        def there() -> set[LoopName]:
            return {*chosen, *(root_of(name) for place in PLACES for name, _ in self._refs.loops(place))}

        for own in folders_of_none(self._folder, there):
            raise unclean(own, self._folder, "is the folder of a loop that is gone", "If it may go, delete it.")

    def _forget_folders(self, root: LoopName) -> None:
        """Remove the folder that a loop worked in, if it is the repository's, and what is known of another."""
        for own in folders_of(self._folder, root):
            shutil.rmtree(own)

    def _forget_logs(self, refs: Iterable[str], forgotten: set[str]) -> None:
        for ref in refs:
            with suppress(FileNotFoundError, NotADirectoryError):
                _disk.unlink(self._folder / "logs" / ref)
        for file in logs_of_head(self._folder):
            before = lines(file)
            kept = [line for line in before if not forgotten & ids_of(line)]
            if len(kept) < len(before):
                new = self._folder / "caesura.log.new"
                _disk.unlink(new)
                _disk.write(new, b"".join(kept))
                _disk.rename(new, file)


class _Content(NamedTuple):
    """What some refs and their logs lead to."""

    ids: set[str]
    objects: set[str]
    commits: set[str]


_NOTHING = _Content(set(), set(), set())


def _ref(move: Move) -> str:
    """The ref that a move is of."""
    return (ARCHIVE if move.archived else LOOPS) + move.loop


def _root(ref: str) -> LoopName | None:
    """The root loop that a ref is of."""
    for place in PLACES:
        with suppress(BadName):
            if ref.startswith(place):
                return root_of(loop_name(ref.removeprefix(place)))
    return None
