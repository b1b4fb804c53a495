"""Crossing to a thread: one thread does what many loops wait for, and each loop has its own result."""

import signal
import threading
from collections.abc import Sequence
from functools import partial
from itertools import groupby
from typing import Any

import pytest
import trio
import trio.testing

from caesura.continuations import MemoryStore, Work
from caesura.runtime import Agent, Committed, tool
from caesura.runtime._crossing import Crossing
from tests.models import World, ask_for, lines, say

PATIENCE = 60


class Counting(MemoryStore):
    """Counts how many works came in each crossing; holds the first ones back until it is told to go on."""

    def __init__(self, held: int) -> None:
        super().__init__()
        self.crossings: list[int] = []
        self.full, self.go_on = threading.Event(), threading.Event()
        self._held = held

    @property
    def waits(self) -> bool:
        return True

    def share(self, works: Sequence[Work[Any]]) -> None:
        self.crossings.append(len(works))
        if len(self.crossings) == self._held:
            self.full.set()
        if len(self.crossings) <= self._held:
            assert self.go_on.wait(PATIENCE)
        super().share(works)


async def test_what_many_loops_do_at_once_takes_few_crossings_and_each_has_its_own_result() -> None:
    store = Counting(held=1)
    crossing, results = Crossing(store), dict[int, int]()

    async def one(number: int) -> None:
        results[number] = await crossing.do(lambda: number * number)

    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            for number in range(50):
                nursery.start_soon(one, number)
            await trio.testing.wait_all_tasks_blocked()
            await trio.to_thread.run_sync(store.full.wait, PATIENCE)
            store.go_on.set()
    assert results == {number: number * number for number in range(50)}
    assert store.crossings == [1, 49]


async def test_loops_that_crossed_together_cross_together_again() -> None:
    store = Counting(held=1)
    crossing = Crossing(store)

    async def one() -> None:
        for _ in range(3):
            await crossing.do(lambda: None)

    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            for _ in range(50):
                nursery.start_soon(one)
            await trio.testing.wait_all_tasks_blocked()
            await trio.to_thread.run_sync(store.full.wait, PATIENCE)
            store.go_on.set()
    assert store.crossings == [1, 50, 50, 49]  # the one that came first is a call ahead of the others


async def test_what_one_does_wrong_reaches_nobody_else() -> None:
    store = Counting(held=1)
    crossing, results = Crossing(store), list[str]()

    async def one(number: int) -> None:
        try:
            results.append(str(await crossing.do(lambda: 1 // number)))
        except ZeroDivisionError as error:
            results.append(str(error))

    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            for number in (1, 1, 0, 1, 0):
                nursery.start_soon(one, number)
            await trio.to_thread.run_sync(store.full.wait, PATIENCE)
            store.go_on.set()
    assert sorted(results) == ["1", "1", "1", *2 * ["integer division or modulo by zero"]]


@pytest.mark.parametrize("cancelled", range(5))
async def test_who_is_cancelled_before_it_crosses_does_nothing_and_who_crosses_is_waited_for(cancelled: int) -> None:
    store = Counting(held=1)
    crossing, done = Crossing(store), list[int]()
    scopes = [trio.CancelScope() for _ in range(5)]

    async def one(number: int) -> None:
        with scopes[number]:
            await crossing.do(lambda: done.append(number))

    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            for number in range(5):
                nursery.start_soon(one, number)
                await trio.testing.wait_all_tasks_blocked()  # so that they come in this order
            await trio.to_thread.run_sync(store.full.wait, PATIENCE)
            scopes[cancelled].cancel()
            await trio.testing.wait_all_tasks_blocked()
            store.go_on.set()
    begun = cancelled == 0
    assert sorted(done) == [number for number in range(5) if begun or number != cancelled]
    assert scopes[cancelled].cancelled_caught == (not begun)


async def test_who_was_to_lead_and_is_cancelled_lets_the_next_one_lead() -> None:
    store = Counting(held=1)
    crossing, done = Crossing(store), list[int]()
    last = trio.CancelScope()

    async def one(number: int) -> None:
        with last if number == 1 else trio.CancelScope():
            await crossing.do(lambda: done.append(number))
        if number == 0:
            last.cancel()  # in the very moment in which it was woken to lead

    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            for number in range(5):
                nursery.start_soon(one, number)
                await trio.testing.wait_all_tasks_blocked()
            await trio.to_thread.run_sync(store.full.wait, PATIENCE)
            store.go_on.set()
        assert await crossing.do(lambda: "and on") == "and on"
    assert set(done) | {1} == set(range(5))


async def test_a_fault_of_the_store_leaves_nobody_to_take_for_done_what_may_not_be() -> None:
    class Faulty(Counting):
        def share(self, works: Sequence[Work[Any]]) -> None:
            super().share(works)
            raise ZeroDivisionError("after the calls, and before the disk")

    store = Faulty(held=1)
    crossing, told = Crossing(store), list[str]()

    async def one(number: int) -> None:
        try:
            await crossing.do(lambda: number)
        except ZeroDivisionError as error:
            told.append(str(error))

    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            for number in range(5):
                nursery.start_soon(one, number)
            await trio.to_thread.run_sync(store.full.wait, PATIENCE)
            store.go_on.set()
    assert told == 5 * ["after the calls, and before the disk"]


class Held(MemoryStore):
    """Another process holds the branches that the calls name in `held` move."""

    def __init__(self, *held: str) -> None:
        super().__init__()
        self.held, self.left, self.all_left = set(held), set[str](), trio.Event()

    @property
    def waits(self) -> bool:
        return True

    def share(self, works: Sequence[Work[Any]]) -> None:
        super().share(works)
        for work in works:
            if work.result() in self.held:
                self.left.add(work.result())
                work.leave()
        if self.left == self.held:
            trio.from_thread.run_sync(self.all_left.set)


async def test_who_waits_for_a_branch_that_another_process_holds_keeps_nobody_waiting_and_is_waited_for() -> None:
    store, cancelled = Held("first", "second"), trio.CancelScope()
    crossing, done = Crossing(store), list[str]()

    async def one(name: str, scope: trio.CancelScope) -> None:
        with scope:
            done.append(await crossing.do(lambda: name))

    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(one, "first", trio.CancelScope())
            nursery.start_soon(one, "second", cancelled)
            await store.all_left.wait()
            cancelled.cancel()
            assert await crossing.do(lambda: "other") == "other"
            assert done == []
            store.held.clear()
    assert sorted(done) == ["first", "second"], "both had begun"


def test_a_ctrl_c_of_who_waits_to_cross_holds_up_nobody_else() -> None:
    store, done = Counting(held=1), list[int]()

    async def main() -> None:
        crossing = Crossing(store)

        async def one(number: int) -> None:
            await crossing.do(lambda: done.append(number))

        @trio.lowlevel.enable_ki_protection  # so that it reaches the main task
        async def interrupt(at: int) -> None:
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(one, at)
            await trio.testing.wait_all_tasks_blocked()
            signal.raise_signal(signal.SIGINT)

        with trio.fail_after(PATIENCE):
            async with trio.open_nursery() as nursery:
                for number in range(2):
                    nursery.start_soon(one, number)
                    await trio.testing.wait_all_tasks_blocked()
                nursery.start_soon(interrupt, 3)
                with pytest.raises(KeyboardInterrupt):
                    await crossing.do(lambda: done.append(2))
                store.go_on.set()
            await crossing.do(lambda: done.append(4))

    trio.run(main)
    assert sorted(done) == [0, 1, 3, 4]


def test_a_ctrl_c_of_who_crosses_is_heard_once_that_is_done() -> None:
    crosses, go_on, done = threading.Event(), threading.Event(), list[int]()

    class Slow(Counting):
        def share(self, works: Sequence[Work[Any]]) -> None:
            if len(works) == 3:
                crosses.set()
                assert go_on.wait(PATIENCE)
            super().share(works)

    store = Slow(held=1)

    async def main() -> None:
        crossing = Crossing(store)

        async def one(number: int) -> None:
            await crossing.do(lambda: done.append(number))

        @trio.lowlevel.enable_ki_protection  # so that it reaches the main task
        async def interrupt() -> None:
            await trio.testing.wait_all_tasks_blocked()
            store.go_on.set()
            await trio.to_thread.run_sync(crosses.wait, PATIENCE)
            signal.raise_signal(signal.SIGINT)
            go_on.set()

        with trio.fail_after(PATIENCE):
            async with trio.open_nursery() as nursery:
                for number in range(3):
                    nursery.start_soon(one, number)
                    await trio.testing.wait_all_tasks_blocked()
                nursery.start_soon(interrupt)
                with pytest.raises(KeyboardInterrupt):  # noqa: PT012  # then, or at the next chance
                    await crossing.do(lambda: done.append(3))
                    await trio.lowlevel.checkpoint()
                assert 3 in done

    trio.run(main)
    assert sorted(done) == [0, 1, 2, 3]


async def test_for_a_store_that_never_waits_nothing_crosses_and_all_else_is_the_same() -> None:
    crossing, here, done = Crossing(MemoryStore()), threading.get_ident(), list[str]()
    assert await crossing.do(threading.get_ident) == here
    with pytest.raises(ZeroDivisionError):
        await crossing.do(lambda: 1 // 0)

    with trio.CancelScope() as scope:
        await crossing.do(scope.cancel)
        done.append("it is done, and who asked for it is told so")
        await crossing.do(lambda: done.append("never"))
    assert done == ["it is done, and who asked for it is told so"]


async def test_a_loop_that_never_waits_lets_the_others_have_their_turn() -> None:
    @tool
    async def look() -> str:
        return "seen"

    rounds = [ask_for(("look", {}))] * 5
    world = World(MemoryStore(), Agent("a", tools=[look]), lines(*rounds, say("done")))
    async with world.open() as runtime, trio.open_nursery() as nursery:
        for loop in ("x", "y"):
            nursery.start_soon(partial(runtime.run, world.agent, "go", loop=loop))
    made = [notice.loop for notice in world.notices if isinstance(notice, Committed)]
    in_a_row = [len(list(steps)) for _, steps in groupby(made)]
    assert max(in_a_row) <= 3, "it goes on after a reply and a call's start at most"
