"""Trying and adopting, as a person types it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli_process import Shell
from tests.repositories import git

ROOT = Path(__file__).parent.parent
CODE = f"""\
import sys

sys.path.insert(0, {str(ROOT)!r})

import msgspec

from caesura import Agent, tool
from tests.cli_agents import Script


@tool(needs_approval=True)
def deploy(service: str) -> str:
    \"\"\"Deploy a service.\"\"\"
    return f"deployed {{service}}"


def answer(results, prompt):
    return f"{{prompt}}: {{results[-1]}}" if results else [("deploy", {{"service": "api"}})]


class Mark(msgspec.Struct):
    score: float
    note: str


ops = Agent("ops", tools=[deploy], model=Script(answer))
judge = Agent("judge", model=Script(lambda _, page: '{{"score": %d, "note": "long"}}' % len(page)), result=Mark)
talker = Agent("talker", model=Script(lambda _, page: "well"))
"""
VARIANTS = """\
[yes]
approve = ["deploy-1"]

[no]
reject = { deploy-1 = "not on a Friday, and not on any other day" }

[web]
arguments = { deploy-1 = { service = "web" } }
approve = ["deploy-1"]
tell = "Hurry."
"""
SCORE = f"""{sys.executable} -c "
import json, sys
state = json.load(sys.stdin)
assert state['status'] == 'completed'
print('looking')
print(len(state['text']), 'letters')
" """


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    shell = Shell(tmp_path)
    (tmp_path / "agents.py").write_text(CODE)
    (tmp_path / "caesura.toml").write_text('agents = ["agents.py:ops", "agents.py:judge", "agents.py:talker"]\n')
    (tmp_path / "variants.toml").write_text(VARIANTS)
    (tmp_path / "score.sh").write_text(SCORE)
    assert shell("run", "Go", "--loop", "x").status == 3
    return shell


def test_variants_are_tried_scored_ranked_and_the_best_is_adopted(shell: Shell) -> None:
    tried = shell("try", "x", "--variants", "variants.toml", "--", "sh", "score.sh")
    assert tried.status == 0, tried.err
    lines = tried.out.splitlines()
    assert lines[0].split() == ["VARIANT", "STATUS", "SCORE", "MODEL", "CALLS", "TOKENS"]
    assert [line.split()[0] for line in lines if not line.startswith(" ")] == ["VARIANT", "no", "web", "yes"]
    assert "letters" in tried.out
    assert "x-no  ops: scored" in tried.err
    assert "caesura adopt x-no --into x --over x-web --over x-yes" in tried.err
    folder = shell.folder / ".caesura"
    scores = git(folder, "log", "--format=%(trailers:key=Score,valueonly)", "--all").split()
    assert len(scores) == 3
    again = shell("try", "x", "--variants", "variants.toml", "--json", "--", "sh", "score.sh")
    assert [trial["score"] for trial in again.json["trials"]] == sorted(map(float, scores), reverse=True)
    assert set(again.json["trials"][0]) == {
        *("variant", "loop", "status", "text", "score", "note", "error", "pending", "spent", "commit"),
    }
    assert git(folder, "log", "--format=%(trailers:key=Score,valueonly)", "--all").split() == scores
    words = ("adopt", "x-no", "--into", "x", "--over", "x-web", "--over", "x-yes", "--why", "It is the longest.")
    adopted = shell(*words)
    assert (adopted.status, adopted.out) == (0, "x goes on as x-no.\nIn the archive: x-web, x-yes.\n")
    assert "It is the longest." in git(folder, "log", "-1", "--format=%b", "loops/x")
    assert [loop["loop"] for loop in shell("loops", "--json").json["loops"]] == ["x"]
    assert shell("show", "x-web").out.startswith("x-web  ops  completed")
    assert shell("verify").status == 0
    assert shell(*words).status == 2


def test_a_score_is_an_exit_status_or_a_printed_number(shell: Shell) -> None:
    for command, scores, status in (
        ("exit 0", [1, 1, 1], 0),
        ("exit 3", [0, 0, 0], 0),
        ("echo 0.25 so so", [0.25] * 3, 0),
        ("exit 125", [None] * 3, 1),
        ("exit 126", [None] * 3, 1),
    ):
        told = shell("try", "x", "--variants", "variants.toml", "--name", "n", "--json", "--", "sh", "-c", command)
        assert [trial["score"] for trial in told.json["trials"]] == scores
        assert told.status == status


def test_an_agent_judges(shell: Shell) -> None:
    told = shell("try", "x", "--variants", "variants.toml", "--judge", "judge", "--json")
    assert told.status == 0, told.out
    assert [trial["note"] for trial in told.json["trials"]] == ["long"] * 3
    told = shell("try", "x", "--variants", "variants.toml", "--judge", "talker")
    assert (told.status, "is text, which is no score" in told.err) == (2, True)
    told = shell("try", "x", "--variants", "variants.toml", "--judge", "judge", "--", "true")
    assert told.status == 2


def test_what_waits_fails_or_is_stopped_is_told_by_the_exit_status(shell: Shell) -> None:
    (shell.folder / "v.toml").write_text('[open]\n[no]\nreject = { deploy-1 = "no" }\n')
    told = shell("try", "x", "--variants", "v.toml")
    assert told.status == 3
    assert "  waits for x-open.deploy-1\n" in told.out
    assert "caesura pending" in told.err
    (shell.folder / "v.toml").write_text('[odd]\napprove = ["deploy-7"]\n[no]\nreject = { deploy-1 = "no" }\n')
    told = shell("try", "x", "--variants", "v.toml")
    assert told.status == 1
    assert "  error: Nothing waits at x-odd.deploy-7." in told.out
    told = shell("try", "x", "--variants", "variants.toml", "--name", "poor", "--budget-steps", "1", "--limit", "1")
    assert told.status == 3
    assert [line.split()[1] for line in told.out.splitlines() if line[0] != " "][1:].count("stopped") == 2
    assert "The budget is spent: " in told.err
    told = shell("try", "x", "--variants", "variants.toml", "--name", "poor")
    assert told.status == 0
    assert "best" not in told.err  # nobody has said which is
    (shell.folder / "variants.toml").write_text(VARIANTS.replace("Hurry.", "Take care."))
    told = shell("try", "x", "--variants", "variants.toml", "--name", "poor")
    assert told.status == 1
    assert "  error: poor-web was made when web asked for something else than it does now.\n  hint: " in told.out


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "names no variants"),
        ("[a", "is not TOML"),
        ("a = 1", "a is no table"),
        ("[a]\nmodle = 'x'", "a has 'modle'"),
        ("[a]\ndrop = 'x'", "Expected `int`"),
        ("['a b']\ndrop = 1", "'a b' cannot name a variant"),
        ('[a]\napprove = ["x"]\nreject = { x = "no" }', "decides twice on x"),
    ],
)
def test_a_file_that_makes_no_sense_is_refused_and_nothing_is_made(shell: Shell, text: str, what: str) -> None:
    (shell.folder / "v.toml").write_text(text)
    told = shell("try", "x", "--variants", "v.toml")
    assert told.status == 2
    assert what in told.err
    assert len(shell("loops", "--json").json["loops"]) == 1
    assert shell("try", "x", "--variants", "nothing.toml").status == 2


def test_a_terminal_shows_a_row_for_each_variant(shell: Shell) -> None:
    terminal = shell.terminal("try", "x", "--variants", "variants.toml", CLI_TEST_STREAM="0.2")
    terminal.until("web")
    terminal.until("answering")
    terminal.until("VARIANT")
    assert terminal.end() == 0


def test_interrupted_it_goes_on_with_the_same_command(shell: Shell) -> None:
    words = ("try", "x", "--variants", "variants.toml", "--limit", "1")
    terminal = shell.terminal(*words, CLI_TEST_STREAM="5")
    terminal.until("answering")
    terminal.interrupt()
    terminal.until("stopped")
    assert terminal.end() == 130
    told = shell(*words, "--json")
    assert told.status == 0
    assert all(trial["status"] == "completed" for trial in told.json["trials"])


def test_adopting_drops_losers_if_so_asked_and_says_what_waits(shell: Shell) -> None:
    for name in ("a", "b"):
        assert shell("fork", "x", "--name", name).status == 0
    told = shell("adopt", "a", "--into", "x", "--over", "b", "--drop")
    assert told.status == 2
    assert "are the same" in told.err
    assert shell("tell", "a", "Hurry.").status == 0
    told = shell("adopt", "a", "--into", "x", "--over", "b", "--drop", "--json")
    assert told.status == 0, told.err
    assert told.json["pending"][0]["id"] == "x.deploy-1"
    assert shell("fork", "x", "--name", "c").status == shell("tell", "c", "Really.").status == 0
    assert shell("adopt", "c", "--into", "x").out.endswith("\nthen: caesura resume x\n")
    assert (
        subprocess.run(
            ["git", "-C", shell.folder / ".caesura", "for-each-ref", "--format=%(refname)"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        == "refs/heads/loops/x\n"
    )
    assert json.loads(shell("show", "x", "--json").out)["status"] == "suspended"
