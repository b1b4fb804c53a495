"""Patches of a model's: applied by git, which keeps to the folder, follows no link and does all of it or nothing."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from caesura.continuations import LINK, FileContent, Folder, ToolError, WouldWrite
from caesura.runtime import ProposedCall

from ._command import environment


class NotDone(ToolError):
    """What was asked of a file does not fit it."""


def patched_paths(root: Path, patch: str) -> list[str]:
    """The paths that a patch is about, all of which a tool may write to.

    Raises:
        NotDone: it cannot be read, or renames or copies files.
        NotHere: it leads out of the folder, or into a repository's own files.
    """
    moves = git_apply(root, patch, "--summary").stdout.splitlines()
    if any(line.lstrip().startswith((b"rename ", b"copy ")) for line in moves):
        raise NotDone("The patch renames or copies files.", hint="Give it as a file removed and a file added.")
    paths = list(_paths(git_apply(root, patch, "--numstat", "-z").stdout))
    for path in paths:
        Folder(root).check(path)
    return paths


def would_apply(call: ProposedCall, root: Path) -> WouldWrite:
    """What the files would be after a patch: it is applied to copies of those that it is about."""
    patch = call.arguments["patch"]
    paths = dict.fromkeys(patched_paths(root, patch))
    there = Folder(root)
    with TemporaryDirectory(prefix="caesura-") as name:
        copy = Path(name)
        for path in paths:
            content = there.content(path)
            if content is not None:
                _put(copy / there.path(path), content)
        git_apply(copy, patch)
        return {path: Folder(copy).content(there.path(path)) for path in paths}


def _put(file: Path, content: FileContent) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    if content.mode == LINK:
        file.symlink_to(os.fsdecode(content.data))
    else:
        file.write_bytes(content.data)
        file.chmod(content.mode & 0o777)


def git_apply(root: Path, patch: str, *options: str) -> "subprocess.CompletedProcess[bytes]":
    """Let git apply a patch.

    Raises:
        NotDone: it does not fit. Nothing was changed.
    """
    done = subprocess.run(  # noqa: S603  # our own words
        ["git", "apply", "--whitespace=nowarn", *options, "-"],  # noqa: S607  # the git of whoever runs this
        cwd=root,
        # No repository counts, neither one above, whose root git would take paths for, nor one that begins here:
        # what stands in its settings and attributes would change line ends.
        env={**environment({}), "GIT_DIR": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"},
        input=(patch if patch.endswith("\n") else f"{patch}\n").encode(),
        capture_output=True,
        check=False,
    )
    if done.returncode:
        said = done.stderr.decode("utf-8", "replace").strip()
        raise NotDone(f"The patch does not apply: {said}", hint="Read the files again, and make a new patch.")
    return done


def _paths(numstat: bytes) -> Iterator[str]:
    """The paths that a patch is about, each after two numbers."""
    for piece in filter(None, numstat.split(b"\0")):
        path = os.fsdecode(piece.split(b"\t", 2)[-1])
        if path:
            yield path
