"""What every test stands on: a git that knows one test person and nothing of this machine's settings."""

import math
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pygit2
import pytest
import trio
from hypothesis import settings
from trio.testing import MockClock

from caesura.continuations.store import _disk
from tests.processes import Processes

settings.register_profile("caesura", deadline=None, derandomize=True)
settings.load_profile("caesura")

# A suite that a shell starts in the background inherits that Ctrl-C is ignored, and so would what it starts.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True, scope="session")
def _git_person(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    home, empty = tmp_path_factory.mktemp("git"), tmp_path_factory.mktemp("empty")
    config = home / ".gitconfig"
    config.write_text("[user]\n\tname = Grace Tester\n\temail = grace@example.com\n[init]\n\tdefaultBranch = main\n")
    levels = pygit2.enums.ConfigLevel
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_disk, "sync", Path.stat)  # a sync is half of the time, and few tests cut the power
        patch.setenv("GIT_CONFIG_GLOBAL", str(config))
        patch.setenv("GIT_CONFIG_NOSYSTEM", "1")
        for variable in ("GIT_AUTHOR_NAME", "GIT_AUTHOR_EMAIL", "GIT_COMMITTER_NAME", "GIT_COMMITTER_EMAIL", "GIT_DIR"):
            patch.delenv(variable, raising=False)
        # libgit2 does not read GIT_CONFIG_GLOBAL.
        paths = pygit2.settings.search_path
        before = {level: paths[level] for level in (levels.GLOBAL, levels.XDG, levels.SYSTEM)}
        for level in before:
            paths[level] = str(home if level is levels.GLOBAL else empty)
        yield
        for level, path in before.items():
            paths[level] = path


@pytest.fixture(scope="session")
def processes(_git_person: None) -> Iterator[Processes]:
    """What real processes are started by."""
    with Processes() as made:
        yield made


@pytest.fixture
def autojump_clock(monkeypatch: pytest.MonkeyPatch) -> MockClock:
    """trio's own, but that it stands still while a thread is waited for: how long that takes is the machine's affair.

    A thread that may be abandoned is not waited for.
    """
    clock, run_sync, waited = MockClock(autojump_threshold=0), trio.to_thread.run_sync, Counter[str]()

    async def stand_still(*arguments: Any, abandon_on_cancel: bool = False, **options: Any) -> Any:
        if abandon_on_cancel:
            return await run_sync(*arguments, abandon_on_cancel=True, **options)
        waited["threads"] += 1
        clock.autojump_threshold = math.inf
        try:
            return await run_sync(*arguments, **options)
        finally:
            waited["threads"] -= 1
            if not waited["threads"]:
                clock.autojump_threshold = 0

    monkeypatch.setattr(trio.to_thread, "run_sync", stand_still)
    return clock
