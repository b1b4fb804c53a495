"""Merges of files: what git makes of two trees, and where it finds a conflict, beside ours."""

import itertools
import os
import random
import subprocess
from pathlib import Path

import pytest

from caesura.continuations import GitStore, TreeId, loop_name
from tests.workspaces import LOOP, Kept, files_in, files_of, git, something_happens

LINES = 12


def never(_: str) -> bool:
    return False


def tree_of(path: Path, root: Path) -> TreeId:
    """A folder's files as git puts them into a tree."""
    index, work = f"{root}.index", str(root)
    git(path, "-c", "core.excludesFile=", "add", "-A", "--force", GIT_INDEX_FILE=index, GIT_WORK_TREE=work)
    return TreeId(git(path, "write-tree", GIT_INDEX_FILE=index).decode().strip())


def made_of(folder: Path, files: Kept) -> None:
    for path, (mode, data) in files.items():
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        if mode == "120000":
            file.symlink_to(os.fsdecode(data))
        else:
            file.write_bytes(data)
            file.chmod(0o755 if mode == "100755" else 0o644)


def edited(root: Path, chance: random.Random) -> None:
    """Some lines of a file come, go or change, each to something that nobody else writes."""
    texts = [path for path in sorted(root.glob("text*")) if path.is_file() and not path.is_symlink()]
    if not texts:
        return
    path = chance.choice(texts)
    lines = path.read_text().splitlines(keepends=True)
    place = chance.randrange(len(lines) + 1)
    new = [f"{chance.random()}\n"] if chance.random() < 0.8 else []
    lines[place : place + chance.randint(0, 1)] = new
    path.write_text("".join(lines))


def changed(root: Path, chance: random.Random, times: int) -> None:
    for _ in range(times):
        if chance.random() < 0.6:
            edited(root, chance)
        else:
            something_happens(root, chance)


def commit(path: Path, tree: str, *parents: str) -> str:
    words = [word for parent in parents for word in ("-p", parent)]
    return git(path, "commit-tree", tree, *words, "-m", "x").decode().strip()


def merged_by_git(path: Path, base: str, ours: str, theirs: str) -> tuple[str, set[str]]:
    """The tree that git makes, and the paths at which it finds a conflict. It follows renames, whatever it is told."""
    root = commit(path, base)
    sides = [commit(path, tree, root) for tree in (ours, theirs)]
    done = subprocess.run(
        ["git", "-C", path, "merge-tree", "--write-tree", "-z", "--no-messages", *sides], capture_output=True
    )
    assert done.returncode in (0, 1), done.stderr
    tree, *lines = done.stdout.split(b"\0")
    found: set[str] = set()
    for line in filter(None, lines):
        name = os.fsdecode(line.partition(b"\t")[2])
        for side in sides:  # so git calls a file that a folder is in the way of
            name = name.replace(f"~{side}", "")
        found.add(name)
    return tree.decode(), found


def apart(files: Kept, conflicts: set[str]) -> Kept:
    """The files that no conflict is about."""
    return {
        path: kept
        for path, kept in files.items()
        if "~" not in path and not any(path == one or path.startswith(f"{one}/") for one in conflicts)
    }


def kinds(place: str) -> list[Kept]:
    """All that may be at a place: nothing, files with lines that go together and not, binaries, links, folders."""
    texts = [
        f"{place} {first}\n{place} 2\n{place} 3\n{place} {last}\n".encode() for first, last in ("14", "x4", "1x", "yy")
    ]
    found: list[Kept] = [{}]
    found += [{place: (mode, text)} for mode in ("100644", "100755") for text in texts]
    found += [{place: ("100644", b"\0" + place.encode() + end)} for end in (b"1", b"2")]
    found += [{place: ("120000", place.encode() + end)} for end in (b"1", b"2")]
    found += [{f"{place}/inner": ("100644", f"{place} within {number}\n".encode())} for number in (1, 2)]
    return found


def test_whatever_stood_at_a_path_and_was_made_of_it_is_merged_as_git_merges_it(tmp_path: Path) -> None:
    path = tmp_path / "r.git"
    store = GitStore.open(path, create=True)
    trees: list[Kept] = [{}, {}, {}]
    for number, chosen in enumerate(itertools.product(range(len(kinds(""))), repeat=3)):
        here = kinds(f"{number:04}")
        for tree, kind in zip(trees, chosen, strict=True):
            tree.update(here[kind])
    names: list[TreeId] = []
    for name, tree in zip(("base", "ours", "theirs"), trees, strict=True):
        made_of(tmp_path / name, tree)
        names.append(tree_of(path, tmp_path / name))
    by_git, conflicts = merged_by_git(path, *names)
    merged = store.workspaces().merge(loop_name(LOOP), names[0], names[1], names[2], never)
    assert {clash.path for clash in merged.clashes} == conflicts
    made = files_of(path, merged.tree)
    assert apart(made, conflicts) == apart(files_of(path, by_git), conflicts)
    assert {one: made[one] for one in conflicts & made.keys()} == {
        one: trees[1][one] for one in conflicts & trees[1].keys()
    }
    store.close()


def renames(path: Path, base: str, side: str) -> bool:
    return b"R" in git(path, "diff-tree", "-r", "-M", "--diff-filter=R", "--name-status", base, side)[:1]


@pytest.mark.parametrize("seed", range(120))
def test_files_are_merged_as_git_merges_them_and_stay_as_ours_where_it_finds_a_conflict(
    tmp_path: Path, seed: int
) -> None:
    chance = random.Random(seed)  # noqa: S311 - to be the same in each run
    path = tmp_path / "r.git"
    store = GitStore.open(path, create=True)
    base = tmp_path / "base"
    base.mkdir()
    for name in ("text", "text2"):
        (base / name).write_text("".join(f"{name} {line}\n" for line in range(LINES)))
    changed(base, chance, 6)
    sides: list[tuple[Path, TreeId]] = [(base, tree_of(path, base))]
    for turn in range(100):
        side = tmp_path / f"side-{turn}"
        side.mkdir()
        made_of(side, files_in(base))
        changed(side, chance, chance.choice((1, 3, 6)))
        tree = tree_of(path, side)
        sides += [] if renames(path, sides[0][1], tree) else [(side, tree)]
        if len(sides) == 3:
            break
    trees = [tree for _, tree in sides]
    by_git, conflicts = merged_by_git(path, *trees)
    merged = store.workspaces().merge(loop_name(LOOP), trees[0], trees[1], trees[2], never)
    assert {clash.path for clash in merged.clashes} == conflicts
    if not conflicts:
        assert merged.tree == by_git
    ours, made = files_in(sides[1][0]), files_of(path, merged.tree)
    assert apart(made, conflicts) == apart(files_of(path, by_git), conflicts)
    for one in conflicts:
        within = [{path: kept for path, kept in files.items() if path == one} for files in (made, ours)]
        assert within[0] == within[1]
    git(path, "fsck", "--strict", "--no-dangling")
    store.close()
