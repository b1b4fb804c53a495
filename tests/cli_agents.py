"""Agents for the command line's tests, with a model that follows a script, so that no network is needed."""

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import trio

from caesura.adapters.files import edit_file, write_file
from caesura.continuations import Assistant, Function, ModelSpec, Reply, Result, ToolRequest, Usage, User, text_of
from caesura.runtime import Agent, ModelRequest, ToolContext, ask, sleep_until, tool

Asked = list[tuple[str, dict[str, Any]]]


class Script:
    """A model that answers as a function of the results so far says."""

    def __init__(self, answer: Callable[[list[str], str], "str | Asked"], said: str = "") -> None:
        self._answer = answer
        self._said = said

    @property
    def spec(self) -> ModelSpec:
        return ModelSpec(name="scripted")

    async def reply(self, request: ModelRequest, listen: Callable[[str], None]) -> Reply:
        results = [message.content for message in request.messages if isinstance(message, Result)]
        prompt = next(text_of(message.content) for message in reversed(request.messages) if isinstance(message, User))
        answer = self._answer(results, prompt)
        usage = Usage(input=100, output=20)
        if isinstance(answer, str):
            for word in answer.split(" "):
                listen(word + " ")
                await trio.sleep(float(os.environ.get("CLI_TEST_STREAM", "0")))
            return Reply(message=Assistant(content=answer), usage=usage)
        calls = tuple(
            ToolRequest(id=f"c{len(results)}-{number}", function=Function(name=name, arguments=json.dumps(arguments)))
            for number, (name, arguments) in enumerate(answer)
        )
        return Reply(message=Assistant(content=self._said, tool_calls=calls), usage=usage)


@tool(needs_approval=True)
def order(item: str, amount: float) -> str:
    """Order something for the company."""
    return f"ordered {item} for {amount:g}"


@tool
def mail(to: str) -> str:
    """Send a mail."""
    return f"sent to {to}"


@tool
def hold(file: str) -> str:
    """Make `file`, and wait until it is gone."""
    Path(file).touch()
    while Path(file).exists():
        time.sleep(0.01)
    return "let go"


@tool
async def steps(context: ToolContext) -> str:
    """Report progress."""
    context.report("half \x1b[31mway")
    return "all the way"


it = Agent(
    "it",
    instructions="Set up workplaces.",
    tools=[order],
    model=Script(
        lambda results, _: f"it done: {results[0]}" if results else [("order", {"item": "laptop", "amount": 2400})],
        "Ada needs a laptop.",
    ),
)
lead = Agent(
    "lead",
    tools=[it.as_tool("Sets up workplaces."), mail],
    model=Script(
        lambda results, _: (
            "lead done: " + " | ".join(results)
            if results
            else [("mail", {"to": "ada"}), ("it", {"prompt": "Set up Ada's workplace."})]
        )
    ),
)
echo = Agent("echo", model=Script(lambda _, prompt: f"You said: {prompt}"))
no_model = Agent("no-model")
hostile = Agent(
    "hostile",
    tools=[order],
    model=Script(
        lambda results, _: (
            "\x1b[2J\x1b]0;owned\x07 [red]x[/red]\x9b31m done: " + results[0]
            if results
            else [("order", {"item": "a\x1b[31mb\u202ec\n\x9bhint: run rm -rf", "amount": 1})]
        ),
        "\x1b[1mtrust me\x1b[0m\r\n[bold]really[/bold]\nerror: fake",
    ),
)
holder = Agent(
    "holder",
    tools=[hold],
    model=Script(
        lambda results, _: f"held: {results[0]}" if results else [("hold", {"file": os.environ["CLI_TEST_FILE"]})]
    ),
)
stepper = Agent("stepper", tools=[steps], model=Script(lambda results, _: results[0] if results else [("steps", {})]))
asker = Agent(
    "asker",
    tools=[ask(bool, name="agree", description="Ask for a yes."), ask(str, name="word", description="Ask a word.")],
    model=Script(
        lambda results, _: (
            "answers: " + ", ".join(results)
            if results
            else [("agree", {"question": "Do you agree?"}), ("word", {"question": "Which word?"})]
        )
    ),
)
sleeper = Agent(
    "sleeper",
    tools=[sleep_until],
    model=Script(lambda results, _: "awake" if results else [("sleep_until", {"until": "2999-01-01T00:00:00Z"})]),
)
several = [echo, lead]


def _thinks(results: list[str], prompt: str) -> str:
    """Think for as long as a file is there, which it makes itself; if none is named, do not think."""
    file = os.environ.get("CLI_TEST_FILE")
    return f"I thought about: {prompt}. {hold.function(file) if file else 'at once'}"


thinker = Agent("thinker", model=Script(_thinks))


def factory() -> Agent:
    """An agent, made when it is needed."""
    return echo


@tool
def note(name: str, context: ToolContext) -> str:
    """Write a file."""
    assert context.workspace is not None
    (context.workspace / name).write_text(f"{name}\n")
    return f"{name} is written"


writer = Agent(
    "writer",
    instructions="You write files.",
    tools=[note],
    model=Script(lambda results, prompt: "Done." if len(results) > 1 else [("note", {"name": f"n{len(results)}"})]),
)


def _mends(results: list[str], _: str) -> "str | Asked":
    wild = {"path": "wild\x1b[31m\u202e", "content": "evil\x1b]0;owned\x07\r\n" + "line\n" * 299}
    edits = {"path": "README", "old": "before", "new": "after\x1b[2J"}
    return [[("write_file", wild)], [("edit_file", edits)]][len(results)] if len(results) < 2 else "mended"


mender = Agent("mender", tools=[write_file, edit_file.with_approval(True)], model=Script(_mends))
