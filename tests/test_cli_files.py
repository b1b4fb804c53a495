"""``caesura run --workspace`` and ``caesura files`` in processes of their own."""

import os
from pathlib import Path

import pytest

from tests.cli_process import AGENTS, Shell
from tests.workspaces import files_in, files_of


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    made = Shell(tmp_path)
    root = tmp_path / "project"
    root.mkdir()
    (root / "README").write_text("before\n")
    assert made("run", f"{AGENTS}:writer", "Write.", "--loop", "w", "--workspace", "project").status == 0
    return made


def test_a_loop_works_in_the_folder_that_it_is_given(shell: Shell) -> None:
    root = shell.folder / "project"
    assert files_in(root).keys() == {"README", "n0", "n1"}
    assert files_of(shell.folder / ".caesura", "loops/w:workspace") == files_in(root)
    told = shell("files", "w")
    assert (told.status, told.out) == (0, f"{root}\nas in its last commit\n")


def test_what_was_changed_by_hand_is_shown_refused_and_kept(shell: Shell) -> None:
    root = shell.folder / "project"
    (root / "README").write_text("after\n")
    (root / os.fsdecode(b"\xff\x1b[31m")).write_text("")
    (root / "n0").unlink()
    shell("tell", "w", "Go on.")
    refused = shell("resume", "w", "--agents", f"{AGENTS}:writer")
    assert refused.status == 1
    assert "3 files differ" in refused.err
    assert "caesura files w" in refused.err
    told = shell("files", "w")
    assert "changed: README\ndeleted: n0\nnew:     " in told.out
    assert "\x1b" not in told.out
    kept = shell("files", "w", "--keep", "--json")
    assert [change["kind"] for change in kept.json["changes"]] == ["M", "D", "A"]
    assert shell("files", "w", "--json").json["changes"] == []
    assert shell("resume", "w", "--agents", f"{AGENTS}:writer").status == 0
    assert (root / "README").read_text() == "after\n"
    assert shell("verify").status == 0


def test_what_was_changed_by_hand_is_put_back(shell: Shell) -> None:
    root = shell.folder / "project"
    shell("tell", "w", "Go on.")
    (root / "README").write_text("after\n")
    told = shell("files", "w", "--restore")
    assert told.out.endswith("1 file as the loop had them; what they were is in the commit before\n")
    assert (root / "README").read_text() == "before\n"
    assert shell("resume", "w", "--agents", f"{AGENTS}:writer").status == 0


def test_what_cannot_be_done_is_said_in_a_sentence(shell: Shell) -> None:
    assert shell("files", "w", "--keep", "--restore").status == 2
    assert shell("files", "nothing").status == 2
    assert shell("run", f"{AGENTS}:writer", "x", "--loop", "v", "--workspace", "nowhere").status == 2
    assert shell("loops", "--json").json["loops"][0]["loop"] == "w"
    assert len(shell("loops", "--json").json["loops"]) == 1


def test_a_fork_works_in_a_folder_of_its_own(shell: Shell) -> None:
    shell("fork", "w~4", "--name", "other")
    assert shell("resume", "other", "--agents", f"{AGENTS}:writer").status == 0
    told = shell("files", "other", "--json").json
    assert Path(told["folder"]).is_relative_to(shell.folder / ".caesura")
    assert files_in(Path(told["folder"])) == files_in(shell.folder / "project")
