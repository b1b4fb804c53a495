"""Upkeep by itself: while loops are driven their repository stays in few files, and no drive waits for it for long."""

import threading
from collections.abc import Awaitable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import NoReturn

import pytest
import trio
import trio.testing

from caesura.continuations import GitStore, MemoryStore, Reply, Status, Unavailable, Upkept
from caesura.continuations.store import _upkeep
from caesura.continuations.store._upkeep import GitUpkeep
from caesura.runtime import Agent, ModelRequest, tool
from caesura.runtime import _upkeep as keeping
from caesura.runtime._duties import Duties
from tests.models import Held, World, ask_for, lines, rounds, say
from tests.repositories import git


@tool
def work() -> str:
    """Work."""
    return "worked"


def working(path: Path, count: int) -> World:
    """A loop that uses its tool so many times."""

    def script(asked: ModelRequest) -> Reply:
        return say("done") if rounds(asked) >= count else ask_for(("work", {}))

    return World(path, Agent("a", tools=[work]), script)


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bounds that a test reaches."""
    monkeypatch.setattr(_upkeep, "LOOSE", 150)
    monkeypatch.setattr(_upkeep, "PACKS", 3)
    monkeypatch.setattr(keeping, "_EVERY", 10)


@pytest.mark.usefixtures("few")
async def test_over_a_long_drive_files_stay_few_by_themselves(tmp_path: Path) -> None:
    path = tmp_path / "r.git"
    with trio.fail_after(300):
        outcome = await working(path, 60).run()
    assert outcome.status is Status.COMPLETED
    assert int(git(path, "rev-list", "--all", "--count")) > 180
    check_few(path)
    assert git(path, "fsck", "--strict", "--no-dangling") == ""


def check_few(path: Path) -> None:
    """What was driven was packed meanwhile, as far as there was time for it, and the rest is packed once there is."""
    assert list((path / "objects/pack").glob("*.pack")), "nothing was packed by itself"
    with closing(GitStore.open(path)) as store:
        store.upkeep().run()
    assert len(list((path / "objects").glob("??/*"))) <= _upkeep.LOOSE


@pytest.mark.usefixtures("few")
async def test_short_drives_one_after_the_other_keep_files_few_too(tmp_path: Path) -> None:
    path = tmp_path / "r.git"
    world = working(path, 1)
    for number in range(40):
        with trio.fail_after(300):
            await world.run(loop=f"x{number}")
    check_few(path)
    assert len(world.loops().all()) == 40
    assert git(path, "fsck", "--strict", "--no-dangling") == ""


async def test_a_drive_ends_while_its_upkeep_has_much_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    began, ended = threading.Event(), list[str]()

    def endless(self: GitUpkeep, **_: bool) -> Upkept | None:
        began.set()
        try:
            while True:
                self._breathe()
        finally:
            ended.append("ended")

    monkeypatch.setattr(GitUpkeep, "due", lambda _: True)
    monkeypatch.setattr(GitUpkeep, "run", endless)
    with trio.fail_after(300):
        outcome = await working(tmp_path / "r.git", 3).run()
    assert outcome.status is Status.COMPLETED
    assert began.is_set()
    assert ended == ["ended"]


async def test_what_a_drive_that_ends_has_left_of_it_the_next_one_sees_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[threading.Event] = [threading.Event(), threading.Event()]
    count = iter(begun)

    def endless(self: GitUpkeep, **_: bool) -> Upkept | None:
        next(count).set()
        while True:
            self._breathe()

    monkeypatch.setattr(GitUpkeep, "due", lambda _: True)
    monkeypatch.setattr(GitUpkeep, "run", endless)
    held = [Held(lines(say("done"))) for _ in begun]

    def script(asked: ModelRequest) -> Reply | Awaitable[Reply]:
        return held[int(str(getattr(asked.messages[0], "content", "")))](asked)

    world = World(tmp_path / "r.git", Agent("a"), script)
    async with world.open() as runtime:
        for number, one in enumerate(begun):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(partial(runtime.run, "a", f"{number}", loop=f"x{number}"))
                assert await trio.to_thread.run_sync(one.wait, 60)
                held[number].go.set()


async def test_upkeep_that_fails_is_no_loops_affair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: GitUpkeep, **_: bool) -> Upkept | None:
        raise Unavailable("No space left on device.", hint="")

    monkeypatch.setattr(GitUpkeep, "due", lambda _: True)
    monkeypatch.setattr(GitUpkeep, "run", full)
    with trio.fail_after(300):
        assert (await working(tmp_path / "r.git", 3).run()).status is Status.COMPLETED


@pytest.mark.usefixtures("few")
async def test_of_many_drives_in_one_runtime_one_keeps_the_repository_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside, most, run = [0], [0], GitUpkeep.run

    def counted(self: GitUpkeep, *, thorough: bool = False, dry: bool = False) -> Upkept | None:
        inside[0] += 1
        most[0] = max(most[0], inside[0])
        try:
            return run(self, thorough=thorough, dry=dry)
        finally:
            inside[0] -= 1

    monkeypatch.setattr(GitUpkeep, "run", counted)
    world = working(tmp_path / "r.git", 5)
    with trio.fail_after(300):
        async with world.open() as runtime, trio.open_nursery() as nursery:
            for number in range(12):

                async def drive(loop: str = f"x{number}") -> None:
                    await runtime.run("a", "go", loop=loop)

                nursery.start_soon(drive)
    assert most == [1]
    assert len(GitStore.open(tmp_path / "r.git").heads()) == 12
    assert git(tmp_path / "r.git", "fsck", "--strict", "--no-dangling") == ""


async def test_what_is_in_memory_is_not_kept_up() -> None:
    class Kept(MemoryStore):
        def upkeep(self, **_: object) -> NoReturn:
            raise AssertionError("there is nothing to be kept up")

    assert (await World(Kept(), Agent("a"), lines(say("done"))).run()).status is Status.COMPLETED


async def test_of_drives_that_end_one_after_the_other_few_have_the_duties_of_all() -> None:
    begun = list[int]()

    async def duty() -> None:
        begun.append(len(nurseries))
        await trio.sleep_forever()

    duties, nurseries = Duties(duty), list[trio.Nursery]()

    async def drive() -> None:
        async with trio.open_nursery() as nursery:
            nurseries.append(nursery)
            duties.add(nursery)
            await trio.sleep_forever()

    with trio.fail_after(60):
        async with trio.open_nursery() as drives:
            for _ in range(100):
                drives.start_soon(drive)
                await trio.testing.wait_all_tasks_blocked()
            for _ in range(100):
                duties.remove(nurseries[0])
                nurseries.pop(0).cancel_scope.cancel()
                await trio.testing.wait_all_tasks_blocked()
    assert begun == [1, 99], "with the first of them, and once that had ended with the last"
