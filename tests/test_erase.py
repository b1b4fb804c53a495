"""Erasing: no byte of what a loop said is anywhere in the repository, and of the others nothing is missing."""

import errno
import os
import subprocess
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from io import FileIO
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from caesura.continuations import (
    BadBundle,
    Claim,
    CommitId,
    Erased,
    GitStore,
    History,
    Locked,
    LoopExists,
    LoopName,
    Loops,
    MemoryStore,
    Moved,
    Nested,
    NoSuchLoop,
    Person,
    StillDriven,
    StillReached,
    Told,
    Torn,
    Unavailable,
    Unclean,
    User,
    WorkerId,
    claim_of,
    loop_name,
    utc_now,
)
from caesura.continuations.store import _disk, _plumbing
from caesura.continuations.store._exclusive import keeping_up, sealing
from tests.damage import file_of, git, is_whole, object_of, snapshot, tear
from tests.killed import killed_after
from tests.strategies import ADA, EPOCH, GRACE, NESTED, World

OPS, OTHER = loop_name("ops"), loop_name("other")


def everything(folder: Path) -> bytes:
    """Every byte in a repository: each file as it is and inflated, and each object however it is packed."""
    parts: list[bytes] = []
    for file in folder.rglob("*"):
        if file.is_file():
            parts += [str(file).encode(), file.read_bytes()]
            try:
                parts.append(zlib.decompress(file.read_bytes()))
            except zlib.error:
                continue
    objects = ["git", "-C", str(folder), "cat-file", "--batch-all-objects", "--batch", "--buffer", "--unordered"]
    parts.append(subprocess.run(objects, capture_output=True, check=True).stdout)
    logs = ["git", "-C", str(folder), "log", "--all", "--walk-reflogs", "--format=%H %gs"]
    parts.append(subprocess.run(logs, capture_output=True, check=False).stdout)
    return b"\n".join(parts)


def agreed(names: tuple[LoopName, ...]) -> bool:
    return True


def shown(names: tuple[LoopName, ...]) -> bool:
    """Wants to see what would be done, and why it would not be."""
    return False


def objects(folder: Path) -> set[str]:
    return set(git(folder, "cat-file", "--batch-all-objects", "--batch-check=%(objectname)").split())


def reachable(folder: Path, *refs: str) -> set[str]:
    return set(git(folder, "rev-list", "--objects", "--no-object-names", *refs).split())


MARK = "XYZZY"


def worked(folder: Path, loop: str, mark: str, logs: bool = False) -> World:
    """A loop in which everything that is said has a mark in it."""
    GitStore.open(folder, create=True).close()
    if logs:
        git(folder, "config", "core.logAllRefUpdates", "always")
    world = World(GitStore.open(folder), NESTED, loop)
    world.settle()
    world.loops.tell(loop, f"{mark} is what you are told.", by=Person(name=f"{mark} Person", email="p@x"))
    pending = world.loops.pending(loop)
    world.loops.approve(pending[0].id, note=f"{mark} note", by=ADA)
    world.loops.reject(pending[1].id, f"{mark} reason", by=ADA)
    world.settle()
    return world


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two loops, of which one is to be erased, with logs of what moved."""
    worked(tmp_path / "r", "ops", MARK, logs=True)
    worked(tmp_path / "r", "other", "PLUGH")
    return tmp_path / "r"


@pytest.fixture
def loops(folder: Path) -> Iterator[Loops]:
    with Loops.open(folder) as opened:
        yield opened


def check_erased(folder: Path, others: set[str]) -> None:
    """What is so after every erasure of ``ops``."""
    assert MARK.encode() not in everything(folder)
    assert others <= objects(folder), "something of another loop is gone"
    assert is_whole(folder)
    with Loops.open(folder) as opened:
        report = opened.verify()
        assert (report.faults, report.notes) == ((), ())
        assert [info.name for info in opened.all()] == ["other"]
    assert not list(folder.glob("caesura.erasing*"))
    assert not list(folder.glob("objects/pack/*.keep"))
    assert all(pack.with_suffix(".idx").exists() for pack in folder.glob("objects/pack/*.pack"))


PACKED: dict[str, Callable[[Path], object]] = {
    "loose": lambda folder: None,
    "packed": lambda folder: repacked(folder, "-a"),
    "packed and loose": lambda folder: git(folder, "repack", "-a", "--quiet"),
    "two packs": lambda folder: twice_packed(folder),
    "with git's caches": lambda folder: (
        git(folder, "repack", "-a", "-b", "--quiet"),
        git(folder, "commit-graph", "write", "--reachable"),
        git(folder, "multi-pack-index", "write"),
    ),
    "packed refs": lambda folder: git(folder, "pack-refs", "--all"),
    "kept up": lambda folder: GitStore.open(folder).upkeep().run(thorough=True),
}


def repacked(folder: Path, *words: str) -> None:
    """Everything in a pack, and the files of their own gone."""
    git(folder, "repack", "--quiet", *words)
    git(folder, "-c", "extensions.preciousObjects=false", "prune-packed")
    for file in folder.glob("objects/[0-9a-f][0-9a-f]/*"):
        file.unlink()


def twice_packed(folder: Path) -> None:
    for depth in (50, 0):
        repacked(folder, "-a", f"--depth={depth}")


@pytest.mark.parametrize("archived", [False, True])
@pytest.mark.parametrize("how", PACKED)
def test_no_byte_of_an_erased_loop_is_left_and_nothing_of_another_is_gone(
    folder: Path, how: str, archived: bool
) -> None:
    with Loops.open(folder) as opened:
        if archived:
            opened.archive("ops")
        PACKED[how](folder)
        place = "refs/archive" if archived else "refs/heads"
        held = {line.split()[1]: line.split()[0] for line in git(folder, "show-ref").splitlines() if "/ops" in line}
        assert MARK.encode() in everything(folder)
        others = reachable(folder, "--glob=refs/heads/loops/other*")
        told = opened.erase("ops", "They asked for it.", by=GRACE)
    assert told is not None
    assert told.gone > 20
    check_erased(folder, others)
    stone = git(folder, "log", "--format=%an %ae|%B", "refs/archive/erased/ops")
    assert stone.startswith("Grace")
    assert "They asked for it." in stone
    assert len(held) == 3
    assert all(ref.startswith(place) and f"Held: {head} {ref}" in stone for ref, head in held.items())
    assert git(folder, "ls-tree", "-r", "refs/archive/erased/ops") == ""


words = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x24F), min_size=12, max_size=40)


@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(said=st.lists(words, min_size=1, max_size=4, unique=True), common=words, packed=st.booleans())
def test_whatever_was_said_is_gone_unless_another_loop_says_it(
    tmp_path_factory: pytest.TempPathFactory, said: list[str], common: str, packed: bool
) -> None:
    folder = tmp_path_factory.mktemp("r") / "r"
    store = GitStore.open(folder, create=True)
    first, second = World(store, ["look"], "ops"), World(store, ["look"], "other")
    for world in (first, second):
        world.settle()
        world.commit(world.saved(), Told(at=world.now(), message=User(content=f"common {common}"), by=ADA))
    for text in said:
        first.commit(first.saved(), Told(at=first.now(), message=User(content=f"said {text}"), by=ADA))
    store.close()
    if packed:
        repacked(folder, "-a")
    before = {text: [form for form in forms(text) if form in everything(folder)] for text in said}
    assert all(before.values())
    others = reachable(folder, "refs/heads/loops/other")
    with Loops.open(folder) as opened:
        opened.erase("ops", by=ADA)
        assert opened.show("other").state.messages[-1] == User(content=f"common {common}")
    left = everything(folder)
    assert not [form for found in before.values() for form in found if form in left]
    assert others <= objects(folder)
    assert is_whole(folder)


def forms(text: str) -> list[bytes]:
    """A text as it may be kept: as it is, and as JSON writes it."""
    encoded = msgspec.json.encode(f"said {text}")[1:-1]
    return [f"said {text}".encode(), encoded]


# What is shared ------------------------------------------------------------------------------------------------------


def test_a_fork_is_named_and_goes_only_if_that_is_asked_for(folder: Path, loops: Loops) -> None:
    others = reachable(folder, "--glob=refs/heads/loops/other*")
    loops.fork("ops~2", "fork")
    loops.fork("ops.team-1~1", "inner")
    loops.archive("inner")
    before = snapshot(folder)
    with pytest.raises(StillReached, match="refs/archive/loops/inner, refs/heads/loops/fork as well") as told:
        loops.erase("ops", by=ADA)
    assert "--with-forks" in told.value.hint
    assert snapshot(folder) == before
    asked: list[tuple[LoopName, ...]] = []

    def refuse(names: tuple[LoopName, ...]) -> bool:
        asked.append(names)
        return False

    assert loops.erase("ops", forks=True, by=ADA, agree=refuse) is None
    assert asked == [("fork", "inner", "ops")]
    assert snapshot(folder) == before
    done = loops.erase("ops", forks=True, by=ADA)
    assert isinstance(done, Erased)
    assert sorted(done.tombstones) == ["fork", "inner", "ops"]
    check_erased(folder, others)


HOLDERS: dict[str, Callable[[Path], object]] = {
    "refs/tags/v1": lambda folder: git(folder, "tag", "-a", "-m", "x", "v1", "loops/ops~1"),
    "refs/heads/mine": lambda folder: git(folder, "branch", "mine", "loops/ops.team-1"),
    "refs/tags/tree": lambda folder: git(folder, "tag", "tree", "loops/ops^{tree}"),
    "ORIG_HEAD": lambda folder: (folder / "ORIG_HEAD").write_text(object_of(folder, "loops/ops") + "\n"),
    "logs/refs/heads/mine": lambda folder: (
        git(folder, "branch", "mine", "loops/ops"),
        git(folder, "branch", "-f", "mine", "loops/other"),
    ),
    "worktrees/w/HEAD": lambda folder: git(folder, "worktree", "add", "--detach", "../w", "loops/ops~1"),
}


@pytest.mark.parametrize("name", HOLDERS)
def test_what_else_leads_to_it_is_named_and_nothing_is_done(folder: Path, loops: Loops, name: str) -> None:
    HOLDERS[name](folder)
    before = snapshot(folder)
    for asked in (agreed, shown):
        with pytest.raises(StillReached, match=name):
            loops.erase("ops", by=ADA, agree=asked)
    with pytest.raises(StillReached, match=name):
        loops.erase("ops", forks=True, by=ADA)
    assert snapshot(folder) == before


def test_a_loop_that_is_checked_out_is_not_erased(folder: Path, loops: Loops, tmp_path: Path) -> None:
    git(folder, "worktree", "add", "--quiet", str(tmp_path / "w"), "loops/ops")
    before = snapshot(folder)
    with pytest.raises(Unavailable, match="is checked out"):
        loops.erase("ops", by=ADA)
    assert snapshot(folder) == before


def test_what_steps_that_came_to_nothing_have_left_goes_too(folder: Path, loops: Loops) -> None:
    others = reachable(folder, "--glob=refs/heads/loops/other*")
    store = GitStore.open(folder)

    class Late(GitStore):
        def move(self, loop: LoopName, old: CommitId | None, new: CommitId) -> None:
            raise Moved("Another was first.", hint="")

    late = World.resumed(Late.open(folder), "ops")
    with pytest.raises(Moved):
        late.history.append(late.saved(), Told(at=EPOCH, message=User(content=f"{MARK} too late"), by=ADA), ADA)
    with pytest.raises(LoopExists):
        World(Late.open(folder), [f"{MARK} never begun"], "ops")
    long_ago = time.time() - 7200
    # What a writer left that died before its commit: a message nobody named, long ago.
    orphan = git(folder, "hash-object", "-w", "-t", "blob", _file(folder, {"role": "user", "content": MARK}))
    os.utime(file_of(folder, orphan), (long_ago, long_ago))
    strange = git(folder, "hash-object", "-w", "-t", "blob", _file(folder, {"whose": "nobody's"}))
    os.utime(file_of(folder, strange), (long_ago, long_ago))
    # And a step of another loop that is being made right now.
    world = World.resumed(store, "other")
    saved = world.saved()
    made = store.write(saved.state, parents=(saved.commit,), message="x", author=ADA, committer=ADA)
    loops.erase("ops", by=ADA)
    assert {made.id, strange} | others <= objects(folder)
    assert orphan not in objects(folder)
    assert MARK.encode() not in everything(folder)


def _file(folder: Path, value: object) -> str:
    (folder.parent / "value").write_bytes(msgspec.json.encode(value))
    return str(folder.parent / "value")


def test_a_step_that_would_build_on_what_is_gone_is_made_again(folder: Path, loops: Loops) -> None:
    loops.erase("ops", by=ADA)
    loops.erase("other", by=ADA)
    first, second = (World(GitStore.open(folder), ["look"], name) for name in ("ops", "other"))
    first.settle()
    saved = second.settle()
    said = Told(at=EPOCH, message=User(content="The same words."), by=ADA)
    first.commit(first.saved(), said)

    class Interrupted(GitStore):
        """Erases the other loop just before its own step is made public."""

        def move(self, loop: LoopName, old: CommitId | None, new: CommitId) -> None:
            if "ops" in self.heads():
                loops.erase("ops", by=ADA)
            super().move(loop, old, new)

    writer = World.resumed(Interrupted.open(folder), "other")
    with pytest.raises(Moved, match="was erased"):
        writer.history.append(saved, said, ADA)
    done = World.resumed(Interrupted.open(folder), "other").commit(saved, said)
    assert is_whole(folder)
    assert loops.show("other").commit == done.commit
    with pytest.raises(Moved), Loops(_Forking.open(folder)) as forking:
        forking.fork("other~1", "late")


class _Forking(GitStore):
    """Erases the loop that is forked just before the fork is made."""

    def move(self, loop: LoopName, old: CommitId | None, new: CommitId) -> None:
        with Loops.open(self.location) as other:
            other.erase("other", by=ADA)
        super().move(loop, old, new)


def test_what_no_branch_led_to_is_forked_only_if_an_erasure_has_left_all_of_it(folder: Path) -> None:
    with closing(GitStore.open(folder)) as store:
        head = store.head(OPS)
        assert head is not None
        told = next(one for one in store.read(head).state.messages if MARK in str(one))
        other = store.read(store.resolve("other"))
        alone = replace(other.state, children={})
        same = replace(alone, messages=(*alone.messages, told))
        drafts = [
            store.write(state, parents=(other.id,), message="A draft.", author=ADA, committer=ADA).id
            for state in (same, alone)
        ]
    with Loops.open(folder) as loops:
        loops.fork(drafts[0], "first")
        assert is_whole(folder)
        git(folder, "update-ref", "-d", "refs/heads/loops/first")
    with Loops.open(folder) as loops:
        loops.erase("ops", by=ADA)
        with pytest.raises(Torn):
            loops.fork(drafts[0], "second")
        loops.fork(drafts[1], "third")
    assert is_whole(folder)


def test_what_a_store_holds_open_of_an_erased_loop_is_not_built_upon(folder: Path) -> None:
    repacked(folder, "-a")
    with closing(GitStore.open(folder)) as store:
        gone, other = store.head(OPS), store.head(OTHER)
        assert gone is not None
        assert other is not None
        store.read(other)  # which is in the same pack
        with Loops.open(folder) as loops:
            loops.erase("ops", by=ADA)
        with pytest.raises(Torn):
            History(store).branch(loop_name("late"), gone)
    assert is_whole(folder)


# Git at work meanwhile ------------------------------------------------------------------------------------------------


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project of somebody's, in which git may repack: what is to be erased is in two packs."""
    git(tmp_path, "init", "--quiet", "project")
    folder = tmp_path / "project" / ".git"
    world = worked(folder, "ops", MARK)
    git(folder, "repack", "-dq")
    world.loops.tell("ops", f"{MARK} again", by=ADA)
    worked(folder, "other", "PLUGH")
    git(folder, "repack", "-dq")
    return folder


def before_call(
    monkeypatch: pytest.MonkeyPatch, name: str, wanted: Callable[[Path], bool], meanwhile: Callable[[], object]
) -> None:
    """Let something happen right before a call to the disk, once."""
    call = getattr(_disk, name)

    def called(path: Path, *more: Path) -> None:
        if wanted(more[-1] if more else path):
            monkeypatch.setattr(_disk, name, call)
            meanwhile()
        call(path, *more)

    monkeypatch.setattr(_disk, name, called)


def in_packs(suffix: str) -> Callable[[Path], bool]:
    return lambda path: path.parent.name == "pack" and path.suffix == suffix


MEANWHILE = {
    "before a pack is there": ("rename", ".pack"),
    "before it has its index": ("rename", ".idx"),
    "before the first goes for which it stands": ("unlink", ".pack"),
    "before it is let go of": ("unlink", ".keep"),
}


@pytest.mark.parametrize("when", MEANWHILE)
def test_git_that_repacks_meanwhile_neither_takes_what_stays_nor_keeps_what_goes(
    project: Path, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    others = reachable(project, "--glob=refs/heads/loops/other*")
    name, suffix = MEANWHILE[when]
    ran = list[str]()
    with Loops.open(project) as loops:
        before_call(monkeypatch, name, in_packs(suffix), lambda: ran.append(git(project, "repack", "-adq")))
        loops.erase("ops", by=ADA)
    assert ran
    check_erased(project, others)
    assert {one.stem for one in project.glob("objects/pack/*.idx")} == {
        one.stem for one in project.glob("objects/pack/*.pack")
    }


def test_git_may_remove_a_folder_of_objects_that_got_empty(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    others = reachable(project, "--glob=refs/heads/loops/other*")
    gone = list[Path]()

    def is_empty(path: Path) -> bool:
        return path.parent.name == "objects" and path.is_dir() and not any(path.iterdir())

    def empty_go() -> None:
        gone.extend(filter(is_empty, project.glob("objects/??")))
        for folder in gone:
            folder.rmdir()

    with Loops.open(project) as loops:
        loops.tell("ops", f"{MARK} in files of their own", by=ADA)
        before_call(monkeypatch, "sync", is_empty, empty_go)
        loops.erase("ops", by=ADA)
    assert gone
    check_erased(project, others)


def test_git_may_remove_a_folder_of_objects_while_it_is_looked_at(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    others = reachable(project, "--glob=refs/heads/loops/other*")
    gone = set[Path]()
    for number in range(256):
        (project / "objects" / f"{number:02x}").mkdir(exist_ok=True)

    def goes_before(look: Callable[[object], object]) -> Callable[[object], object]:
        def called(path: object = ".") -> object:
            if isinstance(path, Path) and path.parent == project / "objects" and len(path.name) == 2:
                with suppress(OSError):
                    path.rmdir()
                    gone.add(path)
            return look(path)

        return called

    for name in ("listdir", "scandir"):
        monkeypatch.setattr(os, name, goes_before(getattr(os, name)))
    with Loops.open(project) as loops:
        assert loops.verify().notes == ()
        for folder in gone:
            folder.mkdir()
        loops.erase("ops", by=ADA)
    assert len(gone) > 100
    check_erased(project, others)


@pytest.mark.parametrize("then", ["goes", "rename", "folder"])
def test_what_git_names_otherwise_while_it_is_looked_at_is_looked_at_again(
    project: Path, monkeypatch: pytest.MonkeyPatch, then: str
) -> None:
    others = reachable(project, "--glob=refs/heads/loops/other*")
    log = project / "logs" / "refs" / "heads" / "side" / "of-it"
    log.parent.mkdir()
    log.write_text(f"{'0' * 40} {object_of(project, 'loops/ops')} A <a@x> 0 +0000\t\n")
    opened, renamed = _disk.opened, log.with_name("renamed")

    def called(path: Path | str) -> FileIO:
        if path == log and log.exists():
            log.rename(renamed if then == "rename" else project / "objects" / "gone")
            if then == "folder":  # the branch is deleted, and one made that has the first part of its name
                log.parent.rmdir()
                log.parent.write_text("")
        return opened(path)

    monkeypatch.setattr(_disk, "opened", called)
    with Loops.open(project) as loops:
        if then == "rename":
            with pytest.raises(StillReached, match=r"logs/refs/heads/side/renamed as well"):
                loops.erase("ops", by=ADA)
            renamed.unlink()
        loops.erase("ops", by=ADA)
    assert not log.exists()
    check_erased(project, others)


def test_git_that_fails_over_a_pack_that_another_git_has_taken_away_is_asked_again(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    others = reachable(project, "--glob=refs/heads/loops/other*")
    called, git_itself = set[str](), _plumbing.git

    def fails_first(folder: Path, *words: str, given: bytes = b"") -> bytes:
        if words[0] not in called:
            called.add(words[0])
            raise _plumbing.GitFailed("packfile objects/pack/.tmp-1-pack-x.pack cannot be accessed")
        return git_itself(folder, *words, given=given)

    monkeypatch.setattr("caesura.continuations.store._forgetter.git", fails_first)
    with Loops.open(project) as loops:
        loops.erase("ops", by=ADA)
    assert {"rev-list", "cat-file"} <= called
    check_erased(project, others)


def test_what_git_had_read_before_it_went_goes_from_what_git_makes_of_it(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    others = reachable(project, "--glob=refs/heads/loops/other*")
    listed = list(project.glob("objects/pack/pack-*"))
    git(project, "pack-objects", "--all", "-q", str(tmp_path / "pack"))

    def ends() -> None:
        for made in tmp_path.glob("pack-*"):
            made.rename(project / "objects" / "pack" / made.name)
        for file in listed:
            file.unlink(missing_ok=True)

    with Loops.open(project) as loops:
        before_call(monkeypatch, "unlink", in_packs(".pack"), ends)
        loops.erase("ops", by=ADA)
    check_erased(project, others)


def test_what_git_brings_back_later_goes_once_it_is_erased_again(project: Path, tmp_path: Path) -> None:
    others = reachable(project, "--glob=refs/heads/loops/other*")
    git(project, "pack-objects", "--all", "-q", str(tmp_path / "pack"))
    with Loops.open(project) as loops:
        loops.erase("ops", by=ADA)
        for file in tmp_path.glob("pack-*"):
            file.rename(project / "objects" / "pack" / file.name)
        assert MARK.encode() in everything(project)
        loops.erase("ops", by=ADA)
    check_erased(project, others)


def test_while_git_has_half_a_pack_an_erasure_is_not_done(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    others = reachable(project, "--glob=refs/heads/loops/other*")
    git(project, "pack-objects", "--all", "-q", str(tmp_path / "pack"))
    packs = project / "objects" / "pack"
    made = {file: packs / f".tmp-4711-{file.name}" for file in tmp_path.glob("pack-*")}

    def begins() -> None:
        for file, half in made.items():
            file.rename(half)

    with Loops.open(project) as loops:
        before_call(monkeypatch, "unlink", in_packs(".pack"), begins)
        with pytest.raises(Unclean, match="half an object"):
            loops.erase("ops", by=ADA)
        assert any("'caesura erase ops' finishes it" in note for note in loops.verify().notes)
        for file, half in made.items():
            half.rename(packs / file.name)
        loops.erase("ops", by=ADA)
    check_erased(project, others)


def test_an_erasure_that_the_system_refuses_says_what_could_not_be_done(
    folder: Path, loops: Loops, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, data: bytes, mode: int = 0o666) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    with monkeypatch.context() as patched:
        patched.setattr(_disk, "write", full)
        with pytest.raises(Unavailable, match=f"ops could not be erased: No space left on device: {folder}"):
            loops.erase("ops", by=ADA)
    loops.erase("ops", by=ADA)


# What is in the way --------------------------------------------------------------------------------------------------


def _aside(folder: Path) -> None:
    (folder / "caesura-aside").mkdir()
    (folder / "caesura-aside" / "x").write_text(MARK)


def _kept(folder: Path) -> None:
    (folder / "objects" / "pack" / "pack-x.keep").touch()


UNCLEAN: dict[str, Callable[[Path], object]] = {
    "is damaged": lambda folder: tear(file_of(folder, object_of(folder, "loops/other")), "truncated"),
    "moved aside": _aside,
    "half an object": lambda folder: (folder / "objects" / "tmp_obj_stranger").write_text(MARK),
    "has no index": lambda folder: (folder / "objects" / "pack" / "pack-x.pack").write_text(MARK),
    "not to be touched": _kept,
    "elsewhere": lambda folder: (folder / "objects/info/alternates").write_text("/nowhere\n"),
}


@pytest.mark.parametrize("what", UNCLEAN)
def test_what_may_hold_it_and_cannot_be_told_is_in_the_way(folder: Path, loops: Loops, what: str) -> None:
    UNCLEAN[what](folder)
    before = snapshot(folder)
    for asked in (agreed, shown):
        with pytest.raises(Unclean, match=what):
            loops.erase("ops", by=ADA, agree=asked)
    assert snapshot(folder) == before


def test_a_pack_that_is_none_is_in_the_way_before_anything_is_done(folder: Path, loops: Loops) -> None:
    for suffix in (".pack", ".idx"):
        (folder / "objects" / "pack" / f"pack-x{suffix}").write_text(MARK * 999)
    before = snapshot(folder)
    for asked in (agreed, shown):
        with pytest.raises(Torn, match="pack-x"):
            loops.erase("ops", by=ADA, agree=asked)
    assert snapshot(folder) == before


def test_nothing_is_erased_while_anybody_drives_a_loop(folder: Path, loops: Loops) -> None:
    store = GitStore.open(folder)
    claim: Claim = claim_of(WorkerId("w"), utc_now())
    lease = store.move_lease(OTHER, None, msgspec.json.encode(claim))
    before = snapshot(folder)
    for asked in (agreed, shown):
        with pytest.raises(StillDriven, match="other is being driven"):
            loops.erase("ops", by=ADA, agree=asked)
    assert snapshot(folder) == before
    store.move_lease(OTHER, lease, None)
    store.move_lease(OPS, None, b"of a worker that died")
    loops.erase("ops", by=ADA)
    assert store.lease(OPS) is None


def test_nothing_is_erased_while_upkeep_could_put_it_into_another_file(folder: Path, loops: Loops) -> None:
    with keeping_up(folder):
        before = snapshot(folder)
        with pytest.raises(Locked, match="Upkeep is at work"):
            loops.erase("ops", by=ADA)
        assert snapshot(folder) == before
    loops.erase("ops", by=ADA)


def test_the_folder_that_a_loop_worked_in_goes_too_and_no_other(folder: Path, loops: Loops) -> None:
    for name, said in (("ops", MARK), ("ops.before-1", MARK), ("other", "PLUGH")):
        (folder / "caesura.workspaces" / name / "files").mkdir(parents=True)
        (folder / "caesura.workspaces" / name / "files" / "a.txt").write_text(said)
    others = reachable(folder, "--glob=refs/heads/loops/other*")
    loops.erase("ops", by=ADA)
    check_erased(folder, others)
    assert [one.name for one in (folder / "caesura.workspaces").iterdir()] == ["other"]


def test_a_folder_of_a_loop_that_is_gone_is_in_the_way(folder: Path, loops: Loops) -> None:
    (folder / "caesura.workspaces" / "opsis" / "files").mkdir(parents=True)
    before = snapshot(folder)
    with pytest.raises(Unclean, match="opsis is the folder of a loop that is gone"):
        loops.erase("ops", by=ADA)
    assert snapshot(folder) == before


def test_what_was_cut_off_the_journal_is_in_the_way(folder: Path, loops: Loops) -> None:
    (folder / "caesura.journal").mkdir()
    (folder / "caesura.journal" / "torn-00000001-34").write_text(MARK)
    with pytest.raises(Unclean, match="cut off the journal"):
        loops.erase("ops", by=ADA)


def test_nothing_is_erased_while_steps_are_sealed(folder: Path, loops: Loops) -> None:
    with sealing(folder), pytest.raises(Locked, match="being sealed"):
        loops.erase("ops", by=ADA)
    loops.erase("ops", by=ADA)


def test_a_sealed_store_goes_on_with_its_loops_after_another_was_erased(folder: Path, loops: Loops) -> None:
    with closing(GitStore.open(folder, visibility="sealed")) as store:
        history = History(store)
        saved = history.append(history.load(OTHER), Told(at=EPOCH, message=User(content="One."), by=ADA), ADA)
        loops.erase("ops", by=ADA)
        for word in ("Two.", "Three."):
            saved = history.append(saved, Told(at=EPOCH, message=User(content=word), by=ADA), ADA)
        assert history.load(OTHER).commit == saved.commit
    assert is_whole(folder)


def test_only_a_root_loop_that_was_ever_there_is_erased(folder: Path, loops: Loops) -> None:
    with pytest.raises(Nested, match=r"ops\.team-1 is nested in ops"):
        loops.erase("ops.team-1", by=ADA)
    with pytest.raises(NoSuchLoop):
        loops.erase("nothing", by=ADA)
    with Loops(MemoryStore()) as memory, pytest.raises(Unavailable):
        memory.erase("ops", by=ADA)


# Again ---------------------------------------------------------------------------------------------------------------


def _erase(opened: Loops) -> None:
    opened.erase("ops", by=ADA)


def test_an_erasure_that_is_killed_anywhere_is_finished_by_the_next(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    git(folder, "repack", "-a", "--quiet")
    for file in sorted(folder.glob("objects/[0-9a-f][0-9a-f]/*"))[::2]:
        file.unlink()
    others = reachable(folder, "--glob=refs/heads/loops/other*")
    calls = killed_after(10**6, folder, tmp_path / "whole", _erase, monkeypatch)
    assert calls > 50
    for last in range(0, calls, 3):
        copy = tmp_path / str(last)
        assert killed_after(last, folder, copy, _erase, monkeypatch) <= last
        git(copy, "fsck", "--strict", "--no-dangling", check=False)
        with Loops.open(copy) as opened:
            assert opened.verify("other").faults == ()
            begun = any("caesura.erasing" in note for note in opened.verify().notes)
            assert begun == bool(list(copy.glob("caesura.erasing*")))
            opened.erase("ops", by=ADA)
        check_erased(copy, others)


def test_a_pack_that_did_not_get_its_index_is_not_in_the_way_of_the_next(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    others = reachable(project, "--glob=refs/heads/loops/other*")

    def full() -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    before_call(monkeypatch, "rename", in_packs(".idx"), full)
    with Loops.open(project) as loops:
        with pytest.raises(Unavailable, match="No space left"):
            loops.erase("ops", by=ADA)
        assert len([*project.glob("objects/pack/*.pack")]) > len([*project.glob("objects/pack/*.idx")])
        loops.erase("ops", by=ADA)
    check_erased(project, others)


@pytest.mark.parametrize("last", range(9))
def test_upkeep_that_was_killed_while_it_took_packs_away_is_not_in_the_way(
    project: Path, monkeypatch: pytest.MonkeyPatch, last: int
) -> None:
    others = reachable(project, "--glob=refs/heads/loops/other*")
    left, unlink = last, _disk.unlink

    def killed(path: Path) -> None:
        nonlocal left
        if path.parent.name == "pack":
            left -= 1
            if left < 0:
                raise KeyboardInterrupt
        unlink(path)

    with monkeypatch.context() as patched, closing(GitStore.open(project)) as store, suppress(KeyboardInterrupt):
        patched.setattr(_disk, "unlink", killed)
        store.upkeep().run(thorough=True)
    with Loops.open(project) as loops:
        loops.erase("ops", by=ADA)
        check_erased(project, others)
        for file in project.glob("objects/pack/*"):
            os.utime(file, (0, 0))
    with closing(GitStore.open(project)) as store:
        store.upkeep().run(thorough=True)
    assert sorted(one.suffix for one in project.glob("objects/pack/*")) == [".idx", ".pack"]
    check_erased(project, others)


def test_erasing_again_changes_nothing_and_a_new_loop_may_have_the_name(folder: Path, loops: Loops) -> None:
    loops.erase("ops", "first", by=ADA)
    stone = object_of(folder, "refs/archive/erased/ops")
    done = loops.erase("ops", "again", by=ADA)
    assert done is not None
    assert (done.gone, done.tombstones) == (0, {})
    assert object_of(folder, "refs/archive/erased/ops") == stone
    World(GitStore.open(folder), ["look"], "ops").settle()
    assert loops.info("ops").status == "completed" or loops.info("ops").name == "ops"
    loops.erase("ops", "second", by=ADA)
    assert object_of(folder, "refs/archive/erased/ops^") == stone


def test_what_was_erased_is_not_imported_again(folder: Path, loops: Loops, tmp_path: Path) -> None:
    loops.export_bundle("ops", file=tmp_path / "ops.bundle")
    loops.erase("ops", by=GRACE)
    before = snapshot(folder)
    with pytest.raises(BadBundle, match="was erased here by Grace") as told:
        loops.import_bundle(tmp_path / "ops.bundle")
    assert f"git -C {folder} update-ref -d refs/archive/erased/ops" in told.value.hint
    with pytest.raises(BadBundle, match="was erased here by Grace"):
        loops.import_bundle(tmp_path / "ops.bundle", "under-another-name")
    assert snapshot(folder) == before
