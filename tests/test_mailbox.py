"""An actor's mailbox: nothing that is put into it is lost, whoever is cancelled meanwhile."""

import pytest
import trio
import trio.testing

from caesura.runtime._mailbox import Mailbox

PATIENCE = 60


async def test_things_are_taken_in_the_order_in_which_they_were_put() -> None:
    mailbox, taken = Mailbox[int](), list[int]()

    async def take() -> None:
        while len(taken) < 10:
            taken.append(await mailbox.take())

    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(take)
            await trio.testing.wait_all_tasks_blocked()
            for number in range(5):  # at once: it is woken by the first of them
                mailbox.put(number)
            await trio.testing.wait_all_tasks_blocked()
            assert not mailbox
            for number in range(5, 10):
                mailbox.put(number)
                await trio.lowlevel.checkpoint()
    assert taken == list(range(10))


@pytest.mark.parametrize("waits", [True, False])
async def test_what_is_put_stays_if_who_would_take_it_is_cancelled(waits: bool) -> None:
    mailbox = Mailbox[str]()
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            if waits:
                nursery.start_soon(mailbox.take)
                await trio.testing.wait_all_tasks_blocked()
                nursery.cancel_scope.cancel()
            else:
                mailbox.put("first")
                nursery.cancel_scope.cancel()
                await mailbox.take()
        mailbox.put("last")
        assert [await mailbox.take() for _ in range(len(mailbox))] == (["last"] if waits else ["first", "last"])


async def test_one_that_is_woken_takes_it_though_it_is_cancelled_at_the_same_moment() -> None:
    mailbox, taken = Mailbox[str](), list[str]()

    async def take() -> None:
        taken.append(await mailbox.take())

    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(take)
            await trio.testing.wait_all_tasks_blocked()
            mailbox.put("it")
            nursery.cancel_scope.cancel()
    assert (taken, len(mailbox)) == (["it"], 0)


async def test_others_have_their_turn_before_what_is_there_is_taken() -> None:
    mailbox = Mailbox[None]()
    mailbox.put(None)
    with trio.testing.assert_checkpoints():
        await mailbox.take()
