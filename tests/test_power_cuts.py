"""A step that was acknowledged survives a power cut: every allowed loss, after every call to the disk, replayed."""

import os
import random
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from itertools import count, islice
from pathlib import Path
from typing import Any, Protocol

import pytest
from msgspec.structs import replace

from caesura.continuations import (
    CaesuraError,
    CommitId,
    Durability,
    Files,
    GitStore,
    History,
    Lease,
    LoopName,
    Loops,
    Move,
    Started,
    Status,
    Told,
    Torn,
    User,
    Visibility,
    Work,
    loop_name,
    start,
)
from caesura.continuations.store import _journal, _journaled, _later, _refs, _sealing
from caesura.continuations.store._journal import FOLDER
from caesura.continuations.store._objects import Batch, Objects
from caesura.continuations.store._packing import write_pack
from tests.damage import git
from tests.power import Call, Disk, Pool, Recorder
from tests.strategies import ADA, AGENT, EPOCH, NESTED, ROBOT, WORKERS, World
from tests.workspaces import project_of

STATE = start(Started(at=EPOCH, definition=AGENT, prompt=User(content="Go."), nonce="n", worker=WORKERS[0]))
OPS = loop_name("ops")


class Acknowledging(GitStore):
    """A store that notes in the record which moves it has said to be done."""

    recorder: Recorder

    def move(self, loop: LoopName, old: CommitId | None, new: CommitId) -> None:
        super().move(loop, old, new)
        self.recorder.note("ack", loop, new)


@dataclass
class Record:
    """A repository as it was made, and every call to the disk since, acknowledgements among them."""

    start: Path
    calls: list[Call]
    pool: Pool
    folder: Path

    def cuts(
        self, *, every: int = 1, samples: int = 1, forget: Callable[[Path], bool] = lambda _: False
    ) -> Iterator[tuple[Path, dict[LoopName, CommitId]]]:
        """A repository for each outcome looked at, and the heads that were acknowledged before the cut.

        While objects are written, which nothing points to yet, only after each so many calls; while refs move, after
        each. `forget` says which files and folders are never synced.
        """
        chance, number = random.Random(0), count()  # noqa: S311 - to be the same in each run
        disk, known = Disk(self.start), dict[LoopName, CommitId]()
        for at, (name, first, second) in enumerate(self.calls):
            if name == "ack":
                known[first] = second
            elif name != "sync" or not forget(first):
                disk.play(name, first, second)
            if at % every and name != "ack" and first.parts[:1] == ("objects",):
                continue
            for tree in disk.outcomes(chance, samples):
                cut = self.folder / str(next(number))
                self.pool.build(cut, tree)
                yield cut, dict(known)
                shutil.rmtree(cut)


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """In memory if there is such a place: thousands of repositories are made, and what is simulated is our own disk."""
    memory = Path("/dev/shm")  # noqa: S108 - a folder of its own is made there
    if not os.access(memory, os.W_OK):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir=memory) as made:
        yield Path(made)


class Recorded(Protocol):
    """Does some work, on a repository in which something was done `before`, and records what it asks of the disk."""

    def __call__(
        self,
        work: Callable[["Acknowledging"], object],
        durability: Durability = "power-cut",
        visibility: Visibility = "step",
        before: Callable[[GitStore], object] = lambda store: None,
    ) -> Record: ...


@pytest.fixture
def recorded(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Recorded:
    """Does some work on a new repository, and records what it asks of the disk."""

    def record(
        work: Callable[[Acknowledging], object],
        durability: Durability = "power-cut",
        visibility: Visibility = "step",
        before: Callable[[GitStore], object] = lambda store: None,
    ) -> Record:
        repository, start, cuts = folder / "r.git", folder / "start", folder / "cuts"
        before(GitStore.open(repository, create=True))
        shutil.copytree(repository, start)
        cuts.mkdir()
        store = Acknowledging.open(repository, durability=durability, visibility=visibility)
        monkeypatch.setattr(_later, "IDLE", 1e6)  # what is sealed, and when, is the work's to say
        monkeypatch.setattr(_journal, "_LEAST", 3000)  # so that some steps go where room was made, and some do not
        assert isinstance(store, Acknowledging)
        store.recorder = Recorder(repository)
        with monkeypatch.context() as patched:
            store.recorder.install(patched)
            work(store)
        store.close()
        monkeypatch.setattr(_refs, "LOCK_SECONDS", 0.02)
        return Record(start, store.recorder.calls, Pool(folder / "pool"), cuts)

    return record


def driven(store: GitStore) -> None:
    """A loop with one nested in it, from its start to its end, under a lease."""
    lease: Lease | None = store.move_lease(OPS, None, b"first")
    world = World(store, [["order"]])
    world.settle()
    lease = store.move_lease(OPS, lease, b"second")
    world.end(lambda _: "approve")
    store.move_lease(OPS, lease, None)


def sealed(store: GitStore) -> None:
    """`driven`, sealed now and then, and at the end not."""
    move, numbers = store.move, count(1)

    def moves(loop: LoopName, old: CommitId | None, new: CommitId) -> None:
        move(loop, old, new)
        if next(numbers) in (2, 3, 7):
            store.seal()

    setattr(store, "move", moves)  # noqa: B010 - of this one alone
    driven(store)


WORK: dict[Visibility, Callable[[GitStore], None]] = {"step": driven, "sealed": sealed}


def check(folder: Path, known: dict[LoopName, CommitId], visibility: Visibility = "step") -> None:
    """No acknowledged step is missing, no branch is unreadable, and the next step can be made."""
    store = GitStore.open(folder, visibility=visibility)
    assert not store.torn()
    heads = store.heads()
    assert heads.keys() >= known.keys(), "a branch is gone"
    for loop, head in heads.items():
        line = [head]
        while line[-1] != known.get(loop) and (parents := store.read(line[-1]).parents):
            line.append(parents[0])
        assert loop not in known or known[loop] in line, "an acknowledged step is gone"
        store.read(head)
    store.move_lease(OPS, store.lease(OPS), b"mine")
    if OPS in heads:
        world = World.resumed(store, OPS)
        if world.saved().state.ending is None:
            world.commit(world.saved(), Told(at=EPOCH, message=User(content="Still there?"), by=ADA))
    store.close()


def breaks(cuts: Iterator[tuple[Path, dict[LoopName, CommitId]]], visibility: Visibility = "step") -> Iterator[str]:
    """What is wrong in the outcomes that break the promise."""
    for folder, known in cuts:
        try:
            check(folder, known, visibility)
        except (AssertionError, CaesuraError) as error:
            yield str(error)


@pytest.mark.parametrize("visibility", WORK)
@pytest.mark.parametrize("found_by", WORK)
def test_an_acknowledged_step_survives_a_power_cut_at_any_moment_whatever_may_be_lost(
    recorded: Recorded, visibility: Visibility, found_by: Visibility
) -> None:
    cuts = 0
    for folder, known in recorded(WORK[visibility], visibility=visibility).cuts(every=9):
        check(folder, known, found_by)
        cuts += 1
    assert cuts > 500


@pytest.mark.soak
def test_an_acknowledged_step_of_a_deep_tree_survives_a_power_cut(recorded: Recorded) -> None:
    def work(store: GitStore) -> None:
        World(store, NESTED).end(lambda _: "approve")

    for folder, known in recorded(work, "power-cut").cuts(samples=3):
        check(folder, known)


def test_after_a_power_cut_the_loop_goes_on_to_its_end(recorded: Recorded) -> None:
    ended = 0
    for number, (folder, known) in enumerate(recorded(driven, "power-cut").cuts(every=9)):
        if number % 40 == 0 and OPS in known:
            store = GitStore.open(folder)
            world = World.resumed(store, OPS)
            assert world.end(lambda _: "approve").state.status is Status.COMPLETED
            store.close()
            ended += 1
    assert ended > 10


def many(store: Acknowledging) -> None:
    """Loops that are sealed together, again and again."""
    heads = dict[str, CommitId]()
    for _ in range(3):
        for name in ("ops", "x", "y"):
            heads[name] = begin(store, name, heads.get(name))
        store.seal()


@pytest.fixture
def by_list(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is sealed are many loops, by their number."""
    monkeypatch.setattr(_journaled, "MANY", 2)


@pytest.mark.usefixtures("by_list")
def test_branches_that_are_put_into_the_list_together_survive_a_power_cut_at_any_moment(recorded: Recorded) -> None:
    cuts = 0
    for folder, known in recorded(many, visibility="sealed").cuts(every=3):
        check(folder, known, "sealed")
        cuts += 1
    assert cuts > 200


@pytest.mark.usefixtures("by_list")
@pytest.mark.parametrize(
    "forget",
    [lambda path: path.name.startswith(("branch-", "caesura.lock.")), lambda path: path == Path()],
    ids=["list", "its folder"],
)
def test_no_sync_of_the_list_can_be_left_out(recorded: Recorded, forget: Callable[[Path], bool]) -> None:
    record = recorded(many, visibility="sealed")
    assert next(breaks(record.cuts(samples=4, forget=forget), "sealed"), None) is not None


def kept_up(store: Acknowledging) -> None:
    """Steps, and upkeep between them that packs all there is and makes one pack of two."""
    begin(store, "ops", None)
    for _ in range(2):
        for name in ("ops", "x"):
            begin(store, name, store.head(loop_name(name)))
        store.upkeep().run(thorough=True)
    begin(store, "ops", store.head(OPS))


def test_upkeep_takes_no_file_of_an_object_away_for_one_in_a_pack_that_nobody_has_waited_for(
    recorded: Recorded,
) -> None:
    def work(store: Acknowledging) -> None:
        begin(store, "ops", None)
        hasty = GitStore.open(store.location, durability="crash", visibility="sealed")
        other = hasty.write(STATE, parents=(), message="other", author=ADA, committer=ROBOT)
        hasty.move(loop_name("other"), None, other.id)
        hasty.close()
        store.upkeep().run(thorough=True)

    for cut, known in recorded(work).cuts(samples=10):
        store = GitStore.open(cut)
        for loop, head in known.items():
            assert store.heads()[loop] == head
            store.read(head)
        store.close()


def begin(store: Acknowledging, name: str, before: CommitId | None) -> CommitId:
    """One step, from nothing or from a commit."""
    parents = () if before is None else (before,)
    commit = store.write(STATE, parents=parents, message=f"{before}", author=ADA, committer=ROBOT).id
    store.move(loop_name(name), before, commit)
    return commit


def test_upkeep_loses_nothing_to_a_power_cut_at_any_moment(recorded: Recorded) -> None:
    cuts = 0
    for folder, known in recorded(kept_up, "power-cut").cuts(every=3):
        check(folder, known)
        cuts += 1
    assert cuts > 500


@pytest.mark.parametrize(
    "forget",
    [
        lambda path: path.name.startswith("tmp_obj"),
        lambda path: path == Path("objects/pack"),
        lambda path: path == Path(),
    ],
    ids=["pack and index", "their folder", "folder of the list of branches"],
)
def test_no_sync_of_upkeep_can_be_left_out(recorded: Recorded, forget: Callable[[Path], bool]) -> None:
    assert next(breaks(recorded(kept_up, "power-cut").cuts(samples=4, forget=forget)), None) is not None


@pytest.mark.parametrize(
    "forget",
    [
        lambda path: path.name.startswith("tmp_obj"),
        lambda path: len(path.parts) == 2 and path.parts[0] == "objects",
        lambda path: path == Path("objects"),
        lambda path: path.name.startswith("caesura.lock."),
        lambda path: path == Path(),
        lambda path: path == Path("refs/heads"),
        lambda path: path == Path("refs/heads/loops"),
    ],
    ids=["objects", "their folders", "folder of those", "lock", "its folder", "heads", "branches"],
)
def test_no_sync_can_be_left_out(recorded: Recorded, forget: Callable[[Path], bool]) -> None:
    assert next(breaks(recorded(driven, "power-cut").cuts(every=3, samples=4, forget=forget)), None) is not None


@pytest.mark.parametrize(
    "forget",
    [
        lambda path: path.parent == Path(FOLDER) and path.name.isdecimal(),
        lambda path: path == Path(FOLDER),
        lambda path: path == Path(),
        lambda path: path == Path(FOLDER, "guard"),
        lambda path: path.name.startswith("tmp_obj"),
        lambda path: path == Path("objects/pack"),
        lambda path: path.name.startswith("branch-"),
        lambda path: path == Path("refs/heads/loops"),
        lambda path: path == Path("refs/heads"),
    ],
    ids=["segments", "their folder", "folder of that", "guard", "packs", "their folder", "heads", "branches", "loops"],
)
def test_no_sync_can_be_left_out_where_steps_are_sealed(recorded: Recorded, forget: Callable[[Path], bool]) -> None:
    record = recorded(sealed, visibility="sealed")
    assert next(breaks(record.cuts(samples=4, forget=forget), "sealed"), None) is not None


def together(store: Acknowledging) -> None:
    """Steps of three loops, each three written at once; the first are sealed, and the others not."""
    heads: dict[LoopName, CommitId | None] = dict.fromkeys(map(loop_name, ("ops", "x", "y")))

    def step(loop: LoopName, number: int) -> CommitId:
        before, state = heads[loop], replace(STATE, messages=(User(content=f"{loop} {number}"),))
        parents = () if before is None else (before,)
        commit = store.write(state, parents=parents, message=f"{number}", author=ADA, committer=ROBOT).id
        GitStore.move(store, loop, before, commit)  # which has not moved yet when this returns
        return commit

    for number in range(3):
        works = [Work(partial(step, loop, number)) for loop in heads]
        store.share(works)
        for loop, work in zip(heads, works, strict=True):
            heads[loop] = work.result()
            store.recorder.note("ack", loop, work.result())
        if number == 0:
            store.seal()


@pytest.mark.parametrize("found_by", WORK)
def test_of_steps_that_share_a_wait_a_power_cut_leaves_all_or_none_and_none_that_was_acknowledged_is_lost(
    recorded: Recorded, found_by: Visibility
) -> None:
    rounds: set[str] = set()
    for folder, known in recorded(together, visibility="sealed").cuts(every=9):
        store = GitStore.open(folder, visibility=found_by)
        steps = {loop: store.read(head) for loop, head in store.heads().items()}
        store.close()
        assert len(steps) in (0, 3)
        assert len({commit.message for commit in steps.values()}) <= 1
        for loop, commit in steps.items():
            assert commit.state.messages == (User(content=f"{loop} {commit.message}"),)
        rounds.update(commit.message for commit in steps.values())
        check(folder, known, found_by)
    assert rounds == {"0", "1", "2"}


@pytest.mark.parametrize("visibility", WORK)
def test_what_is_to_survive_a_crash_alone_may_be_lost_by_a_power_cut(
    recorded: Recorded, visibility: Visibility
) -> None:
    record = recorded(WORK[visibility], "crash", visibility)
    assert not any(name == "sync" for name, _, _ in record.calls)
    assert next(breaks(record.cuts()), None) is not None


def archived(store: Acknowledging) -> None:
    """Two loops, of which one goes into the archive."""
    commit = begin(store, "x", None)
    begin(store, "y", None)
    move = Move(loop=loop_name("x"), old=commit, new=None)
    store.move_all([move, Move(loop=loop_name("x"), old=None, new=commit, archived=True)], "why")


@pytest.mark.usefixtures("by_list")
@pytest.mark.parametrize("work", [many, archived])
def test_what_is_to_survive_a_crash_alone_takes_no_branch_of_another_loop_with_it(
    recorded: Recorded, work: Callable[[Acknowledging], None]
) -> None:
    a, known = loop_name("a"), list[CommitId]()

    def before(store: GitStore) -> None:
        commit = store.write(STATE, parents=(), message="m", author=ADA, committer=ROBOT).id
        store.move_all([Move(loop=a, old=None, new=commit)], "why")
        known.append(commit)

    for cut, _ in recorded(work, "crash", "sealed", before).cuts(samples=4):
        store = GitStore.open(cut)
        assert [store.head(a)] == known
        store.close()


@pytest.mark.parametrize("done", ["erase", "prune"])
def test_forgetting_that_is_to_survive_a_crash_alone_takes_nothing_of_another_loop_with_it(
    recorded: Recorded, done: str
) -> None:
    heads: list[CommitId] = []

    def before(store: GitStore) -> None:
        World(store, [["order"]], "gone").end(lambda _: "approve")
        World(store, ["look"], "stays").end(lambda _: "approve")
        store.upkeep().run(thorough=True)
        heads.extend(head for name in ("stays", "gone") if (head := store.head(loop_name(name))) is not None)

    def work(store: Acknowledging) -> None:
        loops = Loops(store)
        if done == "erase":
            loops.erase("gone", by=ADA)
        else:
            loops.prune("gone", keep=1, by=ADA)

    cuts = 0
    for cut, _ in recorded(work, "crash", before=before).cuts(samples=2):
        store = GitStore.open(cut)
        assert store.heads()[loop_name("stays")] == heads[0]
        for commit, _ in store.line(heads[0]):
            store.read(commit)
        if done == "prune":  # the branch may be damaged, but is then repaired with what it led to
            try:
                store.read(store.heads()[loop_name("gone")])
            except (Torn, KeyError):
                store.read(heads[1])
        store.close()
        cuts += 1
    assert cuts > 20


def test_what_another_has_written_and_not_synced_is_synced_by_whoever_builds_on_it(
    recorded: Recorded, folder: Path
) -> None:
    def work(store: Acknowledging) -> None:
        hasty = GitStore.open(store.location, durability="crash")
        for one in (hasty, store):
            commit = one.write(STATE, parents=(), message="m", author=ADA, committer=ROBOT)
        store.move(OPS, None, commit.id)
        hasty.close()

    for cut, known in recorded(work, "power-cut").cuts(samples=20):
        check(cut, known)


def test_a_pack_of_files_that_are_looked_at_once_more_is_not_lost_by_that(recorded: Recorded) -> None:
    batch = Batch()
    names = [batch.add("blob", text) for text in (b"one", b"two", b"three")]

    def packed(store: GitStore) -> None:
        store._objects.write_packed(batch)

    cuts = 0
    for cut, _ in recorded(packed, "crash", before=packed).cuts(samples=4):
        objects = Objects(cut / "objects")
        assert [objects.get(name, "blob") for name in names] == [b"one", b"two", b"three"]
        objects.close()
        cuts += 1
    assert cuts > 10


@pytest.mark.parametrize("sealed_first", [False, True])
@pytest.mark.parametrize("ours", WORK)
@pytest.mark.parametrize("theirs", WORK)
def test_a_step_that_is_to_outlast_a_power_cut_does_so_whatever_steps_before_it_are_to(
    recorded: Recorded, ours: Visibility, theirs: Visibility, sealed_first: bool
) -> None:
    def work(store: Acknowledging) -> None:
        hasty = GitStore.open(store.location, durability="crash", visibility=theirs)
        first = hasty.write(STATE, parents=(), message="m", author=ADA, committer=ROBOT)
        hasty.move(OPS, None, first.id)
        if sealed_first:
            hasty.seal()
        state = replace(STATE, messages=(*STATE.messages, User(content="more")))
        second = store.write(state, parents=(first.id,), message="m", author=ADA, committer=ROBOT)
        store.move(OPS, first.id, second.id)
        hasty.close()  # which seals what is there

    for cut, known in recorded(work, "power-cut", ours).cuts(samples=10):
        if known:
            check(cut, known)


@pytest.mark.parametrize("when", ["before", "meanwhile"])
def test_a_segment_that_need_not_be_synced_is_if_a_later_one_builds_on_it(
    recorded: Recorded, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    def work(store: Acknowledging) -> None:
        hasty = GitStore.open(store.location, durability="crash", visibility="sealed")
        first = hasty.write(STATE, parents=(), message="m", author=ADA, committer=ROBOT)
        hasty.move(OPS, None, first.id)
        state = replace(STATE, messages=(*STATE.messages, User(content="more")))
        second = store.write(state, parents=(first.id,), message="m", author=ADA, committer=ROBOT)
        build_on_it = partial(store.move, OPS, first.id, second.id)
        if when == "before":
            hasty._journal.rotate()  # as who is about to seal it, and has not yet
            build_on_it()
        else:

            def packed(*given: Any, **named: Any) -> Path:
                made = write_pack(*given, **named)
                build_on_it()
                return made

            with monkeypatch.context() as patched:
                patched.setattr(_sealing, "write_pack", packed)
                hasty.seal()
        hasty.close()

    for cut, known in recorded(work, "power-cut", "sealed").cuts(samples=10):
        if known:
            check(cut, known)


def both(store: Acknowledging) -> tuple[Move, ...]:
    """Two loops and one in the archive, which are then moved together: one goes on, one goes, one comes back."""
    ids: list[CommitId] = []
    for text in ("one", "two"):
        state = replace(STATE, messages=(User(content=text),))
        ids.append(store.write(state, parents=(), message="m", author=ADA, committer=ROBOT).id)
    x, y, z = map(loop_name, "xyz")
    store.move(x, None, ids[0])
    store.move(y, None, ids[0])
    store.move_all([Move(loop=z, old=None, new=ids[0], archived=True)], "why")
    store.recorder.note("ack", "all there", z)
    moves = (
        Move(loop=x, old=ids[0], new=ids[1]),
        Move(loop=y, old=ids[0], new=None),
        Move(loop=y, old=None, new=ids[1], archived=True),
        Move(loop=z, old=ids[0], new=None, archived=True),
        Move(loop=z, old=None, new=ids[1]),
    )
    store.move_all(moves, "why")
    store.recorder.note("ack", "all moved", z)
    return moves


def test_branches_that_move_together_do_so_whatever_a_power_cut_loses(recorded: Recorded) -> None:
    done: list[tuple[Move, ...]] = []
    record = recorded(lambda store: done.append(both(store)), "power-cut")
    (moves,) = done
    old = {(one.loop, one.archived): one.old for one in moves}
    new = {(one.loop, one.archived): one.new for one in moves}
    seen: set[bool] = set()
    for folder, known in record.cuts(samples=6):
        if "all there" not in known:
            continue
        store = GitStore.open(folder)
        now = {key: store.head(key[0], archived=key[1]) for key in old}
        assert now in (old, new)
        assert now == new or "all moved" not in known
        seen.add(now == new)
        if now == old:
            store.move_all(moves, "again")
            assert {key: store.head(key[0], archived=key[1]) for key in old} == new
        store.close()
    assert seen == {True, False}


@pytest.mark.parametrize(
    "forget", [lambda path: path == Path("refs/heads/loops"), lambda path: path == Path()], ids=["branches", "packed"]
)
def test_no_sync_of_a_move_together_can_be_left_out(recorded: Recorded, forget: Callable[[Path], bool]) -> None:
    done: list[tuple[Move, ...]] = []
    record = recorded(lambda store: done.append(both(store)), "power-cut")
    (moves,) = done
    broken = False
    for folder, known in record.cuts(samples=6, forget=forget):
        if "all there" in known and not broken:
            store = GitStore.open(folder)
            now = [store.head(one.loop, archived=one.archived) for one in moves]
            new = [one.new for one in moves]
            broken = now not in ([one.old for one in moves], new) or ("all moved" in known and now != new)
            store.close()
    assert broken


# Keeping and forgetting ----------------------------------------------------------------------------------------------


def two(store: GitStore) -> None:
    """Two loops that have ended, of which one has something to prune."""
    for name in ("ops", "other"):
        world = World(store, ["look"], name)
        world.settle()
    for text in ("More.", "And more."):
        world.commit(world.saved(), Told(at=world.now(), message=User(content=text), by=ADA))
        world.settle()
    if not list((Path(store.location) / "objects" / "pack").glob("*.pack")):
        git(Path(store.location), "repack", "-a", "--quiet")
        for file in Path(store.location).glob("objects/[0-9a-f][0-9a-f]/*"):
            if int(file.parent.name, 16) % 2:
                file.unlink()


def sound(cut: Path) -> Loops:
    """The loops after a cut, of which each that is there is whole."""
    for left in cut.glob("objects/tmp_obj_caesura-*"):
        left.unlink()  # its process is this one, which has not ended
    loops = Loops.open(cut)
    assert loops.unreadable() == {}
    assert loops.verify().faults == ()
    return loops


def test_an_erasure_that_a_power_cut_ends_is_finished_by_the_next_and_harms_no_other_loop(recorded: Recorded) -> None:
    record = recorded(lambda store: Loops(store).erase("ops", by=ADA), before=two)
    seen: set[bool] = set()
    for cut, _ in islice(record.cuts(every=20), None, None, 3):
        with sound(cut) as loops:
            names = {info.name for info in loops.all()}
            seen.add("ops" in names)
            assert names | {"ops"} == {"ops", "other"}
            assert "ops" in names or git(cut, "log", "-1", "--format=%s", "refs/archive/erased/ops") == "ops: erased"
            loops.erase("ops", by=ADA)
            assert [info.name for info in loops.all()] == ["other"]
            report = loops.verify()
            assert (report.faults, report.notes) == ((), ())
            there = git(cut, "cat-file", "--batch-all-objects", "--batch-check=%(objectname)").split()
            assert set(there) == set(git(cut, "rev-list", "--objects", "--no-object-names", "--all").split())
    assert seen == {True, False}


def test_a_pruning_that_a_power_cut_ends_is_finished_by_the_next(recorded: Recorded) -> None:
    record = recorded(lambda store: Loops(store).prune("other", keep=1, by=ADA), before=two)
    lengths: set[int] = set()
    for cut, _ in islice(record.cuts(every=20), None, None, 3):
        with sound(cut) as loops:
            lengths.add(len(git(cut, "rev-list", "--first-parent", "loops/other").split()))
            loops.prune("other", keep=1, by=ADA)
            assert len(git(cut, "rev-list", "--first-parent", "loops/other").split()) == 3
            assert not list(cut.glob("caesura.pruning*"))
            assert loops.verify().faults == ()
    assert lengths == {9, 3}


@pytest.mark.parametrize("looked_at", [False, True])
def test_an_import_that_a_power_cut_ends_has_moved_all_branches_or_none(
    recorded: Recorded, folder: Path, looked_at: bool
) -> None:
    store = GitStore.open(folder / "source", create=True)
    World(store, [["look"]]).settle()
    with Loops(store) as loops:
        wanted = loops.export_bundle("ops", file=folder / "ops.bundle")

    def imports(store: Acknowledging) -> None:
        if looked_at:
            hasty = GitStore.open(store.location, durability="crash")
            with closing(hasty), hasty.keeper().unbundle(folder / "ops.bundle") as bundle:
                bundle.take(wanted)
        Loops(store).import_bundle(folder / "ops.bundle")
        store.recorder.note("ack", OPS, wanted[OPS])

    record = recorded(imports)
    seen: set[int] = set()
    for cut, known in islice(record.cuts(), None, None, 3):
        with sound(cut) as loops:
            found = GitStore.open(cut).heads()
            assert found == wanted if known else found in ({}, wanted)
            seen.add(len(found))
            loops.import_bundle(folder / "ops.bundle")
            assert GitStore.open(cut).heads() == wanted
    assert seen == {0, len(wanted)}


@pytest.mark.parametrize("looked_at", [False, True])
@pytest.mark.parametrize("borrow", [False, True])
def test_a_loop_that_began_with_a_projects_files_has_them_all_after_a_power_cut(
    recorded: Recorded, folder: Path, borrow: bool, looked_at: bool
) -> None:
    project = project_of(folder / "project")

    def begins(store: Acknowledging) -> None:
        if looked_at:  # by somebody whose steps need not outlast it, and who came to none
            with closing(GitStore.open(store.location, durability="crash")) as hasty:
                hasty.projects().take(str(project), lambda _: False)
        history = History(store)
        _, workspace, origin = Files(history).begin_from(str(project), None, borrow=borrow)
        event = Started(
            at=EPOCH,
            definition=AGENT,
            prompt=User(content="Go."),
            nonce="n",
            worker=WORKERS[0],
            workspace=workspace,
            origin=origin,
        )
        history.begin(OPS, event, ROBOT, ADA)

    seen: set[int] = set()
    for cut, known in recorded(begins).cuts(samples=2):
        with Loops(GitStore.open(cut)) as loops:
            heads = GitStore.open(cut).heads()
            assert heads.keys() >= known.keys()
            assert loops.verify().faults == ()
            seen.add(len(heads))
    assert seen == {0, 1}
