"""Records a history with everything in it that a loop can meet, as a git bundle for ``tests/histories``.

``python -m tests.record tests/histories/format-N.bundle`` is run once for each format, when it is final; a bundle is
never edited afterwards. What it holds is the same each time but for the ids that are random by design. Each loop is
named for its story; what is not over is left in the midst of it.
"""

import datetime as dt
import itertools
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, Literal

import trio
from msgspec.structs import replace

from caesura.adapters.files import edit_file
from caesura.continuations import (
    AgentSpec,
    ApprovalRule,
    Assistant,
    Budget,
    Changes,
    GitStore,
    Json,
    Loops,
    ModelSpec,
    Needs,
    Person,
    Policy,
    Reply,
    Request,
    Result,
    Saved,
    Usage,
    User,
    Variant,
    Variation,
)
from caesura.continuations._compaction import estimate_tokens
from caesura.runtime import (
    Agent,
    Ask,
    Compaction,
    ModelRequest,
    ModelUnavailable,
    Moment,
    Outcome,
    Retry,
    Runtime,
    SleepUntil,
    Tool,
    ToolContext,
    TooLong,
    ask,
    drop_tool_results,
    sleep_until,
    summarize,
    suspension,
    tool,
)
from tests.agents import Ledger, company, company_script
from tests.models import ADA, GRACE, NOON, Script, ScriptedModel, ask_for, lines, results, say

BOB = Person(name="Bob Kahn", email="bob@example.com")  # who runs the recorder approves nothing that a policy governs
LATER = (NOON + dt.timedelta(days=1)).isoformat()
TEA = ("order", {"item": "tea"})


@tool(needs_approval=True)
def order(item: str) -> str:
    """Order something."""
    return f"ordered {item}"


@tool(retry=Retry(on=(OSError,), first=0.001, jitter=0))
async def fetch(context: ToolContext) -> str:
    """Fetch something, at the third attempt."""
    if context.attempt < 3:
        raise OSError("not yet")
    return "fetched"


@tool
def inquire() -> Ask:
    """Ask somebody from within a tool."""
    return Ask("Which colour?", str)


@tool
def rest() -> SleepUntil:
    """Sleep from within a tool."""
    return SleepUntil(NOON + dt.timedelta(days=1))


@suspension
def at_the_start(moment: Moment) -> str | None:
    """Stop before the first model call."""
    return "the first call is to be looked at" if moment.state.spent.steps == 0 else None


class Recorder:
    """A repository in which stories are recorded; its clock moves a second each time it is read."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "r.git"
        self.folder = folder
        self.jump = dt.timedelta()
        seconds = itertools.count()
        self.now: Callable[[], dt.datetime] = lambda: NOON + self.jump + dt.timedelta(seconds=next(seconds))
        self.model = ScriptedModel(lambda _: say("done"))

    async def run(
        self, loop: str, agent: Agent, script: Script, *, policy: Policy | None = None, **options: Any
    ) -> Outcome:
        """Start a loop and drive it as far as it goes by itself."""
        self.model.script = script
        async with self.open(agent, policy=policy) as runtime:
            return await runtime.run(agent, f"The story of {loop}.", loop=loop, **options)

    async def resume(
        self,
        loop: str,
        agent: Agent,
        *,
        changes: Changes | None = None,
        policy: Policy | None = None,
        adopt: bool = False,
    ) -> Outcome:
        """Go on with a loop as another process would."""
        async with self.open(agent, changes=changes, policy=policy) as runtime:
            return await runtime.resume(loop, adopt=adopt)

    async def break_off(self, loop: str, make: Callable[[Callable[[], None]], Tool[..., Any]], script: Script) -> Agent:
        """Start a loop, and leave it in the midst of a tool as a process that dies would; the agent."""
        began = trio.Event()
        agent = Agent("worker", "Work.", tools=[make(began.set)])
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.run, loop, agent, script)
            await began.wait()
            nursery.cancel_scope.cancel()
        return agent

    def loops(self) -> Loops:
        """The loops, for a person."""
        return Loops(GitStore.open(self.path), now=self.now)

    def open(self, agent: Agent, **options: Any) -> AbstractAsyncContextManager[Runtime]:
        """A worker of its own."""
        return Runtime.open(self.path, agents=[agent], model=self.model, now=self.now, **options)


async def decisions(at: Recorder) -> None:
    """Nested and parallel, rejected and approved; edited; always; asked, slept and turned down."""
    lead = company(Ledger(at.folder / "ledger"))
    for loop in ("nested", "waiting"):
        await at.run(loop, lead, company_script)
    with at.loops() as loops:
        for request in loops.pending("nested"):
            loops.reject(request, "too dear", by=ADA) if "2400" in request.arguments else _approve(loops, request)
    await at.resume("nested", lead)
    with at.loops() as loops:
        for revision, name in (("waiting", "forked"), ("waiting.it-1", "forked-below")):
            loops.fork(revision, name)
    buyer = Agent("buyer", "Buy.", tools=[order])
    await at.run("edited", buyer, lines(ask_for(TEA), say("done")))
    with at.loops() as loops:
        loops.approve("edited.order-1", arguments={"item": "decaf"}, by=ADA)
    await at.resume("edited", buyer)
    await at.run("always", buyer, lines(ask_for(TEA), ask_for(TEA, ("order", {"item": "jam"})), say("done")))
    with at.loops() as loops:
        loops.approve("always.order-1", always="arguments", by=ADA)
    await at.resume("always", buyer)


def _approve(loops: Loops, request: Request) -> None:
    loops.approve(request, note="fine", by=GRACE)


async def waits(at: Recorder) -> None:
    """Questions and times, of the model's and of a tool's; one each is left open."""
    curious = Agent("curious", "Ask.", tools=[ask(bool), inquire, sleep_until, rest])
    calls: list[tuple[str, dict[str, Json]]] = [("ask", {"question": "Well?"}), ("inquire", {}), ("rest", {})]
    calls.append(("sleep_until", {"until": LATER}))
    script = lines(ask_for(*calls, text="First I ask."), ask_for(("ask", {"question": "Really?"})), say("done"))
    for loop in ("asking", "asked"):
        await at.run(loop, curious, script)
    with at.loops() as loops:
        loops.answer("asked.ask-1", True, by=ADA)
        loops.answer("asked.inquire-1", "green", by=GRACE)
        loops.tell("asked", "Take your time.", by=ADA)
    at.jump += dt.timedelta(days=2)
    await at.resume("asked", curious)
    with at.loops() as loops:
        loops.reject("asked.ask-2", "enough questions", by=ADA)
    await at.resume("asked", curious)


async def attempts(at: Recorder) -> None:
    """Retried; broken off while a tool ran, and each of the ways on from there."""
    await at.run("retried", Agent("fetcher", tools=[fetch]), lines(ask_for(("fetch", {})), say("done")))

    def holding(idempotent: bool, forever: Callable[[int], bool]) -> Callable[[Callable[[], None]], Tool[..., Any]]:
        def make(began: Callable[[], None]) -> Tool[..., Any]:
            @tool(idempotent=idempotent)
            async def work(context: ToolContext) -> str:
                """Work, and die of it at some attempts."""
                began()
                if forever(context.attempt):
                    await trio.sleep_forever()
                return f"worked at attempt {context.attempt}"

            return work

        return make

    script = lines(ask_for(("work", {})), say("done"))
    await at.break_off("running", holding(False, lambda _: True), script)
    ways: dict[str, Callable[[Loops, str], object]] = {
        "unknown": lambda loops, call: None,
        "unknown-ran": lambda loops, call: loops.answer(call, "by hand", by=ADA),
        "unknown-again": lambda loops, call: loops.approve(call, note="it did not", by=ADA),
        "unknown-given-up": lambda loops, call: loops.reject(call, "let it be", by=GRACE),
    }
    for loop, decide in ways.items():
        agent = await at.break_off(loop, holding(False, lambda attempt: attempt == 1), script)
        await at.resume(loop, agent)
        with at.loops() as loops:
            decide(loops, f"{loop}.work-1")
        await at.resume(loop, agent)
    agent = await at.break_off("idempotent", holding(True, lambda attempt: attempt == 1), script)
    await at.resume("idempotent", agent)


async def gates(at: Recorder) -> None:
    """Every kind of gate, lifted and left; given up; told, paused, cancelled."""
    quiet, down = Agent("quiet", "Be quiet."), Agent("down", "Be down.")
    careful = Agent("careful", "Take care.", suspend=[at_the_start])
    works = lines(ask_for(("fetch", {})), say("done"))
    fetcher = Agent("fetcher", tools=[fetch])

    async def unreachable(_: ModelRequest) -> Reply:
        raise ModelUnavailable("There is no route.", hint="Plug it in.")

    starts: dict[str, tuple[Agent, Script, dict[str, Any]]] = {
        "condition": (careful, lines(say("done")), {}),
        "budget": (fetcher, works, {"budget": Budget(steps=1)}),
        "reply": (quiet, lines(say("cut", stop="length"), say("done")), {}),
        "model": (down, unreachable, {}),
    }
    for kind, (agent, script, options) in starts.items():
        for left in ("open", "lifted", "given-up"):
            await at.run(f"{kind}-{left}", agent, script, **options)
            with at.loops() as loops:
                for request in loops.pending(f"{kind}-{left}") if left != "open" else ():
                    decide = loops.approve if left == "lifted" else loops.reject
                    decide(request, by=ADA)
        at.model.script = lines(say("done")) if kind == "model" else script
        await at.resume(f"{kind}-lifted", agent)
    await at.run("told", quiet, lambda asked: say(f"heard {len(asked.messages)}"))
    with at.loops() as loops:
        loops.tell("told", "One more thing.", by=ADA)
    await at.resume("told", quiet)
    lead = company(Ledger(at.folder / "ledger"))
    for loop in ("paused", "cancelled", "child-cancelled"):
        await at.run(loop, lead, company_script)
    with at.loops() as loops:
        loops.cancel("child-cancelled.it-1", "it does not come to that", by=ADA)
        loops.pause("paused", "lunch", by=ADA)
        loops.cancel("cancelled", "no longer needed", by=GRACE)
    await at.resume("child-cancelled", lead)


async def changes(at: Recorder) -> None:
    """An agent whose code changed: adopted, asked about, accepted, refused, a tool gone, renamed."""
    old = Agent("buyer", "Buy.", tools=[order])
    advised, extended = Agent("buyer", "Buy well.", tools=[order]), Agent("buyer", "Buy.", tools=[order, fetch])
    script = lines(ask_for(TEA), say("done"))
    asked = ("change-asked", "change-accepted", "change-refused")
    for loop in ("changed", *asked, "change-adopted", "tool-gone", "renamed"):
        await at.run(loop, old, script)
        with at.loops() as loops:
            loops.approve(f"{loop}.order-1", by=ADA)
    await at.resume("changed", advised)
    for loop in asked:
        await at.resume(loop, extended)
    with at.loops() as loops:
        loops.approve("change-accepted.gate-1", note="reviewed", by=ADA)
        loops.reject("change-refused.gate-1", "not reviewed", by=GRACE)
    await at.resume("change-accepted", extended)
    await at.resume("change-adopted", extended, adopt=True)
    await at.resume("tool-gone", Agent("buyer", "Buy.", tools=[fetch]), adopt=True)
    renamed = Agent("shopper", "Buy.", tools=[order])
    await at.resume("renamed", renamed, changes=Changes(renamed={"buyer": "shopper"}))


async def compactions(at: Recorder) -> None:
    """Messages that became too many: summarized, dropped, by hand; a function that took too much; too long at once."""

    @tool
    def leaf(number: int) -> str:
        """Read a leaf of a book."""
        return f"leaf {number}: " + "word " * 200

    def reader(by: Any, at: int = 600) -> Agent:
        return Agent("reader", "Read.", tools=[leaf], compaction=Compaction(at=at, by=by))

    def reads(asked: ModelRequest) -> Reply:
        last = asked.messages[-1]
        number = int(last.content.split(":")[0].split()[1]) if isinstance(last, Result) else 0
        if asked.instructions.startswith("You summarize"):
            return say("It has read some leaves.")
        usage = Usage(input=estimate_tokens(asked.messages), output=5)
        return replace(say("done") if number == 4 else ask_for(("leaf", {"number": number + 1})), usage=usage)

    def too_long(asked: ModelRequest) -> Reply:
        if estimate_tokens(asked.messages) > 550:
            raise TooLong("The messages are too long.", hint="Shorten them.")
        return replace(reads(asked), usage=Usage())

    await at.run("summarized", reader(summarize(keep=2)), reads)
    await at.run("results-dropped", reader(drop_tool_results(keep=1)), reads)
    await at.run("compaction-refused", reader(lambda messages: messages[1:]), reads)
    await at.run("too-long", reader(drop_tool_results(keep=0), at=10_000), too_long)
    await at.run("compacted-by-hand", Agent("reader", "Read.", tools=[leaf]), reads, budget=Budget(steps=4))
    with at.loops() as loops:
        loops.compact("compacted-by-hand", keep=1, by=GRACE)


async def policies(at: Recorder) -> None:
    """Several people where a policy asks for them; too few, and one who does not count; too late, both ways."""
    buyer, script = Agent("buyer", "Buy.", tools=[order]), lines(ask_for(TEA), say("done"))
    two = Policy(rules=(ApprovalRule(tools=("order",), needs=Needs(approvals=2)),))
    for loop in ("two-approve", "one-approves", "too-few"):
        await at.run(loop, buyer, script, policy=None if loop == "too-few" else two)
        with at.loops() as loops:
            for who in (ADA, BOB) if loop == "two-approve" else (ADA,):
                loops.approve(f"{loop}.order-1", by=who)
        await at.resume(loop, buyer, policy=two)
    outcomes: tuple[Literal["reject", "ask"], ...] = ("reject", "ask")
    for outcome in outcomes:
        hasty = Policy(rules=(ApprovalRule(tools=("order",), needs=Needs(expires=3600, on_expiry=outcome)),))
        await at.run(f"expired-{outcome}", buyer, script, policy=hasty)
        at.jump += dt.timedelta(hours=2)
        await at.resume(f"expired-{outcome}", buyer, policy=hasty)


async def forks(at: Recorder) -> None:
    """Forked with every kind of change; answered from the record, and where it has no answer; asked about."""
    buyer, script = Agent("buyer", "Buy.", tools=[order]), lines(ask_for(TEA), say("done"))
    await at.run("source", buyer, script)
    with at.loops() as loops:
        loops.approve("source.order-1", by=ADA)
    await at.resume("source", buyer)
    jam: dict[str, Json] = {"item": "jam"}
    varied: dict[str, tuple[str, Variation]] = {
        "all-changed": (
            "source",
            Variation(
                drop=1,
                model="other",
                settings={"seed": 1},
                instructions="Buy well.",
                reword={1: "Another story."},
                results={"order-1": "sold out"},
                tell="Try again.",
            ),
        ),
        "edited-in-a-fork": ("source~4", Variation(arguments={"order-1": jam})),
        "to-be-looked-up": ("source~5", Variation(tools="recorded")),
        "recorded": ("source~6", Variation(tools="recorded")),
        "missed": ("source~5", Variation(arguments={"order-1": jam}, tools="recorded")),
        "missed-fails": ("source~5", Variation(arguments={"order-1": jam}, tools="recorded", on_miss="fail")),
        "asks-below": ("waiting", Variation(tools="ask")),
    }
    with at.loops() as loops:
        for loop, (revision, variation) in varied.items():
            loops.fork(revision, loop, variation, by=GRACE)
        loops.fork("to-be-looked-up", "live-again", Variation(tools="live"), by=GRACE)
    for loop in ("all-changed", "recorded", "missed", "missed-fails"):
        await at.resume(loop, buyer)


async def files(at: Recorder) -> None:
    """A loop that works on files; a person changed one of them, and kept that."""

    @tool
    def note(text: str, context: ToolContext) -> str:
        """Write a note."""
        assert context.workspace is not None
        (context.workspace / "notes.txt").write_text(text)
        return "noted"

    clerk, folder = Agent("clerk", "Note.", tools=[note, order]), at.folder / "work"
    folder.mkdir()
    (folder / "read.me").write_text("Read me.")
    script = lines(ask_for(("note", {"text": "tea is out"})), ask_for(TEA), say("done"))
    await at.run("on-files", clerk, script, workspace=folder)
    (folder / "read.me").write_text("Read me twice.")
    with at.loops() as loops:
        loops.keep_files("on-files", by=GRACE)
        loops.fork("on-files", "files-of-before", Variation(drop=3), by=GRACE)


async def copies(at: Recorder) -> None:
    """A loop whose children worked on copies of its files: one came back with a conflict, one failed, one waits."""

    @tool
    def note(text: str, context: ToolContext) -> str:
        """Write a note."""
        assert context.workspace is not None
        (context.workspace / "notes.txt").write_text(text)
        return "noted"

    scribe = Agent("scribe", "Note.", tools=[note, order])
    lead, folder = Agent("lead", "Share.", tools=[note, scribe.as_tool("Notes.")]), at.folder / "shared"
    folder.mkdir()

    def script(asked: ModelRequest) -> Reply:
        said = sum(isinstance(message, Assistant) for message in asked.messages)
        if asked.agent == "lead":
            prompts = [("scribe", {"prompt": prompt}) for prompt in ("once", "waits", "fails")]
            return say("done") if said else ask_for(("note", {"text": "tea is in"}), *prompts)
        prompt = asked.messages[0]
        calls = [ask_for(("note", {"text": "tea is out"})), *([] if prompt == User(content="once") else [ask_for(TEA)])]
        return calls[said] if said < len(calls) else say("noted")

    await at.run("with-copies", lead, script, workspace=folder)
    with at.loops() as loops:
        loops.cancel("with-copies.scribe-3", "enough", by=GRACE)
    await at.resume("with-copies", lead)


async def shared(at: Recorder) -> None:
    """A loop whose children worked in its own folder: one returned, one failed, one waits."""

    @tool
    def note(name: str, context: ToolContext) -> str:
        """Write a note."""
        assert context.workspace is not None
        (context.workspace / name).write_text(f"{name} is noted")
        return "noted"

    scribe = Agent("scribe", "Note.", tools=[note, order])
    lead, folder = Agent("lead", "Share.", tools=[note, scribe.as_tool("Notes.", workspace="share")]), at.folder / "one"
    folder.mkdir()

    def script(asked: ModelRequest) -> Reply:
        said = sum(isinstance(message, Assistant) for message in asked.messages)
        if asked.agent == "lead":
            prompts = [("scribe", {"prompt": prompt}) for prompt in ("once", "waits", "fails")]
            return say("done") if said else ask_for(("note", {"name": "lead"}), *prompts)
        prompt = asked.messages[0]
        assert isinstance(prompt, User)
        name = str(prompt.content)
        calls = [ask_for(("note", {"name": name})), *([] if name == "once" else [ask_for(TEA)])]
        return calls[said] if said < len(calls) else say("noted")

    await at.run("with-one-folder", lead, script, workspace=folder)
    with at.loops() as loops:
        loops.cancel("with-one-folder.scribe-3", "enough", by=GRACE)
    await at.resume("with-one-folder", lead)


async def projects(at: Recorder) -> None:
    """A loop that began with the files of a project's commit, and asks before it changes one, with what it would be."""
    project = at.folder / "project"
    _git(at.folder, "init", "--quiet", "--initial-branch=main", str(project))
    (project / "read.me").write_text("Read me.\n")
    _git(project, "add", "--all")
    _git(project, "commit", "--quiet", "--message=The project")
    editor = Agent("editor", "Edit.", tools=[edit_file.with_approval(True)])
    edit = {"path": "read.me", "old": "Read", "new": "Do read"}
    await at.run("on-a-project", editor, lines(ask_for(("edit_file", edit)), say("done")), origin=f"{project}@main")


def _git(folder: Path, *words: str) -> None:
    who = {"NAME": ADA.name, "EMAIL": ADA.email, "DATE": NOON.isoformat()}
    variables = {f"GIT_{role}_{key}": value for role in ("AUTHOR", "COMMITTER") for key, value in who.items()}
    subprocess.run(["git", *words], cwd=folder, env=os.environ | variables, check=True)


async def choices(at: Recorder) -> None:
    """Variants that were tried and scored, of which one was adopted; and a loop that was pruned."""

    def length(outcome: Outcome, saved: Saved) -> float:
        return float(len(saved.state.messages))

    buyer, script = Agent("buyer", "Buy.", tools=[order]), lines(ask_for(TEA), say("done"))
    await at.run("chosen", buyer, script)
    variants = [Variant(name="yes", approve=("order-1",)), Variant(name="no", reject={"order-1": "not now"})]
    async with at.open(buyer) as runtime:
        await runtime.explore("chosen", variants, evaluator=length, by=GRACE)
    with at.loops() as loops:
        loops.adopt("chosen-yes", "chosen", why="It was bought.", over=["chosen-no"], by=GRACE)
    await at.run("pruned", Agent("watch", "Watch.", tools=[fetch]), lines(*[ask_for(("fetch", {}))] * 4, say("done")))
    with at.loops() as loops:
        loops.prune("pruned", keep=2, by=ADA)


async def repairs(at: Recorder) -> None:
    """A loop whose branch was damaged, and that went on from its last good commit, behind a gate."""
    await at.run("repaired", Agent("buyer", "Buy.", tools=[order]), lines(ask_for(TEA), say("done")))
    (at.path / "refs" / "heads" / "loops" / "repaired").write_text("")
    with at.loops() as loops:
        loops.repair("repaired", by=ADA)


async def imports(at: Recorder) -> None:
    """A loop from another system, decided on there."""
    buyer = Agent("buyer", "Buy.", tools=[order])
    await at.run("exported", buyer, lambda asked: say("done") if results(asked) else ask_for(TEA))
    definition: AgentSpec = buyer.spec(ModelSpec(name="scripted"))
    with at.loops() as loops:
        document: dict[str, Json] = loops.export("exported")
        for item in document.get("approval_info", ()):
            item["approved"] = True
        loops.import_("imported", document, agent=definition, by=ADA)
    await at.resume("imported", buyer)


STORIES = (
    decisions,
    waits,
    attempts,
    gates,
    changes,
    compactions,
    policies,
    forks,
    files,
    copies,
    shared,
    projects,
    choices,
    repairs,
    imports,
)


async def record(folder: Path) -> Path:
    """Record every story; the repository."""
    at = Recorder(folder)
    for story in STORIES:
        await story(at)
    return at.path


def bundle(repository: Path, file: Path) -> None:
    """Write the loops of a repository, whole, into one file."""
    command = ["git", "-C", str(repository), "bundle", "create", "--quiet", str(file.resolve()), "--branches"]
    subprocess.run(command, check=True)


def main() -> None:
    """Record into the file named on the command line, which must not be there yet."""
    file = Path(sys.argv[1])
    if file.exists():
        sys.exit(f"{file} is there already, and a recorded history is never edited.")
    with tempfile.TemporaryDirectory() as folder:
        bundle(trio.run(record, Path(folder)), file)


if __name__ == "__main__":
    main()
