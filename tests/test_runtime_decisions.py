"""Decisions: whoever makes them, in whatever order and at whatever time, each is honoured once and for all."""

import subprocess
import sys
from itertools import product
from pathlib import Path

import pytest
import trio

from caesura.continuations import (
    AlreadyAnswered,
    AlreadyDecided,
    CallId,
    GitStore,
    History,
    NoSuchRequest,
    Person,
    Result,
    Resumed,
    StaleDecision,
    ToolStarted,
    WorkerId,
    loop_name,
)
from caesura.runtime import Agent, Outcome, ask
from tests.agents import Ledger, check_loop, company, company_script
from tests.models import ADA, GRACE, NOON, World, ask_for, call_of, check_results, lines, say

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


async def test_who_is_late_is_told_who_was_first_however_long_ago_and_the_same_again_is_one(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger")
    world = World(tmp_path / "r.git", company(ledger), company_script)
    await world.run()
    world.loops().reject(ORDER, "too dear", by=ADA)
    world.loops().approve(AUTHORIZE, note="fine", by=GRACE)
    assert (await world.resume()).status == "completed"
    loops, heads = world.loops(), world.loops().all(nested=True)
    assert "order-1" not in [call.id for call in loops.show("x.it-1").state.calls]  # its round is long over
    for address, first, choice in ((ORDER, ADA, "rejected"), (AUTHORIZE, GRACE, "approved")):
        for late in (loops.approve, loops.reject):
            with pytest.raises(AlreadyDecided, match=f"{address} was already {choice} by {first.name} at ") as caught:
                late(address, by=Person(name="Late", email="late@example.com"))
            assert caught.value.decision.by == first
        with pytest.raises(AlreadyDecided):
            loops.request(address)
        with pytest.raises(AlreadyDecided):
            loops.answer(address, "it ran", by=first)
    loops.reject(ORDER, "too dear", by=ADA)
    loops.approve(AUTHORIZE, by=GRACE)
    assert loops.all(nested=True) == heads, "nothing was committed"
    with pytest.raises(NoSuchRequest):
        loops.approve("x.it-1.order-2", by=ADA)  # which nobody had to decide about


async def test_who_is_late_with_a_gate_or_a_question_is_told_who_was_first(tmp_path: Path) -> None:
    agent = Agent("a", tools=[ask(str, name="word", description="Ask a word.")])
    world = World(tmp_path / "r.git", agent, lines(ask_for(("word", {"question": "Which?"})), say("done")))
    await world.run()
    loops = world.loops()
    loops.pause("x", by=ADA)
    loops.approve("x.gate-1", by=ADA)
    loops.answer("x.word-1", "plum", by=GRACE)
    assert (await world.resume()).status == "completed"
    head = loops.show("x").commit
    loops.approve("x.gate-1", by=ADA)
    loops.answer("x.word-1", "plum", by=GRACE)
    assert loops.show("x").commit == head
    for decide, by in ((loops.reject, ADA), (loops.approve, GRACE)):
        with pytest.raises(AlreadyDecided, match=f"approved by {ADA.name}"):
            decide("x.gate-1", by=by)
    for value, who in (("pear", GRACE), ("plum", ADA)):
        with pytest.raises(AlreadyAnswered, match=f"answered by {GRACE.name}"):
            loops.answer("x.word-1", value, by=who)
    with pytest.raises(AlreadyAnswered, match=f"answered by {GRACE.name}"):
        loops.reject("x.word-1", by=ADA)


async def test_an_approval_is_of_the_run_that_was_shown_and_lets_no_call_run_again(tmp_path: Path) -> None:
    """Two people were shown a call; it ran on the approval of the first, and its worker died in it."""
    ledger = Ledger(tmp_path / "ledger")
    world = World(tmp_path / "r.git", company(ledger), company_script)
    shown = next(request for request in (await world.run()).pending if request.id == AUTHORIZE)
    world.loops().approve(shown, by=ADA)
    history, loop = History(GitStore.open(tmp_path / "r.git")), loop_name("x.it-1.accounts-1")
    for worker in ("w1", "w2"):
        history.apply(history.load(loop), Resumed(at=NOON, worker=WorkerId(worker)), ADA)
        if worker == "w1":
            call = CallId("authorize_account-1")
            history.apply(history.load(loop), ToolStarted(at=NOON, call=call, worker=WorkerId(worker)), ADA)
    assert call_of(history.load(loop).state, "authorize_account-1").state == "unknown"
    with pytest.raises(StaleDecision, match="started since"):
        world.loops().approve(shown, by=GRACE)
    outcome = world.loops().request(AUTHORIZE)
    world.loops().approve(outcome, by=GRACE)  # who was shown that, may
    with pytest.raises(AlreadyDecided):
        world.loops().answer(outcome, "it had run", by=ADA)
