"""What keeps and forgets in a git repository: bundles in and out, and what is erased."""

import datetime as dt
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from .._calls import Person
from .._ids import CommitId, LoopName
from . import _disk
from ._eraser import TOMBSTONES, Eraser
from ._format import commit_bytes, read_commit
from ._keeping import BadBundle, Bundle, Erased, Keeper
from ._layout import LOOPS
from ._objects import Batch, Objects
from ._packing import keeper
from ._plumbing import GitFailed, beside, git, is_bundle, pack_of, take_over
from ._protocol import Move, Store, Trace, Unavailable
from ._reader import CheckedReader
from ._refused import or_refused
from ._together import JointRefs


class GitKeeper(Keeper):
    """Keeps and forgets the loops of one repository; `opened` opens another as a store, `seal` lets git see all.

    `early` is whether git may delete what it sees in no branch yet.
    """

    def __init__(
        self,
        folder: Path,
        objects: Objects,
        refs: JointRefs,
        opened: Callable[[Path], Store],
        seal: Callable[[], None],
        *,
        bare: bool,
        durable: bool,
        early: bool,
    ) -> None:
        self._objects, self._opened, self._durable, self._early = folder / "objects", opened, durable, early
        self._pool, self._refs, self._reader, self._seal = objects, refs, CheckedReader(objects), seal
        self._eraser = Eraser(folder, objects, refs, bare=bare)

    def written_again(
        self, commit: CommitId, parents: tuple[CommitId, ...], message: str, by: Person | None, at: dt.datetime
    ) -> CommitId:
        data = self._pool.get(commit, "commit")
        raw, batch = read_commit(data), Batch()
        if by is not None:
            made = commit_bytes(raw.tree, parents, author=by, committer=by, at=at, message=message)
        else:
            head = data.partition(b"\n\n")[0].split(b"\n")
            lines = [head[0], *(f"parent {one}".encode() for one in parents), *head[1 + len(raw.parents) :]]
            made = b"\n".join(lines) + b"\n\n" + message.encode()
        name = CommitId(batch.add("commit", made))
        with or_refused("A shorter history could not be written"):
            self._pool.write(batch)
        return name

    def check_prunable(
        self, root: LoopName, moves: Sequence[Move], check: Callable[[Iterable[LoopName]], None]
    ) -> bool:
        return self._eraser.check_prunable(root, moves, check)

    def prune(self, root: LoopName, moves: Sequence[Move], check: Callable[[Iterable[LoopName]], None]) -> int:
        with or_refused(f"{root} could not be pruned"):
            return self._eraser.prune(root, moves, check)

    def kin(self, root: LoopName) -> tuple[LoopName, ...]:
        return self._eraser.kin(root)

    def check_erasable(self, roots: Iterable[LoopName], check: Callable[[Iterable[LoopName]], None]) -> None:
        self._eraser.check_erasable(roots, check)

    def erase(
        self,
        roots: Iterable[LoopName],
        said: Callable[[LoopName, Mapping[str, CommitId]], str],
        by: Person,
        at: dt.datetime,
        check: Callable[[Iterable[LoopName]], None],
    ) -> Erased:
        with or_refused(f"{', '.join(roots)} could not be erased"):
            return self._eraser.erase(roots, said, by, at, check)

    def erased(self) -> Mapping[LoopName, Trace]:
        stones = self._refs.loops(TOMBSTONES)
        return {name: self._reader.trace(CommitId(head)) for name, head in stones if isinstance(head, str)}

    def bundle(self, heads: Mapping[LoopName, CommitId], file: Path) -> None:
        if file.exists():
            raise BadBundle(f"{file} is there already.", hint="Name another file, or delete that one.")
        refs = {LOOPS + loop: commit for loop, commit in heads.items()}
        if any(self._refs.stored(ref) != commit for ref, commit in refs.items()):
            self._seal()  # git makes it, which sees no other steps; not in a repository that may only be read
        with beside(self._objects, refs) as aside:
            try:
                git(aside, "bundle", "create", "--quiet", str(file.absolute()), "--branches")
            except GitFailed as error:
                raise Unavailable(
                    f"No bundle could be made: {error}.",
                    hint=f"See whether {file.absolute().parent} may be written, and has room; then 'caesura verify'.",
                ) from error

    @contextmanager
    def aside(self, heads: Mapping[LoopName, CommitId]) -> Iterator[Store]:
        with beside(self._objects, {LOOPS + loop: commit for loop, commit in heads.items()}) as aside:
            store = self._opened(aside)
            try:
                yield store
            finally:
                store.close()

    @contextmanager
    def unbundle(self, file: Path) -> Iterator[Bundle]:
        if not is_bundle(file):
            raise BadBundle(f"{file} is no bundle of git's.", hint="'caesura export LOOP --bundle FILE' makes one.")
        with ExitStack() as stack:
            try:
                aside = stack.enter_context(_unpacked(file, self._objects))
            except GitFailed:
                try:  # it was here already, and git has just deleted it, as no branch led to it
                    aside = stack.enter_context(_unpacked(file, self._objects))
                except GitFailed as error:
                    raise BadBundle(
                        f"{file} cannot be read: {error}.", hint="Nothing was imported. Have it made and sent anew."
                    ) from error
            store = self._opened(aside)
            bundle = _Unpacked(aside, self._objects, store, durable=self._durable, early=self._early)
            try:
                yield bundle
            finally:
                store.close()
                bundle.let_go()


@contextmanager
def _unpacked(file: Path, objects: Path) -> Iterator[Path]:
    """A repository beside the one with these objects, for as long as the context lasts, that holds what a bundle does.

    Raises:
        GitFailed: it cannot be read.
    """
    with beside(objects, {}) as aside:
        git(
            aside,
            *("-c", "fetch.fsckObjects=true", "-c", "fetch.unpackLimit=1", "-c", "core.alternateRefsCommand=:"),
            *("fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--no-auto-maintenance"),
            *(str(file.absolute()), f"+{LOOPS}*:{LOOPS}*"),
        )
        if not any((aside / "objects" / "pack").glob("*.pack")):  # all is here already: git has not looked
            git(aside, "bundle", "unbundle", str(file.absolute()))
        yield aside


class _Unpacked(Bundle):
    """A bundle's objects and branches in a repository beside the one that they are for."""

    def __init__(self, aside: Path, objects: Path, store: Store, *, durable: bool, early: bool) -> None:
        self._aside, self._objects, self._store, self._durable, self._early = aside, objects, store, durable, early
        self._taken: list[Path] = []

    @property
    def store(self) -> Store:
        return self._store

    def take(self, heads: Mapping[LoopName, CommitId]) -> None:
        try:
            pack = pack_of(self._aside, self._aside, heads.values(), reached=True)
        except GitFailed as error:
            raise Unavailable(f"The bundle could not be unpacked: {error}.", hint="Import it again.") from error
        if self._durable:
            _disk.sync_all()  # who has brought here what is not in the pack, and moved no branch, need not have waited
        if pack is None:
            return  # there is nothing in it that is not here
        with or_refused("The bundle could not be unpacked"):
            taken = take_over(pack, self._objects, durable=self._durable, early=self._early)
            self._taken += [taken] if self._early else []

    def let_go(self) -> None:
        """Let git have what was taken: branches lead to it by now, or it is of no use."""
        for pack in self._taken:
            _disk.unlink(keeper(pack))
