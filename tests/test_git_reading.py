"""Reading a recorded history with git itself: as text, by person, by trailer, by what was said, by bisection."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caesura.adapters.cli._textconv import readable
from caesura.continuations._codec import encode_definition, encode_message, encode_record
from tests.cli_process import AGENTS, Shell
from tests.strategies import definitions, last, messages, sequences

HISTORY = Path(__file__).parent / "histories" / "format-1.bundle"
IT, ROOT = "loops/onboarding.it-1", "loops/onboarding"
ASKED = 'it: approval requested: order(item="ThinkPad X1", price=2400); calls ac…'
REJECTED = 'it: rejected: order(item="ThinkPad X1", price=2400): over budget until…'
SECOND = 'it: calls order(item="ThinkPad T14, refurbished", price=890)'


class Repository(Shell):
    """The recorded history in a bare repository, and git in it."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, GIT_CONFIG_NOSYSTEM="1", GIT_PAGER="cat", TZ="UTC")
        self.where = folder / "recorded.git"
        subprocess.run(["git", "clone", "--quiet", "--mirror", HISTORY, self.where], check=True, env=self.environment)
        self.git("symbolic-ref", "HEAD", f"refs/heads/{ROOT}")

    def git(self, *words: str, folder: Path | None = None, **environment: str) -> str:
        done = subprocess.run(
            ["git", "-C", str(folder or self.where), *words],
            env=self.environment | environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.rstrip()

    def taught(self) -> "Repository":
        """The same, with git taught to show loops as text."""
        assert self("init", "--repo", str(self.where)).status == 0
        return self


@pytest.fixture
def recorded(tmp_path: Path) -> Repository:
    return Repository(tmp_path)


# As text -----------------------------------------------------------------------------------------------------------


def test_the_log_shows_what_changed_in_a_step_as_text(recorded: Repository) -> None:
    shown = recorded.taught().git("log", "-1", "-p", "--format=%s", "--first-parent", f"{IT}~7")
    assert shown.splitlines()[0] == REJECTED
    assert [line for line in shown.splitlines() if line[:1] in ("+", "-") and line[:3] not in ("+++", "---")] == [
        "-  awaiting",
        "+  rejected",
        "+  rejected by Grace Hopper <grace@example.com>",
        "+    note: over budget until April",
        "+result of call_08cdbb7e63c13f14dd1e4ebf:",
        "+  Rejected by Grace Hopper: over budget until April. The call did not run.",
    ]


def test_a_diff_between_loops_and_what_is_nested_in_them_is_text(recorded: Repository) -> None:
    shown = recorded.taught().git("diff", f"{ROOT}~1", ROOT)
    assert "+completed: Ada Lovelace's onboarding: " in shown
    nested = recorded.git("diff", f"{ROOT}~7", f"{ROOT}~4")
    assert '+  → order(item="ThinkPad X1", price=2400)' in nested
    assert "+  wants approval if its predicate says so" in nested
    assert '"tool_calls"' not in nested


def test_a_step_that_only_a_worker_took_changes_no_text(recorded: Repository) -> None:
    shown = recorded.taught().git(
        "log", "-1", "-p", "--format=%s", "--first-parent", "loops/onboarding.it-1.accounts-1~3"
    )
    assert shown.splitlines()[0] == "accounts: resumed"
    assert "@@" not in shown


def test_range_diff_of_two_futures_stays_readable(recorded: Repository) -> None:
    recorded.taught()
    for name, decide in (("yes", ("approve", "--yes")), ("no", ("reject", "--reason", "not she"))):
        assert recorded("fork", "waiting.it-1.accounts-1", "--name", name, "--repo", str(recorded.where)).status == 0
        words = (decide[0], f"{name}.authorize_account-1", *decide[1:])
        assert recorded(*words, "--repo", str(recorded.where)).status == 0
    shown = recorded.git("range-diff", "--creation-factor=100", "loops/yes~1..loops/yes", "loops/no~1..loops/no")
    first, *rest = shown.splitlines()
    assert first.startswith("1:  ")
    assert " ! 1:  " in first
    changed = [line.strip() for line in rest]
    assert "-+  approved by Ada Tester <ada@example.com>" in changed
    assert "++  rejected by Ada Tester <ada@example.com>" in changed
    assert "++    note: not she" in changed
    assert '"nonce"' not in shown


def test_blame_names_the_step_of_each_line(recorded: Repository) -> None:
    lines = recorded.taught().git("blame", "-s", f"{IT}~4", "--", "continuation.json").splitlines()
    subjects = {
        line.partition(") ")[2]: recorded.git("log", "-1", "--format=%s", line.split()[0].lstrip("^")) for line in lines
    }
    assert subjects['call order-1: order(item="ThinkPad X1", price=2400)'] == ASKED
    assert subjects["    note: over budget until April"] == REJECTED


def test_git_shows_files_as_they_are_if_caesura_is_gone_or_fails(recorded: Repository) -> None:
    told = recorded.taught().git("config", "diff.caesura.textconv")
    beside = str(Path(sys.executable).with_name("caesura"))
    assert beside in told
    recorded.git("config", "diff.caesura.textconv", told.replace(beside, "/no/such/caesura"))
    shown = recorded.git("log", "-1", "-p", ROOT, PATH="/usr/bin:/bin")
    assert '"role": "assistant"' in shown
    broken = recorded.folder / "caesura"
    broken.write_text("#!/bin/sh\nexit 1\n")
    broken.chmod(0o755)
    shown = recorded.git("log", "-1", "-p", ROOT, PATH=f"{recorded.folder}:/usr/bin:/bin")
    assert '"role": "assistant"' in shown


def test_a_shell_that_knows_no_caesura_still_finds_the_one_that_set_it_up(recorded: Repository) -> None:
    assert "assistant:" in recorded.taught().git("log", "-1", "-p", ROOT, PATH="/usr/bin:/bin")


def test_teaching_git_changes_nothing_twice_and_nothing_that_was_set(recorded: Repository) -> None:
    attributes = recorded.where / "info" / "attributes"
    attributes.parent.mkdir(exist_ok=True)
    attributes.write_text("*.txt text\n/agent.json -diff")
    recorded.git("config", "diff.caesura.textconv", "cat")
    recorded.taught()
    assert recorded.git("config", "--get-all", "diff.caesura.textconv") == "cat"
    once = attributes.read_text()
    assert once.splitlines() == [
        "*.txt text",
        "/agent.json -diff",
        "/continuation.json diff=caesura",
        "/messages/**/*.json diff=caesura",
        "/children/**/*.json diff=caesura",
    ]
    config = (recorded.where / "config").read_text()
    assert recorded("init", "--repo", str(recorded.where), "--json").json["textconv"] is True
    assert (attributes.read_text(), (recorded.where / "config").read_text()) == (once, config)


def test_it_is_undone_as_help_says(recorded: Repository) -> None:
    recorded.taught().git("config", "--remove-section", "diff.caesura")
    attributes = recorded.where / "info" / "attributes"
    lines = [line for line in attributes.read_text().splitlines() if "diff=caesura" not in line]
    attributes.write_text("".join(lines))
    assert '"role": "assistant"' in recorded.git("log", "-1", "-p", ROOT)


def test_a_project_of_the_users_own_keeps_its_files_and_their_diffs(recorded: Repository) -> None:
    project = recorded.folder / "project"
    recorded.git("init", "--quiet", str(project), folder=recorded.folder)
    (project / "agent.json").write_text('{"name": "mine"}\n')
    recorded.git("add", "agent.json", folder=project)
    recorded.git("commit", "--quiet", "--message=Mine", folder=project)
    (project / "agent.json").write_text('{"name": "\tmine still"}\n')
    before = recorded.git("diff", folder=project), recorded.git("status", "--porcelain", folder=project)
    assert recorded("init", "--repo", str(project)).status == 0
    assert (recorded.git("diff", folder=project), recorded.git("status", "--porcelain", folder=project)) == before
    assert recorded("run", f"{AGENTS}:echo", "hello", "--loop", "x", "--repo", str(project)).status == 0
    assert "+  You said: hello" in recorded.git("log", "-p", "loops/x", folder=project)
    work = recorded.folder / "work"
    recorded.git("worktree", "add", "--quiet", "--detach", str(work), "loops/x", folder=project)
    assert "+  You said: hello" in recorded.git("log", "-p", folder=work)


def test_every_file_of_every_step_of_a_recorded_history_has_a_text(recorded: Repository) -> None:
    listed = recorded.git("rev-list", "--all", "--objects", "--filter-print-omitted", "--filter=object:type=blob")
    blobs = {line.split()[0].lstrip("~") for line in listed.splitlines()}
    texts = {}
    for blob in blobs:
        if recorded.git("cat-file", "-t", blob) == "blob":
            data = recorded.git("cat-file", "blob", blob).encode()
            texts[blob] = readable(data)
            assert not texts[blob].startswith(b"{"), data
            assert texts[blob] == readable(data)
    assert len(texts) > 30


@given(messages)
def test_any_message_has_a_text_that_commands_no_terminal(message: object) -> None:
    check_text(encode_message(message))  # type: ignore[arg-type]


@given(definitions)
def test_any_definition_has_a_text_that_commands_no_terminal(definition: object) -> None:
    check_text(encode_definition(definition))  # type: ignore[arg-type]


@given(sequences())
def test_any_state_has_a_text_that_commands_no_terminal(steps: list[object]) -> None:
    check_text(encode_record(last(steps)))  # type: ignore[arg-type]


def check_text(data: bytes) -> None:
    text = readable(data).decode()
    assert not text.startswith("{")
    assert all(char.isprintable() or char == "\n" for char in text)


@given(
    st.binary()
    | st.recursive(st.none() | st.text(), lambda x: st.lists(x) | st.dictionaries(st.text(), x)).map(
        lambda value: json.dumps(value).encode()
    )
)
def test_what_is_no_file_of_ours_is_left_as_it_is(data: bytes) -> None:
    assert readable(data) == data


@pytest.mark.parametrize(
    "text",
    [
        '{"role": "tool"}',
        '{"role": "user", "content": [{"type": "sound"}]}',
        '{"role": "assistant", "tool_calls": [{}]}',
        '{"format": 99, "fingerprint": "x"}',
        '{"name": "a", "model": {}}',
        "[" * 100_000,
    ],
)
def test_what_cannot_be_told_is_left_as_it_is(text: str) -> None:
    assert readable(text.encode()) == text.encode()


def test_git_does_not_wait_for_what_a_text_does_not_need(tmp_path: Path) -> None:
    file = tmp_path / "message.json"
    file.write_text('{"role": "user", "content": "hello"}')
    code = (
        "import sys; from caesura.adapters.cli import main;"
        f"assert main(['textconv', {str(file)!r}]) == 0; print(*sys.modules)"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    text, _, loaded = told.partition("hello\n")
    assert text == "user:\n  "
    assert {"msgspec", "cyclopts", "pygit2", "rich", "inspect", "caesura.continuations"} & set(loaded.split()) == set()


def test_a_file_that_is_not_there_is_an_error(recorded: Repository) -> None:
    told = recorded("textconv", "nowhere.json")
    assert (told.status, told.out) == (1, "")


# By author, by trailer, by what was said ---------------------------------------------------------------------------


def test_shortlog_says_who_decided_how_often(recorded: Repository) -> None:
    decided = ("--grep=^Event: Decided", "--branches=loops/*")
    assert recorded.git("shortlog", "-sn", *decided).split() == ["2", "Grace", "Hopper"]
    counted = recorded.git("shortlog", "-sn", "--group=author", "--group=trailer:decision", *decided)
    assert [line.split(None, 1) for line in counted.splitlines()] == [
        ["2", "Grace Hopper"],
        ["1", "approve"],
        ["1", "reject"],
    ]


def test_grep_finds_steps_by_their_trailers_and_by_the_person(recorded: Repository) -> None:
    log = ("log", "--format=%s", "--branches=loops/*")
    assert recorded.git(*log, "--author=Grace", "--grep=^Decision: reject") == REJECTED
    assert recorded.git(*log, "--author=Ada", "--grep=^Decision: reject") == ""
    assert len(recorded.git(*log, "--grep=^Status: suspended").splitlines()) == 6


def test_trailers_print_as_columns(recorded: Repository) -> None:
    columns = "%(trailers:key=Agent,valueonly,separator=%x2C),%(trailers:key=Tokens,valueonly,separator=%x2C)"
    told = recorded.git("log", "--first-parent", "--grep=^Event: ModelReplied", f"--format={columns}", IT)
    assert told.splitlines() == ["it,561 in, 48 out", "it,445 in, 43 out", "it,254 in, 51 out"]


def test_the_pickaxe_finds_when_something_was_first_said(recorded: Repository) -> None:
    log = ("log", "-SThinkPad T14", "--first-parent", "--reverse", "--format=%s")
    where = ("--diff-merges=first-parent", IT, "--", "messages")
    assert recorded.git(*log, *where).splitlines()[0] == SECOND
    assert recorded.taught().git(*log, "--no-patch", *where).splitlines()[0] == SECOND


# By bisection ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("start", "test"),
    [((), ("--", "sh", "-c", "! grep -q T14")), (("--no-checkout",), ("--matches", r"\A(?![\s\S]*T14)"))],
)
def test_git_bisects_a_loop_with_nested_children_in_a_bare_repository(
    recorded: Repository, start: tuple[str, ...], test: tuple[str, ...]
) -> None:
    first = recorded.git("rev-list", "--first-parent", IT).splitlines()[-1]
    recorded.git("bisect", "start", "--first-parent", *start, IT, first)
    told = recorded.git("bisect", "run", sys.executable, "-m", "caesura", "test", *test)
    bad = next(line.split()[0] for line in told.splitlines() if line.endswith("is the first bad commit"))
    assert recorded.git("log", "-1", "--format=%s", bad) == SECOND
    found = recorded("bisect", "--json", "--repo", str(recorded.where), first, IT, *test)
    assert (found.json["first"], found.json["commit"]) == ("bad", bad)


def test_git_bisects_in_a_work_tree_and_from_anywhere(recorded: Repository) -> None:
    work = recorded.folder / "work"
    recorded.git("worktree", "add", "--quiet", "--detach", str(work), IT)
    first = recorded.git("rev-list", "--first-parent", IT).splitlines()[-1]
    test = (sys.executable, "-m", "caesura", "test", "--", "sh", "-c", "! grep -q T14")
    for folder, words in ((work, ()), (recorded.folder, ("--git-dir", str(recorded.where)))):
        recorded.git(*words, "bisect", "start", "--first-parent", IT, first, folder=folder)
        found = recorded.git(*words, "bisect", "run", *test, folder=folder)
        recorded.git(*words, "bisect", "reset", folder=folder)
        assert f"    {SECOND}" in found.splitlines()


def test_git_stops_at_an_error_instead_of_taking_it_for_an_answer(recorded: Repository) -> None:
    first = recorded.git("rev-list", "--first-parent", IT).splitlines()[-1]
    recorded.git("bisect", "start", "--first-parent", IT, first)
    done = subprocess.run(
        [
            "git",
            "-C",
            recorded.where,
            "bisect",
            "run",
            sys.executable,
            "-m",
            "caesura",
            "test",
            "--",
            "no-such-command",
        ],
        env=recorded.environment | {"PYTHONPATH": os.environ.get("PYTHONPATH", "")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert "first bad commit" not in done.stdout
