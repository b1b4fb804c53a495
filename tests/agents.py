"""Agents whose tools keep a ledger of what really ran, a person who decides, and the parts of processes that drive and
decide and can be killed.

As a program, ``python -m tests.agents REPOSITORY LEDGER [DEATH]`` drives the company's loop to its end, deciding what
waits, and dies as `tests.mortal` says.
"""

import json
import os
import sys
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

import trio

from caesura.continuations import (
    CommitId,
    GitStore,
    Loops,
    NoSuchLoop,
    Reply,
    Request,
    Visibility,
)
from caesura.runtime import Agent, ModelRequest, Outcome, Runtime, ToolContext, tool
from tests.models import ADA, ScriptedModel, ask_for, check_results, results, say
from tests.mortal import Fate

LIMIT = 1000
LOOP = "onboarding"


class Ledger:
    """What the tools did, one line for each effect; `effect` is called after each."""

    def __init__(self, path: Path, effect: Callable[[], None] = lambda: None) -> None:
        self._path = path
        self._effect = effect

    def write(self, context: ToolContext, tool: str, what: str) -> None:
        """Do the one thing that cannot be undone."""
        line = {"tool": tool, "what": what, "loop": context.loop, "call": context.call, "attempt": context.attempt}
        file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        try:
            os.write(file, json.dumps(line).encode() + b"\n")
        finally:
            os.close(file)
        self._effect()

    def entries(self, root: str | None = None) -> list[dict[str, str]]:
        """The lines, of one root loop or of all."""
        text = self._path.read_text() if self._path.exists() else ""
        found = [json.loads(line) for line in text.splitlines()]
        return [entry for entry in found if root is None or entry["loop"].partition(".")[0] == root]


def company(ledger: Ledger) -> Agent:
    """Three levels, parallel children and tools; two approvals, and a cheaper order for the one that is rejected."""

    @tool
    async def send_mail(to: str, context: ToolContext) -> str:
        ledger.write(context, "send_mail", to)
        return f"sent to {to}"

    @tool(idempotent=True)
    def create_account(user: str, context: ToolContext) -> str:
        ledger.write(context, "create_account", user)
        return f"created {user}"

    @tool(needs_approval=True)
    def authorize_account(user: str, context: ToolContext) -> str:
        ledger.write(context, "authorize_account", user)
        return f"authorized {user}"

    @tool(needs_approval=lambda call: call.arguments["price"] > LIMIT)
    async def order(price: int, context: ToolContext) -> str:
        ledger.write(context, "order", str(price))
        return f"ordered for {price}"

    accounts = Agent("accounts", tools=[create_account, authorize_account])
    it = Agent("it", tools=[accounts.as_tool("Accounts."), order])
    hr = Agent("hr", tools=[send_mail])
    return Agent("lead", tools=[hr.as_tool("People."), it.as_tool("Things.")])


def company_script(asked: ModelRequest) -> Reply:
    """What the company's agents say, from the results so far alone."""
    done = results(asked)
    if done:
        if asked.agent == "accounts" and len(done) == 1:
            return ask_for(("authorize_account", {"user": "ada"}))
        if asked.agent == "it" and len(done) == 2 and not any(result.startswith("ordered") for result in done):
            return ask_for(("order", {"price": 890}), text="Then the cheaper one.")
        return say(f"{asked.agent}: " + "; ".join(done))
    match asked.agent:
        case "lead":
            return ask_for(("hr", {"prompt": "welcome"}), ("it", {"prompt": "equip"}), text="Both at once.")
        case "hr":
            return ask_for(("send_mail", {"to": "ada"}))
        case "it":
            return ask_for(("accounts", {"prompt": "ada"}), ("order", {"price": 2400}))
        case _:
            return ask_for(("create_account", {"user": "ada"}))


Decide = Callable[[Loops, Request], None]
Unknown = str
"""What to say of a call whose outcome is unknown: ``again``, ``ran`` or ``give up``."""


def decider(unknown: Unknown = "ran") -> Decide:
    """A person who rejects what is dear, approves the rest, and knows what became of unknown calls."""

    def decide(loops: Loops, request: Request) -> None:
        match request.kind:
            case "approval" if "2400" in request.arguments or "forbidden" in request.arguments:
                loops.reject(request, "too dear", by=ADA)
            case "approval" | "gate":
                loops.approve(request, note="fine", by=ADA)
            case "question":
                loops.answer(request, "42", by=ADA)
            case "outcome" if unknown == "again":
                loops.approve(request, note="run it again", by=ADA)
            case "outcome" if unknown == "ran":
                loops.answer(request, "it had run", by=ADA)
            case "outcome":
                loops.reject(request, "let it be", by=ADA)
            case _:
                raise AssertionError(request)

    return decide


async def settle(
    path: Path, loop: str, agents: Iterable[Agent], model: ScriptedModel, decide: Decide, asked: list[Request]
) -> Outcome:
    """Resume a loop and decide what waits, until it has ended. Each round opens the repository afresh."""
    agents = list(agents)
    for _ in range(60):
        async with Runtime.open(path, agents=agents, model=model) as runtime:
            with trio.fail_after(300):
                outcome = await runtime.resume(loop)
        if outcome.status not in ("active", "suspended"):
            return outcome
        assert outcome.status == "suspended", outcome
        assert outcome.pending, outcome
        asked.extend(outcome.pending)
        with Loops.open(path) as loops:
            for request in outcome.pending:
                decide(loops, request)
    raise AssertionError("it never ends")


def check_loop(path: Path, loop: str, entries: list[dict[str, str]], *, runs: int = 1) -> None:
    """What must hold of any loop that ended, against the ledger of what really ran: nothing that was rejected, no
    call more often than allowed, and one result for each call in every commit."""
    store = GitStore.open(path)
    states = [store.read(commit).state for commit in _commits(store, loop)]
    for state in states:
        check_results(state)
    assert not any(entry["what"] in ("2400", "forbidden") for entry in entries)
    for entry in entries:
        if entry["tool"] != "create_account":
            times = sum(other["loop"] == entry["loop"] and other["call"] == entry["call"] for other in entries)
            assert times <= runs, entry
    store.close()


def _commits(store: GitStore, loop: str) -> list[CommitId]:
    """Every commit that a loop's head reaches, its nested loops' included."""
    found: dict[CommitId, None] = {}
    waiting = [store.resolve(loop)]
    while waiting:
        commit = waiting.pop()
        if commit not in found:
            found[commit] = None
            waiting.extend(store.read(commit).parents)
    return list(found)


async def drive(path: Path, ledger: Ledger, *, to_the_end: bool, visibility: Visibility = "step") -> str:
    """Drive the company's loop, or begin it: until it rests, or, deciding what waits, to its end."""
    agent, model = company(ledger), ScriptedModel(company_script)
    async with Runtime.open(path, agents=[agent], model=model, visibility=visibility) as runtime:
        try:
            outcome = await runtime.resume(LOOP)
        except NoSuchLoop:
            outcome = await runtime.run("lead", "Onboard Ada", loop=LOOP)
        while to_the_end and outcome.status == "suspended":
            decide_all(path, visibility)
            outcome = await runtime.resume(LOOP)
    return outcome.status


def decide_all(path: Path, visibility: Visibility = "step") -> list[str]:
    """Decide whatever waits; what that was."""
    with Loops.open(path, visibility=visibility) as loops:
        waiting = loops.pending(LOOP)
        for request in waiting:
            decider()(loops, request)
    return [request.id for request in waiting]


def whole(path: str, ledger: str, death: str = "") -> dict[str, float]:
    """A process: the company's whole story, unless it dies on the way. How long it took, in several measures."""
    fate, began = Fate(death), time.monotonic()
    story = partial(drive, Path(path), Ledger(Path(ledger), fate.effect), to_the_end=True, visibility=fate.visibility)
    assert trio.run(story) == "completed"
    return _measured(fate, began)


def worker(path: str, ledger: str, death: str = "") -> dict[str, float]:
    """A process: drives the company's loop until it rests."""
    fate, began = Fate(death), time.monotonic()
    story = partial(drive, Path(path), Ledger(Path(ledger), fate.effect), to_the_end=False, visibility=fate.visibility)
    trio.run(story)
    return _measured(fate, began)


def person(path: str, ledger: str, death: str = "") -> dict[str, float]:
    """A process: decides whatever waits."""
    fate, began = Fate(death), time.monotonic()
    decide_all(Path(path), fate.visibility)
    return _measured(fate, began)


def _measured(fate: Fate, began: float) -> dict[str, float]:
    seconds = time.monotonic() - began
    return {name: getattr(fate, name) for name in ("moves", "locks", "writes", "frames")} | {"seconds": seconds}


def command(death: str, *words: str) -> int:
    """A process: a command of Caesura's, what it says thrown away; its exit status."""
    from caesura.adapters.cli import main

    Fate(death)
    with Path(os.devnull).open("w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    return main(words)


def git(path: str, death: str, *words: str) -> None:
    """A process: git itself."""
    Fate(death)
    os.execlp("git", "git", "-C", path, *words)  # noqa: S606


if __name__ == "__main__":
    whole(*sys.argv[1:])
