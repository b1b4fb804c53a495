"""Agents whose tools keep a ledger of what really ran, a person who decides, and a process that can be killed.

As a program, ``python -m tests.agents REPOSITORY LEDGER [KILL]`` drives the company's loop to its end, deciding what
waits, and dies by its own hand as KILL says: ``before:3`` and ``after:3`` the third move of a branch, ``locked:3``
while it holds git's own lock on a ref for the third time, ``inside:3`` after the third effect of a tool, before the
tool returns.
"""

import json
import os
import signal
import sys
from collections.abc import Callable, Iterable
from itertools import count
from pathlib import Path

import trio

from caesura.continuations import (
    CommitId,
    GitStore,
    LoopName,
    Loops,
    NoSuchLoop,
    Reply,
    Request,
)
from caesura.continuations.store import _disk
from caesura.runtime import Agent, ModelRequest, Outcome, Runtime, ToolContext, tool
from tests.models import ADA, ScriptedModel, ask_for, check_results, results, say

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
            with trio.fail_after(60):
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


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class MortalStore(GitStore):
    """A store whose process dies before or after the n-th move of a branch."""

    when, at, moves = "", 0, 0

    def move(self, loop: LoopName, old: CommitId | None, new: CommitId) -> None:
        self.moves += 1
        if self.moves == self.at and self.when == "before":
            _die()
        super().move(loop, old, new)
        if self.moves == self.at and self.when == "after":
            _die()


def die_with_the_lock(at: int) -> None:
    """Let this process die as it takes git's lock on a ref for the n-th time."""
    link, locks = _disk.link, count(1)

    def last(old: Path, new: Path) -> None:
        link(old, new)
        if next(locks) == at:
            _die()

    _disk.link = last


async def drive(path: Path, ledger_path: Path, when: str, at: int) -> int:
    """Drive the company's loop to its end, unless killed on the way; the number of moves it took."""
    effects = count(1)
    ledger = Ledger(ledger_path, lambda: _die() if next(effects) == at and when == "inside" else None)
    store = MortalStore.open(path, create=True)
    assert isinstance(store, MortalStore)
    store.when, store.at = when, at
    if when == "locked":
        die_with_the_lock(at)
    agent, model, loops = company(ledger), ScriptedModel(company_script), Loops(store)
    async with Runtime.open(store, agents=[agent], model=model) as runtime:
        print("ready", flush=True)  # noqa: T201 - for whoever is to kill this process
        try:
            outcome = await runtime.resume(LOOP)
        except NoSuchLoop:
            outcome = await runtime.run("lead", "Onboard Ada", loop=LOOP)
        while outcome.status == "suspended":
            for request in outcome.pending:
                decider()(loops, request)
            outcome = await runtime.resume(LOOP)
    assert outcome.status == "completed", outcome
    return store.moves


if __name__ == "__main__":
    place, written, *how = sys.argv[1:]
    kind, _, number = (how[0] if how else "never:0").partition(":")
    print(trio.run(drive, Path(place), Path(written), kind, int(number)))  # noqa: T201
