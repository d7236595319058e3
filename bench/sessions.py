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

# so many asks are timed in one piece; between two pieces what is idle comes to rest
PIECE: Final = 1_000


class Rest(Struct, frozen=True):
    """What sessions at rest cost: memory of each, tasks, and asks a second before and after."""

    bytes_each: float
    tasks: int
    asks_first: float
    asks_last: float


async def rest(count: int) -> Rest:
    """One short turn in each of so many sessions."""
    from pool import AgentPool
    from pool.store.memory import MemoryStore
    from pool.store.memory_limits import MemoryLimits
    from protocol.command.garbage import settle

    process = psutil.Process()
    store = MemoryStore(limits=MemoryLimits(rest_after_s=1e-6))
    async with AgentPool(echo, store=store) as agents:

        async def ask(first: int, last: int) -> float:
            taken = 0.0
            for piece in range(first, last, PIECE):
                start = time.perf_counter()
                for number in range(piece, piece + PIECE):
                    await agents.ask("hello", session=f"session-{number}")
                taken += time.perf_counter() - start
                # now rather than some seconds later, so that there is no peak that would stay
                store.sweep(time.time(), 2 * PIECE)
            return (last - first) / taken

        sample = 5 * PIECE
        await ask(count, count + sample)
        settle()
        tasks = len(asyncio.all_tasks())
        before = process.memory_full_info().uss
        asks_first = await ask(0, sample)
        await ask(sample, count - sample)
        asks_last = await ask(count - sample, count)
        gc.collect()
        grown = process.memory_full_info().uss - before
        return Rest(grown / count, len(asyncio.all_tasks()) - tasks, asks_first, asks_last)


if __name__ == "__main__":
    sys.stdout.buffer.write(msgspec.json.encode(uvloop.run(rest(int(sys.argv[1])))))
