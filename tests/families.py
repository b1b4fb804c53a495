"""Families for the tests: a lead whose children do things to files, and what is in the commits of all of them."""

import random
from collections.abc import Awaitable, Callable
from pathlib import Path

import trio

from caesura.continuations import Assistant, ChildFiles, Loops, Reply, UnkeptFiles, User
from caesura.runtime import Agent, ModelRequest, Outcome, Runtime, ToolContext, tool
from tests.models import ADA, ScriptedModel, ask_for, results, say
from tests.workspaces import LOOP, Kept, files_in, files_of, git, something_happens

LOOP_REF = f"refs/heads/loops/{LOOP}"
TEXT = "".join(f"line {number}\n" for number in range(9))


def apart(one: Kept, other: Kept) -> list[str]:
    """The files that two folders do not have alike, as a failure can show them whatever their names are."""
    names = sorted(one.keys() | other.keys())
    return [ascii((name, one.get(name), other.get(name))) for name in names if one.get(name) != other.get(name)]


def held(path: Path, loop: str = LOOP, back: int = 0) -> Kept:
    """The files in a commit of a loop, as git reads them."""
    return files_of(path, f"refs/heads/loops/{loop}~{back}:workspace")


def healthy(path: Path) -> None:
    """Neither git nor Caesura finds fault with the repository."""
    git(path, "fsck", "--strict", "--no-dangling")
    with Loops.open(path) as loops:
        assert loops.verify().faults == ()


def event_of(path: Path, revision: str) -> str:
    return git(path, "log", "-1", "--format=%(trailers:key=Event,valueonly,separator=)", revision).decode().strip()


def ended(path: Path, event: str = "ChildFinished") -> list[str]:
    """The commits of the loop that took the ends of its children, the first one first."""
    form = "--format=%H %(trailers:key=Event,valueonly,separator=)"
    said = git(path, "log", "--first-parent", "--reverse", form, LOOP_REF).decode().splitlines()
    return [line.partition(" ")[0] for line in said if line.partition(" ")[2] == event]


Do = Callable[[Path], None]


def chaos(seed: int) -> Do:
    """Anything happens to files, the same in each run."""

    def change(place: Path) -> None:
        chance = random.Random(seed)  # noqa: S311 - to be the same in each run
        for _ in range(6):
            something_happens(place, chance)

    return change


class Family:
    """A lead that asks children to do things to files, and what each of them found.

    Each of the `rounds` is what the lead asks for at once: names of what is done, those with a ``!`` by itself. Its
    children get their files as `workspace` says.
    """

    workspace: ChildFiles = "copy"

    def __init__(self, path: Path, *rounds: list[str], **does: Do) -> None:
        self.path, self.rounds, self.does = path, rounds, does
        self.places: dict[str, Path | None] = {}
        self.found: dict[str, Kept] = {}
        self.told: list[list[str]] = []

        @tool
        def act(what: str, context: ToolContext) -> str:
            self.places[what] = context.workspace
            if context.workspace is not None:
                self.found[what] = files_in(context.workspace)
                self.does[what](context.workspace)
            return f"{what} is done"

        self.act = act
        self.child = Agent("child", tools=[act])
        self.lead = Agent("lead", tools=[act, self.child.as_tool("Acts.", workspace=self.workspace)])

    def script(self, asked: ModelRequest) -> Reply:
        said = sum(isinstance(message, Assistant) for message in asked.messages)
        if asked.agent != "lead":
            prompt = asked.messages[0]
            assert isinstance(prompt, User)
            return say(f"did {prompt.content}") if said else ask_for(("act", {"what": prompt.content}))
        self.told.append(results(asked))
        if said >= len(self.rounds):
            return say("done")
        calls = [one.rpartition("!") for one in self.rounds[said]]
        return ask_for(*(("act", {"what": what}) if own else ("child", {"prompt": what}) for _, own, what in calls))

    async def run(self, root: Path) -> Outcome:
        async with Runtime.open(self.path, agents=[self.lead], model=ScriptedModel(self.script)) as runtime:
            return await runtime.run("lead", "Go.", loop=LOOP, workspace=root)

    async def resume(self, loop: str = LOOP) -> Outcome:
        async with Runtime.open(self.path, agents=[self.lead], model=ScriptedModel(self.script)) as runtime:
            return await runtime.resume(loop)


def writes(name: str, text: str) -> Do:
    def write(root: Path) -> None:
        (root / name).write_text(text)

    return write


def line(number: int, text: str) -> Do:
    """Put a text in the place of one line."""

    def change(root: Path) -> None:
        lines = (root / "text").read_text().splitlines(keepends=True)
        lines[number] = f"{text}\n"
        (root / "text").write_text("".join(lines))

    return change


def go_on(path: Path, drive: Callable[[], Awaitable[Outcome]], keep: Callable[[Loops], None]) -> None:
    """Go on after a crash as a person would, until it has ended; what was changed in a folder by then, `keep` keeps."""
    for _ in range(12):
        try:
            outcome = trio.run(drive)
        except UnkeptFiles:
            with Loops.open(path) as loops:
                keep(loops)
            continue
        if outcome.status == "completed":
            return
        with Loops.open(path) as loops:
            for request in outcome.pending:
                assert request.kind == "outcome"
                loops.answer(request, "It had ended.", by=ADA)
    raise AssertionError("the loop never ends")
