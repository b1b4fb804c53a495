"""Comparing and searching on the command line: diff, diff --stat, bisect, test."""

import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from caesura.adapters.cli._bisect import Change, first_change
from caesura.adapters.cli._compare_screen import _cells
from caesura.adapters.cli._predicate import NotTested
from caesura.continuations import printable
from tests.cli_process import AGENTS, Shell

HISTORY = Path(__file__).parent / "histories" / "format-1.bundle"
LEAD = f"{AGENTS}:lead"


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path)


@pytest.fixture
def recorded(shell: Shell) -> Shell:
    """The recorded demo: ``onboarding`` has completed, ``waiting`` is where it waited for two decisions."""
    git(shell, "clone", "--quiet", "--mirror", str(HISTORY), ".caesura")
    return shell


@pytest.fixture(scope="module")
def decided(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository of a loop that was approved, ``yes``, and a fork of it that was rejected, ``no``."""
    shell = Shell(tmp_path_factory.mktemp("decided"))
    assert shell("run", LEAD, "Onboard Ada", "--loop", "yes").status == 3
    assert shell("fork", "yes", "--name", "no").status == 0
    assert shell("approve", "yes.it-1.order-1", "--yes").status == 0
    assert shell("reject", "no.it-1.order-1", "--reason", "too dear").status == 0
    for name in ("yes", "no"):
        assert shell("resume", name, "--agents", LEAD).status == 0
    return shell.folder / ".caesura"


@pytest.fixture
def futures(shell: Shell, decided: Path) -> Shell:
    shutil.copytree(decided, shell.folder / ".caesura")
    return shell


def git(shell: Shell, *words: str) -> str:
    done = subprocess.run(["git", *words], cwd=shell.folder, env=shell.environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


class TestDiff:
    def test_two_futures_are_told_one_above_the_other_where_there_is_no_terminal(self, futures: Shell) -> None:
        lines = futures("diff", "yes", "no").out.splitlines()
        assert lines[0].startswith("--- yes  lead  completed  model scripted; 4 model calls, 480 tokens, ")
        assert lines[1].startswith("+++ no  lead  completed  model scripted; 4 model calls, 480 tokens, ")
        assert "; since then 2 model calls, 240 tokens, " in lines[0]
        assert lines[2].startswith("the last commit in common: ")
        assert lines[3] == "they part: in it-1: Ada Tester approves order / Ada Tester rejects order: too dear"
        assert lines[5:] == [
            '  → it(prompt="Set up Ada\'s workplace.")',
            '    → order(item="laptop", amount=2400)',
            "-     Ada Tester approves order",
            "+     Ada Tester rejects order: too dear",
            "-   ← order returned: ordered laptop for 2400",
            "+   ← order rejected: Rejected by Ada Tester: too dear. The call did not run.",
            "-   assistant: it done: ordered laptop for 2400  (100 in, 20 out)",
            "+   assistant: it done: Rejected by Ada Tester: too dear. The call did not run.  (100 in, 20 out)",
            "- ← it returned: it done: ordered laptop for 2400",
            "+ ← it returned: it done: Rejected by Ada Tester: too dear. The call did not run.",
            "- assistant: lead done: sent to ada | it done: ordered laptop for 2400  (100 in, 20 out)",
            "+ assistant: lead done: sent to ada | it done: Rejected by Ada Tester: too dear. The call did not run."
            "  (100 in, 20 out)",
        ]

    def test_they_stand_side_by_side_on_a_terminal_that_is_wide_enough(self, futures: Shell) -> None:
        for columns, beside in (("120", True), ("99", False)):
            terminal = futures.terminal("diff", "yes", "no", COLUMNS=columns, NO_COLOR="1")
            assert terminal.end() == 0
            lines = terminal.screen.replace("\r", "").splitlines()
            both = [line for line in lines if "approves order" in line and "rejects order" in line and " | " in line]
            assert bool(both) is beside
            assert any(line.startswith("- ") for line in lines) is not beside
            assert "\x1b" not in terminal.screen
            if beside:
                assert {line[58:61].rstrip() for line in lines[5:]} == {"", " |"}

    def test_colours_are_for_terminals(self, futures: Shell) -> None:
        terminal = futures.terminal("diff", "yes", "no", COLUMNS="120")
        assert terminal.end() == 0
        assert "\x1b[31m" in terminal.screen
        assert "\x1b" not in futures("diff", "yes", "no").out

    def test_what_is_the_same_is_counted_and_full_shows_it(self, recorded: Shell) -> None:
        told = recorded("diff", "waiting", "onboarding.it-1").out
        assert "They have no commit in common." in told
        same = recorded("diff", "onboarding.it-1", "onboarding.it-1~1").out
        assert same.count("assistant: ") == 2
        assert "It completed" not in same
        assert recorded("diff", "onboarding", "onboarding").out.splitlines()[-1] == "They did nothing since."

    def test_json_has_everything(self, futures: Shell) -> None:
        told = futures("diff", "yes", "no", "--json").json
        assert set(told) == {"base", "left", "right", "divergence", "rows"}
        assert told["base"]["commit"] == git(futures, "-C", ".caesura", "merge-base", "loops/yes", "loops/no")
        assert told["base"]["subject"] == "lead: it is suspended"
        assert told["left"]["since"]["tokens"] == 240
        assert told["divergence"]["path"] == ["it-1"]
        assert told["divergence"]["right"]["outcome"] == "reject"
        assert told["divergence"]["right"]["by"] == "Ada Tester"
        (call,) = [row for row in told["rows"] if row["nested"]]
        assert call["same"] is True
        assert call["left"]["arguments"] == {"prompt": "Set up Ada's workplace."}
        decision = told["divergence"]["left"]["commit"]
        assert git(futures, "-C", ".caesura", "log", "-1", "--format=%s", decision).startswith("it: approved: ")

    def test_another_model_is_seen(self, futures: Shell) -> None:
        text = AGENTS.read_text().replace('ModelSpec(name="scripted")', 'ModelSpec(name="other")')
        (futures.folder / "changed.py").write_text(text)
        assert futures("fork", "yes~4", "--name", "third").status == 0
        assert futures("approve", "third.it-1.order-1", "--yes").status == 0
        assert futures("resume", "third", "--agents", "changed.py:lead").status == 0
        told = futures("diff", "yes", "third").out
        assert "model scripted; " in told.splitlines()[0]
        assert "model other; " in told.splitlines()[1]
        assert "they part: in it-1: " in told
        assert "+   the agent's definition changed: model" in told

    def test_nothing_in_a_repository_commands_the_terminal(self, shell: Shell) -> None:
        assert shell("run", f"{AGENTS}:hostile", "x", "--loop", "a").status == 3
        assert shell("fork", "a", "--name", "b").status == 0
        assert shell("reject", "a.order-1", "--reason", "\x1b[2J\x07no\u202e").status == 0
        assert shell("approve", "b.order-1", "--yes").status == 0
        for name in ("a", "b"):
            assert shell("resume", name, "--agents", f"{AGENTS}:hostile").status == 0
        for words in (("a", "b"), ("a", "b", "--full"), ("--stat", "a", "b"), ("a", "b", "--json")):
            told = shell("diff", *words)
            assert told.status == 0
            assert set(told.out) & set("\x1b\x07\x9b\u202e\r") == set()
        terminal = shell.terminal("diff", "a", "b", COLUMNS="120", NO_COLOR="1")
        assert terminal.end() == 0
        assert set(terminal.screen) & set("\x1b\x07\x9b\u202e") == set()
        lines = terminal.screen.replace("\r", "").splitlines()
        assert {line[58:61].rstrip() for line in lines[5:]} <= {"", " |", " <", " >"}

    def test_what_cannot_be_compared_is_said(self, recorded: Shell) -> None:
        for words, said in (
            (("onboarding",), "There is nothing to compare."),
            (("onboarding", "waiting", "waiting"), "--stat makes a table"),
            (("onboarding", "nope"), "'nope' names no loop"),
            (("--stat",), "There is nothing to compare."),
        ):
            told = recorded("diff", *words)
            assert told.status == 2
            assert said in told.err


@given(
    st.lists(st.text(st.characters(codec="utf-8")).map(printable), max_size=4), st.sampled_from(["", "  ", "      "])
)
def test_columns_are_straight_whatever_is_in_them(texts: list[str], indent: str) -> None:
    lines = [line for text in texts for line in text.splitlines()]
    cells = list(_cells(lines, indent, 48))
    assert {cell_len(cell) for cell in cells} <= {48}
    assert "".join("".join(cells).split()) == "".join("".join(lines).split())


class TestStat:
    def test_a_table_tells_what_each_came_to_and_where_it_parts_from_the_first(self, futures: Shell) -> None:
        lines = futures("diff", "--stat", "yes", "no", "yes~4").out.splitlines()
        assert lines[0].split() == [
            "LOOP",
            "STATUS",
            "STEPS",
            "MODEL",
            "CALLS",
            "TOOLS",
            "RUN",
            "APPROVED",
            "REJECTED",
            "TOKENS",
            "SECONDS",
        ]
        rows = [line.split() for line in lines if line.startswith(("yes ", "no ", "yes~4 "))]
        assert [row[1] for row in rows] == ["completed", "completed", "suspended"]
        assert [row[3:8] for row in rows] == [
            ["4", "2", "1", "0", "480"],
            ["4", "1", "0", "1", "480"],
            ["2", "1", "0", "0", "240"],
        ]
        assert "  parts in it-1: Ada Tester approves order / Ada Tester rejects order: too dear" in lines
        assert "  came to lead done: sent to ada | it done: ordered laptop for 2400" in lines

    def test_json_has_the_same(self, futures: Shell) -> None:
        first, second = futures("diff", "--stat", "yes", "no", "--json").json["loops"]
        assert (first["loop"], first["divergence"], first["base"]) == ("yes", None, None)
        assert (second["approvals"], second["rejections"], second["tools_run"]) == (0, 1, 1)
        assert second["divergence"]["path"] == ["it-1"]
        assert first["steps"] == int(git(futures, "-C", ".caesura", "rev-list", "--count", "loops/yes"))


class TestBisect:
    def test_the_first_step_that_fails_is_found_as_git_finds_it(self, recorded: Shell) -> None:
        told = recorded("bisect", "onboarding~7", "onboarding", "--", "sh", "-c", "! grep -q refurbished")
        assert told.status == 0
        lines = told.out.splitlines()
        wanted = git(recorded, "-C", ".caesura", "rev-parse", "loops/onboarding~1")
        assert lines[0] == f"the first bad step: {wanted}"
        assert lines[1].startswith("  lead: it returned: ")
        assert lines[2].startswith("  by lead <lead@")
        shown = recorded("show", wanted).out.splitlines()
        assert lines[4:6] == shown[:2]
        assert "good" in told.err
        assert "bad" in told.err

    def test_what_is_nested_is_part_of_a_step(self, recorded: Shell) -> None:
        told = recorded("bisect", "onboarding~7", "onboarding", "--json", "--matches", "over budget")
        assert told.json["first"] == "good"
        assert told.json["subject"] == "lead: resumed"
        nested = told.json["state"]["children"]["it-1"]
        assert any(str(message["content"]).startswith("Rejected by Grace") for message in nested["messages"])

    def test_the_test_gets_what_show_prints(self, recorded: Shell) -> None:
        told = recorded(
            "bisect", "onboarding.it-1~3", "onboarding.it-1", "--", "sh", "-c", "cat >> seen; ! grep -q T14 seen"
        )
        assert told.status == 1  # bad from the first one on
        first = (recorded.folder / "seen").read_text().splitlines()[0]
        commit = git(recorded, "-C", ".caesura", "rev-parse", "loops/onboarding.it-1~3")
        assert first == recorded("show", commit, "--json").out.rstrip("\n")

    def test_a_step_that_cannot_be_tested_is_left_out(self, recorded: Shell) -> None:
        told = recorded("bisect", "onboarding~7", "onboarding", "--", "sh", "-c", "exit 125")
        assert told.status == 1
        assert "cannot be tested" in told.err
        skip = git(recorded, "-C", ".caesura", "rev-parse", "loops/onboarding~2")
        test = f'text=$(cat); case "$text" in *{skip}*) exit 125;; *refurbished*) exit 1;; esac'
        told = recorded("bisect", "onboarding~7", "onboarding", "--json", "--", "sh", "-c", test)
        assert told.json["commit"] == git(recorded, "-C", ".caesura", "rev-parse", "loops/onboarding~1")
        assert told.json["suspects"] == [skip]

    def test_nothing_in_the_repository_changes(self, recorded: Shell) -> None:
        def everything() -> dict[str, bytes]:
            files = (recorded.folder / ".caesura").rglob("*")
            return {str(path): path.read_bytes() for path in files if path.is_file()}

        before = everything()
        assert recorded("bisect", "onboarding~7", "onboarding", "--matches", "refurbished").status == 0
        assert recorded("diff", "waiting", "onboarding").status == 0
        assert recorded("test", "onboarding", "--matches", "refurbished").status == 0
        assert everything() == before

    @pytest.mark.parametrize(
        ("words", "status", "said"),
        [
            (("onboarding~1", "onboarding"), 2, "One test is needed."),
            (("onboarding~1", "onboarding", "--matches", "(", "--json"), 2, "no regular expression"),
            (("onboarding~1", "onboarding", "--matches", "a", "--", "true"), 2, "One test is needed."),
            (("onboarding~1", "onboarding", "third", "--", "true"), 2, "is too much"),
            (("onboarding", "--", "true"), 2, "GOOD and BAD are missing"),
            (("--", "true"), 2, "BAD is missing"),
            (("waiting.it-1", "onboarding", "--", "true"), 2, "is no step before onboarding"),
            (("onboarding~1", "onboarding", "--", "true"), 1, "GOOD and BAD are good, both."),
            (("onboarding~1", "onboarding", "--", "false"), 1, "GOOD and BAD are bad, both."),
            (("onboarding~1", "onboarding", "--", "no-such-command"), 1, "cannot be run"),
            (("onboarding~1", "onboarding", "--", "sh", "-c", "kill -9 $$"), 1, "ended with status -9"),
            (("onboarding~1", "onboarding", "--", "sh", "-c", "exit 127"), 1, "ended with status 127"),
        ],
    )
    def test_what_is_no_answer_is_an_error(
        self, recorded: Shell, words: tuple[str, ...], status: int, said: str
    ) -> None:
        told = recorded("bisect", *words)
        assert told.status == status
        assert said in told.err + told.out

    def test_an_agent_judges_in_a_loop_that_nothing_is_kept_of(self, recorded: Shell) -> None:
        (recorded.folder / "judges.py").write_text(
            f"import sys; sys.path.insert(0, {str(AGENTS.parent)!r})\n"
            "from cli_agents import Script, order\n"
            "from caesura import Agent\n"
            "fair = Agent('fair', result=bool, model=Script(lambda _, text: 'false' if 'T14' in text else 'true'))\n"
            "vague = Agent('vague', model=Script(lambda _, text: 'well'))\n"
            "shy = Agent('shy', result=bool, tools=[order],"
            " model=Script(lambda _, text: [('order', {'item': 'x', 'amount': 1})]))\n"
        )
        refs = git(recorded, "-C", ".caesura", "for-each-ref")
        told = recorded("bisect", "onboarding.it-1~9", "onboarding.it-1", "--judge", "judges.py:fair", "--json")
        assert told.json["subject"].startswith('it: calls order(item="ThinkPad T14')
        assert git(recorded, "-C", ".caesura", "for-each-ref") == refs
        told = recorded("bisect", "onboarding.it-1~9", "onboarding.it-1", "--judge", "judges.py:vague")
        assert (told.status, "result=bool" in told.err) == (2, True)
        told = recorded("test", "onboarding.it-1", "--judge", "judges.py:shy")
        assert (told.status, "did not judge" in told.err) == (128, True)


class TestTest:
    def test_the_answer_is_the_exit_status(self, recorded: Shell) -> None:
        assert recorded("test", "onboarding", "--", "true").status == 0
        assert recorded("test", "onboarding", "--", "sh", "-c", "exit 7").status == 1
        assert recorded("test", "onboarding", "--", "sh", "-c", "exit 125").status == 125
        assert recorded("test", "onboarding", "--matches", "^    │ Ordered: |refurbished").status == 0
        assert recorded("test", "waiting", "--matches", "refurbished").status == 1

    @pytest.mark.parametrize(
        "words",
        [
            ("nope", "--", "true"),
            ("onboarding", "--", "no-such-command"),
            ("onboarding", "--", "sh", "-c", "exit 127"),
            ("onboarding",),
            ("onboarding", "--no-such-option", "--", "true"),
            ("onboarding", "--repo", "nowhere", "--", "true"),
        ],
    )
    def test_an_error_is_never_an_answer_to_git(self, recorded: Shell, words: tuple[str, ...]) -> None:
        told = recorded("test", *words)
        assert told.status == 128
        assert told.err.startswith("error: ")

    def test_words_after_the_dashes_are_the_commands_own(self, recorded: Shell) -> None:
        told = recorded("test", "onboarding", "--", "printf", "%s\n", "--help", "--", "-", "--json")
        assert (told.status, told.err) == (0, "--help\n--\n-\n--json\n")


class TestSearching:
    @pytest.mark.parametrize("steps", [2, 3, 10, 100])
    def test_each_change_is_found_in_few_steps(self, steps: int) -> None:
        for change in range(1, steps):
            tried: list[int] = []

            def answer(step: int, change: int = change, tried: list[int] = tried) -> bool:
                tried.append(step)
                return step < change

            assert first_change(steps, answer) == Change(step=change, good=False, suspects=(), tested=len(tried))
            assert len(tried) == len(set(tried)) <= 2 + (steps - 1).bit_length()

    def test_the_other_way_round_the_first_good_one_is_found(self) -> None:
        assert first_change(10, lambda step: step >= 4)[:3] == (4, True, ())

    def test_what_cannot_be_tested_may_be_the_first_too(self) -> None:
        assert first_change(10, lambda step: None if 2 < step < 6 else step < 4)[:3] == (6, False, (3, 4, 5))
        assert first_change(10, lambda step: None if 2 < step < 6 else step < 8)[:3] == (8, False, ())

    @pytest.mark.parametrize("answers", [(True, True), (False, False), (None, True), (True, None)])
    def test_ends_that_do_not_differ_are_refused(self, answers: tuple[bool | None, bool | None]) -> None:
        with pytest.raises(NotTested):
            first_change(2, lambda step: answers[step])
