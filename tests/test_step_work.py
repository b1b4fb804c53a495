"""What a step costs, counted and not timed: objects, bytes, files opened, syncs, at any length of the loop."""

import builtins
import io
import os
import sys
import weakref
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from isal import isal_zlib
from msgspec.structs import replace

from caesura.continuations import (
    Commit,
    Context,
    Durability,
    GitStore,
    Loops,
    Started,
    User,
    Visibility,
    loop_name,
    start,
)
from caesura.continuations.store import _disk, _later
from caesura.continuations.store._exclusive import MARK
from caesura.continuations.store._journal import FOLDER
from caesura.continuations.store._layout import WIDTH, message_path
from caesura.continuations.store._vanished import about_to_erase
from tests.strategies import ADA, AGENT, EPOCH, ROBOT, WORKERS

OPS = loop_name("ops")
MESSAGE = 2_000  # bytes
LEVELS = {100: 1, 10_000: 3}  # folders between messages/ and a message, by how many there are
SYNC = _disk.sync  # before it is taken out for all tests
SYSTEM = (
    *((module, "open") for module in (os, io, builtins)),
    *((os, name) for name in ("scandir", "listdir", "fsync", "fdatasync")),
)


@dataclass
class Work:
    """What was asked of the disk, and for which files; and what the system was asked for, past the seam or by it."""

    calls: list[tuple[str, Path, int]] = field(default_factory=list[tuple[str, Path, int]])
    system: Counter[str] = field(default_factory=Counter[str])

    def install(self, patch: pytest.MonkeyPatch) -> None:
        for module, name in SYSTEM:
            patch.setattr(module, name, self._noted(name, getattr(module, name)))
        for name in (
            *("opened", "write", "append", "sync", "rename", "link", "unlink", "make_folder", "remove_folder"),
            *("begin", "reopen", "grow", "put", "cut", "settle"),
        ):
            patch.setattr(_disk, name, self._counted(name, getattr(_disk, name)))

    def _noted(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def noted(*words: Any, **more: Any) -> Any:
            self.system[name] += 1
            return call(*words, **more)

        return noted

    def _counted(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def counted(file: Path | str | _disk.Growing, *more: Any) -> Any:
            path = file.path if isinstance(file, _disk.Growing) else Path(file)
            data = next((one for one in more if isinstance(one, bytes)), b"")
            self.calls.append((name, path, len(data)))
            return call(file, *more)

        return counted

    def paths(self, name: str) -> list[Path]:
        return [path for call, path, _ in self.calls if call == name]


def written(store: GitStore, length: int, before: Commit | None = None) -> Commit:
    """The loop with so many messages, all alike but those that are added to a loop that there was before."""
    if before is None:
        state = start(Started(at=EPOCH, definition=AGENT, prompt=User(content="Go."), nonce="n", worker=WORKERS[0]))
        state = replace(state, messages=tuple(User(content="alike") for _ in range(length)))
    else:
        added = (User(content=f"{number} ".ljust(MESSAGE, "x")) for number in range(len(before.state.messages), length))
        state = replace(before.state, messages=(*before.state.messages, *added))
    parents = () if before is None else (before.id,)
    commit = store.write(state, parents=parents, message=f"{length}", author=ADA, committer=ROBOT)
    store.move(OPS, None if before is None else before.id, commit.id)
    return commit


def inflations(patch: pytest.MonkeyPatch) -> list[str]:
    """What is inflated from now on, by how."""
    inflated = list[str]()

    def counted(name: str, inflate: Callable[..., Any], *given: Any) -> Any:
        inflated.append(name)
        return inflate(*given)

    for name in ("decompress", "decompressobj"):
        patch.setattr(isal_zlib, name, partial(counted, name, getattr(isal_zlib, name)))
    return inflated


def step(
    path: Path,
    length: int,
    durability: Durability = "power-cut",
    visibility: Visibility = "step",
    *,
    fresh: bool = False,
) -> tuple[Work, Path]:
    """What one step costs that adds one message to a loop of so many."""
    store = GitStore.open(path / f"{length}.git", create=True, durability=durability, visibility=visibility)
    before = written(store, length)
    before = written(store, length + 1, before)
    if fresh:
        store.close()
        store = GitStore.open(path / f"{length}.git", durability=durability, visibility=visibility)
        before = store.read(before.id)
    work = Work()
    with pytest.MonkeyPatch.context() as patch:
        work.install(patch)
        written(store, length + 2, before)
    store.close()
    return work, path / f"{length}.git"


@pytest.mark.parametrize("length", LEVELS)
def test_a_step_writes_what_is_new_and_the_folders_above_it(tmp_path: Path, length: int) -> None:
    work, folder = step(tmp_path, length)
    objects = [path for path in work.paths("write") if path.parent == folder / "objects"]
    # The commit, its tree and messages/; the message and the folders that it is in. The record is as it was.
    assert len(objects) == 4 + LEVELS[length]
    assert len(work.paths("write")) == len(objects) + 1  # the branch
    assert work.paths("append") == []


@pytest.mark.parametrize("length", LEVELS)
def test_a_step_opens_no_file_but_those_that_it_writes(tmp_path: Path, length: int) -> None:
    work, folder = step(tmp_path, length)
    loose = [path for path in work.paths("opened") if folder / "objects" in path.parents]
    assert len(loose) == len(set(loose)) == 5 + LEVELS[length]  # whether each is there already, the record too
    assert [path for path in work.paths("opened") if path not in loose] == [folder / "refs/heads/loops/ops"]


@pytest.mark.parametrize("length", LEVELS)
def test_a_step_waits_once_for_each_file_and_folder(tmp_path: Path, length: int) -> None:
    work, folder = step(tmp_path, length)
    synced = work.paths("sync")
    inside = [path for path in synced if folder / "objects" in path.parents]
    assert len(inside) == len(set(inside))
    # For the rest, in this order: the objects' folder; the branch's lock, where it is, and the branch's folder.
    assert [path.relative_to(folder) for path in synced if path not in inside] == [
        Path("objects"),
        Path("caesura.lock.refs%heads%loops%ops"),
        Path(),
        Path("refs/heads/loops"),
    ]


@pytest.mark.parametrize("visibility", ["step", "sealed"])
def test_the_system_is_asked_for_each_of_these_once_and_for_nothing_past_them(
    tmp_path: Path, visibility: Visibility, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_disk, "sync", SYNC)
    work, _ = step(tmp_path, 100, visibility=visibility)
    asked = Counter(name for name, _, _ in work.calls)
    assert work.system == Counter(
        open=asked["opened"] + asked["write"] + asked["sync"],
        fsync=asked["sync"],
        fdatasync=asked["settle"],
        listdir=3 if visibility == "step" else 0,  # whether others have begun a journal
    )


def test_a_step_that_is_to_survive_a_crash_alone_waits_for_nothing(tmp_path: Path) -> None:
    work, _ = step(tmp_path, 100, "crash")
    assert work.paths("sync") == []


def test_a_step_is_written_deflated_and_takes_two_folders_more_in_a_long_loop(tmp_path: Path) -> None:
    short, long = (sum(size for _, _, size in step(tmp_path, length)[0].calls) for length in (100, 10_000))
    assert short < MESSAGE / 2  # a message that deflates well
    assert long < short + 500


@pytest.mark.parametrize("length", LEVELS)
def test_the_first_step_after_a_load_costs_what_every_step_costs(tmp_path: Path, length: int) -> None:
    def cost(work: Work) -> dict[str, int]:
        return {name: len(work.paths(name)) for name in ("opened", "write", "append")}

    (tmp_path / "again").mkdir()
    assert cost(step(tmp_path, length)[0]) == cost(step(tmp_path / "again", length, fresh=True)[0])


def test_a_compaction_writes_what_it_changed_and_the_folders_above_all_that_moved(tmp_path: Path) -> None:
    path = tmp_path / "200.git"
    store = GitStore.open(path, create=True)
    before = written(store, 200)
    before = written(store, 400, before)
    messages = (*before.state.messages[:1], User(content="A summary."), *before.state.messages[300:])
    after = replace(before.state, messages=messages, context=Context(times=1))
    work = Work()
    with pytest.MonkeyPatch.context() as patch:
        work.install(patch)
        commit = store.write(after, parents=(before.id,), message="compacted", author=ADA, committer=ROBOT)
    # The commit, its tree, the record, messages/, two folders of 64 and of 38; and the summary.
    assert len([one for one in work.paths("write") if one.parent == path / "objects"]) == 7
    # Of the hundred that stay none is opened, as they were read once, with the loop; but the folders that they are in.
    assert len([one for one in work.paths("opened") if path / "objects" in one.parents]) == 7 + 8
    store.close()
    fresh = GitStore.open(path)
    assert fresh.read(commit.id).state.messages == messages
    assert fresh.read(before.id).state.messages == before.state.messages
    fresh.close()


@pytest.mark.parametrize("length", LEVELS)
def test_a_sealed_step_is_one_write_and_one_wait_at_any_length(tmp_path: Path, length: int) -> None:
    work, folder = step(tmp_path, length, visibility="sealed")
    written = [(name, path.parent, size > MESSAGE) for name, path, size in work.calls]
    assert written == [("put", folder / FOLDER, True), ("settle", folder / FOLDER, False)]


def test_a_sealed_step_asks_for_the_times_of_no_file_that_it_writes(tmp_path: Path) -> None:
    """The next write would have to note new ones, and syncing them takes half as long again."""
    asked: list[int] = []

    def noted(call: Callable[..., os.stat_result]) -> Callable[..., os.stat_result]:
        def asks(*words: Any, **more: Any) -> os.stat_result:
            found = call(*words, **more)
            asked.append(found.st_ino)
            return found

        return asks

    store = GitStore.open(tmp_path / "r.git", create=True, visibility="sealed")
    before = written(store, 2, written(store, 1))
    with pytest.MonkeyPatch.context() as patch:
        for name in ("fstat", "stat", "lstat"):
            patch.setattr(os, name, noted(getattr(os, name)))
        written(store, 3, before)
    store.close()
    assert asked == [(tmp_path / "r.git" / MARK).stat().st_ino]  # whether what it locked is there, once


def test_a_sealed_step_that_is_to_survive_a_crash_alone_waits_for_nothing(tmp_path: Path) -> None:
    work, _ = step(tmp_path, 100, "crash", "sealed")
    assert [name for name, _, _ in work.calls] == ["put"]


def test_a_sealed_step_takes_two_folders_more_in_a_long_loop(tmp_path: Path) -> None:
    short, long = (
        sum(size for _, _, size in step(tmp_path, length, visibility="sealed")[0].calls) for length in LEVELS
    )
    assert short < MESSAGE + 5000
    assert long < short + 3500  # of up to 64 entries each


@pytest.mark.parametrize("length", LEVELS)
def test_a_fork_reads_and_writes_as_much_at_any_length(tmp_path: Path, length: int) -> None:
    path = tmp_path / f"{length}.git"
    with closing(GitStore.open(path, create=True, durability="crash")) as store:
        head = written(store, length)
    work = Work()
    with closing(GitStore.open(path)) as fresh, pytest.MonkeyPatch.context() as patch:
        loops = Loops(fresh)
        work.install(patch)
        loops.fork("ops", "fork")
    # The commit, its tree, the record, the agent, and the folder of messages itself.
    assert len({one for one in work.paths("opened") if path / "objects" in one.parents}) == 5
    assert work.paths("write") == [path / "caesura.lock.refs%heads%loops%fork"]
    with closing(GitStore.open(path)) as fresh:
        assert fresh.head(loop_name("fork")) == head.id


@pytest.mark.parametrize("length", LEVELS)
def test_a_sealed_loop_is_read_from_as_few_files_at_any_length(tmp_path: Path, length: int) -> None:
    path = tmp_path / f"{length}.git"
    with closing(GitStore.open(path, create=True, durability="crash", visibility="sealed")) as store:
        head = written(store, length, written(store, 1))
    work = Work()
    with closing(GitStore.open(path)) as fresh, pytest.MonkeyPatch.context() as patch:
        work.install(patch)
        assert fresh.read(head.id).state == head.state
    packs = [one for one in work.paths("opened") if path / "objects" / "pack" in one.parents]
    assert len(packs) == len(set(packs)) == 2 * len(list(path.glob("objects/pack/*.pack")))
    assert work.paths("opened") == packs


@pytest.mark.parametrize("length", LEVELS)
def test_a_sealed_loop_is_read_by_inflating_each_of_its_objects_once(
    tmp_path: Path, length: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / f"{length}.git"
    with closing(GitStore.open(path, create=True, durability="crash", visibility="sealed")) as store:
        begun = written(store, 1)
        state = replace(begun.state, messages=tuple(User(content=f"{number}") for number in range(length)))
        head = store.write(state, parents=(begun.id,), message="all", author=ADA, committer=ROBOT)
        store.move(OPS, begun.id, head.id)
    inflated = inflations(monkeypatch)
    with closing(GitStore.open(path)) as fresh:
        assert fresh.read(head.id).state == state
    paths = [message_path(number) for number in range(length)]
    folders = {path[:depth] for path in paths for depth in range(len(path))}
    # The commit, its tree, the record and the agent; the last folder again, for the next step is added to it.
    assert len(inflated) == length + len(folders) + 4 + 1


def test_commits_are_read_one_after_the_other_without_reading_again_what_they_have_in_common(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, steps = tmp_path / "r.git", 4 * WIDTH
    with closing(GitStore.open(path, create=True, durability="crash", visibility="sealed")) as store:
        commits = [written(store, 1)]
        for length in range(2, steps + 1):
            commits.append(written(store, length, commits[-1]))
        states = [commit.state for commit in commits]
    inflated = inflations(monkeypatch)
    with closing(GitStore.open(path)) as fresh:
        for commit, state in zip(reversed(commits), reversed(states), strict=True):
            assert fresh.read(commit.id).state == state
        # Of each commit what is its own, and the messages in its last folder; of the first all.
        assert len(inflated) < steps + steps * (WIDTH // 2 + 12)
        about_to_erase(path)  # what was there before need not be there now
        inflated.clear()
        assert fresh.read(commits[-1].id).state == states[-1]
        assert len(inflated) > steps


def test_sealing_writes_each_step_once_and_as_much_for_it_in_a_long_loop(tmp_path: Path) -> None:
    def sealed(steps: int) -> int:
        work, path = Work(), tmp_path / f"{steps}.git"
        with closing(GitStore.open(path, create=True, durability="crash", visibility="sealed")) as store:
            commit = written(store, 1)
            for length in range(2, steps + 2):
                commit = written(store, length, commit)
            with pytest.MonkeyPatch.context() as patch:
                work.install(patch)
                store.seal()
        assert len(work.paths("begin")) == 2  # the pack, and the next segment of the journal
        assert len(work.paths("write")) == 3  # the pack's index, what keeps git from it meanwhile, the branch
        return sum(size for _, _, size in work.calls)

    # A commit, three folders and a message that deflates to next to nothing; of each little more than the ids in it,
    # and its line in the index.
    few, many = sealed(100) / 100, sealed(400) / 400
    assert few < 500
    assert many < few


def test_what_sealing_asks_of_python_for_a_step_is_a_hundred_and_fifty_calls(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who makes steps meanwhile waits for as long."""
    monkeypatch.setattr(_later, "IDLE", 1e6)  # or on a busy machine some are sealed before they are counted

    def calls(steps: int) -> int:
        asked = Counter[str]()

        def note(_: FrameType, event: str, __: object) -> None:
            asked[event] += 1

        path = tmp_path / f"{steps}.git"
        with closing(GitStore.open(path, create=True, durability="crash", visibility="sealed")) as store:
            commit = written(store, 1)
            for length in range(2, steps + 2):
                commit = written(store, length, commit)
            before = sys.getprofile()
            sys.setprofile(note)
            try:
                store.seal()
            finally:
                sys.setprofile(before)
        return asked["call"] + asked["c_call"]

    assert calls(400) - calls(100) < 300 * 150


def test_what_somebody_holds_is_not_read_again_and_all_else_is_let_go(tmp_path: Path) -> None:
    path = tmp_path / "r.git"
    with closing(GitStore.open(path, create=True, durability="crash")) as store:
        first = written(store, 3)
        line = [first]
        for length in range(4, 40):
            line.append(written(store, length, line[-1]))
    work = Work()
    with closing(GitStore.open(path, durability="crash")) as fresh, pytest.MonkeyPatch.context() as patch:
        head = fresh.read(line[-1].id)
        let_go = weakref.ref(fresh.read(first.id).state)
        for commit in line[1:-1]:
            fresh.read(commit.id)
        assert let_go() is None
        work.install(patch)
        assert fresh.read(head.id).state is head.state
        assert work.paths("opened") == []
        written(fresh, 41, head)
        # Whether what it writes is there already: the commit, its tree, the record, messages/, a folder, 2 messages.
        assert len([one for one in work.paths("opened") if path / "objects" in one.parents]) == 7
