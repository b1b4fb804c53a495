"""The store in git: a loop is a branch, a step a commit, a continuation its tree. Only this module knows pygit2."""

import os
import random
import time
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import pygit2

from .._calls import Person
from .._codec import (
    Unreadable,
    decode_definition,
    decode_message,
    decode_record,
    encode_definition,
    encode_message,
    encode_record,
)
from .._ids import BadName, CallId, CommitId, LoopName, loop_name
from .._messages import Message, plain_text
from .._state import Child, Continuation, Record
from .._text import one_line
from ._exclusive import exclusive
from ._layout import CHILDREN, DEFINITION, MESSAGES, RECORD, message_path
from ._protocol import Commit, Lease, Locked, Moved, NoPerson, NoSuchRevision, NotALoop, Store, Unavailable

LOOPS = "refs/heads/loops/"
LEASES = "refs/leases/"

_CACHED = 256
_LOCK_SECONDS = 10.0
_FILE, _FOLDER = pygit2.enums.FileMode.BLOB, pygit2.enums.FileMode.TREE

# Without this a power cut leaves moved refs that point to objects of zero length.
pygit2.option(pygit2.enums.Option.ENABLE_FSYNC_GITDIR, True)


class GitStore(Store):
    """Loops in a git repository: Caesura's own bare one, or any other, the user's project included."""

    def __init__(self, repository: pygit2.Repository) -> None:
        self._repo = repository
        self._cache: OrderedDict[CommitId, Commit] = OrderedDict()

    @classmethod
    def open(cls, path: str | os.PathLike[str], *, create: bool = False) -> "GitStore":
        """Open the repository at `path`; with `create`, make a bare one there if there is none.

        Raises:
            Unavailable: there is no repository, or it cannot be opened or made.
        """
        folder = Path(path)
        if create and (not folder.exists() or (folder.is_dir() and not any(folder.iterdir()))):
            with _trouble(f"No repository could be made at {folder}", "Choose a folder that can be written."):
                pygit2.init_repository(str(folder), bare=True)
        if not folder.is_dir():
            raise Unavailable(
                f"There is no repository at {folder}.",
                hint="Make one with 'caesura init', or name another with --repo or CAESURA_REPO.",
            )
        with _trouble(
            f"{folder} is not a git repository", "Make one with 'caesura init', or name another with --repo."
        ):
            return cls(pygit2.Repository(str(folder)))

    @property
    def location(self) -> str:
        return str(self._repo.path).rstrip("/")

    def close(self) -> None:
        self._cache.clear()
        self._repo.free()

    # Refs --------------------------------------------------------------------------------------------------------

    def heads(self) -> Mapping[LoopName, CommitId]:
        found: dict[LoopName, CommitId] = {}
        for ref in sorted(self._repo.raw_listall_references()):
            text = ref.decode("utf-8", "replace")
            if not text.startswith(LOOPS):
                continue
            try:
                name = loop_name(text.removeprefix(LOOPS))
            except BadName:
                continue  # somebody's own branch beside ours
            head = self._target(text)
            if head is not None:
                found[name] = CommitId(head)
        return found

    def head(self, loop: LoopName) -> CommitId | None:
        head = self._target(LOOPS + loop)
        return None if head is None else CommitId(head)

    def move(self, loop: LoopName, old: CommitId | None, new: CommitId) -> None:
        self._swap(LOOPS + loop, old, new)
        if old is None and self._repo.is_bare and self._repo.head_is_unborn:
            # So that `git log` and `git clone` have something to start from.
            with suppress(pygit2.GitError, OSError), exclusive(Path(self._repo.path), "HEAD"):
                self._repo.set_head(LOOPS + loop)

    def lease(self, root: LoopName) -> Lease | None:
        token = self._target(LEASES + root)
        return None if token is None else Lease(token=token, data=self._blob(token))

    def move_lease(self, root: LoopName, old: Lease | None, data: bytes | None) -> Lease | None:
        with _trouble("The lease could not be written", "Check the repository's permissions and free space."):
            token = None if data is None else str(self._repo.create_blob(data))
        self._swap(LEASES + root, None if old is None else old.token, token)
        return None if token is None or data is None else Lease(token=token, data=data)

    def _target(self, ref: str) -> str | None:
        found = self._repo.references.get(ref)
        return None if found is None else str(found.resolve().target)

    def _swap(self, ref: str, old: str | None, new: str | None) -> None:
        """Compare-and-swap under the ref's own lock; exact for creation too, which libgit2's other ways are not."""
        deadline = time.monotonic() + _LOCK_SECONDS
        removed = () if new is not None else ("packed-refs",)
        while True:
            try:
                with exclusive(Path(self._repo.path), ref, *removed), self._repo.transaction() as transaction:
                    transaction.lock_ref(ref)
                    now = self._target(ref)
                    if now != old:
                        raise Moved(f"{ref} was moved by another writer.", hint="Read it again and decide again.")
                    if new is None:
                        transaction.remove(ref)
                    else:
                        transaction.set_target(ref, new)
                    return
            except (pygit2.GitError, OSError, ValueError) as error:
                lock = Path(self._repo.path) / (ref + ".lock")
                if "refs beneath" in str(error):
                    raise Unavailable(
                        f"{ref} cannot be a branch: there are branches {ref}/… already.",
                        hint="Choose another name for the loop, or rename those branches.",
                    ) from error
                if not lock.exists() and "lock" not in str(error):
                    raise Unavailable(
                        f"{ref} could not be written: {error}.",
                        hint="Check the repository's permissions and free space; nothing was lost.",
                    ) from error
                if time.monotonic() > deadline:
                    raise Locked(
                        f"{lock} has been there for {_LOCK_SECONDS:.0f} seconds.",
                        hint="If no git process is using the repository, delete that file.",
                    ) from error
                time.sleep(random.uniform(0.001, 0.02))  # noqa: S311  # jitter, not a secret

    # Objects -----------------------------------------------------------------------------------------------------

    def read(self, commit: CommitId) -> Commit:
        cached = self._cache.get(commit)
        if cached is not None:
            self._cache.move_to_end(commit)
            return cached
        try:
            found = self._repo[commit].peel(pygit2.Commit)
        except (KeyError, ValueError, pygit2.GitError):
            raise NotALoop(f"{commit} is not a commit.", hint="Name a loop, or a commit of one.") from None
        parents = tuple(CommitId(str(parent)) for parent in found.parent_ids)
        try:
            state = self._load(found, parents)
        except (KeyError, ValueError, pygit2.GitError) as error:
            raise _damaged(f"an object of {commit} cannot be read") from error
        return self._remember(
            Commit(
                id=commit,
                state=state,
                parents=parents,
                author=Person(name=found.author.name, email=found.author.email),
                message=found.message,
            )
        )

    def write(
        self,
        state: Continuation,
        *,
        parents: tuple[CommitId, ...],
        message: str,
        author: Person,
        committer: Person,
    ) -> Commit:
        base = self.read(parents[0]) if parents else None
        with _trouble("The step could not be written", "Check the repository's permissions and free space."):
            commit = self._repo.create_commit(
                None,
                _signature(author, state),
                _signature(committer, state),
                message,
                self._tree(state, base),
                list(parents),
            )
        return self._remember(
            Commit(id=CommitId(str(commit)), state=state, parents=parents, author=author, message=message)
        )

    def resolve(self, revision: str) -> CommitId:
        # A NUL would end the text for libgit2, and name something else.
        for text in () if "\x00" in revision else (LOOPS + revision, revision):
            try:
                return CommitId(str(self._repo.revparse_single(text).peel(pygit2.Commit).id))
            except (KeyError, ValueError, pygit2.GitError):
                continue
        raise NoSuchRevision(
            f"{one_line(revision)!r} names no loop and no commit here.",
            hint="'caesura loops' lists the loops; any git revision will do: a branch, 'name~3', a hash.",
        )

    def person(self) -> Person:
        config = self._repo.config
        name = os.environ.get("GIT_AUTHOR_NAME") or _setting(config, "user.name")
        email = os.environ.get("GIT_AUTHOR_EMAIL") or _setting(config, "user.email")
        if not name or not email:
            raise NoPerson(
                "Git does not know who you are, and a decision needs a name.",
                hint="git config --global user.name 'Your Name'; git config --global user.email you@example.com",
            )
        return Person(name=name, email=email)

    def _remember(self, commit: Commit) -> Commit:
        self._cache[commit.id] = commit
        if len(self._cache) > _CACHED:
            self._cache.popitem(last=False)
        return commit

    # Writing trees -----------------------------------------------------------------------------------------------

    def _tree(self, state: Continuation, base: Commit | None) -> pygit2.Oid:
        """The tree of a state, reusing what the commit before it already has."""
        old = None if base is None else self._repo[base.id].peel(pygit2.Tree)
        builder = self._repo.TreeBuilder()
        builder.insert(RECORD, self._repo.create_blob(encode_record(state)), _FILE)
        if base is not None and old is not None and base.state.definition == state.definition:
            definition = old[DEFINITION].id
        else:
            definition = self._repo.create_blob(encode_definition(state.definition))
        builder.insert(DEFINITION, definition, _FILE)
        builder.insert(MESSAGES, self._messages_tree(state.messages, base, old), _FOLDER)
        if state.children:
            children = self._repo.TreeBuilder()
            for call, child in state.children.items():
                children.insert(call, self._repo[child.commit].peel(pygit2.Tree).id, _FOLDER)
            builder.insert(CHILDREN, children.write(), _FOLDER)
        return builder.write()

    def _messages_tree(self, messages: tuple[Message, ...], base: Commit | None, old: pygit2.Tree | None) -> pygit2.Oid:
        kept, tree = 0, None
        if base is not None and old is not None and messages[: len(base.state.messages)] == base.state.messages:
            kept, tree = len(base.state.messages), old[MESSAGES].id
        blobs = {
            message_path(index): self._repo.create_blob(encode_message(messages[index]))
            for index in range(kept, len(messages))
        }
        return self._insert(tree, blobs)

    def _insert(self, tree: pygit2.Oid | None, blobs: Mapping[tuple[str, ...], pygit2.Oid]) -> pygit2.Oid:
        """A tree with these blobs added at their paths."""
        builder = self._repo.TreeBuilder() if tree is None else self._repo.TreeBuilder(tree)
        folders: dict[str, dict[tuple[str, ...], pygit2.Oid]] = {}
        for (name, *rest), blob in blobs.items():
            if rest:
                folders.setdefault(name, {})[tuple(rest)] = blob
            else:
                builder.insert(name, blob, _FILE)
        for name, inner in folders.items():
            entry = builder.get(name)
            builder.insert(name, self._insert(None if entry is None else entry.id, inner), _FOLDER)
        return builder.write()

    # Reading trees -----------------------------------------------------------------------------------------------

    def _load(self, commit: pygit2.Commit, parents: tuple[CommitId, ...]) -> Continuation:
        tree = commit.tree
        if RECORD not in tree:
            raise NotALoop(f"Commit {commit.short_id} holds no continuation.", hint="Name a loop, or a commit of one.")
        record = decode_record(self._file(tree, RECORD))
        return Continuation(
            **{name: getattr(record, name) for name in Record.__struct_fields__},
            definition=decode_definition(self._file(tree, DEFINITION)),
            messages=self._read_messages(self._folder(tree, MESSAGES)),
            children=self._children(self._folder(tree, CHILDREN), parents) if CHILDREN in tree else {},
        )

    def _read_messages(self, tree: pygit2.Tree) -> tuple[Message, ...]:
        """The messages in order; the files must be exactly those that the layout says."""
        files = dict(self._walk(tree, ()))
        messages: list[Message] = []
        for index in range(len(files)):
            path = message_path(index)
            blob = files.get(path)
            if blob is None:
                raise _damaged(f"{MESSAGES}/{'/'.join(path)} is missing")
            messages.append(decode_message(self._blob(str(blob)), f"{MESSAGES}/{'/'.join(path)}"))
        return tuple(messages)

    def _walk(self, tree: pygit2.Tree, above: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], pygit2.Oid]]:
        if len(above) > 3:
            raise _damaged(f"{MESSAGES}/{'/'.join(above)} is a folder too deep")
        for entry in tree:
            path = (*above, entry.name or "")
            if isinstance(entry, pygit2.Tree):
                yield from self._walk(entry, path)
            else:
                yield path, entry.id

    def _children(self, folder: pygit2.Tree, parents: tuple[CommitId, ...]) -> dict[CallId, Child]:
        """The live children, each with its commit: the further parent that has the same tree."""
        commits = [(self._repo[parent].peel(pygit2.Tree).id, parent) for parent in parents]
        children: dict[CallId, Child] = {}
        for entry in folder:
            match = next((pair for pair in commits if pair[0] == entry.id), None)
            if match is None:
                raise _damaged(f"{CHILDREN}/{entry.name} is not the tree of any parent commit")
            commits.remove(match)
            children[CallId(entry.name or "")] = Child(commit=match[1], state=self.read(match[1]).state)
        return children

    def _file(self, tree: pygit2.Tree, name: str) -> bytes:
        if name not in tree:
            raise _damaged(f"{name} is missing")
        return self._blob(str(tree[name].id))

    def _folder(self, tree: pygit2.Tree, name: str) -> pygit2.Tree:
        if name not in tree or not isinstance(found := tree[name], pygit2.Tree):
            raise _damaged(f"{name}/ is missing")
        return found

    def _blob(self, blob: str) -> bytes:
        found = self._repo.get(blob)
        if not isinstance(found, pygit2.Blob):
            raise _damaged(f"object {blob} is missing or not a file")
        return found.data


def _damaged(what: str) -> Unreadable:
    return Unreadable(f"The commit is damaged: {what}.", hint="Check it with 'git fsck'; fork an earlier commit.")


def _signature(person: Person, state: Continuation) -> pygit2.Signature:
    local = state.at.astimezone()
    offset = local.utcoffset()
    minutes = 0 if offset is None else int(offset.total_seconds() // 60)
    # Git ends a name at '<', '>' or a line's end, and has no empty ones.
    parts = (plain_text(part).translate(_UNSAFE) for part in (person.name, person.email))
    name, email = (one_line(part, 100) or "unknown" for part in parts)
    return pygit2.Signature(name, email, int(local.timestamp()), minutes)


_UNSAFE = str.maketrans("", "", "<>")


def _setting(config: pygit2.Config, key: str) -> str:
    try:
        return config[key] or ""
    except KeyError:
        return ""


@contextmanager
def _trouble(what: str, hint: str) -> Iterator[None]:
    """Turn git's and the system's errors into one of ours."""
    try:
        yield
    except (pygit2.GitError, OSError, KeyError) as error:  # a KeyError is an object that is not there
        raise Unavailable(f"{what}: {error}.", hint=hint) from error
