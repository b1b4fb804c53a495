"""Verification: every commit that loops' branches reach is read back, and judged as git and as Caesura would."""

import datetime as dt
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress

from ._errors import SavedStateError
from ._ids import CallId, CommitId, LoopName, parent_name, root_of
from ._messages import Value
from ._state import Continuation
from ._text import one_line
from ._trailers import trailers
from ._verify import FIRST, faults
from ._verify_pruned import PRUNED
from .leases import living
from .missing import NoSuchLoop
from .overview import utc_now
from .store import Store, Torn

_MEND = "'caesura repair {}' goes back to the last good commit, or takes what is lost from a copy."
_BACK = "'caesura archive --restore {}' brings it back; then see 'caesura repair'."
_FORGED = "Caesura did not make this: look at it with 'git show {}', and fork what came before it."


class Fault(Value, frozen=True, kw_only=True):
    """Something wrong: in which loop (empty for the repository itself) and commit (empty for a branch), what, and what
    to do about it."""

    loop: str
    commit: CommitId
    what: str
    hint: str


class Report(Value, frozen=True, kw_only=True):
    """What a verification found. Notes are leftovers that harm nothing."""

    loops: int
    commits: int
    faults: tuple[Fault, ...]
    notes: tuple[str, ...] = ()


def verify(
    store: Store,
    loops: Iterable[LoopName] | None = None,
    *,
    at: Mapping[LoopName, CommitId] | None = None,
    now: Callable[[], dt.datetime] = utc_now,
    progress: Callable[[int], None] = lambda commits: None,
) -> Report:
    """Judge loops with all that is nested in them, or every loop; `progress` is told the commits looked at so far.

    With `at`, these commits are judged as heads that loops may come to have, and no branch is.

    Memory grows by some 300 bytes for each commit, and with nothing else.

    Raises:
        NoSuchLoop: there is none of a name that was given.
    """
    walk = _Walk(store, now(), progress)
    return walk.report(loops) if at is None else walk.judged(at)


class _Step(Value, frozen=True, kw_only=True):
    """What is remembered of a commit: the one before it in its loop's own history, how many those are, the first."""

    previous: CommitId | None
    depth: int
    first: CommitId


class _Walk:
    """One walk over a store; the `Past` of each commit that it judges."""

    def __init__(self, store: Store, now: dt.datetime, progress: Callable[[int], None]) -> None:
        self._store = store
        self._now = now
        self._reader = store.reader()
        self._progress = progress
        self._steps: dict[CommitId, _Step] = {}
        self._faults: list[Fault] = []
        self._told: set[str] = set()
        self._became: dict[CommitId, list[CommitId]] = {}
        self._stands_for: dict[CommitId, CommitId] = {}
        self._pruned: list[str] = []
        self._mend = _MEND

    def report(self, loops: Iterable[LoopName] | None) -> Report:
        """Walk, and tell."""
        heads = self._store.heads()
        shelved = self._store.heads(archived=True)
        problems, lost = self._store.torn(), self._store.torn(archived=True)
        names = self._chosen({*heads, *problems, *shelved, *lost}, loops)
        number = 0
        for there, torn, self._mend in ((heads, problems, _MEND), (shelved, lost, _BACK)):
            chosen = [name for name in names if name in there or name in torn]
            for name in chosen:
                if name in torn:
                    self._fault(name, CommitId(""), str(torn[name]), self._hint(name, torn[name]))
                else:
                    self._branch(name, there[name])
            for name in chosen:
                if name in there:
                    self._kinship(name, there)
            number += len(chosen)
        if loops is None:
            for what, hint in self._store.lost():
                self._fault("", CommitId(""), what, hint)
        return Report(
            loops=number,
            commits=len(self._steps),
            faults=tuple(self._faults),
            notes=(*self._pruned, *(self._notes(heads) if loops is None else ())),
        )

    def judged(self, heads: Mapping[LoopName, CommitId]) -> Report:
        """Walk from commits that are no heads yet, and tell."""
        for name, head in heads.items():
            self._branch(name, head)
        for name in heads:
            self._kinship(name, heads)
        return Report(loops=len(heads), commits=len(self._steps), faults=tuple(self._faults))

    @staticmethod
    def _chosen(known: set[LoopName], loops: Iterable[LoopName] | None) -> list[LoopName]:
        if loops is None:
            return sorted(known)
        chosen: set[LoopName] = set()
        for loop in loops:
            found = {name for name in known if name == loop or name.startswith(f"{loop}.")}
            if loop not in found:
                raise NoSuchLoop(f"There is no loop {loop!r}.", hint="'caesura loops' lists the loops there are.")
            chosen |= found
        return sorted(chosen)

    def _hint(self, loop: LoopName, error: SavedStateError) -> str:
        if not isinstance(error, Torn):
            return error.hint
        return self._mend.format(root_of(loop) if self._mend is _BACK else loop)

    def _fault(self, loop: str, commit: CommitId, what: str, hint: str) -> None:
        self._faults.append(Fault(loop=loop, commit=commit, what=what, hint=hint))

    # Commits -----------------------------------------------------------------------------------------------------

    def _branch(self, loop: LoopName, head: CommitId) -> None:
        """Judge what a branch reaches and no other did, each commit after those before it."""
        waiting = [(head, False)]
        while waiting:
            commit, entered = waiting.pop()
            if commit in self._steps:
                continue
            if entered:
                self._judge(loop, commit)
                continue
            waiting.append((commit, True))
            with suppress(SavedStateError):
                # The loop's own history is taken last: its newest state is still in memory when the next is judged.
                own, *further = (*self._reader.trace(commit).parents, None)
                waiting += [(one, False) for one in (own, *further) if one is not None and one not in self._steps]

    def _judge(self, loop: LoopName, commit: CommitId) -> None:
        self._steps[commit] = _Step(previous=None, depth=0, first=commit)
        try:
            found = self._reader.read(commit)
        except SavedStateError as error:
            # What is in many commits is told once.
            if str(error) not in self._told:
                self._told.add(str(error))
                self._fault(loop, commit, str(error), self._hint(loop, error))
            return
        said = trailers(found.message)
        own = found.parents[0] if found.parents and said.get("Event", ("",))[0] not in FIRST else None
        before = None if own is None else self._steps.get(own)
        depth, first = (1, commit) if before is None else (before.depth + 1, before.first)
        self._steps[commit] = _Step(previous=own, depth=depth, first=first)
        name = said.get("Loop", (loop,))[0]
        for was in map(CommitId, said.get("Was", ())):
            self._became.setdefault(was, []).append(commit)
            self._compare(name, commit, was)
        for written_again in self._became.get(commit, ()):
            self._compare(name, written_again, commit)
        if said.get("Event") == (PRUNED,):
            # It is in the place of the last one that it stands for.
            self._stands_for.update((CommitId(last), commit) for last in said.get("To", ()))
            number, begun = (one_line(said.get(key, ("",))[0], 40) for key in ("Commits", "From"))
            who = one_line(str(found.author))
            self._pruned.append(
                f"{loop} {commit[:12]} stands for {number} commits from {begun[:12]} on, pruned by {who}:"
                " their steps cannot be checked any more."
            )
        for what in faults(found.message, found.author, found.parents, self.tree(commit), found.state, self):
            self._fault(name, commit, what, _FORGED.format(commit[:12]))
        if len(self._steps) % 100 == 0:
            self._progress(len(self._steps))

    def state(self, commit: CommitId) -> Continuation | None:
        """The state in a commit that the walk has been at, or None if it is none of a loop."""
        if commit not in self._steps:
            commit = self._became.get(commit, [self._stands_for.get(commit, commit)])[0]
        try:
            return self._reader.read(commit).state if commit in self._steps else None
        except SavedStateError:
            return None

    def follows(self, new: CommitId, old: CommitId) -> bool:
        """Whether one commit is the other, or comes after it in the same loop's own history."""
        now = (old, *self._became.get(old, ()), *([self._stands_for[old]] if old in self._stands_for else []))
        return any(self._follows(new, one) for one in now)

    def _follows(self, new: CommitId, old: CommitId) -> bool:
        first = self._steps.get(old)
        at: CommitId | None = new
        while at is not None and at != old:
            step = self._steps.get(at)
            at = None if step is None or first is None or step.depth <= first.depth else step.previous
        return at is not None

    def _compare(self, loop: str, commit: CommitId, was: CommitId) -> None:
        """Whether a commit that says it was another is the same, as far as that can be told."""
        for other in (was, *self._became[was]):
            if other in self._steps and self.state(other) != self.state(commit):
                self._fault(loop, commit, f"it is not what {was[:12]} was", _FORGED.format(commit[:12]))
                return

    def origin(self, commit: CommitId) -> CommitId | None:
        """The commit with which a commit's loop began."""
        step = self._steps.get(commit)
        return None if step is None else step.first

    def tree(self, commit: CommitId) -> str:
        """The name of a commit's tree; empty if it cannot be read, which is a fault of its own."""
        try:
            return self._reader.trace(commit).tree
        except SavedStateError:
            return ""

    # Branches ----------------------------------------------------------------------------------------------------

    def _kinship(self, loop: LoopName, heads: Mapping[LoopName, CommitId]) -> None:
        """Whether a nested loop's branch goes on from what its parent's head holds of it."""
        parent = parent_name(loop)
        above = None if parent is None or parent not in heads else self.state(heads[parent])
        state = self.state(heads[loop])
        call_id = CallId(loop.rpartition(".")[2])
        call = None if above is None else above.call(call_id)
        if above is None or call is None or state is None or parent is None:
            return
        child = above.children.get(call_id)
        if call.nonce != state.nonce:
            if call.open:
                self._fault(
                    loop,
                    heads[loop],
                    f"its branch belongs to another history of {parent}",
                    f"Rename it: git branch -m loops/{loop} <other>",
                )
        elif child is not None and not self.follows(heads[loop], child.commit):
            self._fault(
                loop,
                heads[loop],
                f"its branch does not go on from {child.commit[:12]}, which {parent} holds of it",
                f"Put it there: git branch -f loops/{loop} {child.commit}",
            )

    def _notes(self, heads: Mapping[LoopName, CommitId]) -> Iterator[str]:
        for name in heads:
            parent = parent_name(name)
            if parent is not None and parent not in heads:
                yield f"loops/{name} is nested in {parent}, which has no branch: a fork of it goes on alone."
        for root in sorted({root_of(name) for name in heads}):
            lease = self._store.lease(root)
            if lease is not None and living(lease, self._now) is None:
                yield f"The lease on {root} is of a worker that is gone; the next one takes it over."
        known = " ".join(fault.what for fault in self._faults)
        yield from (what for name, what in self._store.leftovers() if not name or name not in known)
