"""The files of child loops, merged into those of their parents by the commits that take their results."""

from collections.abc import Iterator

from msgspec.structs import replace

from ._calls import Person
from ._child_files import FileConflict
from ._events import ChildFailed, ChildFinished
from ._patch import cut_to, file_patch
from ._text import count
from ._workspace import LINK
from .files import Files
from .history import History, Saved
from .store._merging import Clash

ChildEnd = ChildFinished | ChildFailed

_SHOWN = 4_000
_ALL_SHOWN = 16_000
_MOST_LINES = 1_000


class Merging:
    """Takes the ends of child loops. Synchronous, and for one thread at a time, as the history is."""

    def __init__(self, history: History) -> None:
        self._history, self._files = history, Files(history)

    def take(self, saved: Saved, event: ChildEnd, committer: Person, author: Person) -> Saved:
        """Commit how a child loop ended, on the newest state of its parent; if it has returned and worked on a copy of
        the parent's files, with the child's merged into them, and the folder made so then. One that worked in the same
        folder leaves what is there.

        Files that do not go together stay as the parent has them, and its model is told. The child's are in its last
        commit, which is a parent of this one.

        Raises:
            UnkeptFiles: somebody else has changed the parent's files. Nothing was committed, or touched.
            InTheWay: something that no commit holds would be overwritten.
            Unkeepable, TooLarge, Unavailable: they cannot be read, kept or written.
            NotApplicable, Contended: as in `History.apply`.
        """
        done = event

        def with_files(now: Saved) -> ChildEnd:
            nonlocal done
            done = self._with_files(now, event)
            return done

        made = self._history.apply(saved, with_files, committer, author)
        if done.workspace is not None:
            settle = self._files.take_up if isinstance(done, ChildFinished) else self._files.settle
            settle(made)
        return made

    def _with_files(self, saved: Saved, event: ChildEnd) -> ChildEnd:
        ours, child = saved.state.workspace, self._history.children(saved).get(event.call)
        theirs, base = (None, None) if child is None else (child.state.workspace, child.state.copy_of)
        if child is not None and child.state.shared is not None:
            return self._files.sealed(saved, event)
        if ours is None or child is None or theirs is None or base is None or theirs.tree == base:
            return event
        if isinstance(event, ChildFailed):
            return replace(event, kept_in=child.commit)
        merged, clashes = self._files.merged(saved, base, theirs.tree)
        return replace(
            event,
            workspace=None if merged == ours else merged,
            conflicts=tuple(self._conflicts(clashes)),
            kept_in=child.commit if clashes else None,
        )

    def _conflicts(self, clashes: tuple[Clash, ...]) -> Iterator[FileConflict]:
        left = _ALL_SHOWN
        for clash in clashes:
            shown = self._shown(clash)
            shown = shown if len(shown) <= left else ""
            left -= len(shown)
            yield FileConflict(path=clash.path, why=clash.why, shown=shown)

    def _shown(self, clash: Clash) -> str:
        """What a child made of a file, for a model to do the same to what stands there."""
        theirs = clash.theirs
        if theirs is None or theirs.is_folder:
            return ""
        content = self._history.store.workspaces().content
        now = content(theirs)
        if now.mode == LINK:
            return f"There it leads to {now.data.decode('utf-8', 'replace')}"
        before = content(clash.base) if clash.base is not None and clash.base.is_file else None
        patch = file_patch(clash.path, before, now)
        if patch.binary:
            return f"There it has {count(len(now.data), 'byte')}, and is no text."
        (patch,) = cut_to([patch], _MOST_LINES, _SHOWN)
        _, begins, lines = patch.text.partition("\n--- ")  # without what is for git alone
        text = f"--- {lines}" if begins else patch.text
        return text.rstrip("\n") + (f"\n[… {count(patch.cut, 'more line')}]" if patch.cut else "")
