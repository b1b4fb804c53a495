"""The ``caesura`` command in processes of its own: waited for, watched line by line, or on a terminal of its own."""

import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

AGENTS = Path(__file__).with_name("cli_agents.py")
_COMMAND = [sys.executable, "-W", "error", "-m", "caesura"]
_PATIENCE = 300.0


class Told(NamedTuple):
    """What a command said, and how it ended."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class Shell:
    """A working folder in which commands are typed."""

    def __init__(self, folder: Path, **environment: str) -> None:
        self.folder = folder
        home = folder / "home"
        home.mkdir(exist_ok=True)
        (home / ".gitconfig").write_text("[user]\n\tname = Ada Tester\n\temail = ada@example.com\n")
        kept = {name: os.environ[name] for name in ("PATH", "PYTHONPATH", "LANG") if name in os.environ}
        self.environment = {**kept, "HOME": str(home), "TERM": "xterm", "COLUMNS": "100", **environment}

    def __call__(self, *words: str, said: str = "", **environment: str) -> Told:
        """Run a command to its end, with `said` on its standard input."""
        done = subprocess.run(
            [*_COMMAND, *words],
            cwd=self.folder,
            env={**self.environment, **environment},
            input=said,
            capture_output=True,
            text=True,
            timeout=_PATIENCE,
            check=False,
        )
        assert "Traceback" not in done.stderr, done.stderr
        return Told(done.returncode, done.stdout, done.stderr)

    def start(self, *words: str, **environment: str) -> "subprocess.Popen[str]":
        """Start a command whose standard error is to be read line by line."""
        return subprocess.Popen(
            [*_COMMAND, *words],
            cwd=self.folder,
            env={**self.environment, **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def terminal(self, *words: str, **environment: str) -> "Terminal":
        """Start a command on a terminal of its own."""
        return Terminal([*_COMMAND, *words], self.folder, {**self.environment, **environment})


class Terminal:
    """A command whose standard input, output and error are one terminal."""

    def __init__(self, command: Sequence[str], folder: Path, environment: dict[str, str]) -> None:
        self._ours, theirs = pty.openpty()
        self._process = subprocess.Popen(
            command, cwd=folder, env=environment, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True
        )
        os.close(theirs)
        self.screen = ""

    def until(self, text: str) -> None:
        """Read until the screen has shown a text."""
        deadline = time.monotonic() + _PATIENCE
        while text not in self.screen:
            assert time.monotonic() < deadline, self.screen
            assert self._read(), f"{text!r} was never shown:\n{self.screen}"

    def type(self, line: str) -> None:
        """Type a line."""
        os.write(self._ours, line.encode() + b"\n")

    def interrupt(self) -> None:
        """Press Ctrl-C."""
        self._process.send_signal(signal.SIGINT)

    def end(self) -> int:
        """Read until the command ends; its exit status."""
        while self._read():
            pass
        os.close(self._ours)
        return self._process.wait(_PATIENCE)

    def _read(self) -> bool:
        ready, _, _ = select.select([self._ours], [], [], _PATIENCE)
        assert ready, self.screen
        try:
            data = os.read(self._ours, 65536)
        except OSError:  # Linux says so when the other side is closed
            return False
        self.screen += data.decode("utf-8", "replace")
        return bool(data)


def wait_for_line(process: "subprocess.Popen[str]", text: str) -> list[str]:
    """Read standard error up to the first line that holds a text; those lines."""
    assert process.stderr is not None
    lines: list[str] = []
    for line in process.stderr:
        lines.append(line)
        if text in line:
            return lines
    raise AssertionError(f"{text!r} was never said:\n{''.join(lines)}")
