"""What waits is found among any number of loops, and none is ever missed, whatever has become of what was known."""

import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from caesura.continuations import GitStore, History, Loops, Request, Torn, loop_name
from caesura.continuations.overview import waiting
from caesura.continuations.store import MemoryStore, _disk
from caesura.continuations.store._refs import Refs
from caesura.continuations.store._waiting import Waiting
from tests.damage import file_of
from tests.repositories import STATE, git
from tests.strategies import ADA, NESTED, ROBOT, World

PLANS = [NESTED, ["order"], ["order", "order"], [], [["order"]]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "r.git"


@pytest.fixture
def store(folder: Path) -> Iterator[GitStore]:
    made = GitStore.open(folder, create=True, durability="crash")
    yield made
    made.close()


def seen(store: GitStore | MemoryStore) -> list[Request]:
    """What waits, found by looking at every loop."""
    history = History(store)
    roots = [name for name in store.heads() if "." not in name]
    return [one for name in roots for one in waiting(history, history.load(name))]


def check(folder: Path, store: GitStore) -> None:
    """Whoever looks finds what waits: a store that has looked before, and those that have not."""
    expected = seen(store)
    assert Loops(store).pending() == expected
    for _ in range(2):
        fresh = GitStore.open(folder)
        assert Loops(fresh).pending() == expected
        fresh.close()


def change(folder: Path, store: GitStore, chance: random.Random, worlds: dict[str, World], number: int) -> None:
    """Anything that may happen to loops, their branches, or what is known of them."""
    name = f"x{number}"
    match chance.randrange(10):
        case 0 | 1:
            worlds[name] = World(store, chance.choice(PLANS), name)
        case 2:
            for world in worlds.values():
                world.settle()
        case 3 | 4:
            requests = seen(store)
            if requests:
                one = chance.choice(requests)
                Loops(store).approve(one, by=ADA) if chance.random() < 0.7 else Loops(store).reject(one, by=ADA)
        case 5:
            commits = git(folder, "rev-list", "--all").split()
            if commits:
                git(folder, "branch", f"loops/fork-{number}", chance.choice(commits))
        case 6:
            git(folder, "pack-refs", "--all")
        case 7:
            store.upkeep().run(thorough=True)
        case 8:
            names = git(folder, "for-each-ref", "--format=%(refname)", "refs/heads/loops/fork-*").split()
            if names:
                git(folder, "update-ref", "-d", chance.choice(names))
        case _:
            files = sorted((folder / "caesura.waiting").glob("*"))
            if files:
                spoil(chance.choice(files), chance)


def spoil(file: Path, chance: random.Random) -> None:
    """Do to a file what a power cut or a bad disk may do."""
    data = bytearray(file.read_bytes())
    if not data or chance.random() < 0.2:
        file.unlink()
    elif chance.random() < 0.5:
        file.write_bytes(data[: chance.randrange(len(data))])
    else:
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        file.write_bytes(data)


@pytest.mark.parametrize("seed", range(8))
def test_whatever_happens_to_loops_and_to_what_is_known_of_them_what_waits_is_found(
    store: GitStore, folder: Path, seed: int
) -> None:
    chance, worlds = random.Random(seed), dict[str, World]()  # noqa: S311 - to be the same in each run
    for name in ("a", "b", "c"):
        worlds[name] = World(store, chance.choice(PLANS), name)
        worlds[name].settle()
    for number in range(25):
        change(folder, store, chance, worlds, number)
        check(folder, store)


def test_in_memory_what_waits_is_found(store: GitStore) -> None:
    memory = MemoryStore()
    for kept in (store, memory):
        for name, plan in zip("abcde", PLANS, strict=True):
            World(kept, plan, name).settle()
        assert [one.id for one in Loops(kept).pending()] == [one.id for one in seen(kept)]
    assert list(memory.waiting()) == list(store.waiting())


@pytest.mark.parametrize("seed", range(4))
def test_a_spoiled_list_hides_nothing_at_any_byte(store: GitStore, folder: Path, seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311 - to be the same in each run
    for name in "abcdefgh":
        World(store, chance.choice(PLANS), name).settle()
    store.upkeep().run(thorough=True)
    World(store, PLANS[1], "z").settle()
    expected = list(store.waiting())
    assert expected
    whole = {file: file.read_bytes() for file in (folder / "caesura.waiting").iterdir()}
    assert {file.name for file in whole} == {"known", "listed", "recent"}
    for _ in range(60):
        for file, data in whole.items():
            file.write_bytes(data)
        spoil(chance.choice(list(whole)), chance)
        assert list(GitStore.open(folder).waiting()) == expected
    for file, data in whole.items():
        for at in range(20, len(data), 24):  # where a fact says whether its commit waits
            for other, content in whole.items():
                other.write_bytes(content)
            file.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
            if file.name == "known":
                (folder / "caesura.waiting/listed").unlink()
            assert list(GitStore.open(folder).waiting()) == expected


def test_what_is_known_is_not_read_again(store: GitStore, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(30):
        World(store, PLANS[number % 2 + 1], f"x{number}").settle()
    asking = World(store, PLANS[1], "y")
    list(store.waiting())
    store.upkeep().run(thorough=True)
    opened = list[Path]()
    real = _disk.opened

    def counted(path: Path) -> object:
        opened.append(path)
        return real(path)

    monkeypatch.setattr(_disk, "opened", counted)
    fresh = GitStore.open(folder)
    assert len(list(fresh.waiting())) == 30
    assert [str(path.relative_to(folder)) for path in opened] == [
        "packed-refs",
        "caesura.waiting/listed",
        "caesura.waiting/recent",
    ]
    asking.settle()
    opened.clear()
    assert len(list(fresh.waiting())) == 31
    assert len(opened) < 8  # the branch, its commit, tree and record, and what is known
    opened.clear()
    assert len(list(fresh.waiting())) == 31
    assert len(opened) < 4


def test_what_cannot_be_read_is_looked_at_and_named(store: GitStore, folder: Path) -> None:
    World(store, PLANS[1], "a").settle()
    World(store, [], "b").end(lambda _: "approve")
    assert list(store.waiting()) == ["a"]
    commit = store.write(STATE, parents=(), message="m", author=ADA, committer=ROBOT).id
    for name in ("c", "d"):
        store.move(loop_name(name), None, commit)
    file_of(folder, git(folder, "rev-parse", "loops/c:continuation.json")).unlink()
    (folder / "refs/heads/loops/e").write_text("hello\n")
    for _ in range(2):
        with Loops.open(folder) as loops:
            assert loops.waiting() == ["a", "c", "d", "e"]
            assert list(loops.unreadable(loops.waiting())) == ["c", "d", "e"]
            assert [one.loop for one in loops.pending()] == ["a"]
    store.write(STATE, parents=(), message="m", author=ADA, committer=ROBOT)
    assert list(GitStore.open(folder).waiting()) == ["a", "e"]


def test_a_torn_list_of_branches_is_no_list_of_nothing(store: GitStore, folder: Path) -> None:
    World(store, PLANS[1], "a").settle()
    World(store, PLANS[1], "b").settle()
    git(folder, "pack-refs", "--all")
    assert list(store.waiting()) == ["a", "b"]
    file = folder / "packed-refs"
    file.write_bytes(file.read_bytes().replace(b"refs/heads/loops/a", b"refs/heads/\x00\x00\x00\x00\x00/a"))
    with pytest.raises(Torn):
        list(store.waiting())


def _method(later: Callable[..., object], call: Callable[..., object]) -> Callable[..., object]:
    return lambda *arguments: later(call, *arguments)


@pytest.mark.parametrize("at", ["look", "follow"])
def test_what_git_packs_meanwhile_is_found(
    store: GitStore, folder: Path, at: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b"):
        World(store, PLANS[1], name).settle()
    list(store.waiting())
    store.upkeep().run(thorough=True)
    World(store, PLANS[1], "c").settle()
    place = Refs if at == "look" else Waiting

    def later(call: Callable[..., object], *arguments: object) -> object:
        found = call(*arguments) if at == "look" else None
        git(folder, "branch", "loops/d", "loops/a")
        git(folder, "pack-refs", "--all")
        monkeypatch.undo()
        return found if at == "look" else call(*arguments)

    for name in ("own", "packed") if at == "look" else ("follow",):  # after the first of both, or before it
        monkeypatch.setattr(place, name, _method(later, getattr(place, name)))
    if at == "follow":
        store.upkeep().run(thorough=True)
    found = list(store.waiting())
    assert [name for name in found if name != "d"] == ["a", "b", "c"]  # one that was made meanwhile may be missed
    assert list(GitStore.open(folder).waiting()) == ["a", "b", "c", "d"]


def test_nothing_that_is_known_is_needed(store: GitStore, folder: Path, tmp_path: Path) -> None:
    World(store, NESTED, "a").settle()
    expected = seen(store)
    store.upkeep().run(thorough=True)
    assert Loops(store).pending() == expected
    git(tmp_path, "clone", "--quiet", "--mirror", str(folder), "copy.git")
    assert Loops.open(tmp_path / "copy.git").pending() == expected
    shutil.rmtree(folder / "caesura.waiting")
    (folder / "caesura.waiting").write_bytes(b"")  # where nothing can be kept
    assert Loops.open(folder).pending() == expected


def test_how_a_commit_stands_is_a_fact_that_is_kept_once(store: GitStore, folder: Path) -> None:
    world = World(store, ["order"], "a")
    world.settle()
    for number, names in enumerate([["a"], []], start=1):
        for _ in range(2):
            assert list(GitStore.open(folder).waiting()) == names
            assert (folder / "caesura.waiting/recent").stat().st_size == 24 * number
        world.end(lambda _: "approve")
