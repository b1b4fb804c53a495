"""Models: whatever one answers, or fails to, the loop is not lost and nothing half-done counts as a result."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from caesura.continuations import Assistant, Image, ImageUrl, Reply, Status, Text, ToolRequest, User, WrongType
from caesura.runtime import (
    Agent,
    BadAgent,
    ModelRequest,
    ModelUnavailable,
    NotInTrio,
    Runtime,
    Streamed,
    Thinking,
    tool,
)
from tests.models import ADA, World, ask_for, check_results, lines, request, results, say


def cut_call(stop: str) -> Reply:
    """A reply with a call in it that was cut off in the middle."""
    calls: tuple[ToolRequest, ...] = (request("deploy", '{"service": "ap', "c0"), request("deploy", {"service": "b"}))
    return msgspec.structs.replace(say("Let me"), message=Assistant(content="Let me", tool_calls=calls), stop=stop)


UNUSABLE = {
    "cut off": say("The answer is", stop="length"),
    "cut off in a call": cut_call("length"),
    "filtered": say(None, stop="filter"),
    "filtered in a call": cut_call("filter"),
    "refused": say(None, stop="refusal", refusal="I would rather not"),
    "empty": say(""),
    "nothing": say(None),
}


@pytest.mark.parametrize("how", ["resumed", "told"])
@pytest.mark.parametrize("kind", UNUSABLE)
async def test_an_unusable_reply_suspends_runs_nothing_and_is_gone_on_from(tmp_path: Path, kind: str, how: str) -> None:
    ran: list[str] = []

    @tool
    async def deploy(service: str) -> str:
        ran.append(service)
        return service

    world = World(tmp_path / "r.git", Agent("a", tools=[deploy]), lines(UNUSABLE[kind], say("the whole answer")))
    outcome = await world.run()
    (pending,) = outcome.pending
    assert (outcome.status, outcome.text, pending.gate) == (Status.SUSPENDED, "", "reply")
    check_results(world.state())
    if how == "told":
        world.loops().tell("x", "Go on.", by=ADA)
    outcome = await world.resume()
    assert (outcome.status, outcome.text) == (Status.COMPLETED, "the whole answer")
    said = [message.content for message in world.model.requests[-1].messages if isinstance(message, User)]
    assert said == (["go", "Go on."] if how == "told" else ["go"])
    assert ran == []


def test_who_runs_it_by_something_else_than_trio_is_told_so(tmp_path: Path) -> None:
    async def main() -> None:
        async with Runtime.open(tmp_path / "r.git", agents=[]):
            pass

    with pytest.raises(NotInTrio) as raised:
        asyncio.run(main())
    assert "trio.run(main)" in raised.value.hint
    assert not (tmp_path / "r.git").exists()


def unavailable(asked: ModelRequest) -> Reply:
    raise ModelUnavailable("The model could not be reached.", hint="Try again later.")


def broken(asked: ModelRequest) -> Reply:
    raise ZeroDivisionError("a \ud800 fault \0 in the adapter")


def grouped(asked: ModelRequest) -> Reply:
    raise ExceptionGroup("many", [OSError("one"), ValueError("two")])


@pytest.mark.parametrize("fault", [unavailable, broken, grouped])
async def test_a_model_that_cannot_be_called_suspends_and_a_resume_tries_again(
    tmp_path: Path, fault: Callable[[ModelRequest], Reply]
) -> None:
    @tool
    async def look() -> str:
        return "seen"

    good = lines(ask_for(("look", {})), say("done"))
    faults = [fault, fault]
    world = World(
        tmp_path / "r.git",
        Agent("a", tools=[look]),
        lambda asked: (faults.pop() if results(asked) and faults else good)(asked),
    )
    for _ in range(2):
        outcome = await (world.resume() if world.model.requests else world.run())
        (pending,) = outcome.pending
        assert (outcome.status, pending.gate) == (Status.SUSPENDED, "model")
        assert any(word in pending.text for word in ("could not be reached", "ZeroDivisionError", "ExceptionGroup"))
    outcome = await world.resume()
    assert (outcome.status, outcome.text, outcome.spent.steps) == (Status.COMPLETED, "done", 2)
    assert results(world.model.requests[-1]) == ["seen"]


class Plan(msgspec.Struct, forbid_unknown_fields=True):
    steps: list[str]
    cost: int


async def test_a_result_has_the_agents_type_and_a_misfit_is_corrected_by_the_model(tmp_path: Path) -> None:
    script = lines(say("I think"), say('{"steps": [], "cost": "much"}'), say('{"steps": ["a"], "cost": 3}'))
    world = World(tmp_path / "r.git", Agent("a", result=Plan), script)
    outcome = await world.run()
    assert outcome.result == Plan(steps=["a"], cost=3)
    assert world.model.requests[0].result is not None
    correction = world.model.requests[2].messages[-1]
    assert isinstance(correction, User)
    assert "Expected `int`, got `str`" in str(correction.content)
    assert (await world.resume()).result == outcome.result


async def test_after_three_misfits_a_person_is_asked_and_a_resume_gives_three_more(tmp_path: Path) -> None:
    world = World(tmp_path / "r.git", Agent("a", result=int), lines(*[say("many")] * 5, say("7")))
    outcome = await world.run()
    (pending,) = outcome.pending
    assert (outcome.status, pending.gate, len(world.model.requests)) == (Status.SUSPENDED, "reply", 3)
    outcome = await world.resume()
    assert (outcome.status, outcome.result, len(world.model.requests)) == (Status.COMPLETED, 7, 6)


async def test_a_reply_streams_as_notices_that_never_reach_the_history(tmp_path: Path) -> None:
    world = World(tmp_path / "r.git", Agent("a"), lines(say("in two pieces")))
    await world.run()
    kinds = [type(notice) for notice in world.notices]
    assert kinds.index(Thinking) < kinds.index(Streamed)
    assert "".join(notice.text for notice in world.notices if isinstance(notice, Streamed)) == "in two pieces"
    assert len(world.history()) == 2


async def test_images_in_a_prompt_reach_the_model_unchanged(tmp_path: Path) -> None:
    parts = (
        Text(text="What is this?"),
        Image(image_url=ImageUrl(url="data:image/png;base64,iVBORw0KGgo=", detail="high")),
        Image(image_url=ImageUrl(url="https://example.com/cat.png")),
    )
    world = World(tmp_path / "r.git", Agent("a"), lines(say("a cat"), say("two cats")))
    await world.run(parts)
    world.loops().tell("x", parts, by=ADA)
    await world.resume()
    sent = [message.content for message in world.model.requests[-1].messages if isinstance(message, User)]
    assert sent == [parts, parts]


async def test_a_resumed_loop_sends_the_model_exactly_what_the_history_holds(tmp_path: Path) -> None:
    @tool(needs_approval=True)
    async def deploy(service: str) -> str:
        return "deployed"

    first = msgspec.structs.replace(
        ask_for(("deploy", {"service": "api"}), text="Shall I?"),
        message=Assistant(
            content="Shall I?",
            tool_calls=(request("deploy", '{ "service" :"api"}', "call_abc"),),
            native={"responses": [{"type": "reasoning", "encrypted_content": "…"}]},
        ),
    )
    world = World(tmp_path / "r.git", Agent("a", tools=[deploy]), lines(first, say("done")))
    await world.run()
    world.loops().approve("x.deploy-1", by=ADA)
    await world.resume()
    assert world.model.requests[1].messages[1] == first.message
    assert world.model.requests[1].messages[:1] == world.model.requests[0].messages
    assert world.model.requests[1].messages == world.state().messages[:-1]


# What is none --------------------------------------------------------------------------------------------------------


def plain(text: str) -> str:
    """A function that nobody made a tool of."""
    return text


@pytest.mark.parametrize(
    ("given", "hint"),
    [
        (plain, "@tool"),
        (Agent("ops"), "ops.as_tool("),
        ("deploy", "a list of tools"),
    ],
)
def test_what_is_no_tool_is_refused_with_what_would_make_it_one(given: Any, hint: str) -> None:
    with pytest.raises(BadAgent, match=r"Agent lead has .* among its tools") as refused:
        Agent("lead", tools=[given])
    assert hint in refused.value.hint


async def test_a_models_name_is_no_model_and_an_agents_name_no_agent(tmp_path: Path) -> None:
    name: Any = "gpt-5"
    with pytest.raises(BadAgent, match="Agent lead has 'gpt-5' for a model") as refused:
        Agent("lead", model=name)
    assert "OpenAIModel('gpt-5')" in refused.value.hint
    wrong: list[tuple[Any, Any, str]] = [([], name, "The runtime has 'gpt-5' for a model"), (["lead"], None, "'lead'")]
    for agents, model, said in wrong:
        with pytest.raises(BadAgent, match=said):
            async with Runtime.open(tmp_path / "x.git", agents=agents, model=model):
                pass
    assert not (tmp_path / "x.git").exists()


async def test_a_prompt_that_is_no_text_begins_no_loop(tmp_path: Path) -> None:
    given: Any = b"Ship it."
    world = World(tmp_path / "r.git", Agent("a"), lines(say("done")))
    with pytest.raises(WrongType, match=r"expected `str.*`, got `bytes`"):
        await world.run(given)
    assert world.loops().all() == []
    assert world.model.requests == []
