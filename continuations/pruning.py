"""Pruning: the middle of a history that has ended becomes one commit, and what only led there is forgotten.

The first commit of each loop stays as it is, and the last ones keep their trees, authors, times and messages; each of
these says which commit it was, because decisions name the commits that people looked at. What lies between is one
commit by whoever prunes, or several: steps that changed what may be done, or by whose word, are kept where they are.
"""

import datetime as dt
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import NamedTuple

from msgspec.structs import replace

from ._calls import Person
from ._describe import SUBJECT, Description
from ._errors import CallerError
from ._ids import CommitId, LoopName, root_of
from ._messages import Value
from ._text import count, one_line
from ._trailers import trailers
from ._verify import FIRST
from ._verify_pruned import PRUNED, at_rest, same_authority
from .history import History
from .leases import check_undriven
from .missing import missing
from .signatures import split_signature
from .store import Commit, Move, Store
from .verify import verify

_ORDINARY = frozenset(
    {
        *("ModelReplied", "ModelFailed", "ToolStarted", "ToolReturned", "ToolFailed", "ToolAsked", "Answered", "Told"),
        *("ChildSuspended", "ChildResumed", "ChildFinished", "ChildFailed", "Decided", "Voided", "Expired", "Woke"),
        *("Suspended", "Resumed", PRUNED),
    }
)
"""The events whose commits may go: what is so after them can be read in the state, and nothing else follows."""


class NotPrunable(CallerError):
    """A history has to stay as it is."""


class Cut(Value, frozen=True, kw_only=True):
    """One loop's history, shorter: from so many commits to so many."""

    loop: LoopName
    before: int
    after: int


class Pruned(Value, frozen=True, kw_only=True):
    """What a pruning did, or would do: the histories that are shorter, and how many objects are gone."""

    cuts: tuple[Cut, ...]
    gone: int
    done: bool


def prune(
    history: History,
    roots: Iterable[LoopName],
    keep: int,
    *,
    by: Person,
    now: dt.datetime,
    agree: Callable[[tuple[Cut, ...]], bool],
) -> Pruned:
    """Prune root loops with all that is nested in them, to their first and at least their last `keep` commits.

    Raises:
        NoSuchLoop: there is none of a name.
        NotPrunable: one has not ended, holds signed commits that would change, or would not verify any more.
        StillDriven: a living worker drives it.
        Unclean, Unavailable, Torn: something in the repository is in the way.
    """
    store = history.store
    chosen, cutter = tuple(roots), _Cutter(store, keep, by, now)
    cuts = tuple(planned.cut for root in chosen for planned in cutter.plan(root))

    def check(root: LoopName, leased: Iterable[LoopName]) -> None:
        if root in leased:
            check_undriven(store, root, now)

    if not agree(cuts):
        store.seal()  # git is about to look
        for root in chosen:
            store.keeper().check_prunable(root, cutter.tried(root), partial(check, root))
        return Pruned(cuts=cuts, gone=0, done=False)
    gone = sum(store.keeper().prune(root, cutter.moves(root), partial(check, root)) for root in chosen)
    return Pruned(cuts=cuts, gone=gone, done=True)


class _Planned(NamedTuple):
    """A loop's own commits, the first one first, and the places of the first and the last of those that become one."""

    loop: LoopName
    line: list[Commit]
    runs: list[tuple[int, int]]

    @property
    def cut(self) -> Cut:
        """The same as a person sees it."""
        gone = sum(last - first for first, last in self.runs)
        return Cut(loop=self.loop, before=len(self.line), after=len(self.line) - gone)


class _Cutter:
    """Plans shorter histories of trees of loops, and writes them; no branch moves here."""

    def __init__(self, store: Store, keep: int, by: Person, now: dt.datetime) -> None:
        self._store, self._keeper, self._keep, self._by, self._now = store, store.keeper(), keep, by, now

    def plan(self, root: LoopName) -> Iterator[_Planned]:
        """The histories that would be shorter.

        Raises:
            NotPrunable: they must not be.
        """
        heads = self._heads(root)
        if root not in heads:
            raise missing(self._store, root)
        check_undriven(self._store, root, self._now)
        if self._store.read(heads[root]).state.ending is None:
            raise NotPrunable(f"{root} has not ended.", hint="What works or waits keeps its history.")
        named: set[CommitId] = set()
        for name, head in heads.items():  # a loop before those nested in it
            line = self._line(head)
            # What the history above names must stay, and with it all that this one names.
            runs = [] if any(commit.id in named for commit in line) else self._runs(line)
            if runs:
                self._check_unsigned(name, line, runs[0][0])
                yield _Planned(name, line, runs)
            gone = {place for first, last in runs for place in range(first, last + 1)}
            named.update(
                parent for place, commit in enumerate(line) if place not in gone for parent in commit.parents[1:]
            )

    def tried(self, root: LoopName) -> list[Move]:
        """What `moves` would be, but for what they lead to: nothing is written.

        Raises:
            NotPrunable: as it does.
        """
        heads, archived = self._heads(root), self._store.head(root) is None
        with self._keeper.aside(heads) as store:
            moves = _Cutter(store, self._keep, self._by, self._now).moves(root)
        return [replace(move, archived=archived) for move in moves]

    def moves(self, root: LoopName) -> list[Move]:
        """Write the shorter histories; what makes them those of the loops.

        Raises:
            NotPrunable: they would not verify.
        """
        heads = self._heads(root)
        new = {planned.loop: self._written(planned) for planned in self.plan(root)}
        if new:
            # Nobody could tell it from a forged one.
            for fault in verify(self._store, at={**heads, **new}, now=lambda: self._now).faults:
                raise NotPrunable(
                    f"{root} would have a fault at {fault.commit[:12]}: {fault.what}.",
                    hint="Its history stays as it is; 'caesura verify' tells whether it has that fault already.",
                )
        archived = self._store.head(root) is None
        return [Move(loop=loop, old=heads[loop], new=head, archived=archived) for loop, head in new.items()]

    def _heads(self, root: LoopName) -> Mapping[LoopName, CommitId]:
        heads = self._store.heads(archived=self._store.head(root) is None)
        return {name: head for name, head in heads.items() if root_of(name) == root}

    def _line(self, head: CommitId) -> list[Commit]:
        """A loop's own commits, the first one first."""
        line = [self._store.read(head)]
        while line[-1].parents and _event(line[-1]) not in FIRST:
            line.append(self._store.read(line[-1].parents[0]))
        return line[::-1]

    def _runs(self, line: list[Commit]) -> list[tuple[int, int]]:
        """The first and the last places of commits that become one: two or more, with nothing open before or after."""
        may_go = [
            0 < place < len(line) - self._keep
            and _event(commit) in _ORDINARY
            and same_authority(line[place - 1].state, commit.state)
            for place, commit in enumerate(line)
        ]
        runs: list[tuple[int, int]] = []
        start = 1
        while start < len(line):
            end = start
            while end < len(line) and may_go[end]:
                end += 1
            # It begins after a state at rest, and ends at one.
            first = next((place for place in range(start, end) if at_rest(line[place - 1].state)), end)
            last = next((place for place in range(end - 1, first, -1) if at_rest(line[place].state)), first)
            if last > first:
                runs.append((first, last))
            start = end + 1
        return runs

    def _check_unsigned(self, loop: LoopName, line: list[Commit], first: int) -> None:
        signed = sum(1 for commit in line[first:] if split_signature(self._store.raw(commit.id))[1])
        if signed:
            raise NotPrunable(
                f"{loop} holds {count(signed, 'signed commit')}, whose signatures would be lost.",
                hint="A history that is signed stays whole: 'caesura archive' takes it out of the way.",
            )

    def _written(self, planned: _Planned) -> CommitId:
        """Write a shorter history; its head."""
        loop, line, ends = planned.loop, planned.line, dict(planned.runs)
        at, place = line[0].id, 1
        while place < len(line):
            last = ends.get(place, place)
            if last > place:
                at = self._squashed(loop, line[place : last + 1], at)
            elif line[place].parents[0] == at:
                at = line[place].id
            else:
                commit = line[place]
                message = commit.message.rstrip("\n") + f"\nWas: {commit.id}\n"
                parents = (at, *commit.parents[1:])
                at = self._keeper.written_again(commit.id, parents, message, None, self._now)
            place = last + 1
        return at

    def _squashed(self, loop: LoopName, run: list[Commit], parent: CommitId) -> CommitId:
        """Write one commit in the place of many; some of them may stand for many themselves."""
        said = [trailers(commit.message) for commit in run]
        number = sum(int(one["Commits"][0]) if one["Event"] == (PRUNED,) else 1 for one in said)
        first = said[0]["From"][0] if said[0]["Event"] == (PRUNED,) else run[0].id
        state = run[-1].state
        message = Description(
            subject=one_line(f"{state.agent}: pruned {count(number, 'commit')}", SUBJECT),
            body="\n".join(one_line(commit.message.partition("\n")[0]) for commit in (run[0], run[-1])),
            trailers=(
                ("Loop", loop),
                ("Agent", state.agent),
                ("Event", PRUNED),
                ("Status", state.status.value),
                ("Commits", str(number)),
                ("From", first),
                ("To", run[-1].id),
            ),
        ).message
        return self._keeper.written_again(run[-1].id, (parent,), message, self._by, self._now)


def _event(commit: Commit) -> str:
    return trailers(commit.message).get("Event", ("",))[0]
