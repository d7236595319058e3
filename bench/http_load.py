"""Loads a server with HTTP turns.

`python -m bench.http_load PORT CONNECTIONS WARM_UP_S SECONDS ACCEPT [KEY]`

Each connection asks one turn after the other, ten of them in a session, then goes on in a new one.
Prints a `Load` as JSON.
"""

from __future__ import annotations

import asyncio
import sys
import time
from typing import Final

import msgspec
import uvloop
from msgspec import Struct

from bench.http import Answer, Caller, post

TURNS_PER_SESSION: Final = 10
# an answer that takes longer never comes
LAST_ANSWER_S: Final = 20.0
BODY: Final = b'{"input":"What is the weather in Paris today?"}'


class Load(Struct, frozen=True):
    """What a load measured. `all_turns` counts the warm-up too; latencies in milliseconds."""

    turns: int
    seconds: float
    p50_ms: float
    p99_ms: float
    all_turns: int
    sample: str

    @property
    def per_second(self) -> float:
        """Turns answered in a second."""
        return self.turns / self.seconds


class Connection:
    """What one connection asks, and how long each answer took."""

    def __init__(self, number: int, accept: str, key: str) -> None:
        self._number = number
        self._accept = accept
        self._key = key
        self._asked = 0
        self._request = b""
        self._since = 0.0
        self.stopped = False
        self.times: list[float] = []
        self.sample = b""

    def next(self) -> bytes | None:
        """The next request; None once stopped."""
        if self.stopped:
            return None
        if self._asked % TURNS_PER_SESSION == 0:
            session = f"c{self._number}-{self._asked // TURNS_PER_SESSION}"
            path = f"/v1/sessions/{session}/turns"
            self._request = post(path, BODY, accept=self._accept, key=self._key)
        self._asked += 1
        self._since = time.perf_counter()
        return self._request

    def answered(self, answer: Answer) -> None:
        """Note how long it took; `SystemExit` if it was not the answer that was expected."""
        if not answer.ok:
            raise SystemExit(f"not answered with 200: {answer.body[:500]!r}")
        self.times.append(time.perf_counter() - self._since)
        self.sample = answer.body


async def load(
    port: int, connections: int, warm_up_s: float, seconds: float, accept: str, key: str
) -> Load:
    """Keep `connections` busy: `warm_up_s` that do not count, then `seconds` that do."""
    askers = [Connection(number, accept, key) for number in range(connections)]
    callers = []
    for asker in askers:
        caller = Caller(asker.next, asker.answered)
        await caller.dial(port)
        callers.append(caller)
    await asyncio.sleep(warm_up_s)
    before = [len(asker.times) for asker in askers]
    start = time.perf_counter()
    await asyncio.sleep(seconds)
    taken = time.perf_counter() - start
    counted = sorted(
        took for asker, skip in zip(askers, before, strict=True) for took in asker.times[skip:]
    )
    for asker in askers:
        asker.stopped = True
    await asyncio.wait_for(asyncio.gather(*(caller.done for caller in callers)), LAST_ANSWER_S)
    if not counted:
        raise SystemExit("no turn was answered while it was measured")
    return Load(
        turns=len(counted),
        seconds=taken,
        p50_ms=counted[len(counted) // 2] * 1000,
        p99_ms=counted[len(counted) * 99 // 100] * 1000,
        all_turns=sum(len(asker.times) for asker in askers),
        sample=askers[0].sample.decode(),
    )


if __name__ == "__main__":
    port, connections, warm_up, seconds, accept, *key = sys.argv[1:]
    figures = load(
        int(port), int(connections), float(warm_up), float(seconds), accept, "".join(key)
    )
    sys.stdout.buffer.write(msgspec.json.encode(uvloop.run(figures)))
