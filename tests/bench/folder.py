"""What it costs a step to look at files that nobody has changed, beside what git asks of the same folder."""

import os
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from caesura.continuations import Files, History, Saved, Started, User, WorkerId, loop_name

from .job import Job, Outcome
from .ours import AGENT, AUTHOR, BEGIN, COMMITTER, opened
from .plain import git
from .scale import timed

LOOK = "caesura, as in a step"
STATUS = "git status --porcelain"
ADD = "git add -A && git write-tree"
STAT = "os.lstat of each file"

_IN_ONE = 100
"""Files of a folder."""


def files(job: Job) -> Outcome:
    """Looks at `size` files, in turn with git, so many `steps`; every side must say that they are the same tree.

    Raises:
        ValueError: one says something else.
    """
    folder, root = Path(job.folder), Path(job.folder) / "files"
    places = _made(root, job.size)
    git(root, "init", "--quiet")
    git(root, "add", "--all")
    git(root, "commit", "--quiet", "--message=files")
    with closing(opened(folder, "durable")) as store:
        ours = Files(History(store))
        saved = _begun(ours, History(store), root)
        took: dict[str, list[float]] = {LOOK: [], STATUS: [], ADD: [], STAT: []}
        for number in range(1 + job.steps):
            times = (
                timed(ours.check_kept, saved),
                timed(_status, root),
                timed(_add, root, saved),
                timed(_stat, places),
            )
            if number:  # the first of each may have something to note
                for name, seconds in zip(took, times, strict=True):
                    took[name].append(seconds)
    return Outcome(side=job.side, figures=took)


def _made(root: Path, count: int) -> list[tuple[Path, Sequence[str]]]:
    """Make files, so many in a folder; the folders, with the names in each."""
    made: list[tuple[Path, Sequence[str]]] = []
    for first in range(0, count, _IN_ONE):
        place = root / f"{first // _IN_ONE:03}"
        place.mkdir(parents=True)
        names = [f"{number:05}.txt" for number in range(first, min(first + _IN_ONE, count))]
        for name in names:
            (place / name).touch()  # empty: it takes a disk long to find room for so many
        (place / names[0]).write_text(place.name)
        made.append((place, names))
    return made


def _begun(files: Files, history: History, root: Path) -> Saved:
    """A loop that works in a folder."""
    new, workspace = files.begin(root)
    begun = Started(
        at=BEGIN,
        definition=AGENT,
        prompt=User(content=""),
        nonce="files",
        worker=WorkerId("bench"),
        workspace=workspace,
    )
    saved = history.begin(loop_name("files"), begun, AUTHOR, COMMITTER)
    files.began(new, saved)
    return saved


def _status(root: Path) -> None:
    if git(root, "status", "--porcelain"):
        raise ValueError("git says that files were changed")


def _add(root: Path, saved: Saved) -> None:
    git(root, "add", "--all")
    tree = git(root, "write-tree").strip()
    if saved.state.workspace is None or tree != saved.state.workspace.tree:
        raise ValueError("caesura and git do not have the same tree")


def _stat(places: Sequence[tuple[Path, Sequence[str]]]) -> None:
    """The least: nothing else says of a file whether it was changed."""
    for place, names in places:
        folder = os.open(place, os.O_RDONLY | os.O_DIRECTORY)
        for name in names:
            os.lstat(name, dir_fd=folder)
        os.close(folder)
