"""Loops' files come back to a project: a branch that merges with plain git, by whom it is from, as often as wanted."""

import random
import shutil
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

import pytest
import trio
from msgspec.structs import replace

from caesura.continuations import (
    BadBranch,
    BranchInUse,
    Call,
    CallId,
    CallState,
    CommitId,
    Decision,
    Digest,
    GitStore,
    Loops,
    NoFiles,
    NoProject,
    NothingToBring,
    Reply,
)
from caesura.continuations._exported import describe_files
from caesura.runtime import Agent, ModelRequest, Runtime, ToolContext, tool
from tests.models import ADA, GRACE, ScriptedModel, ask_for, lines, rounds, say
from tests.repositories import STATE
from tests.strategies import EPOCH
from tests.workspaces import (
    LOOP,
    Kept,
    again,
    files_in,
    files_of,
    git,
    project_of,
    scribbler,
    scribbles,
    something_happens,
)

BRANCH = "agents/mend"
TRAILER = "%H %(trailers:key=Caesura-Commit,valueonly,separator=)"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "r.git"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return project_of(tmp_path / "project")


@tool(needs_approval=True)
def write(file: str, text: str, context: ToolContext) -> str:
    """Write a file."""
    assert context.workspace is not None
    (context.workspace / file).write_text(text)
    return f"{file} is written"


WRITER = Agent("writer", tools=[write])


def writes(*files: str, said: str = "It needs that.") -> ScriptedModel:
    """A model that writes files one after the other, then ends; and so again each time that it is told something."""
    calls = [ask_for(("write", {"file": name, "text": f"{name}\n"}), text=said) for name in files]
    return ScriptedModel(lambda asked: [*calls, say("done")][rounds(asked) % (len(files) + 1)])


async def written(path: Path, *files: str, by: Any = ADA, said: str = "It needs that.", **options: Any) -> None:
    """A loop that writes files, each approved."""
    async with Runtime.open(path, agents=[WRITER], model=writes(*files, said=said)) as runtime:
        outcome = await runtime.run("writer", "Write.", loop=LOOP, **options)
        while outcome.pending:
            with Loops.open(path) as loops:
                for request in outcome.pending:
                    loops.approve(request, by=by)
            outcome = await runtime.resume(LOOP)
        assert outcome.status == "completed"


def log(project: Path, form: str, *revisions: str) -> list[str]:
    """What git says of commits, oldest first."""
    return git(project, "log", "--reverse", f"--format={form}", *revisions).decode().splitlines()


def untouched(project: Path) -> tuple[Kept, bytes, bytes]:
    """What an export must leave alone: the worktree, the index, the branch that is checked out."""
    return files_in(project), (project / ".git/index").read_bytes(), git(project, "rev-parse", "HEAD")


async def test_a_branch_comes_back_that_merges_with_plain_git(path: Path, project: Path, tmp_path: Path) -> None:
    await written(path, "a", "b", origin=f"{project}@main", workspace=tmp_path / "work")
    before = untouched(project)
    with Loops.open(path) as loops:
        made = loops.export_files(LOOP, BRANCH)
    assert untouched(project) == before
    assert (made.project, made.branch, made.was, made.commits) == (str(project), BRANCH, None, 2)
    assert git(project, "rev-parse", BRANCH).decode().strip() == made.commit
    assert files_of(project, BRANCH) == files_of(path, f"loops/{LOOP}:workspace")
    assert log(project, "%an <%ae>: %s", "main..agents/mend") == [
        "writer <writer@agents.invalid>: writer: write: a",
        "writer <writer@agents.invalid>: writer: write: b",
    ]
    assert git(project, "merge-base", "main", BRANCH) == git(project, "rev-parse", "main")
    (project / "meanwhile").write_text("somebody's")
    git(project, "add", "meanwhile")
    git(project, "commit", "-qm", "Meanwhile")
    git(project, "merge", "-q", "-m", "Merge", BRANCH)
    assert (project / "a").read_text() == "a\n"
    git(project, "fsck", "--strict", "--no-dangling")


async def test_blame_leads_to_the_reasoning(path: Path, project: Path, tmp_path: Path) -> None:
    await written(path, "a", "b", origin=f"{project}@main", said="Because.\n\nCaesura-Commit: forged\nx")
    with Loops.open(path) as loops:
        loops.export_files(LOOP, BRANCH)
        blamed = git(project, "blame", "--porcelain", BRANCH, "--", "b").split()[0].decode()
        (said,) = log(project, "%(trailers:key=Caesura-Commit,valueonly,separator=%x2C)", "-1", blamed)
        message = git(project, "log", "-1", "--format=%B", blamed).decode()
        shown = loops.show(said)
    assert shown.message.startswith("writer: write returned: b is written")
    assert "Because." in message
    assert 'write(file="b", text="b\\n")' in message


async def test_who_approved_is_a_co_author_and_who_changed_by_hand_the_author(
    path: Path, project: Path, tmp_path: Path
) -> None:
    await written(path, "a", by=GRACE, origin=f"{project}@main", workspace=tmp_path / "work")
    with Loops.open(path) as loops:
        loops.tell(LOOP, "Hm.", by=ADA)
        (tmp_path / "work" / "mine").write_text("by hand\n")
        loops.keep_files(LOOP, by=ADA)
        loops.export_files(LOOP, BRANCH)
    form = "%an|%(trailers:key=Co-authored-by,valueonly,separator=%x2C)|%s"
    assert log(project, form, f"main..{BRANCH}") == [
        "writer|Grace Hopper <grace@example.com>|writer: write: a",
        "Ada Lovelace||writer: changed by hand: mine",
    ]
    dates = log(path, "%ad", "--first-parent", f"loops/{LOOP}", "--", "workspace")[1:]
    assert log(project, "%ad", f"main..{BRANCH}") == dates


async def test_approvers_of_what_ran_at_the_same_time_are_named_too(path: Path, project: Path) -> None:
    both = trio.Event()
    wrote = 0

    @tool(needs_approval=True)
    async def write(file: str, text: str, context: ToolContext) -> str:
        nonlocal wrote
        assert context.workspace is not None
        (context.workspace / file).write_text(text)
        wrote += 1
        if wrote == 2:
            both.set()
        await both.wait()
        return "written"

    calls = [("write", {"file": name, "text": name}) for name in ("a", "b")]
    model = ScriptedModel(lines(ask_for(*calls), say("done")))
    async with Runtime.open(path, agents=[Agent("writer", tools=[write])], model=model) as runtime:
        outcome = await runtime.run("writer", "Write.", loop=LOOP, origin=str(project))
        with Loops.open(path) as loops:
            for request, who in zip(outcome.pending, (ADA, GRACE), strict=True):
                loops.approve(request, by=who)
        await runtime.resume(LOOP)
    with Loops.open(path) as loops:
        loops.export_files(LOOP, BRANCH)
    (names,) = log(project, "%(trailers:key=Co-authored-by,valueonly,separator=%x2C)", f"main..{BRANCH}")
    assert sorted(names.split(",")) == [str(ADA), str(GRACE)]
    assert files_of(project, BRANCH).keys() >= {"a", "b"}


async def test_who_approved_in_a_nested_loop_is_a_co_author_of_what_it_changed(path: Path, project: Path) -> None:
    lead = Agent("lead", tools=[WRITER.as_tool("Writes.", name="writer")])

    def script(asked: ModelRequest) -> Reply | Awaitable[Reply]:
        if asked.agent == "writer":
            return writes("a").script(asked)
        return [ask_for(("writer", {"prompt": "Write."})), say("done")][min(rounds(asked), 1)]

    async with Runtime.open(path, agents=[lead], model=ScriptedModel(script)) as runtime:
        outcome = await runtime.run("lead", "Lead.", loop=LOOP, origin=f"{project}@main")
        with Loops.open(path) as loops:
            loops.approve(outcome.pending[0], by=GRACE)
        await runtime.resume(LOOP)
    with Loops.open(path) as loops:
        loops.export_files(LOOP, BRANCH)
    form = "%an|%(trailers:key=Co-authored-by,valueonly,separator=%x2C)|%s"
    assert log(project, form, f"main..{BRANCH}") == ["lead|Grace Hopper <grace@example.com>|lead: writer: a"]


def test_nobody_is_both_author_and_co_author() -> None:
    decision = Decision(
        choice="approve", by=ADA, at=EPOCH, seen=CommitId("a" * 40), arguments=Digest("d"), tool=Digest("t")
    )
    call = Call(
        id=CallId("write-1"), key="k", tool="write", kind="function", arguments="{}", state=CallState.UNKNOWN,
        nonce="n", since=EPOCH, decision=decision,
    )  # fmt: skip
    state = replace(STATE, calls=(call,))
    said = {
        who: describe_files(state, state, "FilesChanged", None, who, ["a"], CommitId("b" * 40)) for who in (ADA, GRACE)
    }
    assert "Co-authored-by" not in said[ADA]
    assert f"\nCo-authored-by: {ADA}\nCaesura-Commit: {'b' * 40}\n" in said[GRACE]


# Again -------------------------------------------------------------------------------------------------------------


async def test_after_more_steps_the_branch_moves_forward(path: Path, project: Path) -> None:
    await written(path, "a", "b", "c", origin=f"{project}@main")
    with Loops.open(path) as loops:
        steps = log(path, "%H", "--first-parent", f"loops/{LOOP}", "--", "workspace")
        tips = [loops.export_files(step, BRANCH) for step in steps]
        once_more = loops.export_files(LOOP, BRANCH)
        older = loops.export_files(steps[1], BRANCH)
        fresh = loops.export_files(LOOP, "agents/other")
    assert [one.was for one in tips] == [None, *(one.commit for one in tips[:-1])]
    assert once_more.commit == once_more.was == older.commit == older.was == fresh.commit == tips[-1].commit
    assert [one.commits for one in tips] == [0, 1, 2, 3]
    assert tips[0].commit == git(project, "rev-parse", "main").decode().strip()


async def test_a_branch_that_somebody_else_moved_is_refused_and_stays(path: Path, project: Path) -> None:
    await written(path, "a", "b", origin=f"{project}@main")
    steps = log(path, "%H", "--first-parent", f"loops/{LOOP}", "--", "workspace")
    with Loops.open(path) as loops:
        loops.export_files(steps[1], BRANCH)
        theirs = git(project, "commit-tree", f"{BRANCH}^{{tree}}", "-p", BRANCH, "-m", "Theirs").decode().strip()
        git(project, "update-ref", f"refs/heads/{BRANCH}", theirs)
        assert loops.export_files(steps[1], BRANCH).commit == theirs  # all of the loop is in it
        with pytest.raises(BranchInUse, match="has commits that the loop has not") as refused:
            loops.export_files(LOOP, BRANCH)
    assert "merge" in refused.value.hint
    assert git(project, "rev-parse", BRANCH).decode().strip() == theirs


async def test_a_branch_that_is_checked_out_anywhere_is_refused(path: Path, project: Path, tmp_path: Path) -> None:
    await written(path, "a", origin=f"{project}@main")
    git(project, "worktree", "add", "-q", "-b", BRANCH, str(tmp_path / "linked"))
    before = files_in(tmp_path / "linked")
    with Loops.open(path) as loops:
        for branch in ("main", BRANCH):
            with pytest.raises(BranchInUse, match="checked out in"):
                loops.export_files(LOOP, branch)
    assert git(project, "rev-parse", BRANCH) == git(project, "rev-parse", "main")
    assert files_in(tmp_path / "linked") == before


@pytest.mark.parametrize("branch", ["-x", "a..b", "", "a b", "loops/x", "@{-1}", "x.lock"])
async def test_what_can_be_no_branch_is_refused(path: Path, project: Path, branch: str) -> None:
    await written(path, origin=f"{project}@main")
    with Loops.open(path) as loops, pytest.raises(BadBranch):
        loops.export_files(LOOP, branch)
    assert git(project, "for-each-ref", "--format=%(refname)").split() == [b"refs/heads/main"]


# Elsewhere ---------------------------------------------------------------------------------------------------------


async def test_a_loop_from_no_project_makes_a_branch_from_a_root(path: Path, project: Path, tmp_path: Path) -> None:
    root = tmp_path / "work"
    root.mkdir()
    (root / "README").write_text("mine\n")
    await written(path, "a", workspace=root)
    with Loops.open(path) as loops:
        with pytest.raises(NoProject, match="from no project"):
            loops.export_files(LOOP, BRANCH)
        loops.export_files(LOOP, BRANCH, to=project)
        git(tmp_path, "init", "-q", "--bare", "bare.git")
        loops.export_files(LOOP, "main", to=tmp_path / "bare.git")
    for place, branch in ((project, BRANCH), (tmp_path / "bare.git", "main")):
        assert files_of(place, branch) == files_in(root)
        assert log(place, "%s", branch) == ["writer: the files that it began with: README", "writer: write: a"]
        git(place, "fsck", "--strict", "--no-dangling")
    assert git(project, "rev-parse", BRANCH) == git(tmp_path / "bare.git", "rev-parse", "main")


async def test_another_clone_will_do_if_it_has_the_commit(path: Path, project: Path, tmp_path: Path) -> None:
    git(tmp_path, "clone", "-q", str(project), "old")
    (project / "more").write_text("more")
    git(project, "add", "more")
    git(project, "commit", "-qm", "More")
    git(tmp_path, "clone", "-q", "--bare", str(project), "new.git")
    git(tmp_path, "clone", "-q", "--depth=1", f"file://{project}", "shallow")
    await written(path, "a", origin=f"{project}@main")
    with Loops.open(path) as loops:
        with pytest.raises(NoProject, match="has no commit"):
            loops.export_files(LOOP, BRANCH, to=tmp_path / "old")
        made = {loops.export_files(LOOP, BRANCH, to=tmp_path / name).commit for name in ("new.git", "shallow")}
        made.add(loops.export_files(LOOP, BRANCH).commit)
        orphan = git(tmp_path / "shallow", "commit-tree", "main^{tree}", "-m", "Theirs").decode().strip()
        git(tmp_path / "shallow", "branch", "theirs", orphan)
        with pytest.raises(BranchInUse):  # git has to know where the history ends, to see that they have none in common
            loops.export_files(LOOP, "theirs", to=tmp_path / "shallow")
        with pytest.raises(NoProject, match="no git repository"):
            loops.export_files(LOOP, BRANCH, to=tmp_path)
        shutil.move(project, tmp_path / "moved")
        with pytest.raises(NoProject, match="no repository now"):
            loops.export_files(LOOP, BRANCH)
    assert len(made) == 1
    for name in ("new.git", "shallow"):
        assert files_of(tmp_path / name, BRANCH) == files_of(path, f"loops/{LOOP}:workspace")
        git(tmp_path / name, "fsck", "--strict", "--no-dangling")


async def test_loops_in_the_project_itself_come_back_to_it(project: Path) -> None:
    await written(project, "a", origin=f"{project}@main")
    with Loops.open(project) as loops:
        loops.export_files(LOOP, BRANCH)
        assert loops.verify().faults == ()
    assert files_of(project, BRANCH) == files_of(project, f"loops/{LOOP}:workspace")


async def test_steps_that_git_does_not_see_yet_come_along(path: Path, project: Path) -> None:
    seen: list[set[str]] = []

    @tool
    def write(file: str, text: str, context: ToolContext) -> str:
        """Write a file, and export what was written before it."""
        assert context.workspace is not None
        if file == "b":
            with Loops.open(path) as loops:
                loops.export_files(LOOP, BRANCH)
            seen.append(set(files_of(project, BRANCH)))
        (context.workspace / file).write_text(text)
        return "written"

    agent = Agent("writer", tools=[write])
    async with Runtime.open(path, agents=[agent], model=writes("a", "b"), visibility="sealed") as runtime:
        await runtime.run("writer", "Write.", loop=LOOP, origin=f"{project}@main")
    assert seen == [{*files_of(project, "main"), "a"}]


async def test_a_loop_without_files_has_nothing_to_bring(path: Path, project: Path, tmp_path: Path) -> None:
    async with Runtime.open(path, agents=[Agent("a")], model=ScriptedModel(lines(say("hi")))) as runtime:
        await runtime.run("a", "Talk.", loop="talk")
        (tmp_path / "empty").mkdir()
        await runtime.run("a", "Talk.", loop="empty", workspace=tmp_path / "empty")
    with Loops.open(path) as loops:
        with pytest.raises(NoFiles):
            loops.export_files("talk", BRANCH, to=project)
        with pytest.raises(NothingToBring):
            loops.export_files("empty", BRANCH, to=project)


async def test_what_was_held_back_is_as_it_was_unless_the_loop_put_something_there(path: Path, project: Path) -> None:
    token = "ghp_" + "a1B2" * 9
    (project / "conf").mkdir()
    for name in ("conf/token", "conf/other", "c"):
        (project / name).write_text(token)
    git(project, "update-index", "--add", "--cacheinfo", f"160000,{'1' * 40},vendor/lib")
    git(project, "add", ".")
    git(project, "commit", "-qm", "Secrets")
    await written(path, "a", "c", origin=f"{project}@main")
    with Loops.open(path) as loops:
        loops.export_files(LOOP, BRANCH)
    assert git(project, "diff", "--name-only", "main", BRANCH).split() == [b"a", b"c"]
    assert git(project, "show", f"{BRANCH}:c") == b"c\n"
    git(project, "fsck", "--strict", "--no-dangling")


async def test_a_pruned_loop_begins_with_what_its_earlier_steps_did(path: Path, project: Path) -> None:
    await written(path, "a", "b", "c", origin=f"{project}@main")
    with Loops.open(path) as loops:
        loops.export_files(LOOP, "before")
        loops.prune(LOOP, keep=1, by=GRACE)
        loops.export_files(LOOP, "after")
        with pytest.raises(BranchInUse):
            loops.export_files(LOOP, "before")
    assert files_of(project, "after") == files_of(project, "before")
    assert log(project, "%an: %s", "main..after") == ["Grace Hopper: writer: earlier steps: a, b and 1 more"]


# Whatever happens --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(6))
def test_whatever_happens_the_branch_has_the_files_of_the_loop_and_forks_share_their_history(
    path: Path, project: Path, tmp_path: Path, seed: int
) -> None:
    chance = random.Random(seed)  # noqa: S311 - to be the same in each run
    known = [LOOP]

    async def begin() -> None:
        async with Runtime.open(path, agents=[scribbler()], model=scribbles(*range(seed, seed + 3))) as runtime:
            await runtime.run("writer", "Write.", loop=LOOP, origin=f"{project}@main", workspace=tmp_path / "work")

    trio.run(begin)
    for turn in range(6):
        loop = chance.choice(known)
        with Loops.open(path) as loops:
            kind = chance.choice(("go on", "by hand", "fork", "fork"))
            if kind == "by hand":
                loops.tell(loop, "Hm.", by=ADA)
                for _ in range(chance.randint(1, 4)):
                    something_happens(Path(loops.files(loop).folder), chance)
                loops.keep_files(loop, restore=chance.random() < 0.3, by=GRACE)
            elif kind == "fork":
                commits = log(path, "%H", "--first-parent", f"loops/{loop}")
                known.append(f"fork-{turn}")
                loops.fork(chance.choice(commits), known[-1])
                loop = known[-1]
        trio.run(again, path, loop, chance.randrange(10**6))
        if chance.random() < 0.5:
            exported(path, project, loop)
    for loop in known:
        exported(path, project, loop)
    git(project, "fsck", "--strict", "--no-dangling")
    git(project, "merge", "-q", chance.choice(known))
    assert git(project, "status", "--porcelain", "--untracked-files=no") == b""


def exported(path: Path, project: Path, loop: str) -> None:
    """Export a loop to the branch of its name: what is so then, whatever it has done and was forked from."""
    before = untouched(project)
    with Loops.open(path) as loops:
        loops.export_files(loop, loop)
    assert untouched(project) == before
    assert files_of(project, loop) == files_of(path, f"loops/{loop}:workspace")
    # One commit for each that changed files, on that of the step before: the same for every loop that has that step.
    steps = log(path, "%H", "--first-parent", f"loops/{loop}")
    trees = [git(path, "rev-parse", f"{step}:workspace") for step in steps]
    changed = [step for step, old, new in zip(steps[1:], trees, trees[1:], strict=False) if old != new]
    assert [line.split()[1] for line in log(project, TRAILER, f"main..{loop}")] == changed
    store = GitStore.open(path)
    for line in log(project, TRAILER, f"main..{loop}"):
        made, step = line.split()
        assert EXPORTED.setdefault((str(project), step), made) == made
        assert files_of(project, made) == files_of(path, f"{step}:workspace")
        assert store.read(store.resolve(step)).state.workspace is not None


EXPORTED: dict[tuple[str, str], str] = {}
"""What each step of a loop became in a project, whichever loop it was exported with."""
