"""What a person sees and types when the code of an agent is not what its loop knows."""

import shutil
from pathlib import Path

import pytest

from tests.cli_process import Shell

ROOT = Path(__file__).parent.parent
CODE = f"""\
import sys

sys.path.insert(0, {str(ROOT)!r})

from caesura import Agent, ask, tool
from tests.cli_agents import Script


@tool(needs_approval=True)
def order(item: str) -> str:
    \"\"\"Order something.\"\"\"
    return f"ordered {{item}}"


ops = Agent(
    "ops",
    "Be brief.",
    tools=[order],
    model=Script(lambda results, _: f"done: {{results[0]}}" if results else [("order", {{"item": "tea"}})]),
)
"""
DROPPED = ("needs_approval=True", "needs_approval=False")
RETOLD = ('"Be brief."', '"Be brief.\\nBe \\x1b[31mkind."')
GONE = ("tools=[order]", "tools=[ask()]")
RENAMED = ('ops = Agent(\n    "ops"', 'ops = Agent(\n    "operations"')
SETTINGS = 'agents = "agents.py:ops"\n'


class Desk(Shell):
    """A folder with an agent's code, and a loop of it whose one call was decided on."""

    def __init__(self, folder: Path, choice: tuple[str, ...] = ("reject", "--reason", "no")) -> None:
        super().__init__(folder)
        self.settings("")
        self.code()
        assert self("run", "go", "--loop", "x").status == 3
        assert self(choice[0], "x.order-1", *choice[1:]).status == 0

    def settings(self, changes: str) -> None:
        (self.folder / "caesura.toml").write_text(f"{SETTINGS}\n{changes}\n")

    def code(self, *edits: tuple[str, str]) -> None:
        text = CODE
        for old, new in edits:
            assert old in text
            text = text.replace(old, new)
        (self.folder / "agents.py").write_text(text)
        # Python takes a compiled file for this one's if both are of one second and one length.
        shutil.rmtree(self.folder / "__pycache__", ignore_errors=True)


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def test_a_changed_contract_is_shown_and_goes_on_once_it_is_approved(desk: Desk) -> None:
    desk.code(DROPPED, RETOLD)
    told = desk("resume", "x")
    assert told.status == 3
    for screen in (told.err, desk("pending").out):
        assert "the agent's code has changed: instructions changed; tool order changed" in screen
        assert "-     needs approval: always".replace("-     ", "- ") in screen
        assert "+ needs approval: never" in screen
        assert "+ Be \N{REPLACEMENT CHARACTER}[31mkind." in screen
        assert "caesura approve x.gate-1" in screen
        assert "# go on with the code as it is now" in screen
        assert "# refuse it: the loop waits for other code" in screen
        assert "caesura cancel x" in screen
    (asked,) = desk("pending", "--json").json["pending"]
    assert asked["gate"] == "change"
    assert "  + needs approval: never" in asked["change"]["lines"]
    approved = desk("approve", "x.gate-1", "--yes")
    assert "+ needs approval: never" in approved.err
    assert "Approved x.gate-1." in approved.out
    assert desk("resume", "x").out.startswith("done: Rejected by Ada Tester")


def test_a_rejected_change_leaves_the_loop_waiting_for_other_code_and_says_so(desk: Desk) -> None:
    desk.code(DROPPED)
    assert desk("resume", "x").status == 3
    rejected = desk("reject", "x.gate-1", "--reason", "not reviewed")
    assert rejected.status == 0
    assert "refused by Ada Tester: not reviewed." in rejected.out
    assert "has failed" not in rejected.out
    told = desk("resume", "x")
    assert told.status == 3
    assert "# once its code is another one" in told.err
    assert "caesura approve" not in told.err
    assert desk("resume", "x", "--adopt").status == 3
    again = desk("approve", "x.gate-1", "--yes")
    assert again.status == 1
    assert "already rejected by Ada Tester" in again.err
    assert "was rejected before" in desk("reject", "x.gate-1", "--reason", "again").out
    desk.code()
    assert desk("resume", "x").status == 0


@pytest.mark.parametrize(
    ("settings", "edit", "status", "said"),
    [
        ("[changes]\ncontract = 'adopt'", DROPPED, 0, ""),
        ("", RETOLD, 0, ""),
        ("[changes]\nguidance = 'ask'", RETOLD, 3, "instructions changed"),
        (
            "[changes]\nguidance = 'refuse'",
            RETOLD,
            1,
            "The code of agent ops is not what x knows: instructions changed.",
        ),
    ],
)
def test_the_settings_say_what_becomes_of_a_change(
    desk: Desk, settings: str, edit: tuple[str, str], status: int, said: str
) -> None:
    desk.settings(settings)
    desk.code(edit)
    told = desk("resume", "x")
    assert told.status == status
    assert said in told.err
    assert desk("resume", "x", "--adopt").status == 0


def test_settings_that_make_no_sense_are_refused_by_name(desk: Desk) -> None:
    desk.settings("[changes]\nvanished = 'adopt'")
    told = desk("resume", "x")
    assert told.status == 2
    assert "vanished" in told.err


def test_an_open_call_of_a_vanished_tool_is_refused_with_the_command_that_lets_it_end(tmp_path: Path) -> None:
    desk = Desk(tmp_path, ("approve", "--yes"))
    desk.code(GONE)
    told = desk("resume", "x")
    assert told.status == 1
    assert "x.order-1 is approved, but agent ops has no tool 'order' any more." in told.err
    assert "'caesura resume x --adopt'" in told.err
    adopted = desk("resume", "x", "--adopt")
    assert adopted.out == "done: Error: the agent no longer has the tool 'order'. The call did not run.\n"


def test_a_renamed_agent_is_gone_on_with_as_the_settings_tell(desk: Desk) -> None:
    desk.code(RENAMED)
    told = desk("resume", "x")
    assert told.status == 2
    assert "There is no agent 'ops'" in told.err
    assert "renamed" in told.err
    desk.settings("[changes]\nrenamed = { ops = 'operations' }")
    assert desk("resume", "x").status == 0
