"""What the processes of a race do; each function is one process's part, and is run by `tests.processes`."""

import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import trio

from caesura.continuations import (
    AgentSpec,
    GitStore,
    History,
    Loops,
    ModelSpec,
    Person,
    Reply,
    Started,
    User,
    Visibility,
    WorkerId,
    loop_name,
)
from caesura.runtime import Agent, Driven, ModelRequest, Runtime, ToolContext, ask, tool
from tests.agents import Ledger
from tests.models import ADA, NOON, ScriptedModel, ask_for, results, say


def desk(ledger: Ledger, gate: Path | None = None, others: int = 0) -> Agent:
    """An agent whose orders need approval, who asks for words, and whose tool ends once `others` have come to a gate.

    The gate is a named pipe: whoever comes to it writes a byte.
    """

    @tool(needs_approval=True)
    async def order(item: int, context: ToolContext) -> str:
        ledger.write(context, "order", str(item))
        return f"ordered {item}"

    @tool
    def hold(context: ToolContext) -> str:
        ledger.write(context, "hold", "")
        if gate is not None:
            with gate.open("rb", buffering=0) as come:
                left = others
                while left > 0:
                    left -= len(come.read(left) or b"")
        return "let go"

    return Agent("desk", tools=[order, hold, ask(str, name="word", description="Ask a word.")])


def desk_model(*asks: str) -> ScriptedModel:
    """A model that asks for these tools in one round, and is content with the results."""
    words: dict[str, Callable[[int], dict[str, Any]]] = {
        "order": lambda place: {"item": place},
        "word": lambda place: {"question": f"Which one is {place}?"},
        "hold": lambda place: {},
    }
    calls = [(name, words[name](place)) for place, name in enumerate(asks)]

    def script(asked: ModelRequest) -> Reply:
        return say(f"done: {len(results(asked))}") if results(asked) else ask_for(*calls)

    return ScriptedModel(script)


async def drive(
    path: Path,
    agent: Agent,
    model: ScriptedModel,
    loop: str,
    *,
    new: bool,
    wait: bool = False,
    visibility: Visibility = "step",
) -> str:
    """Drive the desk's loop; its status then."""
    with trio.fail_after(300):
        async with Runtime.open(path, agents=[agent], model=model, poll=0.01, visibility=visibility) as runtime:
            outcome = await (runtime.run(agent, "go", loop=loop, wait=wait) if new else runtime.resume(loop, wait=wait))
    return str(outcome.status)


def run(path: str, ledger: str, loop: str) -> str:
    """Start a loop of that name."""
    agent, model = desk(Ledger(Path(ledger))), desk_model("hold")
    return trio.run(lambda: drive(Path(path), agent, model, loop, new=True))


def resume(path: str, ledger: str, loop: str, gate: str, others: int) -> str:
    """Take the loop up; if another drives it, come to the gate at which that one's tool waits."""
    agent, model = desk(Ledger(Path(ledger)), Path(gate), others), desk_model("hold")
    try:
        return trio.run(lambda: drive(Path(path), agent, model, loop, new=False))
    except Driven:
        come(gate)
        raise


def come(gate: str) -> None:
    """Come to a gate."""
    with Path(gate).open("wb", buffering=0) as file:
        file.write(b".")


def wait_for_all(path: str, ledger: str, loop: str, asks: int, visibility: Visibility = "step") -> str:
    """Drive the loop until it has ended, while others decide."""
    agent, model = desk(Ledger(Path(ledger))), desk_model(*["order"] * asks)
    return trio.run(lambda: drive(Path(path), agent, model, loop, new=False, wait=True, visibility=visibility))


def settle(path: str, address: str, choice: str, name: str, visibility: Visibility = "step") -> str:
    """Decide on a request, or answer it, as a person of that name; what was done."""
    who = Person(name=name, email=f"{name.casefold()}@example.com")
    with Loops.open(path, visibility=visibility) as loops:
        if choice == "answer":
            loops.answer(address, name, by=who)
        elif choice == "approve":
            loops.approve(address, by=who)
        else:
            loops.reject(address, f"{name} says no", by=who)
    return choice


def settle_all(path: str, addresses: list[str], choice: str, name: str, visibility: Visibility = "step") -> int:
    """Decide on one after the other; how many."""
    for address in addresses:
        settle(path, address, choice, name, visibility)
    return len(addresses)


def tell(path: str, loop: str, name: str, times: int, visibility: Visibility = "step") -> int:
    """Tell a loop so many things."""
    with Loops.open(path, visibility=visibility) as loops:
        for number in range(times):
            loops.tell(loop, f"{name} {number}", by=ADA)
    return times


def fork(path: str, revision: str, times: int, visibility: Visibility = "step") -> list[str]:
    """Fork a loop as it is, so many times; the forks' names."""
    with Loops.open(path, visibility=visibility) as loops:
        return [loops.fork(revision).loop for _ in range(times)]


def keep_up(path: str, times: int) -> int:
    """Keep the repository up, so many times; how often nobody else was at it."""
    with closing(GitStore.open(path)) as store:
        return sum(store.upkeep().run(thorough=True) is not None for _ in range(times))


def hold(path: str, ledger: str, loop: str, gate: str) -> str:
    """Start a loop whose tool waits at a gate to which nobody comes."""
    agent = desk(Ledger(Path(ledger)), Path(gate), 1)
    return trio.run(lambda: drive(Path(path), agent, desk_model("hold"), loop, new=True))


def cancel(path: str, ledger: str, loop: str) -> str:
    """Cancel a loop once its tool runs; the commit that did."""
    _until_it_runs(ledger, loop)
    with Loops.open(path) as loops:
        return str(loops.cancel(loop, by=ADA).commit)


def tell_late(path: str, ledger: str, loop: str, name: str) -> int:
    """Tell a loop something once its tool runs."""
    _until_it_runs(ledger, loop)
    return tell(path, loop, name, 1)


def _until_it_runs(ledger: str, loop: str) -> None:
    deadline = time.monotonic() + 300
    while not Ledger(Path(ledger)).entries(loop):
        assert time.monotonic() < deadline, "its tool never ran"
        time.sleep(0.001)


def begin_desk(path: str, ledger: str, loop: str) -> str:
    """Make a loop of the desk's, in which nothing has happened yet."""
    spec = desk(Ledger(Path(ledger))).spec(ModelSpec(name="scripted"))
    return _begin(path, loop, spec)


def begin(path: str, loop: str) -> str:
    """Make the repository if there is none, and a loop in it."""
    return _begin(path, loop, AgentSpec(name="a", model=ModelSpec(name="m")))


def _begin(path: str, loop: str, spec: AgentSpec) -> str:
    event = Started(at=NOON, definition=spec, prompt=User(content="go"), nonce=loop, worker=WorkerId(loop))
    store = GitStore.open(path, create=True)
    return History(store).begin(loop_name(loop), event, ADA, ADA).commit
