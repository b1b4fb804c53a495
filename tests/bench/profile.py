"""A profile of a step: where its time goes, by samples of the clock, which tilt nothing as counting calls would."""

import signal
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import CodeType, FrameType

from caesura.continuations import (
    Assistant,
    Function,
    History,
    ModelReplied,
    Proposal,
    Reply,
    Started,
    ToolRequest,
    ToolReturned,
    ToolStarted,
    User,
    WorkerId,
    loop_name,
    utc_now,
)

from .ours import AUTHOR, COMMITTER, opened
from .report import Table
from .whole import AGENT, MODEL
from .work import messages

_SAMPLED = 0.001
"""Seconds between two samples."""

_ROWS = 24
_WORKER = WorkerId("bench")
_DEPTH = 32
_ROOT = Path(__file__).parent.parent.parent
_BENCH = "tests/bench/"


def profile(steps: int) -> Table:
    """Where the time of a durable step goes, in all layers but the runtime's: the model asks for a call, the call is
    claimed, its result comes, and again; two messages of 0.5 to 4 KB in three steps.

    Each part is the innermost function of Caesura's own that was at work, with the library and the system calls that it
    was waiting for.
    """
    seen: Counter[str] = Counter()
    with tempfile.TemporaryDirectory(prefix="caesura-bench-") as folder:
        store = opened(Path(folder), "durable")
        history, texts = History(store), [message["content"] for message in messages(1, "profile", steps)]
        agent, prompt = AGENT.spec(MODEL), User(content="go")
        begun = Started(at=utc_now(), definition=agent, prompt=prompt, nonce="n", worker=_WORKER)
        saved = history.begin(loop_name("profile"), begun, COMMITTER, AUTHOR)
        begin = time.perf_counter()
        with _sampled(seen):
            for place in range(0, steps, 3):
                asked = ToolRequest(id=f"c{place}", function=Function(name="look", arguments='{"place": 1}'))
                reply = Reply(message=Assistant(content=texts[place], tool_calls=(asked,)))
                shown, proposals = len(saved.state.messages), (Proposal(nonce=f"n{place}"),)
                replied = ModelReplied(at=utc_now(), reply=reply, shown=shown, proposals=proposals)
                saved = history.append(saved, replied, COMMITTER, AUTHOR)
                call = saved.state.calls[0].id
                saved = history.append(saved, ToolStarted(at=utc_now(), call=call, worker=_WORKER), COMMITTER, AUTHOR)
                returned = ToolReturned(at=utc_now(), call=call, attempt=1, content=texts[place + 1])
                saved = history.append(saved, returned, COMMITTER, AUTHOR)
        each = (time.perf_counter() - begin) / steps
        store.close()
    total = seen.total()
    shares = [(part, count / total) for part, count in seen.most_common(_ROWS)]
    shares.append(("everything else", 1 - sum(share for _, share in shares)))
    return Table(
        title=f"Where the {each * 1e6:,.0f} µs of a durable step go ({steps:,} steps, {total:,} samples)",
        heads=("part", "µs", "share"),
        rows=tuple((part, f"{share * each * 1e6:,.0f}", f"{share:.1%}") for part, share in shares),
    )


@contextmanager
def _sampled(seen: Counter[str]) -> Iterator[None]:
    stacks: Counter[tuple[CodeType, ...]] = Counter()

    def sample(number: int, frame: FrameType | None) -> None:
        codes: list[CodeType] = []
        while frame is not None and len(codes) < _DEPTH:
            codes.append(frame.f_code)
            frame = frame.f_back
        stacks[tuple(codes)] += 1

    before = signal.signal(signal.SIGALRM, sample)
    signal.setitimer(signal.ITIMER_REAL, _SAMPLED, _SAMPLED)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    for codes, count in stacks.items():
        seen[_part(codes)] += count


def _part(codes: tuple[CodeType, ...]) -> str:
    """The innermost function of Caesura's own, by its file and name."""
    for code in codes:
        path = Path(code.co_filename)
        if path.is_absolute() and _ROOT in path.resolve().parents and "site-packages" not in path.parts:
            name = path.resolve().relative_to(_ROOT).as_posix()
            return "the benchmark itself" if name.startswith(_BENCH) else f"{name}: {code.co_qualname}"
    return "elsewhere"
