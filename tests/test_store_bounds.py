"""What is read back is not trusted: whatever a tree holds, the answer is an error or the truth, and soon."""

import hashlib
import resource
import struct
import subprocess
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from msgspec.structs import replace

from caesura.continuations import (
    CommitId,
    Continuation,
    GitStore,
    Started,
    TooLarge,
    Torn,
    Unreadable,
    User,
    start,
)
from caesura.continuations._codec import encode_definition, encode_message, encode_record
from caesura.continuations.store import _trees
from caesura.continuations.store._format import FILE, FOLDER, Entry, commit_bytes, tree_bytes
from caesura.continuations.store._objects import Batch, Objects
from tests.strategies import ADA, AGENT, EPOCH, ROBOT, WORKERS

STATE = start(Started(at=EPOCH, definition=AGENT, prompt=User(content="Go."), nonce="n", worker=WORKERS[0]))
LINK, GITLINK = 0o120000, 0o160000


class Forge:
    """Writes commits that Caesura would not."""

    def __init__(self, folder: Path) -> None:
        GitStore.open(folder, create=True).close()
        self.folder = folder
        self._objects = Objects(folder / "objects", durable=False)
        self._batch = Batch()
        record = self._batch.add("blob", encode_record(STATE))
        definition = self._batch.add("blob", encode_definition(AGENT))
        self.message = self._batch.add("blob", encode_message(User(content="Go.")))
        self.fixed = [Entry(FILE, "continuation.json", record), Entry(FILE, "agent.json", definition)]
        self.messages = self.tree([Entry(FOLDER, "00", self.tree([Entry(FILE, "00.json", self.message)]))])

    def tree(self, entries: Sequence[Entry]) -> str:
        return self._batch.add("tree", tree_bytes(entries))

    def raw(self, data: bytes) -> str:
        return self._batch.add("tree", data)

    def blob(self, data: bytes) -> str:
        return self._batch.add("blob", data)

    def root(self, *more: Entry, messages: str | None = None) -> str:
        return self.tree([*self.fixed, Entry(FOLDER, "messages", messages or self.messages), *more])

    def commit(self, tree: str, *parents: str, message: str = "forged\n") -> CommitId:
        content = commit_bytes(tree, parents, author=ADA, committer=ROBOT, at=EPOCH, message=message)
        return CommitId(self._batch.add("commit", content))

    def read(self, commit: CommitId) -> Continuation:
        if len(self._batch) < 200:
            self._objects.write(self._batch)
        else:
            packed(self.folder, self._batch)
        return GitStore.open(self.folder).read(commit).state


def packed(folder: Path, batch: Batch) -> None:
    """Put objects into a pack, which takes less time than files for each."""
    kinds = {"commit": 1, "tree": 2, "blob": 3}
    parts = [struct.pack(">4sII", b"PACK", 2, len(batch))]
    for kind, data in batch.values():
        size = len(data)
        head = bytearray([kinds[kind] << 4 | size & 15])
        size >>= 4
        while size:
            head[-1] |= 0x80
            head.append(size & 0x7F)
            size >>= 7
        parts += [bytes(head), zlib.compress(data, 1)]
    pack = b"".join(parts)
    pack += hashlib.sha1(pack, usedforsecurity=False).digest()
    subprocess.run(["git", "index-pack", "--stdin"], cwd=folder, input=pack, capture_output=True, check=True)


@pytest.fixture
def forge(tmp_path: Path) -> Forge:
    return Forge(tmp_path / "r.git")


@pytest.fixture(autouse=True)
def _in_little_memory() -> Iterator[None]:
    yield
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < 2 * 2**20, "kilobytes"


def nested(forge: Forge, *children: tuple[str, CommitId, str]) -> tuple[CommitId, str]:
    """A commit with these children, and its tree."""
    folder = forge.tree([Entry(FOLDER, name, tree) for name, _, tree in children])
    tree = forge.root(Entry(FOLDER, "children", folder))
    return forge.commit(tree, *(commit for _, commit, _ in children)), tree


def chain(forge: Forge, depth: int, width: int = 1) -> CommitId:
    """Loops nested so deep; with a width, each holds the one below it so many times."""
    tree = forge.root()
    commit = forge.commit(tree)
    for _ in range(depth):
        commit, tree = nested(forge, *((f"team-{number + 1}", commit, tree) for number in range(width)))
    return commit


def test_loops_nested_as_deep_as_they_can_be_named_are_read(forge: Forge) -> None:
    state, depth = forge.read(chain(forge, 49)), 0
    while state.children:
        state, depth = state.children[next(iter(state.children))].state, depth + 1
    assert depth == 49


@pytest.mark.parametrize("depth", [51, 10_000])
def test_loops_nested_deeper_than_that_are_refused(forge: Forge, depth: int) -> None:
    with pytest.raises(TooLarge, match="deep"):
        forge.read(chain(forge, depth))


def test_a_loop_with_ten_thousand_children_is_refused(forge: Forge) -> None:
    tree = forge.root()
    child = forge.commit(tree)
    commit, _ = nested(forge, *((f"team-{number + 1}", child, tree) for number in range(10_000)))
    with pytest.raises(TooLarge, match="5,000 nested loops"):
        forge.read(commit)


def test_children_that_share_children_are_counted_as_often_as_they_would_be_walked(forge: Forge) -> None:
    assert len(forge.read(chain(forge, 11, width=2)).children) == 2
    with pytest.raises(TooLarge, match="nested loops"):
        forge.read(chain(forge, 40, width=2))


def many(forge: Forge, count: int) -> str:
    """A tree of so many messages that are all the same, so that the full folders are too."""
    batches, rest = divmod(count, 4096)

    def batch(count: int, *more: Entry) -> str:
        sizes = [64] * (count // 64) + [count % 64] * (count % 64 > 0)
        folders = {size: [Entry(FILE, f"{leaf:02}.json", forge.message) for leaf in range(size)] for size in set(sizes)}
        return forge.tree([*(Entry(FOLDER, f"{at:02}", forge.tree(folders[n])) for at, n in enumerate(sizes)), *more])

    if not batches:
        return batch(rest)
    full = [Entry(FOLDER, f"{number:03}", batch(4096)) for number in range(1, batches)]
    return batch(4096, Entry(FOLDER, "64", forge.tree([*full, Entry(FOLDER, f"{batches:03}", batch(rest))])))


def test_a_hundred_thousand_messages_are_read(forge: Forge) -> None:
    assert len(forge.read(forge.commit(forge.root(messages=many(forge, 100_000)))).messages) == 100_000


def test_a_million_messages_are_refused(forge: Forge) -> None:
    with pytest.raises(TooLarge, match="262,144"):
        forge.read(forge.commit(forge.root(messages=many(forge, 1_000_000))))


def test_folders_of_messages_that_hold_nothing_but_folders_are_refused(forge: Forge) -> None:
    tree = forge.tree([])
    for _ in range(3):
        tree = forge.tree([Entry(FOLDER, f"{number:04}", tree) for number in range(2000)])
    with pytest.raises(Unreadable, match=r"messages/00/00\.json is missing"):
        forge.read(forge.commit(forge.root(messages=tree)))


@pytest.mark.parametrize("name", ["00", "01", "63", "64", "64/001"])
def test_a_folder_of_messages_that_holds_none_is_refused(forge: Forge, name: str) -> None:
    # Git makes no such folder; and what is built upon one would have a second one of that name in the end.
    count = 0 if name == "00" else 64
    full = forge.tree([Entry(FILE, f"{number:02}.json", forge.message) for number in range(64)])
    first, *inner = name.split("/")
    empty = forge.tree([])
    for part in inner:
        empty = forge.tree([Entry(FOLDER, part, empty)])
    tree = forge.tree([*([Entry(FOLDER, "00", full)] if count else []), Entry(FOLDER, first, empty)])
    with pytest.raises(Unreadable, match=f"messages/{name} holds no message"):
        forge.read(forge.commit(forge.root(messages=tree)))


def test_messages_that_are_small_in_the_repository_and_large_in_memory_are_refused(
    forge: Forge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_trees, "MAX_STATE", 2**26)
    forge.message = forge.blob(encode_message(User(content="x" * 10_000_000)))
    with pytest.raises(TooLarge, match="bytes"):
        forge.read(forge.commit(forge.root(messages=many(forge, 40))))


def test_a_message_of_ten_megabytes_is_written_and_read(tmp_path: Path) -> None:
    store = GitStore.open(tmp_path / "r.git", create=True)
    state = replace(STATE, messages=(User(content="x" * 10_000_000),))
    commit = store.write(state, parents=(), message="m", author=ADA, committer=ROBOT).id
    assert GitStore.open(tmp_path / "r.git").read(commit).state == state


def test_what_could_not_be_read_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = GitStore.open(tmp_path / "r.git", create=True)
    monkeypatch.setattr(_trees, "MAX_STATE", 4_000)
    base = store.write(STATE, parents=(), message="m", author=ADA, committer=ROBOT)
    objects = sorted((tmp_path / "r.git/objects").rglob("*"))
    longer = replace(STATE, messages=(*STATE.messages, User(content="x" * 4_000)))
    with pytest.raises(TooLarge, match="4,000"):
        store.write(longer, parents=(base.id,), message="m", author=ADA, committer=ROBOT)
    assert sorted((tmp_path / "r.git/objects").rglob("*")) == objects


NAMES = [b"..", b".", b".git", b".GIT", b"a/b", b"", b"\xff\xfe.json", b"00.json ", b"\n", b"x" * 5000]


@pytest.mark.parametrize("name", NAMES)
def test_a_message_by_another_name_is_refused(forge: Forge, name: bytes) -> None:
    entry = b"100644 %s\x00" % name + bytes.fromhex(forge.message)
    folder = forge.raw(entry)
    with pytest.raises(Unreadable) as refused:
        forge.read(forge.commit(forge.root(messages=forge.tree([Entry(FOLDER, "00", folder)]))))
    assert "messages" in str(refused.value) or folder in str(refused.value)


@pytest.mark.parametrize("name", NAMES[:6])
def test_a_name_that_could_lead_out_of_a_tree_is_refused_wherever_it_stands(forge: Forge, name: bytes) -> None:
    whole = [*forge.fixed, Entry(FOLDER, "messages", forge.messages)]
    root = forge.raw(tree_bytes(whole) + b"100644 %s\x00" % name + bytes.fromhex(forge.message))
    with pytest.raises(Torn, match="an entry is named"):
        forge.read(forge.commit(root))


MALFORMED: dict[str, Callable[[str], bytes]] = {
    "cut short": lambda name: b"100644 00.json\x00" + bytes.fromhex(name)[:-1],
    "no name": lambda name: b"100644",
    "no mode": lambda name: b" 00.json\x00" + bytes.fromhex(name),
    "a mode that is none": lambda name: b"1x0644 00.json\x00" + bytes.fromhex(name),
    "a mode that is not octal": lambda name: b"100988 00.json\x00" + bytes.fromhex(name),
    "twice the same name": lambda name: (b"100644 00.json\x00" + bytes.fromhex(name)) * 2,
    "text": lambda name: b"hello, world",
}


@pytest.mark.parametrize("fault", MALFORMED)
def test_a_tree_that_is_none_is_refused(forge: Forge, fault: str) -> None:
    folder = forge.raw(MALFORMED[fault](forge.message))
    with pytest.raises(Torn, match=folder):
        forge.read(forge.commit(forge.root(messages=forge.tree([Entry(FOLDER, "00", folder)]))))


@pytest.mark.parametrize("mode", [LINK, GITLINK, FOLDER])
def test_a_message_that_is_no_file_is_refused(forge: Forge, mode: int) -> None:
    target = forge.blob(b"../../../../etc/passwd")
    folder = forge.tree([Entry(mode, "00.json", target)])
    with pytest.raises(Unreadable, match=r"00\.json|is a blob where a tree should be"):
        forge.read(forge.commit(forge.root(messages=forge.tree([Entry(FOLDER, "00", folder)]))))


@pytest.mark.parametrize("mode", [LINK, GITLINK, FOLDER])
@pytest.mark.parametrize("name", ["continuation.json", "agent.json"])
def test_a_record_that_is_no_file_is_refused(forge: Forge, mode: int, name: str) -> None:
    forge.fixed = [replace(entry, mode=mode) if entry.name == name else entry for entry in forge.fixed]
    with pytest.raises(Unreadable, match=name):
        forge.read(forge.commit(forge.root()))


@pytest.mark.parametrize("name", ["..", "team-1/x", "team-1.team-2", "team", "-", "team-01", "TEAM 1", "é-1"])
def test_a_child_whose_name_no_call_could_have_is_refused(forge: Forge, name: str) -> None:
    tree = forge.root()
    commit, _ = nested(forge, (name, forge.commit(tree), tree))
    with pytest.raises(Unreadable, match=r"children|named"):
        forge.read(commit)


COMMITS = [
    b"",
    b"\n\n",
    b"tree x\n\nm",
    b"tree %(tree)s\n\nm",
    b"tree %(tree)s\nparent x\nauthor A <a> 0 +0000\ncommitter A <a> 0 +0000\n\nm",
    b"tree %(tree)s\nauthor A\ncommitter A <a> 0 +0000\n\nm",
    b"tree %(tree)s\nauthor A <a> 0 +0000",
]


@pytest.mark.parametrize("content", COMMITS)
def test_a_commit_that_is_none_is_refused(forge: Forge, content: bytes) -> None:
    commit = CommitId(forge._batch.add("commit", content.replace(b"%(tree)s", forge.root().encode())))
    with pytest.raises(Torn, match=commit):
        forge.read(commit)


def test_a_message_nested_beyond_measure_is_refused(forge: Forge) -> None:
    for text in ("[" * 100_000, '{"role": "user", "content": ' + "[" * 100_000 + "]" * 100_000 + "}"):
        forge.message = forge.blob(text.encode())
        tree = forge.tree([Entry(FOLDER, "00", forge.tree([Entry(FILE, "00.json", forge.message)]))])
        with pytest.raises(Unreadable, match=r"00/00\.json"):
            forge.read(forge.commit(forge.root(messages=tree)))
