"""The scripted model of the documentation: ``python -m tests.documentation_server`` serves it and prints its URL."""

import sys
from typing import Any

import trio

from caesura.adapters.demo import serve_script


def script(request: dict[str, Any]) -> dict[str, Any]:
    """Answer as the agents of README.md, docs/tutorial.md and docs/ways-out.md would be answered by a model."""
    system, *messages = request["messages"]
    results = [message["content"] for message in messages if message["role"] == "tool"]
    told = messages[-1]["content"] if messages[-1]["role"] == "user" else ""
    if system["content"].startswith("You write"):
        return _writer(results, system["content"] + told, request["model"])
    if system["content"].startswith("You plan"):
        return _lead(results, told)
    if system["content"].startswith("You read logs"):
        return _auditor(results)
    if system["content"].startswith("You summarize"):
        return _say(f"The logs up to {_day(told)} were read: every request was answered with 200 within 0.01 s.")
    if system["content"].startswith("You mend"):
        return _coder(results, [message["content"] for message in messages if message["role"] == "user"])
    if system["content"].startswith("You share out"):
        return _divider(results)
    if system["content"].startswith("You change one"):
        return _changer(results, messages[0]["content"])
    if system["content"].startswith("You build"):
        return _builder(results)
    if system["content"].startswith("You proofread"):
        return _proofreader(results)
    if system["content"].startswith("You are polite"):
        return _polite(results)
    if not results and system["content"].startswith("You check"):
        return _call("First a look at its health.", "check", service="api")
    return _ops(results)


def _coder(results: list[str], told: list[str]) -> dict[str, Any]:
    """Mend the mean of numbers: for three of them, unless it is told that there can be more, or none."""
    new = "3" if "any number" not in told[-1] else "max(len(numbers), 1)" if "none" in told[-1] else "len(numbers)"
    steps = [
        _call("What does it do?", "run_command", command="python3 -m unittest -q"),
        _call(f"The sum is divided by 2, not by {new}.", "edit_file", path="calc.py", old="/ 2", new=f"/ {new}"),
        _call("And now?", "run_command", command="python3 -m unittest -q"),
    ]
    if "any number" not in told[-1]:
        steps.append(_call("It passes. I note it.", "run_command", command="echo 'mean() is mended' >> CHANGES"))
    return steps[len(results)] if len(results) < len(steps) else _say("mean() is mended.")


def _divider(results: list[str]) -> dict[str, Any]:
    if not results:
        calls = [("coder", {"prompt": "Translate hello."}), ("coder", {"prompt": "Translate bye."})]
        note = {"path": "CHANGES", "old": "English", "new": "English and French"}
        return _calls("One greeting each. I note it.", *calls, ("edit_file", note))
    if len(results) == 3:
        new = "French; hello is bonjour"
        return _call("Of the note, both are right.", "edit_file", path="CHANGES", old="English and French", new=new)
    return _say("It speaks French.")


def _changer(results: list[str], prompt: str) -> dict[str, Any]:
    steps = [_call("", "edit_file", path="greet.py", old='"Bye', new='"Au revoir')]
    if "hello" in prompt:
        steps = [
            _call("", "edit_file", path="greet.py", old='"Hello', new='"Bonjour'),
            _call("", "edit_file", path="CHANGES", old="English", new="English; hello is bonjour"),
        ]
    return steps[len(results)] if len(results) < len(steps) else _say("It is translated.")


def _builder(results: list[str]) -> dict[str, Any]:
    steps = [
        _call("", "run_command", command="cp page.txt build/page.txt"),
        _call("It is built. Is it right?", "proofreader", prompt="Read what is built, and mend what it is built from."),
    ]
    return steps[len(results)] if len(results) < len(steps) else _say("It is built and read.")


def _proofreader(results: list[str]) -> dict[str, Any]:
    steps = [
        _call("", "run_command", command="cat build/page.txt"),
        _call("", "edit_file", path="page.txt", old="Helo", new="Hello"),
    ]
    return steps[len(results)] if len(results) < len(steps) else _say("One letter was missing.")


def _polite(results: list[str]) -> dict[str, Any]:
    steps = [
        _call("First a note.", "write_file", path="README", content="greet(name) greets, politely.\n"),
        _call("Now the greeting.", "edit_file", path="greet.py", old='"Hello "', new='"Dear "'),
    ]
    return steps[len(results)] if len(results) < len(steps) else _say("It greets politely.")


def _lead(results: list[str], told: str) -> dict[str, Any]:
    if not results:
        return _call("ops can do that.", "ops", prompt="Deploy api 1.4.")
    if "who" in told:
        return _call("I do not know whom to write to.", "ask", question="Who should hear about the release?")
    if len(results) > 1:
        return _say(f"I'll let {results[-1]} know.")
    return _say(results[0])


def _ops(results: list[str]) -> dict[str, Any]:
    if not results:
        return _call("1.4 can go out.", "deploy", service="api", version="1.4")
    if len(results) == 1 and "healthy" in results[0]:
        return _call("api is healthy, so 1.4 can go out.", "deploy", service="api", version="1.4")
    if results[-1].startswith("Rejected"):
        return _say(f"api stays as it is. {results[-1].removesuffix(' The call did not run.')}")
    return _say(f"Done: {results[-1]}")


_DAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday"]


def _auditor(results: list[str]) -> dict[str, Any]:
    """Read one day's log after the other; which was last is read from what it is still shown."""
    day = _day(results[-1]) if results else ""
    if day == _DAYS[-1]:
        return _say("Nothing was wrong this week.")
    return _call("", "read_log", day=_DAYS[_DAYS.index(day) + 1 if day else 0])


def _day(text: str) -> str:
    """The last day of which a log is in a text."""
    return max((day for day in _DAYS if f"{day}:" in text), key=_DAYS.index)


def _writer(results: list[str], asked: str, model: str) -> dict[str, Any]:
    if not results:
        return _call("First a look at what has changed.", "changes", version="1.4")
    if "list" in asked:
        return _say("- starts twice as fast\n- keeps drafts when it is closed")
    if "fewer words" in asked:
        return _say("1.4 is better.")
    if model == "large":
        return _say("1.4 starts twice as fast, and keeps your drafts.")
    return _say("Version 1.4 brings many improvements that you will love!")


def _say(content: str) -> dict[str, Any]:
    return {"content": content}


def _call(content: str, name: str, /, **arguments: str) -> dict[str, Any]:
    return _calls(content, (name, arguments))


def _calls(content: str, *calls: tuple[str, dict[str, str]]) -> dict[str, Any]:
    return {"content": content, "tool_calls": [{"name": name, "arguments": asked} for name, asked in calls]}


async def main() -> None:
    """Serve until standard input is closed."""
    async with trio.open_nursery() as nursery:
        url = await nursery.start(lambda task_status: serve_script(script, task_status=task_status))
        sys.stdout.write(f"{url}\n")
        sys.stdout.flush()
        await trio.to_thread.run_sync(sys.stdin.read, abandon_on_cancel=True)
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(main)
