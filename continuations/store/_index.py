"""The index of a folder of files: what is known of each, so that only what was changed is read again."""

from contextlib import suppress
from pathlib import Path

import msgspec

from . import _disk
from ._folder import Stamp, join
from ._owner import mark
from ._trees import Trees

_VERSION = 1
_MOMENT = 50_000_000  # nanoseconds: more than a tick of any clock that stamps files
_COARSE = 2_000_000_000  # where a file system stamps whole seconds


class Known(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One folder. `blobs` is the mode and the id of each file that its tree has, `stamps` the stamp that the file had
    when that was read; `racy` names those that may have been changed within the moment in which they were read.

    `tree` is the tree of all that, once it is known, and empty else. `own` is the stamp that the folder itself had when
    just these names were in it, if no name can have come or gone since as long as it still has that.
    """

    stamps: dict[str, Stamp] = {}
    blobs: dict[str, tuple[int, str]] = {}
    folders: set[str] = set()
    racy: set[str] = set()
    tree: str = ""
    own: Stamp | None = None


class Index(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What is known of the files, by folder; "" is the outermost.

    `settled` is the tree that the files were last known to be, in a commit; `target` the one that they were being
    made when a process died, if one did. What is known was there after so many erasures as `since` says.
    """

    version: int = _VERSION
    settled: str = ""
    target: str = ""
    since: int = 0
    folders: dict[str, Known] = {}


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Index)


def seed(index: Index, trees: Trees, tree: str, path: str = "") -> None:
    """Let an index that knows nothing know what is kept, and not how it is now: what a tree holds."""
    known = index.folders[path] = Known()
    for name, entry in trees.read(tree).items():
        if entry.is_folder:
            known.folders.add(name)
            seed(index, trees, entry.id, join(path, name))
        else:
            known.blobs[name] = entry.mode, entry.id


def load_index(file: Path) -> Index:
    """The index in a file; an empty one if there is none that can be read."""
    with suppress(OSError, msgspec.MsgspecError, UnicodeDecodeError), _disk.opened(file) as opened:
        found = _decoder.decode(opened.readall())
        if found.version == _VERSION:
            return found
    return Index()


def save_index(file: Path, index: Index) -> None:
    """Keep an index in a file. It is not synced: without it, all files are read again."""
    try:
        data = _encoder.encode(index)
    except UnicodeEncodeError:  # a file's name is not UTF-8
        data = _encoder.encode(Index(settled=index.settled, target=index.target, since=index.since))
    temporary = file.with_name(f"{file.name}.{mark()}")
    _disk.write(temporary, data)
    try:
        _disk.rename(temporary, file)
    except OSError:
        _disk.unlink(temporary)
        raise


def is_racy(stamp: Stamp, now: int) -> bool:
    """Whether a file could be changed again without a change of its stamp: it was written to as it was read."""
    changed = max(stamp[0], stamp[1])
    return changed + (_MOMENT if stamp[0] % 1_000_000_000 else _COARSE) > now


def forget_tree(index: Index, path: str) -> None:
    """A folder was changed: its tree and those of the folders that it is in are not known any more."""
    while True:
        if path in index.folders:
            index.folders[path].tree = ""
        if not path:
            return
        path = path.rpartition("/")[0]
