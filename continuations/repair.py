"""Repair: a loop whose newest commits are damaged goes on from the last good one, or from what a copy still has.

First a plan, which changes nothing; then, if a person wants it, the repair. What is damaged is moved aside, never
deleted, and the loop goes on by a commit of the person's that says what was lost, behind a gate that they must lift.
"""

import datetime as dt
from collections.abc import Iterable, Iterator

from ._calls import Person
from ._candidates import Candidate, newest
from ._codec import NewerFormat
from ._describe import describe
from ._errors import SavedStateError
from ._events import Repaired
from ._ids import CallId, CommitId, LoopName, child_name, parent_name, root_of
from ._messages import Value
from ._state import Continuation
from ._step import step
from ._text import count, one_line
from ._trailers import trailers
from ._verify import FIRST
from .history import History, Saved, saved_from
from .leases import check_undriven
from .missing import NoSuchLoop
from .sharing import forsaken
from .store import Mender, Reader, Store, Torn, Trace

_PERSONAL = frozenset(
    {"Decided", "Answered", "Told", "Cancelled", "Suspended", "Repaired", "Chosen"}
    | {"Rewound", "Amended", "Reworded", "Edited", "Overridden", "Rehearsed"}
)
_SHOWN = 50


class Mend(Value, frozen=True, kw_only=True):
    """One loop that goes back to `good`: what was wrong, the commits that are known to be lost, and what they said.

    `standing` is what its branch holds now, as a `Mender` tells it.
    """

    loop: LoopName
    good: CommitId
    fault: str
    lost: tuple[CommitId, ...]
    said: tuple[str, ...]
    standing: str | None


class Hopeless(Value, frozen=True, kw_only=True):
    """One loop that is damaged and stays as it is, why, and what else can be done."""

    loop: LoopName
    why: str
    hint: str


class Plan(Value, frozen=True, kw_only=True):
    """What a repair would do: files of objects to move aside, objects to take from the copy, loops that go back.

    `refs` are damaged lines in the list of branches, to be left out of it.
    """

    refs: tuple[str, ...] = ()
    aside: tuple[str, ...] = ()
    restored: tuple[str, ...] = ()
    mends: tuple[Mend, ...] = ()
    hopeless: tuple[Hopeless, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def empty(self) -> bool:
        """Whether it would change nothing."""
        return not (self.refs or self.aside or self.restored or self.mends)


class Repair(Value, frozen=True, kw_only=True):
    """What a repair did: the loops that went on, and where what was damaged is kept."""

    plan: Plan
    done: bool
    loops: tuple[Saved, ...] = ()
    kept: tuple[str, ...] = ()


def plan_repair(
    store: Store, mender: Mender, loops: Iterable[LoopName], now: dt.datetime, *, gone: Iterable[LoopName] = ()
) -> Plan:
    """See what there is to repair in loops and all that is nested with them, or, without any, everywhere.

    `gone` are loops whose branches are known to have been there.

    Raises:
        NoSuchLoop: nothing is known of a loop.
        StillDriven: a living worker drives a loop that needs repair.
    """
    return _Planner(store, mender).plan(tuple(loops), tuple(gone), now)


def carry_out(history: History, mender: Mender, plan: Plan, by: Person | None, now: dt.datetime) -> Repair:
    """Do what a plan says; `by` goes back with the loops, if any does.

    Killed half-way, it is done by planning and doing it again.

    Raises:
        Moved: a branch was moved since; what was done until then is done.
    """
    # The damaged file goes first: in its place the same object will be written again.
    kept = [mender.set_aside(torn) for torn in plan.aside]
    for name in plan.restored:
        mender.restore(name)
    done = [] if by is None else [_taken_back(history, mender, mend, by, now, kept) for mend in plan.mends]
    return Repair(plan=plan, done=True, loops=tuple(done), kept=tuple(kept))


def _taken_back(history: History, mender: Mender, mend: Mend, by: Person, now: dt.datetime, kept: list[str]) -> Saved:
    """Let one loop go on from its last good commit; the file that kept its branch, if moved aside, joins `kept`."""
    before = history.store.read(mend.good).state
    lost = mend.lost[:_SHOWN]
    event = history.storable(Repaired(at=now, by=by, reason=_reason(mend), lost=lost, report=_report(mend, kept)))
    after = step(before, event)
    commit = history.store.write(
        after,
        parents=(mend.good, *(child.commit for _, child in sorted(after.children.items()))),
        message=describe(mend.loop, before, event, after).message,
        author=by,
        committer=by,
    )
    saved = saved_from(mend.loop, commit)
    forsaken(history, saved)
    file = mender.point(mend.loop, mend.standing, commit.id)
    kept += [] if file is None else [file]
    return saved


def _reason(mend: Mend) -> str:
    return f"steps after {mend.good[:12]} were lost to damage; look at what it did last before it goes on"


def _report(mend: Mend, kept: list[str]) -> str:
    lines = [f"Went back to {mend.good}: {mend.fault}", *mend.said]
    lines += [f"Kept: {file}" for file in kept[:_SHOWN]]
    if len(kept) > _SHOWN:
        lines.append(f"Kept: {count(len(kept) - _SHOWN, 'file')} more beside them")
    return "\n".join(lines)


class _Planner:
    """Looks at loops, parents before what is nested in them."""

    def __init__(self, store: Store, mender: Mender) -> None:
        self._store, self._mender = store, mender
        self._reader: Reader = mender.reader()
        self._sound: dict[CommitId, SavedStateError | None] = {}
        self._chosen: dict[LoopName, CommitId] = {}
        self._traces: tuple[Trace, ...] | None = None
        self._torn: tuple[str, ...] | None = None

    def plan(self, loops: tuple[LoopName, ...], gone: tuple[LoopName, ...], now: dt.datetime) -> Plan:
        """The plan for loops, each with its whole tree; for all, if none is named."""
        heads, torn = self._store.heads(), self._store.torn()
        names = sorted({*heads, *torn, *loops, *gone})
        roots = {root_of(loop) for loop in loops}
        for loop in loops:
            if self._store.head(root_of(loop), archived=True) is not None and root_of(loop) not in heads:
                raise NoSuchLoop(
                    f"{loop} is in the archive.",
                    hint=f"Bring it back first: 'caesura archive --restore {root_of(loop)}'.",
                )
            if loop not in heads and loop not in torn and not self._known(loop):
                raise NoSuchLoop(
                    f"There is no loop {loop!r}, and no commit of one.", hint="'caesura loops' lists them."
                )
        mends: list[Mend] = []
        hopeless: list[Hopeless] = []
        for name in names:  # and those that join them on the way
            if loops and root_of(name) not in roots:
                continue
            try:
                found = self._look(name, heads.get(name), torn.get(name))
            except NewerFormat as error:
                found = Hopeless(loop=name, why=str(error), hint=error.hint)
            if isinstance(found, Mend):
                mends.append(found)
                self._chosen[name] = found.good
                names += [child for child in self._children(found) if child not in names]
            elif isinstance(found, Hopeless):
                hopeless.append(found)
        restored = self._mender.borrowed
        aside = self._torn_files() if mends or restored or not loops else ()
        for root in sorted({root_of(mend.loop) for mend in mends}):
            check_undriven(self._store, root, now)
        notes = tuple(note for mend in mends for note in self._orphans(mend, names))
        return Plan(aside=aside, restored=restored, mends=tuple(mends), hopeless=tuple(hopeless), notes=notes)

    def _children(self, mend: Mend) -> Iterator[LoopName]:
        """The loops nested in one that goes back: with its steps a branch may have been lost, but not what it held."""
        for call in self._reader.read(mend.good).state.open_calls:
            child = child_name(mend.loop, call.id)
            if call.kind == "agent" and self._known(child):
                yield child

    def _orphans(self, mend: Mend, names: list[LoopName]) -> Iterator[str]:
        """The loops that were started in what is lost: if the loop asks for the same again, they are in the way."""
        state = self._reader.read(mend.good).state
        for orphan in names:
            call = state.call(CallId(orphan.rpartition(".")[2]))
            if parent_name(orphan) != mend.loop or (call is not None and call.open):
                continue
            for name in names:
                if name == orphan or name.startswith(f"{orphan}."):
                    other = orphan.replace(".", "-") + name.removeprefix(orphan)
                    yield (
                        f"loops/{name} was started in a step that is lost. Keep it under another name:"
                        f" git branch -m loops/{name} loops/{other}"
                    )

    def _known(self, loop: LoopName) -> bool:
        return any(_loop_of(trace) == loop for trace in self._all_traces())

    def _torn_files(self) -> tuple[str, ...]:
        if self._torn is None:
            self._torn = self._mender.torn()
        return self._torn

    def _all_traces(self) -> tuple[Trace, ...]:
        if self._traces is None:
            self._traces = tuple(self._mender.traces())
        return self._traces

    # One loop ----------------------------------------------------------------------------------------------------

    def _look(self, loop: LoopName, head: CommitId | None, torn: SavedStateError | None) -> Mend | Hopeless | None:
        if head is None and torn is not None:
            head = self._mender.logged(loop)
        trouble = torn if torn is not None else None if head is None else self._state_of(head)[1]
        if head is not None and trouble is None:
            self._chosen[loop] = head
            fault = self._fault(head)
            if fault is None:
                return None
            return Hopeless(
                loop=loop,
                why=f"It can be read, but its past is damaged: {fault}",
                hint="It goes on as it is. To make its past whole, take the object from a copy: --from PATH.",
            )
        line = () if head is None else tuple(self._line(head))
        strange = self._not_understood(trouble, line)
        if strange is not None:
            return Hopeless(loop=loop, why=str(strange), hint=strange.hint)
        fault_text = str(trouble) if trouble is not None else "its branch is gone."
        begun = bool(line) and _previous(self._reader.trace(line[-1])) is None
        good = (
            self._last_good(line)
            or (None if begun else self._last_candidate(loop))
            or next((one for one in line if self._state_of(one)[1] is None), None)
        )
        above = self._nested(loop) if head is None and torn is None else None
        if above is not None and good in (None, above[1]):
            return None  # its parent's commit is all there ever was of it
        if good is None:
            return Hopeless(
                loop=loop,
                why=f"No commit of it can be read: {fault_text}",
                hint="Take it from a copy of the repository: --from PATH.",
            )
        lost = tuple(dict.fromkeys((*(() if head is None else (head,)), *self._before(line, good))))
        lost = tuple(one for one in lost if one != good)
        return Mend(
            loop=loop,
            good=good,
            fault=fault_text,
            lost=lost,
            said=tuple(self._said(one) for one in lost[:_SHOWN]),
            standing=self._mender.standing(loop),
        )

    def _not_understood(self, trouble: SavedStateError | None, line: tuple[CommitId, ...]) -> SavedStateError | None:
        """What on the way to the last good commit is whole, and yet nothing that this code can read.

        A later version may have written it, or somebody by hand: that is no damage, and nothing to go back behind.
        """
        if trouble is not None and not isinstance(trouble, Torn):
            return trouble
        for one in line:
            error = self._state_of(one)[1]
            if error is None:
                return None
            if not isinstance(error, Torn):
                return error
        return None

    def _line(self, head: CommitId) -> Iterator[CommitId]:
        """A commit and those before it in its loop's own history, as far as they can be read."""
        at: CommitId | None = head
        while at is not None:
            try:
                trace = self._reader.trace(at)
            except SavedStateError:
                return
            yield at
            at = _previous(trace)

    @staticmethod
    def _before(line: tuple[CommitId, ...], good: CommitId) -> tuple[CommitId, ...]:
        return line[: line.index(good)] if good in line else line

    def _said(self, commit: CommitId) -> str:
        try:
            return f"Lost: {commit[:12]} {one_line(self._reader.trace(commit).message.partition(chr(10))[0])}"
        except SavedStateError as error:
            return f"Lost: {commit[:12]} {one_line(str(error), 200)}"

    def _last_good(self, line: tuple[CommitId, ...]) -> CommitId | None:
        return next((one for one in line if self._fault(one) is None), None)

    # Soundness ---------------------------------------------------------------------------------------------------

    def _state_of(self, commit: CommitId) -> tuple[Continuation | None, SavedStateError | None]:
        try:
            return self._reader.read(commit).state, None
        except SavedStateError as error:
            return None, error

    def _fault(self, commit: CommitId) -> SavedStateError | None:
        """What is wrong with a commit, or with any that it comes after."""
        waiting = [commit]
        while waiting:
            at = waiting[-1]
            if at in self._sound:
                waiting.pop()
                continue
            try:
                parents = self._reader.trace(at).parents
                more = [one for one in parents if one not in self._sound]
                if more:
                    waiting += more
                    continue
                self._reader.read(at)
                self._sound[at] = next((fault for one in parents if (fault := self._sound[one]) is not None), None)
            except SavedStateError as error:
                self._sound[at] = error
            waiting.pop()
        return self._sound[commit]

    # Without a head ----------------------------------------------------------------------------------------------

    def _last_candidate(self, loop: LoopName) -> CommitId | None:
        """The newest whole commit that names this loop, found among all that there are."""
        above = self._nested(loop)
        nonce, nested = above if above is not None else (None, None)
        candidates: dict[CommitId, Candidate] = {}
        certain: set[CommitId] = set() if nested is None else {nested}
        for trace in self._all_traces():
            said = trailers(trace.message)
            certain.update(trace.parents)
            certain.update(CommitId(seen) for seen in said.get("Seen", ()))
            event = said.get("Event", ("",))[0]
            if _loop_of(trace) != loop and trace.id != nested:
                continue
            fault = self._fault(trace.id)
            if isinstance(fault, NewerFormat):
                raise fault
            if fault is not None:
                continue
            state = self._reader.read(trace.id).state
            if nonce is not None and state.nonce != nonce:
                continue
            candidates[trace.id] = Candidate(trace.id, _previous(trace), trace.time, event in _PERSONAL)
        copied = self._mender.copied(loop)
        certain.update(self._store.heads().values())
        certain.update(() if copied is None else (copied,))
        complete = not self._torn_files() and self._store.heads().get(loop) is None
        found = newest(candidates, frozenset(certain), complete=complete)
        at = found
        while at is not None and at != nested:
            at = candidates[at].previous if at in candidates else None
        return found if nested is None or at == nested else nested

    def _nested(self, loop: LoopName) -> tuple[str, CommitId | None] | None:
        """What a loop's parent, as it will be, holds of it: the nonce of the call, and the commit."""
        parent = parent_name(loop)
        if parent is None or parent not in self._chosen:
            return None
        above = self._reader.read(self._chosen[parent]).state
        call_id = CallId(loop.rpartition(".")[2])
        call, child = above.call(call_id), above.children.get(call_id)
        return None if call is None else (call.nonce, None if child is None else child.commit)


def _loop_of(trace: Trace) -> str:
    return trailers(trace.message).get("Loop", ("",))[0]


def _previous(trace: Trace) -> CommitId | None:
    """The commit before one in its loop's own history."""
    first = trailers(trace.message).get("Event", ("",))[0] in FIRST
    return trace.parents[0] if trace.parents and not first else None
