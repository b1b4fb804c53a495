"""Comparing: where two loops part, what each did from there on, and what it cost."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, zip_longest
from typing import NamedTuple

from ._alignment import Row, align
from ._ids import CallId, CommitId
from ._marks import goes_on_from
from ._messages import Value
from ._state import Spent
from ._trailers import trailers
from ._trajectory import Entry, Reader
from ._verify import FIRST
from .history import Children, History, Saved, nested, saved_from
from .store import Commit, Store


class Divergence(Value, frozen=True, kw_only=True):
    """The first place at which two loops differ, in the order of reading; `path` is the calls down to the loop."""

    path: tuple[CallId, ...]
    row: Row


class Comparison(Value, frozen=True, kw_only=True):
    """Two loops from their last common commit on; `base` is None if they have none."""

    left: Saved
    right: Saved
    base: Saved | None
    rows: tuple[Row, ...]

    @property
    def divergence(self) -> Divergence | None:
        """Where they first differ, or None if they did the same."""
        return _divergence(self.rows, ())

    def spent_since(self, side: Saved) -> Spent:
        """What one of the two has spent since the last common commit."""
        total, before = side.state.total, Spent() if self.base is None else self.base.state.total
        return Spent(
            steps=total.steps - before.steps,
            usage=total.usage - before.usage,
            seconds=round(total.seconds - before.seconds, 3),
        )


class Tally(Value, frozen=True, kw_only=True):
    """What a loop came to, counted over all its steps, and those of the loops nested in it, finished or not.

    Standing decisions count once, where they were made. `tools_run` counts starts: an attempt again is another.
    """

    saved: Saved
    steps: int
    tools_run: int
    approvals: int
    rejections: int


def compare(history: History, left: str, right: str) -> Comparison:
    """Compare two revisions: loops as they are now, or commits of loops; related or not.

    Raises:
        NoSuchRevision, NotALoop: there is no continuation there.
    """
    ours, theirs = _Tip(*history.at(left)), _Tip(*history.at(right))
    base, _, _ = common(history.store, ours.saved.commit, theirs.saved.commit)
    return Comparison(
        left=ours.saved,
        right=theirs.saved,
        base=None if base is None else saved_from(ours.saved.loop, history.store.read(base)),
        rows=tuple(_rows(history.store, ours, theirs)),
    )


def tally(history: History, revision: str) -> Tally:
    """Count what a revision's loop did, from its beginning on.

    Raises:
        NoSuchRevision, NotALoop: there is no continuation there.
    """
    return _tally(history.store, _Tip(*history.at(revision)))


def line(store: Store, tip: CommitId) -> Iterator[Commit]:
    """A loop's own steps, from one back to its first: what ``git log --first-parent`` shows. Where another loop was
    chosen they are that one's.

    Raises:
        NotALoop: the commit holds no continuation.
    """
    commit: CommitId | None = tip
    while commit is not None:
        found = store.read(commit)
        yield found
        commit = _before(found)


def _steps(store: Store, tip: CommitId) -> Iterator[CommitId]:
    """`line`, of which no more is read than where it leads: that takes no longer the more messages there are."""
    commit: CommitId | None = tip
    while commit is not None:
        message = store.check(commit)
        yield commit
        if trailers(message).get("Event", ("",))[0] in FIRST:
            commit = _before(store.read(commit))
        else:
            commit = goes_on_from(message, store.parents(commit))


def _before(commit: Commit) -> CommitId | None:
    """The commit that it goes on from. The first commit of an imported loop has parents too: its children's commits."""
    first = goes_on_from(commit.message, commit.parents)
    return None if any(child.commit == first for child in commit.state.children.values()) else first


class _Tip(NamedTuple):
    """Where a loop is looked at, and where its children are then found."""

    saved: Saved
    children: Children


class _Read(NamedTuple):
    """What a loop did, and the children that its calls started, by the calls' nonces."""

    reader: Reader
    entries: tuple[Entry, ...]
    children: Mapping[str, _Tip]


def _read(store: Store, tip: _Tip, since: CommitId | None, steps: Sequence[CommitId]) -> _Read:
    """Read these steps of a loop, the oldest first, which follow after `since`."""
    start = None if since is None else store.read(since)
    reader = Reader(None if start is None else start.state, since)
    found: dict[str, _Tip] = {}
    for commit in chain(() if start is None else (start,), map(store.read, steps)):
        if commit is not start:
            reader.step(commit.id, commit.state, commit.author)
        rehearsal = commit.state.rehearsal
        record = None if rehearsal is None or rehearsal.record is None else rehearsal.record.until
        for parent in commit.parents:
            if parent not in (_before(commit), record):
                child = saved_from(tip.saved.loop, store.read(parent))
                found[child.state.nonce] = _Tip(child, nested)
    for child in tip.children(tip.saved).values():
        found[child.state.nonce] = _Tip(child, tip.children)
    commits = {nonce: child.saved.commit for nonce, child in found.items()}
    entries = reader.entries(commits, tip.saved.commit)
    return _Read(reader, entries, found)


def common(store: Store, left: CommitId, right: CommitId) -> tuple[CommitId | None, list[CommitId], list[CommitId]]:
    """The newest step that two loops share, or None, and the steps of each after it, the oldest first."""
    ours: dict[CommitId, None] = {}
    theirs: dict[CommitId, None] = {}
    base: CommitId | None = None
    # Both are walked back in turns: a long common past is not read.
    for one, other in zip_longest(_steps(store, left), _steps(store, right)):
        if one is not None:
            ours[one] = None
        if other is not None:
            theirs[other] = None
        base = next((step for step in (one, other) if step is not None and step in ours and step in theirs), None)
        if base is not None:
            break
    return base, _until(ours, base), _until(theirs, base)


def _until(steps: Mapping[CommitId, None], base: CommitId | None) -> list[CommitId]:
    walked = list(steps)
    return list(reversed(walked[: walked.index(base)] if base is not None else walked))


def _rows(store: Store, left: _Tip | None, right: _Tip | None) -> Iterator[Row]:
    if left is not None and right is not None:
        base, ours, theirs = common(store, left.saved.commit, right.saved.commit)
    else:
        base, ours, theirs = None, _all(store, left), _all(store, right)
    mine = None if left is None else _read(store, left, base, ours)
    yours = None if right is None else _read(store, right, base, theirs)
    for row in align(() if mine is None else mine.entries, () if yours is None else yours.entries):
        one, other = _child(mine, row.left), _child(yours, row.right)
        if one is None and other is None:
            yield row
        else:
            yield Row(left=row.left, right=row.right, nested=tuple(_rows(store, one, other)))


def _all(store: Store, tip: _Tip | None) -> list[CommitId]:
    return [] if tip is None else [*_steps(store, tip.saved.commit)][::-1]


def _child(read: _Read | None, entry: Entry | None) -> _Tip | None:
    return None if read is None or entry is None or entry.child is None else read.children[entry.nonce]


def _tally(store: Store, tip: _Tip) -> Tally:
    read = _read(store, tip, None, _all(store, tip))
    below = [_tally(store, child) for child in read.children.values()]
    decided = [entry.outcome for entry in read.entries if entry.kind == "decided" and not entry.standing]
    return Tally(
        saved=tip.saved,
        steps=read.reader.steps + sum(child.steps for child in below),
        tools_run=read.reader.tools_run + sum(child.tools_run for child in below),
        approvals=decided.count("approve") + sum(child.approvals for child in below),
        rejections=decided.count("reject") + sum(child.rejections for child in below),
    )


def _divergence(rows: Sequence[Row], path: tuple[CallId, ...]) -> Divergence | None:
    for row in rows:
        if not row.same:
            return Divergence(path=path, row=row)
        call = row.left.call if row.left is not None else CallId("")
        found = _divergence(row.nested, (*path, call))
        if found is not None:
            return found
    return None
