"""The files that belong to loops: found as the loops left them, committed as they are, put where a fork works."""

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import msgspec
from msgspec.structs import replace

from ._calls import Person
from ._errors import CallerError, ConflictError, SavedStateError
from ._events import ChildFailed, FilesChanged, ToolAsked, ToolFailed, ToolReturned
from ._ids import LoopName, TreeId, loop_name, root_of
from ._moves import NotApplicable, unfinished
from ._text import count, one_line
from ._workspace import Origin, Workspace
from .archive import Archive
from .history import History, Saved
from .leases import held
from .sharing import committed, holder
from .store import FileChange, Occupied, TooLarge, Unkeepable
from .store._merging import Clash
from .store._refused import or_refused

FolderEnd = ToolReturned | ToolFailed | ToolAsked | ChildFailed
E = TypeVar("E")

_WHAT = "The files of a loop could not be written"
_NAMED = 5
_LEFT_OUT = 100


class NoFiles(CallerError):
    """The loop works on no files."""


class UnkeptFiles(ConflictError):
    """A loop's files are not as its last commit has them: somebody else changed them, or a tool that was cut short."""


class Apart(ConflictError):
    """A loop's files were changed, and so was what its commits say they are, each without the other."""


class LoopFiles(msgspec.Struct, frozen=True, kw_only=True):
    """The files of a loop: the folder that they are in, what was changed there since the loop's last commit, and what
    is there and left out of the commits. `origin` is the commit of a project that they were at first, if any. `behind`
    says that nobody has changed them, and that they are an earlier commit's, or not there, until the loop goes on."""

    loop: LoopName
    folder: str
    changes: tuple[FileChange, ...]
    left_out: tuple[str, ...]
    origin: Origin | None = None
    behind: bool = False


class Files:
    """The files of a history's loops. Synchronous, and for one thread at a time, as the history is."""

    def __init__(self, history: History) -> None:
        self._history = history

    def folder(self, saved: Saved) -> Path:
        """The folder that a loop's files are in, or will be."""
        return self._history.store.workspaces().place(holder(self._history, saved).loop)

    def newest(self, saved: Saved) -> Workspace:
        """The files of the folder that a loop works in, as they were committed last: by the loop or by another there.

        Raises:
            NoFiles: it works on none.
        """
        return self._held(saved)[1]

    def begin(self, folder: str | os.PathLike[str]) -> tuple[LoopName, Workspace]:
        """Let a loop that is about to be made work in a folder, as it is now: the name that stands for it until then,
        for `intend` and `began`, and the files.

        Raises:
            Occupied: it is the folder of a loop that has not ended.
            Unkeepable, TooLarge: the files there cannot be kept. Nothing was written.
            Unavailable: the store keeps no files, or they cannot be written.
        """
        self._check_free(Path(folder))
        new = self._history.store.workspaces().begin(Path(folder))
        return new, self._look(new, "")[0]

    def begin_from(
        self, text: str, folder: str | os.PathLike[str] | None, *, borrow: bool = False
    ) -> tuple[LoopName | None, Workspace, Origin]:
        """`begin` with the files of the commit that ``PATH@REVISION`` names, put into a folder that is empty or not
        there as soon as the loop is driven; without one, into the loop's own.

        With `borrow` the repository does not copy them, and needs that project from now on.

        Raises:
            NoProject, NoSuchRevision: nothing has that name.
            Unkeepable, Occupied: the folder is not empty, or that of a loop that has not ended.
            TooLarge, Torn, Unavailable: the files cannot be had. Nothing was written.
        """
        store = self._history.store
        if folder is not None:
            self._check_free(Path(folder))
        with or_refused(_WHAT):
            tree, origin = store.projects().take(text, self._history.redaction.holds_secret, borrow=borrow)
            new = None if folder is None else store.workspaces().begin(Path(folder), empty=True)
        return new, Workspace(tree=tree), origin

    def intend(self, new: LoopName, loop: LoopName, nonce: str) -> None:
        """Say what the loop will be called, and its nonce."""
        with or_refused(_WHAT):
            self._history.store.workspaces().intend(new, loop, nonce)

    def began(self, new: LoopName, saved: Saved) -> None:
        """Note that a loop has been made to work where `begin` was told."""
        with or_refused(_WHAT):
            self._history.store.workspaces().adopt(new, saved.loop)
        if saved.state.origin is None:  # else they are still to be put there
            self.settle(saved)

    def _check_free(self, folder: Path, but: LoopName | None = None) -> None:
        for other in self._others(folder):
            if other.state.ending is None and other.loop != but:
                raise Occupied(
                    f"{folder} is the folder of {other.loop}, which is {other.state.status}.",
                    hint=f"Go on with that, 'caesura resume {other.loop}', or fork it: a fork has a folder of its own.",
                )

    def _others(self, folder: Path) -> Iterator[Saved]:
        """The loops that were told to work in a folder."""
        for name in self._history.store.workspaces().at(folder):
            with suppress(CallerError, SavedStateError):  # nothing of that name can be driven
                saved = self._history.load(loop_name(name))
                if saved.state.workspace is not None:
                    yield saved

    def check_kept(self, saved: Saved) -> None:
        """Make sure that all which was changed by hand in a loop's folder is in a commit of it.

        Raises:
            UnkeptFiles: it is not.
            Unkeepable, TooLarge, Unavailable: it cannot be read, or not be kept.
        """
        if saved.state.workspace is None or not self.folder(saved).exists():
            return
        home, workspace = self._held(saved)
        now, settled, _ = self._now(home, workspace)
        if now.tree not in (settled, workspace.tree):
            raise self._unkept(saved, home, now, workspace)

    def settle(self, saved: Saved) -> None:
        """Note that a commit holds the files as they were looked at last."""
        if saved.state.workspace is not None:
            home = holder(self._history, saved)
            with or_refused(_WHAT):
                self._history.store.workspaces().settle(home.loop, saved.state.workspace.tree)

    def occupy(self, saved: Saved) -> Callable[[], None]:
        """Keep other loops out of a loop's folder until what this returns is called, or this process ends.

        Raises:
            Occupied: another loop works there now.
            Unkeepable, Unavailable: it cannot be read, or made.
        """
        if saved.state.workspace is None:
            return lambda: None
        store, home = self._history.store.workspaces(), holder(self._history, saved)
        with or_refused(_WHAT):
            store.claim(home.loop, home.state.nonce)
            return store.occupy(home.loop)

    def take_up(self, saved: Saved) -> None:
        """Make sure that a loop's folder holds the files that were committed last, before anything is done with them.

        A folder that nobody has touched is made so, and only what differs is written.

        Raises:
            UnkeptFiles: somebody else has changed them. Nothing was touched.
            InTheWay: something that no commit holds would be overwritten.
            Unkeepable, TooLarge, Unavailable: they cannot be read, kept or written.
        """
        if saved.state.workspace is None:
            return
        store, (home, workspace) = self._history.store.workspaces(), self._held(saved)
        now, settled, target = self._now(home, workspace)
        if now.tree != workspace.tree and not self._is_untouched(now, settled, target):
            raise self._unkept(saved, home, now, workspace)
        with or_refused(_WHAT):
            if now.tree == workspace.tree:
                store.settle(home.loop, workspace.tree)
            else:
                store.make(home.loop, workspace.tree)

    def sealed(self, saved: Saved, event: E) -> E:
        """The end of a tool's attempt, or of a child loop that failed in the same folder, with the loop's files as they
        are now if that is not as they were.

        What cannot be kept, or is left out, the model is told with a tool's result: it may be able to mend that.
        """
        before = saved.state.workspace
        if before is None or not isinstance(event, FolderEnd):
            return event
        home, known = self._held(saved)
        try:
            found = self._now(home, known)[0]
        except (Unkeepable, TooLarge) as error:
            return _with_note(event, f"The files are not kept as they are now: {error} {error.hint}")
        if found == before:
            return event
        event = replace(event, workspace=found)
        new = [name for name in found.left_out if name not in before.left_out]
        note = f"Not kept, because of a secret in it or of its name: {', '.join(new)}"
        return _with_note(event, note) if new else event

    def merged(self, saved: Saved, base: TreeId, theirs: TreeId) -> tuple[Workspace, tuple[Clash, ...]]:
        """A loop's files with those of a tree merged into them, both made of `base`, and what clashed. The folder is as
        it was committed last, and can be made so: `take_up` does that once they are in a commit.

        Raises:
            NoFiles: it works on none.
            UnkeptFiles, InTheWay, Unkeepable, TooLarge, Unavailable: as in `take_up`.
        """
        (home, workspace), store = self._held(saved), self._history.store.workspaces()
        with or_refused(_WHAT):
            found = store.merge(home.loop, base, workspace.tree, theirs, self._history.redaction.holds_secret)
        if found.tree != workspace.tree:
            self.take_up(saved)
            with or_refused(_WHAT):
                store.check(home.loop, found.tree)
        return replace(workspace, tree=found.tree).follows(workspace), found.clashes

    def of(self, saved: Saved) -> LoopFiles:
        """A loop's files, and what was changed in them since its last commit.

        Raises:
            NoFiles: it works on none.
        """
        home, workspace = self._held(saved)
        store = self._history.store.workspaces()
        with or_refused(_WHAT):
            store.claim(home.loop, home.state.nonce)
        left_out, changes, behind = store.peek(home.loop, workspace.tree, self._history.redaction.holds_secret)
        return LoopFiles(
            loop=saved.loop,
            folder=str(store.place(home.loop)),
            changes=changes,
            left_out=self._named(left_out),
            origin=saved.state.origin,
            behind=behind,
        )

    def keep(self, saved: Saved, event: FilesChanged) -> Saved:
        """Commit a loop's files as they are now, as a step by a person. With nothing changed, nothing is done.

        Raises:
            NoFiles: it works on none.
            Apart: they were changed from others than the loop's last commit has.
        """
        home, workspace = self._held(saved)
        if saved.state.ending is not None and home.loop != saved.loop:
            raise NotApplicable(
                f"{saved.loop} {saved.state.ending.said}; its folder is that of {home.loop}.",
                hint=f"Name that one: 'caesura files {home.loop}'.",
            )
        unfinished(saved.state, event)
        now, settled, target = self._now(home, workspace)
        if now.tree != workspace.tree and not self._is_untouched(now, settled, target):
            if settled not in ("", workspace.tree):
                raise Apart(
                    f"The files of {saved.loop} were changed from older ones than its last commit has.",
                    hint="Copy what you changed to another folder, then delete this one: resuming makes it anew.",
                )
            saved = self._history.apply(saved, replace(event, workspace=now), event.by)
            self.settle(saved)
        return saved

    def put_back(self, saved: Saved, event: FilesChanged) -> Saved:
        """Make a loop's files again what its last commit has; what somebody has changed is kept in a commit before.

        Raises:
            NoFiles, Apart, InTheWay: as in `keep` and `take_up`.
            Occupied: the folder is another loop's by now.
        """
        home, workspace = self._held(saved)
        if self._is_untouched(*self._now(home, workspace)):
            self._check_free(self.folder(home), but=home.loop)
            leave = self.occupy(saved)
            try:
                self.take_up(saved)
            finally:
                leave()
            return saved
        kept = self.keep(saved, event)
        if kept.commit == saved.commit:
            return saved
        kept = self._history.apply(kept, replace(event, workspace=workspace), event.by)
        self.take_up(kept)
        return kept

    def _held(self, saved: Saved) -> tuple[Saved, Workspace]:
        """The loop whose folder a loop works in, and the files there as they were committed last."""
        workspace_of(saved)
        home = holder(self._history, saved)
        return home, committed(self._history, home) or workspace_of(home)

    def _now(self, home: Saved, known: Workspace) -> tuple[Workspace, str, str]:
        """The files in a loop's own folder as they are now, as they were when a commit held them, and as they were
        being made; the first as a later edition than the one that is known, unless they are the same."""
        with or_refused(_WHAT):
            self._history.store.workspaces().claim(home.loop, home.state.nonce)
        found, settled, target = self._look(home.loop, known.tree)
        return found.follows(known), settled, target

    def _look(self, loop: LoopName, kept: str) -> tuple[Workspace, str, str]:
        with or_refused(_WHAT):
            found = self._history.store.workspaces().look(loop, kept, self._history.redaction.holds_secret)
        return Workspace(tree=found.tree, left_out=self._named(found.left_out)), found.settled, found.target

    def _named(self, left_out: tuple[str, ...]) -> tuple[str, ...]:
        """Files that are left out, as they may be named in a commit."""
        return tuple(one_line(self._history.redaction.text(name), 200) for name in left_out[:_LEFT_OUT])

    def _is_untouched(self, now: Workspace, settled: str, target: str) -> bool:
        """Whether files are as a commit had them, or as a checkout that was cut short has left them."""
        store = self._history.store.workspaces()
        return now.tree == settled or (bool(target) and store.is_between(now.tree, settled, target))

    def _unkept(self, saved: Saved, home: Saved, now: Workspace, then: Workspace) -> UnkeptFiles:
        loop, store = saved.loop, self._history.store.workspaces()
        place = store.place(home.loop)
        names = [one_line(change.path, 100) for change in store.changes(then.tree, now.tree)]
        more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
        others = [other.loop for other in self._others(place) if other.loop != home.loop]
        too = f" {', '.join(others)} worked there, too." if others else ""
        hint = (
            f"'caesura files {loop}' lists them; with --keep it commits them as yours, with --restore it puts back"
            " those of the loop."
        )
        if saved.state.ending is not None:
            hint += f" It has ended, so first let it go on: 'caesura tell {loop} TEXT'; or copy them to another place."
        return UnkeptFiles(
            f"In {place}, {count(len(names), 'file')} {'differs' if len(names) == 1 else 'differ'} from the"
            f" last commit of {loop}: {', '.join(names[:_NAMED])}{more}.{too}",
            hint=hint,
        )


def workspace_of(saved: Saved) -> Workspace:
    """The files that a loop works on.

    Raises:
        NoFiles: it works on none.
    """
    if saved.state.workspace is None:
        raise NoFiles(f"{saved.loop} works on no files.", hint="'caesura run --workspace FOLDER' starts one that does.")
    return saved.state.workspace


def _with_note(event: E, note: str) -> E:
    note = f"\n[{note}]"
    match event:
        case ToolReturned():
            return replace(event, content=event.content + note)
        case ToolFailed():
            return replace(event, error=event.error + note)
        case _:
            return event


class Filing(Archive):
    """What people do with the files of loops."""

    def files(self, loop: str) -> LoopFiles:
        """A loop's files: where they are, and what was changed in them since its last commit.

        Raises:
            NoSuchLoop, NoFiles: there is no such loop, or it works on none.
        """
        return Files(self._history).of(self._history.load(loop_name(loop)))

    def keep_files(self, loop: str, *, restore: bool = False, by: Person | str | None = None) -> Saved:
        """Commit the files of a loop that rests as they are now, as a step of yours; with `restore`, and then put those
        of its last commit back. With nothing changed no step is made.

        Raises:
            NoSuchLoop, NoFiles: there is no such loop, or it works on none.
            StillDriven: a living worker drives it; what its tools do commits the files.
            NotApplicable: it has ended, and somebody has changed them since.
            Apart, InTheWay: they are not what this can be done to. Nothing was lost.
        """
        name, now = loop_name(loop), self._now()
        with held(self._store, root_of(name), now):
            saved, files = self._history.load(name), Files(self._history)
            event = FilesChanged(at=now, workspace=workspace_of(saved), by=self._person(by))
            return files.put_back(saved, event) if restore else files.keep(saved, event)
