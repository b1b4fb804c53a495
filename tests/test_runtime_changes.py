"""An agent whose code has changed is adopted, asked about or refused, and never slips into a loop unseen."""

import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio

from caesura.continuations import (
    AlreadyDecided,
    Budget,
    CallId,
    CallState,
    Changes,
    CommitId,
    LoopName,
    MemoryStore,
    ModelSpec,
    NotApplicable,
    Request,
    StaleDecision,
    Status,
    split_address,
)
from caesura.runtime import (
    Agent,
    ChangedAgent,
    Moment,
    Outcome,
    Tool,
    UnknownAgent,
    VanishedTool,
    ask,
    suspension,
    tool,
)
from tests.models import ADA, GRACE, World, ask_for, call_of, lines, results, say

Tools = Sequence[Tool[..., Any]]


class Shop:
    """Tools under a name, and what they ran with."""

    def __init__(self) -> None:
        self.ran: list[str] = []

    def order(self, **options: Any) -> Tool[..., Any]:
        def order(item: str) -> str:
            """Order an item.

            Args:
                item: What to order.
            """
            self.ran.append(item)
            return f"ordered {item}"

        kept: dict[str, Any] = {"needs_approval": True}
        return tool(**(kept | options))(order)

    def order_more(self) -> Tool[..., Any]:
        def order(item: str, count: int = 1) -> str:
            """Order an item."""
            self.ran.append(item)
            return f"ordered {item}"

        return tool(needs_approval=True)(order)

    def order_retold(self) -> Tool[..., Any]:
        def order(item: str) -> str:
            """Order one item at a time.

            Args:
                item: The name of what to order.
            """
            self.ran.append(item)
            return f"ordered {item}"

        return tool(needs_approval=True)(order)


@suspension
def never(moment: Moment) -> str | None:
    """Let it go on."""
    return None


ORDER = lines(ask_for(("order", {"item": "tea"})), say("done"))


class Story:
    """A loop that waits for a guarded call: decided on, and gone on with under other code."""

    def __init__(self, path: Path, **options: Any) -> None:
        self.shop = Shop()
        self.old = Agent("a", "Be brief.", tools=[self.shop.order()])
        self.world = World(path, self.old, ORDER, **options)

    async def begin(self, choice: str = "approve") -> None:
        await self.world.run()
        decide = self.world.loops().approve if choice == "approve" else self.world.loops().reject
        decide("x.order-1", by=ADA)

    async def resume(self, agent: Agent, **options: Any) -> Outcome:
        self.world.agent = agent
        return await self.world.resume(**options)

    def trailers(self, key: str) -> list[str]:
        """A trailer's values in the loop's own commits, oldest first."""
        log = ["git", "-C", str(self.world.store), "log", "--reverse", "--first-parent", "loops/x"]
        form = f"--format=%(trailers:key={key},valueonly,separator=%x2C)"
        done = subprocess.run([*log, form], capture_output=True, check=True, text=True)
        return [line for line in done.stdout.splitlines() if line]

    def events(self) -> list[str]:
        return self.trailers("Event")


@pytest.fixture
def story(tmp_path: Path) -> Story:
    return Story(tmp_path / "r.git")


def heads(world: World) -> dict[str, CommitId]:
    return {info.name: info.commit for info in world.loops().all(nested=True)}


class Resettled:
    """A model of another name."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.spec = ModelSpec(name="another", settings={"temperature": 0})

    async def reply(self, request: Any, listen: Any) -> Any:
        return await self._world.model.reply(request, listen)


GUIDANCE: dict[str, Callable[[Story], Agent]] = {
    "instructions changed": lambda story: Agent("a", "Be long.", tools=story.old.tools),
    "model changed": lambda story: Agent("a", "Be brief.", tools=story.old.tools, model=Resettled(story.world)),
    "budget changed": lambda story: Agent("a", "Be brief.", tools=story.old.tools, budget=Budget(steps=9)),
    "suspensions changed": lambda story: Agent("a", "Be brief.", tools=story.old.tools, suspend=[never]),
}
CONTRACT: dict[str, Callable[[Story], Agent]] = {
    "result changed": lambda story: Agent("a", "Be brief.", tools=story.old.tools, result=dict[str, str]),
    "tool ask added": lambda story: Agent("a", "Be brief.", tools=[*story.old.tools, ask()]),
    "tool order changed": lambda story: Agent("a", "Be brief.", tools=[story.shop.order_more()]),
    "needs approval: never": lambda story: Agent("a", "Be brief.", tools=[story.shop.order(needs_approval=False)]),
    "idempotent: yes": lambda story: Agent("a", "Be brief.", tools=[story.shop.order(idempotent=True)]),
}


@pytest.mark.parametrize("what", GUIDANCE)
async def test_changed_guidance_is_adopted_by_default_and_noted_in_a_commit(story: Story, what: str) -> None:
    await story.begin()
    agent = GUIDANCE[what](story)
    assert (await story.resume(agent)).status is Status.COMPLETED
    assert story.shop.ran == ["tea"]
    (noted,) = [commit for commit in story.world.history() if "Event: AgentChanged" in commit.message]
    assert what in noted.message
    before, after = story.trailers("Fingerprint")
    assert before != after == noted.state.fingerprint


@pytest.mark.parametrize("what", CONTRACT)
async def test_a_changed_contract_is_asked_about_by_default_before_anything_is_done_under_it(
    story: Story, what: str
) -> None:
    await story.begin("reject")
    outcome = await story.resume(CONTRACT[what](story))
    (pending,) = outcome.pending
    assert (outcome.status, pending.id, pending.gate) == (Status.SUSPENDED, "x.gate-1", "change")
    assert len(story.world.model.requests) == 1
    assert story.world.state().definition == story.world.history()[0].state.definition
    assert any(what in line for line in (pending.text, *shown(pending)))
    message = story.world.history()[-1].message
    assert all(line in message for line in shown(pending))
    assert (await story.world.resume()).pending == outcome.pending, "asked once"
    story.world.loops().approve(pending, by=ADA)
    story.world.model.script = lambda _: say('{"done": "yes"}')
    assert (await story.world.resume()).status is Status.COMPLETED
    assert story.events()[-5:] == ["Suspended", "Decided", "Resumed", "AgentChanged", "ModelReplied"]
    asked, accepted, adopted = story.trailers("Fingerprint")[-3:]
    assert asked == accepted == adopted == story.world.state().fingerprint


def shown(request: Request) -> tuple[str, ...]:
    assert request.change is not None
    return request.change.lines


async def test_words_that_describe_a_tool_are_guidance_though_an_approval_of_it_is_void(story: Story) -> None:
    await story.begin()
    agent = Agent("a", "Be brief.", tools=[story.shop.order_retold()])
    (pending,) = (await story.resume(agent)).pending
    assert (pending.id, pending.kind, pending.gate) == ("x.order-1", "approval", None)
    assert story.shop.ran == []
    (noted,) = [commit for commit in story.world.history() if "Event: AgentChanged" in commit.message]
    assert "  - Order an item." in noted.message
    assert "  + Order one item at a time." in noted.message


# Bound to what was shown -------------------------------------------------------------------------------------------


async def test_an_accepted_change_is_of_that_very_code_and_other_code_is_asked_about_again(story: Story) -> None:
    await story.begin("reject")
    first, second = CONTRACT["tool ask added"](story), CONTRACT["tool order changed"](story)
    await story.resume(first)
    story.world.loops().approve("x.gate-1", by=ADA)
    (pending,) = (await story.resume(second)).pending
    assert (pending.id, pending.gate) == ("x.gate-2", "change")
    assert len(story.world.model.requests) == 1
    assert "AgentChanged" not in story.events()
    story.world.loops().approve(pending, by=ADA)
    assert (await story.world.resume()).status is Status.COMPLETED
    assert story.world.state().definition == second.spec(story.world.model.spec)


async def test_code_that_changes_while_it_is_asked_about_is_asked_about_in_its_place(story: Story) -> None:
    await story.begin("reject")
    (old,) = (await story.resume(CONTRACT["tool ask added"](story))).pending
    (new,) = (await story.resume(CONTRACT["tool order changed"](story))).pending
    assert (old.id, new.id) == ("x.gate-1", "x.gate-2")
    with pytest.raises(NotApplicable, match="gate-1"):
        story.world.loops().approve(old, by=ADA)
    mixed = msgspec.structs.replace(old, id=new.id)
    with pytest.raises(StaleDecision, match="the agent's code changed again"):
        story.world.loops().approve(mixed, by=ADA)
    assert [request.id for request in story.world.loops().pending()] == ["x.gate-2"]


async def test_code_that_is_again_what_the_loop_knew_goes_on_without_anybody(story: Story) -> None:
    await story.begin()
    await story.resume(CONTRACT["tool order changed"](story))
    assert (await story.resume(story.old)).status is Status.COMPLETED
    assert story.shop.ran == ["tea"], "the approval that was given still counts"
    assert "its code is what the loop knew" in story.world.history()[-4].message


# Refused by a person -----------------------------------------------------------------------------------------------


async def test_a_rejected_change_leaves_the_loop_as_it_is_until_its_code_is_another(story: Story) -> None:
    await story.begin("reject")
    changed = CONTRACT["tool ask added"](story)
    await story.resume(changed)
    loops = story.world.loops()
    rejected = loops.reject("x.gate-1", "it needs a review", by=ADA)
    assert loops.reject("x.gate-1", "it needs a review", by=ADA).commit == rejected.commit
    assert "refused: the agent's code has changed: tool ask added" in rejected.message
    for options in ({}, {"adopt": True}):
        outcome = await story.resume(changed, **options)
        (pending,) = outcome.pending
        assert outcome.status is Status.SUSPENDED
        assert outcome.commit == rejected.commit, "nothing was done, and nobody is asked again"
        assert pending.remark == "refused by Ada Lovelace: it needs a review."
    with pytest.raises(AlreadyDecided, match="already rejected by Ada Lovelace"):
        loops.approve("x.gate-1", by=GRACE)
    (again,) = (await story.resume(CONTRACT["tool order changed"](story))).pending
    assert (again.id, again.remark) == ("x.gate-2", "")
    loops.reject(again, by=ADA)
    assert (await story.resume(story.old)).status is Status.COMPLETED


async def test_a_change_is_not_a_thing_to_edit_or_to_decide_always(story: Story) -> None:
    await story.begin("reject")
    await story.resume(CONTRACT["tool ask added"](story))
    with pytest.raises(Exception, match="no standing decisions"):
        story.world.loops().approve("x.gate-1", always="tool", by=ADA)


# Refused by the settings -------------------------------------------------------------------------------------------


def family(inner: Agent, instructions: str = "Lead.") -> Agent:
    return Agent("outer", instructions, tools=[inner.as_tool("Inner.")])


def in_family(asked: Any) -> Any:
    outer = lines(ask_for(("inner", {"prompt": "go"})), say("all"))
    return outer(asked) if asked.agent == "outer" else ORDER(asked)


@pytest.mark.parametrize("changed", ["inner", "outer"])
@pytest.mark.parametrize("changes", [Changes(guidance="refuse"), Changes(guidance="refuse", contract="adopt")])
async def test_a_change_that_the_settings_refuse_is_refused_before_anything_in_the_tree_is_touched(
    tmp_path: Path, changed: str, changes: Changes
) -> None:
    shop = Shop()
    inner = Agent("inner", "Be brief.", tools=[shop.order()])
    world = World(tmp_path / "r.git", family(inner), in_family, changes=changes)
    await world.run()
    world.loops().approve("x.inner-1.order-1", by=ADA)
    before = heads(world)
    other = Agent("inner", "Be long.", tools=[shop.order()])
    world.agent = family(other) if changed == "inner" else family(inner, "Lead well.")
    with pytest.raises(ChangedAgent, match=f"agent {changed} is not what .* knows: instructions changed") as raised:
        await world.resume()
    assert "'caesura resume x --adopt'" in raised.value.hint
    assert heads(world) == before
    assert shop.ran == []
    world.agent = family(inner)
    assert (await world.resume()).status is Status.COMPLETED


async def test_a_loop_with_nothing_to_do_is_left_as_it_is_whatever_its_code(story: Story) -> None:
    await story.world.run()
    before = heads(story.world)
    story.world.options["changes"] = Changes(guidance="refuse", contract="refuse")
    outcome = await story.resume(Agent("a", "Be long.", tools=[ask()]))
    assert [request.id for request in outcome.pending] == ["x.order-1"]
    assert heads(story.world) == before


async def test_each_loop_of_a_tree_is_judged_by_itself(tmp_path: Path) -> None:
    shop = Shop()
    inner = Agent("inner", tools=[shop.order()])
    world = World(tmp_path / "r.git", family(inner), in_family)
    await world.run()
    world.loops().reject("x.inner-1.order-1", by=ADA)
    world.agent = family(Agent("inner", tools=[shop.order(), ask()]))
    (pending,) = (await world.resume()).pending
    assert (pending.id, pending.path) == ("x.inner-1.gate-1", ("outer", "inner"))
    world.loops().approve(pending, by=ADA)
    assert (await world.resume()).status is Status.COMPLETED
    assert not any("AgentChanged" in commit.message for commit in world.history())
    assert sum("Event: AgentChanged" in commit.message for commit in world.history("x.inner-1")) == 1


async def test_a_person_who_says_adopt_is_the_author_of_the_change(story: Story) -> None:
    await story.begin()
    story.world.options["changes"] = Changes(guidance="refuse", contract="refuse")
    agent = Agent("a", "Be long.", tools=[*story.old.tools, ask()])
    assert (await story.resume(agent, adopt=True)).status is Status.COMPLETED
    (noted,) = [commit for commit in story.world.history() if "Event: AgentChanged" in commit.message]
    assert noted.author.name == "Grace Tester"
    assert story.shop.ran == ["tea"]


async def test_a_change_met_while_the_loop_is_driven_waits_for_a_person_and_goes_on_there(story: Story) -> None:
    await story.world.run()
    story.world.agent = Agent("a", "Be brief.", tools=[*story.old.tools, ask()])
    asked = story.world.seen("the agent's code has changed")
    outcomes = list[Outcome]()
    with trio.fail_after(300):
        async with story.world.open() as runtime, trio.open_nursery() as nursery:

            async def drive() -> None:
                outcomes.append(await runtime.resume("x", wait=True))

            nursery.start_soon(drive)
            while not runtime._supervisors:
                await trio.lowlevel.checkpoint()
            story.world.loops().approve("x.order-1", by=ADA)
            await asked.wait()
            assert story.shop.ran == []
            story.world.loops().approve("x.gate-1", by=ADA)
    assert [outcome.status for outcome in outcomes] == [Status.COMPLETED]
    assert story.shop.ran == ["tea"]
    assert story.events().index("AgentChanged") < story.events().index("ToolStarted")


class Interrupted(MemoryStore):
    """A store in which a person pauses the loop just before it asks about its agent."""

    pause: Callable[[], object] | None = None

    def move(self, loop: LoopName, old: CommitId | None, new: CommitId) -> None:
        pause = self.pause
        if pause is not None and "the agent's code has changed" in self.read(new).message:
            self.pause = None
            pause()
        super().move(loop, old, new)


async def test_a_change_that_another_gate_kept_from_being_asked_about_is_asked_about_once_that_is_lifted() -> None:
    store = Interrupted()
    shop = Shop()
    world = World(store, Agent("a", tools=[shop.order()]), ORDER)
    await world.run()
    world.loops().approve("x.order-1", by=ADA)
    world.agent = Agent("a", tools=[shop.order(), ask()])
    store.pause = lambda: world.loops().pause("x", "lunch", by=ADA)
    asked = world.seen("the agent's code has changed")
    with trio.fail_after(300):
        async with world.open() as runtime, trio.open_nursery() as nursery:
            nursery.start_soon(lambda: runtime.resume("x", wait=True))
            while store.pause is not None or not runtime._supervisors:
                await trio.lowlevel.checkpoint()
            await world.idle(runtime)
            assert [request.gate for request in world.loops().pending()] == ["pause"]
            world.loops().approve("x.gate-1", by=ADA)
            await asked.wait()
            nursery.cancel_scope.cancel()
    assert [request.id for request in world.loops().pending()] == ["x.gate-2"]
    assert shop.ran == []


# What was promised of a call ---------------------------------------------------------------------------------------


async def test_a_call_that_waits_for_approval_still_does_once_its_code_asks_for_none(story: Story) -> None:
    story.world.options["changes"] = Changes(contract="adopt")
    story.world.model.script = lines(ask_for(("order", {"item": "tea"}), ("order", {"item": "jam"})), say("done"))
    await story.world.run()
    story.world.loops().reject("x.order-2", by=ADA)
    agent = Agent("a", "Be brief.", tools=[story.shop.order(needs_approval=False)])
    for options in ({}, {"adopt": True}, {}):
        (pending,) = (await story.resume(agent, **options)).pending
        assert (pending.id, pending.kind) == ("x.order-1", "approval")
    assert story.world.state().definition == agent.spec(story.world.model.spec)
    assert story.shop.ran == []


async def test_a_call_that_was_under_way_is_not_run_again_because_its_tool_now_says_it_could_be(
    tmp_path: Path,
) -> None:
    began, ran = trio.Event(), list[int]()

    def work(**options: Any) -> Agent:
        @tool(**options)
        async def work() -> str:
            ran.append(1)
            began.set()
            await trio.sleep_forever()
            return "worked"

        return Agent("a", tools=[work])

    world = World(
        tmp_path / "r.git", work(), lines(ask_for(("work", {})), say("done")), changes=Changes(contract="adopt")
    )
    async with world.open() as runtime, trio.open_nursery() as nursery:
        nursery.start_soon(lambda: runtime.run(world.agent, "go", loop="x"))
        await began.wait()
        nursery.cancel_scope.cancel()
    world.agent = work(idempotent=True)
    (pending,) = (await world.resume()).pending
    assert (pending.id, pending.kind) == ("x.work-1", "outcome")
    assert call_of(world.state(), "work-1").state is CallState.UNKNOWN
    assert ran == [1]


# A tool that is gone -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["asked", "adopt"])
@pytest.mark.parametrize("state", ["approved", "unknown", "question"])
async def test_an_open_call_whose_tool_is_gone_ends_as_failed_once_a_person_agrees_and_the_model_reads_so(
    tmp_path: Path, state: str, how: str
) -> None:
    began, ran = trio.Event(), list[int]()

    @tool(needs_approval=state == "approved")
    async def work() -> str:
        ran.append(1)
        began.set()
        await trio.sleep_forever()
        return "worked"

    other = ask(name="other")
    requests = [("ask", {"question": "Well?"}) if state == "question" else ("work", {}), ("other", {"question": "?"})]
    world = World(tmp_path / "r.git", Agent("a", tools=[work, ask(), other]), lines(ask_for(*requests), say("done")))
    if state == "unknown":
        async with world.open() as runtime, trio.open_nursery() as nursery:
            nursery.start_soon(lambda: runtime.run(world.agent, "go", loop="x"))
            await began.wait()
            nursery.cancel_scope.cancel()
        await world.resume()
    else:
        await world.run()
    call = "ask-1" if state == "question" else "work-1"
    if state == "approved":
        world.loops().approve("x.work-1", by=ADA)
    world.loops().answer("x.other-1", "yes", by=ADA)
    world.agent = Agent("a", tools=[other])
    if how == "asked":
        world.loops().pause("x", by=ADA)  # and lifted, so that there is something to do
        world.options["changes"] = Changes(vanished="ask", contract="adopt")
        outcome = await world.resume()
        (gate,) = [request for request in outcome.pending if request.kind == "gate"]
        assert gate.change is not None
        assert gate.change.ends == (call,)
        assert f"{call} would end: its tool is gone" in gate.text
        assert call_of(world.state(), call).open, "until somebody agrees it is as it was"
        world.loops().approve(gate, by=ADA)
        outcome = await world.resume()
    else:
        outcome = await world.resume(adopt=True)
    assert outcome.status is Status.COMPLETED
    name = call.rpartition("-")[0]
    told = f"Error: the agent no longer has the tool {name!r}. "
    told += (
        "The call had started: whether it took effect is not known." if state == "unknown" else "The call did not run."
    )
    assert told in results(world.model.requests[-1])
    assert ran == ([1] if state == "unknown" else [])
    assert any(f"{call} ends: its tool is gone" in commit.message for commit in world.history())


async def test_an_agent_that_is_gone_takes_the_loop_that_it_had_begun_with_it(tmp_path: Path) -> None:
    shop = Shop()
    world = World(tmp_path / "r.git", family(Agent("inner", tools=[shop.order()])), in_family)
    await world.run()
    world.loops().approve("x.inner-1.order-1", by=ADA)
    before = heads(world)
    world.agent = Agent("outer", "Lead.")
    with pytest.raises(VanishedTool, match=r"x\.inner-1 is waiting") as raised:
        await world.resume()
    assert raised.value.hint == ("Bring the tool back, or let 1 call end as failed: 'caesura resume x --adopt'.")
    assert heads(world) == before
    world.options["changes"] = Changes(vanished="ask")
    (gate,) = [request for request in (await world.resume()).pending if request.kind == "gate"]
    assert gate.id == "x.gate-1"
    assert shop.ran == [], "nothing below goes on while the loop above is asked about"
    world.loops().approve(gate, by=ADA)
    assert (await world.resume()).status is Status.COMPLETED
    assert results(world.model.requests[-1]) == [
        "Error: the agent no longer has the tool 'inner'. The call had started: whether it took effect is not known."
    ]
    assert world.state("x.inner-1").status is Status.CANCELLED
    assert shop.ran == []
    with pytest.raises(AlreadyDecided):
        world.loops().request("x.inner-1.order-1")
    assert world.loops().pending("x") == []


def test_an_agent_does_not_change_with_the_lists_that_it_was_made_of() -> None:
    tools, suspend = [Shop().order()], [never]
    agent = Agent("a", tools=tools, suspend=suspend)
    before = agent.spec(ModelSpec(name="m"))
    tools.append(Shop().order(name="another"))
    suspend.clear()
    assert agent.spec(ModelSpec(name="m")) == before


# Renamed -----------------------------------------------------------------------------------------------------------


async def test_a_renamed_agent_is_asked_for_by_name_and_gone_on_with_once_the_settings_tell_it(story: Story) -> None:
    await story.begin()
    before = heads(story.world)
    renamed = Agent("b", "Be brief.", tools=story.old.tools)
    with pytest.raises(UnknownAgent, match="no agent 'a' here; there are: b") as raised:
        await story.resume(renamed)
    assert "--agents" in raised.value.hint
    assert '[changes] renamed = { a = "NEW" }' in raised.value.hint
    assert heads(story.world) == before
    story.world.options["changes"] = Changes(renamed={"a": "b"})
    assert (await story.world.resume()).status is Status.COMPLETED
    assert story.world.state().agent == "b"
    assert story.shop.ran == ["tea"]
    assert split_address("x.order-1")[1] == CallId("order-1")
