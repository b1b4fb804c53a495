"""The files that a loop works on: where they are, what was changed in them, and what becomes of that."""

from typing import Annotated, Any

from cyclopts import Parameter

from caesura.continuations import FileChange, LoopFiles, count

from ._faults import BadUsage
from ._options import By, Json, Repo, place
from ._output import Page, err, out, write_json, write_patch
from ._shown_files import diff_json

_ORIGIN = ("repository", "commit", "held_back")
_KINDS = {"A": ("new:     ", "green"), "M": ("changed: ", "yellow"), "D": ("deleted: ", "red")}


def files(
    loop: Annotated[str, Parameter(help="The loop's name; 'caesura loops' lists them.", show_default=False)],
    /,
    *,
    keep: Annotated[
        bool, Parameter(name="--keep", negative="", help="Commit the files as they are now, as a step of yours.")
    ] = False,
    diff: Annotated[
        bool,
        Parameter(
            name="--diff",
            negative="",
            help="Print, as a patch that git takes, what the loop has changed since a person last looked at it.",
        ),
    ] = False,
    restore: Annotated[
        bool,
        Parameter(
            name="--restore",
            negative="",
            help="Commit them, and then put back those that the loop had; yours stay in the history.",
        ),
    ] = False,
    by: By = None,
    repo: Repo = None,
    json: Json = False,
) -> None:
    """Show the folder of a loop that works on files, and what was changed there since its last commit.

    A loop does not go on over files that somebody else has changed: keep them, or restore those of the loop. Files that
    hold a secret are left out of every commit.

    With --json: {"loop", "folder", "changes": [{"kind", "path"}], "left_out": [path, ...], "origin": null or
    {"repository", "commit", "held_back": [path, ...]}, "behind": whether it is yet to be made as in the last commit};
    with --diff {"since", "until", "files":
    [{"path", "kind", "added", "removed", "text", "note"}], "patch", "left_out"}.
    """
    if keep and restore:
        raise BadUsage(
            "The files cannot be kept and restored.", hint="Choose one; --restore keeps them in the history."
        )
    if diff and (keep or restore):
        raise BadUsage("--diff only shows.", hint="Keep or restore the files with a command of its own.")
    if diff:
        with place(repo).loops() as loops:
            unseen = loops.unseen(loop, whole=True)
        if json:
            write_json(diff_json(unseen, whole=True))
        elif unseen.files:
            write_patch("".join(file.text for file in unseen.files))
        else:
            err(Page().add(f"{loop} has changed no file since a person looked ({unseen.since[:10]})."))
        return
    with place(repo).loops() as loops:
        found = loops.files(loop)
        if keep or restore:
            loops.keep_files(loop, restore=restore, by=by)
    if json:
        write_json(_files_json(found))
        return
    page = Page().add((found.folder, "bold"))
    if found.origin is not None:
        page.add(("from: ", "dim"), f"{found.origin.repository}@{found.origin.commit[:10]}")
        for path in found.origin.held_back:
            page.add(("held back: ", "dim"), path)
    for change in found.changes:
        page.add(*_line(change))
    for path in found.left_out:
        page.add(("left out: ", "dim"), path)
    changed = count(len(found.changes), "file")
    if found.behind and not restore:
        page.add(("not yet as in its last commit: going on makes it so, or --restore", "yellow"))
    elif not found.changes:
        page.add(("as in its last commit", "dim"))
    elif keep or restore:
        them, they = ("it", "it was") if len(found.changes) == 1 else ("them", "they were")
        what = f"as the loop had {them}; what {they} is in the commit before" if restore else "in a commit of yours"
        page.add((f"{changed} {what}", "green"))
    out(page)


def _line(change: FileChange) -> tuple[tuple[str, str], ...]:
    return (_KINDS[change.kind], (change.path, ""))


def _files_json(found: LoopFiles) -> dict[str, Any]:
    changes = [{"kind": change.kind, "path": change.path} for change in found.changes]
    origin = None if found.origin is None else {field: getattr(found.origin, field) for field in _ORIGIN}
    return {
        "loop": found.loop,
        "folder": found.folder,
        "changes": changes,
        "left_out": list(found.left_out),
        "origin": origin,
        "behind": found.behind,
    }
