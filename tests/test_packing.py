"""Packs that are written by our own code are packs to git, and to our own reader."""

import errno
import hashlib
import os
import struct
import subprocess
import tracemalloc
import zlib
from contextlib import closing, nullcontext
from itertools import chain
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from caesura.continuations._ids import object_id
from caesura.continuations.store import _disk, _packing
from caesura.continuations.store._delta import DEPTH, Deltas
from caesura.continuations.store._errors import Torn
from caesura.continuations.store._format import FILE, NUMBERS, Entry, Kind, tree_bytes
from caesura.continuations.store._frames import frame_bytes
from caesura.continuations.store._objects import Batch, Objects
from caesura.continuations.store._packing import head, index_of, keeper, packed, write_pack
from caesura.continuations.store._packs import Pack, Packs
from caesura.continuations.store._sealing import contents
from caesura.continuations.store._versions import shortened
from tests.repositories import git

Things = list[tuple[Kind, bytes]]


@pytest.fixture
def objects(tmp_path: Path) -> Path:
    """The objects of a new repository."""
    subprocess.run(["git", "init", "--quiet", "--bare", tmp_path / "r.git"], check=True)
    return tmp_path / "r.git" / "objects"


def entries(things: Things) -> dict[bytes, bytes]:
    """Objects as they stand in a pack, by id."""
    return {bytes.fromhex(object_id(kind, data)): packed(kind, data) for kind, data in things}


def newest_first(things: Things) -> list[tuple[bytes, tuple[Kind, bytes]]]:
    """Objects as they are sealed."""
    named = {bytes.fromhex(object_id(*thing)): thing for thing in things}
    return list(reversed(named.items()))


def story(*texts: bytes) -> Things:
    """Commits, one after the other, each of a folder with one file more."""
    things: Things = []
    parent, files = "", list[Entry]()
    for number, text in enumerate(texts):
        things.append(("blob", text))
        files.append(Entry(FILE, f"{number:04}", object_id("blob", text)))
        things.append(("tree", tree_bytes(files)))
        who = f"A <a@example.com> {number} +0000"
        before = f"parent {parent}\n" if parent else ""
        commit = f"tree {object_id(*things[-1])}\n{before}author {who}\ncommitter {who}\n\n{number}\n".encode()
        things.append(("commit", commit))
        parent = object_id("commit", commit)
    return things


def check(pack: Path, things: Things) -> None:
    """Git finds no fault with a pack, and it and we read from it what was put in."""
    objects = pack.parent.parent
    git(objects.parent, "index-pack", "--strict", "-o", str(objects / "again.idx"), str(pack))
    assert (objects / "again.idx").read_bytes() == pack.with_suffix(".idx").read_bytes()
    git(objects.parent, "verify-pack", str(pack))
    git(objects.parent, "fsck", "--strict", "--full", "--no-dangling")
    ours = Objects(objects)
    for kind, data in things:
        assert ours.read(object_id(kind, data)) == (kind, data)
    ours.close()
    names = git(objects.parent, "cat-file", "--batch-all-objects", "--batch-check=%(objectname) %(objecttype)")
    assert dict(line.split() for line in names.splitlines()) == {object_id(*one): one[0] for one in things}


def test_a_pack_is_what_git_would_make_of_the_same_objects(objects: Path) -> None:
    things = story(
        *(b"%d " % number * (number * 7) for number in range(300)), *map(os.urandom, (1, 1000, 2**16, 2**20))
    )
    made = entries(things)
    check(write_pack(objects, len(made), made.items()), things)


@pytest.mark.parametrize("level", [0, 1, 9])
def test_a_pack_is_read_however_hard_others_have_tried_to_make_it_small(objects: Path, level: int) -> None:
    things = story(*(b"%d " % number * (number * 7) for number in range(300)))
    made = {
        bytes.fromhex(object_id(kind, data)): head(NUMBERS[kind], len(data)) + zlib.compress(data, level)
        for kind, data in things
    }
    check(write_pack(objects, len(made), made.items()), things)


@given(st.lists(st.binary(max_size=3000), max_size=20), st.sampled_from([1, 20, 2**20]))
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_objects_make_a_pack_however_many_are_written_at_a_time(
    objects: Path, texts: list[bytes], chunk: int
) -> None:
    for old in (objects / "pack").iterdir():
        old.unlink()
    things: Things = [("blob", text) for text in texts]
    made = entries(things)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_packing, "_CHUNK", chunk)
        check(write_pack(objects, len(made), made.items()), things)


def test_a_pack_may_hold_deltas_of_what_else_is_in_it(objects: Path) -> None:
    base, longer = b"b" * 50, b"b" * 50 + b"more"
    delta = bytes([50, 54, 0x90, 50, 4]) + b"more"  # copy the first 50 bytes, insert 4
    made = entries([("blob", base)])
    entry = head(7, len(delta)) + bytes.fromhex(object_id("blob", base)) + zlib.compress(delta)
    made = {bytes.fromhex(object_id("blob", longer)): entry, **made}
    check(write_pack(objects, 2, made.items()), [("blob", base), ("blob", longer)])


@pytest.mark.parametrize("between", [0, 1, 127, 128, 16_500, 2_200_000])
def test_a_delta_tells_how_far_before_it_its_base_stands(objects: Path, between: int) -> None:
    base, others = b"b" * 50, [os.urandom(between)] if between else []
    longer = base + b"more"
    delta = bytes([50, 54, 0x90, 50, 4]) + b"more"
    made = entries([("blob", data) for data in (base, *others)])
    made[bytes.fromhex(object_id("blob", longer))] = (
        head(7, len(delta)) + bytes.fromhex(object_id("blob", base)) + zlib.compress(delta)
    )
    pack = write_pack(objects, len(made), made.items())
    assert bytes.fromhex(object_id("blob", base)) not in pack.read_bytes()
    check(pack, [("blob", data) for data in (base, longer, *others)])


def test_the_same_objects_make_the_same_pack_and_one_that_is_there_is_replaced(objects: Path) -> None:
    things = story(b"one", b"two")
    made = entries(things)
    first = write_pack(objects, len(made), made.items())
    os.truncate(first, 40)
    assert write_pack(objects, len(made), made.items()) == first
    check(first, things)
    assert len(list(first.parent.iterdir())) == 2


def test_a_pack_that_is_kept_is_not_repacked_until_its_keeper_goes(objects: Path) -> None:
    things = story(b"one", b"two")
    made = entries(things)
    pack = write_pack(objects, len(made), made.items(), keep=nullcontext())
    git(objects.parent, "repack", "-ad", "--quiet")
    git(objects.parent, "gc", "--prune=now", "--quiet")
    check(pack, things)
    write_pack(objects, len(made), made.items(), keep=nullcontext())
    keeper(pack).unlink()
    git(objects.parent, "repack", "-ad", "--quiet")
    assert not pack.exists()  # no branch needs any of it


@pytest.mark.parametrize("count", [0, 2, 4, 100])
def test_another_number_of_objects_than_was_said_is_refused(objects: Path, count: int) -> None:
    made = entries(story(b"one"))
    with pytest.raises(ValueError, match="given"):
        write_pack(objects, count, made.items())
    with pytest.raises(ValueError, match="twice"):
        write_pack(objects, 6, [*made.items(), *made.items()])
    assert [file for file in objects.rglob("*") if file.is_file()] == []


def test_a_full_disk_leaves_nothing_of_a_pack(objects: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    made = entries(story(b"one"))
    for name in ("grow", "write", "sync", "rename"):
        with monkeypatch.context() as patch:
            patch.setattr(_disk, name, full)
            with pytest.raises(OSError, match="space"):
                write_pack(objects, len(made), made.items())
        assert [file for file in objects.rglob("*") if file.is_file()] == []


def test_places_beyond_two_gigabytes_are_told_as_git_tells_them() -> None:
    places = {bytes([number]) * 20: number * 2**29 for number in reversed(range(12))}
    index = index_of(places, reversed(range(12)), b"t" * 20)
    assert hashlib.sha1(index[:-20], usedforsecurity=False).digest() == index[-20:]
    shown = subprocess.run(["git", "show-index"], input=index, capture_output=True, check=True).stdout.split(b"\n")
    assert shown[:-1] == [b"%d %s (%08x)" % (at, name.hex().encode(), name[0]) for name, at in sorted(places.items())]
    assert struct.unpack(">I", index[1028:1032]) == (12,)


# Many blobs --------------------------------------------------------------------------------------------------------

standing = st.lists(
    st.tuples(
        st.integers(0, 80),
        st.sampled_from(["alike", "random", "large"]),
        st.sampled_from(["one pack", "another", "a file", "a delta", "stored"]),
    ),
    max_size=60,
)
"""How often what each holds is repeated, what that is, and where it stands."""


@given(standing)
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
def test_many_blobs_are_read_in_their_order_wherever_each_of_them_stands(
    tmp_path_factory: pytest.TempPathFactory, drawn: list[tuple[int, str, str]]
) -> None:
    objects = tmp_path_factory.mktemp("standing") / "objects"
    objects.mkdir()
    base = b"b" * 50
    packs: list[dict[bytes, bytes]] = [entries([("blob", base)]), {}]
    texts, alone = list[bytes](), Batch()
    for number, (times, what, where) in enumerate(drawn):
        text = b"%d " % number + {"alike": b"abc\n" * 10, "random": os.urandom(40), "large": b"x" * 1000}[what] * times
        name = bytes.fromhex(object_id("blob", text))
        match where:
            case "a file":
                alone.add("blob", text)
            case "a delta":
                text = base + b"%d" % number
                name, told = bytes.fromhex(object_id("blob", text)), text[50:]
                delta = bytes([50, len(text), 0x90, 50, len(told)]) + told
                packs[0][name] = head(7, len(delta)) + bytes.fromhex(object_id("blob", base)) + zlib.compress(delta)
            case "stored":
                packs[0][name] = head(NUMBERS["blob"], len(text)) + zlib.compress(text, 0)
            case _:
                packs[where == "another"][name] = packed("blob", text)
        texts.append(text)
    for pack in filter(None, packs):
        write_pack(objects, len(pack), pack.items())
    with closing(Objects(objects)) as ours:
        ours.write(alone)
        ours.read(object_id("blob", base))
        read = ours.blobs([bytes.fromhex(object_id("blob", text)) for text in texts])
        assert list(chain.from_iterable(read)) == texts


def test_of_many_large_blobs_no_more_than_one_at_a_time_is_held(objects: Path) -> None:
    texts = [b"%d" % number * 2**21 for number in range(10)]
    made = entries([("blob", text) for text in texts])
    write_pack(objects, len(made), made.items())
    with closing(Objects(objects)) as ours:
        ours.read(next(iter(made)).hex())
        tracemalloc.start()
        assert all(len(text) == 2**21 for (text,) in ours.blobs(list(made)))
        held = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert held < 5 * 2**21  # one as it is read, and the one before it


@pytest.mark.parametrize("fault", ["changed", "another's", "cut short", "missing", "no blob"])
@pytest.mark.parametrize("place", [0, 7, 31, 32, 69])
def test_of_many_blobs_those_before_one_that_is_damaged_are_read_and_it_is_told_as_alone(
    objects: Path, place: int, fault: str
) -> None:
    texts = [b"%d " % number * 100 for number in range(70)]
    names = [bytes.fromhex(object_id("blob", text)) for text in texts]
    made = entries([("blob", text) for text in texts])
    match fault:
        case "changed":
            made[names[place]] = made[names[place]][:6] + b"\xff" + made[names[place]][7:]
        case "another's":
            made[names[place]] = packed("blob", b"another's")
        case "cut short":
            made[names[place]] = made[names[place]][:-1]
        case "missing":
            del made[names[place]]
        case _:
            made[names[place]] = packed("tree", texts[place])
    write_pack(objects, len(made), made.items())
    with closing(Objects(objects)) as ours:
        ours.read(names[1 if place == 0 else 0].hex())
        read = chain.from_iterable(ours.blobs(names))
        assert [next(read) for _ in range(place)] == texts[:place]
        with pytest.raises(Torn) as alone:
            ours.get(names[place].hex(), "blob")
        with pytest.raises(Torn) as told:
            next(read)
        assert str(told.value) == str(alone.value)


# Versions ----------------------------------------------------------------------------------------------------------

growing = st.lists(
    st.tuples(st.integers(0, 3), st.sampled_from(["adds", "changes the last", "changes another", "begins anew"])),
    max_size=120,
)
"""Which of four folders changes, and how."""


def versions(changes: list[tuple[int, str]]) -> Things:
    """The versions of four folders, and of a record that tells of each change."""
    folders = [[Entry(FILE, "00", object_id("blob", b"%d" % folder))] for folder in range(4)]
    things: Things = []
    for number, (which, how) in enumerate(changes):
        folder, blob = folders[which], object_id("blob", b"new %d" % number)
        match how:
            case "adds":
                folder.append(Entry(FILE, f"{len(folder):02}", blob))
            case "changes the last":
                folder[-1] = replace(folder[-1], id=blob)
            case "changes another":
                folder[len(folder) // 2] = replace(folder[len(folder) // 2], id=blob)
            case _:
                del folder[1:]
        whose = f'"format": 3,\n  "agent": "a",\n  "fingerprint": "f",\n  "nonce": "{which}"'
        record = f'{{\n  {whose},\n  "at": {number}\n}}\n'.encode()
        message = b'{\n  "role": "user"\n}\n' * number
        who = f"A <a@example.com> {number} +0000"
        said = f"Step {number}.\n\nLoop: loop-{which}\nStatus: active"
        commit = f"tree {object_id('tree', tree_bytes(folder))}\nauthor {who}\ncommitter {who}\n\n{said}\n".encode()
        new: Things = [("tree", tree_bytes(folder)), ("blob", record), ("blob", message), ("commit", commit)]
        things += new
    return list(dict.fromkeys(things))


@given(growing)
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)
def test_versions_that_are_told_as_deltas_are_what_they_were(
    tmp_path_factory: pytest.TempPathFactory, changes: list[tuple[int, str]]
) -> None:
    things = versions(changes)
    if not things:
        return
    objects = tmp_path_factory.mktemp("versions") / "objects"
    objects.mkdir()
    pack = write_pack(objects, len(things), shortened(newest_first(things)))
    ours = Pack(pack.with_suffix(".idx"))
    for kind, data in things:
        assert ours.read(bytes.fromhex(object_id(kind, data)), 10**6) == (kind, data)
    ours.close()


def test_of_versions_the_newest_stands_whole_and_each_other_is_near_one_that_does(objects: Path) -> None:
    things = versions([(0, "adds")] * 200)
    told = list(shortened(newest_first(things)))
    pack = write_pack(objects, len(told), told)
    lines = [line.split() for line in git(objects.parent, "verify-pack", "-v", str(pack)).splitlines()]
    depths = {line[0]: int(line[5]) for line in lines if len(line) == 7}
    folders = [object_id(kind, data) for kind, data in things if kind == "tree"]
    commits = [object_id(kind, data) for kind, data in things if kind == "commit"]
    assert len(depths) > len(folders) + len(commits) * 0.9  # records too
    assert max(depths.values()) == DEPTH
    assert not depths.keys() & {object_id(*thing) for thing in things[-4:]}
    sizes = {line[0]: int(line[3]) for line in lines if len(line) >= 5 and line[1] == "tree"}
    assert sum(sizes[name] < 50 for name in folders) > 150  # of up to 5,000 bytes


def test_what_is_kept_for_deltas_has_one_bound_for_all_packs(objects: Path) -> None:
    for number in range(12):
        base = b"%02d " % number * 300_000
        names = [bytes.fromhex(object_id("blob", data)) for data in (base, base + b"more")]
        told = Deltas().entry(names[0], base, base + b"more")
        assert told is not None
        write_pack(objects, 2, [(names[0], packed("blob", base)), (names[1], told)])
    with closing(Packs(objects)) as packs:
        packs.refresh()
        tracemalloc.start()
        for pack in packs:
            assert all(pack.read(bytes.fromhex(name), 10**6) for name in pack.ids())
        held = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
    assert held < 5 * 2**20  # of 21 MB that they have together


# Sealed -----------------------------------------------------------------------------------------------------------


@given(st.lists(st.integers(0, 5), min_size=1, max_size=20), st.integers(1, 12))
@settings(deadline=None)
def test_what_is_sealed_is_what_was_written_wherever_a_stretch_begins_and_whatever_has_no_bytes(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], stretch: int
) -> None:
    """Two objects begin at one place, if the first of them has no bytes."""
    objects: dict[str, tuple[Kind, bytes]] = {
        f"{number:040}": ("blob", bytes([number]) * size) for number, size in enumerate(sizes)
    }
    data, frame = frame_bytes(objects, [], durable=False, at=0, chain=0)
    file = tmp_path_factory.mktemp("segment") / "1"
    file.write_bytes(data)
    with _disk.opened(file) as opened:
        found = dict(contents(opened, frame.objects, lambda: stretch))
    assert found == {bytes.fromhex(name): content for name, content in objects.items()}
