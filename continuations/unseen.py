"""What a person who is asked about a loop has not seen of its files: what it has changed since they last looked."""

from collections.abc import Callable, Iterator
from functools import partial

from ._ids import CommitId, loop_name
from ._messages import Value
from ._patch import FilePatch, file_patch, kind_of, quoted, unquoted
from ._requests import Request
from ._trailers import trailers
from ._workspace import FileContent
from .files import Files, Filing, workspace_of
from .folder import Folder, NotHere
from .history import saved_from
from .sharing import holder
from .store import Store
from .store._refused import or_refused

LOOKED = frozenset(
    {"Started", "Imported", "Answered", "Told", "FilesChanged", "Repaired"}
    | {"Rewound", "Amended", "Reworded", "Edited", "Overridden", "Rehearsed"}
)
"""The events of a person who had the loop before them as it was then, and those that begin it. One who decided says
which commit they saw."""

COMPARED, FILES = 8 * 2**20, 500
"""Bytes of files, and files, that are compared unless the whole is asked for; those after them are only named."""


class FilesDiff(Value, frozen=True, kw_only=True):
    """How a loop's files in the commit `until` differ from those in `since`, in which a person saw the loop last."""

    since: CommitId
    until: CommitId
    files: tuple[FilePatch, ...]


class Unseen(Filing):
    """What of the files of loops people have not seen."""

    def unseen(self, of: Request | str, *, whole: bool = False) -> FilesDiff:
        """What a loop has changed in its files since a person last looked at it: up to what a request shows, or now.

        A person has looked at what they decided on (the commit that was shown to them), and at the loop when they
        answered or told it something, kept or restored its files, or made a fork that departs from it; else it is
        counted from the beginning. What was changed by hand since the last commit is in `files`. A file is only named,
        with a note, if there is more before it than `COMPARED` or `FILES` allow, unless the `whole` is asked for.

        Raises:
            NoSuchLoop, NoFiles: there is no such loop, or it works on none.
            Torn: what it was before cannot be read.
        """
        if isinstance(of, Request):
            saved = saved_from(of.loop, self._store.read(of.commit))
        else:
            saved = self._history.load(loop_name(of))
        now = workspace_of(saved)
        since = last_looked(self._store, saved.commit)
        then = self._store.read(since).state.workspace
        files = self._differing("" if then is None else then.tree, now.tree, whole=whole)
        return FilesDiff(since=since, until=saved.commit, files=tuple(files))

    def _differing(self, old: str, new: str, *, whole: bool) -> Iterator[FilePatch]:
        store = self._store.workspaces()
        read = 0
        for number, (path, was, now) in enumerate(store.differences(old, new)):
            if not whole and (read > COMPARED or number >= FILES):
                yield FilePatch(path=quoted(path), kind=kind_of(was, now), note="not compared: too much is changed")
                continue
            before, after = (None if one is None else store.content(one) for one in (was, now))
            read += sum(len(one.data) for one in (before, after) if one is not None)
            if before != after:
                yield file_patch(path, before, after)

    def outdated(self, request: Request) -> tuple[str, ...]:
        """The files of a request's preview that are not as they were when it was made, as the preview names them.

        What counts is the loop's folder, or, where that is not there or not in use, its last commit.

        Raises:
            NoSuchLoop: the loop is gone.
            Unavailable: a file may not be read.
        """
        if request.preview is None or not request.preview.files:
            return ()
        saved, store = self._history.load(request.loop), self._store.workspaces()
        tree = Files(self._history).newest(saved).tree
        folder = store.standing(holder(self._history, saved).loop, tree)
        find = partial(store.found, tree) if folder is None else Folder(folder).content
        with or_refused(f"The files of {request.loop} could not be read"):
            return tuple(file.path for file in request.preview.files if _is_another(file, find))


def _is_another(file: FilePatch, find: Callable[[str], FileContent | None]) -> bool:
    """Whether what is found at a file's path is not what its patch begins with."""
    try:
        now = find(unquoted(file.path))
    except NotHere:  # something that no file can replace
        return True
    return (file.before, file.mode) != (("", 0) if now is None else (now.id, now.mode))


def last_looked(store: Store, head: CommitId) -> CommitId:
    """The newest commit up to a head that a person has seen; the first one if they have seen none."""
    seen = set[str]()
    commit = head
    for commit, message in store.line(head):
        said = trailers(message)
        if commit in seen or not LOOKED.isdisjoint(said.get("Event", ())):
            break
        seen.update(said.get("Seen", ()))
    return commit
