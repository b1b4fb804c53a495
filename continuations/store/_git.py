"""The store in git: a loop is a branch, a step a commit, a continuation its tree. Only this module knows pygit2."""

import datetime as dt
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import pygit2

from .._calls import Person
from .._errors import CaesuraError, SavedStateError
from .._ids import CommitId, LoopName, parent_name
from .._state import Continuation
from .._text import one_line
from ._commits import Commits, Laid
from ._early import Early
from ._exclusive import Turns, common
from ._forgetter import check_there
from ._format import commit_bytes, is_id
from ._frames import RefMove
from ._group import Group
from ._holdings import Upkeep
from ._journal import Journal
from ._keeper import GitKeeper
from ._keeping import Keeper
from ._layout import ARCHIVE, LOOPS, folder_of
from ._leases import LeaseFiles
from ._leftovers import leftovers, lost
from ._make import make, unmade
from ._mender import GitMender
from ._mending import Mender, Reader
from ._objects import Batch, Objects
from ._projects import Projects
from ._protocol import (
    Commit,
    Durability,
    Lease,
    Move,
    NoSuchRevision,
    NotALoop,
    Store,
    Unavailable,
    Visibility,
)
from ._reader import CheckedReader
from ._refused import opened_copy, or_refused, refused, unopened
from ._revisions import Revisions
from ._sealing import Sealer
from ._settings import apart, check_promised, logged, logged_as, own, person, precious
from ._shared import Work
from ._together import JointRefs, Swap, check_unused
from ._trees import Trees
from ._upkeep import GitUpkeep
from ._vanished import Found, erasures
from ._waiting import Waiting
from ._workspaces import Workspaces


class GitStore(Store):
    """Loops in a git repository: Caesura's own bare one, or any other, the user's project included."""

    def __init__(
        self,
        repository: pygit2.Repository,
        durability: Durability = "power-cut",
        visibility: Visibility = "step",
    ) -> None:
        self._repo = repository
        folder, config = Path(repository.path), repository.config
        self._folder = common(folder)
        self._durable = durable = durability == "power-cut"
        self._turns = Turns(self._folder, durable=durable)
        self._journal = Journal(self._folder, durable=durable)
        self._objects = Objects(self._folder / "objects", durable=durable, journal=self._journal)
        self._who = partial(logged_as, config)
        self._refs = JointRefs(
            self._folder,
            folder,
            logging=logged(config, bare=repository.is_bare),
            durable=durable,
            who=self._who,
            journal=self._journal,
            turns=self._turns,
        )
        self._precious = precious(config)
        self._early = Early(self._folder / "objects", needed=not self._precious)
        self._apart = partial(_apart, repository.path, bare=repository.is_bare)
        self._sealer = Sealer(self._folder, self._journal, self._refs, self._turns, self._early, self._apart)
        self._refs.unseal = self._sealer.seal_within
        sealed = visibility == "sealed"
        self._group = Group(self._journal, self._refs, self._turns, self._sealer) if sealed else None
        self._leases = LeaseFiles(self._folder)
        self._revisions = Revisions(self._objects, self._refs, self._folder / "logs")
        self._waiting = Waiting(self._folder, self._objects, self._refs, LOOPS)
        found = Found(self._folder, self._objects.refresh)
        self._commits = Commits(found, self._objects, self._revisions, self._journal.forget)
        excludes, trees = partial(self.setting, "core.excludesfile"), Trees(self._objects)
        self._workspaces = Workspaces(self._folder, self._objects, trees, excludes, self._early, found)
        self._projects = Projects(
            self._folder, self._objects, trees, self._revisions, self._early, found, durable=durable
        )

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        *,
        create: bool = False,
        durability: Durability = "power-cut",
        visibility: Visibility = "step",
    ) -> "GitStore":
        """Open the repository at `path`; with `create`, make a bare one there if there is none.

        A step that was acknowledged survives what `durability` says: a power cut, or a crash of the process alone. Git
        sees it at once, or, if its `visibility` is to be sealed, with others: when `seal` is called, on closing, or
        after a second without a step. Stores see it at once, whatever their own setting is.

        Raises:
            BadSetting: there is no such durability, or visibility.
            Unavailable: there is no repository, or it cannot be opened or made.
        """
        check_promised(durability, visibility)
        folder = Path(path)
        if create:
            with _trouble(f"No repository could be made at {folder}", "Choose a folder that can be written."):
                if unmade(folder):
                    make(folder, partial(pygit2.init_repository, bare=True), durable=durability == "power-cut")
        with or_refused(f"{folder} could not be opened"):
            if not folder.is_dir():
                raise unopened(folder)
            try:
                return cls(pygit2.Repository(str(folder)), durability, visibility)
            except (pygit2.GitError, KeyError) as error:
                raise unopened(folder, str(error)) from error

    @property
    def location(self) -> str:
        return str(self._repo.path).rstrip("/")

    @property
    def waits(self) -> bool:
        return True

    @property
    def shares(self) -> bool:
        return self._group is not None

    def close(self) -> None:
        if self._group is not None:
            self._group.close()
        self._commits.close()
        self._objects.close()
        self._journal.close()
        self._waiting.close()
        self._refs.close()
        self._turns.close()
        self._repo.free()

    def share(self, works: Sequence[Work[Any]]) -> None:
        if self._group is not None:
            self._group.share(works)
        else:
            for work in works:
                work.do()

    def seal(self) -> None:
        (self._sealer if self._group is None else self._group).seal()

    # Refs --------------------------------------------------------------------------------------------------------

    def heads(self, above: LoopName | None = None, *, archived: bool = False) -> Mapping[LoopName, CommitId]:
        loops = self._refs.loops(folder_of(archived), above)
        return {name: CommitId(head) for name, head in loops if isinstance(head, str)}

    def torn(self, above: LoopName | None = None, *, archived: bool = False) -> Mapping[LoopName, SavedStateError]:
        loops = self._refs.loops(folder_of(archived), above)
        return {name: fault for name, fault in loops if not isinstance(fault, str)}

    def waiting(self) -> Iterator[LoopName]:
        return self._waiting.loops()

    def head(self, loop: LoopName, *, archived: bool = False) -> CommitId | None:
        head = self._refs.get(folder_of(archived) + loop)
        return None if head is None else CommitId(head)

    def move(self, loop: LoopName, old: CommitId | None, new: CommitId) -> None:
        message, since = self._commits.known(new)
        subject = one_line(message.partition("\n")[0])
        move = RefMove(LOOPS + loop, old, new, f"caesura: {subject}")
        then = partial(self._moved, loop, old, new)
        if self._group is None or not self._group.move(move, since, then):
            self._write_loose(new)
            now = erasures(self._folder)
            self._refs.swap(move.ref, old, new, move.note, partial(check_there, self._folder, (new,), since))
            self._commits.was_there(new, now)
            then()

    def _write_loose(self, *commits: CommitId) -> None:
        """Give what the journal has of commits files, which git leaves: it is sealed before branches lead to it."""
        if self._early.needed:
            with _trouble("The step could not be written", "Check the repository's permissions and free space."):
                for objects in filter(None, map(self._journal.unmoved, commits)):
                    self._objects.write(objects)

    def _moved(self, loop: LoopName, old: CommitId | None, new: CommitId) -> None:
        """What is to be done once a branch has moved."""
        self._let_go(new)
        if old is None:
            with _trouble("A folder of an earlier loop is in the way", "Check the repository's permissions."):
                self._workspaces.set_aside(loop)
            if parent_name(loop) is None and self._repo.is_bare:
                self._refs.see_to_head(LOOPS + loop)

    def _let_go(self, *commits: CommitId) -> None:
        """Let git have what was kept from it until branches would lead to commits, as soon as it sees that they do."""
        if self._early.waits():
            with suppress(CaesuraError):  # else a day later: the steps are made
                found = [self._commits.read(one).state.workspace for one in commits]
                named = [self._early.name(one.tree) for one in found if one is not None]
                if any(named) and self._group is None:
                    self._sealer.seal()

    def move_all(self, moves: Sequence[Move], note: str) -> None:
        swaps = [Swap(folder_of(one.archived) + one.loop, one.old, one.new) for one in moves]
        for one in swaps:
            if one.new is None:
                check_unused(self._folder, one.ref, bare=self._repo.is_bare)
        if swaps:
            fresh = {one.new for one in moves if one.new is not None} - {one.old for one in moves}
            self._write_loose(*fresh)
            if self._group is not None:
                self._group.seal()  # what these name may wait for a move by the journal
            read = [since for one in fresh if (since := self._commits.known(one)[1]) is not None]
            check = partial(check_there, self._folder, fresh, min(read) if len(read) == len(fresh) > 0 else None)
            self._refs.swap_all(swaps, f"caesura: {one_line(note)}", check)
            self._let_go(*fresh)
        if self._repo.is_bare:
            self._refs.see_to_head()

    def lease(self, root: LoopName) -> Lease | None:
        with _trouble("The lease could not be read", "Check the repository's permissions."):
            return self._leases.read(root)

    def move_lease(self, root: LoopName, old: Lease | None, data: bytes | None) -> Lease | None:
        with _trouble("The lease could not be written", "Check the repository's permissions and free space."):
            return self._leases.swap(self._turns, root, old, data)

    # Commits -----------------------------------------------------------------------------------------------------

    def read(self, commit: CommitId) -> Commit:
        return self._commits.read(commit)

    def check(self, commit: CommitId) -> str:
        return self._commits.check(commit)

    def parents(self, commit: CommitId) -> tuple[CommitId, ...]:
        return tuple(map(CommitId, self._revisions.commit(commit).parents))

    def line(self, commit: CommitId) -> Iterator[tuple[CommitId, str]]:
        found = self._revisions.commit(commit)
        yield commit, found.message
        while found.parents:
            before = CommitId(found.parents[0])
            found = self._revisions.commit(before)
            yield before, found.message

    def write(
        self,
        state: Continuation,
        *,
        parents: tuple[CommitId, ...],
        message: str,
        author: Person,
        committer: Person,
        sign: Callable[[bytes], str] | None = None,
    ) -> Commit:
        batch = Batch()
        laid = self._commits.lay(batch, state, parents[0] if parents else None)
        made = partial(
            commit_bytes, laid.tree, parents, author=author, committer=committer, at=state.at, message=message
        )
        return self._add(batch, made, sign, laid, state, parents, author, message)

    def mark(
        self,
        commit: CommitId,
        *,
        parents: tuple[CommitId, ...],
        message: str,
        author: Person,
        committer: Person,
        at: dt.datetime,
        sign: Callable[[bytes], str] | None = None,
    ) -> Commit:
        state, laid = self._commits.read(commit).state, self._commits.laid(commit)
        made = partial(commit_bytes, laid.tree, parents, author=author, committer=committer, at=at, message=message)
        return self._add(Batch(), made, sign, laid, state, parents, author, message)

    def _add(
        self,
        batch: Batch,
        made: Callable[..., bytes],
        sign: Callable[[bytes], str] | None,
        laid: Laid,
        state: Continuation,
        parents: tuple[CommitId, ...],
        author: Person,
        message: str,
    ) -> Commit:
        """Write a commit, signed or not, with what it needs."""
        name = CommitId(batch.add("commit", made() if sign is None else made(signature=sign(made()))))
        try:
            (self._objects if self._group is None else self._group).write(batch)
        except OSError as error:
            raise refused("The step could not be written", error) from error
        commit = Commit(id=name, state=state, parents=parents, author=author, message=message)
        return self._commits.remember(commit, laid)

    def raw(self, commit: CommitId) -> bytes:
        if not is_id(commit):
            raise NotALoop(f"{one_line(commit)!r} is not a commit.", hint="Name a loop, or a commit of one.")
        return self._objects.get(commit, "commit")

    def resolve(self, revision: str) -> CommitId:
        for folder in (LOOPS, "", ARCHIVE):
            found = self._revisions.find(revision, folder)
            if found is not None:
                return CommitId(found)
        raise NoSuchRevision(
            f"{one_line(revision)!r} names no loop and no commit here.",
            hint="'caesura loops' lists the loops; a branch, a tag or a hash will do too, each with '~3' or '^2'.",
        )

    def person(self) -> Person:
        return person(self._repo.config)

    def setting(self, name: str) -> str | None:
        return own((entry.level, entry.value) for entry in self._repo.config if entry.name == name)

    def workspaces(self) -> Workspaces:
        return self._workspaces

    def projects(self) -> Projects:
        return self._projects

    # Checking ----------------------------------------------------------------------------------------------------

    def reader(self) -> Reader:
        return CheckedReader(self._objects)

    def mender(self, copy: str | os.PathLike[str] | None = None) -> Mender:
        other = None if copy is None else opened_copy(GitStore.open, copy)
        found = None if other is None else (other._objects, other._refs)
        self.seal()
        return GitMender(self._folder, self._objects, self._refs, LOOPS, found)

    def keeper(self) -> Keeper:
        self._commits.close()  # what is forgotten must not come back from here
        what = (self._folder, self._objects, self._refs, GitStore.open, self.seal)
        return GitKeeper(*what, bare=self._repo.is_bare, durable=self._durable, early=self._early.needed)

    def lost(self) -> Iterator[tuple[str, str]]:
        return lost(self._folder, self._objects)

    def leftovers(self) -> Iterator[tuple[str, str]]:
        return leftovers(self._folder, self._refs, LOOPS)

    # Upkeep ------------------------------------------------------------------------------------------------------

    def upkeep(
        self, *, breathe: Callable[[], None] = lambda: None, progress: Callable[[int, int], None] = lambda *_: None
    ) -> Upkeep:
        # As git has them: what is in the journal is not there yet.
        refs = JointRefs(
            self._folder, self._folder, logging="no", durable=True, who=self._who, journal=None, turns=self._turns
        )
        alone, asked = self._precious, self._apart
        return GitUpkeep(self._folder, refs, LOOPS, alone=alone, apart=asked, breathe=breathe, progress=progress)


def _apart(repository: str, *, bare: bool) -> str | None:
    """Why branches are to keep files of their own, as it is set now; for any thread."""
    try:
        return apart(pygit2.Repository(repository).config, bare=bare)
    except (pygit2.GitError, OSError) as error:
        return f"git's configuration cannot be read: {error}"


@contextmanager
def _trouble(what: str, hint: str) -> Iterator[None]:
    """Turn git's and the system's errors into one of ours."""
    try:
        yield
    except OSError as error:
        raise refused(what, error) from error
    except (pygit2.GitError, KeyError) as error:
        raise Unavailable(f"{what}: {error}.", hint=hint) from error
