"""Tools as loops run them: in parallel, failing, repeated, misused, and returning whatever they like."""

import datetime as dt
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from caesura.continuations import Assistant, Status
from caesura.runtime import Agent, Ask, ModelRequest, Progressed, SleepUntil, ToolContext, ask, sleep_until, tool
from tests.models import ADA, NOON, World, ask_for, call_of, check_results, lines, request, results, say, telling


@pytest.mark.parametrize(("limit", "calls", "most"), [(8, 5, 5), (2, 5, 2), (1, 3, 1)])
async def test_calls_of_one_reply_run_at_the_same_time_up_to_the_limit(
    tmp_path: Path, limit: int, calls: int, most: int
) -> None:
    inside: list[int] = [0]
    full, go = trio.Event(), trio.Event()

    @tool
    async def work() -> str:
        inside.append(inside[-1] + 1)
        if inside[-1] == most:
            full.set()
        await go.wait()
        inside.append(inside[-1] - 1)
        return "worked"

    @tool
    async def other() -> str:
        return "other"

    def script(asked: ModelRequest) -> Any:
        first = ask_for(*[("work", {})] * calls) if asked.messages[0].content == "go" else ask_for(("other", {}))
        return lines(first, first, say("done"))(asked)

    world = World(tmp_path / "r.git", Agent("a", tools=[work, other]), script, max_tools=limit)
    with trio.fail_after(300):
        async with world.open() as runtime, trio.open_nursery() as nursery:
            nursery.start_soon(partial(runtime.run, "a", "go", loop="x"))
            await full.wait()
            # While another loop comes to its end, the first would have started more if it could.
            await runtime.run("a", "otherwise", loop="y")
            go.set()
    assert max(inside) == most
    assert results(world.model.requests[-1]) == ["worked"] * calls * 2


async def test_plain_tools_run_beside_async_ones_and_both_report_progress(tmp_path: Path) -> None:
    met = trio.Event()

    @tool
    async def waits(context: ToolContext) -> str:
        context.progress("waiting")
        await met.wait()
        return "met"

    @tool
    def meets(context: ToolContext) -> str:
        context.progress("half \ud800 way")
        trio.from_thread.run_sync(met.set)
        return "met too"

    script = lines(ask_for(("waits", {}), ("meets", {})), say("done"))
    world = World(tmp_path / "r.git", Agent("a", tools=[waits, meets]), script)
    with trio.fail_after(300):
        await world.run()
    told = {(notice.call, notice.text) for notice in world.notices if isinstance(notice, Progressed)}
    assert told == {("waits-1", "waiting"), ("meets-1", "half \ufffd way")}
    assert results(world.model.requests[-1]) in (["met", "met too"], ["met too", "met"])


async def test_what_goes_wrong_with_a_call_is_a_result_that_the_model_reads_and_mends(tmp_path: Path) -> None:
    @tool
    async def count(number: int) -> str:
        if number < 0:
            raise ValueError("no such number")
        return f"counted {number}"

    wrong: list[tuple[Any, str]] = [
        (request("count", '{"number": '), "not JSON"),
        (request("count", '{"number": "1"}'), "Expected `int`, got `str`"),
        (request("count", "{}"), "missing required field `number`"),
        (request("count", '{"number": 1, "unit": 2}'), "unknown field `unit`"),
        (request("count", {"number": -1}), "ValueError: no such number"),
        (request("add", {"number": 1}), "there is no tool 'add'. The tools are: count."),
        (request("", "{}"), "there is no tool ''"),
        (request("../x y", "\ud800"), "there is no tool"),
    ]
    script = lines(ask_for(*[one for one, _ in wrong]), ask_for(("count", {"number": 7})), say("done"))
    world = World(tmp_path / "r.git", Agent("a", tools=[count]), script)
    assert (await world.run()).status is Status.COMPLETED
    told = results(world.model.requests[1])
    assert len(told) == len(wrong)
    for _, text in wrong:
        assert any(line.startswith("Error: ") and text in line for line in told), (text, told)
    assert results(world.model.requests[2])[-1] == "counted 7"
    check_results(world.state())


@pytest.mark.parametrize(
    "keys",
    [("", ""), ("a", "a"), ("", "note-1", ""), ("note-2", ""), ("note-3", "note-3", ""), ("", "a", "a", "note-3")],
)
async def test_empty_and_repeated_ids_of_calls_become_distinct(tmp_path: Path, keys: tuple[str, ...]) -> None:
    @tool
    async def note(text: str) -> str:
        return text

    asked = [request("note", {"text": f"{place}"}, key) for place, key in enumerate(keys)]
    world = World(tmp_path / "r.git", Agent("a", tools=[note]), lines(ask_for(*asked), ask_for(*asked), say("done")))
    assert (await world.run()).status is Status.COMPLETED
    check_results(world.state())
    for commit in world.history():
        check_results(commit.state)
    (message, *_) = [one for one in world.state().messages if isinstance(one, Assistant)]
    read = dict(zip([call.id for call in message.tool_calls], [str(n) for n in range(len(keys))], strict=True))
    told = world.state().messages[2 : 2 + len(keys)]
    assert {getattr(one, "tool_call_id", ""): one.content for one in told} == read


async def test_the_same_tool_twice_with_the_same_arguments_runs_twice_under_two_keys(tmp_path: Path) -> None:
    keys: list[tuple[str, str]] = []

    @tool
    async def pay(amount: int, context: ToolContext) -> str:
        keys.append((context.call, context.idempotency_key))
        return "paid"

    world = World(
        tmp_path / "r.git", Agent("a", tools=[pay]), lines(ask_for(*[("pay", {"amount": 5})] * 2), say("done"))
    )
    await world.run()
    await world.run(loop="y")
    world.loops().fork(world.history("x")[1].id, "z")
    await world.resume("z")
    assert Counter(call for call, _ in keys) == {"pay-1": 3, "pay-2": 3}
    assert len({key for _, key in keys}) == 6


@pytest.mark.parametrize(
    "text", ["x" * 10_000_000, "nul \0 and \x1b[31m", "half \ud800 pair", "\u202e snow ☃ 🎉", "", " \n"]
)
async def test_any_text_can_be_a_result_and_reaches_the_model_and_the_history(tmp_path: Path, text: str) -> None:
    @tool
    async def read() -> str:
        return text

    world = World(tmp_path / "r.git", Agent("a", tools=[read]), lines(ask_for(("read", {})), say("done")))
    assert (await world.run()).status is Status.COMPLETED
    expected = text.replace("\ud800", "\ufffd")
    assert results(world.model.requests[-1]) == [expected]
    assert world.state().messages[2].content == expected


@pytest.mark.parametrize("text", ["nul \0 and \x1b[31m", "half \ud800 pair", "\u202e snow ☃ 🎉", "", "x" * 1_000_000])
async def test_any_text_can_be_a_prompt_a_word_an_answer_a_reason_and_a_reply(tmp_path: Path, text: str) -> None:
    @tool(needs_approval=True)
    async def deploy(what: str) -> str:
        return what

    script = lines(
        ask_for(("ask", {"question": "Who?"}), ("deploy", {"what": "it"}), ("deploy", {"what": text})),
        say(f"heard {text}"),
        say("done"),
    )
    world = World(tmp_path / "r.git", Agent("a", tools=[ask(), deploy]), script)
    await world.run(text)
    loops = world.loops()
    loops.tell("x", text, by=ADA)
    loops.reject("x.deploy-1", text, by=ADA)
    loops.answer("x.ask-1", text, by=ADA)
    for rest in loops.pending():  # half a character in the arguments is told to the model instead
        loops.reject(rest, text, by=ADA)
    outcome = await world.resume()
    assert outcome.status is Status.COMPLETED
    assert outcome.text == "heard " + text.replace("\ud800", "\ufffd")
    loops.tell("x", "more", by=ADA)
    loops.pause("x", text, by=ADA)
    loops.cancel("x", text, by=ADA)
    check_results(world.state())


@pytest.mark.parametrize("by_tool", [True, False])
async def test_a_question_is_answered_by_a_person_and_the_tool_is_not_run_again(tmp_path: Path, by_tool: bool) -> None:
    ran: list[str] = []

    @tool
    def survey(topic: str) -> Ask:
        ran.append(topic)
        return Ask(f"How many {topic}?", int)

    asked = ("survey", {"topic": "cats"}) if by_tool else ("ask", {"question": "How many cats?"})
    world = World(tmp_path / "r.git", Agent("a", tools=[survey, ask(int)]), lines(ask_for(asked), say("done")))
    outcome = await world.run()
    (pending,) = outcome.pending
    assert (outcome.status, pending.kind, pending.text) == (Status.SUSPENDED, "question", "How many cats?")
    assert (await world.resume()).pending == outcome.pending
    world.loops().answer(pending, 3, by=ADA)
    assert (await world.resume()).status is Status.COMPLETED
    assert results(world.model.requests[-1]) == ["3"]
    assert ran == (["cats"] if by_tool else [])


async def test_a_question_that_is_turned_down_is_a_result_with_the_reason(tmp_path: Path) -> None:
    world = World(
        tmp_path / "r.git", Agent("a", tools=[ask()]), lines(ask_for(("ask", {"question": "Why?"})), say("ok"))
    )
    await world.run()
    world.loops().reject("x.ask-1", "none of your business", by=ADA)
    assert (await world.resume()).status is Status.COMPLETED
    (told,) = results(world.model.requests[-1])
    assert told == "The question was turned down by Ada Lovelace: none of your business."


@pytest.mark.parametrize("by_tool", [True, False])
async def test_a_sleep_ends_at_its_time_even_if_that_came_while_nobody_was_there(
    tmp_path: Path, autojump_clock: MockClock, by_tool: bool
) -> None:
    then = NOON + dt.timedelta(days=2)

    @tool
    async def rest() -> SleepUntil:
        return SleepUntil(then)

    asked: tuple[str, dict[str, Any]] = ("rest", {}) if by_tool else ("sleep_until", {"until": then.isoformat()})
    agent = Agent("a", tools=[rest, sleep_until])
    world = World(tmp_path / "r.git", agent, lines(ask_for(asked), say("done")), now=telling(autojump_clock), poll=3600)
    outcome = await world.run()
    assert outcome.status is Status.SUSPENDED
    assert call_of(world.state(), f"{asked[0]}-1").not_before == then
    await trio.sleep(2 * 86400)
    assert (await world.resume()).status is Status.COMPLETED
    assert results(world.model.requests[-1])[0].startswith("It is now 2030-02-0")


async def test_a_moment_that_is_none_is_told_to_the_model(tmp_path: Path) -> None:
    script = lines(ask_for(("sleep_until", {"until": "2030-01-31T12:00:00"})), say("done"))
    world = World(tmp_path / "r.git", Agent("a", tools=[sleep_until]), script)
    assert (await world.run()).status is Status.COMPLETED
    assert results(world.model.requests[-1])[0].startswith("Error: The arguments do not fit.")
