"""Erasing: what a loop held is taken out of the repository for good, and a commit says who did so, when and why."""

import datetime as dt
from collections.abc import Callable, Iterable, Mapping

from ._calls import Person
from ._describe import SUBJECT, Description
from ._ids import CommitId, LoopName, root_of
from ._text import excerpt, one_line
from ._trailers import trailers
from .history import History
from .leases import check_undriven
from .missing import NoSuchLoop
from .store import Erased, Store

ERASED = "Erased"
"""The event that a tombstone's message names; no loop has it in its own history."""


def erase(
    history: History,
    root: LoopName,
    why: str,
    *,
    forks: bool,
    by: Person,
    now: dt.datetime,
    agree: Callable[[tuple[LoopName, ...]], bool],
) -> Erased | None:
    """Erase a root loop, and with `forks` those that share a commit with it; None if `agree` did not, and nothing was
    in the way.

    Raises:
        NoSuchLoop: there is none of that name, and none was erased.
        StillDriven: a living worker drives a loop of the repository.
        StillReached: something else leads to a commit of it.
        Unclean, Torn, Unavailable: something in the repository is in the way.
    """
    store, keeper = history.store, history.store.keeper()
    if not _known(store, root) and root not in keeper.erased():
        raise NoSuchLoop(f"There is no loop {root!r}.", hint="'caesura loops' lists the loops there are.")
    roots = keeper.kin(root) if forks else (root,)
    said = history.redaction.text(why)

    def message(loop: LoopName, refs: Mapping[str, CommitId]) -> str:
        held = [("Held", f"{head} {ref}") for ref, head in sorted(refs.items())]
        return Description(
            subject=one_line(f"{loop}: erased" + (f": {said}" if said else ""), SUBJECT),
            body=excerpt(said),
            trailers=(("Loop", loop), ("Event", ERASED), *held),
        ).message

    def check(leased: Iterable[LoopName]) -> None:
        for one in leased:
            check_undriven(store, one, now)

    if not agree(roots):
        store.seal()  # git is about to look
        keeper.check_erasable(roots, check)
        return None
    return keeper.erase(roots, message, by, now, check)


def _known(store: Store, root: LoopName) -> bool:
    places = (store.heads(), store.heads(archived=True), store.torn(), store.torn(archived=True))
    return any(root_of(name) == root for names in places for name in names)


def held_by(message: str) -> frozenset[CommitId]:
    """The commits that the refs of an erased loop were at, from the message of its tombstone."""
    return frozenset(CommitId(value.partition(" ")[0]) for value in trailers(message).get("Held", ()))
