"""Differences between two trees of files."""

from collections.abc import Iterator

from .._patch import kind_of
from ._folder import FileChange
from ._format import Entry
from ._trees import Trees


def changes(trees: Trees, old: str, new: str) -> Iterator[FileChange]:
    """The files that two trees do not have alike, in the order of their paths."""
    for path, was, now in differences(trees, old, new):
        yield FileChange(kind_of(was, now), path)


def differences(trees: Trees, old: str, new: str, above: str = "") -> Iterator[tuple[str, Entry | None, Entry | None]]:
    """The paths at which two trees do not have the same file, in order, with what each of them has there."""
    if old == new:
        return
    before = trees.read(old) if old else {}
    after = trees.read(new) if new else {}
    for name in sorted(before.keys() | after.keys()):
        path = f"{above}{name}"
        was, now = before.get(name), after.get(name)
        if was == now:
            continue
        inner, other = (one.id if one is not None and one.is_folder else "" for one in (was, now))
        yield from differences(trees, inner, other, f"{path}/")
        was, now = (None if one is None or one.is_folder else one for one in (was, now))
        if was is not None or now is not None:
            yield path, was, now


def is_between(trees: Trees, now: str, old: str, new: str) -> bool:
    """Whether each file in one tree is as it is in one of two others: what a checkout that was cut short leaves."""
    aside = {path for path, _, _ in differences(trees, old, now)}
    return all(path not in aside for path, _, _ in differences(trees, now, new))
