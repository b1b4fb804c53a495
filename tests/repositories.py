"""What the tests of the store in git share: a repository of their own, git itself, and files of objects."""

import subprocess
from pathlib import Path

from caesura.continuations import Started, User, loop_name, start
from tests.strategies import AGENT, EPOCH, WORKERS

STATE = start(Started(at=EPOCH, definition=AGENT, prompt=User(content="Go."), nonce="n", worker=WORKERS[0]))
X, OPS = loop_name("x"), loop_name("ops")


def git(folder: Path, *arguments: str, data: bytes = b"") -> str:
    """What git says; a failure of it fails the test."""
    done = subprocess.run(["git", *arguments], cwd=folder, input=data, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.decode().strip()


def overwrite(file: Path, data: bytes) -> None:
    """Put other bytes into a file that git has made read-only."""
    file.unlink()
    file.write_bytes(data)
