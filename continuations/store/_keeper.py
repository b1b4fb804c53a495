"""What keeps and forgets in a git repository: bundles in and out."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from .._ids import CommitId, LoopName
from ._plumbing import GitFailed, beside, git, is_bundle, pack_of, take_over
from ._protocol import BadBundle, Bundle, Keeper, Store, Unavailable


class GitKeeper(Keeper):
    """Keeps and forgets the loops of one repository; `opened` opens another as a store."""

    def __init__(self, folder: Path, loops: str, opened: Callable[[Path], Store], *, durable: bool) -> None:
        self._objects, self._loops, self._opened, self._durable = folder / "objects", loops, opened, durable

    def bundle(self, heads: Mapping[LoopName, CommitId], file: Path) -> None:
        if file.exists():
            raise BadBundle(f"{file} is there already.", hint="Name another file, or delete that one.")
        refs = {self._loops + loop: commit for loop, commit in heads.items()}
        with beside(self._objects, refs) as aside:
            try:
                git(aside, "bundle", "create", "--quiet", str(file.absolute()), "--branches")
            except GitFailed as error:
                raise Unavailable(f"No bundle could be made: {error}.", hint="'caesura verify' says more.") from error

    @contextmanager
    def unbundle(self, file: Path) -> Iterator[Bundle]:
        if not is_bundle(file):
            raise BadBundle(f"{file} is no bundle of git's.", hint="'caesura export LOOP --bundle FILE' makes one.")
        with beside(self._objects, {}) as aside:
            try:
                git(
                    aside,
                    *("-c", "fetch.fsckObjects=true", "-c", "fetch.unpackLimit=1", "-c", "core.alternateRefsCommand=:"),
                    *("fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--no-auto-maintenance"),
                    *(str(file.absolute()), f"+{self._loops}*:{self._loops}*"),
                )
            except GitFailed as error:
                raise BadBundle(
                    f"{file} cannot be read: {error}.", hint="Nothing was imported. Have it made and sent anew."
                ) from error
            store = self._opened(aside)
            try:
                yield _Unpacked(aside, self._objects, store, durable=self._durable)
            finally:
                store.close()


class _Unpacked(Bundle):
    """A bundle's objects and branches in a repository beside the one that they are for."""

    def __init__(self, aside: Path, objects: Path, store: Store, *, durable: bool) -> None:
        self._aside, self._objects, self._store, self._durable = aside, objects, store, durable

    @property
    def store(self) -> Store:
        return self._store

    def take(self, heads: Mapping[LoopName, CommitId]) -> None:
        pack = pack_of(self._aside, self._aside, heads.values(), reached=True)
        if pack is None:
            return  # there is nothing in it that is not here
        try:
            take_over(pack, self._objects, durable=self._durable)
        except OSError as error:
            raise Unavailable(
                f"The bundle could not be unpacked: {error}.", hint="Check permissions and space; nothing was imported."
            ) from error
