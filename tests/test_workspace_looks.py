"""A look at files that nobody has changed costs a look at each, and no more; and whatever was changed is seen."""

import errno
import os
import random
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from caesura.continuations import GitStore
from caesura.continuations.store import _disk
from caesura.continuations.store import _looking as looking
from caesura.continuations.store._folder import stamp_of
from caesura.continuations.store._index import is_racy
from caesura.continuations.store._mounts import promising
from tests.test_workspace_files import LOOP, TOKEN, Bench, write
from tests.workspaces import files_in, files_of, git, something_happens


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


@pytest.fixture(params=[True, False], ids=["stamps of folders count", "folders are listed"])
def counts(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> bool:
    """Whether the stamps of folders tell of the names in them where the files are."""
    counts = bool(request.param)
    devices = frozenset({tmp_path.stat().st_dev} if counts else ())
    monkeypatch.setattr(looking, "promising", lambda: devices)
    return counts


def settled(bench: Bench, *, counts: bool) -> None:
    """Look until nothing was changed so lately that a stamp may yet say too little."""
    while True:
        bench.look()
        known = bench.spaces._known[LOOP][1].folders.values()
        if not any(one.racy or (counts and one.own is None) for one in known):
            return


# What it costs -----------------------------------------------------------------------------------------------------


class Asked:
    """What the system and the disk were asked for."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.calls = list[tuple[str, object]]()
        for name in ("open", "stat", "lstat", "fstat", "listdir", "read", "readlink", "fsync"):
            patch.setattr(os, name, self._counted(name, getattr(os, name)))
        for name in ("write", "append", "sync", "rename", "link", "unlink"):
            patch.setattr(_disk, name, self._counted(f"disk: {name}", getattr(_disk, name)))

    def _counted(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def counted(what: Any, *more: Any, **named: Any) -> Any:
            self.calls.append((name, what))
            return call(what, *more, **named)

        return counted

    def names(self, call: str) -> Counter[object]:
        return Counter(what for name, what in self.calls if name == call)


def looked(bench: Bench, tree: str) -> Asked:
    with pytest.MonkeyPatch.context() as patch:
        asked = Asked(patch)
        assert bench.look().tree == tree
    return asked


FOLDERS = ["", *(f"d{number}" for number in range(4)), *(f"d{number}/e" for number in range(4))]


def many(bench: Bench) -> list[str]:
    """Files all over the folder, each with a name of its own; these."""
    names = [f"{folder}/f{place}-{number}" for place, folder in enumerate(FOLDERS) for number in range(10)]
    write(bench.root, **{name.strip("/").replace("/", "__"): name for name in names})
    return [name.rpartition("/")[2] for name in names]


def test_a_look_at_unchanged_files_opens_each_folder_once_asks_for_each_files_stamp_once_and_reads_none(
    bench: Bench, counts: bool
) -> None:
    files = many(bench)
    tree = bench.look().tree
    settled(bench, counts=counts)
    bench.spaces.settle(LOOP, tree)
    bench.spaces = GitStore.open(bench.repository).workspaces()  # as another process, which syncs what it writes
    bench.look()
    asked = looked(bench, tree)
    assert {name: count for name, count in asked.names("lstat").items() if name in files} == dict.fromkeys(files, 1)
    opened = asked.names("open")
    assert [opened[f"d{number}"] for number in range(4)] == [1] * 4
    assert opened["e"] == 4
    assert not opened.keys() & set(files)
    assert opened[".gitignore"] == 0
    assert asked.names("listdir").total() == (0 if counts else len(FOLDERS))
    assert not any(asked.names(call) for call in ("readlink", "fsync", "disk: write", "disk: sync"))


def test_a_look_at_one_changed_file_reads_that_and_lists_its_folder_alone(bench: Bench, counts: bool) -> None:
    files = many(bench)
    bench.look()
    settled(bench, counts=counts)
    (bench.root / "d2" / "e" / "f7-3").write_text("other")
    tree = bench.fresh().tree
    asked = looked(bench, tree)
    assert [name for name in files if asked.names("open")[name]] == ["f7-3"]
    assert asked.names("listdir").total() == (1 if counts else len(FOLDERS))


def test_files_that_rules_leave_out_do_not_make_a_look_read_the_others(bench: Bench) -> None:
    files = many(bench)
    for folder in FOLDERS:
        (bench.root / folder / "made").write_text("1")
    write(bench.root, _dot_gitignore="made\n")
    tree = bench.look().tree
    settled(bench, counts=False)
    asked = looked(bench, tree)
    assert {name: count for name, count in asked.names("lstat").items() if name in files} == dict.fromkeys(files, 1)
    assert not asked.names("open").keys() & {*files, "made"}


# What it sees ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_whatever_happens_to_files_that_were_left_alone_for_a_while_is_seen(
    bench: Bench, counts: bool, seed: int
) -> None:
    chance = random.Random(seed)  # noqa: S311 - to be the same in each run
    for turn in range(15):
        for _ in range(chance.randint(0, 3)):
            something_happens(bench.root, chance)
        found = bench.look()
        assert files_of(bench.repository, found.tree) == files_in(bench.root)
        if turn % 5 == 0:
            bench.spaces.settle(LOOP, found.tree)
            bench.open()
        settled(bench, counts=counts)


def into(root: Path, name: str, become: Callable[[Path], object]) -> None:
    """Let something take the place of what has a name."""
    path = root / name
    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    become(path)


@pytest.mark.parametrize(
    "change",
    [
        lambda root: write(root, d__new="1"),
        lambda root: write(root, d__new__x="1"),
        lambda root: (root / "d" / "a").unlink(),
        lambda root: (root / "d" / "a").rename(root / "d" / "z"),
        lambda root: (root / "d" / "a").rename(root / "a"),
        lambda root: (root / "d" / "a").chmod(0o755),
        lambda root: into(root, "d/a", lambda path: path.symlink_to("b")),
        lambda root: into(root, "d/e", lambda path: path.symlink_to("../f")),
        lambda root: into(root, "d/e", lambda path: path.write_text("no folder")),
        lambda root: into(root, "d/a", lambda path: write(path, x="a folder")),
        lambda root: into(root, "d/e", lambda path: (root / "f").rename(path)),
        lambda root: into(root, "d/e", os.mkfifo),
    ],
)
def test_a_name_that_comes_or_goes_is_seen(bench: Bench, counts: bool, change: Callable[[Path], object]) -> None:
    write(bench.root, d__a="1", d__b="2", d__e__c="3", f__c="4")
    bench.look()
    settled(bench, counts=counts)
    change(bench.root)
    assert files_of(bench.repository, bench.look().tree) == files_in(bench.root)


def test_a_file_that_goes_while_it_is_looked_at_is_gone(
    bench: Bench, counts: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(bench.root, d__a="1", d__b="2")
    bench.look()
    settled(bench, counts=counts)
    lstat = os.lstat

    def looked_at(name: Any, **where: Any) -> os.stat_result:
        if name == "b":
            (bench.root / "d" / "b").unlink(missing_ok=True)
        return lstat(name, **where)

    monkeypatch.setattr(os, "lstat", looked_at)
    assert files_of(bench.repository, bench.look().tree).keys() == {"d/a"}


@pytest.mark.parametrize("back", [True, False], ids=["times set back", "in its place"])
def test_a_change_that_hides_itself_is_seen(bench: Bench, counts: bool, back: bool) -> None:
    write(bench.root, d__a="one", d__b="2")
    bench.look()
    settled(bench, counts=counts)
    file = bench.root / "d" / "a"
    before = file.stat()
    with file.open("r+") as opened:  # the same inode, as many bytes
        opened.write("two")
    if back:
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert files_of(bench.repository, bench.look().tree)["d/a"] == ("100644", b"two")


def test_a_file_that_rules_leave_out_no_longer_is_kept_though_its_folder_is_as_it_was(
    bench: Bench, counts: bool
) -> None:
    write(bench.root, _dot_gitignore="made\n", d__a="1", d__made="2")
    bench.look()
    settled(bench, counts=False)
    bench.look()
    (bench.root / ".gitignore").write_text("")
    assert files_of(bench.repository, bench.look().tree).keys() == {".gitignore", "d/a", "d/made"}


def test_a_file_that_holds_no_secret_any_more_is_kept_though_its_folder_is_as_it_was(
    bench: Bench, counts: bool
) -> None:
    write(bench.root, d__a="1", d__env=TOKEN)
    assert bench.look().left_out == ("d/env",)
    settled(bench, counts=False)
    assert bench.look().left_out == ("d/env",)
    (bench.root / "d" / "env").write_text("none")  # in its place: the folder is not touched
    assert files_of(bench.repository, bench.look().tree).keys() == {"d/a", "d/env"}


def test_a_name_that_came_in_the_moment_of_a_look_is_seen_though_the_folders_stamp_is_the_same(
    bench: Bench, counts: bool
) -> None:
    write(bench.root, a="1", gone="1")
    bench.look()
    settled(bench, counts=counts)
    (bench.root / "gone").unlink()
    bench.look()
    write(bench.root, b="2")
    for known in bench.spaces._known[LOOP][1].folders.values():
        if known.own is not None:
            known.own = stamp_of(bench.root.stat())  # as if the clock had not ticked
    assert files_of(bench.repository, bench.look().tree).keys() == {"a", "b"}


def test_what_a_full_disk_did_not_take_is_written_by_the_next_look(tmp_path: Path) -> None:
    number, done = 0, False
    while not done:
        (tmp_path / f"{number}").mkdir()
        bench = Bench(tmp_path / f"{number}")
        write(bench.root, a="1", d__b="1")
        bench.look()
        write(bench.root, a="2", d__b="2", d__c="3")
        while is_racy(stamp_of((bench.root / "d" / "c").stat()), time.time_ns()):
            pass  # else the next look would read it all again, whatever it knew
        left = iter(range(number))

        def rationed(call: Callable[..., Any], *words: Any, left: Iterator[int] = left) -> Any:
            if next(left, None) is None:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return call(*words)

        with pytest.MonkeyPatch.context() as patch:
            for name in ("write", "sync", "rename", "link", "append"):
                patch.setattr(_disk, name, partial(rationed, getattr(_disk, name)))
            try:
                bench.look()
                done = True
            except OSError:
                number += 1
        assert files_of(bench.repository, bench.look().tree) == files_in(bench.root)
        git(bench.repository, "fsck", "--strict", "--no-dangling")
    assert number > 3


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux says what its devices are")
def test_which_devices_keep_the_promise_is_what_the_system_says_of_them(tmp_path: Path) -> None:
    for place in (tmp_path, Path("/proc"), Path("/dev")):
        kind = subprocess.run(["df", "--output=fstype", place], capture_output=True, text=True, check=True)
        keeps = kind.stdout.split()[-1] in ("ext4", "f2fs", "overlay", "tmpfs", "xfs", "zfs")
        assert (place.stat().st_dev in promising()) == keeps
