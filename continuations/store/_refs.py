"""Refs: read without trust, and moved by compare-and-swap only, exactly as git would move them."""

import datetime as dt
import os
import random
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from heapq import merge
from pathlib import Path
from threading import RLock
from typing import Literal, TypeVar

from .._text import shell_quoted
from . import _disk, _unsynced
from ._errors import Torn, Withheld, torn
from ._exclusive import Held, Locks, Turns
from ._format import is_id
from ._guard import Guard
from ._journal import Journal
from ._layout import BRANCHES
from ._packed import PACKED, PackedRefs, View, is_line, is_ref
from ._protocol import Locked, Moved, Unavailable
from ._refused import refused, unread

T = TypeVar("T")

TORN = ""
"""What a damaged ref is at: whoever knows that it is may put another into its place."""

LOCK_SECONDS = 10.0
"""For how long somebody else's lock is waited for."""

Logging = Literal["no", "branches", "always"]
"""Which refs get a log of their moves: git's ``core.logAllRefUpdates``."""

_LONGEST = 4096
_SYMBOLIC = 5
_TRIES = 10
_LOGGED = (BRANCHES, "refs/remotes/", "refs/notes/")


class Refs:
    """A repository's refs. `folder` is the common one; `head` that of the worktree, if it is a linked one.

    What the journal holds of a branch goes before what is in the branch's file. Reading is for any thread at any time.
    """

    def __init__(
        self,
        folder: Path,
        head: Path,
        *,
        logging: Logging,
        durable: bool,
        who: Callable[[], str],
        journal: Journal | None,
        turns: Turns,
    ) -> None:
        self._folder, self._head = folder, head
        self._journal, self._turns = journal, turns
        self.guard = Guard(folder, durable=durable)
        self.unseal: Callable[[Locks], None] = _nothing
        self._reading = RLock()
        self._logging, self._durable, self._who = logging, durable, who
        self._settled: set[Path] = set()
        self._packed = PackedRefs(folder)

    def close(self) -> None:
        """Let go of the packed refs."""
        with self._reading:
            self._packed.close()

    # Reading -----------------------------------------------------------------------------------------------------

    def get(self, ref: str) -> str | None:
        """The id that a ref holds, symbolic ones followed; None if there is no such ref.

        Raises:
            Torn: it holds something else.
        """
        name = ref
        for _ in range(_SYMBOLIC + 1):
            found = self.read(name)
            if found is None or is_id(found):
                return found
            name = found
        raise torn(ref, self._file(ref), "it points to another ref, and that to another, without end")

    def read(self, ref: str) -> str | None:
        """What stands in a ref: an id, or the name of another ref."""
        if not is_ref(ref):
            return None
        journal = self._journal if ref.startswith(BRANCHES) else None  # it moves no others
        return (None if journal is None else journal.head(ref)) or self.stored(ref)

    def stored(self, ref: str) -> str | None:
        """What stands in a ref's own file, or among the packed refs: what git sees."""
        with self._reading:
            return self._stored(ref)

    def _stored(self, ref: str) -> str | None:
        file = self._path(ref)
        try:
            with _disk.opened(file) as opened:
                data = opened.read(_LONGEST)
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return self._packed.view().find(ref)
        except OSError as error:
            raise unread(ref, file, error) from error
        text = data.decode("utf-8", "replace").strip()
        # Git adds to some of its own what else was fetched, or is to be merged.
        first = text if ref.startswith("refs/") else text.partition("\n")[0].partition("\t")[0]
        if is_id(first):
            return first
        name = text.removeprefix("ref:").strip()
        if text.startswith("ref:") and is_ref(name):
            return name
        raise torn(ref, file, "it holds no commit's id" if text else "it is empty")

    def all(self, prefix: str) -> Iterator[str]:
        """The names of the refs that begin with `prefix` (it ends in a slash), torn ones too, in order."""
        return (name for name, _ in self.entries(prefix))

    def entries(self, prefix: str) -> Iterator[tuple[str, str | Torn | Withheld]]:
        """The refs that begin with `prefix`, in order, each with the id that it holds, or its fault."""
        # In this order: what git packs in the meantime is in the list by then.
        own = self.own(prefix)
        packed = (entry for entry in self.packed().entries(prefix) if entry[0] not in own)
        for name, held in merge(sorted(own.items(), key=_by_name), packed, key=_by_name):
            held = self._held(name) if held is None else held  # it went, and it may be in the list; or that is torn
            if held is not None:
                yield name, held

    def own(self, prefix: str) -> dict[str, str | Torn | Withheld | None]:
        """The refs that begin with `prefix` and have files of their own, or are in the journal, with what they hold."""
        # In this order: what is sealed in the meantime has a file by then.
        heads = {} if self._journal is None else self._journal.heads()
        names = {name for name in heads if name.startswith(prefix)}
        above = prefix[: prefix.rindex("/") + 1]
        names.update(self._loose(self._folder / above, above, prefix))
        return {name: self._held(name) for name in names if is_ref(name)}

    def packed(self) -> View:
        """The packed refs, as they are now.

        Raises:
            Torn: they are empty or cut short.
        """
        with self._reading:
            return self._packed.view()

    def _held(self, name: str) -> str | Torn | Withheld | None:
        try:
            return self.get(name)
        except (Torn, Withheld) as fault:
            return fault

    def _loose(self, folder: Path, above: str, prefix: str) -> Iterator[str]:
        """The files in a folder, by their names after what is above it, that begin with the prefix."""
        begin = prefix[len(above) :]
        try:
            # Nearly all begin otherwise, where there are many loops.
            entries = [entry for entry in os.scandir(folder) if entry.name.startswith(begin)]
        except (FileNotFoundError, NotADirectoryError):
            return
        for entry in entries:
            name = above + entry.name
            if entry.is_dir(follow_symlinks=False):
                yield from self._loose(Path(entry.path), f"{name}/", prefix)
            else:
                yield name

    def _file(self, ref: str) -> Path:
        return Path(self._path(ref))

    def _path(self, ref: str) -> str:
        return f"{self._folder if ref.startswith('refs/') else self._head}/{ref}"

    # Moving ------------------------------------------------------------------------------------------------------

    def swap(
        self,
        ref: str,
        old: str | None,
        new: str,
        note: str = "",
        check: Callable[[], None] = lambda: None,
    ) -> None:
        """Point a ref at `new` if it is at `old` now; None is no ref, `TORN` a damaged one.

        `check` is called first, when nobody else of ours can change anything any more, and may refuse.

        Raises:
            Moved: it is elsewhere.
            Torn: it is nowhere that can be told.
            Locked: somebody else's lock on it stays.
            Unavailable: it cannot be written.
        """

        def change(locks: Locks) -> None:
            check()
            self._swap(locks, ref, old, new, note)

        self._patiently(ref, change)

    def torn_lines(self) -> tuple[str, ...]:
        """The lines of the packed refs that are none, or are cut short."""
        return tuple(line.decode("utf-8", "replace") for line in self._packed.lines() if not is_line(line))

    def drop_torn_lines(self) -> None:
        """Leave the torn lines out of the packed refs.

        Raises:
            Locked, Unavailable: they cannot be written.
        """

        def change(locks: Locks) -> None:
            locks.take(PACKED, self._packed.mended())
            locks.commit(PACKED)

        self._patiently(PACKED, change)

    def set_head(self, ref: str) -> None:
        """Make ``HEAD`` a name for a ref; nobody who has locked it is waited for.

        Raises:
            OSError: it cannot be written.
        """
        with self._turns.take(LOCK_SECONDS) as locks:
            locks.take("HEAD", f"ref: {ref}\n".encode())
            locks.commit("HEAD")

    def _patiently(self, ref: str, change: Callable[[Locks], None], *more: str) -> None:
        """Make a change of a ref, and of more, with exclusive access; others are waited for, but not for ever.

        Before, the journal's steps are brought to where git looks.
        """
        try:
            self._until_free(ref, change, *more)
        except OSError as error:
            raise self.fault(ref, error) from error

    def _until_free(self, ref: str, change: Callable[[Locks], None], *more: str) -> None:
        """`_patiently`, for who says themselves what could not be done if the system refuses something."""
        self.lighten()
        deadline = time.monotonic() + LOCK_SECONDS
        while True:
            try:
                with self._turns.take(max(0.0, deadline - time.monotonic())) as locks:
                    self.unseal(locks)
                    _unsynced.stand(self._folder, durable=self._durable)
                    return change(locks)
            except (Held, BlockingIOError) as error:
                if time.monotonic() > deadline:
                    raise self.fault(ref, error, *more) from error
                time.sleep(random.uniform(0.001, 0.02))  # noqa: S311  # jitter, not a secret

    def lighten(self) -> None:
        """Before exclusive access is asked for: wait for most of what there is to wait for, and keep nobody by that."""
        _unsynced.lighten(self._folder, durable=self._durable)

    def fault(self, ref: str, error: Exception, *more: str) -> Exception:
        """What is wrong, for who could not write a ref, and more: the disk, or a lock that was waited for in vain."""
        if not isinstance(error, OSError):
            return error
        if not isinstance(error, Held | BlockingIOError):
            return refused(f"{ref} could not be written", error)
        if not isinstance(error, Held):
            return Locked(
                f"{error.strerror}, for {LOCK_SECONDS:.0f} seconds now.", hint="Try again, or stop that process first."
            )
        lock = next((one for one in map(self._lock, (ref, *more, PACKED)) if one.exists()), self._lock(ref))
        return Locked(
            f"{lock} has been there for {LOCK_SECONDS:.0f} seconds, and is no lock of Caesura's.",
            hint=f"If no git process is using the repository, delete that file: rm {shell_quoted(lock)}",
        )

    def _lock(self, name: str) -> Path:
        return self._folder / f"{name}.lock"

    def _swap(self, locks: Locks, ref: str, old: str | None, new: str, note: str) -> None:
        self._in_its_folder(ref, partial(locks.take, ref, f"{new}\n".encode()), fresh=old is None)
        try:
            now = self.get(ref)
        except Torn:
            if old != TORN:
                raise
            now = TORN
        if now != old:
            raise moved(ref)
        if old is None:
            self._check_free(ref)
        self._log(ref, old, new, note)
        locks.commit(ref)

    def _in_its_folder(self, ref: str, act: Callable[[], T], *, fresh: bool, lasting: bool = True) -> T:
        """Do something in the folder that a ref is in, which git may remove at any moment until there is a lock in it.

        A `fresh` ref may have none yet, or have an empty folder in its place.
        """
        due, tries = fresh or (lasting and self._file(ref).parent not in self._settled), 0
        while True:
            try:
                if due or tries:
                    self._make_room(ref, lasting=lasting)
                return act()
            except FileNotFoundError:
                tries += 1
                if tries == _TRIES:
                    raise

    def _make_room(self, ref: str, *, lasting: bool = True) -> None:
        """See to the folder that a ref is in, and take away empty ones that stand in its place.

        If it is not to be `lasting`, a power cut may take the folder away again.
        """
        folder = self._file(ref).parent
        for one in reversed([one for one in (folder, *folder.parents) if self._folder in one.parents]):
            try:
                _disk.make_folder(one)
                self._settled.discard(one)
            except FileExistsError:
                if not one.is_dir():
                    self._check_free(ref)
            if lasting:
                if self._durable and one not in self._settled:
                    _disk.sync(one.parent)  # somebody else may have made it, and not have waited
                self._settled.add(one)
        if self._file(ref).is_dir():
            for empty, _, _ in os.walk(self._file(ref), topdown=False):
                with suppress(OSError):
                    _disk.remove_folder(Path(empty))

    def _check_free(self, ref: str) -> None:
        """Git cannot hold both ``a`` and ``a/b``.

        Raises:
            Unavailable: there is such a ref.
        """
        parts = ref.split("/")
        above = ["/".join(parts[:count]) for count in range(2, len(parts))]
        # In this order: what git packs in the meantime is in the list by then.
        held = {} if self._journal is None else self._journal.known_heads()  # nobody adds to it now
        files = [one for one in above if os.path.isfile(self._path(one))]  # noqa: PTH113  # as below
        folder = os.path.isdir(self._path(ref))  # noqa: PTH112  # each new loop asks: a Path takes longer
        packed, below = self.packed(), f"{ref}/"
        taken = next((one for one in above if one in held or one in files or packed.find(one) is not None), None)
        if taken is not None:
            raise Unavailable(
                f"{ref} cannot be a branch: there is a branch {taken} already.",
                hint="Rename that branch with 'git branch -m'.",
            )
        nested = f"\n{below}" in "\n".join(("", *held))  # of a thousand it takes a tenth of asking each
        if folder or nested or next(packed.entries(below), None) is not None:
            raise Unavailable(
                f"{ref} cannot be a branch: there are branches {ref}/… already.",
                hint="Choose another name for the loop, or rename those branches.",
            )

    # Logs --------------------------------------------------------------------------------------------------------

    def _log(self, ref: str, old: str | None, new: str, note: str) -> None:
        """Note a move where git would; a log that cannot be written is no reason not to move."""
        if self._logging == "no" and not (self._folder / "logs").exists():
            return
        with suppress(OSError):
            for name in (ref, "HEAD") if self._head_is(ref) else (ref,):
                file = (self._head if name == "HEAD" else self._folder) / "logs" / name
                if self._logged(name) or file.exists():
                    moment = dt.datetime.now().astimezone()
                    line = f"{old or '0' * 40} {new} {self._who()} {int(moment.timestamp())} {moment:%z}\t{note}\n"
                    file.parent.mkdir(parents=True, exist_ok=True)
                    _disk.append(file, line.encode())

    def _logged(self, ref: str) -> bool:
        if self._logging == "branches":
            return ref == "HEAD" or ref.startswith(_LOGGED)
        return self._logging == "always"

    def _head_is(self, ref: str) -> bool:
        try:
            return self.read("HEAD") == ref
        except Torn:
            return False


def _by_name(entry: tuple[str, object]) -> str:
    return entry[0]


def moved(ref: str) -> Moved:
    """A ref that is not where a writer has read it."""
    return Moved(f"{ref} was moved by another writer.", hint="Read it again and decide again.")


def _nothing(_: Locks) -> None:
    """Where no step is kept in a journal."""
