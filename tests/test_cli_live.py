"""The command line while it runs: signals, waiting for decisions, terminals."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from caesura.continuations import AgentChanged, GitStore, History, LoopName, Person, utc_now
from tests.cli_process import AGENTS, Shell, wait_for_line

HOLDER = f"{AGENTS}:holder"
ARROW = "\N{SINGLE RIGHT-POINTING ANGLE QUOTATION MARK}"


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path, CLI_TEST_FILE=str(tmp_path / "held"))


def end(process: "subprocess.Popen[str]") -> tuple[int, str, str]:
    out, err = process.communicate(timeout=300)
    return process.returncode, out, err


class TestSignals:
    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_the_first_one_lets_running_tools_finish(self, shell: Shell, number: signal.Signals) -> None:
        process = shell.start("run", HOLDER, "x", "--loop", "hold")
        wait_for_line(process, "running hold(")
        while not (shell.folder / "held").exists():
            os.sched_yield()
        process.send_signal(number)
        wait_for_line(process, "finishing 1 running tool; press Ctrl-C again to leave at once")
        (shell.folder / "held").unlink()
        status, out, err = end(process)
        assert (status, out) == (130, "")
        assert "hold returned: let go" in err
        assert "hold is interrupted" in err
        assert f"caesura resume hold --agents {HOLDER}" in err
        assert shell("resume", "hold", "--agents", HOLDER).out == "held: let go\n"

    def test_the_second_one_leaves_at_once_and_loses_nothing(self, shell: Shell) -> None:
        process = shell.start("run", HOLDER, "x", "--loop", "hold")
        wait_for_line(process, "running hold(")
        while not (shell.folder / "held").exists():
            os.sched_yield()
        process.send_signal(signal.SIGINT)
        wait_for_line(process, "finishing 1 running tool")
        process.send_signal(signal.SIGINT)
        status, out, err = end(process)
        assert (status, out) == (130, "")
        assert "Left at once; every step so far is committed." in err
        assert f"caesura resume hold --agents {HOLDER}" in err
        assert (shell.folder / "held").exists()
        told = shell("resume", "hold", "--agents", HOLDER)
        assert told.status == 3
        assert "does not know whether this ran" in told.err
        for way in ("# it did not: run it", "# it ran, with this result", "# give it up"):
            assert way in told.err
        assert shell("answer", "hold.hold-1", "by hand").status == 0
        assert shell("resume", "hold", "--agents", HOLDER).out == "held: by hand\n"

    def test_a_waiting_loop_is_left(self, shell: Shell) -> None:
        process = shell.start("run", f"{AGENTS}:it", "x", "--loop", "w", "--wait", "--json")
        wait_for_line(process, "it goes on here")
        process.send_signal(signal.SIGINT)
        status, out, _ = end(process)
        assert status == 130
        assert '"status": "suspended"' in out


def test_a_waiting_process_goes_on_as_decisions_arrive(shell: Shell) -> None:
    process = shell.start("run", f"{AGENTS}:lead", "x", "--loop", "w", "--wait")
    lines = "".join(wait_for_line(process, "it goes on here"))
    assert "caesura approve w.it-1.order-1" in lines
    assert shell("approve", "w.it-1.order-1", "--yes").status == 0
    status, out, _ = end(process)
    assert (status, out) == (0, "lead done: sent to ada | it done: ordered laptop for 2400\n")


class TestTerminal:
    def test_progress_moves_and_leaves_the_screen_as_it_was(self, shell: Shell) -> None:
        terminal = shell.terminal("run", f"{AGENTS}:lead", "x", "--loop", "t")
        assert terminal.end() == 3
        assert "\x1b[?25l" in terminal.screen  # the cursor is hidden,
        assert "\x1b[?25h" in terminal.screen  # and shown again
        assert f"lead {ARROW} it" in terminal.screen

    def test_tokens_stream(self, shell: Shell) -> None:
        terminal = shell.terminal("run", f"{AGENTS}:echo", "one two three", "--loop", "t", CLI_TEST_STREAM="0.15")
        terminal.until("answering")
        terminal.until("You said: one")
        assert terminal.end() == 0
        assert terminal.screen.endswith("You said: one two three\r\n")

    def test_no_color_means_no_colour(self, shell: Shell) -> None:
        assert shell("run", f"{AGENTS}:it", "x", "--loop", "t").status == 3
        coloured = shell.terminal("pending")
        assert coloured.end() == 0
        assert "\x1b[" in coloured.screen
        plain = shell.terminal("pending", NO_COLOR="1")
        assert plain.end() == 0
        assert "\x1b" not in plain.screen

    def test_hostile_text_commands_no_terminal(self, shell: Shell) -> None:
        terminal = shell.terminal("run", f"{AGENTS}:hostile", "x", "--loop", "h")
        assert terminal.end() == 3
        shown = shell.terminal("show", "h", "--full")
        assert shown.end() == 0
        for screen in (terminal.screen, shown.screen):
            assert "\x1b[1mtrust" not in screen
            assert "\x9b" not in screen
            assert "\u202e" not in screen
            assert "[bold]really[/bold]" in screen

    def test_yes_approves_and_anything_else_does_not(self, shell: Shell) -> None:
        assert shell("run", f"{AGENTS}:it", "x", "--loop", "t").status == 3
        for answer in ("", "n", "what?"):
            terminal = shell.terminal("approve", "t.order-1", NO_COLOR="1")
            terminal.until("Approve? [y/N] ")
            assert '"amount": 2400' in terminal.screen
            assert "Order something for the company." in terminal.screen
            terminal.type(answer)
            assert terminal.end() == 1
            assert "it still waits" in terminal.screen
        terminal = shell.terminal("approve", "t.order-1")
        terminal.until("Approve? [y/N] ")
        terminal.type("y")
        assert terminal.end() == 0
        assert "Approved t.order-1." in terminal.screen

    def test_a_reason_is_asked_for(self, shell: Shell) -> None:
        assert shell("run", f"{AGENTS}:it", "x", "--loop", "t").status == 3
        terminal = shell.terminal("reject", "t.order-1")
        terminal.until("for which reason?")
        terminal.type("too dear")
        assert terminal.end() == 0
        assert "too dear" in shell("resume", "t", "--agents", f"{AGENTS}:it").out

    def test_an_answer_is_asked_for(self, shell: Shell) -> None:
        assert shell("run", f"{AGENTS}:asker", "x", "--loop", "q").status == 3
        terminal = shell.terminal("answer", "q.agree-1")
        terminal.until("Answer: ")
        terminal.type("false")
        assert terminal.end() == 0

    def test_the_editor_is_offered_again(self, shell: Shell) -> None:
        assert shell("run", f"{AGENTS}:it", "x", "--loop", "t").status == 3
        script = shell.folder / "editor.py"
        script.write_text(
            "import pathlib, sys\nfile = pathlib.Path(sys.argv[1])\ntext = file.read_text()\n"
            "file.write_text('{' if 'laptop' in text else '{\"item\": \"mouse\", \"amount\": 9}')\n"
        )
        terminal = shell.terminal("approve", "t.order-1", "--edit", VISUAL=f"{sys.executable} {script}")
        terminal.until("Edit again? [Y/n] ")
        assert "This is not JSON" in terminal.screen
        terminal.type("")
        terminal.until("Approve? [y/N] ")
        terminal.type("y")
        assert terminal.end() == 0
        assert "ordered mouse for 9" in shell("resume", "t", "--agents", f"{AGENTS}:it").out

    def test_ctrl_c_at_a_question_decides_nothing(self, shell: Shell) -> None:
        assert shell("run", f"{AGENTS}:it", "x", "--loop", "t").status == 3
        terminal = shell.terminal("approve", "t.order-1")
        terminal.until("Approve? [y/N] ")
        terminal.interrupt()
        assert terminal.end() == 130
        assert shell("pending", "--json").json["pending"]

    @pytest.mark.parametrize("change", ["decision", "tool"])
    def test_a_decision_is_bound_to_what_was_shown(self, shell: Shell, change: str) -> None:
        assert shell("run", f"{AGENTS}:it", "x", "--loop", "t").status == 3
        terminal = shell.terminal("approve", "t.order-1")
        terminal.until("Approve? [y/N] ")
        CHANGES[change](shell)
        terminal.type("y")
        assert terminal.end() in (1, 2)
        assert "error: " in terminal.screen
        assert "Approved" not in terminal.screen


def reject_meanwhile(shell: Shell) -> None:
    assert shell("reject", "t.order-1", "--reason", "no").status == 0


def change_the_tool(shell: Shell) -> None:
    store = GitStore.open(shell.folder / ".caesura")
    history = History(store)
    saved = history.load(LoopName("t"))
    (tool,) = saved.state.definition.tools
    changed = msgspec.structs.replace(tool, description="Something else entirely.")
    definition = msgspec.structs.replace(saved.state.definition, tools=(changed,))
    worker = Person(name="worker", email="worker@example.com")
    history.apply(saved, AgentChanged(at=utc_now(), definition=definition), worker)
    store.close()


CHANGES: dict[str, Callable[[Shell], None]] = {"decision": reject_meanwhile, "tool": change_the_tool}
