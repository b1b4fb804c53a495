"""A table of loops that are driven at the same time, drawn again and again: what each is doing right now."""

import sys
import time
from collections.abc import Mapping
from typing import Any

from caesura.continuations import LoopName, Status, one_line, root_of
from caesura.runtime import Committed, Notice

from ._output import Page, is_screen, rich_text
from ._progress import COLOURS, LiveProgress, Progress


class _Table(LiveProgress):
    """One row for each root loop, by the name it is shown under."""

    def __init__(self, rows: Mapping[LoopName, str]) -> None:
        super().__init__()
        self._rows = rows
        self._last: dict[LoopName, Committed] = {}

    def tell(self, page: Page) -> None:
        """The rows say it."""

    def notice(self, notice: Notice) -> None:
        """Show a notice of the runtime."""
        if isinstance(notice, Committed) and notice.loop in self._rows:
            self._last[notice.loop] = notice
        super().notice(notice)

    def _picture(self) -> Any:
        page, now = Page(), time.monotonic()
        names = max(map(len, self._rows.values()), default=0)
        for loop, name in self._rows.items():
            what, colour = self._doing(loop, now)
            page.add((f"{name:{names}}  ", "bold"), (one_line(what, max(10, self._width - names - 3)), colour))
        return rich_text(page)

    def _doing(self, loop: LoopName, now: float) -> tuple[str, str]:
        busy = [(one, what) for one, what in self._busy.items() if root_of(one) == loop]
        if busy:
            at, doing = busy[-1]
            more = f"  (and {len(busy) - 1} more)" if len(busy) > 1 else ""
            return f"{self._path(at)}  {doing.what}  {now - doing.since:.0f} s{more}", ""
        last = self._last.get(loop)
        if last is None:
            return "…", "dim"
        what = last.subject.removeprefix(f"{last.agent}: ")
        return what if last.status is not Status.ACTIVE else "…", COLOURS[last.status]


def table(rows: Mapping[LoopName, str]) -> Progress:
    """The progress that standard error can show: a table, or a line for each step."""
    return _Table(rows) if is_screen(sys.stderr) else Progress()
