"""Where things stand: the branches of loops, and the files in a commit's tree."""

BRANCHES = "refs/heads/"
LOOPS = f"{BRANCHES}loops/"
ARCHIVE = "refs/archive/loops/"

RECORD = "continuation.json"
DEFINITION = "agent.json"
MESSAGES = "messages"
CHILDREN = "children"
WORKSPACE = "workspace"

WIDTH = 64
"""Entries in a folder of messages: few enough that appending one rewrites little, at any length."""


def message_path(index: int) -> tuple[str, ...]:
    """The path of a message below ``messages/``, by its index from 0.

    The first 4,096 are ``00/00.json`` to ``63/63.json``. Every further 4,096 are laid out alike in a numbered folder
    within ``64``: ``64/001/00/00.json`` is message 4,096.
    """
    batch, rest = divmod(index, WIDTH * WIDTH)
    folder, leaf = divmod(rest, WIDTH)
    path = (f"{folder:02}", f"{leaf:02}.json")
    return path if batch == 0 else (f"{WIDTH}", f"{batch:03}", *path)


def message_file(index: int) -> str:
    """Where a message stands in a commit's tree."""
    return f"{MESSAGES}/{'/'.join(message_path(index))}"


def folder_of(archived: bool) -> str:
    """Where the branches of loops are, or of those in the archive."""
    return ARCHIVE if archived else LOOPS
