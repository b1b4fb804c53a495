"""Forks with intent, driven for real: what was recorded is not done again, what was asked for is so, and two futures of
one commit are two."""

import subprocess
from collections import Counter
from pathlib import Path

import pytest
import trio

from caesura.continuations import (
    CallId,
    GitStore,
    Loops,
    NothingRecorded,
    Person,
    Reply,
    Request,
    Result,
    ToolUse,
    Variation,
)
from caesura.continuations.verify import verify
from caesura.runtime import Agent, ModelRequest, Runtime, ToolContext, ask, sleep_until, tool
from tests.agents import LOOP, Ledger, check_loop, company, company_script, decider, settle
from tests.models import ADA, GRACE, ScriptedModel, World, ask_for, lines, results, rounds, say
from tests.repositories import git


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository in which the company's loop has come to its end, with one approval and one rejection."""
    path = tmp_path_factory.mktemp("company") / "r.git"
    agent, model = company(Ledger(path.parent / "ledger")), ScriptedModel(company_script)

    async def finish() -> None:
        async with Runtime.open(path, agents=[agent], model=model) as runtime:
            await runtime.run("lead", "Onboard Ada", loop=LOOP)
        assert (await settle(path, LOOP, [agent], model, decider(), [])).status == "completed"

    trio.run(finish)
    return path


@pytest.fixture
def copy(finished: Path, tmp_path: Path) -> Path:
    """A mirror of it."""
    path = tmp_path / "r.git"
    subprocess.run(["git", "clone", "--quiet", "--mirror", str(finished), str(path)], check=True)
    return path


def first_of(path: Path) -> str:
    """The commit with which the company's loop began."""
    return git(path, "rev-list", "--first-parent", f"loops/{LOOP}").splitlines()[-1]


def nobody(loops: Loops, request: Request) -> None:
    """A person whom nobody should ask."""
    raise AssertionError(f"{request.id} asks: {request.text or request.tool}")


def faults(path: Path) -> list[str]:
    """What verification finds wrong."""
    store = GitStore.open(path)
    try:
        return [f"{fault.loop} {fault.what}" for fault in verify(store).faults]
    finally:
        store.close()


# Recorded ----------------------------------------------------------------------------------------------------------


def test_from_every_commit_a_recorded_fork_comes_to_the_same_end_and_does_nothing(copy: Path) -> None:
    ledger = Ledger(copy.parent / "ledger")
    agents, forks = [company(ledger)], list[str]()
    with Loops.open(copy) as loops:
        ends = {info.name: loops.show(info.name).state.ending for info in loops.all(nested=True)}
        for commit in git(copy, "rev-list", "--branches=loops/*", "--reverse").splitlines():
            try:
                fork = loops.fork(commit, f"fork-{len(forks)}", Variation(tools="recorded"), by=GRACE)
            except NothingRecorded:
                assert commit in git(copy, "for-each-ref", "--format=%(objectname)").splitlines()
                continue
            forks.append(fork.loop)
    assert len(forks) > 25

    async def go_on() -> None:
        for loop in forks:
            outcome = await settle(copy, loop, agents, ScriptedModel(company_script), nobody, [])
            source = git(copy, "log", "-1", "--format=%(trailers:key=Loop,valueonly)", f"loops/{loop}^{{/.}}")
            assert outcome.status == "completed"
            assert outcome.text in {end.text for end in ends.values() if end is not None}, source
            check_loop(copy, loop, [])

    trio.run(go_on)
    assert ledger.entries() == []
    assert faults(copy) == []
    git(copy, "fsck", "--strict")


def test_a_recorded_fork_needs_nothing_of_its_source_that_a_clone_and_a_prune_would_lose(copy: Path) -> None:
    ledger = Ledger(copy.parent / "ledger")
    with Loops.open(copy) as loops:
        fork = loops.fork(f"{LOOP}~4", "again", Variation(tools="recorded"), by=GRACE)
    alone = copy.parent / "alone.git"
    subprocess.run(
        ["git", "clone", "--quiet", "--bare", "--single-branch", "-b", f"loops/{fork.loop}", copy.as_uri(), str(alone)],
        check=True,
    )
    git(alone, "gc", "--quiet", "--prune=now")
    assert git(alone, "for-each-ref", "--format=%(refname)") == "refs/heads/loops/again"
    outcome = trio.run(settle, alone, "again", [company(ledger)], ScriptedModel(company_script), nobody, [])
    assert outcome.status == "completed"
    assert ledger.entries() == []
    assert faults(alone) == []


def test_the_same_run_with_another_model_does_nothing_again_and_says_so(copy: Path) -> None:
    ledger, model = Ledger(copy.parent / "ledger"), ScriptedModel(company_script)
    with Loops.open(copy) as loops:
        first = first_of(copy)
        loops.fork(first, "other", Variation(model="gpt-9", settings={"seed": 7}, tools="recorded"), by=GRACE)
    outcome = trio.run(settle, copy, "other", [company(ledger)], model, nobody, [])
    assert outcome.status == "completed"
    assert ledger.entries() == []
    log = git(copy, "log", "--format=%s%n%(trailers:key=Record)", "--grep=^Event: Recalled", "--branches=loops/other*")
    assert log.count("from the record: ") == log.count("Record: ") == 5
    assert "it: order rejected, from the record: Rejected by Ada Lovelace: too dear" in log
    models = "--format=%(trailers:key=Agent,valueonly,separator=%x2C) %(trailers:key=Model,valueonly,separator=%x2C)"
    replied = git(copy, "log", models, "--grep=^Event: ModelReplied", "--branches=loops/other*", f"^{first}")
    asked = Counter(replied.splitlines())
    assert asked["lead gpt-9"] == 2
    assert asked["it gpt-9"] == 0, "the agents that it calls keep their models"
    # Its own commits, and those of its record: nobody's word was asked for.
    assert git(copy, "log", "--first-parent", "--grep=^Event: Decided", "--format=%h", "loops/other") == ""


def dear(asked: ModelRequest) -> Reply:
    """The company's script, but it orders what it never ordered before."""
    done = results(asked)
    if asked.agent == "it" and not done:
        return ask_for(("accounts", {"prompt": "ada"}), ("order", {"price": 777}))
    return company_script(asked)


def test_a_call_that_the_record_does_not_hold_waits_for_a_person_and_runs_once_approved(copy: Path) -> None:
    ledger, asked = Ledger(copy.parent / "ledger"), list[Request]()
    with Loops.open(copy) as loops:
        first = first_of(copy)
        loops.fork(first, "dear", Variation(tools="recorded"), by=GRACE)

    def approve(loops: Loops, request: Request) -> None:
        assert ledger.entries() == []
        asked.append(request)
        loops.approve(request, by=ADA)

    outcome = trio.run(settle, copy, "dear", [company(ledger)], ScriptedModel(dear), approve, [])
    assert outcome.status == "completed"
    assert [(one.tool, one.remark) for one in asked] == [("order", "the record has no answer to this call")]
    assert [(entry["tool"], entry["what"]) for entry in ledger.entries()] == [("order", "777")]
    assert faults(copy) == []


def test_a_call_that_the_record_does_not_hold_can_fail_instead_and_the_model_is_told(copy: Path) -> None:
    ledger = Ledger(copy.parent / "ledger")
    with Loops.open(copy) as loops:
        first = first_of(copy)
        loops.fork(first, "dear", Variation(tools="recorded", on_miss="fail"), by=GRACE)
    model = ScriptedModel(dear)
    outcome = trio.run(settle, copy, "dear", [company(ledger)], model, nobody, [])
    assert outcome.status == "completed"
    assert ledger.entries() == []
    read = [said for request in model.requests if request.agent == "it" for said in results(request)]
    assert "Error: the record has no answer to this call. The call did not run." in read
    assert faults(copy) == []


# In order ----------------------------------------------------------------------------------------------------------


class Counting:
    """An agent that counts, a tree of two of them side by side, and what was really counted."""

    def __init__(self) -> None:
        self.count = 0

        @tool
        async def tick(context: ToolContext) -> str:
            self.count += 1
            return f"tick {self.count}"

        self.counter = Agent("counter", tools=[tick])
        self.lead = Agent("lead", tools=[self.counter.as_tool("Counts.", name="one"), tick])


async def test_answers_are_given_in_their_order_and_each_once(tmp_path: Path) -> None:
    counting = Counting()
    ticks = lines(ask_for(("tick", {})), ask_for(("tick", {})), say("done"))
    world = World(tmp_path / "r.git", counting.counter, ticks)
    await world.run()
    with world.loops() as loops:
        loops.fork(world.history()[0].id, "again", Variation(tools="recorded"), by=ADA)
    assert (await world.resume("again")).status == "completed"
    assert [said.content for said in world.state("again").messages if isinstance(said, Result)] == ["tick 1", "tick 2"]
    assert counting.count == 2
    half = next(commit.id for commit in world.history() if "tick returned: tick 1" in commit.message)
    with world.loops() as loops:
        loops.fork(half, "half", Variation(tools="recorded"), by=ADA)
    assert (await world.resume("half")).status == "completed"
    assert [said.content for said in world.state("half").messages if isinstance(said, Result)] == ["tick 1", "tick 2"]
    world.model.script = lines(ask_for(("tick", {})), ask_for(("tick", {})), ask_for(("tick", {})), say("done"))
    with world.loops() as loops:
        loops.fork(world.history()[0].id, "more", Variation(tools="recorded"), by=ADA)
    outcome = await world.resume("more")
    assert [request.id for request in outcome.pending] == ["more.tick-3"]
    assert counting.count == 2


async def test_loops_side_by_side_are_not_given_the_same_answer(tmp_path: Path) -> None:
    counting = Counting()

    def script(asked: ModelRequest) -> Reply:
        if rounds(asked):
            return say("; ".join(results(asked)))
        return (
            ask_for(("one", {"prompt": "a"}), ("one", {"prompt": "b"}))
            if asked.agent == "lead"
            else ask_for(("tick", {}))
        )

    world = World(tmp_path / "r.git", counting.lead, script)
    await world.run()
    with world.loops() as loops:
        for number in range(5):
            loops.fork(world.history()[0].id, f"again-{number}", Variation(tools="recorded"), by=ADA)
    for number in range(5):
        outcome = await world.resume(f"again-{number}")
        assert sorted(outcome.text.split("; ")) == ["tick 1", "tick 2"]
    assert counting.count == 2
    assert faults(tmp_path / "r.git") == []


async def test_what_people_answered_and_when_a_sleep_ended_is_in_the_record_too(tmp_path: Path) -> None:
    script = lines(
        ask_for(("ask", {"question": "how many?"})),
        ask_for(("sleep_until", {"until": "2020-01-01T00:00:00Z"})),
        say("done"),
    )
    world = World(tmp_path / "r.git", Agent("a", tools=[ask(), sleep_until]), script)
    outcome = await world.run()
    with world.loops() as loops:
        loops.answer(outcome.pending[0], "three", by=ADA)
    assert (await world.resume()).status == "completed"
    with world.loops() as loops:
        loops.fork(world.history()[0].id, "again", Variation(tools="recorded"), by=GRACE)
        loops.fork(world.history()[0].id, "asked", Variation(tools="ask"), by=GRACE)
    assert (await world.resume("again")).status == "completed"
    assert results(world.model.requests[-1])[0] == "three"
    outcome = await world.resume("asked")
    assert [request.kind for request in outcome.pending] == ["question"]


# Asked about -------------------------------------------------------------------------------------------------------


def test_a_fork_that_asks_runs_nothing_before_a_person_has_approved_it_there(copy: Path) -> None:
    ledger, asked = Ledger(copy.parent / "ledger"), list[Request]()
    with Loops.open(copy) as loops:
        loops.fork(first_of(copy), "careful", Variation(tools="ask"), by=GRACE)

    def decide(loops: Loops, request: Request) -> None:
        if request not in asked:
            assert len(ledger.entries()) <= len(asked)
            asked.append(request)
            decider()(loops, request)

    outcome = trio.run(settle, copy, "careful", [company(ledger)], ScriptedModel(company_script), decide, [])
    assert outcome.status == "completed"
    assert Counter(one.tool for one in asked) == {
        "send_mail": 1,
        "create_account": 1,
        "authorize_account": 1,
        "order": 2,
    }
    assert Counter(entry["tool"] for entry in ledger.entries()) == {
        "send_mail": 1,
        "create_account": 1,
        "authorize_account": 1,
        "order": 1,
    }
    assert faults(copy) == []


@pytest.mark.parametrize("tools", ["recorded", "ask"])
async def test_an_approval_given_before_a_fork_lets_nothing_run_in_it(tmp_path: Path, tools: ToolUse) -> None:
    ledger = Ledger(tmp_path / "ledger")

    @tool(needs_approval=True)
    async def order(what: str, context: ToolContext) -> str:
        ledger.write(context, "order", what)
        return what

    script = lines(ask_for(("order", {"what": "tea"})), ask_for(("order", {"what": "milk"})), say("done"))
    world = World(tmp_path / "r.git", Agent("a", tools=[order]), script)
    outcome = await world.run()
    with world.loops() as loops:
        approved = loops.approve(outcome.pending[0], always="tool", by=ADA)
    await world.resume()
    world.model.script = lines(ask_for(("order", {"what": "tea"})), ask_for(("order", {"what": "gold"})), say("done"))
    with world.loops() as loops:
        loops.fork(approved.commit, "fork", Variation(tools=tools), by=GRACE)
    outcome = await world.resume("fork")
    waits = "order-2" if tools == "recorded" else "order-1"
    assert [request.id for request in outcome.pending] == [f"fork.{waits}"]
    assert [entry["loop"] for entry in ledger.entries()] == ["x", "x"]
    with world.loops() as loops:
        loops.approve(outcome.pending[0], by=ADA)
    await world.resume("fork")
    assert [entry["loop"] for entry in ledger.entries()] == ["x", "x", "fork"]


# Two futures -------------------------------------------------------------------------------------------------------


async def test_approving_and_rejecting_from_one_commit_are_two_futures_and_nothing_leaks(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger")
    world = World(tmp_path / "r.git", company(ledger), company_script)
    outcome = await world.run()
    before = git(tmp_path / "r.git", "rev-parse", "loops/x")
    done = len(ledger.entries())
    with world.loops() as loops:
        for name, decide in (("yes", loops.approve), ("no", loops.reject)):
            fork = loops.fork("x", name)
            assert fork.commit == before
            for request in loops.pending(name):
                decide(request, by=ADA)
        assert [request.id for request in loops.pending("x")] == [request.id for request in outcome.pending]
    async with world.open() as runtime, trio.open_nursery() as nursery:
        nursery.start_soon(runtime.resume, "yes")
        nursery.start_soon(runtime.resume, "no")
    assert world.state("yes").status == world.state("no").status == "completed"
    ran = Counter((entry["loop"].partition(".")[0], entry["tool"], entry["what"]) for entry in ledger.entries()[done:])
    assert ran == {
        ("yes", "authorize_account", "ada"): 1,
        ("yes", "order", "2400"): 1,
        ("no", "order", "890"): 1,
    }
    said = [str(said) for said in (*world.state("yes").messages, *world.state("no").messages)]
    assert sum("ordered for 2400" in one for one in said) == 2  # the child's result, and what was made of it
    assert [request.id for request in world.loops().pending("x")] == [request.id for request in outcome.pending]
    assert git(tmp_path / "r.git", "rev-parse", "loops/x") == before
    assert faults(tmp_path / "r.git") == []


# Changes -----------------------------------------------------------------------------------------------------------


async def test_a_fork_with_other_instructions_keeps_them_whatever_the_agents_code_says(tmp_path: Path) -> None:
    world = World(tmp_path / "r.git", Agent("a", instructions="Be brief."), lines(say("hm"), say("well")))
    await world.run()
    with world.loops() as loops:
        loops.fork("x", "long", Variation(instructions="Be long.", tell="more"), by=GRACE)
    world.agent = Agent("a", instructions="Be anything.")
    assert (await world.resume("long")).status == "completed"
    assert world.model.requests[-1].instructions == "Be long."
    assert world.state("long").definition.instructions == "Be long."
    assert faults(tmp_path / "r.git") == []


async def test_a_fork_with_another_result_is_what_the_model_reads(tmp_path: Path) -> None:
    counting = Counting()
    world = World(
        tmp_path / "r.git",
        counting.counter,
        lambda asked: say("; ".join(results(asked))) if rounds(asked) else ask_for(("tick", {})),
    )
    await world.run()
    with world.loops() as loops:
        loops.fork("x", "what-if", Variation(drop=1, results={CallId("tick-1"): "no tick"}), by=GRACE)
    assert (await world.resume("what-if")).text == "no tick"
    assert (world.state("x").ending, counting.count) == (world.state().ending, 1)
    by = {commit.author for commit in world.history("what-if") if "Rewound" in commit.message}
    assert by == {Person(name=GRACE.name, email=GRACE.email)}


async def test_edited_arguments_are_a_new_request_and_run_as_they_were_edited(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger")

    @tool(needs_approval=True)
    async def order(price: int, context: ToolContext) -> str:
        ledger.write(context, "order", str(price))
        return f"ordered for {price}"

    world = World(tmp_path / "r.git", Agent("a", tools=[order]), lines(ask_for(("order", {"price": 5})), say("done")))
    outcome = await world.run()
    with world.loops() as loops:
        approved = loops.approve(outcome.pending[0], by=ADA)
        loops.fork(approved.commit, "dear", Variation(arguments={CallId("order-1"): {"price": 9}}), by=GRACE)
    outcome = await world.resume("dear")
    assert [request.arguments for request in outcome.pending] == ['{"price": 9}']
    assert ledger.entries() == []
    with world.loops() as loops:
        loops.approve(outcome.pending[0], by=ADA)
    assert (await world.resume("dear")).status == "completed"
    assert [entry["what"] for entry in ledger.entries()] == ["9"]
    assert results(world.model.requests[-1]) == ['[A person changed the arguments to {"price": 9}]\nordered for 9']
