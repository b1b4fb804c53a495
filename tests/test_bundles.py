"""Bundles: loops carried to another repository whole, checked on arrival, and nothing of them left behind otherwise."""

import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import pytest

from caesura.continuations import (
    BadBundle,
    Diverged,
    GitStore,
    LoopExists,
    Loops,
    Move,
    NoSuchLoop,
    StillDriven,
    Unavailable,
    WorkerId,
    claim_of,
    loop_name,
    utc_now,
)
from caesura.continuations import MemoryStore as Memory
from caesura.continuations.store import _later
from tests.cli_process import AGENTS, Shell
from tests.damage import copied, file_of, git, is_whole, object_of, snapshot, tear
from tests.strategies import ADA, NESTED, World

LEAD = f"{AGENTS}:lead"


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tree of loops that waits for approvals, one of which has been given."""
    folder = tmp_path_factory.mktemp("template") / "caesura"
    store = GitStore.open(folder, create=True)
    world = World(store, NESTED)
    world.settle()
    world.decide("ops.team-1.order-1", "approve")
    store.close()
    return folder


@pytest.fixture
def here(template: Path, tmp_path: Path) -> Path:
    return copied(template, tmp_path / "here")


@pytest.fixture
def there(tmp_path: Path) -> Path:
    GitStore.open(tmp_path / "there", create=True).close()
    return tmp_path / "there"


@pytest.fixture
def file(here: Path, tmp_path: Path) -> Path:
    exported(here, tmp_path / "ops.bundle")
    return tmp_path / "ops.bundle"


@pytest.fixture
def loops(there: Path) -> Iterator[Loops]:
    with Loops.open(there) as opened:
        yield opened


def exported(folder: Path, file: Path) -> None:
    with Loops.open(folder) as opened:
        opened.export_bundle("ops", file=file)


def heads(folder: Path) -> dict[str, str]:
    lines = git(folder, "for-each-ref", "--format=%(refname:lstrip=3) %(objectname)", "refs/heads/loops")
    return dict(line.split() for line in lines.splitlines() if line)


def commit(folder: Path, data: str) -> str:
    """Write a commit by hand."""
    command = ["git", "-C", str(folder), "hash-object", "-t", "commit", "-w", "--literally", "--stdin"]
    return subprocess.run(command, input=data, capture_output=True, text=True, check=True).stdout.strip()


def end(folder: Path) -> None:
    """Bring the loop to its end."""
    store = GitStore.open(folder)
    World.resumed(store, "ops").end(lambda _: "approve")
    store.close()


def test_a_loop_arrives_whole_with_all_that_is_nested_in_it_and_goes_on(
    here: Path, there: Path, file: Path, loops: Loops
) -> None:
    arrivals = loops.import_bundle(file)
    assert {one.loop: one.commit for one in arrivals} == heads(there) == heads(here)
    assert all(one.moved and one.was is None for one in arrivals)
    assert len(arrivals) == 3
    assert is_whole(there)
    assert loops.verify().faults == ()
    assert git(there, "symbolic-ref", "HEAD") == "refs/heads/loops/ops"
    assert [request.id for request in loops.pending()] == ["ops.order-1", "ops.order-2", "ops.team-1.team-1.order-1"]
    end(there)
    with Loops.open(there) as anew:
        assert anew.verify().faults == ()
        assert anew.info("ops").status == "completed"


@pytest.mark.parametrize("who", ["writer", "another"])
def test_steps_that_git_does_not_see_yet_arrive_too(
    here: Path, there: Path, file: Path, loops: Loops, monkeypatch: pytest.MonkeyPatch, who: str
) -> None:
    monkeypatch.setattr(_later, "IDLE", 1e6)  # nothing is sealed by itself
    loops.import_bundle(file)
    with Loops.open(here, visibility="sealed") as writer, Loops.open(here) as another:
        told = writer.tell("ops", "And more.", by=ADA)
        assert object_of(here, "loops/ops") != told.commit
        file.unlink()
        {"writer": writer, "another": another}[who].export_bundle("ops", file=file)
    loops.import_bundle(file)
    assert heads(there)[loop_name("ops")] == told.commit


def test_a_loop_goes_on_where_it_came_from_and_what_is_further_here_stays(
    here: Path, there: Path, file: Path, loops: Loops, tmp_path: Path
) -> None:
    loops.import_bundle(file)
    assert not any(one.moved for one in loops.import_bundle(file))
    end(there)
    back = tmp_path / "back.bundle"
    exported(there, back)
    with Loops.open(here) as opened:
        moved = [one.loop for one in opened.import_bundle(back) if one.moved]
        assert moved == ["ops", "ops.team-1", "ops.team-1.team-1"]
        assert heads(here) == heads(there)
        assert not any(one.moved for one in opened.import_bundle(file)), "what is further here went back"
        assert heads(here) == heads(there)
        assert opened.verify().faults == ()


def test_a_loop_that_went_on_otherwise_is_refused_and_comes_in_under_another_name(
    here: Path, there: Path, file: Path, loops: Loops, tmp_path: Path
) -> None:
    loops.import_bundle(file)
    with Loops.open(here) as opened:
        opened.reject("ops.order-1", "no", by=ADA)
    other = tmp_path / "other.bundle"
    exported(here, other)
    loops.approve("ops.order-1", by=ADA)
    before = snapshot(there)
    with pytest.raises(Diverged, match="ops went on here otherwise") as told:
        loops.import_bundle(other)
    assert "caesura import NAME FILE" in told.value.hint
    assert snapshot(there) == before
    loops.import_bundle(other, "theirs")
    assert heads(there)["theirs"] == heads(here)["ops"]
    assert heads(there)["theirs.team-1.team-1"] == heads(here)["ops.team-1.team-1"]
    assert loops.verify().faults == ()


@pytest.mark.parametrize("share", range(1, 20, 2))
def test_a_bundle_that_is_damaged_is_refused_where_all_of_it_is_here_already(
    here: Path, file: Path, share: int
) -> None:
    """Git looks at nothing then; whoever imports it may delete the original, as it has arrived."""
    data, before = file.read_bytes(), snapshot(here)
    at = len(data) * share // 20
    with Loops.open(here) as loops:
        for torn in (data[:at], data[:at] + bytes([data[at] ^ 255]) + data[at + 1 :]):
            file.write_bytes(torn)
            with pytest.raises(BadBundle):
                loops.import_bundle(file)
            assert snapshot(here) == before
        file.write_bytes(data)
        assert not any(one.moved for one in loops.import_bundle(file))


def test_what_is_no_bundle_is_called_what_it_is(here: Path, loops: Loops, tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    (tmp_path / "text").write_text("hello")
    for name, what in (
        ("nothing", "nothing cannot be read: No such file or directory"),
        ("here", "here cannot be read: Not a file"),
        ("empty", "empty is empty"),
        ("text", "text is no bundle of git's"),
    ):
        with pytest.raises(BadBundle, match=what):
            loops.import_bundle(tmp_path / name)


@pytest.mark.parametrize("share", range(1, 20))
def test_a_bundle_that_is_cut_short_or_damaged_anywhere_leaves_nothing_behind(
    there: Path, file: Path, loops: Loops, share: int
) -> None:
    data, before = file.read_bytes(), snapshot(there)
    at = len(data) * share // 20
    for torn in (data[:at], data[:at] + bytes([data[at] ^ 255]) + data[at + 1 :]):
        file.write_bytes(torn)
        with pytest.raises(BadBundle):
            loops.import_bundle(file)
        assert snapshot(there) == before


def test_a_bundle_with_a_step_that_no_loop_can_make_is_refused(
    here: Path, there: Path, file: Path, loops: Loops
) -> None:
    before = snapshot(there)
    head = object_of(here, "loops/ops")
    said = git(here, "cat-file", "commit", head)
    tip = commit(here, said.replace("Status: suspended", "Status: active") + "\n")
    assert tip != head
    git(here, "update-ref", "refs/heads/loops/ops", tip)
    file.unlink()
    git(here, "bundle", "create", "--quiet", str(file), "--branches")
    with pytest.raises(BadBundle, match="has a fault, at "):
        loops.import_bundle(file)
    assert snapshot(there) == before


def test_what_is_no_loop_does_not_come_along(here: Path, there: Path, file: Path, loops: Loops) -> None:
    stray = git(here, "commit-tree", "-m", "A stray one.", object_of(here, "loops/ops^{tree}"))
    git(here, "branch", "stray", stray)
    git(here, "branch", "loops/-no-name", "loops/ops")
    git(here, "tag", "v1", stray)
    file.unlink()
    git(here, "bundle", "create", "--quiet", str(file), "--all")
    loops.import_bundle(file)
    assert heads(there) == {name: head for name, head in heads(here).items() if name != "-no-name"}
    assert git(there, "for-each-ref", "refs/tags", "refs/remotes", "refs/heads/stray") == ""
    assert git(there, "cat-file", "-t", stray, check=False) == "", "an object came that no loop reaches"


def test_what_holds_no_loops_is_refused(here: Path, there: Path, file: Path, loops: Loops, tmp_path: Path) -> None:
    before = snapshot(there)
    (tmp_path / "text").write_text("no bundle")
    git(here, "branch", "stray", git(here, "commit-tree", "-m", "x", object_of(here, "loops/ops^{tree}")))
    git(here, "bundle", "create", "--quiet", str(tmp_path / "stray"), "stray")
    git(here, "bundle", "create", "--quiet", str(tmp_path / "nested"), "loops/ops.team-1")
    git(here, "bundle", "create", "--quiet", str(tmp_path / "thin"), "loops/ops", "^loops/ops~1")
    for name in ("text", "missing", "here", "stray", "nested", "thin"):
        with pytest.raises(BadBundle):
            loops.import_bundle(tmp_path / name)
        assert snapshot(there) == before
    git(here, "branch", "loops/two", "loops/ops")
    git(here, "bundle", "create", "--quiet", str(tmp_path / "two"), "--branches")
    with pytest.raises(BadBundle, match="one name was given"):
        loops.import_bundle(tmp_path / "two", "one")
    assert snapshot(there) == before


def test_what_a_bundle_leaves_out_may_be_here_already(
    here: Path, there: Path, file: Path, loops: Loops, tmp_path: Path
) -> None:
    loops.import_bundle(file)
    known = [f"^{head}" for head in heads(there).values()]
    end(here)
    git(here, "bundle", "create", "--quiet", str(tmp_path / "thin"), "--branches", *known)
    assert all(one.moved for one in loops.import_bundle(tmp_path / "thin"))
    assert heads(there) == heads(here)
    assert is_whole(there)


def test_an_import_that_is_killed_before_the_branches_move_is_finished_by_the_next(
    there: Path, file: Path, here: Path
) -> None:
    class Killed(GitStore):
        def move_all(self, moves: Sequence[Move], note: str) -> None:
            raise KeyboardInterrupt

    with Loops(Killed.open(there)) as loops, pytest.raises(KeyboardInterrupt):
        loops.import_bundle(file)
    assert heads(there) == {}
    with Loops.open(there) as loops:
        loops.import_bundle(file)
        assert heads(there) == heads(here)
        assert loops.verify().faults == ()


def test_a_loop_that_a_living_worker_drives_is_not_moved_under_it(
    here: Path, there: Path, file: Path, loops: Loops, tmp_path: Path
) -> None:
    loops.import_bundle(file)
    end(here)
    exported(here, tmp_path / "newer")
    store = GitStore.open(there)
    store.move_lease(loop_name("ops"), None, msgspec.json.encode(claim_of(WorkerId("w"), utc_now())))
    before = heads(there)
    with Loops(store) as opened:
        with pytest.raises(StillDriven, match=r"ops.* is being driven by process"):
            opened.import_bundle(tmp_path / "newer")
        assert heads(there) == before


def test_a_name_that_something_nested_has_is_refused(there: Path, file: Path, loops: Loops) -> None:
    loops.import_bundle(file, "other")
    git(there, "branch", "loops/ops.gone-1", "loops/other.team-1")
    with pytest.raises(LoopExists, match=r"ops\.gone-1"):
        loops.import_bundle(file)


def test_only_root_loops_that_are_there_are_exported(here: Path, tmp_path: Path, file: Path) -> None:
    with Loops.open(here) as opened:
        with pytest.raises(NoSuchLoop, match="is nested in ops"):
            opened.export_bundle("ops.team-1", file=tmp_path / "x")
        with pytest.raises(NoSuchLoop, match="no loop 'other'"):
            opened.export_bundle("other", file=tmp_path / "x")
        opened.archive("ops")
        with pytest.raises(NoSuchLoop, match="ops is in the archive") as told:
            opened.export_bundle("ops", file=tmp_path / "x")
        assert "caesura archive --restore ops" in told.value.hint
        opened.restore("ops")
        with pytest.raises(BadBundle, match="is there already"):
            opened.export_bundle("ops", file=file)
        tear(file_of(here, object_of(here, "loops/ops~2")), "missing")
        with pytest.raises(Unavailable):
            opened.export_bundle("ops", file=tmp_path / "x")
    assert not (tmp_path / "x").exists()
    with Loops(Memory()) as opened, pytest.raises(Unavailable):
        opened.import_bundle(file)


def test_the_command_line_carries_a_loop_from_one_folder_to_another(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    ours, theirs = Shell(tmp_path / "a"), Shell(tmp_path / "b")
    assert ours("run", LEAD, "Onboard Ada", "--loop", "onboard").status == 3
    told = ours("export", "onboard", "--bundle", "../onboard.bundle")
    assert (told.status, told.out) == (0, "../onboard.bundle holds onboard.\n")
    assert ours("export", "onboard", "--bundle", "../onboard.bundle").status == 2
    assert ours("export", "onboard", "other").status == 2
    told = theirs("import", "../onboard.bundle")
    assert (told.status, told.out) == (0, "onboard is here now, with 1 loop nested in it.\n")
    assert theirs("import", "../onboard.bundle").out == "onboard is as far here already, with 1 loop nested in it.\n"
    assert theirs("approve", "onboard.it-1.order-1", "--yes").status == 0
    assert theirs("resume", "onboard", "--agents", LEAD).status == 0
    assert theirs("export", "onboard", "--bundle", "../back.bundle", "--json").json["loops"].keys() == {
        "onboard",
        "onboard.it-1",
    }
    assert ours("import", "../back.bundle").out == (
        "onboard went on to where the bundle has it, with 1 loop nested in it.\n"
    )
    (tmp_path / "empty").touch()
    for words in (("../nothing",), ("name", "../nothing")):
        told = theirs("import", *words)
        assert (told.status, "../nothing cannot be read: No such file" in told.err) == (2, True)
    told = theirs("import", "../empty")
    assert (told.status, "../empty is empty." in told.err) == (2, True)
    assert theirs("import", "second", "../back.bundle", "--undecided").status == 2
    assert [one["loop"] for one in theirs("import", "second", "../back.bundle", "--json").json["loops"]] == [
        "second",
        "second.it-1",
    ]
