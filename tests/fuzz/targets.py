"""What is fuzzed: everything that reads what a stranger may have written. A target raises only if there is a bug.

Each takes bytes, from hypothesis in the suite (``tests/test_fuzz.py``) or from atheris outside it
(``python -m tests.fuzz.run``), and may raise nothing but Caesura's own errors.
"""

import json
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import cast

import pygit2

from caesura.adapters.cli._config import find_config
from caesura.adapters.cli._json import request_json, saved_json
from caesura.adapters.cli._output import Page
from caesura.adapters.cli._paste import Paste
from caesura.adapters.cli._screen import request_page, ways_out
from caesura.adapters.cli._shown_files import Shown
from caesura.adapters.cli._transcript import transcript
from caesura.continuations import (
    BadRedaction,
    CaesuraError,
    CommitId,
    Continuation,
    FilesDiff,
    GitStore,
    History,
    Loops,
    MemoryStore,
    Redaction,
    Request,
    Saved,
    import_loop,
    loop_name,
    printable,
    start,
)
from caesura.continuations import _codec as codec
from caesura.continuations._requests import requests
from caesura.continuations._state import Record
from tests.strategies import AGENT, EPOCH, GRACE, NESTED, TREE_AGENT, WORKERS, World

COMMIT, TREE, BLOB = (pygit2.enums.ObjectType[name] for name in ("COMMIT", "TREE", "BLOB"))
X = loop_name("x")


class Choices:
    """Choices made by some bytes; once they are used up, the first of everything."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def number(self, below: int) -> int:
        """A number from 0."""
        size = 1 if below <= 256 else 2
        taken, self._data = self._data[:size], self._data[size:]
        return int.from_bytes(taken) % max(1, below)

    def some(self) -> bytes:
        """Some of the bytes."""
        size = self.number(256)
        taken, self._data = self._data[:size], self._data[size:]
        return taken

    def rest(self) -> bytes:
        """All that is left of them."""
        taken, self._data = self._data, b""
        return taken

    def spliced(self, original: bytes) -> bytes:
        """The original with a piece of it replaced by bytes, or by another piece of it; or the bytes alone."""
        kind = self.number(4)
        if kind == 0:
            return self.rest()
        begin = self.number(len(original) + 1)
        end = min(len(original), begin + self.number(64))
        if kind == 1:
            return original[:begin] + self.some() + original[end:]
        if kind == 2:
            other = self.number(len(original) + 1)
            return original[:begin] + original[other : other + self.number(256)] + original[end:]
        return original[:begin] + original[end:]


# The codec -----------------------------------------------------------------------------------------------------------


def files(data: bytes) -> None:
    """The files of a commit, read each alone; what can be read can be written and is read the same again."""
    with suppress(CaesuraError):
        definition = codec.decode_definition(data)
        assert codec.decode_definition(codec.encode_definition(definition)) == definition
        assert definition.fingerprint
    with suppress(CaesuraError):
        message = codec.decode_message(data, "m")
        assert codec.decode_message(codec.encode_message(message), "m") == message
    with suppress(CaesuraError):
        record = codec.decode_record(data)
        fields = {name: getattr(record, name) for name in Record.__struct_fields__}
        assert codec.decode_record(codec.encode_record(Continuation(**fields, definition=AGENT))) == record


def spliced_files(data: bytes) -> None:
    """The same for files that were right until somebody changed them, and what is made of them on a screen."""
    choices = Choices(data)
    _, state = _suspended()
    which = choices.number(3)
    with suppress(CaesuraError):
        record = codec.decode_record(_splice(choices, codec.encode_record(state), which == 0))
        definition = codec.decode_definition(_splice(choices, codec.encode_definition(state.definition), which == 1))
        message = codec.decode_message(_splice(choices, codec.encode_message(state.messages[-1]), which == 2), "m")
        fields = {name: getattr(record, name) for name in Record.__struct_fields__}
        looked_at(Continuation(**fields, definition=definition, messages=(*state.messages[:-1], message)))


def _splice(choices: Choices, original: bytes, change: bool) -> bytes:
    return choices.spliced(original) if change else original


@cache
def _suspended() -> tuple[World, Continuation]:
    world = World(MemoryStore(), NESTED)
    return world, world.settle().state


def looked_at(state: Continuation) -> None:
    """Everything that a screen shows of a state: printable, and JSON in ASCII."""
    saved = Saved(loop=X, commit=CommitId("c" * 40), message="", state=state)
    for full in (False, True):
        safe(transcript(saved, {}, EPOCH, full=full))
    assert json.dumps(saved_json(saved, {})).isascii()
    for request in requests(X, saved.commit, state, (state.agent,)):
        _requested(request)


def _requested(request: Request) -> None:
    files = () if request.preview is None else request.preview.files
    diff = FilesDiff(since=request.commit, until=request.commit, files=files)
    shown = Shown(unseen=diff, outdated=tuple(file.path for file in files), fault=request.remark)
    for full in (False, True):
        safe(request_page(request, EPOCH, shown, Paste(), full=full))
    safe(ways_out(request, Paste()))
    assert json.dumps(request_json(request, shown)).isascii()


def _told(error: CaesuraError) -> None:
    safe(Page().add(str(error)).add(error.hint))
    assert len(f"{error}{error.hint}") < 2000


def safe(page: Page) -> None:
    """Nothing in it can command a terminal."""
    assert page.plain == printable(page.plain)
    assert not any(char < " " and char not in "\t\n" for char in page.plain)


# The loader ----------------------------------------------------------------------------------------------------------

_FRESH = 2000
"""Runs after which the repository is made anew, because it grows."""


class _Repository:
    """A repository with a tree of loops in it, to be written over."""

    def __init__(self) -> None:
        self._temporary = tempfile.TemporaryDirectory(prefix="caesura-fuzz-")
        self.folder = Path(self._temporary.name)
        store = GitStore.open(self.folder / "r", create=True)
        self.head = World(store, NESTED).settle().commit
        store.close()
        self.repo = pygit2.Repository(str(self.folder / "r"))
        self.objects = sorted(map(str, cast("Iterable[pygit2.Oid]", self.repo.odb)))
        self.runs = 0

    def close(self) -> None:
        self.repo.free()
        self._temporary.cleanup()


_kept: dict[str, _Repository] = {}


def _repository(target: str) -> _Repository:
    if target in _kept and _kept[target].runs >= _FRESH:
        _kept.pop(target).close()
    if target not in _kept:
        _kept[target] = _Repository()
    _kept[target].runs += 1
    return _kept[target]


def loader(data: bytes) -> None:
    """A commit in which something, at any depth, is not what it was: a file, an entry, a name, the commit itself."""
    made, choices = _repository("loader"), Choices(data)
    head = _changed_commit(made, choices, made.head, 0)
    made.repo.references.create("refs/heads/loops/x", head, force=True)
    with _no_escape(made.folder), Loops.open(made.folder / "r") as loops:
        loops.all(nested=True)
        loops.pending()
        assert all(str(error) and error.hint for error in loops.unreadable().values())
        for look in (loops.show, loops.export, loops.driver, loops.pending):
            with suppress(CaesuraError):
                look("x")
        with suppress(CaesuraError):
            saved = loops.show(head)
            looked_at(saved.state)
            World.resumed(loops._store, "x").settle()


@contextmanager
def _no_escape(folder: Path) -> Iterator[None]:
    before = _names(folder)
    yield
    new = _names(folder) - before
    assert new <= {"caesura.exclusive", "caesura.waiting", "logs"}, (
        new
    )  # libgit2 makes an empty log to find out what @{-1} is


def _names(folder: Path) -> set[str]:
    return {path.name for path in (*folder.iterdir(), *(folder / "r").iterdir())}


def _changed_commit(made: _Repository, choices: Choices, commit: str, depth: int) -> str:
    found = made.repo[commit].peel(pygit2.Commit)
    parents = [str(parent) for parent in found.parent_ids]
    kind = choices.number(8)
    if kind == 0:
        return str(made.repo.odb.write(COMMIT, choices.spliced(found.read_raw())))
    tree = str(found.tree_id)
    if kind < 4 and depth < 3 and len(parents) > 1:  # a child, and its place in this tree
        which = 1 + choices.number(len(parents) - 1)
        old = made.repo[parents[which]].peel(pygit2.Commit)
        parents[which] = _changed_commit(made, choices, parents[which], depth + 1)
        with suppress(pygit2.GitError, KeyError, ValueError):
            new = made.repo[parents[which]].peel(pygit2.Tree).id
            tree = _replaced(made, tree, str(old.tree_id), str(new))
    else:
        tree = _changed_tree(made, choices, tree, 0)
    lines = [f"tree {tree}", *(f"parent {parent}" for parent in parents)]
    who = "A <a@example.com> 1767268800 +0000"
    text = "\n".join([*lines, f"author {who}", f"committer {who}", "", "x\n\nLoop: x\n"])
    return str(made.repo.odb.write(COMMIT, text.encode()))


Entry = tuple[bytes, bytes, bytes]


def _entries(raw: bytes) -> list[Entry]:
    found: list[Entry] = []
    while raw:
        head, _, raw = raw.partition(b"\0")
        mode, _, name = head.partition(b" ")
        found.append((mode, name, raw[:20]))
        raw = raw[20:]
    return found


def _written(made: _Repository, entries: list[Entry]) -> str:
    raw = b"".join(mode + b" " + name + b"\0" + oid for mode, name, oid in entries)
    return str(made.repo.odb.write(TREE, raw))


def _replaced(made: _Repository, tree: str, old: str, new: str) -> str:
    """The tree with one object in the place of another, at any depth."""
    found: list[Entry] = []
    for mode, name, oid in _entries(made.repo[tree].read_raw()):
        one = oid.hex()
        if one == old:
            one = new
        elif mode == b"40000":
            one = _replaced(made, one, old, new)
        found.append((mode, name, bytes.fromhex(one)))
    return _written(made, found)


_MODES = (b"100644", b"40000", b"100755", b"120000", b"160000", b"0", b"")
_NAMES = (b"..", b".", b".git", b"", b"a/b", b"../x", b"continuation.json", b"agent.json", b"messages", b"children")


def _changed_tree(made: _Repository, choices: Choices, tree: str, depth: int) -> str:
    entries = _entries(made.repo[tree].read_raw())
    if not entries:
        return tree
    which = choices.number(len(entries))
    mode, name, oid = entries[which]
    kind = choices.number(10)
    if mode == b"40000" and kind < 6 and depth < 8:
        entries[which] = (mode, name, bytes.fromhex(_changed_tree(made, choices, oid.hex(), depth + 1)))
        return _written(made, entries)
    if kind < 6 and mode != b"40000":
        changed = made.repo.odb.write(BLOB, choices.spliced(made.repo[oid.hex()].read_raw()))
        entries[which] = (mode, name, bytes.fromhex(str(changed)))
    elif kind == 6:
        entries[which] = (mode, choices.some().replace(b"\0", b"") or _NAMES[choices.number(len(_NAMES))], oid)
    elif kind == 7:
        other = made.objects[choices.number(len(made.objects))]
        entries[which] = (mode, name, bytes.fromhex(other) if choices.number(4) else b"\x01" * 20)
    elif kind == 8:
        entries[which] = (_MODES[choices.number(len(_MODES))], name, oid)
    else:
        entries = [*entries[:which], *entries[which + 1 :], *([entries[which]] * choices.number(3))]
    return _written(made, entries)


# What a command line, a document and a settings file bring ---------------------------------------------------------


def revisions(data: bytes) -> None:
    """A revision, a name or an address, as anybody may type it; what is made of it is safe to show."""
    made, text = _repository("revisions"), data.decode("utf-8", "surrogateescape")
    with _no_escape(made.folder), Loops.open(made.folder / "r") as loops:
        for look in (loops.show, loops.info, loops.request, loops.driver, loops.export, loops.pending, loops.fork):
            try:
                look(text)
            except CaesuraError as error:
                _told(error)


@cache
def document() -> bytes:
    """A continuation object, for the mutations to begin with."""
    world, _ = _suspended()
    return json.dumps(world.loops.export(world.root)).encode()


def interchange(data: bytes) -> None:
    """A continuation object: imported whole, or refused with nothing written."""
    store = MemoryStore()
    try:
        value = json.loads(Choices(data[1:]).spliced(document()) if data[:1] > b"\x80" else data)
    except (ValueError, RecursionError):
        return
    try:
        import_loop(History(store), "x", value, agent=TREE_AGENT, agents=[TREE_AGENT], by=GRACE, now=EPOCH)
    except CaesuraError as error:
        assert not store.heads()
        _told(error)
        return
    looked_at(History(store).load(X).state)
    World.resumed(store, "x").settle()


SETTINGS = b"""agents = ["a.py:b", "c:d"]
model = "m"
api = "chat"
settings = { temperature = 0 }
repo = ".caesura"
redact.env = ["HOME"]
redact.patterns = ["x+"]
"""


def settings(data: bytes) -> None:
    """A settings file: understood, or refused with a sentence."""
    with tempfile.TemporaryDirectory(prefix="caesura-fuzz-") as folder:
        text = Choices(data[1:]).spliced(SETTINGS) if data[:1] > b"\x80" else data
        (Path(folder) / "caesura.toml").write_bytes(text)
        with suppress(CaesuraError):
            config = find_config(Path(folder))
            with suppress(CaesuraError):
                GitStore.open(config.repo).close()
        assert os.listdir(folder) == ["caesura.toml"]  # noqa: PTH208  # names, not paths


def redaction(data: bytes) -> None:
    """Redaction: twice is once, a secret is never left, JSON stays JSON."""
    choices = Choices(data)
    secret = (choices.some().decode("utf-8", "replace").strip() + "--secret")[:40].strip()
    text = choices.rest().decode("utf-8", "replace")
    try:
        redact = Redaction(secrets={"VALUE": secret}, patterns=[r"ACME-\d+"])
    except BadRedaction:
        return
    once = redact.text(text + secret + text)
    assert redact.text(once) == once
    assert secret not in once.replace("[redacted: $VALUE]", "\ue000")  # a marker's own words may be a value
    if set(secret) & set('"/\\'):  # which one of JSON's own may be, or may stand before
        return
    shown = redact.text(json.dumps({"a": json.dumps([secret, text])}))
    assert json.loads(json.loads(shown)["a"])[0] == "[redacted: $VALUE]"


TARGETS: dict[str, Callable[[bytes], None]] = {
    one.__name__: one for one in (files, spliced_files, loader, revisions, interchange, settings, redaction)
}
"""Every target, by its name."""


def seeds() -> dict[str, list[bytes]]:
    """Inputs to begin with, for each target that is not begun by its own mutations."""
    _, state = _suspended()
    first = start_state()
    return {
        "files": [
            codec.encode_record(state),
            codec.encode_definition(state.definition),
            *(codec.encode_message(message) for message in state.messages),
            codec.encode_record(first),
        ],
        "revisions": [b"x", b"ops~1", b"ops.team-1.order-1", b"HEAD^{tree}", b"@{-1}", b"--all", b":/x", b"ops^2"],
        "interchange": [document()],
        "settings": [SETTINGS],
        "redaction": [b"\x05abcde sk-", b"\x01\\\\n -----BEGIN PRIVATE KEY----- eyJ"],
    }


def start_state() -> Continuation:
    """A loop's first state."""
    from caesura.continuations import Started, User

    event = Started(at=EPOCH, definition=AGENT, prompt=User(content="Go."), nonce="n", worker=WORKERS[0])
    return start(event)
