"""Erasing beside loops that work on files: what was looked at is in no commit yet, and may be erased with another's."""

import datetime as dt
import errno
import shutil
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from caesura.continuations import (
    Commit,
    Files,
    GitStore,
    History,
    Loops,
    Moved,
    Started,
    Status,
    Unavailable,
    User,
    Visibility,
    Workspace,
    loop_name,
    utc_now,
)
from caesura.continuations.store import _forgetter, _vanished
from caesura.runtime import Agent, Runtime, ToolContext, tool
from tests.models import ADA, ScriptedModel, ask_for, lines, say
from tests.strategies import AGENT as SPEC
from tests.strategies import EPOCH, WORKERS
from tests.workspaces import LOOP, files_in, files_of, git, project_of

OTHER = "other"


class Beset(GitStore):
    """A store in which something happens just before a step is written, once."""

    happens: Callable[[], object] | None = None

    def write(self, *args: Any, **named: Any) -> Commit:
        happens, self.happens = self.happens, None
        if happens is not None:
            happens()
        return super().write(*args, **named)


@pytest.fixture(params=["step", "sealed"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Beset:
    visibility: Visibility = request.param
    store = Beset.open(tmp_path / "r.git", create=True, visibility=visibility)
    assert isinstance(store, Beset)
    return store


@tool
def write(text: str, context: ToolContext) -> str:
    assert context.workspace is not None
    (context.workspace / "new").write_text(text)
    return "written"


AGENT = Agent("writer", tools=[write])


def model() -> ScriptedModel:
    return ScriptedModel(lines(ask_for(("write", {"text": "the same words\n"})), say("done")))


async def erased_meanwhile(store: GitStore, root: Path, origin: str | None = None) -> Callable[[], object]:
    """A loop with the files that another is going to have; what erases it, whatever leases there are: their holders
    have slept for an hour."""
    async with Runtime.open(store, agents=[AGENT], model=model()) as runtime:
        await runtime.run("writer", "Write.", loop=OTHER, workspace=root, origin=origin)

    def erase() -> None:
        with closing(GitStore.open(store.location)) as another:
            Loops(another, now=lambda: utc_now() + dt.timedelta(hours=1)).erase(OTHER, by=ADA)

    return erase


def healthy(store: GitStore) -> None:
    """All that branches lead to is there; what a step that came to nothing has left need not be whole."""
    store.seal()
    git(Path(store.location), "rev-list", "--objects", "--all", "--quiet")
    assert Loops(store).verify().faults == ()


def prepared(store: GitStore) -> list[Path]:
    """What is kept of folders for loops that are about to be made."""
    return list(Path(store.location).glob("caesura.workspaces/new~*"))


@pytest.mark.parametrize("from_project", [False, True])
async def test_a_loop_does_not_begin_with_files_that_were_erased_with_another(
    store: Beset, tmp_path: Path, from_project: bool
) -> None:
    project = project_of(tmp_path / "project")
    origin = f"{project}@main" if from_project else None
    roots = [tmp_path / "one", tmp_path / "two"]
    if not from_project:
        for root in roots:
            shutil.copytree(project, root, symlinks=True)
            (root / "kept.log").unlink()
    erase = await erased_meanwhile(store, roots[0], origin)
    async with Runtime.open(store, agents=[AGENT], model=model()) as runtime:
        store.happens = erase
        with pytest.raises(Moved, match="was erased"):
            await runtime.run("writer", "Write.", workspace=roots[1], origin=origin)
        healthy(store)
        assert prepared(store) == []
        outcome = await runtime.run("writer", "Write.", loop=LOOP, workspace=roots[1], origin=origin)
    assert outcome.status is Status.COMPLETED
    healthy(store)
    assert files_of(Path(store.location), f"loops/{LOOP}:workspace") == files_in(roots[1])
    store.close()


async def test_files_that_a_tool_wrote_are_written_again_if_another_was_erased_that_had_them(
    store: Beset, tmp_path: Path
) -> None:
    roots = [tmp_path / "one", tmp_path / "two"]
    for root in roots:
        root.mkdir()
    erase = await erased_meanwhile(store, roots[0])

    @tool(name="write")
    def write_before(text: str, context: ToolContext) -> str:
        store.happens = erase
        assert context.workspace is not None
        (context.workspace / "new").write_text(text)
        return "written"

    async with Runtime.open(store, agents=[Agent("writer", tools=[write_before])], model=model()) as runtime:
        outcome = await runtime.run("writer", "Write.", loop=LOOP, workspace=roots[1])
    assert outcome.status is Status.COMPLETED
    assert store.happens is None
    healthy(store)
    assert files_of(Path(store.location), f"loops/{LOOP}:workspace") == files_in(roots[1])
    store.close()


@pytest.mark.parametrize("ends", ["well", "in an error", "killed"])
async def test_files_that_were_looked_at_while_others_go_are_not_taken_to_be_there(
    store: Beset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ends: str
) -> None:
    roots = [tmp_path / "one", tmp_path / "two"]
    for root in roots:
        root.mkdir()
        (root / "old").write_text("words that both have\n")
    erase = await erased_meanwhile(store, roots[0])
    count, history = _vanished.about_to_erase, History(store)
    found: list[Workspace] = []

    def counted(folder: Path) -> None:
        count(folder)
        if not found:
            found.append(Files(history).begin(roots[1])[1])

    def refused(_: _forgetter.Forgetter) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    def interrupted(_: Path) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(_forgetter, "about_to_erase", counted)
    if ends == "well":
        erase()
    elif ends == "killed":
        with monkeypatch.context() as patched:
            patched.setattr(_forgetter, "erased", interrupted)
            with pytest.raises(KeyboardInterrupt):
                erase()
    else:
        monkeypatch.setattr(_forgetter.Forgetter, "_forget_caches", refused)
        with pytest.raises(Unavailable, match="Not all of it is gone yet"):
            erase()
    started = Started(
        at=EPOCH, definition=SPEC, prompt=User(content="Go."), nonce="n", worker=WORKERS[0], workspace=found[0]
    )
    with pytest.raises(Moved, match="was erased"):
        history.begin(loop_name(LOOP), started, ADA, ADA)
    healthy(store)
    store.close()
