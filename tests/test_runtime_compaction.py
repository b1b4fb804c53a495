"""Loops whose messages are compacted: they end as they would have, nothing runs twice, and what was is there still."""

import json
import signal
import subprocess
import threading
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from caesura.continuations import (
    Assistant,
    BadCompaction,
    Budget,
    GitStore,
    History,
    Loops,
    MemoryStore,
    Message,
    NotApplicable,
    Person,
    Reply,
    Result,
    StillDriven,
    Usage,
    User,
    compare,
    tally,
    text_of,
)
from caesura.continuations._compaction import DECISIONS, estimate_tokens
from caesura.continuations.verify import verify
from caesura.runtime import (
    Agent,
    Compaction,
    ModelRequest,
    ModelUnavailable,
    ToolContext,
    drop_tool_results,
    summarize,
    tool,
)
from tests import serving
from tests.agents import Ledger
from tests.models import ADA, Held, ScriptedModel, World, ask_for, check_results, results, say
from tests.mortal import Fate
from tests.processes import Processes
from tests.serving import completion, refusal, whole

AT = 3000
PAGE = "word " * 800
"""What the tool returns, with its number: about a thousand tokens."""


@tool(idempotent=True)
def read(page: int) -> str:
    """Read a page."""
    return f"page {page}: {PAGE}"


@tool(needs_approval=True)
def burn(page: int) -> str:
    """Burn a page."""
    return f"burnt {page}"


def clerk(compaction: Compaction | None, **options: Any) -> Agent:
    return Agent("clerk", instructions="Read.", tools=[read, burn], compaction=compaction, **options)


def is_summary(asked: ModelRequest) -> bool:
    return asked.instructions.startswith("You summarize")


class Reading:
    """A model that asks for so many pages, one after another, however few of them it is still shown, and is done.

    It counts tokens as the estimate does, and says what it was asked for a summary.
    """

    def __init__(self, pages: int, *, counts: bool = True) -> None:
        self.pages = pages
        self.asked: list[ModelRequest] = []
        self.summaries: list[str] = []
        self._counts = counts

    def __call__(self, asked: ModelRequest) -> Reply:
        if is_summary(asked):
            (material,) = asked.messages
            assert isinstance(material, User)
            self.summaries.append(text_of(material.content))
            return say(f"Summary {len(self.summaries)}.", usage=Usage(input=700, output=30))
        self.asked.append(asked)
        last = asked.messages[-1]
        page = int(last.content.split(":")[0].split()[1]) if isinstance(last, Result) and "page" in last.content else 0
        reply = self.next(page, asked)
        usage = Usage(input=estimate_tokens(asked.messages), output=10) if self._counts else Usage()
        return Reply(message=reply.message, usage=usage)

    def next(self, page: int, asked: ModelRequest) -> Reply:
        return ask_for(("read", {"page": page + 1})) if page < self.pages else say(f"{page} pages read.")


def commits(world: World, event: str, loop: str = "x") -> list[Any]:
    return [commit for commit in world.history(loop) if f"\nEvent: {event}\n" in commit.message]


def git(folder: Path, *words: str) -> str:
    command = ["git", "-C", str(folder / "r.git"), *words]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def texts(messages: Sequence[Message]) -> list[str]:
    return [text_of(one.content) for one in messages if isinstance(one, User)]


# Strategies ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("counts", [True, False])
async def test_old_results_are_dropped_whenever_the_messages_reach_the_threshold(tmp_path: Path, counts: bool) -> None:
    model = Reading(12, counts=counts)
    world = World(tmp_path / "r.git", clerk(Compaction(at=AT, by=drop_tool_results(keep=1))), model)
    outcome = await world.run("Read the book.")
    assert outcome.text == "12 pages read."
    done = commits(world, "Compacted")
    assert len(done) >= 3
    assert max(estimate_tokens(asked.messages) for asked in model.asked) < AT + 1100
    for commit in done:
        (before,) = (world.loops().show(parent).state for parent in commit.parents)
        assert len(commit.state.messages) == len(before.messages)
        assert commit.author.name == "clerk"
        assert f"{len(before.messages)}, now {len(before.messages)}" in commit.message
        whole = [one.content for one in before.messages if isinstance(one, Result)]
        assert [one.content for one in commit.state.messages if isinstance(one, Result)][-1] == whole[-1]
    check_results(world.state())
    assert all(result.startswith("page") or "left out" in result for result in results(model.asked[-1]))
    assert verify(GitStore.open(tmp_path / "r.git")).faults == ()
    git(tmp_path, "fsck", "--strict")


async def test_a_summary_takes_the_place_of_what_came_before_and_of_the_last_summary(tmp_path: Path) -> None:
    model = Reading(14)
    scribe = ScriptedModel(model)
    world = World(tmp_path / "r.git", clerk(Compaction(at=AT, by=summarize(keep=3, model=scribe))), model)
    outcome = await world.run("Read the book.")
    assert outcome.text == "14 pages read."
    assert len(model.summaries) >= 2
    assert len(scribe.requests) == len(model.summaries), "the model of its own writes the summary"
    assert "Summary 1." in model.summaries[1]
    assert "The agent's instructions:\nRead." in model.summaries[0]
    assert 'It calls read: {"page": 1}' in model.summaries[0]
    assert max(map(len, model.summaries)) < 5 * 4200, "long results are shown in part"
    state = world.state()
    shown = texts(state.messages)
    assert shown[0] == "Read the book."
    assert sum(text.startswith("Summary of the conversation so far:") for text in shown) == 1
    assert state.spent.steps == len(model.asked) + len(model.summaries)
    assert state.spent.usage.input == sum(estimate_tokens(a.messages) for a in model.asked) + 700 * len(model.summaries)
    check_results(state)
    assert verify(GitStore.open(tmp_path / "r.git")).faults == ()
    first = commits(world, "Compacted")[0]
    assert "\nTokens: 700 in, 30 out\n" in first.message
    assert "Summary 1." in first.message


async def test_what_people_said_and_decided_outlives_every_summary() -> None:
    class Burning(Reading):
        def next(self, page: int, asked: ModelRequest) -> Reply:
            if len(self.asked) == 1:
                return ask_for(("burn", {"page": 7}))
            return super().next(page, asked)

    model = Burning(14)
    world = World(MemoryStore(), clerk(Compaction(at=AT, by=summarize(keep=0))), model)
    await world.run("Read the book.")
    (request,) = world.loops().pending()
    world.loops().reject(request, "it is a library book", by=ADA)
    world.loops().tell("x", "Never touch page 7.", by=ADA)
    outcome = await world.resume()
    assert outcome.text == "14 pages read."
    assert len(model.summaries) >= 3
    shown = texts(model.asked[-1].messages)
    assert shown.count("Never touch page 7.") == 1
    (kept,) = (text for text in shown if text.startswith(DECISIONS))
    assert kept.endswith('- burn {"page": 7}: Rejected by Ada Lovelace: it is a library book. The call did not run.')
    assert verify(world.store).faults == ()  # type: ignore[arg-type]


async def test_more_are_kept_than_wanted_where_a_call_would_be_parted_from_its_result() -> None:
    world = World(MemoryStore(), clerk(Compaction(at=8000, by=summarize(keep=3))), Reading(9))
    await world.run()
    first = commits(world, "Compacted")[0].state.messages
    assert [type(one) for one in first] == [User, User, Assistant, Result, Assistant, Result]


@pytest.mark.parametrize("by", [summarize(keep=10), drop_tool_results(keep=10)])
async def test_fewer_are_kept_than_wanted_if_they_alone_are_too_many(by: Any) -> None:
    model = Reading(9)
    world = World(MemoryStore(), clerk(Compaction(at=AT, by=by)), model)
    assert (await world.run()).text == "9 pages read."
    assert len(commits(world, "Compacted")) >= 3
    assert commits(world, "CompactionFailed") == []
    assert max(estimate_tokens(asked.messages) for asked in model.asked) < AT + 1100


async def test_a_function_of_ones_own_compacts_in_a_thread_or_as_a_task() -> None:
    threads: list[bool] = []

    def plain(messages: Sequence[Message]) -> Sequence[Message]:
        threads.append(threading.current_thread() is threading.main_thread())
        last = max(place for place, one in enumerate(messages) if isinstance(one, Assistant))
        return [messages[0], User(content="It read on."), *messages[last:]]

    async def task(messages: Sequence[Message]) -> Sequence[Message]:
        await trio.lowlevel.checkpoint()
        return plain(messages)

    class Object:
        async def __call__(self, messages: Sequence[Message]) -> Sequence[Message]:
            return await task(messages)

    for function in (plain, task, Object()):
        model = Reading(9)
        world = World(MemoryStore(), clerk(Compaction(at=AT, by=function)), model)
        assert (await world.run()).text == "9 pages read."
        assert len(commits(world, "Compacted")) >= 2
        check_results(world.state())
    assert threads.count(False) < len(threads)
    assert threads[0] is False
    assert threads[-1] is True


# What goes wrong -----------------------------------------------------------------------------------------------------


def _drops_the_prompt(messages: Sequence[Message]) -> Sequence[Message]:
    return messages[1:]


def _parts_a_pair(messages: Sequence[Message]) -> Sequence[Message]:
    return [one for place, one in enumerate(messages) if place != 2]


def _forgets_the_last_round(messages: Sequence[Message]) -> Sequence[Message]:
    return messages[:-2]


def _raises(messages: Sequence[Message]) -> Sequence[Message]:
    raise SystemExit("no")


def _returns_nothing(messages: Sequence[Message]) -> Any:
    return None


def _changes_nothing(messages: Sequence[Message]) -> Sequence[Message]:
    return list(messages)


def _nests_too_deep(messages: Sequence[Message]) -> Sequence[Message]:
    deep: Any = None
    for _ in range(500):
        deep = [deep]
    return [messages[0], Assistant(content="x", native={"chat": deep}), *messages[-2:]]


@pytest.mark.parametrize(
    ("function", "why"),
    [
        (_drops_the_prompt, "do not begin with the prompt"),
        (_parts_a_pair, "has no result right after"),
        (_forgets_the_last_round, "do not end with the model's last reply"),
        (_raises, "SystemExit: no"),
        (_returns_nothing, "did not return a sequence of messages"),
        (_changes_nothing, "they are not shorter"),
        (_nests_too_deep, "TooDeep"),
    ],
)
async def test_a_function_that_breaks_the_conversation_is_refused_and_the_loop_goes_on_with_all_of_it(
    function: Callable[[Sequence[Message]], Any], why: str
) -> None:
    model = Reading(9)
    world = World(MemoryStore(), clerk(Compaction(at=AT, by=function)), model)
    assert (await world.run()).text == "9 pages read."
    failed = commits(world, "CompactionFailed")
    assert all(why in commit.message for commit in failed), failed[0].message
    # At 3,000, and each time that a quarter of that has come; a page is more than that.
    assert 5 <= len(failed) <= 7
    assert len([one for one in world.state().messages if isinstance(one, Result)]) == 9
    check_results(world.state())
    assert verify(world.store).faults == ()  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "reply",
    [
        say(None, usage=Usage(input=700, output=30)),
        say("Half a summ", stop="length", usage=Usage(input=700, output=30)),
    ],
)
async def test_a_summary_that_is_none_costs_what_it_cost_and_the_loop_goes_on(reply: Reply) -> None:
    model = Reading(5)
    scribe = ScriptedModel(lambda asked: reply)
    world = World(MemoryStore(), clerk(Compaction(at=AT, by=summarize(keep=0, model=scribe))), model)
    assert (await world.run()).text == "5 pages read."
    failed = commits(world, "CompactionFailed")
    assert failed
    assert "did not come to its end" in failed[0].message
    assert world.state().spent.steps == len(model.asked) + len(failed)


async def test_a_model_that_cannot_summarize_does_not_stop_the_loop() -> None:
    def down(asked: ModelRequest) -> Reply:
        raise ModelUnavailable("The server is down", hint="Wait.")

    world = World(MemoryStore(), clerk(Compaction(at=AT, by=summarize(keep=0, model=ScriptedModel(down)))), Reading(5))
    assert (await world.run()).text == "5 pages read."
    assert "The server is down" in commits(world, "CompactionFailed")[0].message
    assert world.state().spent.steps == 6


async def test_a_spent_budget_stops_the_loop_before_a_summary() -> None:
    model = Reading(9)
    world = World(MemoryStore(), clerk(Compaction(at=AT, by=summarize(keep=0)), budget=Budget(steps=3)), model)
    outcome = await world.run()
    assert [request.gate for request in outcome.pending] == ["budget"]
    assert (len(model.asked), model.summaries) == (3, [])
    world.loops().approve(outcome.pending[0], by=ADA)
    outcome = await world.resume()
    assert [request.gate for request in outcome.pending] == ["budget"]
    assert len(model.asked) + len(model.summaries) == 6


async def test_a_compaction_that_comes_too_late_is_not_made_again_and_again_and_its_cost_counts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = Reading(5)
    held = Held(model)
    store = MemoryStore()
    scribe = ScriptedModel(held)
    world = World(store, clerk(Compaction(at=AT, by=summarize(keep=0, model=scribe))), model)
    monkeypatch.setattr("caesura.continuations.compacting.held", lambda store, root, now: nullcontext())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.run)
        await held.asked.wait()
        Loops(store).compact("x", keep=1, by=ADA)
        held.go.set()
    assert world.state().status == "completed"
    events = [commit.message.split("\nEvent: ")[1].split("\n")[0] for commit in world.history()]
    first = events.index("Compacted")
    assert events[first : first + 3] == ["Compacted", "CompactionFailed", "ModelReplied"]
    assert world.state().spent.steps == len(model.asked) + len(scribe.requests)


def test_settings_that_cannot_work_are_refused() -> None:
    for make in (
        lambda: Compaction(at=0, by=summarize()),
        lambda: summarize(keep=-1),
        lambda: drop_tool_results(keep=-1),
    ):
        with pytest.raises(BadCompaction):
            make()


async def test_a_changed_compaction_is_adopted_as_guidance_is(tmp_path: Path) -> None:
    world = World(tmp_path / "r.git", clerk(None), Reading(3))
    assert (await world.run()).text == "3 pages read."
    world.agent = clerk(Compaction(at=AT, by=drop_tool_results(keep=0)))
    world.loops().tell("x", "page 0: again", by=ADA)
    await world.resume()
    (changed,) = commits(world, "AgentChanged")
    assert "compaction changed" in changed.message
    assert world.state().context.times >= 1


# Too long for the model ----------------------------------------------------------------------------------------------

TOO_LONG = refusal(400, "This model's maximum context length is 8 tokens", "context_length_exceeded")


def page_call(number: int) -> Any:
    function = {"name": "read", "arguments": json.dumps({"page": number})}
    return whole(completion({"content": None, "tool_calls": [{"id": "c", "type": "function", "function": function}]}))


async def test_a_model_that_refuses_the_messages_as_too_long_gets_shorter_ones_once() -> None:
    done = whole(completion({"content": "Read."}))
    agent = partial(clerk, Compaction(at=10**6, by=drop_tool_results(keep=0)))
    async with (
        serving.serving(page_call(1), page_call(2), TOO_LONG, done) as served,
        serving.model(served.base_url, stream=False) as model,
    ):
        world = World(MemoryStore(), agent(model=model), Reading(0))
        assert (await world.run()).text == "Read."
        assert [len(served.bodies[place]["messages"]) for place in (2, 3)] == [6, 6]
        assert len(served.requests[3].body) < len(served.requests[2].body) - 3500
    names = [commit.message.split("\nEvent: ")[1].split("\n")[0] for commit in world.history()]
    assert names[-4:] == ["ToolReturned", "ModelFailed", "Compacted", "ModelReplied"]
    assert world.subjects()[-3].startswith("clerk: the messages are too long for the model: The server at")
    assert verify(world.store).faults == ()  # type: ignore[arg-type]


async def test_if_that_does_not_help_a_person_is_asked_and_can_compact_by_hand() -> None:
    async with (
        serving.serving(page_call(1), page_call(2), TOO_LONG) as served,
        serving.model(served.base_url, stream=False) as model,
    ):
        for compaction in (None, Compaction(at=10**6, by=drop_tool_results(keep=0))):
            world = World(MemoryStore(), clerk(compaction, model=model), Reading(0))
            outcome = await world.run()
            assert [request.gate for request in outcome.pending] == ["model"]
            assert "too long" in outcome.pending[0].text
            assert len(commits(world, "Compacted")) == (compaction is not None)
            assert len(served.requests) == (3 if compaction is None else 7)
            served._handlers[:] = [page_call(1), page_call(2), TOO_LONG]
    done = whole(completion({"content": "Read."}))
    async with (
        serving.serving(page_call(1), page_call(2), TOO_LONG, done) as served,
        serving.model(served.base_url, stream=False) as model,
    ):
        world = World(MemoryStore(), clerk(None, model=model), Reading(0))
        await world.run()
        world.loops().compact("x", keep=0, by=ADA)
        assert (await world.resume()).text == "Read."
        assert len(served.requests[3].body) < len(served.requests[2].body) - 3500


# Before and after ----------------------------------------------------------------------------------------------------


async def test_every_commit_before_and_after_a_compaction_can_be_forked_and_driven_to_the_end(tmp_path: Path) -> None:
    world = World(tmp_path / "r.git", clerk(Compaction(at=AT, by=summarize(keep=2))), Reading(6))
    await world.run()
    assert len(commits(world, "Compacted")) >= 2
    for number, commit in enumerate(world.history()):
        world.loops().fork(commit.id, f"f{number}")
        world.model.script = Reading(6)
        assert (await world.resume(f"f{number}")).text == "6 pages read.", commit.message
        check_results(world.state(f"f{number}"))
    assert verify(GitStore.open(tmp_path / "r.git")).faults == ()


async def test_a_fork_from_before_has_all_messages_and_the_two_are_compared(tmp_path: Path) -> None:
    world = World(tmp_path / "r.git", clerk(Compaction(at=AT, by=drop_tool_results(keep=0))), Reading(6))
    await world.run()
    first = commits(world, "Compacted")[0]
    git(tmp_path, "branch", "loops/whole", f"{first.id}^1")
    world.agent = clerk(None)
    assert (await world.resume("whole")).text == "6 pages read."
    assert all(result.startswith("page") for result in results(world.model.requests[-1]))
    history = History(GitStore.open(tmp_path / "r.git"))
    compared = compare(history, "x", "whole")
    parted = compared.divergence
    assert parted is not None
    assert parted.row.left is not None
    assert (parted.row.left.kind, parted.row.left.text) == ("compacted", "7 to 7")
    called = [row.left for row in compared.rows if row.left is not None and row.left.kind == "called"]
    assert len(called) == 3, "what stays in the messages did not happen again"
    assert (tally(history, "x").tools_run, tally(history, "whole").tools_run) == (6, 6)


async def test_a_loop_that_stops_in_the_middle_of_a_summary_makes_it_when_it_is_resumed() -> None:
    model = Reading(6)
    held = Held(model)
    world = World(MemoryStore(), clerk(Compaction(at=AT, by=summarize(keep=0, model=ScriptedModel(held)))), model)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.run)
        await held.asked.wait()
        nursery.cancel_scope.cancel()
    assert commits(world, "Compacted") == commits(world, "CompactionFailed") == []
    held.go.set()
    assert (await world.resume()).text == "6 pages read."
    assert world.state().context.times == len(model.summaries) >= 1


def whole_story(path: str, ledger: str, death: str = "") -> dict[str, int]:
    """A process: reads six pages, unless it dies on the way; how often it moved a branch."""
    fate = Fate(death)
    writes = Ledger(Path(ledger), fate.effect)

    @tool(name="read", idempotent=True)
    def reads(page: int, context: ToolContext) -> str:
        """Read a page."""
        writes.write(context, "read", str(page))
        return f"page {page}: {PAGE}"

    agent = Agent("clerk", tools=[reads], compaction=Compaction(at=AT, by=summarize(keep=0)))
    world = World(Path(path), agent, Reading(6))

    there = Path(path).is_dir() and any(GitStore.open(path).heads())

    async def drive() -> str:
        return (await (world.resume() if there else world.run())).text

    assert trio.run(drive) == "6 pages read."
    return {"moves": fate.moves}


def test_a_kill_at_any_commit_around_a_compaction_loses_and_doubles_nothing(
    processes: Processes, tmp_path: Path
) -> None:
    name = "tests.test_runtime_compaction.whole_story"
    (tmp_path / "plain").mkdir()
    (plain,) = processes.run((name, tmp_path / "plain" / "r.git", tmp_path / "plain" / "ledger"))
    expected = _story(tmp_path / "plain")
    assert expected.count("Compacted") >= 2
    places = [place + 1 for place, event in enumerate(expected) if event == "Compacted"]
    deaths = {f"{when}:{place + shift}" for when in ("before", "after") for place in places[:2] for shift in (-1, 0, 1)}
    assert max(places) < plain.value["moves"]
    for death in sorted(deaths):
        path, ledger = tmp_path / death / "r.git", tmp_path / death / "ledger"
        path.parent.mkdir()
        (ended,) = processes.wait(processes.start((name, path, ledger, death)))
        assert ended.status == -signal.SIGKILL
        processes.run((name, path, ledger))
        again = {"Resumed", "ToolStarted"}
        assert [one for one in _story(path.parent) if one not in again] == [
            one for one in expected if one not in again
        ], death
        ran = [entry["what"] for entry in Ledger(ledger).entries()]
        assert sorted(set(ran)) == ["1", "2", "3", "4", "5", "6"]
        assert len(ran) <= 7, "one is idempotent, and may have been under way"
        assert verify(GitStore.open(path)).faults == ()


def _story(path: Path) -> list[str]:
    form = "--format=%(trailers:key=Event,valueonly,separator=)"
    return git(path, "log", "--reverse", "--first-parent", form, "loops/x").split()


# By hand -------------------------------------------------------------------------------------------------------------


class Asking(Reading):
    """Reads, and then asks to burn something."""

    def next(self, page: int, asked: ModelRequest) -> Reply:
        last = asked.messages[-1]
        if page == self.pages:
            return ask_for(("burn", {"page": 1}), ("burn", {"page": 2}))
        return say("Done.") if isinstance(last, Result) and "page" not in last.content else super().next(page, asked)


async def test_a_loop_that_waits_is_compacted_by_hand_and_its_requests_still_stand(tmp_path: Path) -> None:
    world = World(tmp_path / "r.git", clerk(None), Asking(4))
    await world.run()
    loops = world.loops()
    before = loops.pending("x")
    saved = loops.compact("x", keep=1, by="Grace Hopper <grace@example.com>")
    assert saved.message.startswith("clerk: compacted 3 of 10 messages\n")
    after = loops.pending("x")
    assert [(one.id, one.arguments_digest) for one in after] == [(one.id, one.arguments_digest) for one in before]
    assert ["left out" in one.content for one in saved.state.messages if isinstance(one, Result)] == [True] * 3 + [
        False
    ]
    loops.approve(before[0], by=ADA)  # as it was shown before
    loops.reject(after[1], "keep it", by=ADA)
    assert (await world.resume()).text == "Done."
    no = "Rejected by Ada Lovelace: keep it. The call did not run."
    assert sorted(results(world.model.requests[-1])[-2:]) == [no, "burnt 1"]
    (commit,) = commits(world, "Compacted")
    assert commit.author == Person(name="Grace Hopper", email="grace@example.com")
    with pytest.raises(NotApplicable, match="has completed"):
        loops.compact("x")
    assert verify(GitStore.open(tmp_path / "r.git")).faults == ()


async def test_by_hand_there_must_be_something_to_leave_out_and_nobody_who_drives() -> None:
    model = Held(Asking(4))
    world = World(MemoryStore(), clerk(None), model)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.run)
        await model.asked.wait()
        with pytest.raises(StillDriven):
            world.loops().compact("x")
        model.go.set()
    for keep in (10, 4):
        with pytest.raises(NotApplicable, match="nothing to leave out"):
            world.loops().compact("x", keep=keep)
    with pytest.raises(BadCompaction):
        world.loops().compact("x", keep=-1)
    world.loops().compact("x", keep=3)


async def test_a_reply_to_messages_that_somebody_compacted_meanwhile_is_dropped_and_the_model_asked_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reading = Reading(4)
    held = Held(reading)
    store = MemoryStore()
    world = World(store, clerk(None), lambda asked: held(asked) if len(results(asked)) == 4 else reading(asked))
    # As if the lease had run out: only then can somebody else get in between.
    monkeypatch.setattr("caesura.continuations.compacting.held", lambda store, root, now: nullcontext())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.run)
        await held.asked.wait()
        Loops(store).compact("x", keep=0, by=ADA)
        held.go.set()
    assert world.state().status == "completed"
    events = [commit.message.split("\nEvent: ")[1].split("\n")[0] for commit in world.history()]
    assert events[-2:] == ["Compacted", "ModelReplied"]
    assert [len(one) for one in results(reading.asked[-1])][:3] == [
        len("[4,008 characters, left out to save room]")
    ] * 3
    assert any(type(notice).__name__ == "Dropped" for notice in world.notices)
