"""Verification of the files of nested loops: what they begin with, and what becomes of them in their parent's."""

from collections.abc import Iterator

from ._calls import Call
from ._child_files import FILES_NOTE
from ._state import Continuation


def copied(parent: Continuation, call: Call, child: Continuation) -> Iterator[str]:
    """Whether a child loop that is nested for the first time works on a copy of its parent's files, or on none, as the
    agent's tool says."""
    tool = parent.tool(call)
    copies = parent.workspace is not None and tool is not None and tool.workspace == "copy"
    if (child.copy_of is not None) != copies:
        yield f"the child loop of {call.id} works on {'no files' if copies else 'files'}, and its tool says otherwise"


def brought_back(before: Continuation, after: Continuation, call: Call, child: Continuation) -> Iterator[str]:
    """Whether a loop's files are those that it had, with those of a child that has ended merged into them."""
    ours, now, theirs, base = before.workspace, after.workspace, child.workspace, child.copy_of
    if ours is None or now is None:
        return
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
