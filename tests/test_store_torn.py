"""Damage: objects and packs that are cut short, changed, gone or too large are named, and never built upon."""

import os
import random
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator
from io import FileIO
from pathlib import Path

import pytest
from msgspec.structs import replace

from caesura.continuations import (
    CommitId,
    GitStore,
    SavedStateError,
    TooLarge,
    Torn,
    User,
)
from caesura.continuations._ids import header, object_id
from caesura.continuations.store import _disk, _packing
from caesura.continuations.store._objects import MAX_OBJECT, Objects, read_loose
from tests.damage import file_of
from tests.repositories import OPS, STATE, X, git, overwrite
from tests.strategies import ADA, NESTED, ROBOT, World


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "caesura"


@pytest.fixture
def store(folder: Path) -> Iterator[GitStore]:
    made = GitStore.open(folder, create=True)
    yield made
    made.close()


def flipped(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


def swapped(data: bytes) -> bytes:
    """Another object, whole, under the same name."""
    content = zlib.decompress(data).partition(b"\x00")[2] + b" "
    return zlib.compress(b"blob %d\x00" % len(content) + content)


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _: b"",
    "one byte": lambda data: data[:1],
    "half": lambda data: data[: len(data) // 2],
    "all but the last byte": lambda data: data[:-1],
    "without its checksum": lambda data: data[:-4],
    "zeros": lambda data: bytes(len(data)),
    "a flipped bit": flipped,
    "another object": swapped,
    "more after it": lambda data: data + b"more",
    "not deflated": zlib.decompress,
    "a size that lies": lambda data: zlib.compress(zlib.decompress(data).replace(b"blob ", b"blob 1", 1)[:-1]),
    "no size": lambda data: zlib.compress(b"blob \x00"),
}


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize(
    "part", ["{tree}", ":continuation.json", ":agent.json", ":messages", ":messages/00/00.json", ""]
)
def test_a_damaged_object_is_named_with_its_file_wherever_it_stands(
    store: GitStore, folder: Path, damage: str, part: str
) -> None:
    commit = store.write(STATE, parents=(), message="m", author=ADA, committer=ROBOT).id
    torn = git(folder, "rev-parse", f"{commit}^{part}" if part == "{tree}" else f"{commit}{part}")
    file = file_of(folder, torn)
    overwrite(file, DAMAGE[damage](file.read_bytes()))
    fresh = GitStore.open(folder)
    with pytest.raises(Torn, match=torn) as refused:
        fresh.read(commit)
    assert str(file) in str(refused.value)
    assert "repair" in refused.value.hint


_SPARING = """
import gc, os, resource, sys
from caesura.continuations import GitStore, Unavailable, loop_name
resource.setrlimit(resource.RLIMIT_NOFILE, (100, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
gc.disable()  # which would let go of an earlier store's files while the next one has none to spare
for spare in range(20):
    store, held = GitStore.open(sys.argv[1]), []
    try:
        while True:
            held.append(os.open(os.devnull, os.O_RDONLY))
    except OSError:
        for file in held[:spare]:
            os.close(file)
    try:
        said = store.read(store.head(loop_name("x"))).message.strip()
    except Unavailable as error:
        said = error.hint
    for file in held[spare:]:
        os.close(file)
    store.close()
    print(said)
"""


@pytest.mark.parametrize("packed", ["files", "packs", "packs and refs"])
def test_what_cannot_be_opened_as_too_many_files_are_open_is_not_called_damaged(
    store: GitStore, folder: Path, packed: str
) -> None:
    for number in range(3):
        head = store.head(X)
        commit = store.write(
            replace(STATE, nonce=f"{number}"),
            parents=() if head is None else (head,),
            message="Said.\n",
            author=ADA,
            committer=ROBOT,
        )
        store.move(X, head, commit.id)
        if packed != "files":
            git(folder, "repack", "-q")
            git(folder, "prune-packed", "-q")
    if packed == "packs and refs":
        git(folder, "pack-refs", "--all")
    told = subprocess.run(
        [sys.executable, "-c", _SPARING, folder], check=True, stdout=subprocess.PIPE, text=True
    ).stdout.splitlines()
    few = "Let the process open more of them: 'ulimit -n' says how many it may."
    at = told.index("Said.")
    assert told == [few] * at + ["Said."] * (20 - at)
    assert 0 < at < 20


def test_a_missing_object_is_named(store: GitStore, folder: Path) -> None:
    commit = store.write(STATE, parents=(), message="m", author=ADA, committer=ROBOT).id
    gone = git(folder, "rev-parse", f"{commit}:messages/00/00.json")
    file_of(folder, gone).unlink()
    with pytest.raises(Torn, match=gone):
        GitStore.open(folder).read(commit)


def test_a_pipe_in_the_place_of_an_object_or_a_branch_is_not_waited_for(store: GitStore, folder: Path) -> None:
    commit = store.write(STATE, parents=(), message="m", author=ADA, committer=ROBOT).id
    store.move(X, None, commit)
    for file in (file_of(folder, commit), folder / "refs/heads/loops/x"):
        file.unlink()
        os.mkfifo(file)
    with pytest.raises(Torn):
        GitStore.open(folder).read(commit)
    assert GitStore.open(folder).head(X) is None


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_writer_never_builds_on_a_damaged_object_but_writes_it_again(
    store: GitStore, folder: Path, damage: str
) -> None:
    commit = store.write(STATE, parents=(), message="m", author=ADA, committer=ROBOT).id
    for line in git(folder, "rev-list", "--objects", commit).split("\n"):
        file = file_of(folder, line.split()[0])
        overwrite(file, DAMAGE[damage](file.read_bytes()))
    fresh = GitStore.open(folder)
    assert fresh.write(STATE, parents=(), message="m", author=ADA, committer=ROBOT).id == commit
    assert GitStore.open(folder).read(commit).state == STATE
    assert git(folder, "fsck", "--strict", "--no-dangling") == ""


def test_another_copy_of_a_damaged_object_is_found_in_a_pack(store: GitStore, folder: Path) -> None:
    commit = store.write(STATE, parents=(), message="m", author=ADA, committer=ROBOT).id
    store.move(X, None, commit)
    git(folder, "repack", "-a", "--quiet")  # the loose ones stay
    for file in (folder / "objects").glob("??/*"):
        overwrite(file, b"")
    assert GitStore.open(folder).read(commit).state == STATE


# Packs -------------------------------------------------------------------------------------------------------------


def packed(store: GitStore, folder: Path) -> tuple[CommitId, Path]:
    """A tree of loops in one pack with deltas, and that pack."""
    commit = World(store, NESTED).settle().commit
    git(folder, "config", "--unset", "extensions.preciousObjects")  # or git would not
    git(folder, "repack", "-adf", "--depth=50", "--window=50", "--quiet")
    (pack,) = (folder / "objects/pack").glob("*.pack")
    return commit, pack


def test_what_git_packs_is_read_as_it_was_written(store: GitStore, folder: Path) -> None:
    commit, pack = packed(store, folder)
    assert not list((folder / "objects").glob("??/*"))
    kinds = git(folder, "verify-pack", "-v", str(pack)).split("\n")
    assert sum(len(line.split()) == 7 for line in kinds) > 10, "there are no deltas"
    objects = Objects(folder / "objects")
    names = list(objects.all())
    assert names == sorted(git(folder, "cat-file", "--batch-all-objects", "--batch-check=%(objectname)").split("\n"))
    for name in names:
        kind, data = objects.read(name)
        assert object_id(kind, data) == name
        assert git(folder, "cat-file", "-t", name) == kind
    assert GitStore.open(folder).read(commit) == store.read(commit)


@pytest.mark.parametrize("again", [1, 2, 5])
def test_what_git_repacks_over_and_over_while_it_is_sought_is_found(
    store: GitStore, folder: Path, monkeypatch: pytest.MonkeyPatch, again: int
) -> None:
    """Each time that the packs have been listed and one is about to be opened, git puts another in its place."""
    commit, _ = packed(store, folder)
    opened, left = _disk.opened, iter(range(again))

    def late(path: Path) -> FileIO:
        if path.suffix == ".idx" and next(left, None) is not None:
            git(folder, "update-ref", "refs/tags/more", git(folder, "hash-object", "-w", str(path)))
            git(folder, "repack", "-ad", "--quiet")
            assert not path.exists()
        return opened(path)

    monkeypatch.setattr(_disk, "opened", late)
    assert Objects(folder / "objects").get(commit, "commit")
    assert next(left, None) is None, "git was never in between"


def test_a_step_whose_files_git_takes_away_as_they_are_in_a_pack_too_is_written_again(
    store: GitStore, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync, left = _disk.sync, iter([None])

    def late(path: Path) -> None:
        if len(path.name) == 2 and path.parent == folder / "objects" and next(left, path) is None:
            names = "\n".join(file.parent.name + file.name for file in (folder / "objects").glob("??/*"))
            pack = ["git", "pack-objects", "--quiet", str(folder / "objects/pack/pack")]
            subprocess.run(pack, cwd=folder, input=names.encode(), capture_output=True, check=True)
            git(folder, "prune-packed")
            assert not path.exists()
        sync(path)

    monkeypatch.setattr(_disk, "sync", late)
    commit = store.write(STATE, parents=(), message="m", author=ADA, committer=ROBOT)
    assert next(left, None) is None, "git was never in between"
    assert GitStore.open(folder).read(commit.id) == commit


def test_a_pack_that_names_the_bases_of_its_deltas_is_read(store: GitStore, folder: Path) -> None:
    commit = World(store, NESTED).settle().commit
    state = store.read(commit).state
    names = git(folder, "rev-list", "--objects", "--all", "--no-object-names")
    pack = folder / "objects/pack/pack-x.pack"
    pack.write_bytes(
        subprocess.run(
            ["git", "pack-objects", "--stdout", "--no-reuse-delta", "--quiet"],
            cwd=folder,
            input=names.encode(),
            capture_output=True,
            check=True,
        ).stdout
    )
    git(folder, "index-pack", str(pack))
    git(folder, "prune-packed")
    assert not list((folder / "objects").glob("??/*"))
    assert GitStore.open(folder).read(commit).state == state


@pytest.mark.parametrize("suffix", [".pack", ".idx"])
@pytest.mark.parametrize("seed", range(12))
def test_a_damaged_pack_is_an_error_and_never_a_wrong_answer(
    store: GitStore, folder: Path, suffix: str, seed: int
) -> None:
    commit, pack = packed(store, folder)
    state = store.read(commit).state
    chance = random.Random(seed)  # noqa: S311 - to be the same in each run
    file = pack.with_suffix(suffix)
    data = bytearray(file.read_bytes())
    if seed % 3 == 0:
        data = data[: chance.choice([0, 1, 11, len(data) // 2, len(data) - 1])]
    else:
        for _ in range(1 if seed % 3 == 1 else 200):
            data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    overwrite(file, bytes(data))
    fresh, said = GitStore.open(folder), list[str]()
    for _ in range(2):
        try:
            read = fresh.read(commit).state
        except SavedStateError as refused:
            said.append(str(refused))
        else:
            assert read == state
    assert all(str(folder) in one for one in said)


def test_an_index_that_confuses_its_objects_is_found_out(store: GitStore, folder: Path) -> None:
    commit, pack = packed(store, folder)
    index = pack.with_suffix(".idx")
    data = index.read_bytes()
    start, count = 8 + 256 * 4, int.from_bytes(data[1028:1032], "big")
    at, end = start + count * 24, start + count * 28
    offsets = [data[one : one + 4] for one in range(at, end, 4)]
    overwrite(index, data[:at] + b"".join([*offsets[1:], offsets[0]]) + data[end:])
    with pytest.raises(Torn, match="its content is another's"):
        GitStore.open(folder).read(commit)


def test_a_pack_whose_messages_are_each_whole_and_swapped_is_found_out(store: GitStore, folder: Path) -> None:
    state = replace(STATE, messages=tuple(User(content=f"{number}") for number in range(9)))
    commit = store.write(state, parents=(), message="m", author=ADA, committer=ROBOT).id
    objects = Objects(folder / "objects")
    things = {name: objects.read(name) for name in objects.all()}
    objects.close()
    third, fourth = (git(folder, "rev-parse", f"{commit}:messages/00/0{number}.json") for number in (3, 4))
    swapped = things | {third: things[fourth], fourth: things[third]}
    entries = [(bytes.fromhex(name), _packing.packed(*thing)) for name, thing in sorted(swapped.items())]
    _packing.write_pack(folder / "objects", len(entries), entries)
    kept = {name: file_of(folder, name).read_bytes() for name in (third, fourth)}
    for name in things:
        file_of(folder, name).unlink()
    fresh = GitStore.open(folder)
    with pytest.raises(Torn, match=f"{third}.*its content is another's"):
        fresh.read(commit)
    for name, data in kept.items():
        file_of(folder, name).write_bytes(data)
    assert fresh.read(commit).state == state
    fresh.close()


def test_a_delta_of_itself_or_of_what_is_not_there_is_an_error(folder: Path, store: GitStore) -> None:
    commit, pack = packed(store, folder)
    del store
    data = bytearray(pack.read_bytes())
    hits = 0
    for at in range(12, len(data) - 20):
        if data[at] >> 4 & 7 in (6, 7):
            for value in (0, 1, 0x7F, 0xFF):
                changed = data[: at + 1] + bytes([value]) + data[at + 2 :]
                overwrite(pack, bytes(changed))
                try:
                    GitStore.open(folder).read(commit)
                except SavedStateError:
                    hits += 1
            if hits > 30:
                return
    raise AssertionError("no delta was hit")


def test_objects_are_found_in_alternates_and_in_those_of_alternates(
    store: GitStore, folder: Path, tmp_path: Path
) -> None:
    commit = World(store, NESTED).settle().commit
    second, third = tmp_path / "second", tmp_path / "third"
    git(tmp_path, "clone", "--quiet", "--bare", "--shared", str(folder), str(second))
    git(tmp_path, "clone", "--quiet", "--bare", "--shared", str(second), str(third))
    assert not list((third / "objects").glob("??/*"))
    assert GitStore.open(third).read(commit).state == store.read(commit).state
    (folder / "objects/info/alternates").write_text(f"{third}/objects\n{folder}/objects\n")
    assert GitStore.open(third).read(commit).state == store.read(commit).state


def test_a_linked_worktree_shares_the_loops_of_its_repository(tmp_path: Path) -> None:
    main, linked = tmp_path / "main", tmp_path / "linked"
    git(tmp_path, "init", "--quiet", str(main))
    git(main, "commit", "--quiet", "--allow-empty", "--message", "The project")
    git(main, "worktree", "add", "--quiet", str(linked))
    there, here = GitStore.open(linked), GitStore.open(main)
    ended = World(there, NESTED).end(lambda _: "approve")
    assert here.head(OPS) == ended.commit
    assert here.read(ended.commit).state == ended.state
    assert git(main, "fsck", "--strict", "--no-dangling") == ""


# Bounds ------------------------------------------------------------------------------------------------------------


def zeros(size: int) -> bytes:
    """The file of a blob of zeros: a thousandth of its size."""
    engine = zlib.compressobj(1)
    first = engine.compress(header("blob", size)) + engine.flush(zlib.Z_FULL_FLUSH)
    block = engine.compress(bytes(2**20)) + engine.flush(zlib.Z_FULL_FLUSH)
    return first + block * (size // 2**20)


def test_a_blob_of_a_gigabyte_is_refused_before_it_is_inflated(store: GitStore, folder: Path) -> None:
    del store
    name = "ab" * 20
    file = file_of(folder, name)
    file.parent.mkdir()
    file.write_bytes(zeros(2**30))
    assert file.stat().st_size < 10 * 2**20
    with pytest.raises(TooLarge, match="1,073,741,824 bytes"):
        read_loose(file, name)


def test_a_packed_blob_beyond_the_limit_is_refused_before_it_is_inflated(store: GitStore, folder: Path) -> None:
    del store
    name = git(folder, "-c", "core.compression=1", "hash-object", "-w", "--stdin", data=bytes(MAX_OBJECT + 1))
    git(folder, "update-ref", "refs/keep", name)
    git(folder, "config", "--unset", "extensions.preciousObjects")  # or git would not
    git(folder, "repack", "-adq", "--window=0")
    assert not file_of(folder, name).exists()
    with pytest.raises(TooLarge, match=f"{MAX_OBJECT + 1:,} bytes"):
        Objects(folder / "objects").read(name)


def test_what_is_larger_than_can_be_read_is_not_written(store: GitStore, folder: Path) -> None:
    from msgspec.structs import replace

    with pytest.raises(TooLarge):
        store.write(
            replace(STATE, messages=(User(content="x" * MAX_OBJECT),)),
            parents=(),
            message="m",
            author=ADA,
            committer=ROBOT,
        )
    assert not list((folder / "objects").glob("??/*"))
