"""The time of day jumps by an hour, at one replica only."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from pool import AgentPool, PoolConfig
from pool.store.base import Store
from pool.store.limits import Retention
from pool.store.urls import store_of
from tests.fault.clients import eventually
from tests.support.redis_servers import redis_server

pytestmark = pytest.mark.real_time(20)

HOUR_S = 3_600.0
LEASE_S = 1.0


class TimeOfDay:
    """The clock on the wall, which somebody sets."""

    def __init__(self) -> None:
        self.off_s = 0.0

    def __call__(self) -> float:
        return time.time() + self.off_s


class Held:
    """An agent that answers when it is let go, and counts its runs."""

    def __init__(self) -> None:
        self.runs = 0
        self.release = asyncio.Event()

    async def __call__(self, text: str) -> str:
        """Answer with the text, once released."""
        self.runs += 1
        await self.release.wait()
        return text


@asynccontextmanager
async def replica(
    url: str, agent: object, wall: Callable[[], float] = time.time
) -> AsyncIterator[AgentPool]:
    """A pool in this process, with a store and a time of day of its own."""
    store: Store = store_of(url, retention=Retention(), lease_s=LEASE_S)
    await store.open()
    try:
        config = PoolConfig(close_deadline_s=0, tick_s=0.2)
        async with AgentPool({"agent": agent}, store=store, wall=wall, config=config) as pool:
            yield pool
    finally:
        await store.close()


@pytest.mark.parametrize("jump_s", [HOUR_S, -HOUR_S])
async def test_a_jump_of_the_clock_moves_no_lease(jump_s: float) -> None:
    """Row 14: the holder's time of day jumps while its turn runs. Nobody takes the turn over, it
    ends at its first attempt, and epochs do not fall afterwards.
    """
    here, there, wall = Held(), Held(), TimeOfDay()
    with redis_server() as redis:
        async with replica(redis.url, here, wall) as one, replica(redis.url, there) as two:
            turn = await one.submit("hi", session="s")
            await eventually(lambda: _soon(here.runs == 1), "the turn runs")
            before = (await one.store.turn_start(turn.id)) or pytest.fail("it has no start")
            wall.off_s = jump_s
            due = time.monotonic() + 3 * LEASE_S
            await eventually(lambda: _soon(time.monotonic() > due), "three leases pass")
            here.release.set()
            ended = await two.wait(turn.id, timeout_s=5)
            assert (ended.state, ended.attempt, there.runs) == ("completed", 1, 0)
            there.release.set()
            for pool in (two, one, two):
                again = await pool.ask("again", session="s")
                after = (await pool.store.turn_start(again.id)) or pytest.fail("it has no start")
                assert after.epoch >= before.epoch
                before = after


@pytest.mark.parametrize("off_s", [HOUR_S, -HOUR_S])
async def test_turns_of_a_replica_whose_clock_is_wrong_are_taken_over(off_s: float) -> None:
    """Row 14: a replica whose clock is an hour off leaves a turn behind. The one that takes it over
    runs it, its deadline being further off than that.
    """
    here, there, wall = Held(), Held(), TimeOfDay()
    wall.off_s = off_s
    there.release.set()
    with redis_server() as redis:
        async with replica(redis.url, there) as two:
            async with replica(redis.url, here, wall) as one:
                turn = await one.submit("hi", session="s", deadline_s=2 * HOUR_S)
                await eventually(lambda: _soon(here.runs == 1), "the turn runs")
            ended = await two.wait(turn.id, timeout_s=5)
            assert (ended.state, ended.output, there.runs) == ("completed", "hi", 1)


async def _soon(value: bool) -> bool:
    return value
