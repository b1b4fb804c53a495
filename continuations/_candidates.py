"""Which commit a loop can go back to when its branch no longer says where it was. Pure: commits in, a commit out.

A commit that nothing follows may be one that its writer lost the race with: it was written, and never was the loop's.
A worker's is harmless, for whatever it started is asked about in any case. A person's is not: a decision that lost
must not come to count.
"""

from collections.abc import Mapping
from typing import NamedTuple

from ._ids import CommitId


class Candidate(NamedTuple):
    """A whole commit of a loop: what it follows, when it was made, and whether a person caused it."""

    id: CommitId
    previous: CommitId | None
    time: int
    by_person: bool


def newest(
    candidates: Mapping[CommitId, Candidate], certain: frozenset[CommitId], *, complete: bool
) -> CommitId | None:
    """The newest of some commits that surely was a loop's, or that can be taken for it.

    `certain` are those that something else names as the loop's own; `complete` says that no commit is missing, so
    that one that nothing follows, and that has no rival, cannot have lost to another.
    """
    followed = {one.previous for one in candidates.values()}
    tips = [one for one in candidates.values() if one.id not in followed]
    if not tips:
        return None
    tip = max(tips, key=lambda one: (one.time, _depth(one, candidates)))
    if tip.id in certain:
        return tip.id
    rivals = [one for one in candidates.values() if one.previous == tip.previous and one.id != tip.id]
    doubtful = bool(rivals) or (tip.by_person and not complete)
    return tip.previous if doubtful and tip.previous in candidates else tip.id


def _depth(one: Candidate, candidates: Mapping[CommitId, Candidate]) -> int:
    depth = 0
    at: Candidate | None = one
    while at is not None and depth <= len(candidates):
        depth += 1
        at = None if at.previous is None else candidates.get(at.previous)
    return depth
