"""Nested loops that work in their parent's folder: one folder, several histories, and nothing in it is lost."""

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from itertools import pairwise
from pathlib import Path

import pytest
import trio

from caesura.adapters.files import edit_file
from caesura.continuations import (
    Assistant,
    CallerError,
    CommitId,
    GitStore,
    LoopName,
    Loops,
    NotApplicable,
    Reply,
    UnkeptFiles,
    Variation,
)
from caesura.runtime import Agent, ModelRequest, Runtime, ToolContext, tool
from tests.families import LOOP_REF, Do, Family, apart, chaos, ended, event_of, go_on, healthy, held, line, writes
from tests.models import ADA, GRACE, ScriptedModel, ask_for, say
from tests.processes import Processes
from tests.workspaces import LOOP, Kept, drive_family, files_in, files_of, git

CHILD = f"{LOOP}.child-1"


class Sharing(Family):
    """A family whose children work in the lead's folder."""

    workspace = "share"

    def with_approval(self) -> "Sharing":
        """The same, but that a person is asked before a child does anything."""
        self.child = Agent("child", tools=[self.act.with_approval(True)])
        self.lead = Agent("lead", tools=[self.act, self.child.as_tool("Acts.", workspace="share")])
        return self


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "r.git"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "project"
    root.mkdir()
    (root / "text").write_text("".join(f"line {number}\n" for number in range(9)))
    (root / "other").write_text("other\n")
    (root / ".gitignore").write_text("cache\n")
    (root / "cache").write_text("built\n")
    return root


def kept_in(root: Path) -> Kept:
    """The files of a folder that a commit holds."""
    return {name: one for name, one in files_in(root).items() if name != "cache"}


def made_whole(name: str) -> Do:
    """`writes`, of a file that nobody who looks meanwhile sees half of."""

    def make(root: Path) -> None:
        new = root.with_name(f"{name}.new")
        new.write_text(name)
        new.rename(root / name)

    return make


def commits(path: Path, revision: str) -> list[str]:
    return git(path, "rev-list", "--first-parent", "--reverse", revision).decode().split()


async def test_a_child_works_in_its_parents_folder_and_each_has_the_files_in_its_commits(
    path: Path, root: Path
) -> None:
    family = Sharing(path, ["!first"], ["new"], first=writes("other", "1\n"), new=writes("made", "by a child\n"))
    assert (await family.run(root)).status == "completed"
    assert family.places == {"first": root, "new": root}
    assert family.found["new"]["cache"] == ("100644", b"built\n")
    assert held(path) == held(path, CHILD) == kept_in(root)
    (took,) = ended(path)
    child = git(path, "rev-parse", f"{took}^2").decode().strip()
    assert "made" not in files_of(path, f"{took}~:workspace")
    assert files_of(path, f"{took}:workspace") == files_of(path, f"{child}:workspace") == kept_in(root)
    assert family.told[-1][-1] == "did new"
    assert not (path / "caesura.workspaces" / CHILD).exists()
    # Git finds the step of the child that made a file, through the commit that took its result.
    (made,) = git(path, "log", "--format=%H", LOOP_REF, "--", "workspace/made").decode().split()
    assert event_of(path, made) == "ToolReturned"
    assert made in commits(path, f"refs/heads/loops/{CHILD}")
    healthy(path)


async def test_all_who_work_at_once_work_in_one_folder_and_each_commit_has_what_was_there_then(
    path: Path, root: Path, tmp_path: Path
) -> None:
    names = [f"file-{number}" for number in range(6)]
    work = [*names[:4], *(f"!{name}" for name in names[4:])]
    family = Sharing(path, work, **{name: made_whole(name) for name in names})
    await family.run(root)
    assert set(family.places.values()) == {root}
    assert held(path) == kept_in(root)
    assert set(names) <= held(path).keys()
    # The editions of the folder, from all histories: each has what the one before had, and what was written since.
    with Loops.open(path) as loops:
        states = [loops.show(commit).state for commit in git(path, "rev-list", "--all").decode().split()]
    editions = {state.workspace.edition: state.workspace.tree for state in states if state.workspace is not None}
    assert sorted(editions) == list(range(len(editions)))
    trees = [files_of(path, editions[number]) for number in sorted(editions)]
    assert all(before.items() <= after.items() for before, after in pairwise(trees))
    for state in states:
        if state.workspace is not None:
            assert editions[state.workspace.edition] == state.workspace.tree
            shared = [child.state.shared for child in state.children.values()]
            assert all(one is None or one.edition <= state.workspace.edition for one in shared)
    # A project gets them in that order.
    project = tmp_path / "target"
    git(tmp_path, "init", "-q", "target")
    with Loops.open(path) as loops:
        loops.export_files(LOOP, "agents/all", to=project)
    brought = git(project, "log", "--reverse", "--format=%T", "agents/all").decode().split()
    assert brought == [editions[number] for number in sorted(editions)]
    healthy(path)


async def test_a_child_that_waits_shares_on_in_another_process(path: Path, root: Path) -> None:
    family = Sharing(path, ["!first"], ["late"], first=writes("other", "1\n"), late=writes("made", "late\n"))
    outcome = await family.with_approval().run(root)
    with Loops.open(path) as loops:
        assert loops.files(CHILD).folder == loops.files(LOOP).folder == str(root)
        assert loops.files(CHILD).changes == loops.files(LOOP).changes == ()
        (root / "mine").write_text("by hand\n")
        for name in (LOOP, CHILD):
            assert [tuple(change) for change in loops.files(name).changes] == [("A", "mine")]
        loops.approve(outcome.pending[0], by=ADA)
    with pytest.raises(UnkeptFiles, match=f"last commit of {LOOP}: mine"):
        await family.resume()
    with Loops.open(path) as loops:
        loops.keep_files(CHILD, by=ADA)
        assert loops.files(LOOP).changes == loops.files(CHILD).changes == ()
    assert (await family.resume()).status == "completed"
    assert held(path) == kept_in(root)
    assert {"mine", "made"} <= held(path).keys()
    healthy(path)


@pytest.mark.parametrize("name", [LOOP, CHILD])
async def test_what_was_changed_by_hand_is_kept_or_put_back_by_either_name(path: Path, root: Path, name: str) -> None:
    late = writes("made", "late\n")
    family = Sharing(path, ["early", "late"], early=writes("other", "early\n"), late=late).with_approval()
    outcome = await family.run(root)
    with Loops.open(path) as loops:
        for request in outcome.pending:
            if "early" in request.arguments:
                loops.approve(request, by=ADA)
    outcome = await family.resume()
    before = kept_in(root)
    assert before["other"] == ("100644", b"early\n")
    with Loops.open(path) as loops:
        waits = outcome.pending[0].loop
        asked = name if name == LOOP else waits
        (root / "other").write_text("by hand\n")
        loops.keep_files(asked, by=ADA)
        kept = kept_in(root)
        assert held(path, asked) == kept
        (root / "other").write_text("never mind\n")
        loops.keep_files(asked, restore=True, by=ADA)
        assert kept_in(root) == kept == held(path, asked)
        assert files_of(path, f"loops/{asked}~:workspace")["other"] == ("100644", b"never mind\n")
        assert loops.files(LOOP).changes == ()
        loops.approve(outcome.pending[0], by=ADA)
    assert (await family.resume()).status == "completed"
    assert held(path) == kept_in(root) == {**kept, "made": ("100644", b"late\n")}
    healthy(path)


async def test_what_a_child_that_failed_has_left_is_committed_with_its_end_and_the_model_is_told(
    path: Path, root: Path
) -> None:
    family = Sharing(path, ["half"], half=writes("made", "half\n"))
    script = family.script

    def fails(asked: ModelRequest) -> Reply:
        said = sum(isinstance(message, Assistant) for message in asked.messages)
        return say(None) if asked.agent == "child" and said else script(asked)

    family.script = fails  # type: ignore[method-assign]
    outcome = await family.run(root)
    assert outcome.status == "suspended"
    with Loops.open(path) as loops:
        loops.cancel(CHILD, "enough", by=ADA)
    assert (await family.resume()).status == "completed"
    assert held(path) == kept_in(root)
    assert held(path)["made"] == ("100644", b"half\n")
    assert family.told[-1] == [
        "Error: child was cancelled: enough\n\n[Files: whatever child-1 had changed by then is in yours.]"
    ]
    healthy(path)


async def test_what_a_tool_of_a_cancelled_child_had_written_is_committed_with_the_childs_end(
    path: Path, root: Path
) -> None:
    wrote = trio.Event()

    @tool
    async def slow(context: ToolContext) -> str:
        assert context.workspace is not None
        (context.workspace / "made").write_text("half\n")
        wrote.set()
        await trio.sleep_forever()
        return "never"

    child = Agent("child", tools=[slow])
    lead = Agent("lead", tools=[child.as_tool("Is slow.", workspace="share")])

    def script(asked: ModelRequest) -> Reply:
        said = sum(isinstance(message, Assistant) for message in asked.messages)
        if asked.agent == "lead":
            return say("done") if said else ask_for(("child", {"prompt": "Go."}))
        return ask_for(("slow", {}))

    async with Runtime.open(path, agents=[lead], model=ScriptedModel(script), poll=0.01) as runtime:  # noqa: SIM117
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(runtime.run, "lead", "Go.", loop=LOOP, workspace=root))
            with trio.fail_after(300):
                await wrote.wait()
            with Loops.open(path) as loops:
                loops.cancel(CHILD, "enough", by=ADA)
    (took,) = ended(path, "ChildFailed")
    assert "made" not in files_of(path, f"{took}^2:workspace")
    assert files_of(path, f"{took}:workspace") == kept_in(root)
    assert held(path)["made"] == ("100644", b"half\n")
    healthy(path)


async def test_a_preview_is_of_the_shared_folder_and_so_is_whether_it_is_out_of_date(path: Path, root: Path) -> None:
    child = Agent("child", tools=[edit_file.with_approval(True)])
    lead = Agent("lead", tools=[child.as_tool("Edits.", workspace="share")])

    def script(asked: ModelRequest) -> Reply:
        if any(isinstance(message, Assistant) for message in asked.messages):
            return say("done")
        edit = {"path": "other", "old": "other", "new": "another"}
        return ask_for(("child", {"prompt": "Go."}) if asked.agent == "lead" else ("edit_file", edit))

    async with Runtime.open(path, agents=[lead], model=ScriptedModel(script)) as runtime:
        (request,) = (await runtime.run("lead", "Go.", loop=LOOP, workspace=root)).pending
        assert request.preview is not None
        assert [file.path for file in request.preview.files] == ["other"]
        with Loops.open(path) as loops:
            assert loops.outdated(request) == ()
            (root / "other").write_text("other, by hand\n")
            assert loops.outdated(request) == ("other",)
            loops.keep_files(LOOP, restore=True, by=ADA)
            assert loops.outdated(request) == ()
            loops.approve(request, by=ADA)
        assert (await runtime.resume(LOOP)).status == "completed"
    assert held(path) == kept_in(root)
    assert held(path)["other"] == ("100644", b"another\n")
    healthy(path)


# Nested deeper ----------------------------------------------------------------------------------------------------


def nested(family: Family, outer: str, inner: str) -> None:
    """A lead, and between it and its children another agent that passes on what is asked for."""
    middle = Agent("middle", tools=[family.act, family.child.as_tool("Acts.", workspace=inner)])  # type: ignore[arg-type]
    family.lead = Agent("lead", tools=[family.act, middle.as_tool("Passes on.", workspace=outer)])  # type: ignore[arg-type]
    script = family.script

    def passes(asked: ModelRequest) -> Reply:
        said = sum(isinstance(message, Assistant) for message in asked.messages)
        if asked.agent == "lead" and not said:
            return ask_for(("middle", {"prompt": "deep"}))
        if asked.agent == "middle":
            return say("passed on") if said else ask_for(("child", {"prompt": "deep"}))
        return say("done") if asked.agent == "lead" else script(asked)

    family.script = passes  # type: ignore[method-assign]


@pytest.mark.parametrize(
    ("outer", "inner", "place"),
    [
        ("share", "share", "root"),
        ("copy", "share", f"{LOOP}.middle-1"),
        ("share", "copy", f"{LOOP}.middle-1.child-1"),
    ],
)
async def test_who_shares_with_one_that_has_a_copy_works_in_that_copy(
    path: Path, root: Path, outer: str, inner: str, place: str
) -> None:
    family = Family(path, ["deep"], deep=writes("made", "from below\n"))
    nested(family, outer, inner)
    assert (await family.run(root)).status == "completed"
    assert family.places["deep"] == (
        root if place == "root" else (path / "caesura.workspaces" / place / "files").absolute()
    )
    assert held(path) == kept_in(root) == held(path, f"{LOOP}.middle-1")
    assert held(path)["made"] == ("100644", b"from below\n")
    healthy(path)


async def test_an_agent_without_tools_that_has_a_copy_gets_a_folder_for_who_shares_it(path: Path, root: Path) -> None:
    family = Family(path, ["deep"], deep=writes("made", "from below\n"))
    nested(family, "copy", "share")
    middle = Agent("middle", tools=[family.child.as_tool("Acts.", workspace="share")])
    family.lead = Agent("lead", tools=[middle.as_tool("Passes on.")])
    assert (await family.run(root)).status == "completed"
    assert family.found["deep"].keys() == kept_in(root).keys() - {"made"}
    assert held(path) == kept_in(root)
    assert held(path)["made"] == ("100644", b"from below\n")
    healthy(path)


async def test_a_copy_is_made_of_what_is_in_the_folder_whoever_did_it(path: Path, root: Path) -> None:
    family = Family(path, ["!own", "deep"], own=writes("own", "own\n"), deep=writes("made", "from below\n"))
    asking = family.child.as_tool("Acts.", needs_approval=True)
    middle = Agent("middle", tools=[asking])
    family.lead = Agent("lead", tools=[family.act, middle.as_tool("Passes on.", name="child", workspace="share")])
    script = family.script

    def passes(asked: ModelRequest) -> Reply:
        if asked.agent != "middle":
            return script(asked)
        said = any(isinstance(message, Assistant) for message in asked.messages)
        return say("passed on") if said else ask_for(("child", {"prompt": "deep"}))

    family.script = passes  # type: ignore[method-assign]
    (request,) = (await family.run(root)).pending
    with Loops.open(path) as loops:
        assert "own" not in held(path, request.loop)
        loops.approve(request, by=ADA)
    assert (await family.resume()).status == "completed"
    assert family.places["deep"] not in (None, root)
    assert family.found["deep"]["own"] == ("100644", b"own\n")
    assert held(path) == kept_in(root)
    assert {"own", "made"} <= held(path).keys()
    healthy(path)


class Slow(GitStore):
    """A store in which a loop's claim to run a tool takes until `go` lets it."""

    go: Callable[[LoopName], None]

    def move(self, loop: LoopName, old: CommitId | None, new: CommitId) -> None:
        if "Event: ToolStarted" in self.read(new).message:
            self.go(loop)
        super().move(loop, old, new)


async def test_a_tool_that_is_about_to_start_is_waited_for_by_a_merge(path: Path, root: Path) -> None:
    begun, ready = threading.Event(), trio.Event()
    sharing, copying = f"{LOOP}.sharing-1", f"{LOOP}.copying-1"

    @tool
    async def slow() -> str:
        await ready.wait()
        assert "made" not in files_in(root)
        return "slow"

    @tool
    def act(context: ToolContext) -> str:
        assert context.workspace is not None
        (context.workspace / "made").write_text("by a copy\n")
        return "acted"

    agents = {"sharing": Agent("sharing", tools=[slow]), "copying": Agent("copying", tools=[act])}
    shared = agents["sharing"].as_tool("Is slow.", workspace="share")
    lead = Agent("lead", tools=[shared, agents["copying"].as_tool("Is quick.")])

    def script(asked: ModelRequest) -> Reply:
        if any(isinstance(message, Assistant) for message in asked.messages):
            return say("done")
        if asked.agent == "lead":
            return ask_for(*((name, {"prompt": "Go."}) for name in agents))
        return ask_for(("slow" if asked.agent == "sharing" else "act", {}))

    store = Slow.open(path, create=True)
    assert isinstance(store, Slow)
    with Loops.open(path) as loops:

        def is_over() -> bool:
            with suppress(CallerError):  # it may not have begun
                return loops.show(copying).state.ending is not None
            return False

        def go(loop: LoopName) -> None:
            if loop == copying:
                assert begun.wait(300)  # the other is about to start by then
            elif loop == sharing:
                begun.set()
                deadline = time.monotonic() + 300
                while not is_over() and time.monotonic() < deadline:
                    time.sleep(0.01)
                time.sleep(0.2)  # let the end of it come to the lead

        store.go = go
        async with Runtime.open(store, agents=[lead], model=ScriptedModel(script)) as runtime:  # noqa: SIM117
            async with trio.open_nursery() as nursery:
                nursery.start_soon(partial(runtime.run, "lead", "Go.", loop=LOOP, workspace=root))
                with trio.fail_after(300):
                    while True:
                        await trio.sleep(0.01)
                        if begun.is_set() and is_over():
                            break
                    await trio.sleep(0.5)
                ready.set()
    store.close()
    (returned,) = git(path, "log", "-1", "--format=%H", "--grep=^Event: ToolReturned", f"loops/{sharing}").split()
    assert "made" not in files_of(path, f"{returned.decode()}:workspace")
    assert held(path) == kept_in(root)
    assert held(path)["made"] == ("100644", b"by a copy\n")
    healthy(path)


async def test_a_merge_waits_until_no_tool_of_any_loop_works_in_the_folder(path: Path, root: Path) -> None:
    ready = trio.Event()

    @tool
    async def slow(context: ToolContext) -> str:
        assert context.workspace == root
        (root / "other").write_text("half\n")
        await ready.wait()
        assert "made" not in files_in(root)
        (root / "other").write_text("whole\n")
        return "slow"

    @tool
    def act(context: ToolContext) -> str:
        assert context.workspace not in (None, root)
        assert context.workspace is not None
        (context.workspace / "made").write_text("by a copy\n")
        return "acted"

    sharing, copying = Agent("sharing", tools=[slow]), Agent("copying", tools=[act])
    lead = Agent("lead", tools=[sharing.as_tool("Is slow.", workspace="share"), copying.as_tool("Is quick.")])

    def script(asked: ModelRequest) -> Reply:
        said = sum(isinstance(message, Assistant) for message in asked.messages)
        if said:
            return say("done")
        calls = {"sharing": ["slow"], "copying": ["act"]}
        if asked.agent == "lead":
            return ask_for(("sharing", {"prompt": "Go."}), ("copying", {"prompt": "Go."}))
        return ask_for(*((name, {}) for name in calls[asked.agent]))

    async with Runtime.open(path, agents=[lead], model=ScriptedModel(script)) as runtime:  # noqa: SIM117
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(runtime.run, "lead", "Go.", loop=LOOP, workspace=root))
            with trio.fail_after(300), Loops.open(path) as loops:
                while True:
                    await trio.sleep(0.01)
                    names = git(path, "branch", "--list", f"loops/{LOOP}.copying-1")
                    if names and loops.show(f"{LOOP}.copying-1").state.ending is not None:
                        break
            for _ in range(20):
                await trio.sleep(0.01)  # let the end of the child come to the parent
            ready.set()
    quick, slowly = ended(path)
    assert {"made", "other"} <= files_of(path, f"{quick}:workspace").keys()
    assert files_of(path, f"{quick}:workspace")["other"] == ("100644", b"whole\n")
    assert held(path) == kept_in(root)
    assert held(path)["made"] == ("100644", b"by a copy\n")
    assert slowly
    healthy(path)


# Forks and copies of the repository ---------------------------------------------------------------------------------


async def ran(path: Path, root: Path) -> Sharing:
    """A family that has worked, with two children at once, before and after which the lead does something itself."""
    family = Sharing(
        path,
        ["!first"],
        ["one", "two", "!third"],
        ["four"],
        first=writes("a", "first\n"),
        one=line(0, "one"),
        two=writes("b", "two\n"),
        third=writes("c", "third\n"),
        four=writes("d", "plugh\n"),
    )
    await family.run(root)
    return family


async def test_a_fork_of_any_commit_works_on_exactly_its_files_in_one_folder_of_its_own(path: Path, root: Path) -> None:
    family = await ran(path, root)
    before = files_in(root)
    names = [LOOP, *(f"{LOOP}.child-{number}" for number in (1, 2, 3))]
    tried = 0
    for name in names:
        for commit in commits(path, f"refs/heads/loops/{name}"):
            tried += 1
            loop = f"fork-{tried}"
            with Loops.open(path) as loops:
                loops.fork(commit, loop)
                if loops.show(loop).state.ending is not None:
                    loops.tell(loop, "Go on.", by=ADA)
                place = Path(loops.files(loop).folder)
            family.places.clear()
            family.found.clear()
            outcome = await family.resume(loop)
            with Loops.open(path) as loops:
                for request in outcome.pending:  # a tool ran when it was forked
                    loops.answer(request, "It ran.", by=ADA)
            outcome = await family.resume(loop) if outcome.pending else outcome
            assert outcome.status == "completed"
            assert set(family.places.values()) <= {place}
            if family.found:
                assert next(iter(family.found.values())) == files_of(path, f"{commit}:workspace")
            assert files_in(place) == held(path, loop)
    assert tried > 20
    assert files_in(root) == before
    healthy(path)


async def test_a_fork_that_goes_back_has_the_files_of_then_as_the_newest(path: Path, root: Path) -> None:
    await ran(path, root)
    with Loops.open(path) as loops:
        forked = loops.fork(LOOP, "back", Variation(drop=3, tell="Again."), by=ADA)
        now, then = loops.show(LOOP).state.workspace, loops.show("back").state.workspace
        assert now is not None
        assert then is not None
        assert then.edition > now.edition
    assert "d" in held(path)
    assert held(path, "back").keys() == held(path).keys() - {"d"}
    assert files_of(path, f"{forked.commit}:workspace") == held(path, "back")
    healthy(path)


async def test_a_fork_has_what_a_live_child_had_done_last(path: Path, root: Path) -> None:
    family = Sharing(path, ["early", "late"], early=writes("a", "early\n"), late=writes("b", "late\n")).with_approval()
    outcome = await family.run(root)
    with Loops.open(path) as loops:
        loops.approve(next(one for one in outcome.pending if "early" in one.arguments), by=ADA)
    await family.resume()
    git(path, "branch", "loops/plain", f"loops/{LOOP}")
    with Loops.open(path) as loops:
        (request,) = [one for one in loops.pending("plain") if one.loop != "plain"]
        loops.approve(request, by=ADA)
    assert (await family.resume("plain")).status == "completed"
    place = (path / "caesura.workspaces" / "plain" / "files").absolute()
    assert family.places["late"] == place
    assert family.found["late"]["a"] == ("100644", b"early\n")
    assert "b" not in files_in(root)
    assert held(path, "plain") == files_in(place)
    healthy(path)


async def test_a_clone_in_which_a_child_is_ahead_of_its_parent_goes_on_with_the_newest_files(
    path: Path, root: Path, tmp_path: Path
) -> None:
    """Whatever became of the process in between: the order is in the commits, and not in any folder."""
    family = Sharing(path, ["one", "two", "three"], **{
        name: writes("shared", f"{name}\n") for name in ("one", "two", "three")
    })  # fmt: skip
    await family.run(root)
    steps = {name: commits(path, f"refs/heads/loops/{LOOP}.child-{number}") for number, name in enumerate("123", 1)}
    parent = next(one for one in commits(path, LOOP_REF) if event_of(path, one) == "ModelReplied")
    tips: dict[str, str] = {}
    for number, line_ in steps.items():
        tips[number] = next(one for one in line_ if event_of(path, one) == "ToolReturned")
    editions: dict[int, str] = {}
    with Loops.open(path) as loops:
        for tip in tips.values():
            files = loops.show(tip).state.workspace
            assert files is not None
            editions[files.edition] = tip
    git(tmp_path, "clone", "-q", "--mirror", str(path), "copy.git")
    copy = tmp_path / "copy.git"
    git(copy, "update-ref", LOOP_REF, parent)
    for number, tip in tips.items():
        git(copy, "update-ref", f"refs/heads/loops/{LOOP}.child-{number}", tip)
    family.path = copy
    assert (await family.resume()).status == "completed"
    newest = files_of(path, f"{editions[max(editions)]}:workspace")
    assert held(copy) == files_in(copy / "caesura.workspaces" / LOOP / "files") == newest
    healthy(copy)


async def test_a_fork_of_a_child_cannot_be_adopted_into_a_folder_where_others_have_gone_on(
    path: Path, root: Path
) -> None:
    family = Sharing(path, ["late"], late=writes("made", "late\n")).with_approval()
    await family.run(root)
    with Loops.open(path) as loops:
        loops.fork(CHILD, "tried")
        with pytest.raises(NotApplicable, match=f"{CHILD} works in the folder of {LOOP}"):
            loops.adopt("tried", CHILD, by=ADA)
        loops.fork(LOOP, "other")
        loops.approve(next(one for one in loops.pending("other") if one.loop == "other.child-1"), by=ADA)
    await family.resume("other")
    with Loops.open(path) as loops:
        loops.adopt("other", LOOP, by=ADA)
        assert loops.files(LOOP).behind
        loops.tell(LOOP, "Go on.", by=ADA)
    assert (await family.resume()).status == "completed"
    assert kept_in(root) == held(path)
    assert held(path)["made"] == ("100644", b"late\n")
    healthy(path)


async def test_a_loop_with_children_that_shared_is_archived_pruned_and_erased(path: Path, root: Path) -> None:
    (root / "secretly").write_text("xyzzy\n")
    await ran(path, root)
    with Loops.open(path) as loops:
        files = held(path)
        loops.archive(LOOP)
        loops.restore(LOOP)
        loops.prune(LOOP, keep=2, by=ADA)
        assert held(path) == files
        assert loops.verify().faults == ()
        assert loops.files(LOOP).changes == ()
        loops.erase(LOOP, by=ADA)
    said = git(path, "cat-file", "--batch-all-objects", "--batch", "--buffer")
    assert b"xyzzy" not in said
    assert b"plugh" not in said
    healthy(path)


async def test_what_each_did_comes_back_to_a_project_as_that_ones(path: Path, root: Path, tmp_path: Path) -> None:
    does = {name: writes(name, f"{name}\n") for name in ("early", "late", "mine", "last")}
    family = Sharing(path, ["!mine"], ["early", "late"], ["last"], **does).with_approval()
    outcome = await family.run(root)
    with Loops.open(path) as loops:
        loops.approve(next(one for one in outcome.pending if "late" in one.arguments), by=GRACE)
    while (outcome := await family.resume()).status != "completed":
        with Loops.open(path) as loops:
            loops.approve(outcome.pending[0], by=ADA)
    project = tmp_path / "target"
    git(tmp_path, "init", "-q", "target")
    with Loops.open(path) as loops:
        loops.export_files(LOOP, "agents/all", to=project)
    said = git(project, "log", "--reverse", "--format=%an %s", "agents/all").decode().splitlines()
    assert said[0].endswith("lead: the files that it began with: .gitignore, other and 1 more")
    assert said[1:] == ["lead lead: act: mine", *(f"child child: act: {name}" for name in ("late", "early", "last"))]
    thanks = git(project, "log", "--reverse", "--format=%(trailers:key=Co-authored-by)", "agents/all").decode().split()
    assert [one for one in thanks if "@" in one] == [f"<{who.email}>" for who in (GRACE, ADA, ADA)]
    assert files_of(project, "agents/all") == held(path)
    healthy(path)


@pytest.mark.parametrize("restore", [False, True])
@pytest.mark.parametrize("asked", ["second", "!second"])
async def test_what_a_tool_had_written_as_another_ones_commit_was_made_and_not_yet_noted_is_kept_or_put_back(
    path: Path, root: Path, asked: str, restore: bool
) -> None:
    """A process dies between a commit and the note of it, and a tool beside had written into the same folder."""
    index = path / "caesura.workspaces" / LOOP / "index"
    then: list[bytes] = []

    def second(place: Path) -> None:
        then.append(index.read_bytes())
        (place / "other").write_text("2\n")

    family = Sharing(path, ["!first"], [asked], first=writes("other", "1\n"), second=second)
    await family.run(root)
    index.write_bytes(then[0])
    (root / "other").write_text("3, by a tool that was cut short\n")
    with Loops.open(path) as loops:
        loops.tell(LOOP, "Go on.", by=ADA)
    with pytest.raises(UnkeptFiles, match="other"):
        await family.resume()
    with Loops.open(path) as loops:
        loops.keep_files(LOOP, restore=restore, by=ADA)
        assert loops.files(LOOP).changes == ()
    assert held(path, back=int(restore))["other"] == ("100644", b"3, by a tool that was cut short\n")
    assert kept_in(root) == held(path)
    assert (held(path)["other"] == ("100644", b"2\n")) is restore
    assert (await family.resume()).status == "completed"
    healthy(path)


async def test_what_was_changed_where_a_child_has_ended_is_for_the_loop_whose_folder_it_is(
    path: Path, root: Path
) -> None:
    family = Sharing(path, ["early", "late"], early=writes("a", "early\n"), late=writes("b", "late\n")).with_approval()
    outcome = await family.run(root)
    with Loops.open(path) as loops:
        loops.approve(next(one for one in outcome.pending if "early" in one.arguments), by=ADA)
    await family.resume()
    (root / "mine").write_text("by hand\n")
    with Loops.open(path) as loops:
        for restore in (False, True):
            with pytest.raises(NotApplicable, match=f"{CHILD} has completed; its folder is that of {LOOP}") as caught:
                loops.keep_files(CHILD, restore=restore, by=ADA)
            assert f"caesura files {LOOP}" in caught.value.hint
        loops.keep_files(LOOP, by=ADA)
        assert loops.files(CHILD).changes == ()
    assert held(path)["mine"] == ("100644", b"by hand\n")
    healthy(path)


def tear_back(path: Path, *backs: tuple[str, str]) -> None:
    """Damage the newest commits of loops, each back to its last one of an event, as a bad disk would."""
    torn: list[str] = []
    for loop, event in backs:
        newest_first = commits(path, f"refs/heads/loops/{loop}")[::-1]
        events = [event_of(path, commit) for commit in newest_first]
        torn += newest_first[: events.index(event) + 1]
    for commit in torn:
        file = path / "objects" / commit[:2] / commit[2:]
        file.chmod(0o644)
        file.write_bytes(b"")


@pytest.mark.parametrize("worker", ["lead", "fork", "child"])
async def test_files_whose_commits_are_lost_in_a_repair_stay_until_a_person_has_said_what_becomes_of_them(
    path: Path, root: Path, worker: str
) -> None:
    """They are nowhere else by then: the folder is not one that nobody has touched, though its loop went back."""
    loop = {"lead": LOOP, "fork": "fork", "child": CHILD}[worker]
    asked = "late" if worker == "child" else "!late"
    family = Sharing(path, ["!first"], [asked], first=writes("other", "1\n"), late=writes("text", "the newest\n"))
    if worker == "fork":
        await family.run(root)
        with Loops.open(path) as loops:
            loops.fork(f"{LOOP}~4", "fork")
        await family.resume("fork")
        root = path / "caesura.workspaces" / "fork" / "files"
    else:
        await family.run(root)
    tear_back(path, (loop, "ToolReturned"), *([(LOOP, "ChildFinished")] if worker == "child" else []))
    name = LOOP if worker == "child" else loop
    with Loops.open(path) as loops:
        repaired = loops.repair(by=ADA)
        assert loop in {saved.loop for saved in repaired.loops}
        for request in loops.pending(name):
            if request.kind == "outcome":
                loops.answer(request, "It ran.", by=ADA)
            else:
                loops.approve(request, by=ADA)
        assert [tuple(change) for change in loops.files(loop).changes] == [("M", "text")]
    with pytest.raises(UnkeptFiles, match="text"):
        await family.resume(name)
    assert (root / "text").read_text() == "the newest\n"
    with Loops.open(path) as loops:
        kept = loops.keep_files(name, by=ADA)
        assert files_of(path, f"{kept.commit}:workspace")["text"] == ("100644", b"the newest\n")
    assert (await family.resume(name)).status == "completed"
    assert held(path, name) == (files_in(root) if worker == "fork" else kept_in(root))
    healthy(path)


# Whatever happens --------------------------------------------------------------------------------------------------


def keep(loops: Loops, path: Path, root: Path) -> None:
    """Keep what is in the folder."""
    loops.keep_files(LOOP, by=ADA)
    assert apart(files_in(root), held(path)) == []


DEATHS = [
    *(f"inside:{effect}" for effect in (2, 5, 9, 14)),
    *(f"{moment}:{move}" for moment in ("before", "after") for move in (6, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 19)),
    *(f"write:{write}" for write in range(100, 700, 37)),
]


@pytest.mark.parametrize("death", DEATHS)
def test_a_kill_at_any_moment_loses_no_file_of_a_shared_folder(
    processes: Processes, path: Path, tmp_path: Path, death: str
) -> None:
    root = tmp_path / "shared"
    root.mkdir()
    (root / "text").write_text("text\n")
    (end,) = processes.wait(processes.start(("tests.workspaces.family_driven", path, root, LOOP, death, "share")))
    assert end.status in (-9, 0)
    before = files_in(root)
    with Loops.open(path) as loops:
        there = git(path, "branch", "--list", f"loops/{LOOP}")
        if there and loops.show(LOOP).state.ending is None and loops.files(LOOP).changes:
            loops.keep_files(LOOP, by=GRACE)
            assert apart(before, held(path)) == []
    assert apart(before, files_in(root)) == []
    go_on(path, partial(drive_family, path, root, workspace="share"), partial(keep, path=path, root=root))
    assert apart(held(path), files_in(root)) == []
    with Loops.open(path) as loops:
        assert loops.files(LOOP).changes == ()
    assert not [name for name in files_in(root) if ".caesura~" in name]
    healthy(path)


@pytest.mark.parametrize("seed", range(8))
async def test_whatever_all_do_in_one_folder_its_files_are_those_of_the_last_commit(
    path: Path, root: Path, seed: int
) -> None:
    family = Sharing(path, ["!own", "one", "two"], ["three"], **{
        name: chaos(seed * 10 + number) for number, name in enumerate(("own", "one", "two", "three"))
    })  # fmt: skip
    await family.run(root)
    with Loops.open(path) as loops:
        assert loops.files(LOOP).changes == ()
    assert apart(held(path), kept_in(root)) == []
    healthy(path)
