"""Decisions are bound to what was shown: standing ones, edits, and agents whose code has changed since."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from caesura.continuations import AgentChanged, Changes, InvalidAnswer, Status
from caesura.runtime import Agent, ProposedCall, Tool, UnknownAgent, VanishedTool, ask, tool
from tests.models import ADA, World, ask_for, call_of, lines, results, say

ADOPT = Changes(contract="adopt")


class Shop:
    """A tool that needs approval, under a name, and what it ran with."""

    def __init__(self) -> None:
        self.ran: list[str] = []

    def order(self, **options: Any) -> Tool[..., Any]:
        def order(item: str) -> str:
            self.ran.append(item)
            return f"ordered {item}"

        kept: dict[str, Any] = {"needs_approval": True}
        return tool(**(kept | options))(order)


def orders(*items: str) -> Any:
    return lines(*[ask_for(("order", {"item": item})) for item in items], say("done"))


@pytest.mark.parametrize(
    ("scope", "choice", "ran", "asked"),
    [
        ("tool", "approve", ["tea", "tea", "jam"], []),
        ("tool", "reject", [], []),
        ("arguments", "approve", ["tea", "tea"], ["order-3"]),
        ("arguments", "reject", [], ["order-3"]),
        ("call", "approve", ["tea"], ["order-2"]),
    ],
)
async def test_a_standing_decision_covers_what_it_says_and_no_more(
    tmp_path: Path, scope: Any, choice: str, ran: list[str], asked: list[str]
) -> None:
    shop = Shop()
    world = World(tmp_path / "r.git", Agent("a", tools=[shop.order()]), orders("tea", "tea", "jam"))
    await world.run()
    if choice == "approve":
        world.loops().approve("x.order-1", always=scope, by=ADA)
    else:
        world.loops().reject("x.order-1", "no need", always=scope, by=ADA)
    outcome = await world.resume()
    assert shop.ran == ran
    assert [request.id for request in outcome.pending] == [f"x.{call}" for call in asked]
    if choice == "reject":
        assert results(world.model.requests[-1])[-1].startswith("Rejected by Ada Lovelace: no need.")
    await world.run(loop="y")
    assert world.state("y").open_calls  # it does not reach into other loops


@pytest.mark.parametrize("choice", ["approve", "reject"])
async def test_the_commit_of_a_reply_says_what_a_standing_decision_settled(tmp_path: Path, choice: str) -> None:
    world = World(tmp_path / "r.git", Agent("a", tools=[Shop().order()]), orders("tea", "jam"))
    await world.run()
    decide = world.loops().approve if choice == "approve" else world.loops().reject
    decide("x.order-1", always="tool", by=ADA)
    await world.resume()
    (said,) = [commit.message for commit in world.history() if "Call: order-2\nModel" in commit.message]
    if choice == "approve":
        assert said.startswith('a: calls order(item="jam")\n')
        assert "  approved by a standing decision of Ada Lovelace\n" in said
    else:
        assert said.startswith('a: not run: order(item="jam")\n')
        assert "  Rejected by Ada Lovelace. The call did not run.\n" in said


async def test_the_commit_of_a_reply_says_which_of_its_calls_could_not_be_made_and_why(tmp_path: Path) -> None:
    asked = ask_for(("order", {"item": 7}), ("order", {"item": "tea"}), ("steal", {}))
    world = World(tmp_path / "r.git", Agent("a", tools=[Shop().order(needs_approval=False)]), lines(asked, say("done")))
    await world.run()
    said = world.history()[1].message
    assert said.startswith('a: calls order(item="tea"); not run: order, steal\n')
    assert "order-1: order(item=7)\n  Error: The arguments do not fit." in said
    assert "steal-1: steal()\n  Error: there is no tool 'steal'." in said


async def test_an_edited_call_runs_with_the_persons_arguments_and_the_model_is_told(tmp_path: Path) -> None:
    shop = Shop()
    world = World(tmp_path / "r.git", Agent("a", tools=[shop.order()]), orders("caviar"))
    await world.run()
    loops = world.loops()
    for bad in ({"item": 3}, {}, {"item": "tea", "more": 1}, "tea"):
        with pytest.raises(InvalidAnswer):
            loops.approve("x.order-1", arguments=bad, by=ADA)
    loops.approve("x.order-1", arguments={"item": "tea"}, by=ADA)
    assert (await world.resume()).status is Status.COMPLETED
    assert shop.ran == ["tea"]
    (told,) = results(world.model.requests[-1])
    assert told == '[Ada Lovelace changed the arguments to {"item": "tea"}]\nordered tea'


async def test_a_question_that_was_read_from_the_arguments_cannot_be_edited_behind_its_back(tmp_path: Path) -> None:
    agent = Agent("a", tools=[ask(needs_approval=True)])
    world = World(tmp_path / "r.git", agent, lines(ask_for(("ask", {"question": "Rude?"})), say("done")))
    await world.run()
    with pytest.raises(InvalidAnswer, match="cannot be edited"):
        world.loops().approve("x.ask-1", arguments={"question": "Polite?"}, by=ADA)
    assert call_of(world.state(), "ask-1").state == "awaiting"
    world.loops().approve("x.ask-1", by=ADA)
    assert [request.text for request in (await world.resume()).pending] == ["Rude?"]


@pytest.mark.parametrize("options", [{"description": "Order for real"}, {"idempotent": True}])
async def test_a_decision_on_a_tool_that_has_changed_since_is_void_and_asked_again(
    tmp_path: Path, options: dict[str, Any]
) -> None:
    shop = Shop()
    world = World(tmp_path / "r.git", Agent("a", tools=[shop.order()]), orders("tea"), changes=ADOPT)
    await world.run()
    world.loops().approve("x.order-1", by=ADA)
    world.agent = Agent("a", tools=[shop.order(**options)])
    outcome = await world.resume()
    (pending,) = outcome.pending
    assert (pending.id, pending.kind, pending.remark) == (
        "x.order-1",
        "approval",
        "the tool changed since this was approved",
    )
    assert shop.ran == []
    world.loops().approve(pending, by=ADA)
    assert (await world.resume()).status is Status.COMPLETED
    assert shop.ran == ["tea"]


async def test_a_standing_decision_on_a_tool_that_has_changed_since_is_void(tmp_path: Path) -> None:
    shop = Shop()
    world = World(tmp_path / "r.git", Agent("a", tools=[shop.order(), ask()]), lambda _: say("done"))
    plan = lines(
        ask_for(("order", {"item": "tea"})),
        ask_for(("ask", {"question": "?"})),
        ask_for(("order", {"item": "tea"})),
        say("done"),
    )
    world.model.script = plan
    await world.run()
    world.loops().approve("x.order-1", always="tool", by=ADA)
    await world.resume()
    world.loops().answer("x.ask-1", "yes", by=ADA)
    world.agent = Agent("a", tools=[shop.order(description="Order more"), ask()])
    outcome = await world.resume()
    assert [request.id for request in outcome.pending] == ["x.order-2"]
    assert shop.ran == ["tea"]


async def test_a_call_that_needed_no_approval_is_asked_about_once_its_tool_needs_one(tmp_path: Path) -> None:
    shop = Shop()
    agent = Agent("a", tools=[shop.order(needs_approval=False)])
    world = World(tmp_path / "r.git", agent, orders("tea"), changes=ADOPT)
    async with world.open() as runtime:
        world.seen("calls order", runtime.stop)
        outcome = await runtime.run(world.agent, "go", loop="x")
    assert outcome.status is Status.ACTIVE
    assert call_of(world.state(), "order-1").state == "approved"
    world.agent = Agent("a", tools=[shop.order()])
    assert [request.kind for request in (await world.resume()).pending] == ["approval"]
    assert shop.ran == []


async def test_changed_instructions_are_adopted_as_a_commit(tmp_path: Path) -> None:
    shop = Shop()
    world = World(tmp_path / "r.git", Agent("a", "Old.", tools=[shop.order()]), orders("tea"))
    await world.run()
    world.loops().approve("x.order-1", by=ADA)
    world.agent = Agent("a", "New.", tools=[shop.order()])
    assert (await world.resume()).status is Status.COMPLETED
    assert shop.ran == ["tea"]
    assert [asked.instructions for asked in world.model.requests] == ["Old.", "New."]
    changed = [commit for commit in world.history() if f"Event: {AgentChanged.__name__}" in commit.message]
    assert len(changed) == 1
    assert "instructions changed" in changed[0].message


@pytest.mark.parametrize("nested", [False, True])
async def test_an_open_call_of_a_vanished_tool_is_refused_and_the_loop_untouched(tmp_path: Path, nested: bool) -> None:
    def agents(tools: Sequence[Tool[..., Any]]) -> Agent:
        inner = Agent("inner", tools=tools)
        return Agent("outer", tools=[inner.as_tool("Inner.")]) if nested else inner

    shop = Shop()
    own, script = lines(ask_for(("inner", {"prompt": "go"})), say("all")), orders("tea")
    world = World(
        tmp_path / "r.git", agents([shop.order()]), lambda asked: (own if asked.agent == "outer" else script)(asked)
    )
    await world.run()
    world.loops().approve("x.inner-1.order-1" if nested else "x.order-1", by=ADA)
    before = {info.name: info.commit for info in world.loops().all(nested=True)}
    world.agent = agents([])
    with pytest.raises(VanishedTool, match="has no tool 'order' any more"):
        await world.resume()
    assert {info.name: info.commit for info in world.loops().all(nested=True)} == before
    world.agent = agents([shop.order()])
    assert (await world.resume()).status is Status.COMPLETED
    assert shop.ran == ["tea"]


@pytest.mark.parametrize("nested", [False, True])
async def test_a_loop_of_a_vanished_agent_is_refused_and_untouched(tmp_path: Path, nested: bool) -> None:
    shop = Shop()
    inner = Agent("inner", tools=[shop.order()])
    outer = Agent("outer", tools=[inner.as_tool("Inner.")])
    own, script = lines(ask_for(("inner", {"prompt": "go"})), say("all")), orders("tea")
    agent = outer if nested else inner
    world = World(tmp_path / "r.git", agent, lambda asked: (own if asked.agent == "outer" else script)(asked))
    await world.run()
    world.loops().approve("x.inner-1.order-1" if nested else "x.order-1", by=ADA)
    before = {info.name: info.commit for info in world.loops().all(nested=True)}
    world.agent = Agent("outer") if nested else Agent("another")
    with pytest.raises(VanishedTool if nested else UnknownAgent):
        await world.resume()
    assert {info.name: info.commit for info in world.loops().all(nested=True)} == before


async def test_an_approval_predicate_that_fails_asks_a_person_and_none_is_asked_twice(tmp_path: Path) -> None:
    asked: list[str] = []

    def dear(call: ProposedCall) -> bool:
        asked.append(call.call)
        return call.arguments["price"] > 5 if call.arguments["item"] == "jam" else False

    shop = Shop()
    world = World(tmp_path / "r.git", Agent("a", tools=[shop.order(needs_approval=dear)]), orders("tea", "jam"))
    outcome = await world.run()
    (pending,) = outcome.pending
    assert pending.remark == "the approval predicate of order failed: KeyError: 'price'"
    world.loops().approve(pending, by=ADA)
    assert (await world.resume()).status is Status.COMPLETED
    assert shop.ran == ["tea", "jam"]
    assert asked == ["order-1", "order-2"]
