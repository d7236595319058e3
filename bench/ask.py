"""Asks in one process: `python -m bench.ask SIDE CALLERS SECONDS [SYNCHRONOUS]`.

SIDE is `bare`, what any actor needs at least: a queue to it and a future from it; or the URL of the
store that a pool uses. Prints asks a second as JSON.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final

import msgspec
import uvloop

from bench.agents import echo
from bench.stores import Place, Synchronous, made

ASKS_PER_SESSION: Final = 10
WARM_UP_ASKS: Final = 200

Ask = Callable[[str, str], Awaitable[object]]


@asynccontextmanager
async def bare() -> AsyncIterator[Ask]:
    """One actor behind an `asyncio.Queue`; each ask has a future for its answer."""
    loop = asyncio.get_running_loop()
    queue: asyncio.Queue[tuple[str, asyncio.Future[str]]] = asyncio.Queue()

    async def actor() -> None:
        while True:
            text, answer = await queue.get()
            answer.set_result(await echo(text))

    def ask(text: str, _: str) -> Awaitable[str]:
        answer: asyncio.Future[str] = loop.create_future()
        queue.put_nowait((text, answer))
        return answer

    task = loop.create_task(actor())
    yield ask
    task.cancel()


@asynccontextmanager
async def pool(callers: int, at: Place, *synchronous: Synchronous) -> AsyncIterator[Ask]:
    """The pool as it is embedded, with the garbage collector as the command sets it."""
    from pool import AgentPool, AgentSpec
    from protocol.command.garbage import settle

    spec = AgentSpec(agent=echo, max=max(16, callers))
    async with made(at, *synchronous) as store, AgentPool(spec, store=store) as agents:
        settle()
        yield lambda text, session: agents.ask(text, session=session)


async def rate(callers: int, seconds: float, ask: Ask) -> float:
    """Asks a second that so many callers get answered, one after the other each."""
    stop = False

    async def caller(number: int) -> int:
        asked = 0
        while not stop:
            await ask("hello", f"c{number}-{asked // ASKS_PER_SESSION}")
            asked += 1
        return asked

    for number in range(WARM_UP_ASKS):
        await ask("hello", f"w{number}")
    start = time.perf_counter()
    tasks = [asyncio.create_task(caller(number)) for number in range(callers)]
    await asyncio.sleep(seconds)
    stop = True
    asked = sum(await asyncio.gather(*tasks))
    return asked / (time.perf_counter() - start)


async def main(side: str, callers: int, seconds: float, *synchronous: Synchronous) -> None:
    """Measure one side and print its figure."""
    async with bare() if side == "bare" else pool(callers, side, *synchronous) as ask:
        print(await rate(callers, seconds, ask))


if __name__ == "__main__":
    side, callers, seconds, *others = sys.argv[1:]
    synchronous = msgspec.convert(others, list[Synchronous])
    uvloop.run(main(side, int(callers), float(seconds), *synchronous))
