"""Verification as git: what ``git fsck --strict`` finds it finds, and what is no continuation besides."""

import datetime as dt
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from caesura.continuations import Claim, GitStore, Loops, NoSuchLoop, WorkerId, loop_name
from tests.damage import copied, file_of, git, is_whole, object_of, tear
from tests.strategies import NESTED, World


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("template") / "caesura"
    store = GitStore.open(folder, create=True)
    World(store, NESTED).settle()
    store.close()
    return folder


@pytest.fixture
def folder(template: Path, tmp_path: Path) -> Path:
    return copied(template, tmp_path / "caesura")


@pytest.fixture
def loops(folder: Path) -> Iterator[Loops]:
    with Loops.open(folder) as opened:
        yield opened


def written(folder: Path, kind: str, data: bytes) -> str:
    """Write an object as it is, well-formed or not."""
    words = ["git", "-C", str(folder), "hash-object", "-w", "-t", kind, "--literally", "--stdin"]
    return subprocess.run(words, input=data, capture_output=True, check=True).stdout.decode().strip()


def raw(folder: Path, kind: str, name: str) -> bytes:
    return subprocess.run(["git", "-C", folder, "cat-file", kind, name], capture_output=True, check=True).stdout


Change = Callable[[bytes], bytes]

_BLOB = b"100644 %s\x00" + b"\x11" * 20
TREES: dict[str, Change] = {
    "out of order": lambda tree: tree[_end(tree) :] + tree[: _end(tree)],
    "an entry twice": lambda tree: tree[: _end(tree)] + tree,
    "a padded mode": lambda tree: tree.replace(b"40000 messages", b"040000 messages"),
    "no object": lambda tree: tree[: _end(tree) - 20] + bytes(20) + tree[_end(tree) :],
    "cut short": lambda tree: tree[:-3],
    "a name that leads out": lambda tree: b"100644 ..\x00" + tree[_end(tree) - 20 : _end(tree)] + tree,
    "a folder .git": lambda tree: b"40000 .git\x00" + tree[_end(tree) - 20 : _end(tree)] + tree,
}
COMMITS: dict[str, Change] = {
    "no author": lambda commit: b"\n".join(one for one in commit.split(b"\n") if not one.startswith(b"author ")),
    "no committer": lambda commit: b"\n".join(one for one in commit.split(b"\n") if not one.startswith(b"committer ")),
    "a time that is none": lambda commit: commit.replace(b"> 17", b"> x17", 1),
    "a padded time": lambda commit: commit.replace(b"> 17", b"> 017", 1),
    "no address": lambda commit: commit.replace(b" <", b" ", 1),
    "no zone": lambda commit: commit.replace(b" +0000\n", b"\n", 1),
    "a tree that is a blob": lambda commit: commit,
    "a parent that is missing": lambda commit: commit.replace(b"\nparent ", b"\nparent " + b"1" * 40 + b"\nparent ", 1),
}


def _end(tree: bytes) -> int:
    """Where a tree's first entry ends."""
    return tree.index(b"\x00") + 21


@pytest.mark.parametrize("name", TREES)
def test_a_tree_that_git_finds_fault_with_is_found(folder: Path, loops: Loops, name: str) -> None:
    old = object_of(folder, "loops/ops^{tree}")
    tree = written(folder, "tree", TREES[name](raw(folder, "tree", old)))
    commit = written(folder, "commit", raw(folder, "commit", "loops/ops").replace(old.encode(), tree.encode()))
    (folder / "refs/heads/loops/ops").write_text(commit + "\n")
    assert not is_whole(folder)
    assert [fault.commit for fault in loops.verify("ops").faults] == [commit]


@pytest.mark.parametrize("name", COMMITS)
def test_a_commit_that_git_finds_fault_with_is_found(folder: Path, loops: Loops, name: str) -> None:
    data = COMMITS[name](raw(folder, "commit", "loops/ops"))
    if name == "a tree that is a blob":
        blob = object_of(folder, "loops/ops:continuation.json")
        data = data.replace(object_of(folder, "loops/ops^{tree}").encode(), blob.encode(), 1)
    assert name == "a tree that is a blob" or data != raw(folder, "commit", "loops/ops")
    commit = written(folder, "commit", data)
    (folder / "refs/heads/loops/ops").write_text(commit + "\n")
    assert not is_whole(folder)
    found = {fault.commit for fault in loops.verify("ops").faults}
    assert ("1" * 40 if name == "a parent that is missing" else commit) in found


STRANGE: dict[str, tuple[str, str]] = {
    "a file more": ("100644 blob {record}\tnotes.txt", "notes.txt is no part of a continuation"),
    "a record that is a link": (
        "120000 blob {record}\tcontinuation.json",
        "continuation.json is missing, or not",
    ),
    "messages that are a file": ("100644 blob {record}\tmessages", "messages/ is missing, or not a folder"),
    "another loop's child": ("040000 tree {other}\tchildren", "is not the tree of any parent commit"),
    "messages with a gap": ("040000 tree {gap}\tmessages", "messages/00/00.json is missing"),
    "messages in the wrong folder": ("040000 tree {shifted}\tmessages", "messages/00/00.json is missing"),
    "a message that is a folder": ("040000 tree {folder}\tmessages", "messages/00/00.json is not a file"),
    "a message that is none": ("040000 tree {none}\tmessages", "messages/00/00.json cannot be read"),
}


@pytest.mark.parametrize("name", STRANGE)
def test_a_tree_that_git_likes_and_is_no_continuation_is_found(folder: Path, loops: Loops, name: str) -> None:
    line, expected = STRANGE[name]
    record = object_of(folder, "loops/ops:continuation.json")
    message = object_of(folder, "loops/ops:messages/00/01.json")
    leaf = object_of(folder, "loops/ops:messages/00")
    inner = {
        "other": _tree(folder, f"040000 tree {object_of(folder, 'loops/ops.team-1~1^{tree}')}\tteam-1"),
        "gap": _tree(folder, f"040000 tree {_tree(folder, f'100644 blob {message}{chr(9)}01.json')}\t00"),
        "shifted": _tree(folder, f"040000 tree {leaf}\t01"),
        "folder": _tree(folder, f"040000 tree {_tree(folder, f'040000 tree {leaf}{chr(9)}00.json')}\t00"),
        "none": _tree(folder, f"040000 tree {_tree(folder, f'100644 blob {record}{chr(9)}00.json')}\t00"),
        "record": record,
    }
    added = line.format(**inner)
    lines = [
        one for one in git(folder, "ls-tree", "loops/ops").splitlines() if one.split("\t")[1] != added.split("\t")[1]
    ]
    tree = _tree(folder, *lines, added)
    old = object_of(folder, "loops/ops^{tree}")
    commit = written(folder, "commit", raw(folder, "commit", "loops/ops").replace(old.encode(), tree.encode()))
    git(folder, "update-ref", "refs/heads/loops/ops", commit)
    assert is_whole(folder)
    (fault,) = loops.verify("ops").faults
    assert fault.commit == commit
    assert expected in fault.what
    assert commit in fault.what


def _tree(folder: Path, *lines: str) -> str:
    text = "\n".join(lines) + "\n"
    words = ["git", "-C", str(folder), "mktree"]
    return subprocess.run(words, input=text, capture_output=True, text=True, check=True).stdout.strip()


def test_an_object_that_is_torn_in_the_past_is_found_once_though_many_commits_hold_it(
    folder: Path, loops: Loops
) -> None:
    torn = object_of(folder, "loops/ops:messages/00/00.json")
    tear(file_of(folder, torn), "truncated")
    faults = loops.verify("ops").faults
    assert [torn in fault.what for fault in faults] == [True]
    assert faults[0].hint.startswith("'caesura repair ops' goes back")


def test_leftovers_are_noted_and_are_no_fault(folder: Path, loops: Loops) -> None:
    assert loops.verify().notes == ()
    git(folder, "update-ref", "refs/heads/loops/not.a-loop", "loops/ops")
    git(folder, "branch", "-m", "loops/ops.team-1.team-1", "loops/gone.team-1")
    (folder / "refs/heads/loops/ops.lock").touch()
    (folder / "packed-refs.lock").touch()
    (folder / "objects/tmp_obj_left").write_bytes(b"half")
    (folder / "caesura-aside").mkdir()
    (folder / "caesura-aside" / "old").touch()
    for kept in ("ops.team-1", "adopted", "new~1"):
        (folder / "caesura.workspaces" / kept).mkdir(parents=True)
    lost = written(folder, "blob", b"nobody's")
    tear(file_of(folder, lost), "truncated")
    dead = Claim(worker=WorkerId("w"), host="elsewhere", pid=1, born="", until=dt.datetime(2020, 1, 1, tzinfo=dt.UTC))
    GitStore.open(folder).move_lease(loop_name("ops"), None, msgspec.json.encode(dead))
    report = loops.verify()
    assert report.faults == ()
    for expected in (
        "refs/heads/loops/ops.lock is a lock",
        "packed-refs.lock is a lock",
        "objects/tmp_obj_left is half an object",
        "refs/heads/loops/not.a-loop has no name that a loop can have",
        "loops/gone.team-1 is nested in gone, which has no branch",
        "caesura-aside/ keeps 1 damaged file",
        f"no loop needs object {lost}",
        "The lease on ops is of a worker that is gone",
    ):
        assert any(expected in note for note in report.notes), (expected, report.notes)
    assert [note.partition(" ")[0] for note in report.notes if "caesura.workspaces" in note] == [
        "caesura.workspaces/adopted/"
    ]


def test_a_loop_that_is_not_there_is_refused(loops: Loops) -> None:
    with pytest.raises(NoSuchLoop):
        loops.verify("other")


def test_progress_is_told_now_and_then(tmp_path: Path) -> None:
    store = GitStore.open(tmp_path / "caesura", create=True)
    world = World(store, ["look"] * 50)
    world.settle()
    told: list[int] = []
    assert world.loops.verify(progress=told.append).commits > 100
    assert told == [100]


def test_a_healthy_repository_has_no_fault_to_either(folder: Path, loops: Loops) -> None:
    assert is_whole(folder)
    report = loops.verify()
    assert (report.faults, report.notes) == ((), ())
    git(folder, "repack", "-aq")
    git(folder, "prune-packed")
    git(folder, "pack-refs", "--all")
    with Loops.open(folder) as packed:
        assert packed.verify() == report
