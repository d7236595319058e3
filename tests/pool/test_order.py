"""What goes one at a time in a session."""

from __future__ import annotations

import asyncio

import pytest

from pool.order import InOrder, heard
from pool.store.lease import SessionKey

S1, S2 = SessionKey("acme", "s1"), SessionKey("acme", "s2")


def in_order() -> InOrder:
    return InOrder(asyncio.get_running_loop().create_task)


async def test_each_goes_after_the_one_before_it_in_its_session() -> None:
    """However long that takes; other sessions do not wait."""
    order, done = in_order(), list[str]()

    async def work(name: str, takes_s: float) -> str:
        await asyncio.sleep(takes_s)
        done.append(name)
        return name

    tasks = [
        order.run(S1, work("long", 3)),
        order.run(S1, work("short", 1)),
        order.run(S2, work("other", 2)),
    ]
    assert await asyncio.gather(*map(heard, tasks)) == ["long", "short", "other"]
    assert done == ["other", "long", "short"]
    assert not order.busy(S1)


async def test_a_failure_is_told_and_the_next_one_goes() -> None:
    """What fails concerns only whoever asked for it."""
    order = in_order()

    async def fails() -> None:
        raise OSError("no")

    failing = order.run(S1, fails())
    following = order.run(S1, asyncio.sleep(1, "done"))
    with pytest.raises(OSError, match="no"):
        await heard(failing)
    assert await heard(following) == "done"


async def test_it_goes_on_when_whoever_asked_leaves() -> None:
    """And is waited for in the end."""
    order, done = in_order(), list[int]()

    async def work() -> None:
        await asyncio.sleep(1)
        done.append(1)

    caller = asyncio.ensure_future(order.done(S1, work()))
    await asyncio.sleep(0.5)
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert order.busy(S1) and not done
    await order.settled(10)
    assert done == [1] and not order.busy(S1)


async def test_work_that_is_cancelled_tells_whoever_waits() -> None:
    """They do not wait for ever."""
    order = in_order()
    task = order.run(S1, asyncio.sleep(10))
    waiting = asyncio.ensure_future(heard(task))
    await asyncio.sleep(1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
