"""What whoever is asked about a loop is shown of its files: what a call would change, and what the loop has changed."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from caesura.continuations import (
    CallerError,
    CommitId,
    FilePatch,
    FilesDiff,
    LoopName,
    Loops,
    NoFiles,
    Preview,
    Request,
    SavedStateError,
    count,
    cut_to,
    summed,
)

from ._output import Page
from ._paste import Paste

LINES = 200
"""Lines of what a loop has changed that a page shows."""

_CHARACTERS = 50_000
_NAMES = 5
_STYLES = {"+": "green", "-": "red", "@": "cyan"}


class Shown(NamedTuple):
    """What a loop has changed since a person looked, if it works on files; which files of a preview are others by now;
    and why this cannot be told, if it cannot."""

    unseen: FilesDiff | None = None
    outdated: tuple[str, ...] | None = None
    fault: str = ""


Look = Callable[[Request], Shown]
"""Looks at the files that a request is about."""


def look_at(loops: Loops) -> Look:
    """A way to look, once at each commit."""
    known: dict[tuple[LoopName, CommitId], FilesDiff | None] = {}

    def unseen(request: Request) -> FilesDiff | None:
        where = request.loop, request.commit
        if where not in known:
            try:
                known[where] = loops.unseen(request)
            except NoFiles:
                known[where] = None
        return known[where]

    def look(request: Request) -> Shown:
        try:
            return Shown(unseen=unseen(request), outdated=loops.outdated(request))
        except (CallerError, SavedStateError) as error:  # the request is shown all the same
            return Shown(fault=str(error))

    return look


def files_page(request: Request, shown: Shown, paste: Paste | None = None, *, full: bool) -> Page:
    """What a request says of files: how much would change and has changed; with `full`, the lines too."""
    page = Page()
    if request.preview is not None:
        preview_lines(page, request.preview, full=full)
    if shown.unseen is not None and shown.unseen.files:
        _unseen_lines(page, shown.unseen, request.loop, paste, full=full)
    if shown.outdated:  # after what may be hundreds of lines, and next to the question
        now = f"by now {'another' if len(shown.outdated) == 1 else 'others'}: {_names(shown.outdated)}"
        page.add(("  out of date: ", "yellow"), f"what it would change was told of files that are {now}")
    if shown.fault:
        page.add(("  its files cannot be shown: ", "yellow"), shown.fault)
    return page


def changes_page(loops: Loops, loop: LoopName, paste: Paste, *, full: bool) -> Page:
    """What a loop has changed in its files, below all else that is shown of it."""
    page = Page()
    try:
        diff = loops.unseen(loop)
        if diff.files:
            _unseen_lines(page.add(""), diff, loop, paste, full=full, indent="")
    except (CallerError, SavedStateError) as error:
        page.add("").add(("its files cannot be shown: ", "yellow"), str(error))
    return page


def preview_lines(page: Page, preview: Preview, *, full: bool, indent: str = "  ") -> None:
    """What a call would change, as it was told when the call was asked for."""
    lead = (f"{indent}it would change: ", "dim")
    if preview.failed:
        page.add((f"{indent}what it would change is not known: ", "yellow"), preview.failed)
    elif not preview.files:
        page.add(lead, "nothing")
    else:
        page.add(lead, _summary(preview.files))
    if full:
        _patch(page, preview.files, indent)
        left = sum(file.cut for file in preview.files)
        if left:
            page.add((f"{indent}  [{count(left, 'more line')}; the call's arguments say all of it]", "dim"))


def _unseen_lines(
    page: Page, diff: FilesDiff, loop: LoopName, paste: Paste | None, *, full: bool, indent: str = "  "
) -> None:
    lines = LINES if full else 0
    page.add((f"{indent}changed since a person looked ({diff.since[:10]}): ", "dim"), _summary(diff.files))
    files = cut_to(diff.files, lines, _CHARACTERS)
    if lines:
        _patch(page, files, indent)
    left = sum(file.cut for file in files)
    if left and paste is not None:
        much = f"{count(left, 'more line')}; " if lines else ""
        page.add((f"{indent}  [{much}all of it: {paste('files', loop, '--diff')}]", "dim"))


def _summary(files: Sequence[FilePatch]) -> str:
    least = " at least" if any(file.note for file in files) else ""
    return f"{summed(files)}{least}: {_names([file.path for file in files])}"


def _names(paths: Sequence[str]) -> str:
    more = f" and {len(paths) - _NAMES} more" if len(paths) > _NAMES else ""
    return ", ".join(paths[:_NAMES]) + more


def _patch(page: Page, files: Sequence[FilePatch], indent: str) -> None:
    prefix = f"{indent}  │ "
    for file in files:
        if file.note:
            page.block(f"{file.path}: {file.note}", prefix=prefix, style="yellow")
        literal = False  # only a line that is git's own says so: each of a file's has a mark before it
        for line in file.text.split("\n")[:-1]:  # a line feed alone ends a line; what else would is shown
            literal = line == "GIT binary patch" or (literal and not line.startswith("diff --git "))
            if line == "GIT binary patch":
                page.block("what is in it is no text", prefix=prefix, style="yellow")
            elif not literal and not line.startswith("index "):  # names for git alone
                page.block(line, prefix=prefix, style=_style(line))


def _style(line: str) -> str:
    return _STYLES.get(line[:1], "bold" if line.startswith("diff ") else "")


def preview_json(preview: Preview | None, outdated: Sequence[str] | None) -> dict[str, Any] | None:
    """A preview, for programs; `out_of_date` is null if nobody has looked, or could."""
    if preview is None:
        return None
    out_of_date = None if outdated is None else list(outdated)
    return {**_files_json(preview.files), "failed": preview.failed or None, "out_of_date": out_of_date}


def diff_json(diff: FilesDiff | None, *, whole: bool = False) -> dict[str, Any] | None:
    """What a loop has changed, for programs: as much as fits into `LINES` lines, or the whole of it."""
    if diff is None:
        return None
    files = diff.files if whole else cut_to(diff.files, LINES, _CHARACTERS)
    return {"since": diff.since, "until": diff.until, **_files_json(files)}


def _files_json(files: Sequence[FilePatch]) -> dict[str, Any]:
    return {
        "files": [
            {
                "path": file.path,
                "kind": file.kind,
                "added": file.added,
                "removed": file.removed,
                "text": not file.binary,
                "note": file.note or None,
            }
            for file in files
        ],
        "patch": "".join(file.text for file in files),
        "left_out": sum(file.cut for file in files),
    }
