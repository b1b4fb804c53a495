"""However driving ends — stopped, cancelled, the repository gone — the loop is whole and goes on later."""

import errno
import shutil
from collections.abc import Awaitable
from functools import partial
from pathlib import Path

import pytest
import trio
import trio.testing

from caesura.continuations import CallState, GitStore, LoopName, MemoryStore, Reply, Status, Unavailable, Visibility
from caesura.continuations.store import _disk, _refs
from caesura.runtime import (
    Agent,
    Committed,
    Dropped,
    ModelRequest,
    Notice,
    Outcome,
    Progressed,
    Streamed,
    Thinking,
    ToolContext,
    tool,
)
from tests.agents import Ledger, company, company_script, decider
from tests.models import ADA, Held, World, ask_for, call_of, check_results, lines, results, say


class Slow:
    """A tool that returns once it is let go."""

    def __init__(self, name: str = "work", *, idempotent: bool = False) -> None:
        self.began, self.go = trio.Event(), trio.Event()
        self.tool = tool(self.work, name=name, idempotent=idempotent)
        self.ran = 0

    async def work(self) -> str:
        self.ran += 1
        self.began.set()
        await self.go.wait()
        return "worked"


@pytest.mark.parametrize("name", ["work", "model", "sleep", "retry"])
async def test_stop_waits_for_running_tools_commits_them_and_starts_nothing_more(tmp_path: Path, name: str) -> None:
    slow, outcomes = Slow(name), list[Outcome]()
    world = World(tmp_path / "r.git", Agent("a", tools=[slow.tool]), lines(ask_for((name, {})), say("done")))
    async with world.open() as runtime, trio.open_nursery() as nursery:

        async def run() -> None:
            outcomes.append(await runtime.run("a", "go", loop="x"))

        nursery.start_soon(run)
        await slow.began.wait()
        runtime.stop()
        slow.go.set()
    assert outcomes[0].status is Status.ACTIVE
    assert call_of(world.state(), f"{name}-1").state is CallState.RETURNED
    assert len(world.model.requests) == 1
    assert (await world.resume()).status is Status.COMPLETED
    assert slow.ran == 1


async def test_stop_drops_model_calls_and_a_resume_makes_them_again(tmp_path: Path) -> None:
    held, outcomes = Held(lines(say("done"))), list[Outcome]()
    world = World(tmp_path / "r.git", Agent("a"), held)
    async with world.open() as runtime, trio.open_nursery() as nursery:

        async def run() -> None:
            outcomes.append(await runtime.run("a", "go", loop="x"))

        nursery.start_soon(run)
        await held.asked.wait()
        runtime.stop()
    assert outcomes[0].status is Status.ACTIVE
    held.go.set()
    assert (await world.resume()).status is Status.COMPLETED
    assert len(world.model.requests) == 2


async def test_stop_at_the_very_moment_a_loop_is_taken_up_starts_no_model_call(tmp_path: Path) -> None:
    held = Held(lines(say("done")))
    world = World(tmp_path / "r.git", Agent("a"), held)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.run)
        await held.asked.wait()
        nursery.cancel_scope.cancel()
    with trio.fail_after(300):
        async with world.open() as runtime:
            world.seen("resumed", runtime.stop)
            assert (await runtime.resume("x")).status is Status.ACTIVE
    assert len(world.model.requests) == 1


async def test_stop_at_the_very_moment_a_model_call_begins_drops_it(tmp_path: Path) -> None:
    def listener(notice: Notice) -> None:
        if isinstance(notice, Thinking):
            runtime.stop()

    held = Held(lines(say("done")))
    world = World(tmp_path / "r.git", Agent("a"), held)
    with trio.fail_after(300):
        async with world.open(listener=listener) as runtime:
            assert (await runtime.run("a", "go", loop="x")).status is Status.ACTIVE
    assert len(world.history()) == 1


async def test_stop_ends_a_worker_that_waits(tmp_path: Path) -> None:
    @tool(needs_approval=True)
    async def deploy() -> str:
        return "deployed"

    world = World(tmp_path / "r.git", Agent("a", tools=[deploy]), lines(ask_for(("deploy", {})), say("done")))
    async with world.open() as runtime, trio.open_nursery() as nursery:
        asked = world.seen("approval requested")
        nursery.start_soon(partial(runtime.run, "a", "go", loop="x", wait=True))
        await asked.wait()
        runtime.stop()
    assert world.state().status is Status.SUSPENDED


@pytest.mark.parametrize("kind", [Committed, Thinking, Streamed, Progressed])
async def test_a_listener_that_fails_brings_the_loops_to_rest_and_loses_nothing(
    tmp_path: Path, kind: type[Notice]
) -> None:
    @tool
    def work(context: ToolContext) -> str:
        context.progress("half")
        return "worked"

    def listener(notice: Notice) -> None:
        if isinstance(notice, kind):
            raise ZeroDivisionError("of the listener")

    script = lines(ask_for(("work", {}), text="I will work"), say("done"))
    world = World(tmp_path / "r.git", Agent("a", tools=[work]), script)
    with trio.fail_after(300):
        async with world.open(listener=listener) as runtime:
            with pytest.raises(ZeroDivisionError, match="of the listener"):
                await runtime.run("a", "go", loop="x")
            with pytest.raises(ZeroDivisionError, match="of the listener"):
                await runtime.resume("x")
        assert world.state().status is Status.ACTIVE
        assert not [one for one in world.state().open_calls if one.state is CallState.RUNNING]
        assert (await world.resume()).status is Status.COMPLETED
    assert results(world.model.requests[-1]) == ["worked"]


@pytest.mark.parametrize("after", range(1, 14))
async def test_stopped_after_any_commit_a_loop_goes_on(after: int) -> None:
    class Counted(World):
        def listen(self, notice: Notice) -> None:
            super().listen(notice)
            if len(self.subjects()) == after:
                runtime.stop()

    store = MemoryStore()
    world = Counted(store, company(Ledger(Path("/dev/null"))), company_script)
    with trio.fail_after(300):
        async with world.open() as runtime:
            outcome = await runtime.run(world.agent, "go", loop="x")
        assert outcome.status in (Status.ACTIVE, Status.SUSPENDED)
        check_results(world.state())
        assert not [one for one in world.state().open_calls if one.state is CallState.RUNNING]
        for _ in range(4):
            async with world.open() as runtime:
                outcome = await runtime.resume("x")
            for request in outcome.pending:
                decider()(world.loops(), request)
    assert outcome.status is Status.COMPLETED


@pytest.mark.parametrize("idempotent", [True, False])
async def test_a_cancelled_run_leaves_a_loop_that_resumes(tmp_path: Path, idempotent: bool) -> None:
    slow = Slow(idempotent=idempotent)
    world = World(tmp_path / "r.git", Agent("a", tools=[slow.tool]), lines(ask_for(("work", {})), say("done")))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.run)
        await slow.began.wait()
        nursery.cancel_scope.cancel()
    assert call_of(world.state(), "work-1").state is CallState.RUNNING
    slow.go.set()
    outcome = await world.resume()
    if not idempotent:
        (pending,) = outcome.pending
        assert pending.kind == "outcome"
        world.loops().answer(pending, "it had worked", by=ADA)
        outcome = await world.resume()
    assert outcome.status is Status.COMPLETED
    assert slow.ran == (2 if idempotent else 1)


@pytest.mark.parametrize("fault", ["deleted", "objects unwritable", "refs unwritable"])
async def test_a_repository_that_fails_while_a_tool_runs_is_unavailable_and_nothing_is_half_done(
    tmp_path: Path, fault: str
) -> None:
    slow, path = Slow(), tmp_path / "r.git"
    script = lines(ask_for(("work", {})), say("done"))
    world = World(path, Agent("a", tools=[slow.tool]), script, poll=3600)  # nobody looks while it is being broken
    aside = tmp_path / "aside"
    with trio.fail_after(300), pytest.RaisesGroup(Unavailable):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(world.run)
            await slow.began.wait()
            if fault == "deleted":
                path.rename(aside)
            else:
                place = path / ("objects" if fault.startswith("objects") else "refs/heads/loops")
                shutil.copytree(path, aside)
                shutil.rmtree(place)
                place.write_text("in the way")
            slow.go.set()
    if path.exists():
        shutil.rmtree(path)
    aside.rename(path)
    assert call_of(world.state(), "work-1").state is CallState.RUNNING
    store = GitStore.open(path)  # the lease could not be released, and this process lives
    store.move_lease(LoopName("x"), store.lease(LoopName("x")), None)
    assert [request.kind for request in (await world.resume()).pending] == ["outcome"]


async def test_a_full_disk_is_unavailable_and_the_loop_goes_on_once_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(tmp_path / "r.git", Agent("a"), lines(say("done")))
    full = OSError(errno.ENOSPC, "No space left on device")

    write = _disk.write

    def no_room(path: Path, data: bytes, mode: int = 0o666) -> None:
        if path.parent.name == "objects" and len(data) > 200:  # a lease finds room
            raise full
        write(path, data, mode)

    held = Held(lines(say("done")))
    world.model.script = held
    with pytest.RaisesGroup(Unavailable):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(world.run)
            await held.asked.wait()
            monkeypatch.setattr(_disk, "write", no_room)
            held.go.set()
    monkeypatch.undo()
    assert world.state().status is Status.ACTIVE
    assert GitStore.open(tmp_path / "r.git").lease(LoopName("x")) is None
    assert (await world.resume()).status is Status.COMPLETED


@pytest.mark.parametrize("at", [CallState.DELEGATED, CallState.WAITING])
async def test_of_a_nested_loop_that_had_ended_when_its_process_died_nothing_is_told_but_its_end(at: CallState) -> None:
    work = tool(lambda: "worked", name="work", description="Work.", needs_approval=at is CallState.WAITING)
    lead = Agent("lead", tools=[Agent("ops", tools=[work]).as_tool("Does it.", name="ops")])
    scripts = {
        "lead": lines(ask_for(("ops", {"prompt": "Do it."})), say("done")),
        "ops": lines(ask_for(("work", {})), say("worked")),
    }
    store = MemoryStore()
    world = World(store, lead, lambda asked: scripts[asked.agent](asked))
    await world.run()
    for request in world.loops().pending():
        world.loops().approve(request, by=ADA)
    await world.resume()
    made = {one.subject: one.commit for one in world.notices if isinstance(one, Committed)}
    before = "lead: ops is suspended" if at is CallState.WAITING else 'lead: calls ops(prompt="Do it.")'
    store.move(LoopName("y"), None, made[before])
    store.move(LoopName("y.ops-1"), None, made["ops: completed: worked"])
    assert call_of(world.state("y"), "ops-1").state is at
    world.notices.clear()

    assert (await world.resume("y")).status is Status.COMPLETED
    assert not [notice for notice in world.notices if isinstance(notice, Dropped)]
    assert world.subjects() == ["lead: resumed", "lead: ops returned: worked", "lead: completed: done"]


async def test_a_repository_that_cannot_be_opened_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(Unavailable):
        await World(tmp_path / "file", Agent("a"), lines(say("done"))).run()


@pytest.mark.parametrize("memory", [True, False])
async def test_one_runtime_drives_two_loops_at_once(tmp_path: Path, memory: bool) -> None:
    crowd = [trio.Event(), trio.Event()]

    @tool
    async def meet(mine: int) -> str:
        crowd[mine].set()
        await crowd[1 - mine].wait()
        return "met"

    def script(asked: ModelRequest) -> Reply | Awaitable[Reply]:
        mine = 0 if "zero" in str(asked.messages) else 1
        return lines(ask_for(("meet", {"mine": mine})), say("done"))(asked)

    store = MemoryStore() if memory else tmp_path / "r.git"
    world = World(store, Agent("a", tools=[meet]), script)
    with trio.fail_after(300):
        async with world.open() as runtime, trio.open_nursery() as nursery:
            nursery.start_soon(partial(runtime.run, "a", "zero", loop="x"))
            nursery.start_soon(partial(runtime.run, "a", "one", loop="y"))
    assert [info.status for info in world.loops().all()] == [Status.COMPLETED] * 2


@pytest.mark.parametrize("visibility", ["step", "sealed"])
async def test_a_loop_whose_branch_another_process_holds_keeps_no_other_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, visibility: Visibility
) -> None:
    monkeypatch.setattr(_refs, "LOCK_SECONDS", 60)
    path, held = tmp_path / "r.git", Held(lines(say("done")))

    def script(asked: ModelRequest) -> Reply | Awaitable[Reply]:
        return held(asked) if "held" in str(asked.messages) else say("done")

    world = World(path, Agent("a"), script, visibility=visibility)
    with trio.fail_after(300):
        async with world.open() as runtime, trio.open_nursery() as nursery:
            nursery.start_soon(partial(runtime.run, "a", "held", loop="x"))
            await held.asked.wait()
            GitStore.open(path).seal()
            lock = path / "refs/heads/loops/x.lock"
            lock.touch(exist_ok=False)
            held.go.set()
            try:
                assert (await runtime.run("a", "go", loop="y")).status is Status.COMPLETED
                assert world.state().status is Status.ACTIVE
            finally:
                lock.unlink()
    assert world.state().status is Status.COMPLETED
