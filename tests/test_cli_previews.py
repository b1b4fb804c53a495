"""What the command line shows of files before somebody decides: what a call would change, and what a loop has."""

import subprocess
import sys
from pathlib import Path

import pytest

from caesura.adapters.cli._output import Page
from caesura.adapters.cli._shown_files import preview_lines
from caesura.continuations import LINK, PLAIN, FileContent, Preview, file_patch
from tests.cli_process import AGENTS, Shell
from tests.workspaces import files_in, files_of

ID = "w.edit_file-1"


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    made = Shell(tmp_path)
    root = tmp_path / "project"
    root.mkdir()
    (root / "README").write_text("before\n")
    assert made("run", f"{AGENTS}:mender", "Mend.", "--loop", "w", "--workspace", "project").status == 3
    return made


def test_what_waits_says_how_much_would_change_and_has(shell: Shell) -> None:
    told = shell("pending")
    assert "  it would change: 1 file, +1 -1: README\n" in told.out
    assert '): 1 file, +300 -0: "wild\\033[31m\\342\\200\\256"\n' in told.out
    assert "all of it: caesura files w --diff" in told.out
    assert "@@" not in told.out
    assert "it would change: 1 file, +1 -1: README" in shell("show", "w").out


def test_a_request_is_shown_with_both_diffs_and_nothing_of_them_commands_a_terminal(shell: Shell) -> None:
    told = shell("show", ID)
    assert told.status == 0
    for line in (
        "    │ --- a/README",
        "    │ -before",
        "    │ +after\N{REPLACEMENT CHARACTER}[2J",
        "    │ +evil\N{REPLACEMENT CHARACTER}]0;owned\N{REPLACEMENT CHARACTER}\N{REPLACEMENT CHARACTER}",
        f"  caesura approve {ID}",
    ):
        assert f"{line}\n" in told.out
    full = shell("show", "w", "--full").out
    assert "      │ +after" in full or "  │ +after" in full
    for text in (told.out, full, shell("pending").out):
        assert not {"\x1b", "\x07", "\u202e"} & set(text)


def test_no_line_of_a_file_can_hide_those_after_it() -> None:
    """A patch of what is no text begins with such a line; a file may have one too, and others of a patch."""
    said = b"one\nGIT binary patch\nliteral 3\nindex 1..2\nrm -rf /\n"
    for before in (None, FileContent(b"one\n"), FileContent(b"one\nGIT binary patch\n")):
        preview = Preview(
            files=(file_patch("a", before, FileContent(said)), file_patch("b", FileContent(b"b\n"), None))
        )
        page = Page()
        preview_lines(page, preview, full=True)
        for line in ("GIT binary patch", "+literal 3", "+index 1..2", "+rm -rf /", "-b"):
            assert line in page.plain
        assert "is no text" not in page.plain


def test_what_is_no_text_is_said_and_what_comes_after_it_is_shown() -> None:
    page = Page()
    link = file_patch("a", FileContent(b"\0" * 99, PLAIN), FileContent(b"elsewhere", LINK))
    preview_lines(page, Preview(files=(link,)), full=True)
    assert "what is in it is no text" in page.plain
    assert "literal" not in page.plain
    assert "+elsewhere" in page.plain


def test_programs_get_both_diffs(shell: Shell) -> None:
    (waiting,) = shell("pending", "--json").json["pending"]
    assert waiting == shell("show", ID, "--json").json
    preview, changes = waiting["preview"], waiting["changes"]
    assert preview["files"] == [{"path": "README", "kind": "M", "added": 1, "removed": 1, "text": True, "note": None}]
    assert (preview["left_out"], preview["failed"], preview["out_of_date"]) == (0, None, [])
    assert preview["patch"].endswith("-before\n+after\x1b[2J\n")
    assert [file["kind"] for file in changes["files"]] == ["A"]
    (call,) = shell("show", "w", "--json").json["calls"]
    assert call["preview"]["patch"] == preview["patch"]


def test_programs_get_them_from_every_command_that_says_what_waits(shell: Shell) -> None:
    (waiting,) = shell("pending", "--json").json["pending"]
    assert shell("resume", "w", "--agents", f"{AGENTS}:mender", "--json").json["pending"] == [waiting]
    started = ("run", f"{AGENTS}:mender", "Mend.", "--loop", "other", "--workspace", "another", "--json")
    (shell.folder / "another").mkdir()
    (shell.folder / "another" / "README").write_text("before\n")
    (begun,) = shell(*started).json["pending"]
    assert (begun["preview"]["patch"], begun["changes"]["patch"]) == (
        waiting["preview"]["patch"],
        waiting["changes"]["patch"],
    )
    for command in (("tell", "w", "Take care."), ("fork", "w", "--name", "fork")):
        (still,) = shell(*command, "--json").json["pending"]
        assert still["preview"] == waiting["preview"]
        assert still["changes"] is not None


def test_git_takes_what_the_command_prints(shell: Shell, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    (copy / "README").write_text("before\n")
    command = f"'{sys.executable}' -m caesura files w --diff"  # which need not be on the path
    script = f"cd '{shell.folder}' && {command} | git -C copy apply --whitespace=nowarn"
    environment = {**shell.environment, "GIT_CEILING_DIRECTORIES": str(tmp_path)}
    subprocess.run(["bash", "-o", "pipefail", "-c", script], check=True, env=environment)
    assert files_in(copy) == files_of(shell.folder / ".caesura", "loops/w:workspace")
    terminal = shell.terminal("files", "w", "--diff")
    assert terminal.end() == 0
    assert "+evil" in terminal.screen
    assert "\x1b]" not in terminal.screen


def test_whoever_approves_is_shown_both_and_told_what_it_was(shell: Shell) -> None:
    terminal = shell.terminal("approve", ID)
    terminal.until("Approve?")
    assert "-before" in terminal.screen
    assert "+evil" in terminal.screen
    assert "\x1b]0" not in terminal.screen
    terminal.type("y")
    assert terminal.end() == 0
    assert f"Approved {ID}, as shown: 1 file, +1 -1." in terminal.screen
    assert "no file" in shell("files", "w", "--diff").err
    assert shell("resume", "w", "--agents", f"{AGENTS}:mender").status == 0
    assert (shell.folder / "project" / "README").read_text() == "after\x1b[2J\n"


def test_a_preview_of_other_files_says_so(shell: Shell) -> None:
    (shell.folder / "project" / "README").write_text("before that\n")
    said = "out of date: what it would change was told of files that are by now another: README\n"
    assert said in shell("pending").out
    assert said in shell("show", ID).out
    approved = shell("approve", ID, "--yes")
    assert approved.err.endswith(said)  # nothing stands between it and the question
    assert approved.out.startswith(f"Approved {ID}, as shown: 1 file, +1 -1.\n")  # not: what it will change
    assert shell("pending", "--json").json["pending"] == []


def test_what_is_much_is_cut_and_says_what_shows_the_rest(shell: Shell) -> None:
    told = shell("show", ID)
    assert "    [106 more lines; all of it: caesura files w --diff]\n" in told.out
    changes = shell("show", ID, "--json").json["changes"]
    whole = shell("files", "w", "--diff", "--json").json
    assert (changes["left_out"], whole["left_out"]) == (106, 0)
    assert whole["patch"].startswith(changes["patch"])
    assert whole["patch"].count("\n") == 306


def test_what_does_not_wait_is_told_in_a_sentence(shell: Shell) -> None:
    assert "already approved" in (shell("approve", ID, "--yes"), shell("show", ID))[1].err
    assert shell("show", "w.nothing-1").status == 2
    assert shell("show", "nowhere.order-1").status == 2
    assert shell("files", "w", "--diff", "--keep").status == 2
