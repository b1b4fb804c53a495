"""The archive: loops leave the branches and come back, whole; what is there can be looked at and gone on from."""

from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest

from caesura.continuations import (
    CommitId,
    GitStore,
    LoopExists,
    LoopName,
    Loops,
    Move,
    Moved,
    Nested,
    NoSuchLoop,
    StillDriven,
    Unavailable,
    archive,
    claim_of,
    loop_name,
    utc_now,
)
from caesura.continuations.store._refs import Refs
from tests.repositories import git
from tests.strategies import ADA, NESTED, WORKERS, World

OPS = loop_name("ops")


@pytest.fixture
def store(tmp_path: Path) -> GitStore:
    return GitStore.open(tmp_path / "r.git", create=True)


@pytest.fixture
def world(store: GitStore) -> World:
    """A loop with others nested in it that wait."""
    world = World(store, NESTED)
    world.settle()
    return world


def test_a_loop_goes_to_the_archive_and_comes_back_with_all_that_is_nested_in_it(store: GitStore, world: World) -> None:
    before, pending = store.heads(), world.loops.pending("ops")
    assert len(before) > 1
    for _ in range(2):  # done again, nothing is done
        world.loops.archive("ops")
        assert store.heads() == {}
        assert world.loops.archived() == before
        assert world.loops.pending() == []
    folder = Path(store.location)
    refs = git(folder, "for-each-ref", "--format=%(refname)").split()
    assert refs == [f"refs/archive/loops/{name}" for name in before]
    git(folder, "fsck", "--strict")
    for _ in range(2):
        world.loops.restore("ops")
        assert (store.heads(), world.loops.archived()) == (before, {})
    assert world.loops.pending("ops") == pending
    world.end(lambda _: "approve")
    assert world.loops.verify().faults == ()


def test_a_decision_in_a_nested_loop_that_gets_its_branch_meanwhile_is_there_once_the_root_is_restored(
    store: GitStore, world: World
) -> None:
    folder = Path(store.location)
    for name in store.heads():  # as after a plain `git branch`: what is nested is in its parent's commits alone
        if name != OPS:
            git(folder, "update-ref", "-d", f"refs/heads/loops/{name}")

    class Late(GitStore):
        """Somebody decides just before the loop is moved."""

        request = ""

        def move_all(self, moves: Sequence[Move], note: str) -> None:
            if self.request:
                world.loops.approve(self.request, by=ADA)
                self.request = ""
            super().move_all(moves, note)

    late = Late.open(folder)
    assert isinstance(late, Late)
    late.request = next(one.id for one in world.loops.pending("ops") if one.loop != "ops")
    decided = late.request
    with Loops(late) as loops:
        loops.archive("ops")
        loops.restore("ops")
    assert decided not in [one.id for one in world.loops.pending("ops")]
    world.end(lambda _: "approve")
    assert world.loops.verify().faults == ()


@pytest.mark.parametrize("archived_again", [False, True])
def test_a_decision_in_a_nested_loop_that_comes_as_its_root_is_archived_hinders_nobody_from_restoring_it(
    store: GitStore, world: World, archived_again: bool
) -> None:
    folder = Path(store.location)
    for name in store.heads():
        if name != OPS:
            git(folder, "update-ref", "-d", f"refs/heads/loops/{name}")

    class Early(GitStore):
        """Somebody archives the root just before the nested loop that was decided on gets its branch."""

        def move(self, loop: LoopName, old: CommitId | None, new: CommitId) -> None:
            if old is None:
                world.loops.archive("ops")
            super().move(loop, old, new)

    decided = next(one for one in world.loops.pending("ops") if one.loop != "ops")
    with Loops(Early.open(folder)) as loops:
        loops.approve(decided, by=ADA)
    assert store.heads().keys() == {decided.loop}
    if archived_again:
        world.loops.archive("ops")
        assert not store.heads()
    world.loops.restore("ops")
    assert decided.id not in [one.id for one in world.loops.pending("ops")]
    world.end(lambda _: "approve")
    assert world.loops.verify().faults == ()


def test_whoever_is_kept_from_it_for_too_long_is_told_to_go_on_with_what_is_left(
    store: GitStore, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive, "_ATTEMPTS", 1)
    with pytest.raises(Moved) as told:  # though nobody was in its way: nobody has looked what is left
        world.loops.archive("ops")
    assert told.value.hint == "Try again: it goes on with what is left."
    assert store.heads() == {}
    monkeypatch.undo()
    world.loops.archive("ops")


def test_an_archived_loop_is_shown_and_forked_by_its_name(store: GitStore, world: World) -> None:
    head = store.heads()[OPS]
    world.loops.archive("ops")
    assert world.loops.show("ops").commit == head
    assert world.loops.fork("ops~1", "other").commit == store.read(head).parents[0]
    with pytest.raises(NoSuchLoop, match="ops is in the archive"):
        world.loops.tell("ops", "Hello?", by=ADA)


def test_the_name_of_an_archived_loop_is_taken_and_a_loop_is_restored_over_no_other(
    store: GitStore, world: World
) -> None:
    world.loops.archive("ops")
    with pytest.raises(LoopExists, match="in the archive"):
        World(store, [])
    git(Path(store.location), "branch", "loops/ops", "refs/archive/loops/ops~1")
    with pytest.raises(LoopExists):
        world.loops.restore("ops")
    with pytest.raises(LoopExists):
        world.loops.archive("ops")


def test_what_is_driven_is_not_archived_nor_is_a_nested_loop_alone(store: GitStore, world: World) -> None:
    lease = store.move_lease(OPS, None, msgspec.json.encode(claim_of(WORKERS[0], utc_now())))
    with pytest.raises(StillDriven):
        World.resumed(store, "ops").loops.archive("ops")
    assert OPS in store.heads()
    store.move_lease(OPS, lease, None)
    nested = next(name for name in store.heads() if name != OPS)
    with pytest.raises(Nested):
        world.loops.archive(nested)
    with pytest.raises(NoSuchLoop):
        world.loops.archive("nothing")


def test_for_one_loop_of_many_to_go_and_come_back_no_other_is_looked_at(
    store: GitStore, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(9):
        world.loops.fork("ops", f"other-{number}")
    looked, stored = list[str](), Refs.stored

    def asked(self: Refs, ref: str) -> str | None:
        looked.append(ref)
        return stored(self, ref)

    world.loops.fork("ops", "mine")
    monkeypatch.setattr(Refs, "stored", asked)
    world.loops.archive("mine")
    world.loops.restore("mine")
    assert set(looked) - {"HEAD"} == {"refs/heads/loops/mine", "refs/archive/loops/mine"}


def test_head_names_a_branch_that_is_there(store: GitStore, world: World) -> None:
    folder = Path(store.location)
    assert git(folder, "symbolic-ref", "HEAD") == "refs/heads/loops/ops"
    world.loops.fork("ops", "other")
    world.loops.archive("ops")
    assert git(folder, "symbolic-ref", "HEAD") == "refs/heads/loops/other"


def test_a_branch_that_is_checked_out_stays(store: GitStore, world: World, tmp_path: Path) -> None:
    git(Path(store.location), "worktree", "add", "--quiet", str(tmp_path / "tree"), "loops/ops")
    with pytest.raises(Unavailable, match="is checked out"):
        world.loops.archive("ops")
    assert OPS in store.heads()
