"""A profile of a step: where its time goes, by samples of the clock, which tilt nothing as counting calls would."""

import signal
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from caesura.continuations import History, Started, Told, User, WorkerId, loop_name, utc_now

from .ours import AGENT, AUTHOR, COMMITTER, opened
from .report import Table
from .work import messages

_SAMPLED = 0.0003
"""Seconds between two samples."""

_ROWS = 24
_ROOT = Path(__file__).parent.parent.parent
_BENCH = "tests/bench/"


def profile(steps: int) -> Table:
    """Where the time of a durable step goes: somebody says something of 0.5 to 4 KB, all layers but the runtime's.

    Each part is the innermost function of Caesura's own that was at work, with the library and the system calls that it
    was waiting for.
    """
    seen: Counter[str] = Counter()
    with tempfile.TemporaryDirectory(prefix="caesura-bench-") as folder:
        store = opened(Path(folder), "durable")
        history = History(store)
        said = [User(content=message["content"]) for message in messages(1, "profile", steps)[: steps + 1]]
        begun = Started(at=utc_now(), definition=AGENT, prompt=said[0], nonce="n", worker=WorkerId("bench"))
        saved = history.begin(loop_name("profile"), begun, COMMITTER, AUTHOR)
        begin = time.perf_counter()
        with _sampled(seen):
            for message in said[1:]:
                saved = history.append(saved, Told(at=utc_now(), message=message, by=AUTHOR), COMMITTER)
        each = (time.perf_counter() - begin) / steps
        store.close()
    total = seen.total()
    rows = [(part, f"{count / total * each * 1e6:,.0f}", f"{count / total:.1%}") for part, count in seen.most_common()]
    rest = sum(seen.values()) - sum(count for _, count in seen.most_common(_ROWS))
    shown = [*rows[:_ROWS], ("everything else", f"{rest / total * each * 1e6:,.0f}", f"{rest / total:.1%}")]
    return Table(
        title=f"Where a durable step's {each * 1e6:,.0f} µs go ({steps:,} steps, {total:,} samples)",
        heads=("part", "µs", "share"),
        rows=tuple(shown),
    )


@contextmanager
def _sampled(seen: Counter[str]) -> Iterator[None]:
    def sample(number: int, frame: FrameType | None) -> None:
        seen[_part(frame)] += 1

    before = signal.signal(signal.SIGALRM, sample)
    signal.setitimer(signal.ITIMER_REAL, _SAMPLED, _SAMPLED)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _part(frame: FrameType | None) -> str:
    """The innermost function of Caesura's own, by its file and name."""
    while frame is not None:
        path = Path(frame.f_code.co_filename).resolve()
        if _ROOT in path.parents and "site-packages" not in path.parts:
            name = path.relative_to(_ROOT).as_posix()
            return "the benchmark itself" if name.startswith(_BENCH) else f"{name}: {frame.f_code.co_qualname}"
        frame = frame.f_back
    return "elsewhere"
