"""Decisions: whoever makes them, in whatever order and at whatever time, each is honoured once and for all."""

import subprocess
import sys
from itertools import product
from pathlib import Path

import pytest
import trio

from caesura.continuations import AlreadyDecided, Result
from caesura.runtime import Outcome
from tests.agents import Ledger, check_loop, company, company_script
from tests.models import ADA, GRACE, World, call_of, check_results

AUTHORIZE, ORDER = "x.it-1.accounts-1.authorize_account-1", "x.it-1.order-1"

DECIDE = """
import sys
from caesura.continuations import Loops
with Loops.open(sys.argv[1]) as loops:
    if sys.argv[3] == "approve":
        loops.approve(sys.argv[2], note=sys.argv[4], by="Ada Lovelace <ada@example.com>")
    else:
        loops.reject(sys.argv[2], sys.argv[4], by="Ada Lovelace <ada@example.com>")
"""

ORDERS = [
    ((first, one), (second, other))
    for (first, second), one, other in product(
        ((AUTHORIZE, ORDER), (ORDER, AUTHORIZE)), ("approve", "reject"), ("approve", "reject")
    )
]


def decide(world: World, address: str, choice: str) -> None:
    """Decide in another process."""
    command = [sys.executable, "-c", DECIDE, str(world.store), address, choice, f"{choice}d for a reason"]
    subprocess.run(command, check=True)


def check(world: World, ledger: Ledger, outcome: Outcome, choices: dict[str, str]) -> None:
    """What must be true at the end, whatever the order was."""
    assert outcome.status == "completed"
    assert outcome.pending == ()
    ran = [(entry["tool"], entry["what"]) for entry in ledger.entries()]
    assert ran.count(("authorize_account", "ada")) == (choices[AUTHORIZE] == "approve")
    assert ran.count(("order", "2400")) == (choices[ORDER] == "approve")
    assert ran.count(("order", "890")) == (choices[ORDER] == "reject")
    told = {"accounts": AUTHORIZE, "it": ORDER}
    for agent, address in told.items():
        read = [message for asked in world.model.requests if asked.agent == agent for message in asked.messages]
        reason = "Rejected by Ada Lovelace: rejectd for a reason. The call did not run."
        is_told = any(isinstance(message, Result) and message.content == reason for message in read)
        assert is_told == (choices[address] == "reject")
    subjects = [commit.message for name in ("x", "x.it-1", "x.it-1.accounts-1") for commit in world.history(name)]
    assert sum(message.count("\nEvent: Decided") for message in subjects) == 2
    assert sum("approval requested" in message.partition("\n")[0] for message in subjects) == 2
    assert isinstance(world.store, Path)
    if choices[ORDER] == "reject":
        check_loop(world.store, "x", ledger.entries())


@pytest.mark.parametrize("decisions", ORDERS)
async def test_decisions_made_before_a_resume_are_honoured(
    tmp_path: Path, decisions: tuple[tuple[str, str], tuple[str, str]]
) -> None:
    ledger = Ledger(tmp_path / "ledger")
    world = World(tmp_path / "r.git", company(ledger), company_script)
    outcome = await world.run()
    assert {request.id for request in outcome.pending} == {AUTHORIZE, ORDER}
    for address, choice in decisions:
        decide(world, address, choice)
    check(world, ledger, await world.resume(), dict(decisions))


@pytest.mark.parametrize("decisions", ORDERS)
async def test_decisions_made_between_resumes_are_honoured_and_what_was_decided_is_not_asked_again(
    tmp_path: Path, decisions: tuple[tuple[str, str], tuple[str, str]]
) -> None:
    ledger = Ledger(tmp_path / "ledger")
    world = World(tmp_path / "r.git", company(ledger), company_script)
    outcome = await world.run()
    for place, (address, choice) in enumerate(decisions):
        decide(world, address, choice)
        outcome = await world.resume()
        assert [request.id for request in outcome.pending] == [other for other, _ in decisions[place + 1 :]]
    check(world, ledger, outcome, dict(decisions))


@pytest.mark.parametrize("decisions", ORDERS)
async def test_decisions_made_while_a_worker_waits_are_honoured(
    tmp_path: Path, decisions: tuple[tuple[str, str], tuple[str, str]]
) -> None:
    ledger = Ledger(tmp_path / "ledger")
    world = World(tmp_path / "r.git", company(ledger), company_script)
    outcomes: list[Outcome] = []

    async def work() -> None:
        outcomes.append(await world.run(wait=True))

    async with trio.open_nursery() as nursery:
        ready = world.seen("it is suspended")
        nursery.start_soon(work)
        await ready.wait()
        for address, choice in decisions:
            await trio.to_thread.run_sync(decide, world, address, choice)
    check(world, ledger, outcomes[0], dict(decisions))


async def test_decisions_made_while_tools_and_models_are_at_work_are_honoured(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger")
    world = World(tmp_path / "r.git", company(ledger), company_script)
    outcomes: list[Outcome] = []

    async def work() -> None:
        outcomes.append(await world.run(wait=True))

    async with trio.open_nursery() as nursery:
        asked, also = world.seen("approval requested: order"), world.seen("approval requested: authorize")
        nursery.start_soon(work)
        await asked.wait()  # accounts has only just been started
        await trio.to_thread.run_sync(decide, world, ORDER, "reject")
        await also.wait()
        await trio.to_thread.run_sync(decide, world, AUTHORIZE, "approve")
    check(world, ledger, outcomes[0], {ORDER: "reject", AUTHORIZE: "approve"})


async def test_the_first_decision_stands_and_the_same_one_again_changes_nothing(tmp_path: Path) -> None:
    world = World(tmp_path / "r.git", company(Ledger(tmp_path / "ledger")), company_script)
    await world.run()
    loops = world.loops()
    first = loops.reject(ORDER, "too dear", by=ADA)
    assert loops.reject(ORDER, "too dear", by=ADA).commit == first.commit
    with pytest.raises(AlreadyDecided) as caught:
        loops.approve(ORDER, by=GRACE)
    assert caught.value.decision.choice == "reject"
    with pytest.raises(AlreadyDecided):
        loops.reject(ORDER, "too dear", by=GRACE)
    assert loops.show("x.it-1").commit == first.commit


async def test_a_decision_is_a_commit_by_its_person_bound_to_what_was_shown(tmp_path: Path) -> None:
    world = World(tmp_path / "r.git", company(Ledger(tmp_path / "ledger")), company_script)
    outcome = await world.run()
    shown = next(request for request in outcome.pending if request.id == ORDER)
    saved = world.loops().approve(shown, note="go ahead", by=GRACE)
    decision = call_of(saved.state, "order-1").decision
    assert (decision.by, decision.note, decision.seen) == (GRACE, "go ahead", shown.commit)
    assert (decision.arguments, decision.tool) == (shown.arguments_digest, shown.tool_digest)
    assert world.history("x.it-1")[-1].author == GRACE
    check_results(saved.state)
    assert "Event: Decided" in saved.message
