"""Loops that work on files: each commit holds the files as they were then, and none that anybody wrote is lost."""

import random
import subprocess
from functools import partial
from pathlib import Path

import pytest
import trio
from msgspec.structs import replace

from caesura.continuations import (
    Apart,
    GitStore,
    History,
    LoopExists,
    Loops,
    MemoryStore,
    NoFiles,
    NotApplicable,
    Occupied,
    Started,
    TreeId,
    Unavailable,
    Unkeepable,
    UnkeptFiles,
    Unreadable,
    User,
    Workspace,
    loop_name,
)
from caesura.continuations.store import _snapshot as snapshot
from caesura.continuations.verify import verify
from caesura.runtime import Agent, Outcome, Runtime, ToolContext, tool
from tests.models import ADA, GRACE, ScriptedModel, ask_for, lines, results, say
from tests.processes import Processes
from tests.strategies import AGENT, EPOCH, ROBOT, WORKERS
from tests.workspaces import (
    LOOP,
    Kept,
    again,
    drive,
    files_in,
    files_of,
    git,
    once,
    scribbler,
    scribbles,
    something_happens,
)

LOOP_REF = f"refs/heads/loops/{LOOP}"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "r.git"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "project"
    root.mkdir()
    (root / "README").write_text("from before\n")
    return root


def held(path: Path, revision: str = f"loops/{LOOP}") -> Kept:
    """The files in a commit, as git reads them."""
    return files_of(path, f"{revision}:workspace")


def steps(path: Path, loop: str = LOOP) -> list[tuple[str, str]]:
    """A loop's commits from its first, each with its event."""
    form = "--format=%H %(trailers:key=Event,valueonly,separator=)"
    said = git(path, "log", "--first-parent", "--reverse", form, f"loops/{loop}").decode()
    return [(commit, event) for commit, _, event in (line.partition(" ") for line in said.splitlines())]


def healthy(path: Path) -> None:
    """Neither git nor Caesura finds fault with the repository."""
    git(path, "fsck", "--strict", "--no-dangling")
    with Loops.open(path) as loops:
        assert loops.verify().faults == ()


async def test_each_commit_holds_the_files_as_the_tool_left_them(path: Path, root: Path) -> None:
    seen = [files_in(root)]

    @tool
    def work(text: str, context: ToolContext) -> str:
        assert context.workspace == root
        (root / text).write_text(text)
        (root / "README").write_text(text)
        seen.append(files_in(root))
        return text

    model = ScriptedModel(lines(ask_for(("work", {"text": "b"})), ask_for(("work", {"text": "c"})), say("done")))
    async with Runtime.open(path, agents=[Agent("w", tools=[work])], model=model) as runtime:
        await runtime.run("w", "Write.", loop=LOOP, workspace=root)
    assert [held(path, commit) for commit, event in steps(path) if event in ("Started", "ToolReturned")] == seen
    assert seen[-1].keys() == {"README", "b", "c"}
    changing = git(path, "log", "--format=%(trailers:key=Event,valueonly,separator=)", LOOP_REF, "--", "workspace")
    assert changing.decode().split() == ["ToolReturned", "ToolReturned", "Started"]
    healthy(path)


async def test_a_clone_has_all_the_files(path: Path, root: Path, tmp_path: Path) -> None:
    await drive(path, root)
    git(tmp_path, "clone", "-q", "--mirror", str(path), "copy.git")
    assert held(tmp_path / "copy.git") == files_in(root) != {}
    healthy(tmp_path / "copy.git")
    outcome = await resumed(tmp_path / "copy.git", LOOP)
    assert outcome.status == "completed"


async def resumed(path: Path, loop: str, seed: int = 99) -> Outcome:
    """A loop told something more, and driven to its end."""
    with Loops.open(path) as loops:
        loops.tell(loop, "Go on.", by=ADA)
    async with Runtime.open(path, agents=[scribbler()], model=once(seed)) as runtime:
        return await runtime.resume(loop)


@pytest.mark.parametrize("back", [0, 3, 4, 10])
async def test_a_fork_works_on_exactly_the_files_of_its_commit_in_a_folder_of_its_own(
    path: Path, root: Path, back: int
) -> None:
    await drive(path, root)
    before = files_in(root)
    found: list[tuple[Path, Kept]] = []

    @tool
    def scribble(seed: int, times: int, context: ToolContext) -> str:
        assert context.workspace is not None
        found.append((context.workspace, files_in(context.workspace)))
        (context.workspace / "forked").write_text("yes")
        return "done"

    with Loops.open(path) as loops:
        loops.fork(f"{LOOP}~{back}", "other")
        if loops.show("other").state.ending is not None:
            loops.tell("other", "Go on.", by=ADA)
    async with Runtime.open(path, agents=[Agent("writer", tools=[scribble])], model=once(99)) as runtime:
        await runtime.resume("other")
    place, files = found[0]
    assert place != root
    assert files == held(path, f"loops/{LOOP}~{back}")
    assert held(path, "loops/other") == files_in(place)
    assert files_in(root) == before
    healthy(path)


async def test_a_fork_that_has_not_worked_yet_has_nothing_changed_by_hand(path: Path, root: Path) -> None:
    await drive(path, root)
    with Loops.open(path) as loops:
        fork = loops.fork(f"{LOOP}~3", "other")
        assert loops.files("other").changes == ()
        assert loops.keep_files("other", by=ADA).commit == fork.commit
        (Path(loops.files("other").folder) / "mine").write_text("mine")
        with pytest.raises(Apart):
            loops.keep_files("other", by=ADA)
        with pytest.raises(UnkeptFiles):
            await resumed(path, "other")


# Somebody else -----------------------------------------------------------------------------------------------------


async def test_files_changed_by_hand_are_noticed_and_never_overwritten_without_a_word(path: Path, root: Path) -> None:
    await drive(path, root)
    (root / "README").write_text("by hand\n")
    (root / "mine").write_text("new\n")
    before = files_in(root)
    with pytest.raises(UnkeptFiles, match=r"2 files differ.*README, mine") as refused:
        await resumed(path, LOOP)
    assert f"caesura files {LOOP}" in refused.value.hint
    assert files_in(root) == before
    with Loops.open(path) as loops:
        known = loops.files(LOOP)
        assert (known.folder, [(one.kind, one.path) for one in known.changes]) == (
            str(root),
            [("M", "README"), ("A", "mine")],
        )
        kept = loops.keep_files(LOOP, by=ADA)
        assert loops.keep_files(LOOP, by=ADA).commit == kept.commit
        assert loops.files(LOOP).changes == ()
    assert held(path) == before
    assert git(path, "log", "-1", "--format=%an|%s", LOOP_REF).decode().strip() == (
        "Ada Lovelace|writer: files changed by hand"
    )
    async with Runtime.open(path, agents=[scribbler()], model=once(99)) as runtime:
        assert (await runtime.resume(LOOP)).status == "completed"
    healthy(path)


async def test_a_folder_that_is_behind_its_loop_is_said_to_be_and_can_be_made_so(path: Path, root: Path) -> None:
    await drive(path, root)
    before = files_in(root)
    with Loops.open(path) as loops:
        loops.fork(f"{LOOP}~3", "other")
        assert loops.files("other").behind
        loops.tell("other", "Go on.", by=ADA)
    async with Runtime.open(path, agents=[scribbler()], model=once(99)) as runtime:
        assert (await runtime.resume("other")).status == "completed"
    with Loops.open(path) as loops:
        assert not loops.files("other").behind
        assert not loops.files(LOOP).behind
        adopted = loops.adopt("other", LOOP, by=ADA)
        assert files_in(root) == before != held(path)
        known = loops.files(LOOP)
        assert (known.behind, known.changes) == (True, ())
        (root / "README").write_text("by hand\n")
        with pytest.raises(NotApplicable):
            loops.keep_files(LOOP, restore=True, by=ADA)
        assert not loops.files(LOOP).behind
        (root / "README").write_bytes(before["README"][1])
        assert loops.keep_files(LOOP, restore=True, by=ADA).commit == adopted.commit
        assert files_in(root) == held(path)
        assert not loops.files(LOOP).behind
    healthy(path)


async def test_the_folder_that_another_loop_works_in_by_now_is_not_made_so(path: Path, root: Path) -> None:
    await drive(path, root)
    async with Runtime.open(path, agents=[Agent("w")], model=ScriptedModel(lines(say("hi")))) as runtime:
        await runtime.run("w", "Write.", loop="new", workspace=root)
    before = files_in(root)
    with Loops.open(path) as loops:
        loops.fork(f"{LOOP}~3", "other")
        loops.adopt("other", LOOP, by=ADA)
        loops.tell("new", "Go on.", by=ADA)
        assert loops.files(LOOP).behind
        with pytest.raises(Occupied, match="is the folder of new"):
            loops.keep_files(LOOP, restore=True, by=ADA)
    assert files_in(root) == before


async def test_what_was_looked_at_and_never_kept_is_gone_once_the_loop_is_erased(path: Path, root: Path) -> None:
    await drive(path, root)
    async with Runtime.open(path, agents=[scribbler()], model=scribbles(7)) as runtime:
        await runtime.run("writer", "Write.", loop="other")
    for text in ("xyzzy, for nobody\n", "xyzzy, for nobody else\n"):
        (root / "diary").write_text(text)
        with pytest.raises(UnkeptFiles, match="diary"):
            await resumed(path, LOOP)
        (root / "diary").unlink()
    assert b"xyzzy" in everything(path)
    with Loops.open(path) as loops:
        loops.erase(LOOP, by=ADA)
    assert b"xyzzy" not in everything(path)
    healthy(path)


def everything(path: Path) -> bytes:
    """All objects of a repository, whether anything leads to them or not."""
    return git(path, "cat-file", "--batch-all-objects", "--batch", "--buffer")


async def test_files_changed_by_hand_can_be_put_back_and_stay_in_the_history(path: Path, root: Path) -> None:
    await drive(path, root)
    before = files_in(root)
    with Loops.open(path) as loops:
        loops.tell(LOOP, "Go on.", by=ADA)
        (root / "README").write_text("by hand\n")
        (root / "mine").write_text("new\n")
        loops.keep_files(LOOP, restore=True, by=ADA)
    assert files_in(root) == held(path) == before
    assert held(path, f"{LOOP_REF}~")["mine"] == ("100644", b"new\n")
    healthy(path)


@pytest.mark.parametrize("restore", [False, True])
async def test_without_the_index_what_was_changed_by_hand_in_a_forks_folder_is_kept_or_put_back(
    path: Path, root: Path, restore: bool
) -> None:
    await drive(path, root)
    with Loops.open(path) as loops:
        loops.fork(LOOP, "tried")
    await again(path, "tried", 4)
    place = path / "caesura.workspaces" / "tried" / "files"
    before = files_in(place)
    (place / "mine").write_text("by hand\n")
    (path / "caesura.workspaces" / "tried" / "index").write_bytes(b"torn")
    with Loops.open(path) as loops:
        assert [tuple(change) for change in loops.files("tried").changes] == [("A", "mine")]
        loops.tell("tried", "Go on.", by=ADA)
        loops.keep_files("tried", restore=restore, by=ADA)
        assert loops.files("tried").changes == ()
    kept = held(path, "loops/tried~1") if restore else held(path, "loops/tried")
    assert kept == {**before, "mine": ("100644", b"by hand\n")}
    assert files_in(place) == held(path, "loops/tried")
    assert ("mine" in files_in(place)) is not restore
    healthy(path)


async def test_a_branch_that_went_on_elsewhere_brings_its_files_with_it(path: Path, root: Path, tmp_path: Path) -> None:
    await drive(path, root)
    git(tmp_path, "clone", "-q", "--mirror", str(path), "copy.git")
    await resumed(tmp_path / "copy.git", LOOP, 7)
    git(path, "fetch", "-q", str(tmp_path / "copy.git"), f"+{LOOP_REF}:{LOOP_REF}")
    with Loops.open(path) as loops:
        loops.tell(LOOP, "And on.", by=ADA)
    async with Runtime.open(path, agents=[scribbler()], model=once(8)) as runtime:
        await runtime.resume(LOOP)
    assert files_in(root) == held(path)


def test_what_comes_after_a_commit_that_a_process_died_of_is_kept(processes: Processes, path: Path, root: Path) -> None:
    processes.wait(processes.start(("tests.workspaces.driven", path, root, LOOP, "after:4")))
    assert steps(path)[-1][1] == "ToolReturned"
    assert held(path) == files_in(root)
    (root / "mine").write_text("new\n")
    with Loops.open(path) as loops:
        loops.keep_files(LOOP, by=ADA)
        assert held(path) == files_in(root)
        assert loops.files(LOOP).changes == ()
    healthy(path)


async def test_what_was_changed_here_and_went_on_elsewhere_is_refused(path: Path, root: Path, tmp_path: Path) -> None:
    await drive(path, root)
    git(tmp_path, "clone", "-q", "--mirror", str(path), "copy.git")
    await resumed(tmp_path / "copy.git", LOOP, 7)
    (root / "mine").write_text("new\n")
    before = files_in(root)
    git(path, "fetch", "-q", str(tmp_path / "copy.git"), f"+{LOOP_REF}:{LOOP_REF}")
    with Loops.open(path) as loops:
        loops.tell(LOOP, "And on.", by=ADA)
        with pytest.raises(Apart):
            loops.keep_files(LOOP, by=ADA)
    with pytest.raises(UnkeptFiles):
        await resumed(path, LOOP)
    assert files_in(root) == before


async def test_a_loop_of_a_name_that_is_taken_leaves_the_other_ones_folder_alone(
    path: Path, root: Path, tmp_path: Path
) -> None:
    await drive(path, root)
    (tmp_path / "else").mkdir()
    async with Runtime.open(path, agents=[scribbler()], model=scribbles(1)) as runtime:
        with pytest.raises(LoopExists):
            await runtime.run("writer", "Write.", loop=LOOP, workspace=tmp_path / "else")
    with Loops.open(path) as loops:
        assert loops.files(LOOP).folder == str(root)


async def test_a_loop_without_files_has_none(path: Path, root: Path) -> None:
    async with Runtime.open(path, agents=[Agent("a")], model=ScriptedModel(lines(say("hi")))) as runtime:
        await runtime.run("a", "Talk.", loop="talk")
    with Loops.open(path) as loops:
        for look in (loops.files, loops.keep_files):
            with pytest.raises(NoFiles, match="works on no files"):
                look("talk")
    assert git(path, "ls-tree", "--name-only", "loops/talk").split() == [
        b"agent.json",
        b"continuation.json",
        b"messages",
    ]


async def test_a_folder_that_is_not_there_or_a_store_without_files_begins_no_loop(path: Path, root: Path) -> None:
    for place, folder, error in ((path, root / "nothing", Unkeepable), (MemoryStore(), root, Unavailable)):
        async with Runtime.open(place, agents=[scribbler()], model=scribbles(1)) as runtime:
            with pytest.raises(error):
                await runtime.run("writer", "Write.", loop=LOOP, workspace=folder)


# What the model is told --------------------------------------------------------------------------------------------


async def test_the_model_is_told_what_is_left_out_and_what_cannot_be_kept(
    path: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshot, "MAX_OBJECT", 1000)
    token = "ghp_" + "a1B2" * 9

    @tool
    def work(name: str, text: str, context: ToolContext) -> str:
        (root / name).write_text(text)
        return "written"

    model = ScriptedModel(
        lines(
            ask_for(("work", {"name": "key", "text": "TOKEN"})),
            ask_for(("work", {"name": "more", "text": "1"})),
            ask_for(("work", {"name": "big", "text": "x" * 1001})),
            ask_for(("work", {"name": "big", "text": "small"})),
            say("done"),
        )
    )
    work_on = root / "key"

    @tool(name="work")
    def secretly(name: str, text: str, context: ToolContext) -> str:
        return work(name, text.replace("TOKEN", token), context)

    async with Runtime.open(path, agents=[Agent("w", tools=[secretly])], model=model) as runtime:
        await runtime.run("w", "Write.", loop=LOOP, workspace=root)
    said = results(model.requests[-1])
    assert said[0] == "written\n[Not kept, because of a secret in it or of its name: key]"
    assert said[1] == said[3] == "written"
    assert said[2].startswith("written\n[The files are not kept as they are now: big has 1,001 bytes")
    assert held(path).keys() == {"README", "more", "big"}
    assert work_on.read_text() == token
    assert token.encode() not in git(path, "cat-file", "--batch-all-objects", "--batch")
    healthy(path)


async def test_tools_that_run_at_once_lose_none_of_each_others_files(path: Path, root: Path) -> None:
    met = trio.Event()

    @tool
    async def work(name: str, context: ToolContext) -> str:
        (root / name).write_text(name)
        if name == "f4":
            met.set()
        await met.wait()
        return name

    model = ScriptedModel(lines(ask_for(*[("work", {"name": f"f{number}"}) for number in range(5)]), say("done")))
    async with Runtime.open(path, agents=[Agent("w", tools=[work])], model=model) as runtime:
        await runtime.run("w", "Write.", loop=LOOP, workspace=root)
    assert held(path) == files_in(root)
    assert len(held(path)) == 6
    healthy(path)


async def test_two_loops_do_not_work_in_one_folder_at_once(path: Path, root: Path) -> None:
    async with Runtime.open(path, agents=[Agent("w", tools=[])], model=ScriptedModel(lines(say("hi")))) as runtime:
        await runtime.run("w", "Write.", loop="second", workspace=root)  # it ends, and the folder is free

        @tool
        async def work(context: ToolContext) -> str:
            with Loops.open(path) as loops:
                loops.tell("second", "Go on.", by=ADA)
            with pytest.raises(Occupied, match="works in"):
                await runtime.resume("second")
            return "alone"

        model = ScriptedModel(lines(ask_for(("work", {})), say("done")))
        async with Runtime.open(path, agents=[Agent("first", tools=[work])], model=model) as other:
            await other.run("first", "Write.", loop=LOOP, workspace=root)
        assert results(model.requests[-1]) == ["alone"]
        assert (await runtime.resume("second")).status == "completed"


async def test_a_loop_is_not_begun_in_the_folder_of_another_that_has_not_ended(path: Path, root: Path) -> None:
    """The one would find the other's files, take them for what somebody changed by hand, and stop."""
    async with Runtime.open(path, agents=[Agent("w")], model=ScriptedModel(lines(say("hi")))) as runtime:
        await runtime.run("w", "Write.", loop=LOOP, workspace=root)
        with Loops.open(path) as loops:
            loops.tell(LOOP, "Go on.", by=ADA)
        (root.parent / "link").symlink_to(root)
        for folder in (root, root.parent / "link"):
            with pytest.raises(Occupied, match=f"is the folder of {LOOP}, which is active") as caught:
                await runtime.run("w", "Write.", loop="second", workspace=folder)
            assert f"caesura resume {LOOP}" in caught.value.hint
        await runtime.resume(LOOP)
        await runtime.run("w", "Write.", loop="second", workspace=root)
        (root / "README").write_text("by the second, say\n")
        with Loops.open(path) as loops:
            loops.tell(LOOP, "Go on.", by=ADA)
            loops.tell("second", "Go on.", by=ADA)
        with pytest.raises(UnkeptFiles, match="second worked there, too"):
            await runtime.resume(LOOP)


@pytest.mark.parametrize("drop", [True, False])
async def test_no_loop_is_adopted_while_files_were_changed_by_hand_that_no_commit_has(
    path: Path, root: Path, drop: bool
) -> None:
    """Their folders are nobody's afterwards, and no command would tell of what is in them."""
    async with Runtime.open(path, agents=[Agent("w")], model=ScriptedModel(lines(say("hi")))) as runtime:
        await runtime.run("w", "Write.", loop=LOOP, workspace=root)
        with Loops.open(path) as loops:
            for name in ("good", "bad"):
                loops.fork(LOOP, name)
                loops.tell(name, "Go on.", by=ADA)
                await runtime.resume(name)
        with Loops.open(path) as loops:
            places = {name: Path(loops.files(name).folder) for name in ("good", "bad")}
            (places["good"] / "README").write_text("by hand\n")
            with pytest.raises(UnkeptFiles, match="last commit of good: README") as caught:
                loops.adopt("good", LOOP, over=["bad"], drop=drop, by=ADA)
            assert "caesura tell good" in caught.value.hint
            assert loops.info("good").status == "completed"
            loops.tell("good", "See what I have changed.", by=ADA)
            loops.keep_files("good", by=ADA)
            (places["bad"] / "new").write_text("by hand\n")
            if drop:
                with pytest.raises(UnkeptFiles, match="last commit of bad: new"):
                    loops.adopt("good", LOOP, over=["bad"], drop=True, by=ADA)
                (places["bad"] / "new").unlink()
            loops.adopt("good", LOOP, over=["bad"], drop=drop, by=ADA)
        await runtime.resume(LOOP)
    assert (root / "README").read_text() == "by hand\n"
    healthy(path)


# Crashes -----------------------------------------------------------------------------------------------------------


def settled(path: Path, root: Path) -> None:
    """Go on after a crash as a person would; what is in the folder at any time is there still, or in a commit."""
    before = files_in(root)
    if subprocess.run(["git", "-C", path, "rev-parse", "-q", "--verify", LOOP_REF], capture_output=True).returncode:
        trio.run(drive, path, root)  # it was killed before it began
        return
    with Loops.open(path) as loops:
        try:
            trio.run(drive, path, root)
        except UnkeptFiles:
            assert files_in(root) == before
            loops.keep_files(LOOP, by=ADA)
            assert files_in(root) == before == held(path)
            trio.run(drive, path, root)
        kept = {git(path, "rev-parse", f"{commit}:workspace") for commit, _ in steps(path)}
        assert before in [files_of(path, tree.decode().strip()) for tree in kept]
        for request in loops.pending(LOOP):
            assert request.kind == "outcome"
            loops.answer(request, "It had ended.", by=ADA)
    trio.run(drive, path, root)


DEATHS = [
    *(f"inside:{effect}" for effect in (1, 5, 12)),
    *(f"{moment}:{move}" for moment in ("before", "after") for move in (1, 2, 3, 4, 6)),
    *(f"write:{write}" for write in range(5, 400, 19)),
]


@pytest.mark.parametrize("death", DEATHS)
def test_a_kill_at_any_moment_loses_no_file(processes: Processes, path: Path, root: Path, death: str) -> None:
    (ended,) = processes.wait(processes.start(("tests.workspaces.driven", path, root, LOOP, death)))
    assert ended.status in (-9, 0)
    settled(path, root)
    with Loops.open(path) as loops:
        assert loops.show(LOOP).state.status == "completed"
        assert loops.files(LOOP).changes == ()
    assert held(path) == files_in(root)
    assert not [name for name in files_in(root) if ".caesura~" in name]
    healthy(path)


@pytest.mark.parametrize("write", range(3, 90, 6))
def test_a_checkout_that_was_cut_short_is_made_whole(processes: Processes, path: Path, root: Path, write: int) -> None:
    trio.run(drive, path, root)
    with Loops.open(path) as loops:
        loops.fork(f"{LOOP}~6", "other")
        loops.tell("other", "Wait.", by=ADA)
        place = Path(loops.files("other").folder)
    for number, back in enumerate((6, 3, 0)):
        git(path, "update-ref", "refs/heads/loops/other", git(path, "rev-parse", f"{LOOP_REF}~{back}").decode().strip())
        (ended,) = processes.wait(
            processes.start(("tests.workspaces.taken_up", path, "other", f"write:{write + number}"))
        )
        assert ended.status in (-9, 0)
        with Loops.open(path) as loops:
            assert loops.files("other").changes == ()  # by hand
        processes.run(("tests.workspaces.taken_up", path, "other"))
        assert files_in(place) == held(path, "loops/other")


@pytest.mark.parametrize("seed", range(6))
def test_whatever_happens_the_folder_is_what_the_commit_holds_and_nothing_is_lost(
    path: Path, root: Path, seed: int
) -> None:
    chance = random.Random(seed)  # noqa: S311 - to be the same in each run
    loops_known = [LOOP]
    trio.run(drive, path, root)
    for turn in range(10):
        loop = chance.choice(loops_known)
        with Loops.open(path) as loops:
            place = Path(loops.files(loop).folder)
            kind = chance.choice(("go on", "by hand", "by hand", "fork", "move"))
            if kind == "by hand":
                loops.tell(loop, "Hm.", by=ADA)
                for _ in range(chance.randint(1, 4)):
                    something_happens(place, chance)
                loops.keep_files(loop, restore=chance.random() < 0.3, by=GRACE)
            elif kind == "fork":
                commits = [commit for commit, _ in steps(path, loop)]
                loops_known.append(f"fork-{turn}")
                loops.fork(chance.choice(commits), loops_known[-1])
                loop = loops_known[-1]
            elif kind == "move":  # somebody sets the branch back, as git lets them
                commit = chance.choice([commit for commit, _ in steps(path, loop)])
                git(path, "update-ref", f"refs/heads/loops/{loop}", commit)
            place = Path(loops.files(loop).folder)
        trio.run(partial(again, path, loop, chance.randrange(10**6)))
        assert files_in(place) == held(path, f"loops/{loop}")
    healthy(path)


# On disk -----------------------------------------------------------------------------------------------------------


def begun(path: Path, tree: str) -> GitStore:
    """A loop whose state says that its files are a tree."""
    store = GitStore.open(path, create=True)
    event = Started(
        at=EPOCH,
        definition=AGENT,
        prompt=User(content="Go."),
        nonce="n",
        worker=WORKERS[0],
        workspace=Workspace(tree=TreeId(tree)),
    )
    History(store).begin(loop_name(LOOP), event, ROBOT, ADA)
    return store


def tree_of(path: Path, *lines: str) -> str:
    return git(path, "mktree", "--missing", stdin="".join(f"{line}\n" for line in lines).encode()).decode().strip()


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("100644 blob " + "1" * 40 + "\ta", "missing"),
        ("160000 commit " + "1" * 40 + "\tmodule", "no file, link or folder"),
        ("040000 tree " + "1" * 40 + "\tfolder", "missing"),
    ],
)
def test_files_that_are_not_there_or_cannot_be_are_faults(path: Path, line: str, what: str) -> None:
    GitStore.open(path, create=True).close()
    begun(path, tree_of(path, line)).close()
    with Loops.open(path) as loops:
        assert [what in fault.what for fault in loops.verify().faults] == [True]


def test_a_tree_beside_a_continuation_that_is_not_its_files_is_damage(path: Path, root: Path) -> None:
    trio.run(drive, path, root)
    lines = git(path, "ls-tree", LOOP_REF).decode().splitlines()
    for forged in (
        [line for line in lines if "workspace" not in line],
        [*lines[:-1], lines[-1].replace("workspace", "more")],
    ):
        commit = git(path, "commit-tree", tree_of(path, *forged), "-m", "forged").decode().strip()
        git(path, "update-ref", "refs/heads/loops/forged", commit)
        with Loops.open(path) as loops, pytest.raises(Unreadable, match="workspace/ is not the files"):
            loops.show("forged")


def test_only_what_may_change_files_changes_them(path: Path, root: Path) -> None:
    trio.run(drive, path, root)
    store = GitStore.open(path)
    head = store.read(store.resolve(LOOP_REF))
    first = store.read(store.resolve(f"{LOOP_REF}~9")).state.workspace
    for event, workspace in (("Told", first), ("ToolReturned", None)):
        forged = store.write(
            replace(head.state, workspace=workspace),
            parents=(head.id,),
            message=head.message.replace("Event: ModelReplied", f"Event: {event}"),
            author=ADA,
            committer=ROBOT,
        )
        git(path, "update-ref", "refs/heads/loops/forged", forged.id)
        whats = [fault.what for fault in verify(store, [loop_name("forged")]).faults]
        assert any("files" in what or "workspace" in what for what in whats), whats
