"""What becomes of the files of a child loop in its parent's, and what the parent's model is told of them."""

from textwrap import indent

from ._ids import CallId, CommitId
from ._messages import Value
from ._text import count, excerpt, one_line

FILES_NOTE = "\n\n[Files: "
"""How what is said of a child's files begins, after the child's own result."""

_NAMED = 100


class FileConflict(Value, frozen=True, kw_only=True):
    """A file of a child loop that was not merged into its parent's files: the parent keeps its own there.

    `why` says what stands against it, and `shown` what the child made of the file, as far as that can be shown.
    """

    path: str
    why: str
    shown: str = ""


def told_of_conflicts(call: CallId, conflicts: tuple[FileConflict, ...], kept_in: CommitId | None) -> str:
    """What a model is told, after a child's result, of files of the child's that are not among its own now."""
    if not conflicts:
        return ""
    lines = [f"{count(len(conflicts), 'file')} of {call} could not be merged into yours, which stay as you have them:"]
    for one in conflicts[:_NAMED]:
        lines.append(f"{one_line(one.path, 300)}: {one.why}")
        lines += [one.shown] if one.shown else []
    if len(conflicts) > _NAMED:
        lines.append(f"and {len(conflicts) - _NAMED} more")
    return FILES_NOTE + "\n".join([*lines, f"All else of {call} is merged. {_where(call, kept_in)}]"])


def told_of_failure(call: CallId, kept_in: CommitId | None, *, shared: bool) -> str:
    """What a model is told, after the reason, of the files that a child had changed before it failed: they are in the
    commit `kept_in`, or, if its folder was `shared`, still where they were."""
    if shared:
        return f"{FILES_NOTE}whatever {call} had changed by then is in yours.]"
    if kept_in is None:
        return ""
    return f"{FILES_NOTE}what {call} had changed is not in yours. {_where(call, kept_in)}]"


def and_files(said: str, note: str) -> str:
    """What a commit's body says of a child's end, and of its files; no line of a patch is wrapped."""
    return f"{said}\n\n{excerpt(indent(note.strip(), '  '))}" if note else said


def _where(call: CallId, kept_in: CommitId | None) -> str:
    return f"Its own files are in commit {kept_in or '?'}, as workspace/."
