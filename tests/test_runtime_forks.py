"""Every commit is resumable: plain ``git branch`` makes a loop of any, and it comes to an end of its own."""

import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from caesura.continuations import GitStore, Loops, NotALoop, Reply, Request, Status
from caesura.runtime import Agent, ModelRequest, Runtime, Tool, ToolContext, ask, tool
from tests.agents import LOOP, Ledger, Unknown, check_loop, company, company_script, decider, settle
from tests.models import ScriptedModel, ask_for, rounds, say
from tests.repositories import git


def commits(path: Path) -> list[str]:
    """Every commit in the repository, oldest first."""
    return git(path, "rev-list", "--branches=loops/*", "--reverse").splitlines()


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository in which the company's loop has come to its end, with one approval and one rejection."""
    folder = tmp_path_factory.mktemp("company")
    ledger = Ledger(folder / "ledger")
    trio.run(_finish, folder, ledger)
    check_loop(folder / "r.git", LOOP, ledger.entries())
    assert Counter(entry["tool"] for entry in ledger.entries()) == {
        "send_mail": 1,
        "create_account": 1,
        "authorize_account": 1,
        "order": 1,
    }
    return folder


async def _finish(folder: Path, ledger: Ledger) -> None:
    agent, model = company(ledger), ScriptedModel(company_script)
    async with Runtime.open(folder / "r.git", agents=[agent], model=model) as runtime:
        outcome = await runtime.run("lead", "Onboard Ada", loop=LOOP)
    assert [request.kind for request in outcome.pending] == ["approval", "approval"]
    outcome = await settle(folder / "r.git", LOOP, [agent], model, decider(), [])
    assert outcome.status == "completed"


@pytest.mark.parametrize("unknown", ["again", "ran", "give up"])
def test_from_every_commit_a_plain_branch_goes_on_to_an_end(finished: Path, tmp_path: Path, unknown: Unknown) -> None:
    path, ledger = tmp_path / "r.git", Ledger(tmp_path / "ledger")
    subprocess.run(["git", "clone", "--quiet", "--mirror", str(finished / "r.git"), str(path)], check=True)
    agents, asked = [company(ledger)], list[Request]()

    async def fork_them_all() -> None:
        for number, commit in enumerate(commits(path)):
            loop = f"fork-{number}"
            git(path, "branch", f"loops/{loop}", commit)
            outcome = await settle(path, loop, agents, ScriptedModel(company_script), decider(unknown), asked)
            assert outcome.status == "completed", (commit, outcome)
            check_loop(path, loop, ledger.entries(loop), runs=1)

    trio.run(fork_them_all)
    found_running = [request for request in asked if request.kind == "outcome"]
    assert {request.tool for request in found_running} == {"send_mail", "authorize_account", "order"}
    ran = {(entry["loop"], entry["call"]) for entry in ledger.entries()}
    for request in found_running:
        assert (tuple(request.id.rpartition(".")[::2]) in ran) == (unknown == "again")
    git(path, "fsck", "--strict")


def test_a_fresh_process_goes_on_from_a_nested_loops_commit(finished: Path, tmp_path: Path) -> None:
    path = tmp_path / "r.git"
    subprocess.run(["git", "clone", "--quiet", "--mirror", str(finished / "r.git"), str(path)], check=True)
    git(path, "branch", "-m", f"loops/{LOOP}", "loops/before")
    nested = git(path, "log", "--format=%H", "--grep=^accounts: approval requested", "--all").splitlines()[0]
    git(path, "branch", f"loops/{LOOP}", nested)
    command = [sys.executable, "-m", "tests.agents", str(path), str(tmp_path / "ledger")]
    subprocess.run(command, check=True, cwd=Path(__file__).parent.parent, capture_output=True)
    assert [entry["tool"] for entry in Ledger(tmp_path / "ledger").entries()] == ["authorize_account"]
    with Loops.open(path) as loops:
        assert loops.info(LOOP).status == "completed"
        assert loops.info(LOOP).agent == "accounts"


# Random trees ------------------------------------------------------------------------------------------------------

KINDS = ("plain", "dear", "approved", "same again", "failing", "question")
Tree = list[list["str | Tree"]]
"""An agent: its rounds of calls, each a kind of tool or an agent of its own."""

rounds_of = st.recursive(
    st.lists(st.lists(st.sampled_from(KINDS), min_size=1, max_size=3), min_size=1, max_size=2),
    lambda inner: st.lists(st.lists(st.sampled_from(KINDS) | inner, min_size=1, max_size=3), min_size=1, max_size=2),
    max_leaves=6,
)


class Growth:
    """Makes agents, and the script of their model, of a tree."""

    def __init__(self, tree: Tree, ledger: Ledger) -> None:
        self._ledger = ledger
        self._lines: dict[str, list[Reply]] = {}
        self.agent = self._grow(tree)

    def script(self, asked: ModelRequest) -> Reply:
        """The next line of whoever asks."""
        return self._lines[asked.agent][rounds(asked)]

    def _grow(self, tree: Tree) -> Agent:
        name = f"agent{len(self._lines)}"
        replies = self._lines[name] = list[Reply]()
        tools: list[Tool[..., Any]] = [*self._tools(), ask(int)]
        for calls in tree:
            wanted: list[tuple[str, dict[str, str]]] = []
            for call in calls:
                if isinstance(call, str):
                    name_of = {"dear": "approved", "question": "ask"}.get(call, call.replace(" ", "_"))
                    wanted.append((name_of, {"question": "how many?"} if call == "question" else {"what": _WHAT[call]}))
                else:
                    child = self._grow(call)
                    tools.append(child.as_tool("A child."))
                    wanted.append((child.name, {"prompt": "do your part"}))
            replies.append(ask_for(*wanted))
        replies.append(say(f"{name} is done"))
        return Agent(name, tools=tools)

    def _tools(self) -> list[Tool[..., Any]]:
        ledger = self._ledger

        @tool
        async def plain(what: str, context: ToolContext) -> str:
            ledger.write(context, "plain", what)
            return what

        @tool(needs_approval=True)
        def approved(what: str, context: ToolContext) -> str:
            ledger.write(context, "approved", what)
            return what

        @tool(idempotent=True)
        async def same_again(what: str, context: ToolContext) -> str:
            ledger.write(context, "create_account", what)
            return what

        @tool
        async def failing(what: str, context: ToolContext) -> str:
            ledger.write(context, "failing", what)
            raise OSError(what)

        return [plain, approved, same_again, failing]


_WHAT = {"plain": "a", "dear": "forbidden", "approved": "b", "same again": "c", "failing": "d"}


def as_person(loops: Loops, request: Request) -> None:
    """Answers numbers; else as the ordinary decider."""
    if request.kind == "question":
        loops.answer(request, 42, by="Ada Lovelace <ada@example.com>")
    else:
        decider("again")(loops, request)


@settings(max_examples=12)
@given(tree=rounds_of, data=st.data())
def test_any_tree_of_agents_ends_and_so_does_a_branch_from_any_of_its_commits(tree: Tree, data: st.DataObject) -> None:
    check_tree(tree, data)


@pytest.mark.soak
@settings(max_examples=200)
@given(tree=rounds_of, data=st.data())
def test_many_trees_of_agents_end_and_so_do_branches_from_their_commits(tree: Tree, data: st.DataObject) -> None:
    check_tree(tree, data)


def check_tree(tree: Tree, data: st.DataObject) -> None:
    """Grow a tree of agents, run it to its end, and fork some of its commits."""
    with tempfile.TemporaryDirectory() as folder:
        path, ledger = Path(folder) / "r.git", Ledger(Path(folder) / "ledger")
        grown = Growth(tree, ledger)

        async def grow() -> None:
            async with Runtime.open(path, agents=[grown.agent], model=ScriptedModel(grown.script)) as runtime:
                await runtime.run(grown.agent, "go", loop="x")

        async def go_on(loop: str) -> Status:
            asked = list[Request]()
            ended = await settle(path, loop, [grown.agent], ScriptedModel(grown.script), as_person, asked)
            assert len({request.id for request in asked}) == len(asked), "something was asked twice"
            check_loop(path, loop, ledger.entries(loop), runs=1)
            return ended.status

        trio.run(grow)
        assert trio.run(go_on, "x") == "completed"
        history = commits(path)
        for number, commit in enumerate(data.draw(st.lists(st.sampled_from(history), max_size=4, unique=True))):
            git(path, "branch", f"loops/fork-{number}", commit)
            assert trio.run(go_on, f"fork-{number}") == "completed"
        git(path, "fsck", "--strict")


def test_a_commit_that_is_no_loop_cannot_be_resumed(tmp_path: Path) -> None:
    path = tmp_path / "r.git"
    GitStore.open(path, create=True).close()
    tree = git(path, "hash-object", "-t", "tree", "-w", "/dev/null")
    git(path, "update-ref", "refs/heads/loops/x", git(path, "commit-tree", "-m", "nothing", tree))

    async def resume() -> None:
        agent = Agent("a")
        async with Runtime.open(path, agents=[agent], model=ScriptedModel(lambda _: say("hi"))) as runtime:
            with pytest.raises(NotALoop):
                await runtime.resume("x")

    trio.run(resume)
