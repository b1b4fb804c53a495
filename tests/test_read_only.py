"""A repository that may only be read: what reads does, and what would write names the file that it may not."""

import ctypes
import errno
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from caesura.adapters.cli._faults import Exit, fault_of
from caesura.continuations.store._refused import refused
from tests.cli_process import AGENTS, Shell
from tests.damage import file_of, git

_DROP_BOUND = 24  # prctl: take a capability away from what this process will execute
_OVERRIDES = (1, 2, 3)  # what lets root read and write what it may not


def _as_anybody() -> None:
    """Let root, if that is who tests, be refused what others are."""
    if os.geteuid() == 0:
        for capability in _OVERRIDES:
            ctypes.CDLL(None, use_errno=True).prctl(_DROP_BOUND, capability, 0, 0, 0)


def caesura(shell: Shell, *words: str) -> tuple[int, str, str]:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "caesura", *words],
        cwd=shell.folder,
        env=shell.environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        preexec_fn=_as_anybody,
    )
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout, done.stderr


def _is_refused(file: Path, mode: str) -> None:
    """Skip the test where nothing is refused to whoever tests."""
    probe = [sys.executable, "-c", f"open({str(file)!r}, {mode!r})"]
    if subprocess.run(probe, capture_output=True, check=False, preexec_fn=_as_anybody).returncode == 0:
        pytest.skip("nothing is refused to this user")


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    made = Shell(tmp_path)
    (tmp_path / "project").mkdir()
    (tmp_path / "caesura.toml").write_text(f'agents = "{AGENTS}:writer"\n')
    assert made("run", "Write.", "--loop", "w", "--workspace", "project").status == 0
    (tmp_path / "project" / "n0").write_text("by hand\n")
    (tmp_path / "project" / "new").mkdir()
    (tmp_path / "project" / "new" / "file").write_text("by hand\n")
    paths = [tmp_path / ".caesura", *(tmp_path / ".caesura").rglob("*")]
    for path in paths:
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        _is_refused(tmp_path / ".caesura" / "probe", "w")
        yield made
    finally:
        for path in paths:
            path.chmod(0o755 if path.is_dir() else 0o644)


def test_what_reads_does_not_write(shell: Shell) -> None:
    for words in (
        ("show", "w"),
        ("loops", "--all"),
        ("pending",),
        ("verify",),
        ("diff", "w~1", "w"),
        ("export", "w"),
        ("export", "w", "--bundle", "w.bundle"),
        ("erase", "w", "--dry-run"),
        ("prune", "w", "--keep", "1", "--dry-run"),
        ("gc", "--dry-run"),
    ):
        status, _, said = caesura(shell, *words)
        assert status == 0, (words, said)
    status, out, said = caesura(shell, "files", "w")
    assert (status, said) == (0, "")
    assert out == f"{shell.folder / 'project'}\nchanged: n0\nnew:     new/file\n"


@pytest.mark.parametrize(
    "words",
    [
        ("gc",),
        ("erase", "w", "--yes"),
        ("prune", "w", "--keep", "1", "--yes"),
        ("init",),
        ("archive", "w"),
        ("tell", "w", "More."),
        ("files", "w", "--keep"),
        ("compact", "w"),
        ("fork", "w", "--name", "v"),
    ],
)
def test_what_would_write_names_the_file_and_what_to_do(shell: Shell, words: tuple[str, ...]) -> None:
    status, _, said = caesura(shell, *words)
    assert status == 1
    assert f"Permission denied: {shell.folder / '.caesura'}" in said
    assert "[Errno" not in said
    assert "hint: " in said
    assert "ls -ld " in said or "caesura init" in said


def test_a_file_that_cannot_even_be_looked_for_is_named_too(tmp_path: Path) -> None:
    file = tmp_path / ("n" * 1000)  # as a file in a folder that may not be gone into, and for root as for anybody
    with pytest.raises(OSError, match="too long") as fault:
        file.write_text("")
    told = refused("It could not be written", fault.value)
    assert str(told) == f"It could not be written: File name too long: {file}."
    assert told.hint


def test_a_file_that_may_not_grow_is_told_from_a_full_disk() -> None:
    told = refused("The step could not be written", OSError(errno.EFBIG, os.strerror(errno.EFBIG)))
    assert str(told) == "The step could not be written: File too large."
    assert told.hint == "Let the process write larger files: 'ulimit -f' says how large they may be."


def test_a_disk_that_got_full_under_an_open_file_says_what_to_do() -> None:
    with pytest.raises(OSError, match="No space") as fault, Path("/dev/full").open("wb", buffering=0) as file:
        file.write(b"x")
    told = refused("The step could not be written", fault.value)
    assert str(told) == "The step could not be written: No space left on device."
    assert told.hint.startswith("Make room")


def test_what_the_system_refuses_is_nobodys_wrong_usage_however_it_reaches_who_tells_it() -> None:
    told = refused("The step could not be written", OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
    assert fault_of(told).status == Exit.FAILED
    assert fault_of(ExceptionGroup("of several loops", [told])).status == Exit.FAILED


def test_a_file_that_may_not_be_read_hides_no_request_and_hinders_no_decision(tmp_path: Path) -> None:
    shell, file = Shell(tmp_path), tmp_path / "project" / "README"
    file.parent.mkdir()
    file.write_text("before\n")
    assert shell("run", f"{AGENTS}:mender", "Mend.", "--loop", "w", "--workspace", "project").status == 3
    file.chmod(0)
    try:
        _is_refused(file, "r")
        said = "its files cannot be shown: The files of w could not be read: Permission denied: README.\n"
        status, out, _ = caesura(shell, "pending")
        assert (status, said in out) == (0, True)
        status, out, _ = caesura(shell, "pending", "--json")
        (waiting,) = json.loads(out)["pending"]
        assert (status, waiting["changes"], waiting["preview"]["out_of_date"]) == (0, None, None)
        status, _, err = caesura(shell, "approve", "w.edit_file-1", "--yes")
        assert (status, said in err) == (0, True)
    finally:
        file.chmod(0o644)


@pytest.mark.parametrize("kept", ["files", "packs", "branch"])
def test_what_may_not_be_read_is_not_called_damaged_and_nothing_goes_back_because_of_it(
    tmp_path: Path, kept: str
) -> None:
    shell, repo = Shell(tmp_path), tmp_path / ".caesura"
    for loop in ("own", "other"):
        assert shell("run", f"{AGENTS}:echo", "Hello.", "--loop", loop).status == 0
        if kept == "packs":
            assert shell("gc").status == 0
    head = git(repo, "rev-parse", "loops/other")
    before = {file: file.read_bytes() for file in repo.rglob("*") if file.is_file()}
    places = {"files": [file_of(repo, head)], "branch": [repo / "refs/heads/loops/other"]}
    (file,) = places.get(kept) or repo.glob("objects/pack/*.idx")
    file.chmod(0)
    said, hint = f"could not be read: Permission denied: {file}.", f"ls -ld {file}"
    try:
        _is_refused(file, "r")
        status, out, err = caesura(shell, "loops")
        assert (status, "own" in out) == (1, kept != "packs")  # the others are none the worse
        for told in (err, caesura(shell, "show", "other")[2], caesura(shell, "verify")[1]):
            assert said in told
            assert hint in told
            assert "repair" not in told
        for words in (("repair", "--yes"), ("repair", "other", "--yes")):
            status, out, err = caesura(shell, *words)
            assert status == 1
            assert said in out + err
            assert hint in out + err
    finally:
        file.chmod(0o444)
    assert {file: file.read_bytes() for file in repo.rglob("*") if file.is_file()} == before
    assert shell("loops").status == 0


def test_a_repository_that_may_not_be_looked_into_is_not_said_to_be_none(tmp_path: Path) -> None:
    shell, repo = Shell(tmp_path), tmp_path / ".caesura"
    assert shell("init").status == 0
    repo.chmod(0)
    try:
        _is_refused(repo / "HEAD", "r")
        status, _, said = caesura(shell, "loops")
        assert status == 1
        assert said == (
            f"error: {repo} could not be opened: Permission denied: {repo / 'HEAD'}.\n"
            f"hint: See whose it is, and who may read or write it: ls -ld {repo}\n"
        )
    finally:
        repo.chmod(0o755)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_another_users_repository_is_told_from_none_and_what_git_wants_is_said(tmp_path: Path) -> None:
    shell, repo = Shell(tmp_path), tmp_path / ".caesura"
    assert shell("init").status == 0
    os.chown(repo, 12345, -1)
    told = shell("loops")
    assert told.status == 2
    assert told.err == (
        f"error: {repo} is another user's, and git opens no such repository unasked.\n"
        f"hint: If you trust them: git config --global --add safe.directory {repo}\n"
    )
    with (tmp_path / "home" / ".gitconfig").open("a") as settings:
        settings.write(f"[safe]\n\tdirectory = {repo}\n")
    assert shell("loops").status == 0


@pytest.mark.parametrize("what", ["folder", "file"])
def test_what_is_no_repository_is_not_said_to_become_one_by_what_was_just_tried(tmp_path: Path, what: str) -> None:
    shell, place = Shell(tmp_path), tmp_path / "place"
    if what == "folder":
        place.mkdir()
    (place / "notes" if what == "folder" else place).write_text("mine")
    for command in ("init", "loops"):
        told = shell(command, "--repo", "place")
        assert told.status == 2
        assert told.err == (
            "error: place is not a git repository.\n"
            "hint: Name another with --repo; 'caesura init' makes one where nothing is, or in an empty folder.\n"
        )


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        ("[extensions]\n\trefstorage = reftable\n", "unsupported extension name extensions.refstorage"),
        ("[extensions\n", "failed to parse config file: missing ']' in section header (in {config}:{line})"),
    ],
)
def test_a_repository_that_cannot_be_read_is_told_from_a_folder_that_is_none(
    tmp_path: Path, lines: str, why: str
) -> None:
    shell, config = Shell(tmp_path), tmp_path / "place" / "config"
    assert shell("init", "--repo", "place").status == 0
    git(config.parent, "config", "core.repositoryFormatVersion", "1")
    config.write_text(config.read_text() + lines)
    why = why.format(config=config, line=len(config.read_text().splitlines()))
    for command in ("loops", "init", "gc"):
        told = shell(command, "--repo", "place")
        assert told.status == 2
        assert told.err == (
            f"error: place could not be opened: {why}.\n"
            "hint: Mend its configuration if that is what is meant; reftables and SHA-256 cannot be read.\n"
        )
