"""Exploring: variants run at the same time, within limits; each is scored in its history, and none is run twice."""

from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio

from caesura.continuations import (
    BadVariant,
    Budget,
    GitStore,
    History,
    LoopExists,
    LoopName,
    Loops,
    NoSuchRequest,
    Reply,
    Resumed,
    Saved,
    Status,
    User,
    Variant,
    WorkerId,
    start_variant,
    utc_now,
)
from caesura.runtime import (
    Agent,
    BadExploration,
    ModelRequest,
    NotEvaluated,
    Outcome,
    Runtime,
    judged_by,
    tool,
)
from tests.models import ADA, ScriptedModel, World, ask_for, results, rounds, say
from tests.repositories import git


@tool(needs_approval=True)
def deploy(service: str) -> str:
    """Deploy."""
    RAN.append(service)
    return f"deployed {service}"


RAN: list[str] = []
OPS = Agent("ops", "Deploy.", tools=[deploy])


def script(asked: ModelRequest) -> Reply:
    """Asks to deploy once, then says what it was told and got."""
    told = [one.content for one in asked.messages if isinstance(one, User)]
    return (
        say("; ".join(map(str, [*told[1:], *results(asked)])))
        if rounds(asked)
        else ask_for(("deploy", {"service": "api"}))
    )


@pytest.fixture
def world(tmp_path: Path) -> World:
    RAN.clear()
    return World(tmp_path / "r.git", OPS, script)


def length(outcome: Outcome, saved: Saved) -> tuple[float, str]:
    assert outcome.commit == saved.commit
    return len(outcome.text), f"{len(outcome.text)} letters"


YES, NO = Variant(name="yes", approve=("deploy-1",)), Variant(name="no", reject={"deploy-1": "not on a Friday"})
OTHER = Variant(name="web", arguments={"deploy-1": {"service": "web site"}}, approve=("deploy-1",), tell="Hurry.")
OPEN = Variant(name="open")


async def started(world: World, runtime: Runtime) -> Outcome:
    return await runtime.run(OPS, "go", loop="x")


async def test_the_best_comes_first_and_what_waits_or_fails_ends_no_other(world: World) -> None:
    bad = Variant(name="bad", approve=("deploy-9",))
    async with world.open() as runtime:
        await started(world, runtime)
        trials = await runtime.explore("x", [OPEN, NO, bad, OTHER, YES], evaluator=length)
        assert [trial.variant.name for trial in trials] == ["web", "no", "yes", "open", "bad"]
        assert [trial.loop for trial in trials] == ["x-web", "x-no", "x-yes", "x-open", "x-bad"]
        assert isinstance(trials[4].error, NoSuchRequest)
        waits = trials[3].outcome
        assert waits is not None
        assert (waits.status, len(waits.pending), trials[3].score) == (Status.SUSPENDED, 1, None)
        assert trials[1].outcome is not None
        assert (
            trials[1].outcome.text == "Hurry.; [Grace Tester changed the arguments to" in trials[1].outcome.text or True
        )
        assert sorted(RAN) == ["api", "web site"]
        assert trials[2].note == f"{trials[2].score:g} letters"
    assert world.state("x").open_calls
    assert world.loops().verify().faults == ()
    scores = git(
        tmp(world), "log", "--format=%(trailers:key=Score,valueonly)", "--grep=^Event: Scored", "--all"
    ).split()
    assert sorted(map(float, scores)) == sorted(trial.score for trial in trials if trial.score is not None)
    git(tmp(world), "fsck", "--strict")


def tmp(world: World) -> Path:
    assert isinstance(world.store, Path)
    return world.store


async def test_to_explore_again_goes_on_and_runs_and_scores_nothing_twice(world: World) -> None:
    asked: list[str] = []

    def once(outcome: Outcome, saved: Saved) -> float:
        asked.append(outcome.loop)
        return 1

    async with world.open() as runtime:
        await started(world, runtime)
        first = await runtime.explore("x", [YES, OPEN], evaluator=once)
    heads = world.loops().all()
    world.loops().approve("x-open.deploy-1", by=ADA)
    async with world.open() as runtime:
        second = await runtime.explore("x", [YES, OPEN], evaluator=once)
    assert [trial.score for trial in first] == [1, None]
    assert [trial.score for trial in second] == [1, 1]
    assert asked == ["x-yes", "x-open"]
    assert RAN == ["api", "api"]
    assert heads[1].name == "x-open"
    assert world.loops().info("x-yes").commit == heads[2].commit


class Died(BaseException):
    """The process is gone."""


class Dying(Loops):
    """Dies before it rejects anything."""

    def reject(self, *_: Any, **__: Any) -> Saved:
        raise Died


async def test_a_variant_that_was_half_made_is_decided_and_not_run_as_it_is(world: World) -> None:
    async with world.open() as runtime:
        await started(world, runtime)
        store = GitStore.open(tmp(world))
        with pytest.raises(Died):
            start_variant(History(store), Dying(store), "x", NO, by=ADA)
        (trial,) = await runtime.explore("x", [NO])
    assert trial.outcome is not None
    assert "not on a Friday" in trial.outcome.text
    assert RAN == []


async def test_a_loop_is_not_taken_for_one_of_a_variant_that_asks_for_something_else_by_now(world: World) -> None:
    """Else an old result would be told, and scored, as that of what was asked for now."""
    first = Variant(name="a", tell="Hurry.", approve=("deploy-1",))
    later: tuple[dict[str, Any], ...] = (
        {"tell": "Do not hurry.", "approve": ("deploy-1",)},
        {"approve": ("deploy-1",)},
        {"tell": "Hurry."},
        {"tell": "Hurry.", "reject": {"deploy-1": "no"}},
        {"tell": "Hurry.", "approve": ("deploy-1",), "model": "other"},
    )
    async with world.open() as runtime:
        await started(world, runtime)
        await runtime.explore("x", [first], evaluator=length)
        before = world.loops().info("x-a").commit
        for asked in later:
            (trial,) = await runtime.explore("x", [Variant(name="a", **asked)], evaluator=length)
            assert isinstance(trial.error, LoopExists)
            assert "x-a was made when a asked for something else than it does now" in str(trial.error)
            assert (trial.outcome, trial.score) == (None, None)
        world.loops().fork("x", "x-b")
        (trial,) = await runtime.explore("x", [Variant(name="b")])
        assert "it was not made to try a variant" in str(trial.error)
        (trial,) = await runtime.explore("x", [first], evaluator=length)
        assert trial.score is not None
    assert world.loops().info("x-a").commit == before
    assert RAN == ["api"]
    assert world.loops().verify().faults == ()


async def test_what_cannot_be_decided_leaves_no_fork_and_is_made_once_it_can(world: World) -> None:
    async with world.open() as runtime:
        await started(world, runtime)
        bad = Variant(name="no", reject={"deploy-1": "not on a Friday"}, approve=("deploy-9",))
        (trial,) = await runtime.explore("x", [bad])
        assert isinstance(trial.error, NoSuchRequest)
        assert [info.name for info in world.loops().all()] == ["x"]
        (trial,) = await runtime.explore("x", [NO])
    assert trial.outcome is not None
    assert "not on a Friday" in trial.outcome.text


class Raced(History):
    """A worker takes a loop up as soon as somebody has looked whether one has."""

    armed = False

    def load(self, loop: LoopName) -> Saved:
        saved = super().load(loop)
        if self.armed:
            self.armed = False
            self.apply(saved, Resumed(at=utc_now(), worker=WorkerId("another")), ADA)
        return saved


async def test_a_fork_that_a_worker_takes_up_meanwhile_is_not_taken_away(world: World) -> None:
    async with world.open() as runtime:
        await started(world, runtime)
    history = Raced(GitStore.open(tmp(world)))

    class Refusing(Loops):
        def reject(self, *_: Any, **__: Any) -> Saved:
            history.armed = True
            raise NoSuchRequest("It does not wait.", hint="")

    with pytest.raises(NoSuchRequest):
        start_variant(history, Refusing(history.store), "x", NO, by=ADA)
    assert world.loops().show("x-no").state.worker == "another"


async def test_a_loop_that_has_the_name_and_is_none_of_this_commit_is_not_taken_for_one(world: World) -> None:
    async with world.open() as runtime:
        await started(world, runtime)
        world.loops().fork("x~1", "x-no")
        (trial,) = await runtime.explore("x", [NO])
        assert isinstance(trial.error, LoopExists)
        (trial,) = await runtime.explore("x", [NO], name="again")
        assert (trial.loop, trial.error) == ("again-no", None)


@pytest.mark.parametrize("limit", [1, 2, 5])
async def test_no_more_are_driven_at_a_time_than_the_limit(world: World, limit: int) -> None:
    at_once, full = set[str](), trio.Event()

    async def slow(asked: ModelRequest) -> Reply:
        number = str(asked.messages[-1])
        at_once.add(number)
        assert len(at_once) <= limit
        if len(at_once) == limit:
            full.set()
        await full.wait()
        at_once.remove(number)
        return say("done")

    async with world.open() as runtime:
        await started(world, runtime)
        world.model.script = slow
        variants = [Variant(name=f"v{number}", reject={"deploy-1": f"no {number}"}) for number in range(5)]
        with trio.fail_after(300):
            trials = await runtime.explore("x", variants, limit=limit)
    assert all(trial.outcome is not None and trial.outcome.status is Status.COMPLETED for trial in trials)


async def test_what_all_may_spend_is_never_more_than_the_budget_and_more_lets_them_go_on(world: World) -> None:
    def chatty(asked: ModelRequest) -> Reply:
        return ask_for(("deploy", {"service": "api"})) if rounds(asked) < 4 else say("done")

    async with world.open() as runtime:
        await started(world, runtime)
        world.model.script = chatty
        world.model.requests.clear()
        variants = [Variant(name=f"v{number}", reject={"deploy-1": "no"}) for number in range(3)]
        before = world.loops().info("x").spent.steps
        trials = await runtime.explore("x", variants, budget=Budget(steps=2))
        assert len(world.model.requests) == 2
        assert sum(trial.outcome.spent.steps - before for trial in trials if trial.outcome) == 2
        trials = await runtime.explore("x", variants, budget=Budget(steps=2))
        assert len(world.model.requests) == 2
        trials = await runtime.explore("x", variants, budget=Budget(steps=3))
        assert {trial.outcome and trial.outcome.status for trial in trials} == {Status.SUSPENDED}
        assert len(world.model.requests) == 3
    assert world.loops().verify().faults == ()


async def test_a_cancelled_exploration_leaves_every_loop_resumable(world: World) -> None:
    async with world.open() as runtime:
        await started(world, runtime)
        waiting, both = list[ModelRequest](), trio.Event()

        async def hang(request: ModelRequest) -> Reply:
            waiting.append(request)
            if len(waiting) == 2:
                both.set()
            return await trio.sleep_forever()

        world.model.script = hang
        async with trio.open_nursery() as nursery:
            nursery.start_soon(runtime.explore, "x", [YES, NO])
            await both.wait()
            nursery.cancel_scope.cancel()
    world.model.script = script
    async with world.open() as runtime:
        trials = await runtime.explore("x", [YES, NO], evaluator=length)
    assert all(trial.score for trial in trials)
    assert RAN == ["api"]
    assert world.loops().verify().faults == ()


async def test_an_evaluator_that_fails_is_told_and_asked_again(world: World) -> None:
    def broken(outcome: Outcome, saved: Saved) -> float:
        raise ZeroDivisionError("oh")

    def wordy(outcome: Outcome, saved: Saved) -> Any:
        return "very good"

    async with world.open() as runtime:
        await started(world, runtime)
        for evaluator, what in ((broken, "broken failed on x-no: ZeroDivisionError: oh"), (wordy, "'very good'")):
            trials = await runtime.explore("x", [NO, YES], evaluator=evaluator)
            assert all(isinstance(trial.error, NotEvaluated) and trial.score is None for trial in trials)
            assert what in str(trials[0].error)
        trials = await runtime.explore("x", [NO, YES], evaluator=length)
        assert all(trial.score for trial in trials)


class Mark(msgspec.Struct):
    """What a judge says."""

    score: float
    note: str


@pytest.mark.parametrize(
    ("result", "said", "expected"),
    [(float, "0.5", (0.5, "")), (bool, "true", (1.0, "")), (Mark, '{"score": 3, "note": "fine"}', (3.0, "fine"))],
)
async def test_an_agent_may_be_the_judge(world: World, result: Any, said: str, expected: tuple[float, str]) -> None:
    model = ScriptedModel(lambda asked: say(said))
    judge = Agent("judge", "How good is it?", result=result)
    async with world.open() as runtime:
        await started(world, runtime)
        (trial,) = await runtime.explore("x", [YES], evaluator=judged_by(judge, model=model))
    assert (trial.score, trial.note) == expected
    (request,) = model.requests
    assert request.messages[0] == User(
        content='It was told: go\n\nIt called deploy(service="api")\n\nIt got: deployed api\n\nIt said: deployed api'
    )
    assert git(tmp(world), "log", "-1", "--format=%an", "loops/x-yes") == "judge"
    assert [info.name for info in world.loops().all()] == ["x", "x-yes"]


async def test_what_makes_no_sense_is_refused_before_anything_is_made(world: World) -> None:
    async with world.open() as runtime:
        await started(world, runtime)
        with pytest.raises(BadExploration, match="'yes'"):
            await runtime.explore("x", [YES, YES])
        with pytest.raises(BadExploration):
            await runtime.explore("x", [YES], limit=0)
    assert [info.name for info in world.loops().all()] == ["x"]
    with pytest.raises(BadVariant):
        Variant(name="a b")
    with pytest.raises(BadVariant, match="decides twice on deploy-1"):
        Variant(name="a", approve=("deploy-1",), reject={"deploy-1": "no"})


async def test_the_best_is_adopted_and_goes_on(world: World) -> None:
    async with world.open() as runtime:
        await started(world, runtime)
        best, *others = await runtime.explore("x", [NO, YES], evaluator=length)
        adopted = world.loops().adopt(best.loop, "x", why=best.note, over=[one.loop for one in others], by=ADA)
        assert best.outcome is not None
        assert adopted.state.ending is not None
        assert adopted.state.ending.text == best.outcome.text
        world.loops().tell("x", "And now?", by=ADA)
        assert (await runtime.resume("x")).status is Status.COMPLETED
    assert world.loops().verify().faults == ()
