"""Refs that are moved together: all or none, whatever happens in between.

A ref of its own is a file, and no two files change at once. But all refs can stand in one: so they are first put as
they are into the packed refs, then these are replaced by a copy in which all of them have moved. Git has locked out
whoever would move one meanwhile.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import NamedTuple

from .._errors import CaesuraError
from .._ids import BadName, LoopName, loop_name
from . import _disk
from ._errors import Torn, Withheld
from ._exclusive import Held, Locks, settle
from ._format import is_id
from ._journaled import JournaledRefs
from ._layout import LOOPS
from ._leads import worktrees
from ._packed import PACKED
from ._protocol import Moved, Unavailable


class Swap(NamedTuple):
    """One ref to point at `new` if it is at `old` now; None is no ref."""

    ref: str
    old: str | None
    new: str | None


class JointRefs(JournaledRefs):
    """A repository's refs, which can also be moved several at once."""

    _named_by_head = ""  # as it was found

    def loops(self, folder: str, above: LoopName | None = None) -> Iterator[tuple[LoopName, str | Torn | Withheld]]:
        """The loops that have branches in a folder, or those nested in one, each with its head, or its fault."""
        for ref, head in self.entries(folder if above is None else f"{folder}{above}."):
            with suppress(BadName):  # somebody's own branch beside ours
                yield loop_name(ref.removeprefix(folder)), head

    def see_to_head(self, ref: str | None = None) -> None:
        """Let ``HEAD`` be a branch that there is, if it can be so now: `git log` and `git clone` start from it.

        If it names none, it is to name this one, or else the first loop's.
        """
        with suppress(CaesuraError, OSError):
            if self._named_by_head and self._is_there(self._named_by_head):
                return  # who has it name another branch since sees to that
            head = self.read("HEAD")
            if head is None or is_id(head):
                return
            if not self._is_there(head):
                loops = (LOOPS + name for name, found in self.loops(LOOPS) if isinstance(found, str))
                left = ref or next(loops, None)
                if left is None:
                    return
                self.set_head(left)
                head = left
            self._named_by_head = head

    def _is_there(self, ref: str) -> bool:
        """Whether there is such a ref, whatever it holds, by the journal as far as it was read."""
        if self._journal is not None and self._journal.known(ref):
            return True
        return os.path.isfile(self._path(ref)) or self.packed().find(ref) is not None  # noqa: PTH113  # each new loop asks

    def swap_all(self, swaps: Sequence[Swap], note: str = "", check: Callable[[], None] = lambda: None) -> None:
        """Move refs, all of them or none: so also for whoever looks after a crash or a power cut.

        `check` is called first, when nobody else of ours can change anything any more, and may refuse.

        Raises:
            Moved: one of them is elsewhere.
            Torn: one of them is nowhere that can be told.
            Locked: somebody else's lock on one stays.
            Unavailable: they cannot be written.
        """
        first, *more = (one.ref for one in swaps)

        def change(locks: Locks) -> None:
            check()
            self._swap_all(locks, swaps, note)

        self._patiently(first, change, *more)

    def alone(self, change: Callable[[Callable[[Sequence[Swap], str], None]], None]) -> None:
        """Do something while no process of ours moves refs or takes leases.

        `change` is given what moves refs as `swap_all` does. It is called again if somebody else's lock was in its way.

        Raises:
            Locked: others never let go of theirs.
            OSError: the system refuses something, to this or to `change`.
        """
        self._until_free("HEAD", lambda locks: change(partial(self._swap_all, locks)))

    def _swap_all(self, locks: Locks, swaps: Sequence[Swap], note: str) -> None:
        for one in swaps:
            self._in_its_folder(one.ref, partial(locks.take, one.ref, b""), fresh=True)
        for one in swaps:
            if self.get(one.ref) != one.old:
                raise Moved(f"{one.ref} was moved by another writer.", hint="Read it again and decide again.")
            if one.old is None:
                self._check_free(one.ref)
        self._repack(locks, {one.ref: one.old for one in swaps})
        for one in swaps:
            _disk.unlink(self._file(one.ref))
        if self._durable:  # before the copy, which a file that came back would be read instead of
            for folder in {self._file(one.ref).parent for one in swaps}:
                settle(self._folder, folder)
        for one in swaps:
            if one.new is not None:
                self._log(one.ref, one.old, one.new, note)
        self._repack(locks, {one.ref: one.new for one in swaps})
        for one in swaps:
            if one.new is None:
                with suppress(OSError):
                    _disk.unlink(self._folder / "logs" / one.ref)

    def _repack(self, locks: Locks, values: Mapping[str, str | None]) -> None:
        """Replace the packed refs by a copy in which these stand so."""
        before = self._packed.view()
        locks.take(PACKED, before.replaced(values))
        if self._packed.view() is not before:
            raise Held(f"{PACKED} has just changed")
        locks.commit(PACKED)


def check_unused(folder: Path, ref: str, *, bare: bool) -> None:
    """A branch that is checked out must stay: git would take every file there for a new one.

    Raises:
        Unavailable: it is checked out.
    """
    for head in (*([] if bare else [folder / "HEAD"]), *(place / "HEAD" for place in worktrees(folder))):
        with suppress(OSError), _disk.opened(head) as opened:
            if opened.readall().strip() == f"ref: {ref}".encode():
                raise Unavailable(
                    f"{ref} is checked out ({head}).", hint="Check something else out there: git switch --detach"
                )
