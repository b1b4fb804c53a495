"""Jobs and their outcomes: what passes between the benchmark and the child processes that work for it."""

from typing import Literal

import msgspec

from .work import loop_names

Shape = Literal["one", "at once", "nested"]


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """What a child is to do: a task, and for whom. `size` is what the task counts, if it is not steps of loops."""

    task: str
    side: str = "caesura"
    folder: str = ""
    seed: int = 0
    shape: Shape = "one"
    loops: int = 1
    steps: int = 0
    size: int = 0

    @property
    def names(self) -> list[str]:
        """Its loops; of nested ones the lead comes first."""
        if self.shape == "nested":
            return ["lead", *(f"lead.{name}" for name in loop_names(self.loops))]
        return loop_names(self.loops)

    @property
    def forks(self) -> list[str]:
        """The forks of its first loop."""
        return [f"fork-{number}" for number in range(1, self.size + 1)]


class Outcome(msgspec.Struct, kw_only=True):
    """What came of a job: the seconds of the whole and of each step, the bytes on disk, and what was read back.

    `read` is the digests of the messages, by loop; `figures` what else the task measures, by name. `failed` says why
    there is nothing else, with the `trace` of where that was.
    """

    side: str
    seconds: float = 0.0
    took: list[float] = []
    disk: int = 0
    read: dict[str, list[str]] = {}
    figures: dict[str, list[float]] = {}
    failed: str = ""
    trace: str = ""
