"""Verification of marks: a commit that only says something has another's tree, and that other is what it says."""

from collections.abc import Iterator

from ._ids import CommitId
from ._marks import score_of, variant_of
from ._verify_bonds import Past, Recorded


def marked(commit: Recorded, message: str, parents: tuple[CommitId, ...], tree: str, past: Past) -> Iterator[str]:
    """What is wrong with a commit that says to have changed nothing. What it goes on from is judged by itself."""
    chosen = commit.event == "Chosen"
    own = 2 if chosen else 1
    if len(parents) < own:
        yield f"it is {commit.event}, and follows nothing"
        return
    kept = parents[own - 1]
    if past.tree(kept) != tree:
        yield f"{commit.event} changed the loop"
    if list(parents[own:]) != [child.commit for _, child in sorted(commit.after.children.items())]:
        yield "its further parents are not the child loops that it nests"
    if chosen:
        yield from _chosen(commit, parents, past)
    elif commit.event == "Tried":
        if not variant_of(message):
            yield "it tells no variant"
    elif score_of(message) is None:
        yield "it tells no score"


def _chosen(commit: Recorded, parents: tuple[CommitId, ...], past: Past) -> Iterator[str]:
    before, chosen = parents[:2]
    told = [value.partition(" ")[0] for value in commit.said.get("Chosen", ())]
    if told != [chosen]:
        yield f"its message says that {', '.join(told) or 'nothing'} was chosen, its second parent is {chosen}"
    over = [CommitId(value.partition(" ")[0]) for value in commit.said.get("Over", ())]
    # It may have been written again since, when the history before it was pruned.
    if not any(past.follows(before, one) and past.state(before) == past.state(one) for one in over):
        yield "its message does not say over what it was chosen"
    if past.origin(before) is None or past.origin(before) != past.origin(chosen):
        yield "what was chosen has no past in common with the loop"
