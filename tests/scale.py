"""Repositories with a thousand, or a million, loops: made in seconds, to see what a step and a look cost in them."""

import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path

from msgspec.structs import replace

from caesura.continuations import CallId, CommitId, Gate, GitStore, LoopName, User, loop_name
from caesura.continuations.store import Move
from tests.repositories import STATE, git
from tests.strategies import ADA, EPOCH, ROBOT

_WAITS = replace(STATE, gate=Gate(id=CallId("gate-1"), kind="pause", reason="paused", since=EPOCH))


def many(path: Path, count: int, waiting: int) -> None:
    """A repository with so many root loops, all of their branches packed, of which so many wait; in no order."""
    with closing(GitStore.open(path, create=True, durability="crash")) as store:
        heads = {
            waits: store.write(state, parents=(), message="m", author=ADA, committer=ROBOT).id
            for waits, state in ((True, _WAITS), (False, STATE))
        }
    chosen = set(random.Random(0).sample(range(count), waiting))  # noqa: S311 - to be the same in each run
    lines = (f"{heads[number in chosen]} refs/heads/loops/{name_of(number)}\n" for number in range(count))
    (path / "packed-refs").write_text("# pack-refs with: peeled fully-peeled sorted \n" + "".join(lines))


def spread(path: Path) -> None:
    """Give each branch that is in the list a file of its own, in the place of the list."""
    packed = path / "packed-refs"
    (path / "refs/heads/loops").mkdir()
    for line in packed.read_text().splitlines()[1:]:
        head, _, name = line.partition(" ")
        (path / name).write_text(f"{head}\n")
    packed.unlink()


def name_of(number: int) -> LoopName:
    """The name of a loop of `many`, by its number."""
    return loop_name(f"ops-{number:07}")


def next_step(store: GitStore, loop: LoopName) -> CommitId:
    """A loop's next step, written but not moved to."""
    head = store.head(loop)
    assert head is not None
    state = store.read(head).state
    state = replace(state, messages=(*state.messages, User(content=loop)))
    return store.write(state, parents=(head,), message="m", author=ADA, committer=ROBOT).id


def _timed(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return (time.perf_counter() - began) * 1e3


def look(path: Path) -> int:
    """How many loops wait, for whoever has just opened the repository."""
    with closing(GitStore.open(path)) as store:
        return sum(1 for _ in store.waiting())


def for_each_ref(path: Path) -> None:
    """Git's own list of all branches."""
    command = ["git", "for-each-ref", "--format=%(refname) %(objectname)", "refs/heads/loops"]
    subprocess.run(command, cwd=path, stdout=subprocess.DEVNULL, check=True)


def measured(path: Path, count: int, waiting: int) -> Iterator[tuple[str, float]]:
    """What is done in such a repository, each with its milliseconds: the median of a few."""
    chance = random.Random(1)  # noqa: S311 - to be the same in each run
    many(path, count, waiting)
    yield "first look", _timed(lambda: look(path))
    yield "a look at what waits", _median(lambda: look(path))
    yield "git for-each-ref", _median(lambda: for_each_ref(path))
    with closing(GitStore.open(path, durability="crash")) as store:
        chosen = [name_of(number) for number in chance.sample(range(count), 200)]
        steps = [(name, store.head(name), next_step(store, name)) for name in chosen]
        yield "the head of one", _timed(lambda: [store.head(name) for name in chosen]) / 200
        yield "update one that is packed", _timed(lambda: move(store, steps)) / 200
        again = [(name, store.head(name), next_step(store, name)) for name in chosen]
        yield "update it again", _timed(lambda: move(store, again)) / 200
        new = [(loop_name(f"new-{number}"), None, again[0][2]) for number in range(200)]
        yield "make one", _timed(lambda: move(store, new)) / 200
        yield "a look with 400 that have moved", _timed(lambda: list(store.waiting()))
        yield "another look", _median(lambda: list(store.waiting()))
        yield "put 400 into the list", _timed(lambda: store.upkeep().run(thorough=True))
        yield "a look after that", _median(lambda: look(path))
        yield "list all", _timed(store.heads)


def compared(path: Path, count: int, waiting: int) -> Iterator[tuple[str, float]]:
    """The same in both layouts of branches, each with its milliseconds: the median of a few."""
    many(path, count, waiting)
    for layout in ("list", "files"):
        if layout == "files":
            spread(path)
        chosen = [name_of(number) for number in random.Random(1).sample(range(count), 20)]  # noqa: S311 - as above
        with closing(GitStore.open(path, durability="crash")) as store:
            yield f"{layout}: first look", _timed(lambda: look(path))
            yield f"{layout}: a look at what waits", _median(lambda: look(path))
            yield f"{layout}: list all", _median(store.heads)
            yield f"{layout}: git for-each-ref", _median(lambda: for_each_ref(path))
            doomed = iter([Move(loop=name, old=store.head(name), new=None) for name in chosen])
            yield f"{layout}: delete one", _median(partial(_delete, store, doomed))
            yield f"{layout}: git update-ref -d", _median(partial(_delete_by_git, path, doomed))


def _delete(store: GitStore, doomed: Iterator[Move]) -> None:
    store.move_all([next(doomed)], "deleted")


def _delete_by_git(path: Path, doomed: Iterator[Move]) -> None:
    git(path, "update-ref", "-d", f"refs/heads/loops/{next(doomed).loop}")


def move(store: GitStore, moves: Iterable[tuple[LoopName, CommitId | None, CommitId]]) -> None:
    """Move branches, one after the other."""
    for loop, old, new in moves:
        store.move(loop, old, new)


def _median(call: Callable[[], object]) -> float:
    return sorted(_timed(call) for _ in range(5))[2]


@contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as made:
        yield Path(made)


def main() -> None:
    """Print a table for these numbers of loops, one in a hundred of which waits; after `layouts`, of both of these."""
    both = sys.argv[1:2] == ["layouts"]
    counts = [int(word) for word in sys.argv[1 + both :]] or [1_000, 100_000, 1_000_000]
    columns: list[dict[str, float]] = []
    for count in counts:
        with _folder() as folder:
            columns.append(dict((compared if both else measured)(folder / "r.git", count, count // 100)))
    sys.stdout.write(f"{'ms':36}" + "".join(f"{count:>12,}" for count in counts) + "\n")
    for name in columns[0]:
        sys.stdout.write(f"{name:36}" + "".join(f"{column[name]:12.3f}" for column in columns) + "\n")


if __name__ == "__main__":
    main()
