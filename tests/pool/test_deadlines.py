"""Many deadlines under one timer."""

from __future__ import annotations

import asyncio

import pytest

from pool.deadlines import Deadlines


class Item:
    """Something with a deadline."""

    def __init__(self, deadline: float) -> None:
        self.deadline = deadline
        self.over = False


async def test_each_expires_in_its_time() -> None:
    """In the order of their deadlines, whatever the order of adding."""
    loop, expired = asyncio.get_running_loop(), []
    deadlines: Deadlines[Item] = Deadlines(lambda it: expired.append((it.deadline, loop.time())))
    for deadline in (5.0, 1.0, 3.0, 1.0):
        deadlines.add(Item(deadline))
    await asyncio.sleep(10)
    assert expired == [(1.0, 1.0), (1.0, 1.0), (3.0, 3.0), (5.0, 5.0)]
    assert len(deadlines) == 0


async def test_what_is_over_does_not_expire() -> None:
    """An item that ended by itself is passed over."""
    expired: list[Item] = []
    deadlines: Deadlines[Item] = Deadlines(expired.append)
    item = Item(1.0)
    deadlines.add(item)
    item.over = True
    deadlines.ended()
    await asyncio.sleep(2)
    assert expired == []


async def test_the_ended_do_not_pile_up() -> None:
    """A hundred thousand short turns with long deadlines keep the heap small."""
    deadlines: Deadlines[Item] = Deadlines(lambda item: None)
    for _ in range(100_000):
        item = Item(600.0)
        deadlines.add(item)
        item.over = True
        deadlines.ended()
        assert len(deadlines) < 200
    deadlines.close()


async def test_closing_expires_nothing_more() -> None:
    """After `close` no timer is left."""
    expired: list[Item] = []
    deadlines: Deadlines[Item] = Deadlines(expired.append)
    deadlines.add(Item(1.0))
    deadlines.close()
    await asyncio.sleep(5)
    assert expired == []


@pytest.mark.real_time
async def test_a_deadline_that_has_passed_expires_at_once() -> None:
    """On uvloop too, whose timers in the past are of another kind."""
    loop, expired = asyncio.get_running_loop(), asyncio.Event()
    deadlines: Deadlines[Item] = Deadlines(lambda item: expired.set())
    deadlines.add(Item(loop.time() - 1.0))
    deadlines.add(Item(loop.time() - 2.0))
    await expired.wait()
    deadlines.close()
