"""What a person sees of compactions: by hand, in ``show``, in git's own diffs, and when there is nothing to do."""

import subprocess
from pathlib import Path

import pytest

from tests.cli_process import Shell

ROOT = Path(__file__).parent.parent
CODE = f"""\
import sys

sys.path.insert(0, {str(ROOT)!r})

from caesura import Agent, Compaction, drop_tool_results, tool
from tests.cli_agents import Script


@tool
def read(page: int) -> str:
    \"\"\"Read a page.\"\"\"
    return f"page {{page}} " + "word " * 400


@tool(needs_approval=True)
def burn(page: int) -> str:
    \"\"\"Burn a page.\"\"\"
    return f"burnt {{page}}"


def answer(results, prompt):
    if len(results) < 4:
        return [("read", {{"page": len(results) + 1}})]
    return [("burn", {{"page": 1}})] if len(results) == 4 else f"Done: {{results[-1]}}"


ops = Agent("ops", tools=[read, burn], model=Script(answer))
soon = Compaction(at=100, by=drop_tool_results(keep=1))
thrifty = Agent("thrifty", tools=[read, burn], model=Script(answer), compaction=soon)
"""


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    made = Shell(tmp_path)
    (tmp_path / "agents.py").write_text(CODE)
    (tmp_path / "caesura.toml").write_text('agents = "agents.py:ops"\n')
    assert made("init").status == 0
    assert made("run", "Read.", "--loop", "x").status == 3
    return made


def test_a_loop_that_waits_is_compacted_shown_and_goes_on(shell: Shell) -> None:
    told = shell("compact", "x", "--keep", "1", "--by", "Grace <grace@example.com>")
    assert (told.status, told.err) == (0, "")
    assert told.out.splitlines()[0] == "Compacted x: what tools returned is left out, but for the newest 1 result."
    shown = shell("show", "x").out
    assert "its messages were compacted once; all of them are in its earlier commits" in shown
    assert shown.count("[2,007 characters, left out to save room]") == 3
    assert "page 4 word" in shown
    assert "compacted" not in shell("show", "x~1").out
    diff = subprocess.run(
        ["git", "-C", shell.folder / ".caesura", "log", "-1", "-p", "--format=%an: %s", "loops/x"],
        env={**shell.environment, "PATH": shell.environment["PATH"]},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert diff.startswith("Grace: ops: compacted 3 of 10 messages\n")
    assert shell("approve", "x.burn-1", "--yes").status == 0
    assert shell("resume", "x").out == "Done: burnt 1\n"
    assert shell("verify").status == 0
    assert shell("fork", "x~4", "--name", "whole").status == 0


def test_what_was_left_out_before_is_nothing_to_leave_out(shell: Shell) -> None:
    """Else each compaction would be a commit, and would say of each result that it was as long as the note on it."""
    assert shell("compact", "x", "--keep", "1").status == 0
    before = shell("show", "x", "--json").json["commit"]
    told = shell("compact", "x", "--keep", "1")
    assert (told.status, "There is nothing to leave out of x" in told.err) == (1, True)
    assert shell("show", "x", "--json").json["commit"] == before
    assert [shell("compact", "x", "--keep", "0").status for _ in range(2)] == [0, 1]


def test_for_programs_it_says_what_the_other_commands_say(shell: Shell) -> None:
    told = shell("compact", "x", "--keep", "0", "--json").json
    assert (told["loop"], told["status"]) == ("x", "suspended")
    assert [one["id"] for one in told["pending"]] == ["x.burn-1"]


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (("x", "--keep", "4"), 1, "There is nothing to leave out of x, beside its newest 4 results."),
        (("x", "--keep=-1"), 2, "-1 results cannot be kept."),
        (("y",), 2, "There is no loop 'y'."),
    ],
)
def test_what_cannot_be_done_is_said_and_changes_nothing(
    shell: Shell, words: tuple[str, ...], status: int, said: str
) -> None:
    before = shell("show", "x", "--json").json["commit"]
    told = shell("compact", *words)
    assert said in told.err, told
    assert "hint: " in told.err
    assert told.status == status
    assert shell("show", "x", "--json").json["commit"] == before


def test_a_compaction_by_the_agent_is_shown_as_it_happens_and_as_text_by_git(shell: Shell) -> None:
    (shell.folder / "caesura.toml").write_text('agents = "agents.py:thrifty"\n')
    told = shell("run", "Read.", "--loop", "z")
    assert "thrifty: compacted 1 of" in told.err
    folder = shell.folder / ".caesura"
    text = subprocess.run(
        [*("git", "-C", folder, "show", "--textconv"), "loops/z:agent.json", "loops/z:continuation.json"],
        env=shell.environment,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert "compacts at 100 tokens: drop_tool_results(keep=1)" in text
    assert "\ncompactions 3\n" in text
