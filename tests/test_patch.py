"""Patches: what they show, and that git applies them to exactly what they say."""

import re
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from caesura.continuations import FileContent, cut_to, file_patch, summed
from caesura.continuations._patch import LARGEST_TEXT, MOST_EDITS, lines_of, quoted, unquoted
from caesura.continuations._workspace import LINK, PLAIN, SCRIPT
from tests.workspaces import files_in

LINES = st.lists(
    st.sampled_from(["a\n", "b\n", "\n", "c\r\n", "d\r", "é\u2028\n", "+x\n", "-- y\n", "\x1b[31m\n", "e"])
)
TEXTS = LINES.map(lambda lines: "".join(lines).encode())
DATA = TEXTS | st.sampled_from([b"\0", b"\xff\n", b"\0" * 200, bytes(range(256)) * 9])
FILES = st.builds(FileContent, DATA, st.sampled_from([PLAIN, SCRIPT]))
LINKS = st.builds(FileContent, st.sampled_from([b"nowhere", b"/etc/passwd", b"\xff"]), st.just(LINK))
CONTENTS = st.none() | FILES | LINKS
NAME = st.text(st.sampled_from('a.b -"\\\t\n\r\x1b\x7fé\u200b\u202e\udcff\udcfe{}'), min_size=1, max_size=6).filter(
    lambda name: name not in (".", "..")
)
PATHS = st.lists(NAME, min_size=1, max_size=3).map("/".join)


def put(root: Path, path: str, content: FileContent | None) -> None:
    if content is None:
        return
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    if content.mode == LINK:
        file.symlink_to(content.data.decode("utf-8", "surrogateescape"))
    else:
        file.write_bytes(content.data)
        file.chmod(0o755 if content.mode == SCRIPT else 0o644)


def apply(root: Path, patch: str) -> None:
    done = subprocess.run(
        ["git", "apply", "--whitespace=nowarn", "-"],
        cwd=root,
        input=patch.encode(),
        capture_output=True,
        env={"PATH": "/usr/bin:/bin", "GIT_CEILING_DIRECTORIES": str(root.parent), "GIT_CONFIG_NOSYSTEM": "1"},
    )
    assert done.returncode == 0, (done.stderr, patch)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(path=PATHS, old=CONTENTS, new=CONTENTS)
def test_git_applies_a_patch_to_what_was_and_makes_what_it_shows(
    tmp_path_factory: pytest.TempPathFactory, path: str, old: FileContent | None, new: FileContent
) -> None:
    if old == new:
        return
    patch = file_patch(path, old, new)
    was, expected = tmp_path_factory.mktemp("was"), tmp_path_factory.mktemp("expected")
    put(was, path, old)
    put(expected, path, new)
    apply(was, patch.text)
    assert files_in(was) == files_in(expected)
    assert file_patch(path, old, new) == patch


TEXT = FileContent(b"one\ntwo\nthree\n")


def lines_like_gits(old: FileContent | None, new: FileContent | None, path: str, root: Path) -> str:
    """What git itself shows of two files, with whole ids and names as they are."""
    subprocess.run(["git", "init", "-q", str(root)], check=True)
    git = ["git", "-C", str(root), "-c", "core.quotePath=false", "-c", "core.autocrlf=false"]
    trees = []
    for content in (old, new):
        (root / path).unlink(missing_ok=True)
        put(root, path, content)
        subprocess.run([*git, "add", "-A"], check=True, capture_output=True)
        trees.append(subprocess.run([*git, "write-tree"], check=True, capture_output=True, text=True).stdout.strip())
    words = ["diff-tree", "-p", "--full-index", "--no-renames", "--diff-algorithm=minimal", *trees]
    return subprocess.run([*git, *words], check=True, capture_output=True).stdout.decode()


@pytest.mark.parametrize(
    ("old", "new", "path"),
    [
        (TEXT, TEXT._replace(data=b"one\n2\nthree\n"), "src/with space.py"),
        (TEXT, TEXT._replace(mode=SCRIPT), 'quo"te\t\\'),
        (TEXT, TEXT._replace(data=b"one\ntwo\nthree", mode=SCRIPT), "lösung"),
        (None, FileContent(b""), "empty"),
        (TEXT, None, "gone"),
        (TEXT, FileContent(b"one\n", LINK), "link"),
        (FileContent(b"a\r\nb\rc\x0b\xe2\x80\xa8\r\n"), FileContent(b"a\r\nb\rc\x0b\xe2\x80\xa8\n"), "crlf"),
        (FileContent(b"%d\n" * 40), FileContent(b"x\n" + b"%d\n" * 30 + b"y\n" + b"%d\n" * 10), "far"),
    ],
)
def test_a_patch_is_what_git_shows(tmp_path: Path, old: FileContent | None, new: FileContent | None, path: str) -> None:
    # Git names a function after the second @@.
    shown = re.sub(r"^(@@ .* @@).*$", r"\1", lines_like_gits(old, new, path, tmp_path), flags=re.MULTILINE)
    assert file_patch(path, old, new).text == shown


@given(path=PATHS)
def test_a_quoted_path_is_printable_and_says_which_it_is(path: str) -> None:
    assert quoted(path).isprintable()
    assert unquoted(quoted(path)) == path


@given(text=st.text())
def test_whatever_a_stranger_quotes_is_some_path(text: str) -> None:
    assert isinstance(unquoted(f'"{text}"'), str)


@given(old=TEXTS, new=TEXTS)
def test_the_lines_that_are_counted_are_those_that_differ(old: bytes, new: bytes) -> None:
    patch = file_patch("f", FileContent(old), FileContent(new)) if old != new else None
    if patch is not None:
        before, after = (lines_of(text.decode()) for text in (old, new))
        assert patch.added - patch.removed == len(after) - len(before)
        longest = _longest_common(before, after)
        assert patch.removed == len(before) - longest  # no more goes than has to


def _longest_common(one: list[str], other: list[str]) -> int:
    row = [0] * (len(other) + 1)
    for line in one:
        above = 0
        for place, candidate in enumerate(other, 1):
            row[place], above = (above + 1 if line == candidate else max(row[place], row[place - 1])), row[place]
    return row[-1]


def test_files_that_differ_too_much_to_be_compared_are_shown_all_the_same(tmp_path: Path) -> None:
    old = FileContent(b"first\n" + b"".join(b"%d\n" % number for number in range(MOST_EDITS)) + b"last\n")
    new = FileContent(b"first\n" + b"".join(b"%d\n" % number for number in range(5000, 0, -1)) + b"last\n")
    patch = file_patch("f", old, new)
    assert (patch.removed, patch.added) == (MOST_EDITS, 5000)
    put(tmp_path, "f", old)
    apply(tmp_path, patch.text)
    assert (tmp_path / "f").read_bytes() == new.data


def test_a_large_file_is_not_compared_line_by_line() -> None:
    large = FileContent(b"x\n" * (LARGEST_TEXT // 2 + 1))
    assert file_patch("f", large, FileContent(b"")).binary


def test_patches_are_cut_to_so_many_lines_and_say_how_many_are_left_out() -> None:
    patches = [file_patch(name, None, FileContent(b"a\n" * 10)) for name in "xyz"]
    assert summed(patches) == "3 files, +30 -0"
    assert cut_to(patches, 1000, 10_000) == tuple(patches)
    first, second, third = cut_to(patches, 20, 10_000)
    assert first == patches[0]
    assert (len(lines_of(second.text)), second.cut, second.added) == (4, 12, 10)
    assert (third.text, third.cut) == ("", 16)
    assert patches[1].text.startswith(second.text)
    short = cut_to(patches, 1000, 100)
    assert sum(len(one.text) for one in short) <= 100
    assert [one.cut for one in cut_to(short, 1, 100)] == [15, 16, 16]
