"""``caesura archive``, ``prune`` and ``erase`` in processes of their own."""

from pathlib import Path

import msgspec
import pytest

from caesura.continuations import WorkerId, claim_of, utc_now
from tests.cli_process import AGENTS, Shell
from tests.damage import file_of, git, object_of, tear

LEAD = f"{AGENTS}:lead"


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    """Two loops, of which one has ended and one waits."""
    made = Shell(tmp_path)
    for name in ("done", "waits"):
        assert made("run", LEAD, "Onboard Ada", "--loop", name).status == 3
    assert made("approve", "done.it-1.order-1", "--yes").status == 0
    assert made("resume", "done", "--agents", LEAD).status == 0
    return made


def repository(shell: Shell) -> Path:
    return shell.folder / ".caesura"


def refs(shell: Shell) -> list[str]:
    return git(repository(shell), "for-each-ref", "--format=%(refname)").splitlines()


def test_what_has_ended_is_archived_found_by_its_name_and_brought_back(shell: Shell) -> None:
    before = refs(shell)
    told = shell("archive", "--finished", "--dry-run")
    assert (told.status, told.out) == (0, "done would be archived.\n")
    assert shell("archive", "--finished", "--older-than", "1d").out == "No loop has ended so long ago.\n"
    assert refs(shell) == before
    told = shell("archive", "--finished", "--older-than", "0s")
    assert told.status == 2
    assert "'0s' is no span of time" in told.err
    told = shell("archive", "--finished")
    assert (told.status, told.out) == (0, "done archived.\n")
    assert "caesura archive done --restore" in told.err
    assert refs(shell) == [
        "refs/archive/loops/done",
        "refs/archive/loops/done.it-1",
        "refs/heads/loops/waits",
        "refs/heads/loops/waits.it-1",
    ]
    told = shell("loops")
    assert "done" not in told.out
    assert "1 loop in the archive: caesura loops --archived" in told.err
    listed = shell("loops", "--archived", "--json").json
    assert [one["loop"] for one in listed["loops"]] == ["done"]
    assert [one["loop"] for one in shell("loops", "--archived", "--all", "--json").json["loops"]] == [
        "done",
        "done.it-1",
    ]
    told = shell("show", "done")
    assert told.status == 0
    assert "done is in the archive. bring it back: caesura archive done --restore" in told.err
    told = shell("tell", "done", "More.")
    assert told.status == 2
    assert "done is in the archive" in told.err
    assert "caesura archive --restore done" in told.err
    assert shell("verify").status == 0
    assert shell("verify", "done").out.startswith("2 loops, ")
    assert shell("archive", "done", "--restore", "--json").json == {"loops": ["done"], "done": True}
    assert refs(shell) == before
    assert shell("loops", "--archived").out == "There are no loops in the archive.\n"
    assert shell("tell", "done", "More.").status == 0


def test_what_is_done_already_is_said_and_no_option_is_passed_over(shell: Shell) -> None:
    assert shell("archive", "done", "--restore").out == "done is in no archive.\n"
    assert shell("archive", "done").out == "done archived.\n"
    told = shell("archive", "done")
    assert (told.status, told.out) == (0, "done is in the archive already.\n")
    for words in (
        ("prune", "done", "--older-than", "30d", "--yes"),
        ("prune", "--older-than", "30d"),
        ("archive", "waits", "--older-than", "30d"),
    ):
        told = shell(*words)
        assert (told.status, "--older-than chooses among --finished." in told.err) == (2, True)
    told = shell("cancel", "waits")
    told = shell("compact", "waits")
    assert "The loop was cancelled: its messages are not sent any more" in told.err
    assert shell("archive", "done", "waits").err == "bring one of them back: caesura archive done --restore\n"
    for name in ("done", "waits"):
        assert shell("erase", name, "--yes").status == 0
    assert shell("loops").out.startswith("There are no loops in .caesura; 2 loops were erased.\n")


def test_of_a_nested_loop_whose_root_is_gone_every_command_says_the_same(shell: Shell) -> None:
    git(repository(shell), "update-ref", "-d", "refs/heads/loops/waits")
    gone = "There is no loop 'waits' any more, only what was nested in it: waits.it-1."
    for words in (
        ("resume", "waits.it-1", "--agents", LEAD),
        ("resume", "waits", "--agents", LEAD),
        ("approve", "waits.it-1.order-1", "--yes"),
        ("tell", "waits", "Go on."),
        ("archive", "waits"),
        ("prune", "waits"),
        ("export", "waits", "--bundle", "b"),
    ):
        told = shell(*words)
        assert (told.status, gone in told.err, "caesura fork waits.it-1" in told.err) == (2, True, True), told
    told = shell("archive", "waits.it-1")
    assert (told.status, "waits.it-1 is nested in waits" in told.err) == (2, True)
    assert shell("fork", "waits.it-1").status == 0


def test_what_has_not_ended_is_not_archived_and_none_is_if_one_cannot_be(shell: Shell) -> None:
    before = refs(shell)
    told = shell("archive", "done", "waits")
    assert told.status == 2
    assert "waits has not ended: it is suspended." in told.err
    assert "caesura cancel waits" in told.err
    assert shell("archive", "done", "nothing").status == 2
    assert shell("archive").status == 2
    assert shell("archive", "done", "--finished").status == 2
    assert shell("archive", "--finished", "--restore").status == 2
    assert refs(shell) == before
    assert shell("archive", "done").status == shell("archive", "done").status == 0


def test_a_damaged_loop_in_the_archive_is_told_of_and_repaired_once_it_is_back(shell: Shell) -> None:
    shell("archive", "done")
    tear(file_of(repository(shell), object_of(repository(shell), "refs/archive/loops/done")), "truncated")
    told = shell("verify")
    assert told.status == 1
    assert "'caesura archive --restore done' brings it back" in told.out
    told = shell("loops", "--archived")
    assert (told.status, "loops/done: " in told.err) == (1, True)
    assert shell("repair", "done", "--yes").status == 2
    assert shell("archive", "done", "--restore").status == 0
    assert shell("repair", "done", "--yes").status == 0
    assert shell("verify").status == 0


def test_what_is_erased_is_shown_first_and_gone_once_somebody_agrees(shell: Shell) -> None:
    before = refs(shell)
    told = shell("erase", "done", "--dry-run")
    assert (told.status, told.out) == (0, "done would be erased.\n")
    told = shell("erase", "done")
    assert told.status == 2
    assert "There is no way back." in told.err
    terminal = shell.terminal("erase", "done")
    terminal.until("Erase? [y/N] ")
    terminal.type("n")
    assert terminal.end() == 1
    assert refs(shell) == before
    assert shell("fork", "done", "--name", "copy").status == 0
    told = shell("erase", "done", "--yes")
    assert told.status == 1
    assert "a part of refs/heads/loops/copy as well" in told.err
    assert shell("erase", "done", "--with-forks", "--dry-run").out == "copy, done would be erased.\n"
    told = shell("erase", "done", "--with-forks", "--yes", "--why", "Ada asked for it.", "--json").json
    assert (list(told["erased"]), told["done"], told["objects"] > 20) == (["copy", "done"], True, True)
    assert refs(shell) == [
        "refs/archive/erased/copy",
        "refs/archive/erased/done",
        "refs/heads/loops/waits",
        "refs/heads/loops/waits.it-1",
    ]
    assert git(repository(shell), "log", "-1", "--format=%an: %s", "refs/archive/erased/done") == (
        "Ada Tester: done: erased: Ada asked for it."
    )
    assert git(repository(shell), "config", "--get-regexp", "^caesura.done", check=False) == ""
    assert shell("erase", "done.it-1", "--yes").status == 2
    assert shell("erase", "done", "--yes").out == "0 objects gone.\n"
    told = shell("verify")
    assert (told.status, "note" in told.out) == (0, False)
    told = shell("show", "done")
    assert told.status == 2


def test_what_is_pruned_is_shown_first_and_verifies_afterwards(shell: Shell) -> None:
    for word in ("Once more.", "And again."):
        assert shell("tell", "done", word).status == 0
        assert shell("resume", "done", "--agents", LEAD).status == 0
    head = object_of(repository(shell), "loops/done")
    told = shell("prune", "done", "--keep", "1", "--dry-run")
    assert told.status == 0
    assert told.out.startswith("done: ")
    assert " commits would become " in told.out
    assert shell("prune", "done", "--keep", "1").status == 2
    terminal = shell.terminal("prune", "done", "--keep", "1")
    terminal.until("Prune? [y/N] ")
    terminal.type("n")
    assert terminal.end() == 1
    assert shell("prune", "waits", "--yes").status == 2
    assert shell("prune", "--keep", "1", "--yes").status == 2
    assert shell("prune", "done", "--keep", "0", "--yes").status == 2
    assert shell("prune", "done", "--status", "failed", "--yes").status == 2
    assert object_of(repository(shell), "loops/done") == head
    assert shell("prune", "--finished", "--status", "failed", "--yes").out == "There is nothing to prune.\n"
    lease = repository(shell) / "caesura.leases" / "done"
    lease.write_bytes(msgspec.json.encode(claim_of(WorkerId("w"), utc_now())))
    told = shell("prune", "--finished", "--keep", "1", "--yes")
    assert (told.status, told.out) == (0, "There is nothing to prune.\n")
    assert "done stays as it is: done is being driven by process" in told.err
    lease.unlink()
    told = shell("prune", "--finished", "--status", "completed", "--keep", "1", "--yes", "--json").json
    assert told["done"]
    assert told["objects"] > 5
    assert [cut["loop"] for cut in told["cuts"]] == ["done", "done.it-1"]
    assert shell("prune", "done", "--keep", "1", "--yes").out == "There is nothing to prune.\n"
    told = shell("verify")
    assert told.status == 0
    assert "pruned by Ada Tester <ada@example.com>: their steps cannot be checked any more." in told.out
    assert shell("show", "done").status == shell("diff", "done", "waits").status == 0
    assert shell("tell", "done", "Go on.").status == 0
    assert shell("resume", "done", "--agents", LEAD).status == 0


def test_a_bundle_that_cannot_be_written_names_the_folder_to_look_at(shell: Shell) -> None:
    told = shell("export", "done", "--bundle", "gone/b.bundle")
    assert told.status == 2
    assert told.err.startswith("error: No bundle could be made: ")
    assert (
        f"hint: See whether {shell.folder / 'gone'} may be written, and has room; then 'caesura verify'.\n" in told.err
    )
