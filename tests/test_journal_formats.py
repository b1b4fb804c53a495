"""Journals of other versions: an earlier one's steps are not lost, a later one is refused by name.

``histories/journal-1.tar.gz`` is what a process left that was killed before it sealed its last three steps; it is never
edited. A bundle cannot hold it, as git does not see these steps.
"""

import struct
import tarfile
import tracemalloc
import zlib
from functools import partial
from pathlib import Path

import pytest

from caesura.continuations import CommitId, GitStore, History, NewerFormat, Told, Unreadable, User
from tests.repositories import OPS, X, git
from tests.strategies import ADA, EPOCH, ROBOT

HEAD = CommitId("c64fe9d4bae12f27daf026c1bb19c6e78df081e4")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "earlier.git"
    with tarfile.open(Path(__file__).parent / "histories" / "journal-1.tar.gz") as archive:
        archive.extractall(folder, filter="data")
    return folder


def test_steps_that_an_earlier_version_has_not_sealed_are_read_gone_on_with_and_sealed(folder: Path) -> None:
    store = GitStore.open(folder, visibility="sealed")
    history = History(store)
    saved = history.load(X)
    assert saved.commit == HEAD
    assert [told.content for told in saved.state.told] == ["short", "long " * 20_000, "last"]
    now = history.append(saved, Told(at=EPOCH, message=User(content="And on."), by=ADA), ROBOT)
    other = GitStore.open(folder)
    assert other.read(now.commit).state == now.state
    assert other.head(X) == now.commit
    other.close()
    assert git(folder, "rev-parse", f"loops/{X}").strip() not in (HEAD, now.commit)  # git sees none of it yet
    store.close()
    assert git(folder, "rev-parse", f"loops/{X}", f"loops/{X}~1").split() == [now.commit, HEAD]
    git(folder, "fsck", "--strict", "--full")
    assert not list((folder / "caesura.journal").glob("torn-*"))


def test_the_journal_of_a_later_version_is_refused_by_name_and_left_as_it_is(folder: Path) -> None:
    (segment,) = (folder / "caesura.journal").glob("0*")
    later = segment.read_bytes().replace(b"caesura journal 1\n", b"caesura journal 10")
    segment.write_bytes(later)
    store = GitStore.open(folder, visibility="sealed")
    with pytest.raises(NewerFormat, match="journal is in format 10; this Caesura reads up to format 2"):
        store.head(X)
    with pytest.raises(NewerFormat):
        store.move(OPS, None, HEAD)
    with pytest.raises(NewerFormat):
        store.seal()
    store.close()
    assert segment.read_bytes() == later


@pytest.mark.parametrize("megabytes", [0, 512])
def test_what_is_no_object_in_the_journal_of_an_earlier_version_is_an_error_and_stays(
    tmp_path: Path, megabytes: int
) -> None:
    engine = zlib.compressobj(1)
    bomb = b"".join(engine.compress(bytes(2**20)) for _ in range(megabytes)) + engine.flush()
    folder, name, ref = tmp_path / "r.git", b"\x11" * 20, b"refs/heads/loops/x"
    store = GitStore.open(folder, create=True, visibility="sealed")
    (folder / "caesura.journal").mkdir()
    head, entry = b"caesura journal 1\n" + bytes(16), b"\x30" + (bomb if megabytes else b"garbage")
    counts, moved = struct.pack(">BIH20sI", 1, 1, 1, name, len(entry)), struct.pack(">20s20sHH", bytes(20), name, 18, 0)
    body = counts + entry + moved + ref
    checksum = zlib.crc32(body, zlib.crc32(struct.pack(">I", len(body)), zlib.crc32(head)))
    segment = folder / "caesura.journal" / "00000001"
    segment.write_bytes(head + struct.pack(">4sII", b"step", len(body), checksum) + body)
    assert store.head(X) == name.hex()
    for attempt in (partial(store.read, CommitId(name.hex())), store.seal):
        tracemalloc.start()
        with pytest.raises(Unreadable):
            attempt()
        assert tracemalloc.get_traced_memory()[1] < 300 * 2**20
        tracemalloc.stop()
    store.close()
    assert segment.exists()
