"""Tools to work on the files of a loop's workspace: the ones that coding agents are given everywhere."""

from ._command import command_tool, is_plain
from ._tools import apply_patch, edit_file, file_tools, find_files, list_files, read_file, search_files, write_file

__all__ = [
    "apply_patch",
    "command_tool",
    "edit_file",
    "file_tools",
    "find_files",
    "is_plain",
    "list_files",
    "read_file",
    "search_files",
    "write_file",
]
