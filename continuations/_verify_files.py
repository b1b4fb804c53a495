"""Verification of files: who may change a loop's, what nested loops begin with, and what becomes of that in their
parent's."""

from collections.abc import Iterable, Iterator

from ._calls import Call
from ._child_files import FILES_NOTE
from ._state import Continuation
from ._workspace import Workspace, newest

FILING = frozenset(
    {"ToolReturned", "ToolFailed", "ToolAsked", "ChildFinished", "ChildFailed", "FilesChanged", "Rewound"}
)
"""The events that may bring other files than a loop, or a child in its folder, had before."""


def committed_files(
    event: str, before: Continuation, after: Continuation, ended: Iterable[Continuation]
) -> Iterator[str]:
    """Whether a loop's files are those that it had, or a child that shares its folder has left there, or later ones;
    `ended` are the last states of the children that are nested no more."""
    known, now = _known(before, after, ended), after.workspace
    if known is None or now is None or now == known:
        return
    if event not in FILING:
        yield f"{event} changed its workspace"
    elif now.edition <= known.edition and (now.edition, known.edition) != (0, 0):  # earlier formats do not count
        yield f"its files are said to be edition {now.edition}, and those before them were edition {known.edition}"


def _known(before: Continuation, after: Continuation, ended: Iterable[Continuation]) -> Workspace | None:
    if before.workspace is None:
        return None
    below = (one.shared for one in (*(child.state for child in after.children.values()), *ended))
    return newest(before.workspace, (one for one in below if one is not None))


def copied(parent: Continuation, call: Call, child: Continuation) -> Iterator[str]:
    """Whether a child loop that is nested for the first time works on a copy of its parent's files, in its parent's
    folder, or on none, as the agent's tool says."""
    tool = parent.tool(call)
    works = "a copy" if child.copy_of is not None else "no files" if child.workspace is None else "its parent's files"
    said = "none" if parent.workspace is None or tool is None else tool.workspace
    if works != {"copy": "a copy", "share": "its parent's files", "none": "no files"}[said]:
        yield f"the child loop of {call.id} works on {works}, and its tool says otherwise"


def brought_back(
    event: str, before: Continuation, after: Continuation, call: Call, child: Continuation
) -> Iterator[str]:
    """Whether a loop's files are those that it had, with those of a child that has ended merged into them."""
    ours, now, theirs, base = _known(before, after, [child]), after.workspace, child.workspace, child.copy_of
    if ours is None or now is None:
        return
    if child.shared is not None and event == "ChildFailed":
        return  # something that it had not come to commit may have been there
    if now.edition > ours.edition + 1:
        return  # others have worked in the folder, which is not the loop's own
    returned = child.ending is not None and child.ending.status == "completed"
    if theirs is None or base is None or not returned or theirs.tree == base:
        expected = ours.tree
    elif ours.tree == base:
        expected = theirs.tree
    else:
        expected = now.tree  # both had changed them: it would have to be merged again to tell
    if now.tree != expected or now.left_out != ours.left_out:
        yield f"its files are not those that it had with those of {call.id} merged into them"


def is_told(content: str, ending: str) -> bool:
    """Whether a result is how a child loop ended; what became of its files may be told after that."""
    return content.endswith(ending) or f"{ending}{FILES_NOTE}" in content
