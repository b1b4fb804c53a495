"""What durability asks of the disk, and how it is chosen: in code, and in the settings."""

from contextlib import closing
from pathlib import Path
from typing import Any

import pygit2
import pytest

from caesura.adapters.cli._config import BadConfig, find_config
from caesura.adapters.cli._options import place
from caesura.continuations import BadSetting, Durability, GitStore, Loops, Status, Visibility, loop_name
from caesura.continuations.store import _disk, _sealing
from caesura.continuations.store._exclusive import Turns
from caesura.continuations.store._make import make
from caesura.continuations.store._packing import write_pack
from caesura.runtime import Agent, Runtime
from tests.models import ADA, ScriptedModel, say
from tests.repositories import STATE, git


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """What was synced so far."""
    paths: list[Path] = []
    monkeypatch.setattr(_disk, "sync", paths.append)
    return paths


async def run(path: Path, durability: Durability = "power-cut", visibility: Visibility = "step") -> None:
    agent, model = Agent(name="echo", instructions="Say it."), ScriptedModel(lambda _: say("Done."))
    async with Runtime.open(path, agents=[agent], model=model, durability=durability, visibility=visibility) as runtime:
        outcome = await runtime.run("echo", "Go.", loop="x")
        assert outcome.status is Status.COMPLETED
        assert git(path, "rev-parse", "loops/x") == outcome.commit


async def test_a_step_is_synced_before_it_counts_unless_only_a_crash_is_to_be_survived(
    tmp_path: Path, synced: list[Path]
) -> None:
    await run(tmp_path / "safe")
    assert tmp_path / "safe/refs/heads/loops" in synced
    synced.clear()
    await run(tmp_path / "fast", durability="crash")
    assert synced == []


async def test_git_sees_a_whole_loop_once_it_rests_though_its_steps_were_sealed(
    tmp_path: Path, synced: list[Path]
) -> None:
    await run(tmp_path / "safe", visibility="sealed")
    assert tmp_path / "safe/refs/heads/loops" in synced
    synced.clear()
    await run(tmp_path / "fast", "crash", "sealed")
    assert synced == []
    for folder in (tmp_path / "safe", tmp_path / "fast"):
        git(folder, "fsck", "--strict")
        assert len(git(folder, "log", "--format=%h", "loops/x").split()) == 2


async def test_a_decision_is_synced_too_unless_the_settings_say_otherwise(
    tmp_path: Path, synced: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    await run(tmp_path / ".caesura")
    synced.clear()
    with Loops.open() as loops:
        loops.tell("x", "More.", by=ADA)
    assert tmp_path / ".caesura/refs/heads/loops" in synced
    synced.clear()
    (tmp_path / "caesura.toml").write_text('durability = "crash"\n')
    with place(None).loops() as loops:
        loops.tell("x", "More.", by=ADA)
    assert synced == []


def test_a_new_repository_is_synced_whole_with_every_folder_made_for_it(tmp_path: Path, synced: list[Path]) -> None:
    path = tmp_path / "a/b/r.git"
    GitStore.open(path, create=True).close()
    assert {*path.rglob("*"), path, path.parent, path.parent.parent, tmp_path} <= set(synced)
    synced.clear()
    GitStore.open(tmp_path / "fast", create=True, durability="crash").close()
    assert synced == []


def test_the_settings_choose(tmp_path: Path) -> None:
    file = tmp_path / "caesura.toml"
    file.write_text("")
    assert find_config(tmp_path).durability == "power-cut"
    assert find_config(tmp_path).visibility == "step"
    file.write_text('visibility = "sealed"\n')
    assert find_config(tmp_path).visibility == "sealed"
    file.write_text('durability = "crash"\n')
    assert find_config(tmp_path).durability == "crash"
    file.write_text('durability = "maybe"\n')
    with pytest.raises(BadConfig, match="maybe"):
        find_config(tmp_path)


def test_a_repository_that_is_not_synced_says_so_though_who_made_it_died_over_it(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "r.git"

    def initialize(path: Path) -> None:
        pygit2.init_repository(str(path), bare=True)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make(folder, initialize, durable=False)
    synced: list[Path] = []
    with pytest.MonkeyPatch.context() as patch, closing(GitStore.open(folder, create=True)) as store:
        patch.setattr(_disk, "sync_all", lambda: synced.append(folder))
        commit = store.write(STATE, parents=(), message="m", author=ADA, committer=ADA)
        store.move(loop_name("x"), None, commit.id)
    assert folder in synced


# Whom it keeps waiting -----------------------------------------------------------------------------------------------


@pytest.fixture
def unsynced(tmp_path: Path) -> Path:
    """A repository in which nothing need be on the disk: a step that is to outlast a power cut waits for all of it."""
    folder = tmp_path / "r.git"
    GitStore.open(folder, create=True, durability="crash").close()
    return folder


@pytest.fixture
def free(unsynced: Path, monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether others could move a branch, each time that all was waited for."""
    found: list[bool] = []

    def look() -> None:
        with closing(Turns(unsynced, durable=False)) as turns:
            try:
                with turns.take(0):
                    found.append(True)
            except BlockingIOError:
                found.append(False)

    monkeypatch.setattr(_disk, "sync_all", look)
    return found


def begin(store: GitStore, loop: str) -> None:
    commit = store.write(STATE, parents=(), message=loop, author=ADA, committer=ADA)
    store.move(loop_name(loop), None, commit.id)


@pytest.mark.parametrize("visibility", ["step", "sealed"])
def test_while_a_step_waits_for_what_others_have_not_synced_others_go_on(
    unsynced: Path, free: list[bool], visibility: Visibility
) -> None:
    with closing(GitStore.open(unsynced, visibility=visibility)) as store:
        begin(store, "x")
        assert free == [True, False]
        begin(store, "y")
    assert free == [True, False]


def test_where_both_kinds_take_turns_others_go_on_from_the_second_time(unsynced: Path, free: list[bool]) -> None:
    hasty = GitStore.open(unsynced, durability="crash")
    with closing(hasty), closing(GitStore.open(unsynced, visibility="sealed")) as lasting:
        begin(lasting, "x")
        begin(lasting, "y")
        free.clear()
        begin(hasty, "z")
        begin(lasting, "second")
        assert free == [False]
        begin(hasty, "third")
        begin(lasting, "fourth")
        assert free == [False, True, False]


def test_while_an_erasure_waits_for_what_others_have_not_synced_others_go_on(unsynced: Path, free: list[bool]) -> None:
    with closing(GitStore.open(unsynced, durability="crash")) as store:
        begin(store, "x")
        Loops(store).erase("x", by=ADA)
    assert free == [True, False]


@pytest.mark.parametrize("when", ["before", "meanwhile"])
def test_while_sealing_waits_for_what_was_not_synced_others_go_on(
    unsynced: Path, free: list[bool], monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    def packed(*given: Any, **named: Any) -> Path:
        monkeypatch.setattr(_sealing, "write_pack", write_pack)
        made = write_pack(*given, **named)
        begin(lasting, "y")
        return made

    hasty = GitStore.open(unsynced, durability="crash", visibility="sealed")
    with closing(hasty), closing(GitStore.open(unsynced, visibility="sealed")) as lasting:
        begin(hasty, "x")
        if when == "before":
            begin(lasting, "y")
        else:
            monkeypatch.setattr(_sealing, "write_pack", packed)
        hasty.seal()
        assert free == [True, False] * (1 if when == "before" else 2)


@pytest.mark.parametrize("setting", ["durability", "visibility"])
async def test_a_promise_that_is_misspelt_is_refused_and_not_a_weaker_one(tmp_path: Path, setting: str) -> None:
    wrong: dict[str, Any] = {setting: "powercut"}
    for opened in (GitStore.open, Loops.open):
        with pytest.raises(BadSetting, match=f"'powercut' is no {setting}.") as refused:
            opened(tmp_path / "x.git", **wrong)
        assert " or " in refused.value.hint
    with pytest.raises(BadSetting):
        async with Runtime.open(tmp_path / "x.git", agents=[], **wrong):
            pass
    assert not (tmp_path / "x.git").exists()
