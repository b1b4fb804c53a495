"""Leases: exactly one worker drives a loop, and a dead one holds nobody up."""

import datetime as dt
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import msgspec
import pytest
import trio
import trio.testing
from trio.testing import MockClock

from caesura.continuations import (
    TERM,
    CommitId,
    GitStore,
    Lease,
    LoopName,
    Loops,
    MemoryStore,
    Result,
    Resumed,
    Status,
    Store,
    Unavailable,
    WorkerId,
)
from caesura.continuations.history import History
from caesura.continuations.leases import Claim
from caesura.continuations.store._owner import born
from caesura.runtime import Agent, Driven, LeaseLost, VanishedTool, tool
from caesura.runtime._lease import LeaseKeeper
from caesura.runtime._services import as_author
from tests.agents import LOOP, Ledger, check_loop, company, company_script
from tests.cli_process import AGENTS, Shell, wait_for_line
from tests.models import ADA, NOON, Held, Script, World, ask_for, lines, say, telling

X = LoopName("x")
ROOT = Path(__file__).parent.parent


def keeper(store: Store, worker: str = "w1", now: dt.datetime = NOON) -> LeaseKeeper:
    return LeaseKeeper(store, X, WorkerId(worker), lambda: now)


def put(store: Store, *, host: str, pid: int, born: str, until: dt.datetime) -> None:
    """A lease that somebody else has taken."""
    claim = Claim(worker=WorkerId("other"), host=host, pid=pid, born=born, until=until)
    store.move_lease(X, store.lease(X), msgspec.json.encode(claim))


@pytest.fixture(params=["git", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return MemoryStore() if request.param == "memory" else GitStore.open(tmp_path / "r.git", create=True)


def test_one_worker_holds_a_lease_and_another_is_told_who_does(store: Store) -> None:
    held = keeper(store)
    held.claim()
    with pytest.raises(Driven, match=f"process {os.getpid()} on {socket.gethostname()}"):
        keeper(store, "w2").claim()
    held.release()
    keeper(store, "w2").claim()


def test_a_live_lease_of_another_host_is_respected_and_an_expired_one_is_taken_over(store: Store) -> None:
    put(store, host="elsewhere", pid=os.getpid(), born="boot 1", until=NOON + TERM)
    with pytest.raises(Driven, match="on elsewhere"):
        keeper(store).claim()
    keeper(store, now=NOON + TERM).claim()
    with pytest.raises(Driven):
        keeper(store, "w2", now=NOON + TERM).claim()


def test_a_lease_of_a_process_that_is_gone_is_taken_over_at_once(store: Store) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        since = born(process.pid)
        put(store, host=socket.gethostname(), pid=process.pid, born=since, until=NOON + TERM)
        with pytest.raises(Driven):
            keeper(store).claim()
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # dead, though nobody has taken note
        keeper(store).claim()


def test_a_lease_of_a_namesake_of_this_process_is_taken_over_at_once(store: Store) -> None:
    boot = born(os.getpid()).partition(" ")[0]
    put(store, host=socket.gethostname(), pid=os.getpid(), born=f"{boot} 1", until=NOON + TERM)
    keeper(store).claim()


def test_a_lease_that_a_clock_gone_wrong_has_made_too_long_holds_nobody_up(store: Store) -> None:
    put(store, host="elsewhere", pid=1, born="boot 1", until=NOON + 2 * TERM)
    with pytest.raises(Driven):
        keeper(store).claim()  # clocks differ a little
    put(store, host="elsewhere", pid=1, born="boot 1", until=NOON + dt.timedelta(days=365))
    keeper(store).claim()


@pytest.mark.parametrize("jump", [dt.timedelta(days=-400), dt.timedelta(days=400)])
def test_a_holder_whose_clock_jumps_keeps_its_lease(store: Store, jump: dt.timedelta) -> None:
    time = [NOON]
    held = LeaseKeeper(store, X, WorkerId("w1"), lambda: time[0])
    held.claim()
    time[0] += jump
    if jump < dt.timedelta(0):  # it lives, whatever its lease says; after a jump forward, another would be let in
        with pytest.raises(Driven):
            keeper(store, "w2", time[0]).claim()
    held.renew()
    with pytest.raises(Driven):
        keeper(store, "w2", time[0]).claim()
    held.release()
    assert store.lease(X) is None


def test_a_thousand_renewals_leave_nothing_behind(tmp_path: Path) -> None:
    folder = tmp_path / "r.git"
    store = GitStore.open(folder, create=True)
    before = sorted(folder.rglob("*"))
    time = [NOON]
    held = LeaseKeeper(store, X, WorkerId("w1"), lambda: time[0])
    held.claim()
    for _ in range(1000):
        time[0] += TERM / 3
        held.renew()
    assert sorted(folder.rglob("*")) == sorted([*before, folder / "caesura.leases", folder / "caesura.leases/x"])
    held.release()
    assert sorted(folder.rglob("*")) == sorted([*before, folder / "caesura.leases"])


def test_a_lease_is_no_part_of_what_git_copies(tmp_path: Path) -> None:
    """A copy of a loop is nobody's yet, whoever drives the one it was copied from."""
    store = GitStore.open(tmp_path / "r.git", create=True)
    keeper(store).claim()
    subprocess.run(["git", "clone", "--quiet", "--mirror", tmp_path / "r.git", tmp_path / "copy"], check=True)
    keeper(GitStore.open(tmp_path / "copy"), "w2").claim()


def test_a_half_made_lease_holds_nobody_up(store: Store) -> None:
    store.move_lease(X, None, b"{")
    keeper(store).claim()


def test_a_holder_whose_lease_was_taken_is_told_and_lets_it_be(store: Store) -> None:
    first, second = keeper(store), keeper(store, "w2", NOON + TERM)
    first.claim()
    first.renew()
    second.claim()
    with pytest.raises(LeaseLost):
        first.renew()
    first.release()
    second.renew()
    second.release()
    assert store.lease(X) is None


async def test_a_second_runtime_is_told_that_the_loop_is_driven_and_changes_nothing(tmp_path: Path) -> None:
    held = Held(lines(say("done")))
    world = World(tmp_path / "r.git", Agent("a"), held)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.run)
        await held.asked.wait()
        head = world.loops().show("x").commit
        with pytest.raises(Driven):
            await world.resume()
        command = [
            sys.executable,
            "-c",
            "import trio, sys; from tests.test_runtime_leases import other; trio.run(other)",
        ]
        done = await trio.to_thread.run_sync(
            lambda: subprocess.run([*command, str(tmp_path / "r.git")], cwd=ROOT, capture_output=True, text=True)
        )
        assert "Driven: x is being driven by process" in done.stderr
        assert world.loops().show("x").commit == head
        held.go.set()
    assert world.state().status is Status.COMPLETED


async def other() -> None:
    """Another process that resumes the loop."""
    await World(Path(sys.argv[1]), Agent("a"), lines(say("done"))).resume()


async def test_of_two_processes_that_resume_at_once_one_drives(tmp_path: Path) -> None:
    path, ledger = tmp_path / "r.git", Ledger(tmp_path / "ledger")
    await World(path, company(ledger), company_script).run(loop=LOOP)
    command = [sys.executable, "-m", "tests.agents", str(path), str(tmp_path / "ledger")]

    async def resume() -> None:
        done = await trio.run_process(command, cwd=ROOT, capture_stdout=True, capture_stderr=True, check=False)
        said = done.stderr.decode()
        assert done.returncode == 0 or "Driven" in said or "AlreadyDecided" in said, said

    async with trio.open_nursery() as nursery:
        nursery.start_soon(resume)
        nursery.start_soon(resume)
    world = World(path, company(ledger), company_script)
    outcome = await world.resume(LOOP)
    assert outcome.status == "completed"
    check_loop(path, LOOP, ledger.entries())
    assert len(ledger.entries()) == 4


async def test_a_loop_of_a_killed_process_is_taken_up_at_once(tmp_path: Path) -> None:
    path, ledger = tmp_path / "r.git", tmp_path / "ledger"
    command = [sys.executable, "-m", "tests.agents", str(path), str(ledger), "inside:1"]
    done = await trio.to_thread.run_sync(lambda: subprocess.run(command, cwd=ROOT, stdout=subprocess.DEVNULL))
    assert done.returncode == -signal.SIGKILL
    left = GitStore.open(path)
    assert left.lease(LoopName(LOOP)) is not None
    world = World(path, company(Ledger(ledger)), company_script)
    assert (await world.resume(LOOP)).status is Status.SUSPENDED
    assert left.lease(LoopName(LOOP)) is None


async def test_a_worker_whose_lease_is_taken_stops_cleanly(autojump_clock: MockClock) -> None:
    store, held = MemoryStore(), Held(lines(say("done")))
    world = World(store, Agent("a"), held, now=telling(autojump_clock), poll=3600)
    late = keeper(store, "w2", NOON + TERM * 1000)
    with pytest.RaisesGroup(LeaseLost):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(world.run)
            await held.asked.wait()
            late.claim()
    assert world.state().status is Status.ACTIVE
    late.renew()  # it was not released in the other's name


@pytest.mark.parametrize("place", [0, 1])
async def test_of_loops_driven_together_the_one_whose_lease_is_taken_stops_and_no_other(
    autojump_clock: MockClock, place: int
) -> None:
    store, names, given_up = MemoryStore(), ["x", "y"], list[str]()
    held = Held(lines(say("done")))
    world = World(store, Agent("a"), held, now=telling(autojump_clock), poll=3600)

    async def drive(name: str) -> None:
        try:
            assert (await runtime.run(world.agent, "go", loop=name)).status is Status.COMPLETED
        except LeaseLost:
            given_up.append(name)

    taken, other = names[place], names[1 - place]
    late = LeaseKeeper(store, LoopName(taken), WorkerId("w2"), lambda: NOON + TERM * 1000)
    async with world.open() as runtime, trio.open_nursery() as nursery:
        for name in names:
            nursery.start_soon(drive, name)
            await trio.testing.wait_all_tasks_blocked()  # the first has the duties of both
        late.claim()
        for _ in range(3):
            before = store.lease(LoopName(other))
            await trio.sleep(TERM.total_seconds())
            assert store.lease(LoopName(other)) not in (before, None), "it is renewed all the same"
        assert given_up == [taken]
        held.go.set()
    assert world.state(other).status is Status.COMPLETED
    assert store.lease(LoopName(other)) is None


def test_a_lease_that_was_released_is_not_renewed(store: Store) -> None:
    held = keeper(store)
    held.claim()
    held.release()
    held.renew()
    assert store.lease(X) is None


def test_a_lease_that_is_released_while_it_is_renewed_is_released() -> None:
    class Slow(MemoryStore):
        begun, go_on = threading.Event(), threading.Event()

        def move_lease(self, root: LoopName, old: Lease | None, data: bytes | None) -> Lease | None:
            if old is not None and data is not None:
                self.begun.set()
                assert self.go_on.wait(300)
            return super().move_lease(root, old, data)

    store = Slow()
    held = keeper(store)
    held.claim()
    threads = [threading.Thread(target=held.renew), threading.Thread(target=held.release)]
    threads[0].start()
    assert store.begun.wait(300)
    threads[1].start()
    store.go_on.set()
    for thread in threads:
        thread.join(300)
    assert store.lease(X) is None


async def test_a_worker_that_another_has_superseded_in_the_history_stops_cleanly(tmp_path: Path) -> None:
    held = Held(lines(say("done")))
    world = World(tmp_path / "r.git", Agent("a"), held)
    with pytest.RaisesGroup(LeaseLost):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(world.run)
            await held.asked.wait()
            history = History(GitStore.open(tmp_path / "r.git"))
            history.apply(history.load(X), Resumed(at=NOON, worker=WorkerId("w2")), ADA, as_author("a"))
    assert [commit.message.partition("\n")[0] for commit in world.history()] == ["a: started: go", "a: resumed"]


class Beating(MemoryStore):
    """Counts how often its lease was renewed; is busy, once asked to be, until it was renewed some times more."""

    def __init__(self) -> None:
        super().__init__()
        self.beats = 0
        self.busy = False
        self._beat = threading.Condition()

    @property
    def waits(self) -> bool:
        return True

    def move_lease(self, root: LoopName, old: Lease | None, data: bytes | None) -> Lease | None:
        lease = super().move_lease(root, old, data)
        with self._beat:
            self.beats += 1
            self._beat.notify_all()
        return lease

    def head(self, loop: LoopName, *, archived: bool = False) -> CommitId | None:
        if self.busy:
            self.wait_for(self.beats + 3)
            with self._beat:
                self.busy = False
                self._beat.notify_all()
        return super().head(loop, archived=archived)

    def wait_for(self, beats: int, *, idle: bool = False) -> None:
        """Block this thread until so many beats were counted, and, if asked, until the store is busy no more."""
        with self._beat:
            done = self._beat.wait_for(lambda: self.beats >= beats and not (idle and self.busy), 300)
            assert done, "the heart stands still"


@pytest.fixture
def restless_clock() -> MockClock:
    """Jumps also while a thread is waited for, as the thread waits for the time."""
    return MockClock(autojump_threshold=0)


@pytest.mark.parametrize("how", ["blocks its thread", "keeps the interpreter busy", "and the store is busy"])
async def test_the_heart_beats_while_a_tool_blocks(how: str, restless_clock: MockClock) -> None:
    store = Beating()

    @tool
    def work() -> str:
        beats = store.beats + 3
        if how == "keeps the interpreter busy":
            while store.beats < beats:
                pass
        else:
            store.busy = how == "and the store is busy"
            store.wait_for(beats, idle=True)  # a heart that has driven its loop to the end beats for nobody
        return "done"

    agent = Agent("a", tools=[work])
    world = World(store, agent, lines(ask_for(("work", {})), say("done")), now=telling(restless_clock), poll=0.1)
    assert (await world.run()).status is Status.COMPLETED
    assert store.beats >= 5  # it was claimed, renewed, and released


@pytest.mark.parametrize("answered", [False, True])
def test_a_worker_that_was_taken_for_dead_says_so_and_leaves_the_loop_to_its_successor(
    tmp_path: Path, answered: bool
) -> None:
    file = tmp_path / "held"
    shell = Shell(tmp_path, CLI_TEST_FILE=str(file))
    process = shell.start("run", f"{AGENTS}:holder", "go", "--loop", "x")
    wait_for_line(process, "running hold(")
    while not file.exists():
        os.sched_yield()
    store = GitStore.open(tmp_path / ".caesura")
    late = keeper(store, "w2", NOON + TERM * 10**6)  # by whose clock the lease has expired
    late.claim()
    history = History(store)
    saved = history.apply(history.load(X), Resumed(at=NOON, worker=WorkerId("w2")), ADA, as_author("holder"))
    if answered:
        saved = Loops(store).answer("x.hold-1", "it was held", by=ADA)
    file.unlink()
    out, err = process.communicate(timeout=300)
    assert (process.returncode, out) == (1, "")
    assert "error: Another worker has taken x over." in err
    assert "hint: It goes on there; nothing was lost." in err
    after = History(store).load(X)
    assert after.state.worker == "w2"
    assert [said.content for said in after.state.messages if isinstance(said, Result)] == (
        ["it was held"] if answered else ["let go"]  # its worker was only slow: its result is the call's
    )
    assert (after.commit == saved.commit) == answered
    assert not any("ModelReplied" in message for _, message in list(store.line(after.commit))[:2])
    assert store.lease(X) is not None, "it released what is not its own"


@pytest.mark.parametrize("how", ["ends", "is suspended", "fails", "is cancelled"])
async def test_the_lease_is_released_however_the_drive_ends(tmp_path: Path, how: str) -> None:
    @tool(needs_approval=True)
    def deploy() -> str:
        return "deployed"

    agent = Agent("a", tools=[deploy])
    held = Held(lines(say("done")))
    asks = lines(ask_for(("deploy", {})), say("done"))
    script: Script = held if how == "is cancelled" else lines(say("done")) if how == "ends" else asks
    world = World(tmp_path / "r.git", agent, script)
    store = GitStore.open(tmp_path / "r.git", create=True)
    if how == "is cancelled":
        async with trio.open_nursery() as nursery:
            nursery.start_soon(world.run)
            await held.asked.wait()
            assert store.lease(X) is not None
            nursery.cancel_scope.cancel()
    else:
        await world.run()
    if how == "fails":
        world.loops().approve("x.deploy-1", by=ADA)
        world.agent = Agent("a")
        with pytest.raises(VanishedTool):
            await world.resume()
    assert store.lease(X) is None


class Unsteady(MemoryStore):
    """A store whose leases can be claimed and no more, and whose branches cannot be read when `away` is set, once."""

    refused = 0
    away = False

    def move_lease(self, root: LoopName, old: Lease | None, data: bytes | None) -> Lease | None:
        if old is not None:
            self.refused += 1
            raise Unavailable("The disk is full.", hint="Make room.")
        return super().move_lease(root, old, data)

    def head(self, loop: LoopName, *, archived: bool = False) -> CommitId | None:
        if self.away:
            self.away = False
            raise Unavailable("The disk is away.", hint="Plug it in.")
        return super().head(loop, archived=archived)


async def test_a_store_that_fails_the_lease_or_the_watch_ends_no_tool_that_runs(autojump_clock: MockClock) -> None:
    store = Unsteady()

    @tool
    async def work() -> str:
        store.away = True  # while it sleeps, nobody but the watch reads
        await trio.sleep(3 * TERM.total_seconds())
        return "worked"

    script = lines(ask_for(("work", {})), say("done"))
    world = World(store, Agent("a", tools=[work]), script, now=telling(autojump_clock), poll=5)
    assert (await world.run()).status is Status.COMPLETED
    assert store.refused > 1
    assert not store.away
