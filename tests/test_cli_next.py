"""The next command that a screen shows is the one that works."""

import datetime as dt
import subprocess
from pathlib import Path

import msgspec
import pytest

from caesura.continuations import GitStore, LoopName, WorkerId, claim_of
from tests.cli_process import AGENTS, Shell, wait_for_line

AUTHORIZE = "onboarding.it-1.accounts-1.authorize_account-1"


@pytest.fixture
def demo(tmp_path: Path) -> Shell:
    """A folder with the demo in it, which waits for two decisions."""
    shell = Shell(tmp_path)
    told = shell("demo")
    assert told.status == 3
    assert told.err.rstrip().endswith("then: caesura demo")
    return shell


def test_the_demo_is_gone_on_with_by_the_demo_and_so_is_a_fork_of_it(demo: Shell) -> None:
    assert "go on: caesura demo\n" in demo("approve", AUTHORIZE, "--yes").out
    assert "caesura demo --loop alone" in demo("fork", "onboarding.it-1", "--name", "alone").err
    assert "then: caesura demo --loop alone" in demo("demo", "--loop", "alone").err


def test_the_repository_is_named_as_whoever_asks_names_it(demo: Shell) -> None:
    other = demo.folder / "an other"
    other.mkdir()
    above, within = Shell(other), Shell(demo.folder / "onboarding")
    assert above("pending", "--repo", "../.caesura").out.endswith("then:\n  caesura demo --repo ../.caesura\n")
    assert "then: caesura demo --repo ../.caesura\n" in within("demo", "--repo", "../.caesura").err
    assert demo("pending").out.endswith("then:\n  caesura demo\n")
    (demo.folder / ".caesura").rename(other / "a git")
    assert "then: caesura demo --repo 'an other/a git'\n" in demo("demo", "--repo", "an other/a git").err
    assert above("pending", "--repo", "a git").out.endswith("then:\n  caesura demo --repo 'a git'\n")


def test_a_repository_that_an_earlier_version_kept_in_the_command_is_not_shown(demo: Shell) -> None:
    for kept in ("caesura demo --repo ../its", "caesura demo --repo 'an other'"):
        subprocess.run(["git", "-C", demo.folder / ".caesura", "config", "caesura.onboarding.resume", kept], check=True)
        assert demo("pending").out.endswith("then:\n  caesura demo\n")


def test_a_variable_that_is_set_to_nothing_names_no_repository(demo: Shell) -> None:
    subprocess.run(["git", "init", "--quiet", demo.folder], check=True)
    for nothing in ("", " "):
        found = demo("loops", "--json", CAESURA_REPO=nothing).json["loops"]
        assert [loop["loop"] for loop in found] == ["onboarding"]


def test_a_loop_that_a_process_drives_is_not_to_be_resumed(demo: Shell) -> None:
    store = GitStore.open(demo.folder / ".caesura")
    claim = claim_of(WorkerId("w"), dt.datetime.now(dt.UTC) + dt.timedelta(minutes=5))
    store.move_lease(LoopName("onboarding"), None, msgspec.json.encode(claim))
    told = demo("reject", "onboarding.it-1.order-1", "--reason", "too dear")
    assert f"process {claim.pid}" in told.out
    assert "go on: " not in told.out
    assert f"then:\n  process {claim.pid}" in demo("pending").out


def test_a_loop_whose_process_was_killed_is_gone_on_with_as_it_was_begun(tmp_path: Path) -> None:
    shell = Shell(tmp_path, CLI_TEST_FILE=str(tmp_path / "held"))
    process = shell.start("run", f"{AGENTS}:holder", "x", "--loop", "hold")
    wait_for_line(process, "running hold(")
    process.kill()
    process.communicate()
    assert f"go on: caesura resume hold --agents {AGENTS}:holder\n" in shell("tell", "hold", "Are you there?").out


def test_a_pause_shows_every_way_to_lift_it(demo: Shell) -> None:
    told = demo("pause", "onboarding")
    assert "caesura demo " in told.out
    assert "caesura approve onboarding.gate-1" in told.out


def test_a_repository_that_is_here_is_not_left_for_one_beside_settings_above(demo: Shell) -> None:
    below = demo.folder / "below"
    below.mkdir()
    (demo.folder / "caesura.toml").write_text('agents = "nowhere.py:nobody"\n')
    within = Shell(below)
    assert [loop["loop"] for loop in within("loops", "--json").json["loops"]] == ["onboarding"]
    assert within("init", "--repo", ".caesura").status == 0
    assert within("loops", "--json").json["loops"] == []
