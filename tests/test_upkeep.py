"""Upkeep: files stay few however many steps are made, git finds no fault, and no crash and no other loses a thing."""

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from caesura.continuations import Commit, CommitId, GitStore, User, loop_name
from caesura.continuations.store import Move, Unavailable, Upkept, _disk, _upkeep
from caesura.continuations.store._delta import Deltas
from caesura.continuations.store._exclusive import Held, in_turn
from caesura.continuations.store._packs import applied
from tests.repositories import STATE, git, overwrite
from tests.strategies import ADA, NESTED, ROBOT, World


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "r.git"


@pytest.fixture
def store(folder: Path) -> Iterator[GitStore]:
    made = GitStore.open(folder, create=True, durability="crash")
    yield made
    made.close()


def step(store: GitStore, before: Commit | None, name: str = "ops") -> Commit:
    """One more message in a loop."""
    state = STATE if before is None else before.state
    count = len(state.messages)
    state = replace(state, messages=(*state.messages, User(content=f"{count} " * 100)), counters={"turn": count})
    parents = () if before is None else (before.id,)
    commit = store.write(state, parents=parents, message=f"{name}: {count}", author=ADA, committer=ROBOT)
    store.move(loop_name(name), None if before is None else before.id, commit.id)
    return commit


def steps(store: GitStore, count: int, name: str = "ops", before: Commit | None = None) -> list[Commit]:
    made: list[Commit] = []
    for _ in range(count):
        before = step(store, before, name)
        made.append(before)
    return made


def loose(folder: Path) -> list[Path]:
    return list((folder / "objects").glob("??/*"))


def name_of(file: Path) -> bytes:
    """The id of an object that has a file of its own."""
    return f"{file.parent.name}{file.name}".encode()


def packs(folder: Path) -> list[Path]:
    return list((folder / "objects/pack").glob("*.pack"))


def run(store: GitStore, *, thorough: bool = True) -> Upkept:
    done = store.upkeep().run(thorough=thorough)
    assert done is not None
    return done


def check(folder: Path, commits: list[Commit]) -> None:
    """Git finds no fault, and every commit is what it was."""
    assert git(folder, "fsck", "--strict", "--no-dangling") == ""
    fresh = GitStore.open(folder)
    assert [fresh.read(commit.id) for commit in commits] == commits
    fresh.close()


# Bounds ------------------------------------------------------------------------------------------------------------


def test_over_many_steps_files_stay_few_and_every_commit_is_what_it_was(
    store: GitStore, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, bound in (("LOOSE", 200), ("PACKS", 4), ("BRANCHES", 5)):
        monkeypatch.setattr(_upkeep, name, bound)
    made: list[Commit] = []
    most = 0
    for number in range(40):
        made += steps(store, 20, f"x{number}")
        upkeep = store.upkeep()
        if upkeep.due():
            upkeep.run()
        most = max(most, len(loose(folder)))
        assert len(packs(folder)) <= 5
        assert len(list((folder / "refs/heads/loops").iterdir())) <= 6
    assert most < 200 + 200  # what twenty steps add, and what a sample may miss
    assert len(store.heads()) == 40
    check(folder, made[::7])


@pytest.mark.soak
def test_over_a_hundred_thousand_steps_files_stay_few(store: GitStore, folder: Path) -> None:
    heads: list[Commit] = []
    for number in range(200):
        heads.append(steps(store, 500, f"x{number}")[-1])
        upkeep = store.upkeep()
        if upkeep.due():
            upkeep.run()
        assert len(loose(folder)) < _upkeep.LOOSE + 5_000
        assert len(packs(folder)) <= _upkeep.PACKS + 1
    check(folder, heads)


def test_below_the_bounds_nothing_is_due_and_nothing_is_done_but_by_hand(store: GitStore, folder: Path) -> None:
    made = steps(store, 5)
    upkeep = store.upkeep()
    assert not upkeep.due()
    before = upkeep.holdings()
    assert upkeep.run() == Upkept(before=before, after=before)
    told = upkeep.run(thorough=True, dry=True)
    assert upkeep.holdings() == before
    assert told is not None
    done = upkeep.run(thorough=True)
    assert done is not None
    assert (told.objects, told.branches) == (done.objects, done.branches) == (before.objects, 1)
    assert (done.after.objects, done.after.packs, done.after.branches) == (0, 1, 0)
    check(folder, made)
    assert run(store) == Upkept(before=done.after, after=done.after)


def test_old_versions_are_told_as_what_they_take_over_from_newer_ones(store: GitStore, folder: Path) -> None:
    made = steps(store, 200)
    before = store.upkeep().holdings().size
    after = run(store).after.size
    git(folder, "config", "--unset", "extensions.preciousObjects")  # or git would not
    git(folder, "repack", "-adfq")
    assert after < before / 2
    assert after < store.upkeep().holdings().size * 1.2  # as git would have it
    check(folder, made)


def test_the_newest_commit_is_read_without_any_delta(store: GitStore, folder: Path) -> None:
    head = steps(store, 100)[-1]
    run(store)
    told = git(folder, "verify-pack", "-v", str(packs(folder)[0])).split("\n")
    deltas = {line.split()[0] for line in told if len(line.split()) == 7}
    assert deltas
    newest = {head.id, *git(folder, "ls-tree", "-rt", "--format=%(objectname)", head.id).split()}
    assert not newest & deltas


def test_a_tree_of_loops_is_packed_whole(store: GitStore, folder: Path) -> None:
    world = World(store, NESTED)
    world.settle()
    run(store)
    assert loose(folder) == []
    world.end(lambda _: "approve")
    done = run(store)
    assert loose(folder) == []
    assert done.branches == 1  # the nested loops' own have gone, or go soon
    check(folder, [store.read(CommitId(one)) for one in git(folder, "rev-list", "--all").split()])


def test_packs_of_git_and_of_ours_become_one(store: GitStore, folder: Path) -> None:
    made = steps(store, 40)
    run(store)
    made += steps(store, 40, before=made[-1])
    git(folder, "-c", "repack.writeBitmaps=false", "repack", "-aq", "--window=20", "--depth=40")  # the first ones too
    git(folder, "prune-packed")
    made += steps(store, 40, before=made[-1])
    git(folder, "repack", "-q", "--window=0")  # without any delta
    git(folder, "prune-packed")
    git(folder, "multi-pack-index", "write")
    assert len(packs(folder)) == 3
    assert run(store).packs == 3
    assert len(packs(folder)) == 1
    check(folder, made)


@pytest.mark.parametrize("beside", ["keep", "promisor", "mtimes"])
def test_a_pack_that_somebody_keeps_is_left_alone(store: GitStore, folder: Path, beside: str) -> None:
    first = steps(store, 5)
    run(store)
    (kept,) = packs(folder)
    kept.with_suffix(f".{beside}").touch()
    more = steps(store, 5, before=first[-1])
    run(store)
    run(store)
    assert kept in packs(folder)
    assert len(packs(folder)) == 2
    kept.with_suffix(f".{beside}").unlink()
    check(folder, first + more)


# Others ------------------------------------------------------------------------------------------------------------


def test_a_pack_that_git_is_making_is_neither_relied_on_nor_taken_away(store: GitStore, folder: Path) -> None:
    made = steps(store, 20)
    git(folder, "repack", "-q")  # which does not take away the files that the objects have of their own
    (whole,) = packs(folder)
    making = [whole.with_suffix(suffix) for suffix in (".pack", ".idx")]
    making = [one.rename(one.with_name(f".tmp-4711-{one.name}")) for one in making]
    run(store)
    assert all(one.exists() for one in making)
    for one in making:  # as git does if it is ended
        one.unlink()
    check(folder, made)


def test_git_that_repacks_while_packs_become_one_takes_none_of_them_for_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # In a project git may. What it makes of all there is has the name of a pack that it made of the same before.
    git(tmp_path, "init", "--quiet", "project")
    folder = tmp_path / "project" / ".git"
    store = GitStore.open(folder, durability="crash")
    made = steps(store, 5)
    git(folder, "repack", "-adq")
    (whole,) = packs(folder)
    subprocess.run(
        ["git", "pack-objects", "-q", "objects/pack/pack"], cwd=folder, input=made[0].id, text=True, check=True
    )
    assert len(packs(folder)) == 2
    unlink = _disk.unlink

    def repacked_first(path: Path) -> None:
        monkeypatch.setattr(_disk, "unlink", unlink)
        for pack in packs(folder):
            os.utime(pack, (0, pack == whole))  # git copies from the newest
        git(folder, "repack", "-adq")
        unlink(path)

    monkeypatch.setattr(_disk, "unlink", repacked_first)
    assert run(store).packs == 2
    store.close()
    check(folder, made)
    assert len(packs(folder)) == 1
    assert not list((folder / "objects/pack").glob("*.keep"))


def test_a_pack_that_is_made_again_has_another_name(store: GitStore, folder: Path) -> None:
    # Git that listed the first one takes away whatever has its name by the time that it is done.
    made = steps(store, 5)
    run(store)
    (first,) = packs(folder)
    for file in (first, first.with_suffix(".idx")):
        file.rename(folder / file.name)
    git(folder, "unpack-objects", "-q", data=(folder / first.name).read_bytes())
    run(store)
    (second,) = packs(folder)
    assert second.name != first.name
    check(folder, made)


def test_a_store_that_has_read_and_written_before_goes_on(store: GitStore, folder: Path) -> None:
    made = steps(store, 10)
    other = GitStore.open(folder)
    assert other.read(made[-1].id) == made[-1]
    for _ in range(4):
        run(GitStore.open(folder))
        made += steps(store, 5, before=made[-1])
        fresh = GitStore.open(folder)
        run(fresh)
        assert all(other._objects.read(commit.id) for commit in made)
    check(folder, made)


def test_two_are_never_at_it_at_once(store: GitStore, folder: Path) -> None:
    steps(store, 5)
    others: list[Upkept | None] = []

    def breathe() -> None:
        if not others:
            others.append(None)
            others.append(GitStore.open(folder).upkeep().run(thorough=True))

    assert store.upkeep(breathe=breathe).run(thorough=True) is not None
    assert others == [None, None]


def test_whoever_ends_it_anywhere_loses_nothing_and_the_next_goes_on(store: GitStore, folder: Path) -> None:
    made = steps(store, 12) + steps(store, 3, "y")
    for number in range(0, 600, 7):
        left = [number]

        def breathe(left: list[int] = left) -> None:
            left[0] -= 1
            if left[0] < 0:
                raise KeyboardInterrupt

        try:
            store.upkeep(breathe=breathe).run(thorough=True)
        except KeyboardInterrupt:
            assert not list((folder / "objects").glob("tmp_*"))
            assert not list(folder.glob("caesura.packed*"))
        if number % 70 == 0:
            check(folder, made)
            made.append(step(store, made[-1], "y"))
    run(store)
    assert loose(folder) == []
    check(folder, made)


def test_small_packs_become_one_however_soon_it_is_ended(
    store: GitStore, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ended() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(_upkeep, "PACKS", 3)
    made: list[Commit] = []
    for number in range(8):
        made += steps(store, 2, f"x{number}")
        git(folder, "repack", "-q")
    assert len(packs(folder)) == 8
    with suppress(KeyboardInterrupt):
        store.upkeep(breathe=ended).run()
    assert len(packs(folder)) == 1
    check(folder, made)


def test_by_hand_steps_that_lie_behind_sealed_ones_are_packed_too(store: GitStore, folder: Path) -> None:
    made = steps(store, 3)
    with closing(GitStore.open(folder, visibility="sealed")) as sealing:
        made += steps(sealing, 2, before=made[-1])
    assert loose(folder)
    run(store)
    assert not loose(folder)
    assert len(packs(folder)) == 1
    check(folder, made)


def test_once_the_small_packs_are_one_the_larger_are_left_alone_if_they_are_few(
    store: GitStore, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Commit] = []
    for number in range(7):
        made += steps(store, (30, 50, 2, 2, 2, 2, 2)[number], f"x{number}")
        git(folder, "repack", "-q")
    sizes = {file.name: file.stat().st_size for file in packs(folder)}
    large = sorted(sizes, key=lambda name: sizes[name])[-2:]
    monkeypatch.setattr(_upkeep, "PACKS", 4)
    monkeypatch.setattr(_upkeep, "_COPIED", sum(sizes.values()) - sizes[large[0]] - sizes[large[1]])
    assert run(store, thorough=False).packs == 5
    assert {file.name for file in packs(folder)} > set(large)
    assert len(packs(folder)) == 3
    check(folder, made)


class Dead(BaseException):
    """A process that was killed does nothing any more."""


class Fate:
    """What happens at the call of a number; after one's death nothing else does."""

    def __init__(self, number: int, fault: type[Dead] | OSError) -> None:
        self.calls, self._number, self._fault = 0, number, fault

    def call(self, function: Callable[..., object], *arguments: object) -> object:
        """Ask the disk for something."""
        self.calls += 1
        if self.calls == self._number or (self.calls > self._number and self._fault is Dead):
            raise self._fault
        return function(*arguments)


WRITES = ("write", "begin", "grow", "rename", "link", "unlink", "sync", "make_folder")


@pytest.mark.parametrize("broken", ["dead", "full"])
def test_dead_or_out_of_space_at_any_call_it_loses_nothing_and_the_next_goes_on(
    store: GitStore, folder: Path, broken: str
) -> None:
    made, number = steps(store, 4), 0
    for number in range(1, 400):
        made.append(step(store, made[-1]))
        fate = Fate(number, Dead if broken == "dead" else OSError(28, "No space left on device"))
        with pytest.MonkeyPatch.context() as patch, suppress(Dead, Unavailable):
            for name in WRITES:
                patch.setattr(_disk, name, partial(fate.call, getattr(_disk, name)))
            store.upkeep().run(thorough=True)
        if number % 10 == 0:
            check(folder, made)
        if fate.calls < number:
            break
    assert number > 30
    for file in packs(folder):
        os.utime(file, (0, 0))  # some lost their index, and are taken for another's that is being made
    run(store)
    assert loose(folder) == []
    assert len(packs(folder)) == 1
    check(folder, made)


@pytest.mark.parametrize("at_once", [1, 5])
def test_what_was_sealed_piece_by_piece_takes_as_little_room_in_the_end_as_all_else(
    store: GitStore, folder: Path, tmp_path: Path, at_once: int
) -> None:
    steps(store, 100)
    whole = run(store).after.size
    with closing(GitStore.open(tmp_path / "s.git", create=True, durability="crash", visibility="sealed")) as sealed:
        made = list[Commit]()
        while len(made) < 100:
            made += steps(sealed, at_once, before=made[-1] if made else None)
            sealed.seal()
        assert run(sealed).after.size < 1.1 * whole
        check(tmp_path / "s.git", made)


# Damage ------------------------------------------------------------------------------------------------------------


def test_a_damaged_object_stays_where_it_is_and_the_rest_is_packed(store: GitStore, folder: Path) -> None:
    made = steps(store, 5)
    name = git(folder, "rev-parse", f"{made[2].id}:messages/00/01.json")
    file = folder / "objects" / name[:2] / name[2:]
    overwrite(file, b"")
    run(store)
    assert loose(folder) == [file]


def test_a_damaged_pack_stays_where_it_is(store: GitStore, folder: Path) -> None:
    made = steps(store, 5)
    run(store)
    (damaged,) = packs(folder)
    data = bytearray(damaged.read_bytes())
    data[len(data) // 2] ^= 1
    overwrite(damaged, bytes(data))
    for _ in range(2):
        made += steps(store, 5, before=made[-1])
        GitStore.open(folder).upkeep().run(thorough=True)
    assert damaged in packs(folder)
    assert damaged.read_bytes() == data
    overwrite(
        damaged, bytes(data[: len(data) // 2]) + bytes([data[len(data) // 2] ^ 1]) + bytes(data[len(data) // 2 + 1 :])
    )
    check(folder, made)


def test_a_damaged_pack_that_has_no_deltas_stays_where_it_is(folder: Path) -> None:
    with closing(GitStore.open(folder, create=True, durability="crash", visibility="sealed")) as store:
        made = steps(store, 1)
        store.seal()
        (damaged,) = packs(folder)
        for _ in range(3):
            made += steps(store, 1, before=made[-1])
            store.seal()
    data = damaged.read_bytes()
    at = len(data) // 2
    overwrite(damaged, data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
    with closing(GitStore.open(folder)) as store:
        assert run(store).packs == 3
    assert damaged in packs(folder)
    overwrite(damaged, data)
    check(folder, made)


@pytest.mark.parametrize("by_hand", [False, True])
def test_what_no_branch_reaches_is_packed_once_it_is_old_or_by_hand_and_never_lost(
    store: GitStore, folder: Path, monkeypatch: pytest.MonkeyPatch, by_hand: bool
) -> None:
    monkeypatch.setattr(_upkeep, "LOOSE", 1)
    lost = store.write(STATE, parents=(), message="lost a race", author=ADA, committer=ROBOT)
    made = steps(store, 3)
    run(store, thorough=False)
    assert loose(folder)
    if not by_hand:
        for file in loose(folder):
            os.utime(file, (0, 0))
    run(store, thorough=by_hand)
    assert loose(folder) == []
    check(folder, [*made, lost])


# Branches ----------------------------------------------------------------------------------------------------------


def branches(folder: Path) -> str:
    return git(folder, "for-each-ref")


def test_what_a_step_is_about_to_name_stays_where_git_deletes_the_pack_that_has_it_too(tmp_path: Path) -> None:
    git(tmp_path, "init", "--quiet", "project")
    folder = tmp_path / "project" / ".git"
    with closing(GitStore.open(folder)) as store:
        made = steps(store, 2)
        late = store.write(STATE, parents=(made[0].id,), message="Late.\n", author=ADA, committer=ROBOT)
        git(folder, "pack-objects", "--quiet", "objects/pack/pack", data=b"\n".join(map(name_of, loose(folder))))
        assert len(packs(folder)) == 1
        run(store)
        git(folder, "repack", "-adq")
        store.move(loop_name("late"), None, late.id)
        check(folder, [*made, late])
        for file in loose(folder):
            os.utime(file, (0, 0))
        run(store)
        assert loose(folder) == []
        check(folder, [*made, late])


def test_branches_of_root_loops_get_into_the_list_and_others_stay(store: GitStore, folder: Path) -> None:
    head = steps(store, 1)[-1].id
    for name in ("x", "x.team-1", "y"):
        store.move(loop_name(name), None, head)
    git(folder, "tag", "-a", "-m", "m", "v1", head)
    git(folder, "pack-refs", "--all")
    for name in ("a", "z", "y.team-1"):
        store.move(loop_name(name), None, head)
    lock = folder / "refs/heads/loops/z.lock"
    lock.touch()
    before = branches(folder)
    assert run(store).branches == 1
    left = sorted(path.name for path in (folder / "refs/heads/loops").iterdir())
    assert left == ["y.team-1", "z", "z.lock"]
    lock.unlink()
    assert run(store).branches == 1
    assert branches(folder) == before
    assert list(store.heads()) == ["a", "ops", "x", "x.team-1", "y", "y.team-1", "z"]


@pytest.mark.parametrize("how", ["moved", "deleted", "deleted by git", "made", "packed by git", "another deleted"])
def test_a_branch_that_changes_meanwhile_is_as_it_became(
    store: GitStore, folder: Path, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = steps(store, 2)
    x = loop_name("x")
    store.move(loop_name("z"), None, first.id)
    git(folder, "pack-refs", "--all")
    store.move(x, None, first.id)
    step(store, second)
    expected: list[str] = []
    sync = _disk.sync

    def late(path: Path) -> None:
        sync(path)
        if path.name.startswith("caesura.packed-refs.") and not expected:
            match how:
                case "moved":
                    store.move(x, first.id, second.id)
                case "deleted":
                    store.move_all([Move(loop=x, old=first.id, new=None)], "deleted")
                case "deleted by git":
                    git(folder, "update-ref", "-d", "refs/heads/loops/x")
                case "another deleted":
                    git(folder, "update-ref", "-d", "refs/heads/loops/z")
                case "made":
                    store.move(loop_name("y"), None, first.id)
                case _:
                    git(folder, "branch", "loops/y", first.id)
                    git(folder, "pack-refs", "--all")
            expected.append(branches(folder))

    monkeypatch.setattr(_disk, "sync", late)
    run(store)
    assert branches(folder) == expected[0]
    run(store)
    assert [branches(folder)] == expected
    assert not list((folder / "refs/heads").glob("loops/*"))


# Deltas ------------------------------------------------------------------------------------------------------------

TEXTS = st.one_of(
    st.binary(max_size=300), st.lists(st.sampled_from([b"one", b"two " * 30, b"\x00" * 70, b"x"])).map(b"".join)
)


@given(TEXTS, TEXTS, TEXTS, TEXTS)
def test_a_delta_makes_what_it_was_made_of(first: bytes, second: bytes, third: bytes, fourth: bytes) -> None:
    base, target = first + second + third, first + fourth + third + second
    assert applied(base, Deltas().delta(base, target), 10_000, b"") == target
    assert applied(target, Deltas().delta(target, base), 10_000, b"") == base


def test_a_delta_of_large_texts_is_small() -> None:
    base = os.urandom(300_000)
    target = base[:100_000] + b"new" + base[100_000:]
    made = Deltas().delta(base, target)
    assert applied(base, made, 10**6, b"") == target
    assert len(made) < 50
    zeros = bytes(40_000_000)
    assert applied(zeros, Deltas().delta(zeros, zeros), 10**8, b"") == zeros


def test_what_is_to_take_a_locked_files_place_stays_where_it_was_prepared(tmp_path: Path) -> None:
    folder = tmp_path / "r.git"
    GitStore.open(folder, create=True).close()
    prepared, lock = tmp_path / "prepared", folder / "packed-refs.lock"
    prepared.write_text("new")
    with in_turn(folder) as locks:
        lock.touch()
        with pytest.raises(Held):
            locks.take("packed-refs", prepared)
        assert prepared.read_text() == "new"
        lock.unlink()
        (folder / "caesura.lock.packed-refs").touch()  # as somebody left it who died
        lock.hardlink_to(folder / "caesura.lock.packed-refs")
        locks.take("packed-refs", prepared)
        locks.commit("packed-refs")
    assert (folder / "packed-refs").read_text() == "new"
