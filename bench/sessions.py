"""Many sessions at rest: `python -m bench.sessions COUNT`; prints a `Rest` as JSON."""

from __future__ import annotations

import asyncio
import gc
import sys
import time
from typing import Final

import msgspec
import psutil
import uvloop
from msgspec import Struct

from bench.agents import echo

# the store packs what was idle for some seconds
REST_S: Final = 8.0


class Rest(Struct, frozen=True):
    """What sessions at rest cost: memory of each, tasks, and asks a second before and after."""

    bytes_each: float
    tasks: int
    asks_first: float
    asks_last: float


async def rest(count: int) -> Rest:
    """One short turn in each of so many sessions."""
    from pool import AgentPool
    from protocol.command.garbage import settle

    process = psutil.Process()
    sample = count // 20
    async with AgentPool(echo) as agents:

        async def ask(first: int, last: int) -> float:
            start = time.perf_counter()
            for number in range(first, last):
                await agents.ask("hello", session=f"session-{number}")
            return (last - first) / (time.perf_counter() - start)

        await ask(-sample, 0)
        settle()
        tasks = len(asyncio.all_tasks())
        before = process.memory_full_info().uss
        asks_first = await ask(0, sample)
        await ask(sample, count - sample)
        asks_last = await ask(count - sample, count)
        await asyncio.sleep(REST_S)
        gc.collect()
        grown = process.memory_full_info().uss - before
        return Rest(grown / count, len(asyncio.all_tasks()) - tasks, asks_first, asks_last)


if __name__ == "__main__":
    sys.stdout.buffer.write(msgspec.json.encode(uvloop.run(rest(int(sys.argv[1])))))
