"""Adoption: a loop goes on as another that was tried in its place, and what was not chosen goes out of the way."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack

from ._calls import CallState, Person
from ._errors import CallerError, ConflictError
from ._ids import CallId, CommitId, LoopName, loop_name, parent_name, root_name, root_of
from ._marks import Chosen, Tip
from ._moves import NotApplicable
from ._state import Continuation
from ._trailers import trailers
from .archive import Archive
from .comparison import common
from .files import Files
from .history import History, Saved, taken
from .leases import held
from .sharing import holder
from .store import Move, Store


class Unrelated(CallerError):
    """Two loops have no past in common, so the one cannot go on as the other."""


class StillRunning(ConflictError):
    """Something runs, or did when its worker went away: what came of it is not known yet."""


class Adoption(Archive):
    """What makes one loop of several that were tried."""

    def adopt(
        self,
        branch: str,
        into: str,
        *,
        why: str = "",
        over: Iterable[str] = (),
        drop: bool = False,
        by: Person | str | None = None,
    ) -> Saved:
        """Let the loop `into` go on as `branch`, a root loop with which it has a past in common.

        It is one commit with two parents, the loop as it was and the one that was chosen. Its tree is the chosen
        one's, to the bit; its message names who chose what, over what and why. The loops nested in `into` become those
        nested in `branch`, and the branch itself goes: it is a part of the loop now. The losers, which are those in
        `over` and what was nested in `into`, go to the archive, or with `drop` away. All of that at once, or nothing.

        What had run in a loser is not undone. What it had spent does not count against the loop's budget any more.

        Raises:
            NoSuchLoop: there is no loop of a name.
            Unrelated: `branch` and `into` have no past in common, or are the same.
            StillDriven: a living worker drives one of them.
            StillRunning: something runs in `branch` or `into`.
            UnkeptFiles: files were changed by hand where one of them works, or one that would be dropped.
            NotApplicable: `into` is nested in a loop that waits for it no more, or in whose folder it works.
            Moved: somebody moved one of them meanwhile. Nothing was done.
        """
        target, winner, losers = loop_name(into), root_name(branch), tuple(map(root_name, dict.fromkeys(over)))
        who, now, history = self._person(by), self._now(), self._history
        if {target, root_of(target)} & {winner, *losers} or winner in losers:
            raise Unrelated("A loop is named twice.", hint="Name the loop, the one that was chosen, and the others.")
        with ExitStack() as holding:
            for root in sorted({root_of(target), winner, *losers}):
                history.load(root)  # before there is a lease on what is no loop
                holding.enter_context(held(self._store, root, now))
            before, chosen = history.load(target), history.load(winner)
            rejected = [history.load(loser) for loser in losers]
            _check_wanted(history, target)
            _check_alone(history, before)
            for saved in (before, chosen):
                _check_rest(history, saved)
            files = Files(history)
            for saved in (before, chosen, *(rejected if drop else ())):
                files.check_kept(saved)
            parting, _, _ = common(self._store, before.commit, chosen.commit)
            if parting is None or before.commit == chosen.commit:
                raise Unrelated(
                    f"{winner} and {target} are the same, or have no past in common.",
                    hint=f"Fork {target}, and adopt the fork.",
                )
            base = self._store.read(parting).state
            heads = [saved.commit for saved in history.tree(before)]
            mark = Chosen(
                at=now,
                branch=Tip(loop=winner, commit=chosen.commit),
                over=tuple(Tip(loop=one.loop, commit=one.commit) for one in (before, *rejected)),
                by=who,
                why=why,
                ran=tuple(_ran(self._store, heads, parting, base))[::-1],
            )
            further = [child.commit for _, child in sorted(chosen.state.children.items())]
            made = history.mark(target, mark, chosen.commit, (before.commit, chosen.commit, *further), who)
            moves = _Moves(self._store, drop=drop)
            moves.replace(target, before, made.commit, winner, _ended_by(base))
            for loser in losers:
                moves.lose(loser)
            self._store.move_all(moves.moves, made.message.partition("\n")[0])
        return made


class _Moves:
    """What it takes to let go of losers, and to put one loop's branches in the place of another's."""

    def __init__(self, store: Store, *, drop: bool) -> None:
        self.moves: list[Move] = []
        self._heads = store.heads()
        self._archived = store.heads(archived=True)
        self._drop = drop

    def lose(self, root: LoopName) -> None:
        """Let a loop go, with all that is nested in it."""
        for name, head in _below(self._heads, root).items():
            self.moves.append(Move(loop=name, old=head, new=None))
            self._keep(head, name)

    def _keep(self, head: CommitId, kept_as: LoopName) -> None:
        if self._drop:
            return
        if kept_as in self._archived:
            raise taken(kept_as)
        self.moves.append(Move(loop=kept_as, old=None, new=head, archived=True))

    def replace(
        self,
        target: LoopName,
        before: Saved,
        after: CommitId,
        winner: LoopName,
        shared: Callable[[CallId], bool],
    ) -> None:
        """Let a loop's branch go on with `after`, and those nested in it be the winner's, whose own go.

        Branches of child loops that had ended before the two parted are both's, and stay.
        """
        # A nested loop may have no branch of its own yet: its parent's commit holds it.
        self.moves.append(Move(loop=target, old=before.commit if target in self._heads else None, new=after))
        mine, theirs = _below(self._heads, target), _below(self._heads, winner)
        coming = {LoopName(target + name.removeprefix(winner)): head for name, head in theirs.items() if name != winner}
        displaced: dict[LoopName, CommitId] = {}
        for name, head in mine.items():
            if name == target:
                continue
            child = CallId(name.removeprefix(f"{target}.").partition(".")[0])
            if name in coming:
                if coming[name] != head:
                    self.moves.append(Move(loop=name, old=head, new=coming[name]))
                    displaced[name] = head
            elif not shared(child):
                self.moves.append(Move(loop=name, old=head, new=None))
                displaced[name] = head
        self.moves += [Move(loop=name, old=None, new=head) for name, head in coming.items() if name not in mine]
        self.moves += [Move(loop=name, old=head, new=None) for name, head in theirs.items()]
        if displaced:
            # Its branches may be ahead of what it holds of them, and nothing else leads there.
            was = LoopName(f"{target.replace('.', '-')}-before-{after[:7]}")
            self._keep(before.commit, was)
            for name, head in displaced.items():
                self._keep(head, LoopName(was + name.removeprefix(target)))


def _below(heads: Mapping[LoopName, CommitId], loop: LoopName) -> Mapping[LoopName, CommitId]:
    return {name: head for name, head in heads.items() if name == loop or name.startswith(f"{loop}.")}


def _check_rest(history: History, saved: Saved) -> None:
    for one in history.tree(saved):
        running = next((call for call in one.state.open_calls if call.state is CallState.RUNNING), None)
        if running is not None:
            raise StillRunning(
                f"{running.id} runs in {one.loop}, or ran when its worker went away.",
                hint=f"First let it come to rest: 'caesura resume {root_of(one.loop)}'.",
            )


def _check_wanted(history: History, loop: LoopName) -> None:
    """A nested loop whose parent waits for it no more would go on for nobody."""
    parent = parent_name(loop)
    if parent is None:
        return
    above = history.load(parent).state
    call = above.call(CallId(loop.rpartition(".")[2]))
    if above.ending is not None or call is None or not call.open:
        raise NotApplicable(f"{parent} does not wait for {loop} any more.", hint=f"Adopt into a fork of {parent}.")
    _check_wanted(history, parent)


def _check_alone(history: History, saved: Saved) -> None:
    """What others have done in a folder since cannot go back to what a fork has made of it elsewhere."""
    home = holder(history, saved).loop
    if home != saved.loop:
        raise NotApplicable(
            f"{saved.loop} works in the folder of {home}, which cannot go on as a fork has it.",
            hint=f"Fork {home} instead, and adopt that.",
        )


def _ended_by(base: Continuation) -> Callable[[CallId], bool]:
    """Tells the calls that had ended in a state, or before it."""

    def ended(call: CallId) -> bool:
        slug, _, number = call.rpartition("-")
        begun = number.isdecimal() and int(number) <= base.counters.get(slug, 0)
        return begun and not any(one.id == call for one in base.open_calls)

    return ended


def _ran(store: Store, heads: Iterable[CommitId], parting: CommitId, base: Continuation) -> Iterator[str]:
    """What began to run since a commit, in a loop and in those nested in it whose heads these are; the newest first."""
    known = {parting, *_nested(base)}
    waiting = list(heads)
    while waiting:
        for commit, message in store.line(waiting.pop()):
            if commit in known:
                break
            known.add(commit)
            waiting += store.parents(commit)[1:]
            if trailers(message).get("Event") == ("ToolStarted",):
                yield message.partition("\n")[0]


def _nested(state: Continuation) -> Iterator[CommitId]:
    for child in state.children.values():
        yield child.commit
        yield from _nested(child.state)
