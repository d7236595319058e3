"""An agent that blocks the event loop is named, in real time, while it does."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import pytest

from pool import AgentPool, PoolConfig
from pool.observer import LoopBlockedNotice
from tests.support.agents import Notices

Agent = Callable[[str], Awaitable[str]]

pytestmark = pytest.mark.real_time


async def blocking(text: str) -> str:
    """Sleep the wrong way."""
    time.sleep(float(text))  # noqa: ASYNC251 - that is the point
    return "blocked everybody"


async def in_a_task(text: str) -> str:
    """Do so in a task that the turn started."""
    return await asyncio.create_task(blocking(text))


@pytest.mark.parametrize("agent", [blocking, in_a_task])
async def test_the_watchdog_names_agent_turn_and_line(agent: Agent) -> None:
    """Once for each time, with how long it was at least."""
    notices = Notices()
    config = PoolConfig(watchdog_s=0.2)
    async with AgentPool({"bad": agent}, config=config, observers=[notices]) as pool:
        turn = await pool.ask("0.8")
        await notices.until(LoopBlockedNotice)
        [blocked] = notices.of(LoopBlockedNotice)
        assert (blocked.agent, blocked.turn_id) == ("bad", turn.id)
        assert 0.2 <= blocked.blocked_s < 0.8
        module, function, line = blocked.where.split(":")
        assert module.endswith("test_blocked_loop") and function == "blocking"
        assert int(line) == blocking.__code__.co_firstlineno + 2


async def test_a_synchronous_agent_blocks_nobody() -> None:
    """A plain function runs in a thread of its actor: the loop goes on meanwhile."""
    notices = Notices()

    def agent(text: str) -> str:
        time.sleep(0.6)
        return text

    config = PoolConfig(watchdog_s=0.2)
    async with AgentPool({"a": agent}, config=config, observers=[notices]) as pool:
        asked = asyncio.create_task(pool.ask("hi"))
        beats = 0
        while not asked.done():
            await asyncio.sleep(0.01)
            beats += 1
        assert (await asked).output == "hi" and beats > 20
        assert notices.of(LoopBlockedNotice) == []
