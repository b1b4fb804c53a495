"""Reading, finding, writing and mending files. All of it stays within the workspace, and follows no link."""

from collections.abc import Iterable, Iterator
from contextlib import suppress
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated

import msgspec

from caesura.continuations import Folder, NotHere, ToolError, WouldWrite, count
from caesura.runtime import AnyTool, ProposedCall, ToolContext, tool

from ._command import command_tool
from ._patching import NotDone, git_apply, patched_paths, would_apply

MOST_LINES = 2000
MOST_NAMES = 500
MOST_FOUND = 200
_LONG = 300
_LINE = 2000

Path_ = Annotated[str, msgspec.Meta(description="A path within the workspace, like src/main.py.")]


class NoWorkspace(ToolError):
    """The loop works on no files."""


def folder_of(context: ToolContext) -> Path:
    """The folder that a call's loop works on.

    Raises:
        NoWorkspace: it works on none.
    """
    if context.workspace is None:
        raise NoWorkspace("This loop has no workspace.", hint="Start it with 'caesura run --workspace FOLDER'.")
    return context.workspace


def _text(folder: Folder, path: str) -> str:
    data = folder.read(path)
    try:
        text = data.decode()
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        raise NotDone(f"{path} is not text.", hint="Run a command that understands it.")
    return text


@tool(idempotent=True)
def read_file(context: ToolContext, path: Path_, first_line: int = 1, lines: int = MOST_LINES) -> str:
    """Read a text file, or a part of it.

    Args:
        first_line: Counted from 1.
        lines: How many lines; at most 2,000.
    """
    found = _text(Folder(folder_of(context)), path).splitlines(keepends=True)
    first = max(1, first_line) - 1
    shown = found[first : first + max(1, min(lines, MOST_LINES))]
    cut = [line if len(line) <= _LINE else f"{line[:_LINE]} [… this line is cut]\n" for line in shown]
    rest = len(found) - first - len(shown)
    more = f"\n[{count(rest, 'more line')} from line {first + len(shown) + 1}]" if rest > 0 else ""
    return "".join(cut) + more or "[The file is empty.]"


@tool(idempotent=True)
def list_files(context: ToolContext, path: Path_ = "") -> str:
    """List what is in one folder; folders end in a slash."""
    names = [f"{name}/" if is_folder else name for name, is_folder in Folder(folder_of(context)).names(path)]
    return _listed(names, MOST_NAMES)


@tool(idempotent=True)
def find_files(context: ToolContext, pattern: str, path: Path_ = "") -> str:
    """Find files by a pattern for their paths, like *.py or src/**/test_*.py; a * matches slashes too."""
    return _listed((one for one in Folder(folder_of(context)).walk(path) if _fits(one, pattern)), MOST_NAMES)


@tool(idempotent=True)
def search_files(
    context: ToolContext, text: str, path: Path_ = "", pattern: str = "*", ignore_case: bool = False
) -> str:
    """Find the lines of files that hold a text, exactly as it is given: it is no regular expression.

    Args:
        pattern: Only in files whose paths fit this, like *.py.
    """
    folder = Folder(folder_of(context))
    wanted = text.lower() if ignore_case else text
    if not wanted.strip("\n"):
        raise NotDone("There is nothing to search for.", hint="Give a text.")

    def found() -> Iterator[str]:
        for one in folder.walk(path):
            with suppress(NotHere, NotDone):  # links, and what is no text
                if not _fits(one, pattern):
                    continue
                for number, line in enumerate(_text(folder, one).splitlines(), 1):
                    if wanted in (line.lower() if ignore_case else line):
                        yield f"{one}:{number}: {line[:_LONG]}"

    return _listed(found(), MOST_FOUND)


def _would_write(call: ProposedCall, root: Path) -> WouldWrite:
    path, content = call.arguments["path"], call.arguments["content"]
    return {path: Folder(root).written(path, content.encode())}


@tool(writes=_would_write)
def write_file(context: ToolContext, path: Path_, content: str) -> str:
    """Write a whole file, a new one or in the place of an old one; folders are made as needed."""
    over = Folder(folder_of(context)).write(path, content.encode())
    return f"{path} is {'written anew' if over else 'made'}: {count(len(content.splitlines()), 'line')}."


def _would_edit(call: ProposedCall, root: Path) -> WouldWrite:
    folder, path = Folder(root), call.arguments["path"]
    text, _ = _edited(folder, path, call.arguments["old"], call.arguments["new"], all=call.arguments["all"])
    return {path: folder.written(path, text.encode())}


@tool(writes=_would_edit)
def edit_file(context: ToolContext, path: Path_, old: str, new: str, all: bool = False) -> str:
    """Replace a piece of a file's text, which must stand in it exactly as given, and only once.

    Args:
        old: The text to replace, with enough around it to be the only one.
        all: Replace it wherever it stands.
    """
    folder = Folder(folder_of(context))
    text, times = _edited(folder, path, old, new, all=all)
    folder.write(path, text.encode())
    return f"{path}: replaced {count(times, 'piece')}."


def _edited(folder: Folder, path: str, old: str, new: str, *, all: bool) -> tuple[str, int]:
    """A file's text with a piece replaced, and how often that stood there."""
    text = _text(folder, path)
    times = text.count(old) if old else 0
    if times == 0:
        raise NotDone(f"{path} does not hold the text to replace.", hint="Read it again: spaces and line ends count.")
    if times > 1 and not all:
        raise NotDone(f"{path} holds that text {times} times.", hint="Give more of what is around it, or set all.")
    return text.replace(old, new), times


@tool(writes=would_apply)
def apply_patch(context: ToolContext, patch: str) -> str:
    """Apply a patch in the unified form of diff and git: all of it, or nothing if a part does not fit. No renames."""
    root = folder_of(context)
    patched_paths(root, patch)
    return git_apply(root, patch, "--verbose").stderr.decode("utf-8", "replace").strip()


def file_tools(*, allow: Iterable[str] = (), timeout: float = 120.0) -> list[AnyTool]:
    """All of them, and `command_tool`, which runs the commands that `allow` begins without asking anybody.

    `timeout` is for one command, in seconds.
    """
    files: list[AnyTool] = [read_file, list_files, find_files, search_files, write_file, edit_file, apply_patch]
    return [*files, command_tool(allow=allow, timeout=timeout)]


def _fits(path: str, pattern: str) -> bool:
    return any(fnmatchcase(path, one) for one in (pattern, pattern.replace("**/", ""), f"*/{pattern}"))


def _listed(lines: Iterable[str], most: int) -> str:
    shown: list[str] = []
    for line in lines:
        if len(shown) == most:
            return "\n".join([*shown, "[There is more. Ask for less.]"])
        shown.append(line)
    return "\n".join(shown) or "[Nothing.]"
