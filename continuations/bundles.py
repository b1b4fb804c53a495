"""Bundles: loops carried from one machine to another in a file of git's own format, whole and checked on arrival."""

import datetime as dt
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from ._errors import ConflictError
from ._ids import CommitId, LoopName, parent_name, root_name, root_of
from ._messages import Value
from ._text import shell_quoted
from .erasing import held_by
from .history import History, LoopExists
from .leases import check_undriven
from .missing import NoSuchLoop, missing
from .store import BadBundle, Move, Moved, Store
from .verify import verify


class Diverged(ConflictError):
    """A loop went on here otherwise than in the bundle."""


class Arrival(Value, frozen=True, kw_only=True):
    """A loop of a bundle: where its branch is now, and where it was, if it was there."""

    loop: LoopName
    commit: CommitId
    was: CommitId | None

    @property
    def moved(self) -> bool:
        """Whether the bundle knew more of it than this repository."""
        return self.commit != self.was


def write_bundle(store: Store, loops: tuple[LoopName, ...], file: Path) -> Mapping[LoopName, CommitId]:
    """Write root loops with all that is nested in them and all their history to a file; which heads it holds.

    Raises:
        NoSuchLoop: there is none of a name, or it is nested in another.
        BadBundle: there is such a file.
        Unavailable: it cannot be written, or something is missing from the repository.
    """
    heads, torn, shelved = store.heads(), store.torn(), store.heads(archived=True)
    for loop in loops:
        if parent_name(loop) is not None:
            raise NoSuchLoop(f"{loop} is nested in {root_of(loop)}.", hint=f"Export {root_of(loop)}, or fork {loop}.")
        if loop not in heads and loop in shelved:
            raise NoSuchLoop(
                f"{loop} is in the archive.", hint=f"Bring it back first: 'caesura archive --restore {loop}'."
            )
        if loop not in heads and loop not in torn:
            raise missing(store, loop)
    for name, fault in torn.items():
        if root_of(name) in loops:
            raise fault
    chosen = {name: head for name, head in heads.items() if root_of(name) in loops}
    store.keeper().bundle(chosen, file)
    return chosen


def read_bundle(
    history: History,
    file: Path,
    name: str | None,
    now: dt.datetime,
    progress: Callable[[int], None] = lambda commits: None,
) -> tuple[Arrival, ...]:
    """Verify what a bundle holds, and only then let its loops be loops here: new, or further than they were.

    `name` is what its one root loop is to be called here.

    Raises:
        BadBundle: it is none, is damaged, holds no loops, or one with a fault. Nothing was imported.
        Diverged: a loop went on otherwise here, or does now. Nothing was imported.
        LoopExists: a loop's name is taken by what was nested in another.
        StillDriven: a living worker drives a loop that is to go on.
    """
    store = history.store
    with store.keeper().unbundle(file) as bundle:
        report = verify(bundle.store, now=lambda: now, progress=progress)
        for fault in report.faults:
            raise BadBundle(
                f"{fault.loop} in {file} has a fault, at {fault.commit[:12] or 'its branch'}: {fault.what}.",
                hint="Nothing was imported. Let whoever made it run 'caesura verify' there.",
            )
        heads = _named(dict(bundle.store.heads()), name, file)
        _check_wanted(store, bundle.store, heads, file)
        arrivals = tuple(_arrivals(store, bundle.store, heads))
        for root in sorted({root_of(arrival.loop) for arrival in arrivals if arrival.moved}):
            check_undriven(store, root, now)
        bundle.take({arrival.loop: arrival.commit for arrival in arrivals if arrival.moved})
        moves = [Move(loop=one.loop, old=one.was, new=one.commit) for one in arrivals if one.moved]
        try:
            store.move_all(moves, f"imported from {file.name}")
        except Moved as error:
            raise Diverged(str(error), hint="Import it again; no branch moved.") from error
    return arrivals


def _named(heads: dict[LoopName, CommitId], name: str | None, file: Path) -> Mapping[LoopName, CommitId]:
    """The heads, under the names that they are to have here, each with those above it."""
    if not heads:
        raise BadBundle(f"{file} holds no loops.", hint="'caesura export LOOP --bundle FILE' makes one that does.")
    for loop in heads:
        parent = parent_name(loop)
        if parent is not None and root_of(loop) not in heads:
            raise BadBundle(
                f"{file} holds {loop} without {root_of(loop)}.", hint=f"Have {root_of(loop)} exported, with all in it."
            )
    if name is None:
        return heads
    roots = sorted({root_of(loop) for loop in heads})
    if len(roots) > 1:
        raise BadBundle(
            f"{file} holds {len(roots)} loops, and one name was given for them: {', '.join(roots)}.",
            hint="Import it without a name.",
        )
    root = root_name(name)
    return {LoopName(root + loop.removeprefix(roots[0])): head for loop, head in heads.items()}


def _check_wanted(store: Store, bundle: Store, heads: Mapping[LoopName, CommitId], file: Path) -> None:
    """What was erased here must not come back by the way.

    Raises:
        BadBundle: a loop was erased here, and the bundle holds a commit of it.
    """
    for loop, stone in store.keeper().erased().items():
        gone = held_by(stone.message)
        if any(commit in gone for head in heads.values() for commit, _ in bundle.line(head)):
            raise BadBundle(
                f"{loop} was erased here by {stone.author.name}, and {file} would bring it back.",
                hint="If that is what you want: "
                f"git -C {shell_quoted(store.location)} update-ref -d refs/archive/erased/{loop}",
            )


def _arrivals(store: Store, bundle: Store, heads: Mapping[LoopName, CommitId]) -> Iterator[Arrival]:
    here = store.heads()
    for loop in heads:
        if store.head(loop, archived=True) is not None:
            raise LoopExists(
                f"{loop} is in the archive here.",
                hint=f"Bring it back first: 'caesura archive --restore {root_of(loop)}'.",
            )
        left = next((one for one in here if one not in heads and one.startswith(f"{loop}.")), None)
        if left is not None and loop not in here and parent_name(loop) is None:
            raise LoopExists(
                f"There are branches of loops nested in an earlier {loop!r}: {left}.",
                hint="Import it under another name: 'caesura import NAME FILE'.",
            )
    for loop, head in heads.items():
        was = store.head(loop)
        if was is None or _leads(bundle, was, head):
            yield Arrival(loop=loop, commit=head, was=was)
        elif _leads(bundle, head, was):
            yield Arrival(loop=loop, commit=was, was=was)
        else:
            raise Diverged(
                f"{loop} went on here otherwise than in the bundle, since they last were one.",
                hint="Import it under another name, and compare: 'caesura import NAME FILE', 'caesura diff LOOP NAME'.",
            )


def _leads(store: Store, old: CommitId, new: CommitId) -> bool:
    """Whether one commit is the other, or comes before it in the same loop's history."""
    return any(commit == old for commit, _ in store.line(new))
