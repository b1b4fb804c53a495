"""Ignore rules: which files of a folder are nobody's business, by git's own rules.

Our own code: the libraries for it judge a path by all that is above it at once, and differ from git where one rule
takes back another's word. Here each folder is judged before what is in it, as git does.
"""

import os
import re
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from ._folder import read, stamp_at

_FILE = ".gitignore"
_LARGEST = 2**20
_CLASSES = {
    "alnum": "0-9A-Za-z",
    "alpha": "A-Za-z",
    "blank": " \\t",
    "cntrl": "\\x00-\\x1f\\x7f",
    "digit": "0-9",
    "graph": "!-~",
    "lower": "a-z",
    "print": " -~",
    "punct": "!-\\/:-@\\[-`{-~",
    "space": " \\t-\\r",
    "upper": "A-Z",
    "xdigit": "0-9A-Fa-f",
}


class _Rule(NamedTuple):
    """One rule: what it matches, a path or only its last part; whether only folders; whether it takes back others."""

    pattern: re.Pattern[str]
    whole: bool
    folders: bool
    keeps: bool


class Ignore:
    """The rules that hold in a folder: its own, then those of the folders above, then the person's."""

    def __init__(self, rules: tuple[_Rule, ...], path: str = "", above: "Ignore | None" = None) -> None:
        self._rules, self._path, self._above = rules, path, above

    def below(self, folder: int, path: str) -> "Ignore":
        """The rules in an open folder below, with those of its own file, if it has one."""
        rules = () if self is EVERYTHING else _rules(_lines(folder))
        return Ignore(rules, path, self) if rules else self

    def __call__(self, path: str, *, is_folder: bool) -> bool:
        """Whether the rules leave out what has a path, if nothing above it is left out."""
        name = path.rpartition("/")[2]
        rules: Ignore | None = self
        while rules is not None:
            inner = path[len(rules._path) + 1 :] if rules._path else path
            for rule in rules._rules:
                if (is_folder or not rule.folders) and rule.pattern.fullmatch(inner if rule.whole else name):
                    return not rule.keeps
            rules = rules._above
        return False


EVERYTHING = Ignore((_Rule(re.compile(".*", re.DOTALL), whole=False, folders=False, keeps=False),))
"""The rules within a folder that is left out."""


def own_rules(root: Path, excludes: str | None) -> Ignore:
    """The person's rules for all folders (git's ``core.excludesFile``), and those that a repository there has for
    itself."""
    settings = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    own = Path(excludes).expanduser() if excludes else settings / "git" / "ignore"
    rules = Ignore(_rules(_lines_of(own)))
    return Ignore(_rules(_lines_of(root / ".git" / "info" / "exclude")), "", rules)


def _lines_of(file: Path) -> list[str]:
    with suppress(OSError):
        if file.is_file() and file.stat().st_size <= _LARGEST:
            return file.read_text("utf-8", "surrogateescape").splitlines()
    return []


def _lines(folder: int) -> list[str]:
    seen = stamp_at(folder, _FILE)
    # Like git, none that is a link: it could lead anywhere.
    if seen is None or seen[4] & 0o170000 != 0o100000 or seen[2] > _LARGEST:
        return []
    with suppress(OSError):
        return read(folder, _FILE, seen).decode("utf-8", "surrogateescape").splitlines()
    return []


def _rules(lines: Iterable[str]) -> tuple[_Rule, ...]:
    """The rules in the lines of a file, the last one first: it has the last word."""
    rules: list[_Rule] = []
    for line in lines:
        with suppress(re.error):  # as a range that runs backwards: it matches nothing
            rule = _rule(line.removesuffix("\r"))
            if rule is not None:
                rules.insert(0, rule)
    return tuple(rules)


def _rule(line: str) -> _Rule | None:
    while line.endswith(" ") and not line.endswith("\\ "):
        line = line[:-1]
    if not line or line.startswith("#"):
        return None
    keeps = line.startswith("!")
    line = line[keeps:]
    folders = line.endswith("/")
    line = line.removesuffix("/")
    pattern = _translated(line.removeprefix("/"))
    if not line or pattern is None:
        return None
    return _Rule(re.compile(pattern, re.DOTALL), "/" in line, folders, keeps)


def _translated(glob: str) -> str | None:
    """A regular expression for one of git's patterns, or None if that matches nothing."""
    pieces: list[str] = []
    at = 0
    while at < len(glob):
        rest = glob[at:]
        at_start = at == 0 or glob[at - 1] == "/"
        if at_start and rest.startswith("**/"):
            pieces.append("(?:[^/]+/)*")
            at += 3
        elif at_start and at > 0 and rest == "**":
            pieces.append(".+")
            at += 2
        elif rest[0] == "*":
            pieces.append("[^/]*")
            at += len(rest) - len(rest.lstrip("*"))
        elif rest[0] == "?":
            pieces.append("[^/]")
            at += 1
        elif rest[0] == "[":
            found = _class(rest)
            if found is None:
                return None
            pieces.append(found[0])
            at += found[1]
        elif rest[0] == "\\":
            if len(rest) == 1:
                return None
            pieces.append(re.escape(rest[1]))
            at += 2
        else:
            pieces.append(re.escape(rest[0]))
            at += 1
    return "".join(pieces)


def _class(rest: str) -> tuple[str, int] | None:
    """A class of characters at the start of a text, and how long it is there."""
    at = 1
    negated = rest[1:2] in ("!", "^")
    at += negated
    pieces: list[str] = []
    while at < len(rest) and (rest[at] != "]" or not pieces):
        named = re.match(r"\[:([a-z]+):\]", rest[at:])
        if named is not None:
            if named[1] not in _CLASSES:
                return None
            pieces.append(_CLASSES[named[1]])
            at += named.end()
            continue
        if rest[at] == "\\":
            at += 1
            if at >= len(rest):
                return None
            pieces.append(re.escape(rest[at]))
        else:
            pieces.append("-" if rest[at] == "-" and pieces else re.escape(rest[at]))
        at += 1
    if at >= len(rest):
        return None
    inner = "".join(pieces)
    inner = inner[:-1] + r"\-" if inner.endswith("-") and not inner.endswith(r"\-") else inner
    return (f"(?![/])[^{inner}]" if negated else f"(?![/])[{inner}]"), at + 1
