"""Revisions: what a person may call a commit, by git's own rules, told from refs and objects alone."""

import re
from pathlib import Path

from ._errors import torn
from ._format import Malformed, RawCommit, is_id, read_commit
from ._objects import Objects
from ._refs import Refs

MAX_COMMIT = 16 * 2**20
"""The largest commit or tree that is read, in bytes."""

_REVISION = re.compile(
    r"(?P<base>[^~^:@\x00][^~^:\x00]*?|@)(?:@\{(?P<back>\d{1,9})\})?(?P<steps>(?:~\d{0,9}|\^\d{0,9}|\^\{(?:commit)?\})*)"
)
_STEP = re.compile(r"([~^])(\d*)(\{?)")
_SHORT = re.compile(r"[0-9a-f]{4,40}")
_PLACES = ("{}", "refs/{}", "refs/tags/{}", "refs/heads/{}", "refs/remotes/{}", "refs/remotes/{}/HEAD")
_TAGS = 10


class Revisions:
    """Finds commits by name."""

    def __init__(self, objects: Objects, refs: Refs, logs: Path) -> None:
        self._objects, self._refs, self._logs = objects, refs, logs

    def commit(self, name: str) -> RawCommit:
        """A commit, by its id.

        Raises:
            Torn: it is not whole, or no commit.
        """
        try:
            return read_commit(self._objects.get(name, "commit", limit=MAX_COMMIT))
        except Malformed as error:
            raise torn(f"Commit {name}", "as it was written", str(error)) from error

    def find(self, revision: str, folder: str = "") -> str | None:
        """The id of the commit that a revision names, or None; with a `folder`, of one of the refs in that alone.

        Raises:
            Torn: what has that name is not whole.
        """
        match = _REVISION.fullmatch(revision)
        if match is None:
            return None
        base, back = match["base"], match["back"]
        ref, found = self._ref(base) if not folder else (folder + base, self._refs.get(folder + base))
        if back is not None:
            found = None if found is None else self._earlier(ref, int(back))
        elif found is None and not folder:
            found = self._object(base)
        found = None if found is None else self._peeled(found)
        for mark, digits, brace in _STEP.findall(match["steps"]):
            number = 0 if brace else int(digits or 1)
            for parent in [1] * number if mark == "~" else [number]:
                found = None if found is None else self._parent(found, parent)
                if found is None:
                    return None
        return found

    def _parent(self, commit: str, number: int) -> str | None:
        if number == 0:
            return commit
        parents = self.commit(commit).parents
        return parents[number - 1] if number <= len(parents) else None

    def _ref(self, base: str) -> tuple[str, str | None]:
        """The full name of the ref that git takes a short one for, and what it holds; None if there is no such ref."""
        for place in () if is_id(base) else _PLACES:
            name = place.format("HEAD" if base == "@" else base)
            found = self._refs.get(name)
            if found is not None:
                return name, found
        return base, None

    def _object(self, base: str) -> str | None:
        """The object that has this id, or the commit whose id alone begins so."""
        if is_id(base):
            return base if base in self._objects.find(base) else None
        if _SHORT.fullmatch(base) is None:
            return None
        found = [name for name in self._objects.find(base) if self._objects.read(name)[0] == "commit"]
        return found[0] if len(found) == 1 else None

    def _earlier(self, ref: str, back: int) -> str | None:
        """Where a ref was so many moves ago, by its log."""
        try:
            lines = (self._logs / ref).read_text("utf-8", "replace").splitlines()
        except OSError:
            return None
        ids = [line.split(" ", 2)[:2] for line in lines]
        line = [ids[0][0], *(pair[-1] for pair in ids)] if ids else []
        found = line[-1 - back] if back < len(line) else ""
        return found if is_id(found) and found.strip("0") else None

    def _peeled(self, name: str) -> str | None:
        """The commit that an object is, or, if it is a tag, is the tag of."""
        for _ in range(_TAGS):
            kind, data = self._objects.read(name)
            if kind == "commit":
                return name
            name = data[:48].partition(b"\n")[0].removeprefix(b"object ").decode("latin-1")
            if kind != "tag" or not is_id(name):
                return None
        return None
