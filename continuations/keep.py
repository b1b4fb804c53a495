"""Keeping: loops that have ended put out of the way, loops carried elsewhere."""

import datetime as dt
import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from ._calls import Person
from ._errors import CallerError, SavedStateError
from ._ids import CommitId, LoopName, loop_name, parent_name
from .archive import Archive, root_loop
from .bundles import Arrival, read_bundle, write_bundle
from .erasing import erase
from .history import saved_from
from .overview import LoopInfo, overview
from .pruning import Cut, Pruned, prune
from .store import Erased


class NotEnded(CallerError):
    """A loop still works, or waits for somebody."""


class Keep(Archive):
    """What keeps loops elsewhere, and forgets them here."""

    def ended(self, age: dt.timedelta = dt.timedelta()) -> list[LoopName]:
        """The root loops that have ended, their last step so long ago at least; not those in the archive."""
        found: list[LoopName] = []
        for name in self._store.heads():
            if parent_name(name) is None:
                with suppress(SavedStateError):
                    saved = self._history.load(name)
                    if saved.state.ending is not None and self._now() - saved.state.at >= age:
                        found.append(name)
        return found

    def erased(self) -> list[LoopName]:
        """The root loops that were erased here, and are not there again."""
        there = self._store.heads()
        return [name for name in self._store.keeper().erased() if name not in there]

    def check_ended(self, loops: Iterable[str]) -> None:
        """Make sure that loops have ended, or are in the archive already.

        Raises:
            NoSuchLoop: there is none of a name.
            Nested: it is nested in another.
            NotEnded: one still works, or waits for somebody.
        """
        for loop in loops:
            name = root_loop(loop)
            if self._store.head(name) is None and self._store.head(name, archived=True) is not None:
                continue
            state = self._history.load(name).state
            if state.ending is None:
                raise NotEnded(
                    f"{name} has not ended: it is {state.status}.",
                    hint=f"Let it end, or end it: 'caesura cancel {name}'.",
                )

    def shelf(self, *, nested: bool = False) -> tuple[list[LoopInfo], dict[LoopName, SavedStateError]]:
        """The loops in the archive at a glance, and those there that cannot be read, with why."""
        infos: list[LoopInfo] = []
        unreadable = dict(self._store.torn(archived=True))
        for name, head in self.archived().items():
            if nested or parent_name(name) is None:
                try:
                    saved = saved_from(name, self._store.read(head))
                    infos.append(overview(self._history, saved, self._now()))
                except SavedStateError as error:
                    unreadable[name] = error
        return infos, unreadable

    def export_bundle(self, *loops: str, file: str | os.PathLike[str]) -> Mapping[LoopName, CommitId]:
        """Write root loops, all that is nested in them and all their history to a file: a bundle, as git's are.

        Returns the heads that it holds.

        Raises:
            NoSuchLoop: there is none of a name, or it is nested in another.
            BadBundle: there is such a file already.
            Unavailable: it cannot be written, or something is missing from the repository.
        """
        return write_bundle(self._store, tuple(map(loop_name, loops)), Path(file))

    def import_bundle(
        self,
        file: str | os.PathLike[str],
        name: str | None = None,
        *,
        progress: Callable[[int], None] = lambda commits: None,
    ) -> tuple[Arrival, ...]:
        """Verify what a bundle holds, as `verify` does; then let its loops be loops here, or go on as far as there.

        `name` is for a bundle of one root loop: what it is to be called here. What is there already, or further, stays.

        Raises:
            BadBundle: it is none, is damaged, holds no loops, or one with a fault. Nothing was imported.
            Diverged: a loop went on otherwise here. Nothing was imported.
            LoopExists, BadName: a loop's name is taken by what was nested in another, or can name none.
            StillDriven: a living worker drives a loop that is to go on.
        """
        return read_bundle(self._history, Path(file), name, self._now(), progress)

    def prune(
        self,
        *loops: str,
        keep: int,
        by: Person | str | None = None,
        agree: Callable[[tuple[Cut, ...]], bool] = lambda cuts: True,
    ) -> Pruned:
        """Shorten the histories of root loops that have ended, archived or not, and of what is nested in them.

        Of each loop the first commit stays as it is, and the last `keep` with their trees, authors, times and messages,
        under new ids; what lies between becomes one commit, or several, which say whose steps they stand for. What only
        led there is gone from the repository. `agree` is shown what would be done, and may refuse: then nothing is, and
        what would have been in the way is raised all the same.

        Raises:
            NoSuchLoop, Nested: there is none of a name, or it is nested in another.
            NotPrunable: one has not ended, holds signed commits that would change, or would not verify any more.
            StillDriven: a living worker drives one.
            Unclean, Torn, Unavailable: something in the repository is in the way.
        """
        who, roots = self._person(by), [root_loop(loop) for loop in loops]
        return prune(self._history, roots, keep, by=who, now=self._now(), agree=agree)

    def erase(
        self,
        loop: str,
        why: str = "",
        *,
        forks: bool = False,
        by: Person | str | None = None,
        agree: Callable[[tuple[LoopName, ...]], bool] = lambda loops: True,
    ) -> Erased | None:
        """Take a root loop, archived or not, out of the repository for good: no object holds anything of it any more.

        What others hold too stays with them: a message of the same words, say. A commit on ``refs/archive/erased/``
        says who erased it, when, `why`, and where its refs were. With `forks`, loops that share a commit with it go,
        too. `agree` is shown which loops would, and may refuse: then nothing is erased, and None is returned, or what
        would have been in the way is raised. An erasure that was interrupted is finished by doing it again.

        Raises:
            NoSuchLoop, Nested: there is none of that name, or it is nested in another.
            StillDriven: a living worker drives a loop of the repository.
            StillReached: something else leads to a commit of it.
            Unclean, Torn, Unavailable: something in the repository is in the way.
        """
        who, root = self._person(by), root_loop(loop)
        return erase(self._history, root, why, forks=forks, by=who, now=self._now(), agree=agree)
