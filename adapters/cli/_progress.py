"""Progress while loops run: lines on standard error, and on a terminal what every actor does right now."""

import sys
import time
from collections.abc import Callable
from contextlib import ExitStack, redirect_stdout
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import trio

from caesura.continuations import LoopName, Status, one_line, parent_name
from caesura.runtime import Committed, Dropped, Notice, Progressed, Streamed, Thinking

from ._forms import path_text
from ._output import Page, err, is_screen, rich_text, styled

if TYPE_CHECKING:
    from rich.live import Live

_FRAMES = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
_PERIOD = 0.1
_SHOWN = 8
_TAIL = 3
COLOURS = {
    Status.COMPLETED: "green",
    Status.FAILED: "red",
    Status.CANCELLED: "red",
    Status.SUSPENDED: "yellow",
    Status.ACTIVE: "",
}


class Progress:
    """Lines: one for each committed step. `seen` is every loop that has been heard of; `suspended` is called when
    one of them is suspended."""

    def __init__(self) -> None:
        self.seen: dict[LoopName, None] = {}
        self.suspended: Callable[[], None] = lambda: None
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        # What tools and the user's modules print is no result of ours: it must not get among the results.
        self._stack.enter_context(redirect_stdout(sys.stderr))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Leave the screen as it was found."""
        self._stack.close()

    def say(self, page: Page) -> None:
        """Write something that stays."""
        err(page)

    def tell(self, page: Page) -> None:
        """Write what a notice said."""
        self.say(page)

    def notice(self, notice: Notice) -> None:
        """Show a notice of the runtime."""
        self.seen.setdefault(notice.loop)
        match notice:
            case Committed():
                self.tell(_step(notice))
                if notice.status is Status.SUSPENDED:
                    self.suspended()
            case Progressed():
                self.tell(Page().add((f"{notice.loop}.{notice.call}  ", "dim"), one_line(notice.text, 200)))
            case Dropped():
                self.tell(Page().add((f"{notice.loop}  dropped {notice.event}: {notice.reason}", "dim")))
            case Thinking() | Streamed():
                pass

    async def refresh(self) -> None:
        """Keep moving what moves."""


@dataclass
class _Busy:
    """An actor at work: what it does, since when, and the end of what its model is saying."""

    agent: str
    what: str
    since: float = field(default_factory=time.monotonic)
    text: str = ""


class LiveProgress(Progress):
    """The same lines, and below them the actors at work, drawn again and again."""

    def __init__(self) -> None:
        super().__init__()
        self._busy: dict[LoopName, _Busy] = {}
        self._agents: dict[LoopName, str] = {}
        self._live: Live | None = None

    def __enter__(self) -> Self:
        super().__enter__()
        from rich.console import Console
        from rich.live import Live

        console = Console(file=sys.stderr, markup=False, highlight=False, emoji=False, no_color=not styled(sys.stderr))
        live = Live(console=console, auto_refresh=False, transient=True, get_renderable=self._picture)
        self._live = self._stack.enter_context(live)
        self._stack.callback(self._gone)
        return self

    def _gone(self) -> None:
        self._live = None

    def say(self, page: Page) -> None:
        """Write something that stays, above what moves."""
        if self._live is None:
            err(page)
        else:
            self._live.console.print(rich_text(page), soft_wrap=True, end="")

    def notice(self, notice: Notice) -> None:
        """Show a notice of the runtime."""
        match notice:
            case Thinking():
                self._agents[notice.loop] = notice.agent
                self._busy[notice.loop] = _Busy(agent=notice.agent, what="thinking")
            case Streamed():
                busy = self._busy.get(notice.loop)
                if busy is not None:
                    busy.what, busy.text = "answering", (busy.text + notice.text)[-2000:]
            case Committed(status=Status.ACTIVE):
                self._agents[notice.loop] = notice.agent
                self._busy[notice.loop] = _Busy(
                    agent=notice.agent, what=notice.subject.removeprefix(f"{notice.agent}: ")
                )
            case Committed():
                self._busy.pop(notice.loop, None)
            case Progressed() if notice.loop in self._busy:
                self._busy[notice.loop].text = notice.text
            case _:
                pass
        super().notice(notice)

    async def refresh(self) -> None:
        """Keep moving what moves."""
        while self._live is not None:
            self._live.refresh()
            await trio.sleep(_PERIOD)

    def _picture(self) -> Any:
        page, now = Page(), time.monotonic()
        frame = _FRAMES[int(now / _PERIOD) % len(_FRAMES)]
        width = self._width
        busy = list(self._busy.items())
        for loop, one in busy[:_SHOWN]:
            head = f"{self._path(loop)}  "
            took = f"  {now - one.since:.0f} s"
            room = max(10, width - len(head) - len(took) - 4)
            page.add((f"{frame} ", "cyan"), (head, "cyan"), one_line(one.what, room), (took, "dim"))
            for line in one.text.rstrip().splitlines()[-_TAIL:]:
                page.add(("  │ ", "dim"), (_tail(line, max(10, width - 6)), "dim"))
        if len(busy) > _SHOWN:
            page.add((f"  … and {len(busy) - _SHOWN} more at work", "dim"))
        return rich_text(page)

    @property
    def _width(self) -> int:
        return 80 if self._live is None else self._live.console.width

    def _path(self, loop: LoopName) -> str:
        names: list[str] = []
        above: LoopName | None = loop
        while above is not None:
            names.insert(0, self._agents.get(above, above.rpartition(".")[2]))
            above = parent_name(above)
        return path_text(names)


def progress() -> Progress:
    """The progress that standard error can show."""
    return LiveProgress() if is_screen(sys.stderr) else Progress()


def _step(notice: Committed) -> Page:
    return Page().add((f"{notice.loop}  ", "dim"), (notice.subject, COLOURS[notice.status]))


def _tail(line: str, width: int) -> str:
    return line if len(line) <= width else "…" + line[1 - width :]
