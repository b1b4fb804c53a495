"""A folder of files and the trees that hold it, with real git beside: what is kept is what is there, no more."""

import os
import random
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from caesura.continuations import GitStore, InTheWay, LoopName, Redaction, TooLarge, Torn, TreeId, Unkeepable, loop_name
from caesura.continuations.store import Workspaces
from caesura.continuations.store import _snapshot as snapshot
from caesura.continuations.store._folder import Unsettled, is_keepable, read, stamp_at, stamp_of
from caesura.continuations.store._trees import EMPTY
from caesura.continuations.store._workspaces import Look
from tests.workspaces import NAMES, files_in, files_of, git, something_happens

LOOP = loop_name("fix")
TOKEN = "ghp_" + "a1B2" * 9


class Bench:
    """A repository, and a folder that a loop works in; `fresh` looks at it as nobody who remembers it."""

    def __init__(self, folder: Path) -> None:
        self.repository, self.root = folder / "r.git", folder / "files"
        self.root.mkdir()
        GitStore.open(self.repository, create=True, durability="crash").close()
        self.open()
        self.spaces.adopt(self.spaces.begin(self.root), LOOP)

    def open(self) -> None:
        """Begin anew, as another process would."""
        self.store = GitStore.open(self.repository, durability="crash")
        self.spaces: Workspaces = self.store.workspaces()

    def look(self, loop: LoopName = LOOP, kept: str = "") -> Look:
        redaction = Redaction()
        return self.spaces.look(loop, kept, lambda text: redaction.text(text) != text)

    def fresh(self) -> Look:
        return self.look(self.spaces.begin(self.root))


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def write(root: Path, **files: str) -> None:
    for name, text in files.items():
        path = root / name.replace("__", "/").replace("_dot_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


# Snapshots ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(8))
def test_a_tree_holds_the_files_that_are_there_whatever_happened_to_them(bench: Bench, seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311 - to be the same in each run
    for turn in range(25):
        for _ in range(chance.randint(0, 5)):
            something_happens(bench.root, chance)
        found = bench.look()
        assert files_of(bench.repository, found.tree) == files_in(bench.root)
        assert found == bench.look()
        if turn % 5 == 0:
            assert bench.fresh().tree == found.tree
            bench.spaces.settle(LOOP, found.tree)
            bench.open()
    git(bench.repository, "fsck", "--strict", "--no-dangling")


def test_git_makes_the_same_tree(bench: Bench, tmp_path: Path) -> None:
    chance = random.Random(7)  # noqa: S311
    for _ in range(60):
        something_happens(bench.root, chance)
    other = tmp_path / "plain.git"
    git(tmp_path, "init", "-q", "--bare", str(other))
    words = ["--git-dir", str(other), "--work-tree", str(bench.root), "-c", "core.autocrlf=false"]
    git(bench.root, *words, "add", "-A")
    assert git(bench.root, *words, "write-tree").decode().strip() == bench.look().tree


def test_a_change_within_the_moment_of_a_look_is_seen_though_the_stamp_is_the_same(bench: Bench) -> None:
    file = bench.root / "a"
    file.write_bytes(b"one")
    os.utime(file, (2**32, 2**32))  # whatever the clock says, it is written to at this moment
    bench.look()
    with file.open("r+b") as opened:  # the same inode
        opened.write(b"two")
    os.utime(file, (2**32, 2**32))
    stamp = stamp_of(file.stat())
    for _, index in bench.spaces._known.values():
        index.folders[""].stamps["a"] = stamp  # as if the clock had not ticked
    assert files_of(bench.repository, bench.look().tree) == {"a": ("100644", b"two")}


def test_what_is_written_is_only_what_is_new(bench: Bench) -> None:
    for number in range(50):
        write(bench.root, **{f"d{number % 5}__f{number}": str(number)})
    bench.look()
    before = set(bench.repository.rglob("objects/*/*"))
    assert bench.look() == bench.look()
    assert set(bench.repository.rglob("objects/*/*")) == before
    write(bench.root, d1__f1="other")
    bench.look()
    assert len(set(bench.repository.rglob("objects/*/*")) - before) == 3  # the file, its folder, the outermost


def test_many_files_come_in_a_few_packs(bench: Bench) -> None:
    for number in range(1200):
        write(bench.root, **{f"d{number % 300}__f{number}": f"{number}\n" * 9})
    found = bench.look()
    assert files_of(bench.repository, found.tree) == files_in(bench.root)
    assert not list(bench.repository.glob("objects/??/*"))
    assert len(list(bench.repository.glob("objects/pack/*.pack"))) == 2  # the files, the folders
    git(bench.repository, "fsck", "--strict", "--no-dangling")
    bench.look()
    bench.spaces.make(LOOP, EMPTY)
    bench.look()
    bench.spaces.make(LOOP, found.tree)
    assert bench.look().tree == found.tree


def test_a_file_that_changes_while_it_is_read_is_read_again_or_refused(bench: Bench) -> None:
    write(bench.root, a="one")
    folder = os.open(bench.root, os.O_RDONLY)
    seen = stamp_at(folder, "a")
    assert seen is not None
    assert read(folder, "a", seen) == b"one"
    write(bench.root, a="two")
    with pytest.raises(Unsettled):
        read(folder, "a", seen)
    (bench.root / "a").unlink()
    (bench.root / "a").symlink_to("/etc/passwd")
    with pytest.raises(Unsettled):
        read(folder, "a", seen)
    os.close(folder)


def test_files_that_do_not_stop_changing_are_refused(bench: Bench) -> None:
    script = "import itertools, sys\nfor n in itertools.count(): open(sys.argv[1], 'w').write('x' * (n % 9999))"
    writer = subprocess.Popen(["python3", "-c", script, str(bench.root / "busy")])
    try:
        for _ in range(30):
            try:
                tree = bench.look().tree
            except Unkeepable:
                continue
            assert set(files_of(bench.repository, tree)) <= {"busy"}
    finally:
        writer.kill()
        writer.wait()
    assert files_of(bench.repository, bench.look().tree) == files_in(bench.root)


# What is left out --------------------------------------------------------------------------------------------------

_RULES = """a
**
**/b
[[:alpha:]]
[!a]
[^a-b]*
[]a]
[a-]
[a
\\
\\#
a**b
/**/c.py
/a
b/
*.py
!c.py
a/b
**/a
a/**
# no

c*
!*
*
/*
!/a
[a-b]
with space
\\!x
a.b\x20
[z-a]
lösung
!b/
a/*/c.py
?
-rf"""
_rules = st.lists(st.sampled_from(_RULES.split("\n")), max_size=4)


@settings(max_examples=25)
@given(seed=st.integers(0, 10**6), outer=_rules, inner=_rules, own=_rules)
@example(seed=1, outer=["*", "!a", "!a/**"], inner=["!c.py"], own=["b/"])
def test_ignore_rules_are_gits_own(
    tmp_path_factory: pytest.TempPathFactory, seed: int, outer: list[str], inner: list[str], own: list[str]
) -> None:
    folder = tmp_path_factory.mktemp("rules")
    bench, chance = Bench(folder), random.Random(seed)  # noqa: S311
    for _ in range(25):
        something_happens(bench.root, chance)
    for place, rules in ((bench.root, outer), (bench.root / "a", inner)):
        if place.is_dir() and not place.is_symlink():
            (place / ".gitignore").write_text("\n".join(rules))
    git(bench.root, "init", "-q")
    (bench.root / ".git" / "info" / "exclude").write_text("\n".join(own))
    git(bench.root, "-c", "core.autocrlf=false", "add", "-A")
    assert git(bench.root, "write-tree").decode().strip() == bench.look().tree
    shutil.rmtree(folder)


def test_what_is_kept_stays_kept_though_a_rule_comes_to_leave_it_out(bench: Bench) -> None:
    write(bench.root, kept="1", out__a="1")
    bench.look()
    write(bench.root, _dot_gitignore="kept\nout/\nnew\n", kept="2", out__b="2", new="2")
    tree = bench.look().tree
    assert files_of(bench.repository, tree).keys() == {".gitignore", "kept", "out/a"}
    bench.spaces.adopt(bench.spaces.begin(bench.root), LOOP)  # what was known of it is forgotten
    assert bench.look(kept=tree).tree == tree
    (bench.root / "out" / "a").unlink()
    assert files_of(bench.repository, bench.look().tree).keys() == {".gitignore", "kept"}


def test_a_repository_within_is_kept_as_plain_files(bench: Bench) -> None:
    write(bench.root, inner__a="1")
    git(bench.root / "inner", "init", "-q")
    found = bench.look()
    assert files_of(bench.repository, found.tree).keys() == {"inner/a"}
    assert found.left_out == ()


def test_the_repository_that_the_loop_is_in_is_no_part_of_its_files(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    inside = bench.root / ".caesura"
    shutil.copytree(bench.repository, inside)
    write(bench.root, a="1", d__b="1")
    shutil.copytree(bench.repository, bench.root / "d" / "other.git")
    found = bench.look()
    assert files_of(bench.repository, found.tree).keys() == {"a", "d/b"}
    assert found.left_out == ()


def test_pipes_and_sockets_are_no_files(bench: Bench) -> None:
    os.mkfifo(bench.root / "pipe")
    write(bench.root, a="1")
    assert files_of(bench.repository, bench.look().tree).keys() == {"a"}


@pytest.mark.parametrize("name", [".GIT", "GIT~1", ".git ", ".g\u200cit", ".git.", ".git:x", ".git\\x"])
def test_a_name_that_some_system_takes_for_a_repository_is_left_out(bench: Bench, name: str) -> None:
    assert not is_keepable(name)
    (bench.root / name).write_text("[core]")
    write(bench.root, a="1")
    found = bench.look()
    assert files_of(bench.repository, found.tree).keys() == {"a"}
    assert found.left_out == (name,)


@pytest.mark.parametrize("name", [*NAMES, ".gitignore", ".github", "git", "git~2", "..."])
def test_any_other_name_is_kept(bench: Bench, name: str) -> None:
    (bench.root / name).write_text("")
    assert files_of(bench.repository, bench.look().tree).keys() == {name}
    git(bench.repository, "fsck", "--strict", "--no-dangling")


def objects(repository: Path) -> bytes:
    return git(repository, "cat-file", "--batch-all-objects", "--batch")


def test_a_file_with_a_secret_in_it_never_enters_the_repository(bench: Bench) -> None:
    write(bench.root, a="1", _dot_env=f"TOKEN={TOKEN}\n")
    found = bench.look()
    assert found.left_out == (".env",)
    assert files_of(bench.repository, found.tree).keys() == {"a"}
    write(bench.root, a=f"1 {TOKEN}")  # the file as it was is what stays
    found = bench.look()
    assert found.left_out == (".env", "a")
    assert files_of(bench.repository, found.tree) == {"a": ("100644", b"1")}
    assert bench.look() == found
    assert TOKEN.encode() not in objects(bench.repository)
    assert TOKEN in (bench.root / "a").read_text()
    write(bench.root, a="2")
    assert files_of(bench.repository, bench.look().tree) == {"a": ("100644", b"2")}
    (bench.root / ".env").unlink()
    write(bench.root, a=TOKEN)
    bench.look()
    (bench.root / "a").unlink()
    assert bench.look() == (EMPTY, (), "", "")


def test_a_link_is_kept_as_a_link_and_never_followed(bench: Bench, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    write(outside, a="keep out")
    (bench.root / "link").symlink_to(outside)
    (bench.root / "file").symlink_to(outside / "a")
    found = bench.look()
    assert files_of(bench.repository, found.tree) == files_in(bench.root)
    assert b"keep out" not in objects(bench.repository)
    bench.spaces.make(LOOP, EMPTY)
    assert (outside / "a").read_text() == "keep out"
    assert files_in(bench.root) == {}


@pytest.mark.parametrize("limit", ["MAX_OBJECT", "MAX_NEW"])
def test_what_is_too_large_is_refused_before_anything_is_written(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    monkeypatch.setattr(snapshot, limit, 1000)
    write(bench.root, a="small", big="x" * 1001)
    with pytest.raises(TooLarge, match=r"1,00.*1,000"):
        bench.look()
    assert objects(bench.repository) == b""


def test_folders_too_deep_are_refused(bench: Bench) -> None:
    deep = bench.root.joinpath(*["d"] * 102)
    deep.mkdir(parents=True)
    with pytest.raises(TooLarge, match="folders deep"):
        bench.look()


def test_the_repositorys_own_folder_is_no_workspace(bench: Bench) -> None:
    for place in (bench.repository, bench.repository / "objects", bench.root / "not there"):
        with pytest.raises(Unkeepable):
            bench.spaces.begin(place)


# Checkouts ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(10))
def test_a_checkout_makes_the_files_those_of_any_tree(bench: Bench, seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311
    trees = [EMPTY]
    for _ in range(8):
        for _ in range(chance.randint(1, 12)):
            something_happens(bench.root, chance)
        trees.append(bench.look().tree)
    kept = {tree: files_of(bench.repository, tree) for tree in trees}
    for number in range(20):
        tree = chance.choice(trees)
        bench.look()
        bench.spaces.make(LOOP, tree)
        assert files_in(bench.root) == kept[tree]
        assert bench.look()[:3] == (tree, (), tree)
        if number % 4 == 0:
            bench.open()


def test_only_what_differs_is_written(bench: Bench) -> None:
    write(bench.root, a="1", b="1", d__c="1", e__f="1")
    first = bench.look().tree
    write(bench.root, b="2", d__c="2")
    bench.look()
    before = {name: (bench.root / name).stat() for name in ("a", "e/f")}
    bench.spaces.make(LOOP, first)
    assert {name: (bench.root / name).stat() for name in before} == before


@pytest.mark.parametrize(
    "stand",
    [
        lambda root: write(root, out="mine"),
        lambda root: write(root, out__x="mine"),
        lambda root: (root / "out").symlink_to("/etc"),
        lambda root: os.mkfifo(root / "out"),
    ],
    ids=["file", "folder", "link", "pipe"],
)
@pytest.mark.parametrize("wanted", ["out", "out__x__y"])
def test_what_no_commit_holds_is_never_overwritten(bench: Bench, stand: Callable[[Path], object], wanted: str) -> None:
    write(bench.root, **{"a": "1", wanted: "1"})
    tree = bench.look().tree
    bench.spaces.make(LOOP, EMPTY)
    write(bench.root, _dot_gitignore="out\n")
    stand(bench.root)
    before = files_in(bench.root)
    bench.look()
    with pytest.raises(InTheWay, match="out"):
        bench.spaces.make(LOOP, tree)
    assert files_in(bench.root) == before


def test_no_checkout_writes_into_a_repository_in_the_folder_and_no_look_keeps_it(bench: Bench) -> None:
    write(bench.root, a="1", inner__refs__heads__x="forged", inner__hooks__post__update="run me")
    tree = bench.look().tree
    bench.spaces.make(LOOP, EMPTY)
    git(bench.root, "init", "--quiet", "--bare", "inner")
    before = files_in(bench.root)
    bench.look()
    with pytest.raises(InTheWay, match="inner"):
        bench.spaces.make(LOOP, tree)
    assert files_in(bench.root) == before
    assert bench.look().tree == EMPTY


def test_a_file_changed_since_it_was_looked_at_is_never_overwritten_or_deleted(bench: Bench) -> None:
    write(bench.root, a="1")
    first = bench.look().tree
    write(bench.root, a="2", b="2")
    bench.look()
    write(bench.root, a="3", b="3")
    for tree in (first, EMPTY):
        with pytest.raises(InTheWay):
            bench.spaces.make(LOOP, tree)
        assert {name: data for name, (_, data) in files_in(bench.root).items()} == {"a": b"3", "b": b"3"}


def test_a_file_that_the_repository_has_lost_is_not_overwritten(bench: Bench) -> None:
    write(bench.root, a="1", b="1")
    bench.look()
    write(bench.root, a="2")
    found = bench.look()
    first = git(bench.repository, "hash-object", "--stdin", stdin=b"2").decode().strip()
    (bench.repository / "objects" / first[:2] / first[2:]).unlink()
    bench.spaces.settle(LOOP, found.tree)
    with pytest.raises(InTheWay, match="a would be overwritten"):
        bench.spaces.make(LOOP, EMPTY)
    assert files_in(bench.root).keys() == {"a", "b"}


def test_files_that_are_nobodys_business_stay_where_they_are(bench: Bench) -> None:
    write(bench.root, a="1", d__b="1", _dot_gitignore="*.o\n")
    tree = bench.look().tree
    (bench.root / "a").unlink()
    shutil.rmtree(bench.root / "d")
    less = bench.look().tree
    bench.spaces.make(LOOP, tree)
    write(bench.root, d__x_dot_o="binary")
    bench.look()
    bench.spaces.make(LOOP, less)
    assert files_in(bench.root).keys() == {"d/x.o", ".gitignore"}
    bench.look()
    bench.spaces.make(LOOP, tree)
    assert files_in(bench.root).keys() == {"a", "d/b", "d/x.o", ".gitignore"}


@pytest.mark.parametrize(
    "line",
    ["100644 blob {blob}\t.git", "100644 blob {blob}\tgit~1", "160000 commit {blob}\tmodule", "100644 blob {blob}\t.."],
)
def test_a_tree_that_somebody_forged_touches_nothing(bench: Bench, line: str) -> None:
    blob = git(bench.repository, "hash-object", "-w", "--stdin", stdin=b"evil").decode().strip()
    mode, _, rest = line.format(blob=blob).partition(" ")
    raw = f"{mode} {rest.partition('	')[2]}\0".encode() + bytes.fromhex(blob)
    made = git(bench.repository, "hash-object", "-t", "tree", "-w", "--literally", "--stdin", stdin=raw)
    bench.look()
    with pytest.raises(Torn):
        bench.spaces.make(LOOP, TreeId(made.decode().strip()))
    assert files_in(bench.root) == {}


def test_a_loop_without_a_folder_has_one_of_its_own_and_a_deleted_one_is_made_anew(bench: Bench) -> None:
    write(bench.root, a="1")
    tree, fork = bench.look().tree, loop_name("fork")
    place = bench.spaces.place(fork)
    assert bench.repository in place.parents
    assert bench.look(fork) == (EMPTY, (), EMPTY, "")
    bench.spaces.make(fork, tree)
    assert files_in(place) == files_in(bench.root)
    shutil.rmtree(place)
    assert bench.look(fork) == (EMPTY, (), EMPTY, "")


def test_files_that_the_repository_no_longer_has_are_read_again(bench: Bench) -> None:
    write(bench.root, a="1")
    found = bench.look()
    bench.spaces.settle(LOOP, found.tree)
    for file in bench.repository.glob("objects/??/*"):
        file.unlink()
    bench.open()
    assert bench.look().tree == found.tree
    assert files_of(bench.repository, found.tree) == files_in(bench.root)


def test_what_was_looked_at_and_never_kept_is_written_again_by_the_next_process(bench: Bench) -> None:
    write(bench.root, a="1")
    bench.spaces.settle(LOOP, bench.look().tree)
    write(bench.root, a="2")
    kept = bench.look().tree
    bench.open()  # who has looked has died as soon as a commit held that
    write(bench.root, a="3")
    found = bench.look(kept=kept)
    assert found.settled == kept
    blob = git(bench.repository, "hash-object", "--stdin", stdin=b"3").decode().strip()
    for name in (blob, found.tree):  # as git may some weeks later, for no branch leads to them
        (bench.repository / "objects" / name[:2] / name[2:]).unlink()
    bench.open()
    assert bench.look(kept=kept) == found
    assert files_of(bench.repository, found.tree) == files_in(bench.root)


@pytest.mark.parametrize("junk", [b"", b"\x80", b"junk" * 99])
def test_an_index_that_cannot_be_read_costs_only_time(bench: Bench, junk: bytes) -> None:
    write(bench.root, a="1", d__b="2")
    found = bench.look()
    bench.spaces.settle(LOOP, found.tree)
    (bench.repository / "caesura.workspaces" / LOOP / "index").write_bytes(junk)
    bench.open()
    assert bench.look() == (found.tree, (), "", "")


def test_what_differs_between_two_trees_is_told_by_file(bench: Bench) -> None:
    write(bench.root, a="1", d__b="1", gone__x="1", same="1", f="1")
    old = bench.look().tree
    write(bench.root, a="2", d__c="1", f2__g="1")
    shutil.rmtree(bench.root / "gone")
    (bench.root / "f").unlink()
    write(bench.root, f__in="1")
    new = bench.look().tree
    found = [(change.kind, change.path) for change in bench.spaces.changes(old, new)]
    git_says = git(bench.repository, "diff-tree", "-r", "--no-renames", "--name-status", old, new).decode().splitlines()
    assert sorted(found) == sorted(tuple(line.split("\t")) for line in git_says)
