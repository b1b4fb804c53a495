"""The files of nested loops: each works on a copy of its own, which comes back as a merge, and nothing is lost."""

import threading
from functools import partial
from pathlib import Path

import pytest
import trio

from caesura.continuations import (
    Assistant,
    CommitId,
    GitStore,
    InTheWay,
    LoopName,
    Loops,
    NoFiles,
    Reply,
    Unavailable,
    UnkeptFiles,
)
from caesura.runtime import Agent, Committed, ModelRequest, Notice, Runtime, ToolContext, tool
from tests.families import TEXT, Do, Family, apart, chaos, ended, event_of, go_on, healthy, held, line, writes
from tests.models import ADA, ScriptedModel, ask_for, say
from tests.processes import Processes
from tests.workspaces import (
    LOOP,
    Kept,
    drive_family,
    files_in,
    files_of,
    git,
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "r.git"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "project"
    root.mkdir()
    (root / "text").write_text(TEXT)
    (root / "other").write_text("other\n")
    return root


async def test_a_child_works_on_a_copy_that_comes_back_in_the_commit_with_its_result(path: Path, root: Path) -> None:
    family = Family(path, ["!first"], ["new"], first=writes("other", "changed\n"), new=writes("made", "by a child\n"))
    outcome = await family.run(root)
    assert outcome.status == "completed"
    assert family.places["first"] == root
    assert family.places["new"] not in (None, root)
    assert family.found["new"]["other"] == ("100644", b"changed\n")
    (took,) = ended(path)
    before, after = files_of(path, f"{took}~:workspace"), files_of(path, f"{took}:workspace")
    assert "made" not in before
    assert after == files_in(root) == {**before, "made": ("100644", b"by a child\n")}
    child = git(path, "rev-parse", f"{took}^2").decode().strip()
    assert child == git(path, "rev-parse", f"refs/heads/loops/{LOOP}.child-1").decode().strip()
    assert family.told[-1][-1] == "did new"
    healthy(path)


async def test_parallel_children_each_have_a_copy_and_are_merged_one_after_the_other(path: Path, root: Path) -> None:
    family = Family(path, ["top", "end", "new"], top=line(0, "top"), end=line(8, "end"), new=writes("made", "new\n"))
    await family.run(root)
    assert len(set(family.places.values())) == 3
    assert family.found["top"] == family.found["end"] == family.found["new"]
    lines = TEXT.splitlines(keepends=True)
    assert (root / "text").read_text() == "".join(["top\n", *lines[1:-1], "end\n"])
    assert held(path) == files_in(root)
    assert family.told[-1] == ["did top", "did end", "did new"] or len(set(family.told[-1])) == 3
    merged = [files_of(path, f"{commit}:workspace") for commit in ended(path)]
    assert len({str(files) for files in merged}) == 3
    healthy(path)


async def test_conflicts_stay_as_the_parent_has_them_and_its_model_is_told(path: Path, root: Path) -> None:
    (root / "image").write_bytes(b"\0image")

    def clashing(name: str) -> Do:
        def change(root: Path) -> None:
            line(4, name)(root)
            (root / "image").write_bytes(b"\0" + name.encode())
            (root / name).write_text("mine alone\n")

        return change

    family = Family(path, ["one", "two"], one=clashing("one"), two=clashing("two"))
    await family.run(root)
    first, second = ended(path)
    winner, loser = ("one", "two") if "one" in files_of(path, f"{first}:workspace") else ("two", "one")
    files = files_in(root)
    assert held(path) == files
    assert f"{winner}\n" in (root / "text").read_text()
    assert files["image"] == ("100644", b"\0" + winner.encode())
    assert {"one", "two"} <= files.keys()
    told = family.told[-1][-1]
    assert told.startswith(f"did {loser}\n\n[Files: 2 files of child-")
    assert "text: both changed it in the same place\n--- a/text\n+++ b/text\n@@ -2,7 +2,7 @@\n" in told
    assert f"-line 4\n+{loser}\n" in told
    assert "image: both changed it, and it is no text\nThere it has 4 bytes, and is no text." in told
    (kept,) = {word for word in told.replace(",", " ").split() if len(word) == 40}
    assert kept == git(path, "rev-parse", f"{second}^2").decode().strip()
    assert f"{loser}\n".encode() in files_of(path, f"{kept}:workspace")["text"][1]
    said = git(path, "log", "-1", "--format=%(trailers:key=Conflict,valueonly)", second).decode().split()
    assert said == ["image", "text"]
    healthy(path)


async def test_of_many_conflicts_all_are_named_and_as_much_is_shown_as_a_model_can_be_expected_to_read(
    path: Path, root: Path
) -> None:
    names = [f"long{number}" for number in range(6)]
    for name in names:
        (root / name).write_text("before\n")

    def clashing(child: str) -> Do:
        def change(root: Path) -> None:
            for name in names:
                (root / name).write_text("".join(f"{child} {number:070}\n" for number in range(50)))
            (root / "text").write_text(f"{child}\n")

        return change

    family = Family(path, ["one", "two"], one=clashing("one"), two=clashing("two"))
    await family.run(root)
    told = family.told[-1][-1]
    assert all(f"\n{name}: both changed it in the same place\n" in told for name in [*names, "text"])
    shown = [name for name in names if f"--- a/{name}\n" in told]
    assert 0 < len(shown) < len(names)
    assert "--- a/text\n" in told  # what is short has room still
    assert len(told) < 16_000 + 1_000
    healthy(path)


async def test_the_files_of_a_child_that_failed_stay_where_they_are_and_the_model_is_told(
    path: Path, root: Path
) -> None:
    before = files_in(root)
    family = Family(path, ["half"], half=writes("made", "half\n"))
    script = family.script

    def fails(asked: ModelRequest) -> Reply:
        said = sum(isinstance(message, Assistant) for message in asked.messages)
        return say(None) if asked.agent == "child" and said else script(asked)

    family.script = fails  # type: ignore[method-assign]
    outcome = await family.run(root)
    with Loops.open(path) as loops:
        loops.cancel(f"{LOOP}.child-1", "enough", by=ADA)
    assert outcome.status == "suspended"
    assert (await family.resume()).status == "completed"
    (took,) = ended(path, "ChildFailed")
    child = git(path, "rev-parse", f"{took}^2").decode().strip()
    assert files_in(root) == held(path) == before
    assert family.told[-1] == [
        "Error: child was cancelled: enough"
        f"\n\n[Files: what child-1 had changed is not in yours. Its own files are in commit {child}, as workspace/.]"
    ]
    assert files_of(path, f"{child}:workspace")["made"] == ("100644", b"half\n")
    healthy(path)


async def test_an_agent_may_be_given_no_files(path: Path, root: Path) -> None:
    family = Family(path, ["blind"], blind=writes("made", "?"))
    family.lead = Agent("lead", tools=[family.child.as_tool("Acts.", workspace="none")])
    await family.run(root)
    assert family.places == {"blind": None}
    assert "made" not in files_in(root)
    with Loops.open(path) as loops, pytest.raises(NoFiles):
        loops.files(f"{LOOP}.child-1")
    healthy(path)


async def test_a_child_that_cannot_touch_files_gets_no_folder_and_those_nested_in_it_do(path: Path, root: Path) -> None:
    family = Family(path, ["deep"], deep=writes("made", "from below\n"))
    middle = Agent("middle", tools=[family.child.as_tool("Acts.")])
    family.lead = Agent("lead", tools=[middle.as_tool("Passes on.")])
    script = family.script

    def passes(asked: ModelRequest) -> Reply:
        said = sum(isinstance(message, Assistant) for message in asked.messages)
        if asked.agent == "lead" and not said:
            return ask_for(("middle", {"prompt": "deep"}))
        if asked.agent == "middle":
            assert not (path / "caesura.workspaces" / f"{LOOP}.middle-1").exists() or said
            return say("passed on") if said else ask_for(("child", {"prompt": "deep"}))
        return script(asked)

    family.script = passes  # type: ignore[method-assign]
    await family.run(root)
    assert files_in(root)["made"] == ("100644", b"from below\n")
    assert held(path) == files_in(root) == held(path, f"{LOOP}.middle-1")
    healthy(path)


async def test_the_files_of_a_child_can_be_looked_at_and_kept_while_it_waits(path: Path, root: Path) -> None:
    family = Family(path, ["late"], late=writes("made", "late\n"))
    family.child = Agent("child", tools=[family.act.with_approval(True)])
    family.lead = Agent("lead", tools=[family.child.as_tool("Acts.")])
    outcome = await family.run(root)
    name = f"{LOOP}.child-1"
    with Loops.open(path) as loops:
        place = Path(loops.files(name).folder)
        assert loops.files(name).changes == ()
        assert files_in(place) == files_in(root)
        (place / "mine").write_text("by hand\n")
        assert [tuple(change) for change in loops.files(name).changes] == [("A", "mine")]
        loops.approve(outcome.pending[0], by=ADA)
    with pytest.raises(UnkeptFiles, match=f"last commit of {name}: mine"):
        await family.resume()
    with Loops.open(path) as loops:
        loops.keep_files(name, by=ADA)
    assert (await family.resume()).status == "completed"
    assert files_in(root)["mine"] == ("100644", b"by hand\n")
    assert held(path) == files_in(root)
    healthy(path)


# What is in the way ------------------------------------------------------------------------------------------------


async def test_files_changed_by_hand_meanwhile_are_noticed_before_a_merge_writes(path: Path, root: Path) -> None:
    def change(place: Path) -> None:
        (place / "made").write_text("by the child\n")
        (root / "other").write_text("by hand\n")

    family = Family(path, ["new"], new=change)
    with pytest.raises(UnkeptFiles, match="other"):
        await family.run(root)
    before = files_in(root)
    assert before["other"] == ("100644", b"by hand\n")
    assert "made" not in before
    with pytest.raises(UnkeptFiles, match="other"):
        await family.resume()
    assert files_in(root) == before
    with Loops.open(path) as loops:
        loops.keep_files(LOOP, by=ADA)
    assert (await family.resume()).status == "completed"
    assert held(path) == files_in(root) == {**before, "made": ("100644", b"by the child\n")}
    healthy(path)


async def test_a_merge_that_was_given_up_is_gone_once_the_loop_is_erased(path: Path, root: Path) -> None:
    (root / ".gitignore").write_text("*.log\n")
    (root / "a.log").write_text("mine\n")
    begun = threading.Event()

    def log(place: Path) -> None:
        begun.set()
        (place / ".gitignore").write_text("")
        (place / "a.log").write_text("the child's\n")
        line(0, "xyzzy")(place)

    def mine(place: Path) -> None:
        assert begun.wait(300)
        line(8, "mine")(place)

    family = Family(path, ["!mine", "log"], mine=mine, log=log)
    with pytest.raises(InTheWay, match=r"a\.log"):
        await family.run(root)
    with Loops.open(path) as loops:
        loops.erase(LOOP, by=ADA)
    assert b"xyzzy" not in git(path, "cat-file", "--batch-all-objects", "--batch", "--buffer")
    healthy(path)


async def test_what_no_commit_holds_is_not_overwritten_by_a_merge(path: Path, root: Path) -> None:
    (root / ".gitignore").write_text("*.log\n")
    (root / "a.log").write_text("mine\n")

    def change(place: Path) -> None:
        (place / ".gitignore").write_text("")
        (place / "a.log").write_text("the child's\n")

    family = Family(path, ["log"], log=change)
    with pytest.raises(InTheWay, match=r"a\.log"):
        await family.run(root)
    assert (root / "a.log").read_text() == "mine\n"
    assert ended(path) == []
    (root / "a.log").rename(root / "b.log")
    assert (await family.resume()).status == "completed"
    assert (root / "a.log").read_text() == "the child's\n"
    assert (root / "b.log").read_text() == "mine\n"
    healthy(path)


async def test_a_merge_waits_until_no_tool_of_the_parent_works_on_its_files(path: Path, root: Path) -> None:
    ready = trio.Event()

    @tool
    async def slow(context: ToolContext) -> str:
        assert context.workspace is not None
        (context.workspace / "other").write_text("half\n")
        await ready.wait()
        assert "made" not in files_in(context.workspace)
        (context.workspace / "other").write_text("whole\n")
        return "slow"

    family = Family(path, ["new"], new=writes("made", "by the child\n"))
    family.lead = Agent("lead", tools=[slow, family.child.as_tool("Acts.")])

    def script(asked: ModelRequest) -> Reply:
        said = sum(isinstance(message, Assistant) for message in asked.messages)
        if asked.agent == "child":
            return say("did it") if said else ask_for(("act", {"what": "new"}))
        return say("done") if said else ask_for(("child", {"prompt": "new"}), ("slow", {}))

    async with Runtime.open(path, agents=[family.lead], model=ScriptedModel(script)) as runtime:  # noqa: SIM117
        async with trio.open_nursery() as nursery:  # it must end while the runtime is open
            nursery.start_soon(partial(runtime.run, "lead", "Go.", loop=LOOP, workspace=root))
            with trio.fail_after(300), Loops.open(path) as loops:
                while True:
                    await trio.sleep(0.01)
                    names = git(path, "branch", "--list", f"loops/{LOOP}.child-1")
                    if names and loops.show(f"{LOOP}.child-1").state.ending is not None:
                        break
            for _ in range(20):
                await trio.sleep(0.01)  # let the end of the child come to the parent
            ready.set()
    (took,) = ended(path)
    assert event_of(path, f"{took}~") == "ToolReturned"
    assert files_of(path, f"{took}~:workspace")["other"] == ("100644", b"whole\n")
    assert "made" not in files_of(path, f"{took}~:workspace")
    assert held(path) == files_in(root)
    healthy(path)


class Failing(GitStore):
    """A store that fails as soon as a commit is made that takes the end of a child."""

    def move(self, loop: LoopName, old: CommitId | None, new: CommitId) -> None:
        super().move(loop, old, new)
        if "Event: ChildFinished" in self.read(new).message:
            raise Unavailable("The disk is full.", hint="Make room.")


async def test_a_merge_that_was_committed_and_not_checked_out_yet_is_there_when_the_loop_goes_on(
    path: Path, root: Path
) -> None:
    family = Family(path, ["!own", "new"], own=writes("own", "own\n"), new=writes("made", "by the child\n"))
    store = Failing.open(path, create=True)
    with pytest.raises(Unavailable):
        async with Runtime.open(store, agents=[family.lead], model=ScriptedModel(family.script)) as runtime:
            await runtime.run("lead", "Go.", loop=LOOP, workspace=root)
    store.close()
    before, merged = files_in(root), held(path)
    assert "made" not in before
    assert merged == {**before, "made": ("100644", b"by the child\n")}
    assert (await family.resume()).status == "completed"
    assert files_in(root) == held(path) == merged
    healthy(path)


# Forks -------------------------------------------------------------------------------------------------------------


async def test_forks_of_a_parent_with_children_under_way_have_children_with_files_of_their_own(
    path: Path, root: Path
) -> None:
    family = Family(path, ["late"], late=writes("made", "late\n"))
    family.child = Agent("child", tools=[family.act.with_approval(True)])
    family.lead = Agent("lead", tools=[family.child.as_tool("Acts.")])
    await family.run(root)
    before = files_in(root)
    git(path, "branch", "loops/plain", f"loops/{LOOP}")
    with Loops.open(path) as loops:
        loops.fork(LOOP, "other")
        for loop in ("plain", "other"):
            loops.approve(next(one for one in loops.pending(loop) if one.loop == f"{loop}.child-1"), by=ADA)
    for loop in ("plain", "other"):
        assert (await family.resume(loop)).status == "completed"
        assert family.places["late"] == (path / "caesura.workspaces" / f"{loop}.child-1" / "files").absolute()
        assert family.found["late"] == before
        assert held(path, loop) == files_in(path / "caesura.workspaces" / loop / "files")
        assert held(path, loop)["made"] == ("100644", b"late\n")
    assert files_in(root) == before == held(path)
    healthy(path)


async def test_a_child_that_only_its_parents_commit_holds_gets_its_files_before_it_goes_on(
    path: Path, root: Path
) -> None:
    absorbed = trio.Event()

    def heard(notice: Notice) -> None:
        if isinstance(notice, Committed) and notice.subject.startswith("lead: quick returned"):
            absorbed.set()

    @tool(idempotent=True)
    async def slow(context: ToolContext) -> str:
        with trio.fail_after(300):
            await absorbed.wait()
        assert context.workspace is not None
        found.append(files_in(context.workspace))
        (context.workspace / "late").write_text("late\n")
        return "slow"

    def script(asked: ModelRequest) -> Reply:
        said = sum(isinstance(message, Assistant) for message in asked.messages)
        if asked.agent == "quick" or said:
            return say("done")
        return ask_for(*([("slow", {})] if asked.agent == "child" else calls))

    found: list[Kept] = []
    calls = [(name, {"prompt": "Go."}) for name in ("child", "quick")]
    child, quick = Agent("child", tools=[slow]), Agent("quick")
    lead = Agent("lead", tools=[child.as_tool("Is slow."), quick.as_tool("Is quick.")])
    before = files_in(root)
    async with Runtime.open(path, agents=[lead], model=ScriptedModel(script), listener=heard) as runtime:
        await runtime.run("lead", "Go.", loop=LOOP, workspace=root)
        commit = ended(path)[0]
        git(path, "branch", "loops/plain", commit)
        assert (await runtime.resume("plain")).status == "completed"
    assert found == [before, before]
    assert held(path, "plain") == held(path) == files_in(root) == {**before, "late": ("100644", b"late\n")}
    healthy(path)


async def test_a_merge_reads_steps_that_git_does_not_see_yet(path: Path, root: Path) -> None:
    family = Family(path, ["top", "end"], top=line(0, "top"), end=line(8, "end"))
    agents, model = [family.lead], ScriptedModel(family.script)
    async with Runtime.open(path, agents=agents, model=model, visibility="sealed", durability="crash") as runtime:
        await runtime.run("lead", "Go.", loop=LOOP, workspace=root)
    assert (root / "text").read_text().splitlines()[::8] == ["top", "end"]
    assert held(path) == files_in(root)
    healthy(path)


# Whatever happens --------------------------------------------------------------------------------------------------


def keep(loops: Loops, path: Path) -> None:
    """Keep what is in the folders of those that have not ended."""
    for name in [LOOP, *(f"{LOOP}.writer-{number}" for number in range(1, 5))]:
        if git(path, "branch", "--list", f"loops/{name}"):
            place = Path(loops.files(name).folder)
            if loops.show(name).state.ending is None and loops.files(name).changes:
                loops.keep_files(name, by=ADA)
                assert apart(files_in(place), held(path, name)) == []


DEATHS = [
    *(f"inside:{effect}" for effect in (2, 5, 9, 14)),
    *(f"{moment}:{move}" for moment in ("before", "after") for move in (6, 9, 11, 13, 14, 15, 16, 17)),
    *(f"write:{write}" for write in range(150, 900, 37)),
]


@pytest.mark.parametrize("death", DEATHS)
def test_a_kill_at_any_moment_loses_no_file_of_a_family(
    processes: Processes, path: Path, root: Path, death: str
) -> None:
    (ended_,) = processes.wait(processes.start(("tests.workspaces.family_driven", path, root, LOOP, death)))
    assert ended_.status in (-9, 0)
    go_on(path, partial(drive_family, path, root), partial(keep, path=path))
    assert apart(held(path), files_in(root)) == []
    with Loops.open(path) as loops:
        assert loops.files(LOOP).changes == ()
    assert not [name for name in files_in(root) if ".caesura~" in name]
    healthy(path)


@pytest.mark.parametrize("seed", range(8))
async def test_whatever_two_children_do_each_file_is_as_the_parent_or_a_child_has_it_and_none_is_lost(
    path: Path, root: Path, seed: int
) -> None:
    family = Family(path, ["!own", "one", "two"], ["three"], **{
        name: chaos(seed * 10 + number) for number, name in enumerate(("own", "one", "two", "three"))
    })  # fmt: skip
    await family.run(root)
    assert apart(held(path), files_in(root)) == []
    for commit in ended(path):
        child = git(path, "log", "-1", "--format=%P", commit).decode().split()[-1]
        after, ours, theirs = (files_of(path, f"{one}:workspace") for one in (commit, f"{commit}~", child))
        for name in after.keys() | ours.keys() | theirs.keys():
            assert after.get(name) in (ours.get(name), theirs.get(name)), ascii(name)
    healthy(path)
