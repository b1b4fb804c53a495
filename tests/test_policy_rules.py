"""Policies: how many must approve, who counts, for how long, and what a worker makes of other histories."""

import datetime as dt
from pathlib import Path
from typing import Any

import pytest
import trio
from msgspec.structs import replace
from trio.testing import MockClock

from caesura.continuations import (
    ApprovalRule,
    BadPolicy,
    CallId,
    CallState,
    Expired,
    GitStore,
    History,
    Loops,
    Needs,
    NoPerson,
    NotApplicable,
    NotEntitled,
    Person,
    Policy,
    RequestExpired,
    Status,
    ToolStarted,
    loop_name,
)
from caesura.runtime import Agent
from tests.models import ADA, NOON, World, ask_for, call_of, lines, results, say, telling
from tests.strategies import EDITH
from tests.test_runtime_rules import Shop, orders

RUNNER = Person(name="Grace Tester", email="grace@example.com")
"""Who runs the workers of these tests, as git knows them."""


def rule(*tools: str, agent: str = "*", **needs: Any) -> Policy:
    return Policy(rules=(ApprovalRule(tools=tools or ("order",), agent=agent, needs=Needs(**needs)),))


TWO = rule(approvals=2)


def shop_world(path: Path, shop: Shop, policy: Policy | None, **options: Any) -> World:
    """A loop that wants to order tea; the tool itself asks for no approval unless told to."""
    kept: dict[str, Any] = {"needs_approval": False}
    return World(path / "r.git", Agent("a", tools=[shop.order(**(kept | options))]), orders("tea"), policy=policy)


def store_path(world: World) -> Path:
    assert isinstance(world.store, Path)
    return world.store


def subjects(world: World) -> list[str]:
    return [commit.message.partition("\n")[0] for commit in world.history()]


async def test_a_governed_tool_waits_for_two_people_whatever_it_says_of_itself(tmp_path: Path) -> None:
    shop = Shop()
    world = shop_world(tmp_path, shop, TWO)
    assert [request.kind for request in (await world.run()).pending] == ["approval"]
    world.loops().approve("x.order-1", by=ADA)
    (pending,) = (await world.resume()).pending
    assert (pending.missing, [one.by for one in pending.approvals]) == (1, [ADA])
    assert shop.ran == []
    world.loops().approve("x.order-1", by=EDITH)
    assert (await world.resume()).status is Status.COMPLETED
    assert shop.ran == ["tea"]
    assert 'a: approved (1 of 2): order(item="tea")' in subjects(world)


async def test_the_same_person_twice_is_one_approval_and_one_commit(tmp_path: Path) -> None:
    world = shop_world(tmp_path, Shop(), TWO)
    await world.run()
    first = world.loops().approve("x.order-1", by=ADA)
    assert world.loops().approve("x.order-1", by=ADA) == first
    assert (await world.resume()).pending[0].missing == 1


async def test_whoever_runs_the_worker_does_not_approve_its_requests_but_may_reject_them(tmp_path: Path) -> None:
    world = shop_world(tmp_path, Shop(), rule())
    await world.run()
    with pytest.raises(NotEntitled, match="nobody approves their own request"):
        world.loops().approve("x.order-1")
    world.loops().reject("x.order-1", "too dear")
    assert (await world.resume()).status is Status.COMPLETED
    assert results(world.model.requests[-1]) == ["Rejected by Grace Tester: too dear. The call did not run."]


async def test_a_repository_cannot_rename_whoever_runs_the_worker(tmp_path: Path) -> None:
    shop = Shop()
    world = shop_world(tmp_path, shop, None, needs_approval=True)
    await world.run()
    world.loops().approve("x.order-1")
    rename = ["git", "-C", str(store_path(world)), "config", "user.email", "linus@example.com"]
    await trio.run_process(rename)
    world.options["policy"] = rule()
    (pending,) = (await world.resume()).pending
    assert (pending.missing, shop.ran) == (1, [])


async def test_a_rule_holds_for_the_tools_and_the_agent_that_it_names(tmp_path: Path) -> None:
    for number, (policy, asks) in enumerate(
        [
            (rule("ord*"), True),
            (rule("pay", "order"), True),
            (rule("ordering"), False),
            (rule(agent="b"), False),
            (rule(agent="?"), True),
        ]
    ):
        world = shop_world(tmp_path / str(number), Shop(), policy)
        assert bool((await world.run()).pending) is asks


async def test_the_first_rule_that_names_a_tool_holds(tmp_path: Path) -> None:
    policy = Policy(rules=(*TWO.rules, *rule("*").rules))
    world = shop_world(tmp_path, Shop(), policy)
    assert (await world.run()).pending[0].missing == 2


@pytest.mark.parametrize(
    "wrong",
    [
        {"tools": ()},
        {"tools": ("",)},
        {"approvals": 0},
        {"approvals": 3, "by": ("ada@example.com", "ADA@example.com", "edith@example.com")},
        {"expires": 0},
    ],
)
def test_a_rule_that_nobody_could_follow_is_refused(wrong: dict[str, Any]) -> None:
    tools = wrong.pop("tools", ("order",))
    with pytest.raises(BadPolicy):
        ApprovalRule(tools=tools, needs=Needs(**wrong))


async def test_a_policy_needs_to_know_who_runs_the_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = shop_world(tmp_path, Shop(), TWO)
    await world.run()
    import pygit2

    paths = pygit2.settings.search_path
    level = pygit2.enums.ConfigLevel.GLOBAL
    home = paths[level]
    paths[level] = str(tmp_path)
    try:
        with pytest.raises(NoPerson):
            await world.resume()
    finally:
        paths[level] = home


# The worker's own policy -------------------------------------------------------------------------------------------


async def test_a_policy_tightened_between_approval_and_run_voids_the_approval_visibly(tmp_path: Path) -> None:
    shop = Shop()
    world = shop_world(tmp_path, shop, None, needs_approval=True)
    await world.run()
    world.loops().approve("x.order-1", by=ADA)
    world.options["policy"] = TWO
    (pending,) = (await world.resume()).pending
    assert (pending.missing, [one.by for one in pending.approvals]) == (1, [ADA])
    assert pending.remark == "1 of 2 people have approved it"
    assert shop.ran == []
    assert subjects(world)[-1] == 'a: approval void: order(item="tea")'
    world.loops().approve("x.order-1", by=EDITH)
    assert (await world.resume()).status is Status.COMPLETED
    assert shop.ran == ["tea"]


async def test_what_was_approved_by_whoever_runs_the_worker_is_asked_again(tmp_path: Path) -> None:
    shop = Shop()
    world = shop_world(tmp_path, shop, None, needs_approval=True)
    await world.run()
    world.loops().approve("x.order-1")
    world.options["policy"] = Policy()
    (pending,) = (await world.resume()).pending
    assert "does not count: they run the worker that asks" in pending.remark
    assert pending.approvals == ()
    assert shop.ran == []


async def test_a_call_that_needed_no_approval_is_asked_about_once_a_rule_names_its_tool(tmp_path: Path) -> None:
    shop = Shop()
    world = shop_world(tmp_path, shop, None)
    async with world.open() as runtime:
        world.seen("calls order", runtime.stop)
        await runtime.run(world.agent, "go", loop="x")
    assert call_of(world.state(), "order-1").state is CallState.APPROVED
    world.options["policy"] = TWO
    (pending,) = (await world.resume()).pending
    assert (pending.missing, shop.ran) == (2, [])


async def test_a_call_of_a_tool_that_always_asks_does_not_start_though_its_state_says_that_nobody_had_to(
    tmp_path: Path,
) -> None:
    shop = Shop()
    world = shop_world(tmp_path, shop, Policy(), needs_approval=True)
    await world.run()
    store = GitStore.open(store_path(world))
    saved = History(store).load(loop_name("x"))
    (call,) = saved.state.calls
    state = replace(saved.state, calls=(replace(call, state=CallState.APPROVED),))
    commit = store.write(state, parents=(saved.commit,), message="a: nothing\n", author=ADA, committer=ADA)
    store.move(saved.loop, saved.commit, commit.id)
    (pending,) = (await world.resume()).pending
    assert (pending.remark, shop.ran) == ("0 of 1 people have approved it", [])


async def test_a_standing_approval_does_not_replace_what_a_rule_asks_for(tmp_path: Path) -> None:
    shop = Shop()
    agent = Agent("a", tools=[shop.order()])
    world = World(tmp_path / "r.git", agent, orders("tea", "jam"))
    await world.run()
    world.loops().approve("x.order-1", always="tool", by=ADA)
    async with world.open() as runtime:
        world.seen("order returned", runtime.stop)
        await runtime.resume("x")
    world.options["policy"] = TWO
    (pending,) = (await world.resume()).pending
    assert (pending.id, pending.missing, shop.ran) == ("x.order-2", 2, ["tea"])
    with pytest.raises(NotApplicable, match="each call is decided by itself"):
        world.loops().approve(pending, always="tool", by=ADA)


async def test_a_standing_approval_still_counts_where_no_rule_names_the_tool(tmp_path: Path) -> None:
    shop = Shop()
    world = World(tmp_path / "r.git", Agent("a", tools=[shop.order()]), orders("tea", "jam"), policy=Policy())
    await world.run()
    world.loops().approve("x.order-1", always="tool", by=ADA)
    assert (await world.resume()).status is Status.COMPLETED
    assert shop.ran == ["tea", "jam"]


async def test_a_governed_agent_does_not_begin_before_it_is_approved_by_as_many(tmp_path: Path) -> None:
    inner = Agent("inner")
    agent = Agent("outer", tools=[inner.as_tool("Inner.")])
    own = lines(ask_for(("inner", {"prompt": "go"})), say("all"))
    script = lambda asked: own(asked) if asked.agent == "outer" else say("done")  # noqa: E731
    world = World(tmp_path / "r.git", agent, script)
    async with world.open() as runtime:
        world.seen("calls inner", runtime.stop)
        await runtime.run(world.agent, "go", loop="x")
    world.options["policy"] = rule("inner", approvals=2)
    (pending,) = (await world.resume()).pending
    assert (pending.id, pending.missing) == ("x.inner-1", 2)
    for who in (ADA, EDITH):
        world.loops().approve("x.inner-1", by=who)
    assert (await world.resume()).status is Status.COMPLETED


async def test_an_agent_that_began_without_its_approvals_is_held_until_somebody_who_counts_lets_it_go_on(
    tmp_path: Path,
) -> None:
    shop = Shop()
    inner = Agent("inner", tools=[shop.order()])
    agent = Agent("outer", tools=[inner.as_tool("Inner.")])
    own, nested = lines(ask_for(("inner", {"prompt": "go"})), say("all")), orders("tea")
    world = World(tmp_path / "r.git", agent, lambda asked: (own if asked.agent == "outer" else nested)(asked))
    await world.run()
    world.loops().approve("x.inner-1.order-1", by=ADA)
    world.options["policy"] = rule("inner", approvals=2)
    for lifted_by in (None, RUNNER):
        if lifted_by is not None:
            (gate,) = [one for one in world.loops().pending("x") if one.kind == "gate"]
            world.loops().approve(gate, by=lifted_by)
        gates = [one for one in (await world.resume()).pending if one.kind == "gate"]
        assert [one.gate for one in gates] == ["policy"]
        assert shop.ran == []
    assert "the gate that was lifted" in gates[0].text
    world.loops().approve(gates[0], by=EDITH)
    assert (await world.resume()).status is Status.COMPLETED
    assert shop.ran == ["tea"]


# What cannot be taken back -----------------------------------------------------------------------------------------


async def unknown_outcome(world: World) -> None:
    """A worker goes away while the approved call runs, and the next one finds it so."""
    world.loops().approve("x.order-1", by=ADA)
    history = History(GitStore.open(store_path(world)))
    saved = history.load(loop_name("x"))
    history.append(saved, ToolStarted(at=saved.state.at, call=CallId("order-1"), worker=saved.state.worker), ADA)
    assert [request.kind for request in (await world.resume()).pending] == ["outcome"]


@pytest.mark.parametrize("what", ["rejected", "given up", "answered"])
async def test_a_decision_that_cannot_be_taken_back_and_does_not_count_puts_a_gate(tmp_path: Path, what: str) -> None:
    world = shop_world(tmp_path, Shop(), None, needs_approval=True)
    await world.run()
    if what != "rejected":
        await unknown_outcome(world)
    if what == "answered":
        world.loops().answer("x.order-1", "it ran", by=EDITH)
    else:
        world.loops().reject("x.order-1", "no", by=EDITH)
    world.options["policy"] = rule(by=("ada@example.com",))
    (gate,) = (await world.resume()).pending
    assert (gate.kind, gate.gate) == ("gate", "policy")
    assert f"the decision by {EDITH} does not count: the policy names ada@example.com" in gate.text
    world.loops().approve(gate, by=ADA)
    assert (await world.resume()).status is Status.COMPLETED


async def test_a_gate_that_somebody_lifted_whose_word_does_not_count_stands_again(tmp_path: Path) -> None:
    from caesura.runtime import after_model_calls

    world = shop_world(tmp_path, Shop(), Policy())
    world.agent = Agent("a", tools=world.agent.tools, suspend=[after_model_calls(1)])
    (gate,) = (await world.run()).pending
    assert gate.gate == "condition"
    world.loops().approve(gate)
    (again,) = (await world.resume()).pending
    assert again.gate == "policy"
    assert "they run the worker that asks" in again.text
    world.loops().approve(again, by=ADA)
    assert (await world.resume()).status is Status.COMPLETED


async def test_a_lifted_gate_and_a_rejection_that_count_are_let_be(tmp_path: Path) -> None:
    world = shop_world(tmp_path, Shop(), rule())
    await world.run()
    world.loops().reject("x.order-1", "no", by=ADA)
    assert (await world.resume()).status is Status.COMPLETED


async def test_a_call_of_unknown_outcome_runs_again_only_if_as_many_say_so(tmp_path: Path) -> None:
    shop = Shop()
    world = shop_world(tmp_path, shop, None, needs_approval=True)
    await world.run()
    await unknown_outcome(world)
    world.loops().approve("x.order-1", by=ADA)
    world.options["policy"] = TWO
    (pending,) = (await world.resume()).pending
    assert (pending.missing, shop.ran) == (1, [])
    world.loops().approve("x.order-1", by=EDITH)
    assert (await world.resume()).status is Status.COMPLETED
    assert shop.ran == ["tea"]


# Time --------------------------------------------------------------------------------------------------------------


def then(world: World, times: list[dt.datetime]) -> Loops:
    """The loops as a person has them at that time."""
    return Loops(GitStore.open(store_path(world)), now=lambda: times[0])


@pytest.mark.parametrize(
    ("on_expiry", "status", "result"),
    [
        ("reject", Status.COMPLETED, "Rejected: nobody decided within 2 hours. The call did not run."),
        ("ask", Status.SUSPENDED, None),
    ],
)
async def test_a_worker_that_waits_wakes_when_a_request_expires(
    tmp_path: Path, autojump_clock: MockClock, on_expiry: str, status: Status, result: str | None
) -> None:
    world = shop_world(tmp_path, Shop(), rule(expires=7200, on_expiry=on_expiry))
    outcome = None
    async with world.open(now=telling(autojump_clock), poll=600) as runtime:
        if result is None:
            world.seen("asked anew", runtime.stop)
        outcome = await runtime.run(world.agent, "go", loop="x", wait=True)
    assert outcome.status is status
    (expired,) = [commit for commit in world.history() if f"Event: {Expired.__name__}" in commit.message]
    late = expired.state.at - (NOON + dt.timedelta(hours=2))
    assert dt.timedelta() <= late < dt.timedelta(hours=1)  # the mock clock also jumps while a thread works
    assert result is None or results(world.model.requests[-1]) == [result]


async def test_a_late_decision_is_refused_and_the_next_worker_says_that_the_request_expired(tmp_path: Path) -> None:
    times = [NOON]
    world = shop_world(tmp_path, Shop(), rule(expires=60), needs_approval=False)
    world.options["now"] = lambda: times[0]
    await world.run()
    times[0] = NOON + dt.timedelta(minutes=1)
    loops = then(world, times)
    for decide in (loops.approve, loops.reject):
        with pytest.raises(RequestExpired):
            decide("x.order-1", by=ADA)
    assert loops.info("x").ready
    assert (await world.resume()).status is Status.COMPLETED
    assert results(world.model.requests[-1]) == ["Rejected: nobody decided within 1 minute. The call did not run."]


async def test_an_approval_that_no_worker_used_in_time_expires_before_anything_starts(tmp_path: Path) -> None:
    shop, times = Shop(), [NOON]
    world = shop_world(tmp_path, shop, rule(expires=60, on_expiry="ask"))
    world.options["now"] = lambda: times[0]
    await world.run()
    then(world, times).approve("x.order-1", by=ADA)
    times[0] = NOON + dt.timedelta(minutes=1)
    (pending,) = (await world.resume()).pending
    assert pending.remark == "asked anew: it was not started within 1 minute of its approval"
    assert shop.ran == []


async def test_an_approval_older_than_the_workers_policy_allows_is_void_though_the_state_says_nothing_of_time(
    tmp_path: Path,
) -> None:
    shop, times = Shop(), [NOON]
    world = shop_world(tmp_path, shop, rule())
    world.options["now"] = lambda: times[0]
    await world.run()
    then(world, times).approve("x.order-1", by=ADA)
    times[0] = NOON + dt.timedelta(minutes=1)
    world.options["policy"] = rule(expires=60)
    (pending,) = (await world.resume()).pending
    assert pending.remark == "it was approved more than 1 minute ago"
    assert (pending.expires, shop.ran) == (times[0] + dt.timedelta(minutes=1), [])
