"""Turns of a kind in counted sessions: `python -m bench.trips STORE KIND AT_ONCE ACTORS TURNS`.

Every turn is accepted and run by this one process. Prints the number of turns, as JSON.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from typing import Any, Final

import uvloop

from bench.agents import DELTAS, WORDS, echo
from bench.stores import made
from bench.tap import COUNTED
from pool import AgentPool, AgentSpec
from pool.agent import Context, TurnEnd, TurnInput

# Sessions a caller goes round: more than an actor keeps the state of.
SESSIONS: Final = 20
WARM_UP_TURNS: Final = 1
STREAM_S: Final = 5.0
# what the stateful agent adds to its state in each turn
REMEMBERED: Final = b"one turn of a conversation " * 20


async def stream(_: str) -> AsyncIterator[str]:
    """Answers word by word, as a model does: `DELTAS` of them in `STREAM_S`, not later."""
    clock = asyncio.get_running_loop().time
    start = clock()
    for number, word in enumerate(WORDS, 1):
        yield word
        await asyncio.sleep(start + number * STREAM_S / DELTAS - clock())


class Remembering:
    """An agent with a state that grows; it says how many turns it remembers."""

    state_format = "bench/1"

    async def open(self) -> None:
        """Nothing is opened."""

    async def close(self) -> None:
        """Nothing is closed."""

    async def run(self, turn: TurnInput, ctx: Context) -> TurnEnd:
        """Answer one turn."""
        turns = len(turn.state or b"") // len(REMEMBERED)
        return TurnEnd(output=str(turns), append=REMEMBERED)


AGENTS: Final[dict[str, Any]] = {"echo": echo, "stateful": Remembering, "streamed": stream}


async def main(store: str, kind: str, at_once: int, actors: int, turns: int) -> int:
    """Ask so many turns, `at_once` at a time; returns how many there were."""
    spec = AgentSpec(agent=AGENTS[kind], max=actors)
    async with made(store) as at, AgentPool(spec, store=at) as agents:

        async def caller(number: int, prefix: str, count: int) -> None:
            for asked in range(count):
                session = f"{prefix}{number}-{asked % SESSIONS}"
                answer = await agents.ask("hello", session=session)
                if kind == "stateful" and answer.output != str(asked // SESSIONS):
                    raise RuntimeError(f"the state of {session} was not loaded: {answer.output}")

        for prefix, count in (("warm-", WARM_UP_TURNS), (COUNTED, turns // at_once)):
            async with asyncio.TaskGroup() as callers:
                for number in range(at_once):
                    callers.create_task(caller(number, prefix, count))
    return turns // at_once * at_once


if __name__ == "__main__":
    store, kind, *numbers = sys.argv[1:]
    print(uvloop.run(main(store, kind, *map(int, numbers))))
