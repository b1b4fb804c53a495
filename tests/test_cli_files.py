"""``caesura run --workspace`` and ``caesura files`` in processes of their own."""

import os
from pathlib import Path

import pytest

from tests.cli_process import AGENTS, Shell
from tests.workspaces import files_in, files_of, git, project_of


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


def test_what_a_loop_that_was_adopted_leaves_is_told_and_noted(shell: Shell) -> None:
    for name in ("lazy", "other"):
        assert shell("fork", "w~1", "--name", name).status == 0
    assert "folder" not in shell("adopt", "lazy", "--into", "w").out  # it never had one
    shell("files", "other", "--restore")
    folder = shell("files", "other").out.partition("\n")[0]
    told = shell("adopt", "other", "--into", "w")
    assert f"The folder of other stays until somebody deletes it: {folder}\n" in told.out
    assert Path(folder).is_dir()
    verified = shell("verify")
    assert verified.status == 0
    assert "caesura.workspaces/other/ is of the files of a loop that is gone" in verified.out


def test_a_folder_that_is_yet_to_be_made_is_not_said_to_be_as_in_the_last_commit(shell: Shell) -> None:
    assert shell("fork", "w~1", "--name", "other").status == 0
    told = shell("files", "other")
    assert told.out.endswith("not yet as in its last commit: going on makes it so, or --restore\n")
    assert shell("files", "other", "--json").json["behind"]
    shell("files", "other", "--restore")
    told = shell("files", "other")
    assert told.out.endswith("\nas in its last commit\n")
    assert files_in(Path(told.out.partition("\n")[0])) == files_of(shell.folder / ".caesura", "loops/other:workspace")


def test_what_was_changed_by_hand_is_put_back(shell: Shell) -> None:
    root = shell.folder / "project"
    shell("tell", "w", "Go on.")
    (root / "README").write_text("after\n")
    told = shell("files", "w", "--restore")
    assert told.out.endswith("1 file as the loop had it; what it was is in the commit before\n")
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


# A project ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def tea(shell: Shell) -> Path:
    """A project, and a loop that has begun with its files."""
    project = project_of(shell.folder / "tea")
    told = shell("run", f"{AGENTS}:writer", "Write.", "--loop", "t", "--from", "tea@main", "--workspace", "work")
    assert told.status == 0, told.err
    return project


def test_a_loop_begins_with_a_projects_files_and_comes_back_to_it(shell: Shell, tea: Path) -> None:
    commit = git(tea, "rev-parse", "main").decode().strip()
    assert shell("files", "t").out == f"{shell.folder}/work\nfrom: {tea}@{commit[:10]}\nas in its last commit\n"
    origin = {"repository": str(tea), "commit": commit, "held_back": []}
    assert shell("files", "t", "--json").json["origin"] == origin
    made = shell("export", "--workspace", "agents/t", "t")
    head = git(tea, "rev-parse", "agents/t").decode().strip()
    assert (made.status, made.out) == (0, f"agents/t in tea is at {head[:10]}: 2 commits of the loop's.\n")
    assert made.err == f"take it over: git -C {tea} merge agents/t\n"
    assert files_of(tea, "agents/t") == files_in(shell.folder / "work")
    again = shell("export", "--workspace", "agents/t", "t", "--json").json
    assert again == {"project": str(tea), "branch": "agents/t", "commit": head, "was": head, "commits": 2}
    assert "has all of it already" in shell("export", "--workspace", "agents/t", "t").out
    step = git(tea, "log", "-1", "--format=%(trailers:key=Caesura-Commit,valueonly,separator=)", head).decode().strip()
    assert "write" in shell("show", step).out


def test_a_borrowed_projects_objects_stay_there(shell: Shell, tea: Path) -> None:
    (tea / "borrowed").write_text("only here")
    git(tea, "add", ".")
    git(tea, "commit", "-qm", "More")
    told = shell("run", f"{AGENTS}:writer", "Write.", "--loop", "b", "--from", "tea", "--borrow")
    assert told.status == 0, told.err
    assert (shell.folder / ".caesura/objects/info/alternates").read_text() == f"{tea}/.git/objects\n"
    assert files_of(shell.folder / ".caesura", "loops/b:workspace")["borrowed"] == ("100644", b"only here")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("run", "x", "--borrow"), "Say from which project"),
        (("run", "x", "--from", "nowhere@main"), "../project@main"),
        (("run", "x", "--from", "tea@nothing"), "log --oneline --all"),
        (("run", "x", "--from", "tea", "--workspace", "project"), "empty, or not there"),
        (("export", "--workspace", "x", "t", "w"), "Name one loop"),
        (("export", "--workspace", "x", "t", "--bundle", "f"), "Name one loop"),
        (("export", "t", "--to", "tea"), "--workspace BRANCH"),
        (("export", "--workspace", "x", "w"), "--to PATH"),
        (("export", "--workspace", "main", "t"), "switch --detach"),
        (("export", "--workspace", "a b", "t"), "agents/mend"),
        (("export", "--workspace", "x", "t", "--to", "nowhere"), "Name the top of a project"),
    ],
)
def test_what_cannot_be_brought_is_refused_in_a_sentence(
    shell: Shell, tea: Path, words: tuple[str, ...], said: str
) -> None:
    words = ("run", f"{AGENTS}:writer", *words[1:]) if words[0] == "run" else words
    told = shell(*words)
    assert told.status in (1, 2)
    assert said in told.err
    assert told.err.startswith("error: ")
    assert git(tea, "for-each-ref", "--format=%(refname)").split() == [b"refs/heads/main"]
    assert [one["loop"] for one in shell("loops", "--json").json["loops"]] == ["t", "w"]
