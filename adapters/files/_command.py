"""Running a command in the workspace: within limits of time and output, and, unless it is a plain one, approved.

The command is what it is: nothing here keeps it from what lies outside of the workspace. What it may do is for whoever
approves it, or for the machine that it runs on.
"""

import os
import shlex
import signal
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from subprocess import DEVNULL, PIPE, STDOUT
from typing import Annotated

import msgspec
import trio

from caesura.continuations import CallerError, ToolError
from caesura.runtime import AnyTool, ProposedCall, ToolContext, tool

MOST = 30_000
"""Characters of a command's output that the model reads: the first and the last half of them."""

_KEPT = ("PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR", "TERM")
_MEANT = frozenset("`$;&|<>()\n\r\\*?[]{}~#!%^\0")
_GRACE = 2.0


class NotRun(ToolError):
    """A command could not be run, or was stopped."""


def is_plain(command: str, allow: Iterable[str]) -> bool:
    """Whether a command line is one command, with nothing in it that a shell would make more of, and begins with the
    words of one that is allowed: ``pytest -q`` if ``pytest`` is."""
    if _MEANT & set(command):
        return False
    try:
        words = shlex.split(command)
    except ValueError:
        return False
    return any(words[: len(begun)] == begun for begun in map(shlex.split, allow) if begun)


def environment(more: Mapping[str, str]) -> dict[str, str]:
    """The variables that a command sees: few, because keys are kept among them."""
    return {**{name: os.environ[name] for name in _KEPT if name in os.environ}, **more}


def command_tool(
    *, allow: Iterable[str] = (), timeout: float = 120.0, variables: Mapping[str, str] | None = None
) -> AnyTool:
    """Make a tool that runs a command in the workspace. A person must approve it, unless `is_plain` says that `allow`
    covers it: an approval is of the very line that was shown.

    `timeout` is in seconds; then the command, and all that it has started, is ended. `variables` are what it sees,
    besides a few of this process's own.

    Raises:
        CallerError: one of `allow` is no command.
    """
    allowed = tuple(allow)
    for one in allowed:
        if not is_plain(one, [one]):
            raise CallerError(f"{one!r} cannot be allowed.", hint="Name a command and its first words: 'git diff'.")

    def asks(call: ProposedCall) -> bool:
        return not is_plain(call.arguments["command"], allowed)

    return tool(needs_approval=asks)(_runner(timeout, environment(variables or {})))


def _runner(timeout: float, seen: Mapping[str, str]) -> Callable[..., Awaitable[str]]:
    async def run_command(
        context: ToolContext,
        command: Annotated[
            str, msgspec.Meta(min_length=1, description="One line for the shell, run in the workspace.")
        ],
    ) -> str:
        """Run a command in the workspace; its output, both streams together, and how it ended."""
        if context.workspace is None:
            raise NotRun("This loop has no workspace.", hint="Start it with 'caesura run --workspace FOLDER'.")
        if "\0" in command:
            raise NotRun("A command cannot hold a NUL.", hint="Leave it out.")
        process = await trio.lowlevel.open_process(
            ["/bin/sh", "-c", command],
            cwd=context.workspace,
            env=seen,
            stdin=DEVNULL,
            stdout=PIPE,
            stderr=STDOUT,
            start_new_session=True,
        )
        output = _Output()
        try:
            with trio.move_on_after(timeout) as scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(output.read, process)
                    await process.wait()
                    # What it has left running may hold the stream open for ever.
                    nursery.cancel_scope.deadline = trio.current_time() + _GRACE
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            with trio.CancelScope(shield=True):
                await process.wait()
        if scope.cancelled_caught:
            raise NotRun(
                f"It was ended after {timeout:g} seconds. Until then it said:\n{output.text()}",
                hint="Run less at once.",
            )
        status = process.returncode or 0
        ended = f"ended by signal {-status}" if status < 0 else f"exit status {status}"
        return f"{output.text()}\n[{ended}]".lstrip("\n")

    return run_command


class _Output:
    """What a command says: the beginning and the end of it."""

    def __init__(self) -> None:
        self._first, self._last, self._size = b"", b"", 0

    async def read(self, process: trio.Process) -> None:
        stream = process.stdout
        if stream is not None:
            async for piece in stream:
                self._size += len(piece)
                room = MOST // 2 - len(self._first)
                self._first += piece[: max(0, room)]
                self._last = (self._last + piece[max(0, room) :])[-MOST // 2 :]

    def text(self) -> str:
        """The output, without its middle if it is long."""
        left = self._size - len(self._first) - len(self._last)
        gap = f"\n[… {left:,} bytes are left out …]\n".encode() if left else b""
        return (self._first + gap + self._last).decode("utf-8", "replace").rstrip("\n")
