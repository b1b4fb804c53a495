"""``caesura verify`` and ``caesura repair`` in processes of their own."""

import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli_process import AGENTS, Shell
from tests.damage import file_of, git, is_whole, object_of, snapshot, tear

LEAD = f"{AGENTS}:lead"


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    made = Shell(tmp_path)
    assert made("run", LEAD, "Onboard Ada", "--loop", "onboard").status == 3
    return made


def repository(shell: Shell) -> Path:
    return shell.folder / ".caesura"


def torn(shell: Shell, loop: str = "onboard") -> str:
    """Tear a loop's newest commit; which it was."""
    head = object_of(repository(shell), f"loops/{loop}")
    tear(file_of(repository(shell), head), "truncated")
    return head


def test_a_healthy_repository_is_verified_and_not_repaired(shell: Shell) -> None:
    told = shell("verify")
    assert (told.status, told.err) == (0, "")
    assert told.out.startswith("2 loops, ")
    assert told.out.endswith(": no fault\n")
    told = shell("verify", "onboard.it-1", "--json")
    assert told.json == {"loops": 1, "commits": told.json["commits"], "faults": [], "notes": []}
    before = snapshot(repository(shell))
    told = shell("repair")
    assert (told.status, told.out) == (0, "There is nothing to repair.\n")
    assert snapshot(repository(shell)) == before
    assert shell("verify", "other").status == 2
    assert shell("repair", "other").status == 2


def test_a_fault_is_one_line_with_loop_commit_fault_and_what_to_do(shell: Shell) -> None:
    head = torn(shell)
    told = shell("verify")
    assert told.status == 1
    fault, summary = told.out.splitlines()
    assert fault.startswith(f"onboard {head[:12]}: Object {head} is damaged (")
    assert fault.endswith(
        "'caesura repair onboard' goes back to the last good commit, or takes what is lost from a copy."
    )
    assert summary.endswith(": 1 fault")
    (one,) = shell("verify", "--json").json["faults"]
    assert (one["loop"], one["commit"]) == ("onboard", head)


def test_other_commands_name_the_loop_and_the_command_that_repairs_it(shell: Shell) -> None:
    torn(shell)
    told = shell("resume", "onboard", "--agents", LEAD)
    assert told.status == 1
    assert "error: onboard cannot be read: Object " in told.err
    assert "hint: 'caesura repair onboard' goes back to its last good commit" in told.err
    for command in ("loops", "pending"):
        told = shell(command)
        assert "hint: 'caesura repair onboard' goes back" in told.err
        assert told.status == 1, "whoever takes the list for the whole must not miss that it is not"
        assert shell(command, "--json").status == 1
    tear(file_of(repository(shell), object_of(repository(shell), "loops/onboard.it-1")), "truncated")
    assert shell("pending").out == "Nothing waits in the loops that can be read.\n"


def test_an_empty_list_of_branches_is_told_as_that(shell: Shell) -> None:
    git(repository(shell), "pack-refs", "--all")
    (repository(shell) / "packed-refs").write_bytes(b"")
    told = shell("repair", "--yes")
    assert "packed-refs is empty, and will be a list of no branches.\n" in told.err + told.out
    assert "packed-refs was empty. If a loop is missing: caesura repair LOOP\n" in told.out
    assert "left out" not in told.err + told.out
    assert shell("repair", "onboard", "--yes").status == 0
    assert is_whole(repository(shell))


def test_a_repair_is_shown_first_and_only_done_by_somebody_who_agrees(shell: Shell) -> None:
    head = torn(shell)
    before = snapshot(repository(shell))
    told = shell("repair", "onboard")
    assert told.status == 2
    assert "Add --yes to repair without being asked." in told.err
    assert snapshot(repository(shell)) == before
    terminal = shell.terminal("repair", "onboard")
    terminal.until("Repair? [y/N] ")
    terminal.type("n")
    assert terminal.end() == 1
    assert "Nothing was repaired." in terminal.screen
    assert snapshot(repository(shell)) == before
    terminal = shell.terminal("repair", "onboard")
    terminal.until("Repair? [y/N] ")
    assert " goes back to " in terminal.screen
    assert f"Lost: {head[:12]}" in terminal.screen
    assert f"objects/{head[:2]}/{head[2:]}" in terminal.screen
    terminal.type("y")
    assert terminal.end() == 0
    assert is_whole(repository(shell))


def test_a_repaired_loop_goes_on_by_the_commands_that_are_shown(shell: Shell) -> None:
    head = torn(shell)
    told = shell("repair", "--yes")
    assert told.status == 0
    lines = told.out.splitlines()
    assert lines[0].startswith("onboard goes on from ")
    kept = next(line.removeprefix("kept: ") for line in lines if line.startswith("kept: "))
    assert (repository(shell) / kept).is_file()
    assert kept.endswith(f"{head[:2]}/{head[2:]}")
    assert shell("repair").out == "There is nothing to repair.\n"
    # With --from and a person who is named, as a program reads it.
    pending = next(line for line in lines if line.startswith("look, then let it go on: ")).partition(": ")[2]
    told = shell(*shlex.split(pending)[1:])
    assert "steps after" in told.out
    assert "caesura approve onboard.gate-1" in told.out
    assert shell("resume", "onboard", "--agents", LEAD).status == 3
    assert shell("approve", "onboard.gate-1", "--yes").status == 0
    assert shell("resume", "onboard", "--agents", LEAD).status == 3
    assert shell("approve", "onboard.it-1.order-1", "--yes").status == 0
    assert shell("resume", "onboard", "--agents", LEAD).status == 0
    assert shell("verify").status == 0


def test_a_repair_from_a_copy_is_told_to_a_program(shell: Shell) -> None:
    copy = shell.folder / "copy.git"
    git(repository(shell), "clone", "--quiet", "--mirror", ".", str(copy))
    head = torn(shell)
    told = shell("repair", "--from", str(copy), "--yes", "--json").json
    assert told["restored"] == [head]
    assert (told["repaired"], told["hopeless"]) == ([], [])
    assert object_of(repository(shell), "loops/onboard") == head
    torn(shell)
    told = shell("repair", "--yes", "--json", "--by", "Grace Hopper <grace@example.com>").json
    (one,) = told["repaired"]
    assert (one["loop"], one["lost"]) == ("onboard", [head])
    assert git(repository(shell), "log", "-1", "--format=%an", one["commit"]) == "Grace Hopper"
    assert shell("repair", "--from", "nowhere").status == 2


def test_of_a_copy_that_is_none_it_is_said_what_to_name_and_not_how_to_make_a_repository(shell: Shell) -> None:
    torn(shell)
    (shell.folder / "empty").mkdir()
    for copy, said in (("nowhere", "There is no repository at nowhere."), ("empty", "empty is not a git repository.")):
        told = shell("repair", "--from", copy, "--yes")
        assert told.status == 2
        assert told.err.startswith(f"error: {said}\nhint: Name the folder of a copy that is whole: ")
        assert "init" not in told.err


def test_what_cannot_be_repaired_is_said_with_what_else_to_do(shell: Shell) -> None:
    first = git(repository(shell), "rev-list", "--max-parents=0", "loops/onboard").splitlines()
    for commit in first:
        tear(file_of(repository(shell), object_of(repository(shell), f"{commit}:messages")), "zero length")
    told = shell("repair", "onboard", "--yes")
    assert told.status == 1
    assert "onboard stays as it is. " in told.out
    assert "--from PATH" in told.out


def test_a_secret_that_a_command_cannot_know_is_warned_of_where_something_is_written(shell: Shell) -> None:
    (shell.folder / "caesura.toml").write_text('redact.env = ["DB_PASSWORD", "OTHER"]\n')
    told = shell("tell", "onboard", "Hello.", OTHER="a secret")
    assert told.err == "warning: DB_PASSWORD of redact.env is not set here: its value would not be recognized.\n"
    assert shell("pending").err == ""
    assert "warning" not in shell("tell", "onboard", "Hello.", OTHER="a secret", DB_PASSWORD="another").err  # noqa: S106


def test_gc_says_what_it_would_do_does_it_and_has_nothing_more_to_do(shell: Shell) -> None:
    before = snapshot(repository(shell))
    told = shell("gc", "--dry-run")
    assert (told.status, told.err) == (0, "")
    assert told.out.startswith("would put ")
    would = shell("gc", "-n", "--json").json
    assert snapshot(repository(shell)) == before
    done = shell("gc", "--json").json
    assert (done["objects"], done["packs"], done["branches"]) == (would["objects"], 0, would["branches"])
    assert done["before"] == would["before"]
    assert done["after"] == {**done["after"], "objects": 0, "packs": 1, "branches": 0}
    assert shell("gc").out == (
        "There is nothing to do. 0 objects and 0 branches with files of their own, 1 pack,"
        f" {done['after']['size'] / 1e3:,.1f} kB\n"
    )
    assert shell("verify").out.endswith(": no fault\n")
    assert shell("approve", "onboard.it-1.order-1", "--yes").status == 0


def test_gc_counts_the_packs_that_were_there_before_whatever_it_makes_meanwhile(shell: Shell) -> None:
    for packs in (0, 1, 1):
        shell("tell", "onboard", "Hello.")
        would, before = shell("gc", "-n", "--json").json, shell("gc", "-n").out
        told = shell("gc").out.splitlines()
        assert (would["packs"], would["before"]["packs"]) == (packs, packs)
        assert before == f"would {told[0]}\n"
        assert ("objects and 1 pack into one" if packs else "objects into packs") in told[0]
        assert f", {'1 pack' if packs else '0 packs'}, " in told[1]
        assert ", 1 pack, " in told[2]
    shell("tell", "onboard", "Hello.")
    git(repository(shell), "repack", "--quiet")
    would, told = shell("gc", "-n").out, shell("gc").out.splitlines()
    assert would == f"would {told[0]}\n"
    assert "objects and 2 packs into one" in told[0]
    assert ", 2 packs, " in told[1]


def test_gc_brings_to_git_what_a_process_that_died_had_not_sealed(shell: Shell) -> None:
    folder = repository(shell)
    head = object_of(folder, "loops/onboard")
    died = """
import os, sys
from caesura.continuations import Loops
Loops.open(sys.argv[1], visibility="sealed").tell("onboard", "Hello.", by="Ada <ada@example.com>")
os._exit(0)
"""
    subprocess.run([sys.executable, "-c", died, folder], check=True)
    assert object_of(folder, "loops/onboard") == head
    shell("gc", "--dry-run")
    assert object_of(folder, "loops/onboard") == head
    assert shell("gc").status == 0
    assert object_of(folder, "loops/onboard~1") == head
    assert not list((folder / "refs").rglob("*.lock"))
