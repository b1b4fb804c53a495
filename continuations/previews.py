"""Previews: what a call would change in the files, as a patch against what is there now. Nothing is written."""

from collections.abc import Mapping
from pathlib import Path

from ._errors import ToolError
from ._patch import FilePatch, Preview, cut_to, file_patch, without_content
from ._redact import Redaction
from ._workspace import LINK, PLAIN, FileContent
from .folder import Folder

WouldWrite = Mapping[str, FileContent | bytes | str | None]
"""What would be in files, by their paths in the workspace, the whole of each; None is no file. A file that is there
keeps its mode, unless a `FileContent` says another."""

MOST_FILES = 200
"""Files that a preview may be about."""


class NoPreview(ToolError):
    """It cannot be told what a call would change."""


def preview_of(folder: Path, would: WouldWrite, redaction: Redaction, *, lines: int, characters: int) -> Preview:
    """What would change in a folder, as far as so many lines and characters of a patch show it.

    Raises:
        NoPreview, NotHere: files would be there that cannot be.
    """
    if len(would) > MOST_FILES:
        raise NoPreview(f"{len(would):,} files would change.", hint="Look at the call's arguments.")
    files = Folder(folder)
    found: dict[str, FilePatch] = {}
    for name, wanted in sorted(would.items()):
        path, before = files.path(name), files.content(name)
        after = _content(path, wanted, before)
        if before == after:
            continue
        patch = file_patch(path, before, after)
        if any(_holds_secret(redaction, one) for one in (before, after)) or redaction.holds_secret(path):
            patch = without_content(patch, "it holds a secret")
        found[path] = patch
    return Preview(files=cut_to(list(found.values()), lines, characters))


def _content(path: str, wanted: object, before: FileContent | None) -> FileContent | None:
    match wanted:
        case None | FileContent():
            return wanted
        case str() | bytes():
            data = wanted.encode() if isinstance(wanted, str) else wanted
            return FileContent(data, PLAIN if before is None or before.mode == LINK else before.mode)
        case _:
            raise NoPreview(f"{path} cannot hold {type(wanted).__name__}.", hint="Give text, bytes or None.")


def _holds_secret(redaction: Redaction, content: FileContent | None) -> bool:
    text = "" if content is None else content.data.decode("utf-8", "surrogateescape")
    return redaction.holds_secret(text)
