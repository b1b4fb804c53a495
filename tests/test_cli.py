"""The command line in one process after another: happy paths, errors, exit statuses, shapes for programs."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from caesura.adapters.cli import reference
from caesura.adapters.cli._commands import COMMANDS
from caesura.adapters.cli._cyclopts import alone
from tests.cli_process import AGENTS, Shell

LEAD, ORDER = f"{AGENTS}:lead", "onboard.it-1.order-1"


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path)


@pytest.fixture
def onboard(shell: Shell) -> Shell:
    assert shell("run", LEAD, "Onboard Ada", "--loop", "onboard").status == 3
    return shell


def say_hello(shell: Shell) -> None:
    assert shell("run", f"{AGENTS}:echo", "hello", "--loop", "hello").status == 0


class TestRunAndResume:
    def test_a_loop_runs_suspends_is_approved_and_completes(self, shell: Shell) -> None:
        told = shell("run", LEAD, "Onboard Ada", "--loop", "onboard")
        assert (told.status, told.out) == (3, "")
        assert "onboard.it-1  it: approval requested: order(" in told.err
        assert "lead \N{SINGLE RIGHT-POINTING ANGLE QUOTATION MARK} it wants approval" in told.err
        assert 'order(item="laptop", amount=2400)' in told.err
        assert "Ada needs a laptop." in told.err
        assert f"caesura approve {ORDER}\n" in told.err
        assert f'caesura reject {ORDER} --reason "…"' in told.err
        assert f"then: caesura resume onboard --agents {LEAD}\n" in told.err
        told = shell("approve", ORDER, "--yes", "--note", "fine")
        assert told.status == 0
        assert "caesura resume onboard" in told.out
        told = shell("resume", "onboard", "--agents", LEAD)
        assert told.status == 0
        assert told.out == "lead done: sent to ada | it done: ordered laptop for 2400\n"
        assert "onboard completed: 4 model calls, 480 tokens" in told.err

    def test_the_commands_to_paste_name_the_repository_if_it_was_named(self, shell: Shell) -> None:
        told = shell("run", LEAD, "x", "--loop", "x", "--repo", "some where.git")
        assert "caesura approve x.it-1.order-1 --repo 'some where.git'" in told.err
        assert f"then: caesura resume x --agents {LEAD} --repo 'some where.git'" in told.err
        assert shell("loops", "--json", CAESURA_REPO="some where.git").json["loops"][0]["loop"] == "x"

    def test_json_has_everything(self, shell: Shell) -> None:
        told = shell("run", LEAD, "Onboard Ada", "--loop", "onboard", "--json")
        assert told.status == 3
        assert set(told.json) == {"loop", "status", "text", "result", "pending", "spent", "commit"}
        assert (told.json["loop"], told.json["status"], told.json["text"]) == ("onboard", "suspended", "")
        (request,) = told.json["pending"]
        assert request["id"] == ORDER
        assert request["kind"] == "approval"
        assert request["path"] == ["lead", "it"]
        assert request["root"] == "onboard"
        assert request["arguments"] == {"item": "laptop", "amount": 2400}
        assert told.json["spent"]["tokens"] == 240

    def test_a_prompt_comes_from_standard_input(self, shell: Shell) -> None:
        told = shell("run", f"{AGENTS}:echo", "-", said="from a pipe")
        assert (told.status, told.out) == (0, "You said: from a pipe\n")
        assert shell("run", f"{AGENTS}:echo", "-").status == 2
        assert shell("run", f"{AGENTS}:echo", "--", "--odd").out == "You said: --odd\n"

    def test_a_spent_budget_suspends_until_it_is_extended(self, shell: Shell) -> None:
        told = shell("run", LEAD, "x", "--loop", "x", "--budget-steps", "1", "--json")
        assert told.status == 3
        gate = next(request for request in told.json["pending"] if request["kind"] == "gate")
        assert gate["gate"] == "budget"
        assert "# allow as much again" in shell("pending").out
        assert shell("approve", gate["id"], "--yes").status == 0
        assert shell("run", LEAD, "x", "--budget-steps", "0").status == 2

    def test_what_tools_print_is_no_result(self, shell: Shell) -> None:
        (shell.folder / "loud.py").write_text(
            f"import sys; sys.path.insert(0, {str(AGENTS.parent)!r})\nfrom cli_agents import echo\nprint('noise')\n"
        )
        told = shell("run", "loud.py:echo", "hi", "--json")
        assert told.json["text"] == "You said: hi"
        assert "noise" in told.err

    def test_failed_and_cancelled_loops_exit_with_1(self, onboard: Shell) -> None:
        assert onboard("cancel", "onboard", "--reason", "not any more").out == "Cancelled onboard.\n"
        told = onboard("resume", "onboard", "--agents", LEAD)
        assert told.status == 1
        assert "was cancelled: not any more" in told.err

    def test_a_key_is_missed_before_a_loop_is_started(self, shell: Shell) -> None:
        told = shell("run", f"{AGENTS}:no_model", "x")
        assert told.status == 2
        assert "--model" in told.err
        told = shell("run", f"{AGENTS}:no_model", "x", "--model", "gpt-5")
        assert told.status == 2
        assert "OPENAI_API_KEY" in told.err
        assert not (shell.folder / ".caesura").exists()


class TestNamingAgents:
    def test_settings_name_agents_once(self, shell: Shell) -> None:
        (shell.folder / "caesura.toml").write_text(f'agents = ["{AGENTS}:echo", "{LEAD}"]\nrepo = "r.git"\n')
        below = shell.folder / "below"
        below.mkdir()
        shell.folder = below
        assert shell("run", "hi").out == "You said: hi\n"
        told = shell("run", "it", "set up", "--loop", "it")
        assert told.status == 3
        assert "then: caesura resume it\n" in told.err
        assert shell("run", "--agent", "lead", "x", "--loop", "l").status == 3
        assert (below.parent / "r.git").is_dir()
        assert shell("reject", "it.order-1", "--reason", "no").out.endswith("go on: caesura resume it\n")
        assert "Rejected by Ada Tester: no." in shell("resume", "it").out
        told = shell("run", "nobody", "x")
        assert (told.status, "There is no agent 'nobody'" in told.err) == (2, True)

    def test_pyproject_will_do(self, shell: Shell) -> None:
        (shell.folder / "pyproject.toml").write_text(f'[tool.caesura]\nagents = "{AGENTS}:factory"\n')
        assert shell("run", "hi").out == "You said: hi\n"

    @pytest.mark.parametrize(
        ("text", "told"),
        [
            ("agnets = 1", "agnets"),
            ('api = "soap"', "soap"),
            ("agents = ", "is not TOML"),
            ('model = ""', "name is empty"),
        ],
    )
    def test_bad_settings_are_refused(self, shell: Shell, text: str, told: str) -> None:
        (shell.folder / "caesura.toml").write_text(text)
        failed = shell("loops")
        assert failed.status == 2
        assert told in failed.err
        assert "hint: " in failed.err

    @pytest.mark.parametrize(
        ("spec", "told"),
        [
            ("missing.py:x", "There is no file missing.py."),
            ("no_such_package:x", "There is no module no_such_package."),
            (f"{AGENTS}:ech", ":echo?"),
            (f"{AGENTS}:AGENT", "defines no 'AGENT'"),
            (f"{AGENTS}:Script", "is no agent"),
            (str(AGENTS), "Name one of them: "),
            ("json.py:x", "loaded already"),
            ("broken.py:x", "broken.py, line 2: raise SystemExit"),
            ("typo.py:x", "typo.py, line 1: def ("),
            ("bad.py:x", "bad.py, line 2: Agent"),
        ],
    )
    def test_what_is_wrong_with_a_module_is_one_sentence_and_the_line(self, shell: Shell, spec: str, told: str) -> None:
        (shell.folder / "broken.py").write_text("if True:\n    raise SystemExit('no')\n")
        (shell.folder / "typo.py").write_text("def (\n")
        (shell.folder / "json.py").touch()
        (shell.folder / "bad.py").write_text("from caesura import Agent\nAgent('a b')\n")
        environment = {"PYTHONSAFEPATH": "1"}  # else the folder's json.py is everybody's
        failed = shell("run", spec, "hi", **environment)
        assert failed.status == 2
        assert told in failed.err
        assert failed.err.count("\n") == 2

    def test_a_tool_that_is_named_as_an_agent_is_not_run(self, shell: Shell) -> None:
        (shell.folder / "acts.py").write_text(
            "from caesura import tool\n@tool(needs_approval=True)\ndef act() -> str:\n"
            "    open('acted', 'w').close()\n    return 'done'\n"
        )
        failed = shell("run", "acts.py:act", "hi")
        assert (failed.status, "acts.py:act is no agent." in failed.err) == (2, True)
        assert not (shell.folder / "acted").exists()

    def test_a_list_a_factory_and_a_package_name_agents(self, shell: Shell) -> None:
        assert shell("run", f"{AGENTS}:several", "hi").out == "You said: hi\n"
        package = shell.folder / "company"
        package.mkdir()
        (package / "__init__.py").touch()
        (package / "staff.py").write_text(AGENTS.read_text())
        assert shell("run", "company.staff:factory", "hi").out == "You said: hi\n"

    def test_a_repository_never_names_code(self, onboard: Shell) -> None:
        told = onboard("resume", "onboard")
        assert told.status == 2
        assert "No agent is named." in told.err
        assert f"hint: It was driven last by: caesura resume onboard --agents {LEAD}\n" in told.err
        elsewhere = onboard("resume", "onboard", "--agents", f"{AGENTS}:echo")
        assert "There is no agent 'lead'." in elsewhere.err
        assert f"caesura resume onboard --agents {LEAD}\n" in elsewhere.err


class TestDeciding:
    def test_nobody_to_ask_is_an_error(self, onboard: Shell) -> None:
        told = onboard("approve", ORDER)
        assert told.status == 2
        assert "--yes" in told.err
        told = onboard("reject", ORDER)
        assert told.status == 2
        assert "--reason" in told.err

    def test_the_first_decision_stands(self, onboard: Shell) -> None:
        assert onboard("approve", ORDER, "--yes", "--by", "Bob <bob@example.com>").status == 0
        assert "was approved before" in onboard("approve", ORDER, "--yes").out
        told = onboard("reject", ORDER, "--reason", "no")
        assert told.status == 1
        assert "already approved by Bob at" in told.err
        assert onboard("approve", ORDER, "--yes", "--arguments", '{"item": "x", "amount": 1}').status == 1

    def test_arguments_are_replaced_and_the_model_is_told(self, onboard: Shell) -> None:
        bad = onboard("approve", ORDER, "--yes", "--arguments", '{"item": "laptop", "amount": "much"}')
        assert bad.status == 2
        assert "amount" in bad.err
        assert onboard("approve", ORDER, "--yes", "--arguments", "{").status == 2
        assert onboard("approve", ORDER, "--yes", "--arguments", "[]").status == 2
        assert onboard("approve", ORDER, "--yes", "--arguments", '{"item": "mouse", "amount": 9}').status == 0
        assert "ordered mouse for 9" in onboard("resume", "onboard", "--agents", LEAD).out

    def test_the_editor_changes_arguments(self, onboard: Shell, tmp_path: Path) -> None:
        script = tmp_path / "editor.sh"
        script.write_text("#!/bin/sh\nsed -i 's/laptop/mouse/; s/2400/'$NUMBER'/' \"$1\"\n")
        script.chmod(0o755)
        environment = {"EDITOR": str(script), "VISUAL": ""}
        assert onboard("approve", ORDER, "--yes", "--edit", NUMBER="'}'", **environment).status == 2
        assert onboard("approve", ORDER, "--yes", "--edit", NUMBER="true", **environment).status == 2
        assert onboard("approve", ORDER, "--edit", "--yes", EDITOR="/no/such/editor").status == 2
        told = onboard("approve", ORDER, "--yes", "--edit", NUMBER="9", **environment)
        assert told.status == 0
        assert "with these arguments instead" in told.err
        assert "ordered mouse for 9" in onboard("resume", "onboard", "--agents", LEAD).out

    def test_an_unchanged_edit_is_a_plain_approval(self, onboard: Shell) -> None:
        assert onboard("approve", ORDER, "--yes", "--edit", EDITOR="true", VISUAL="").status == 0
        assert "changed the arguments" not in onboard("resume", "onboard", "--agents", LEAD).out

    def test_a_standing_decision_says_how_far_it_reaches(self, onboard: Shell) -> None:
        told = onboard("approve", ORDER, "--yes", "--always", "tool")
        assert "every later call of this tool in onboard.it-1" in told.err
        log = subprocess.run(
            ["git", "-C", ".caesura", "log", "--format=%(trailers:key=Scope)", "loops/onboard.it-1"],
            cwd=onboard.folder,
            capture_output=True,
            text=True,
            check=True,
        )
        assert "Scope: tool" in log.stdout

    def test_a_rejection_reaches_the_model(self, onboard: Shell) -> None:
        told = onboard("reject", ORDER, "--reason", "too dear", "--json")
        assert told.status == 0
        assert (told.json["loop"], told.json["pending"]) == ("onboard.it-1", [])
        assert "too dear" in onboard("resume", "onboard", "--agents", LEAD).out

    def test_several_are_decided_at_once(self, shell: Shell) -> None:
        for name in ("a", "b"):
            assert shell("run", f"{AGENTS}:it", "x", "--loop", name).status == 3
        told = shell("approve", "a.order-1", "b.order-1", "--yes", "--json")
        assert [one["loop"] for one in told.json["decided"]] == ["a", "b"]
        assert shell("approve", "a.order-1", "b.order-1", "--edit").status == 2

    @pytest.mark.parametrize("address", ["nope", "nope.order-1", "onboard.it-1.order-9", "onboard.it-1"])
    def test_what_does_not_wait_cannot_be_decided(self, onboard: Shell, address: str) -> None:
        told = onboard("approve", address, "--yes")
        assert told.status == 2
        assert "hint: " in told.err

    def test_questions_are_answered(self, shell: Shell) -> None:
        told = shell("run", f"{AGENTS}:asker", "x", "--loop", "q")
        assert "answer with: true or false" in told.err
        assert "caesura answer q.agree-1 VALUE" in told.err
        wrong = shell("answer", "q.agree-1", "maybe")
        assert wrong.status == 2
        assert "still waits" in wrong.err
        assert "wants an answer" in shell("approve", "q.agree-1", "--yes").err
        told = shell("answer", "q.agree-1", "true")
        assert "Still waiting in q: 1 request." in told.out
        assert "q.word-1" in told.out
        assert shell("answer", "q.word-1", "-", said="42\n").status == 0
        assert shell("resume", "q", "--agents", f"{AGENTS}:asker").out == "answers: true, 42\n"
        assert "answered so before" in shell("answer", "q.word-1", "42").out
        late = shell("answer", "q.word-1", "43")
        assert late.status == 1
        assert "q.word-1 was already answered by Ada Tester" in late.err

    def test_a_question_can_be_turned_down(self, shell: Shell) -> None:
        shell("run", f"{AGENTS}:asker", "x", "--loop", "q")
        assert shell("reject", "q.agree-1", "--reason", "no comment").status == 0
        assert shell("answer", "q.word-1", '"quoted"').status == 0
        told = shell("resume", "q", "--agents", f"{AGENTS}:asker")
        assert "no comment" in told.out
        assert told.out.endswith(", quoted\n")

    def test_a_sleep_says_until_when(self, shell: Shell) -> None:
        told = shell("run", f"{AGENTS}:sleeper", "x", "--loop", "z")
        assert told.status == 3
        assert "until: 2999-01-01" in told.err
        assert shell("pending", "z", "--json").json["pending"][0]["wake_at"].startswith("2999")


class TestLookingAndSteering:
    def test_an_empty_repository_says_what_to_do(self, shell: Shell) -> None:
        told = shell("loops")
        assert told.status == 2
        assert "caesura init" in told.err
        assert "is made" in shell("init").out
        assert shell("init", "--json").json["created"] is False
        assert "caesura run" in shell("loops").out
        assert shell("pending").out == "Nothing waits.\n"
        assert shell("loops", "--json").json == {"loops": [], "unreadable": {}}

    def test_a_repository_in_a_project_is_not_taken_for_files_of_it(self, shell: Shell) -> None:
        subprocess.run(["git", "init", "--quiet", shell.folder], check=True)
        assert shell("init").status == 0
        assert shell("run", LEAD, "x", "--loop", "x").status == 3
        told = subprocess.run(
            ["git", "-C", shell.folder, "add", "--dry-run", "--all"], capture_output=True, text=True, check=True
        )
        assert ".caesura" not in told.stdout

    def test_init_says_if_git_does_not_know_you(self, shell: Shell) -> None:
        (shell.folder / "home" / ".gitconfig").unlink()
        assert "git config --global user.name" in shell("init").err

    def test_loops_and_show(self, onboard: Shell) -> None:
        table = onboard("loops").out
        assert table.splitlines()[1].split()[:4] == ["onboard", "lead", "suspended", "1"]
        assert "onboard.it-1" not in table
        assert "onboard.it-1" in onboard("loops", "--all").out
        (info,) = onboard("loops", "--json").json["loops"]
        assert (info["waiting"], info["ready"], info["spent"]["steps"]) == (1, False, 2)
        shown = onboard("show", "onboard").out
        for text in ("Onboard Ada", '→ mail(to="ada")', "← mail", "sent to ada", "order-1  awaiting"):
            assert text in shown
        state = onboard("show", "onboard", "--json").json
        assert state["messages"][0] == {"role": "user", "content": "Onboard Ada"}
        assert state["children"]["it-1"]["calls"][0]["state"] == "awaiting"
        assert onboard("show", "onboard~1", "--json").json["commit"] != state["commit"]
        assert onboard("show", "nope").status == 2

    def test_long_texts_are_cut_unless_full(self, shell: Shell) -> None:
        shell("run", f"{AGENTS}:echo", "long " * 1000 + "end.", "--loop", "long")
        assert "more characters]" in shell("show", "long").out
        assert "end." in shell("show", "long", "--full").out

    def test_forks_start_from_any_commit(self, onboard: Shell) -> None:
        told = onboard("fork", "onboard~2")
        assert told.out == "onboard-fork-1\n"
        assert "caesura resume onboard-fork-1" in told.err
        assert onboard("fork", "onboard", "--name", "other", "--json").json["loop"] == "other"
        assert onboard("fork", "onboard", "--name", "other").status == 2
        assert onboard("resume", "onboard-fork-1", "--agents", LEAD).status == 3

    def test_a_completed_loop_that_is_told_more_goes_on(self, shell: Shell) -> None:
        say_hello(shell)
        told = shell("tell", "hello", "-", said="and more")
        assert told.status == 0
        assert "caesura resume hello" in told.out
        assert "open calls" not in shell("tell", "hello", "It has none.").out
        shown = shell("show", "hello").out
        assert "user, as it goes on\n  │ It has none." in shown
        assert "open calls" not in shown
        assert "hello" in shell("loops").out
        assert shell("resume", "hello", "--agents", f"{AGENTS}:echo").out == "You said: It has none.\n"
        assert shell("tell", "nope", "x").status == 2

    def test_pause_stands_until_resumed(self, onboard: Shell) -> None:
        assert onboard("pause", "onboard", "--reason", "lunch").status == 0
        assert "lunch" in onboard("pending").out
        told = onboard("resume", "onboard", "--agents", LEAD)
        assert told.status == 3
        assert "lunch" not in told.err
        assert onboard("pause", "nope").status == 2

    def test_exports_can_be_imported(self, onboard: Shell) -> None:
        document = onboard("export", "onboard").out
        assert json.loads(document)["end_reason"] == "approval_required"
        told = onboard("import", "again", "-", "--agents", LEAD, said=document)
        assert (told.status, told.out) == (0, "again\n")
        assert "again.it-1.order-1" in onboard("pending", "again").out
        assert onboard("import", "again", "-", "--agents", LEAD, said=document).status == 2
        assert onboard("import", "other", "-", "--agents", LEAD, said="{").status == 2
        assert onboard("import", "other", "missing.json", "--agents", LEAD).status == 2
        assert onboard("export", "nope").status == 2


class TestErrorsAndHelp:
    def test_errors_are_a_sentence_and_a_hint_or_an_object(self, shell: Shell) -> None:
        told = shell("show", "nope")
        assert (told.status, told.out) == (2, "")
        assert [line.partition(":")[0] for line in told.err.splitlines()] == ["error", "hint"]
        error = shell("show", "nope", "--json").json["error"]
        assert set(error) == {"type", "message", "hint"}
        assert error["type"] == "Unavailable"
        assert shell("show", "--json").json["error"]["type"] == "BadUsage"

    def test_debug_adds_the_traceback(self, shell: Shell) -> None:
        done = subprocess.run(
            [sys.executable, "-m", "caesura", "show", "nope"],
            cwd=shell.folder,
            env={**shell.environment, "CAESURA_DEBUG": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert "Traceback" in done.stderr

    @pytest.mark.parametrize(
        ("words", "told"),
        [
            (["log"], "Git is the log"),
            (["aprove", "x"], "Did you mean 'caesura approve'?"),
            (["--repo", "x", "loops"], "Options follow the command: caesura COMMAND --repo"),
            (["tell", "x", "- one"], "after --."),
            (["tell", "x", "--", "- one", "--by", "Ada <ada@x>"], "put options before it."),
            (["reject", "x", "--reason", "- no"], "Join a value that begins with a dash to it: --reason='-…'"),
            (["reject", "x", "--reason"], "'caesura reject --help'"),
            (["gc", "x"], "'x' is too much"),
            (["init", "x"], "'x' is too much"),
            (["loops", "x"], "'x' is too much"),
            (["demo", "x"], "'x' is too much"),
            (["fork", "x", "--instructions", "@gone"], "gone cannot be read: No such file or directory."),
            (["run", "a", "b", "c"], "'c' is too much"),
            (["run"], "AGENT-OR-PROMPT is missing."),
            (["run", "x", "--bogus"], "--bogus"),
            (["run", "x", "--budget-steps", "many"], "many"),
            (["run", f"{AGENTS}:echo"], "There is nothing for"),
            (["approve"], "nothing to approve"),
            (["completion", "tcsh"], "bash"),
            (["resume", "x", "--api", "soap"], "responses"),
        ],
    )
    def test_wrong_usage_is_told(self, shell: Shell, words: list[str], told: str) -> None:
        failed = shell(*words)
        assert failed.status == 2
        assert told in failed.err
        assert "[Errno" not in failed.err
        assert "hint: " in failed.err

    def test_a_setting_that_is_none_of_a_few_is_told_which_there_are(self, shell: Shell) -> None:
        (shell.folder / "caesura.toml").write_text('visibility = "soon"\n')
        failed = shell("loops")
        assert failed.status == 2
        assert "It may be 'sealed' or 'step'." in failed.err or "It may be 'step' or 'sealed'." in failed.err

    def test_every_command_and_parameter_is_described(self, shell: Shell) -> None:
        overview = shell("--help").out
        assert "130  interrupted" in overview
        for command in reference():
            assert f"\n  {command.name} " in overview
            assert command.text
            assert all(parameter.text for parameter in command.parameters), command
        page = shell("approve", "--help").out
        assert "--always tool|arguments" in page
        assert shell("--version").out.startswith("caesura ")

    def test_help_tells_each_number_that_is_taken_if_none_is_given(self) -> None:
        arguments = [one for name in COMMANDS for one in alone(name).assemble_argument_collection()]
        given = [one for one in arguments if one.hint is int and one.field_info.default in range(1, 1000)]
        assert len(given) == 3
        assert all(f"Default: {one.field_info.default}" in (one.parameter.help or "") for one in given)

    def test_help_loads_nothing_heavy(self, shell: Shell) -> None:
        code = (
            "import sys; from caesura.adapters.cli import main; main(['--help']);"
            "print([m for m in ('cyclopts', 'openai', 'trio', 'rich', 'pygit2', 'jsonschema') if m in sys.modules])"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], env=shell.environment, capture_output=True, text=True, check=True
        )
        assert done.stdout.splitlines()[-1] == "[]"

    @pytest.mark.parametrize("name", ["bash", "zsh", "fish"])
    def test_completion_scripts_are_printed(self, shell: Shell, name: str) -> None:
        script = shell("completion", name).out
        assert "approve" in script
        if name == "bash":
            subprocess.run(["bash", "-n"], input=script, text=True, check=True)

    def test_no_escape_sequence_reaches_a_screen(self, shell: Shell) -> None:
        assert shell("run", f"{AGENTS}:hostile", "x", "--loop", "h").status == 3
        said = [shell("pending"), shell("show", "h"), shell("show", "h", "--full"), shell("loops")]
        said.append(shell("approve", "h.order-1", "--yes"))
        said.append(shell("run", f"{AGENTS}:stepper", "x"))
        for told in said:
            assert not set("\x1b\x9b\x07\u202e\r") & set(told.out + told.err)
        assert r'item="a\u001b[31mb\u202ec\n\u009bhint: run rm -rf"' in said[0].out
        assert "[bold]really[/bold]" in said[0].out
        assert not any(line.startswith("error: fake") for line in said[0].out.splitlines())

    def test_a_closed_pipe_is_no_error(self, shell: Shell) -> None:
        say_hello(shell)
        reader, writer = os.pipe()
        os.close(reader)
        done = subprocess.run(
            [sys.executable, "-m", "caesura", "show", "hello"],
            cwd=shell.folder,
            env=shell.environment,
            stdout=writer,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
        os.close(writer)
        assert done.stderr == ""

    @pytest.mark.parametrize(
        "words", [["--help"], ["loops"], ["loops", "--json"], ["show", "nothing", "--json"], ["export", "hello"]]
    )
    def test_an_output_that_is_full_is_one_error(self, shell: Shell, words: list[str]) -> None:
        say_hello(shell)
        with Path("/dev/full").open("w") as full:
            done = subprocess.run(
                [sys.executable, "-m", "caesura", *words],
                cwd=shell.folder,
                env=shell.environment,
                stdout=full,
                stderr=subprocess.PIPE,
                text=True,
                check=False,
            )
        assert done.returncode == 1
        assert done.stderr == (
            "error: The output cannot be written: No space left on device.\n"
            "hint: What the command has done is done; only what it had to say is lost.\n"
        )

    @pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
    def test_a_stream_that_is_closed_is_as_if_it_led_nowhere(self, shell: Shell, closed: str) -> None:
        shell("init")
        for words, status in ((["loops"], 0), (["tell", "nobody", "-"], 2), (["show", "nobody"], 2)):
            done = subprocess.run(
                ["sh", "-c", f'exec "$@" {closed}', "sh", sys.executable, "-m", "caesura", *words],
                cwd=shell.folder,
                env=shell.environment,
                capture_output=True,
                text=True,
                check=False,
            )
            assert "should not have happened" not in done.stderr
            assert "Traceback" not in done.stderr
            assert done.returncode == status
        (shell.folder / "looks.py").write_text(
            "import pathlib, subprocess, sys\nfrom caesura import Agent\n"
            "look = 'import os; [os.fstat(number) for number in range(3)]'\n"
            "done = subprocess.run([sys.executable, '-c', look])\n"
            "pathlib.Path('found').write_text(str(done.returncode))\n"
        )
        script = f'exec "$@" {closed}'
        command = ["sh", "-c", script, "sh", sys.executable, "-m", "caesura", "run", "looks.py", "hi"]
        subprocess.run(command, cwd=shell.folder, env=shell.environment, capture_output=True, check=False)
        assert (shell.folder / "found").read_text() == "0", "what an agent's code starts has a stream less"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("fork", "x", "--tell", ""), "--tell is empty."),
        (("fork", "x", "--model="), "--model is empty."),
        (("run", "Go", "--workspace", ""), "--workspace is empty."),
        (("run", "Go", "--loop", " "), "--loop is empty."),
        (("tell", "x", "Go", "--by", ""), "--by is empty."),
        (("try", "x", "--variants", "", "--", "test", "--name", ""), "--variants is empty."),
        (("erase", "x", "--dry-run", "--by", "Ada"), "'Ada' does not name a person."),
        (("prune", "--finished", "--by=Ada"), "'Ada' does not name a person."),
        (("init", "--repo="), "--repo is empty."),
    ],
)
def test_what_an_option_is_given_must_be_something_even_where_it_comes_to_nothing(
    tmp_path: Path, words: tuple[str, ...], said: str
) -> None:
    """An empty variable of a shell is a mistake, and not the current folder, or no name."""
    shell = Shell(tmp_path)
    told = shell(*words)
    assert (told.status, said in told.err, "hint: " in told.err) == (2, True, True), told
    assert not (tmp_path / ".caesura").exists()


def test_a_reason_may_be_no_words(tmp_path: Path) -> None:
    shell = Shell(tmp_path)
    assert shell("run", f"{AGENTS}:lead", "Go", "--loop", "x").status == 3
    assert shell("reject", "x.it-1.order-1", "--reason", "").status == 0


def test_a_repository_may_have_a_name_that_is_no_text(tmp_path: Path) -> None:
    told = Shell(tmp_path)("init", "--repo", os.fsdecode(b"caf\xe9.git"))
    assert (told.status, told.err) == (0, "")
    assert "/continuation.json diff=caesura" in (tmp_path / os.fsdecode(b"caf\xe9.git/info/attributes")).read_text()


_INTERRUPTED = """
import sys

class Interrupts:
    def find_spec(self, name, path=None, target=None):
        if name == sys.argv[1] and self in sys.meta_path:
            sys.meta_path.remove(self)
            raise KeyboardInterrupt

sys.meta_path.insert(0, Interrupts())
from caesura.adapters.cli import main
sys.exit(main(["loops"]))
"""


@pytest.mark.parametrize("module", ["cyclopts", "msgspec", "pygit2"])
def test_who_interrupts_before_a_command_has_begun_sees_no_traceback(tmp_path: Path, module: str) -> None:
    shell = Shell(tmp_path)
    shell("init")
    command = [sys.executable, "-c", _INTERRUPTED, module]
    done = subprocess.run(command, cwd=tmp_path, env=shell.environment, capture_output=True, text=True, check=False)
    assert done.returncode == 130
    assert done.stderr == "error: Interrupted.\nhint: Nothing was lost; every step so far is committed.\n"
