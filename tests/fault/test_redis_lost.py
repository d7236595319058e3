"""Redis goes down, hangs, or comes back empty. The servers live on and say so."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import psutil
import pytest

from tests.fault.audit import audit, settled
from tests.fault.clients import Caller, Reply, calling, eventually
from tests.fault.replicas import Replica, fleet
from tests.fault.seen import Seen
from tests.support.redis_process import RedisServer
from tests.support.redis_servers import redis_server

pytestmark = pytest.mark.real_time(25)

OUTAGE_S = 4.0
# How fast what needs Redis is refused while it hangs: half a second, and what a busy machine adds.
FAST_S = 1.0


async def submit_to(caller: Caller, replica: Replica) -> Reply:
    """One more turn for a session of its own; whatever the replica answers."""
    session = f"more-{caller.random.randrange(2**32)}"
    body = {"input": "say=1"}
    url = f"{replica.url}/v1/sessions/{session}/turns"
    return await caller.call("POST", url, body, Prefer="respond-async")


def refused_for_now(reply: Reply) -> bool:
    """Whether it is a 503 that says when to come back."""
    problem = reply.body
    if reply.status != 503:
        return False
    assert problem["code"] == "store_unavailable" and problem["retryable"], problem
    assert int(reply.headers["Retry-After"]) >= 1 and problem["retry_after_s"] > 0
    return True


def ready(caller: Caller, replica: Replica) -> Callable[[], Awaitable[bool]]:
    """Whether the replica says that it may take traffic."""

    async def ask() -> bool:
        return (await caller.call("GET", f"{replica.url}/ready")).status == 200

    return ask


def resident_bytes(replica: Replica) -> int:
    """The memory of a replica's process."""
    return int(psutil.Process(replica.process.process.pid).memory_info().rss)


async def test_an_outage_of_redis_loses_nothing(tmp_path: Path) -> None:
    """Row 3: while Redis is down turns are refused with 503 and Retry-After and memory stays
    bounded; when it is back (AOF always) every accepted turn ends, once, without anybody's help.
    """
    with (
        redis_server(appendonly="always") as redis,
        fleet(2, redis.url, tmp_path) as replicas,
    ):
        async with calling(replicas) as caller:
            held = [
                await caller.submit(f"h{n}", f"hold=late-{n % 2} say=5", at=replicas[n % 2])
                for n in range(10)
            ]
            queued = [await caller.submit(f"h{n}", "say=2", at=replicas[0]) for n in range(10)]
            await caller.begun(*held)
            before = [resident_bytes(replica) for replica in replicas]
            redis.kill()
            down_until = time.monotonic() + OUTAGE_S
            # half of them end while nobody can be told
            replicas.runs.open("late-0")
            refused = 0
            while time.monotonic() < down_until:
                replies = await asyncio.gather(
                    *(submit_to(caller, replica) for replica in replicas for _ in range(20))
                )
                assert all(refused_for_now(reply) for reply in replies)
                refused += len(replies)
            after = [resident_bytes(replica) for replica in replicas]
            await asyncio.to_thread(redis.start)
            replicas.runs.open("late-1")
            for replica in replicas:
                await eventually(ready(caller, replica), f"{replica} is ready again")
            for turn in (*held, *queued):
                assert (await caller.ended(turn))["state"] == "completed"
            fresh = [await caller.submit("h0", "say=1", at=replica) for replica in replicas]
            for turn in fresh:
                await caller.ended(turn)
        assert refused > 100
        assert max(b - a for a, b in zip(before, after, strict=True)) < 30 * 2**20
        await audit(redis.url, replicas.runs, accepted=[*held, *queued, *fresh])


def stand_still(redis: RedisServer) -> None:
    """The process of Redis stands still."""
    redis.stop()


def pause(redis: RedisServer) -> None:
    """Redis answers no client for so many milliseconds."""
    redis.execute("CLIENT", "PAUSE", 5_000)


def go_on(redis: RedisServer) -> None:
    """Redis answers again."""
    redis.cont()
    redis.execute("PING")


@pytest.mark.parametrize("hang", [stand_still, pause])
async def test_a_redis_that_hangs_is_noticed_soon(
    tmp_path: Path, hang: Callable[[RedisServer], None]
) -> None:
    """Row 4: a Redis that takes commands and does not answer: within about half a second turns are
    refused and readiness is 503, while the process itself is well; then all goes on.
    """
    with redis_server() as redis, fleet(1, redis.url, tmp_path) as replicas:
        (replica,) = replicas
        async with calling(replicas) as caller:
            held = await caller.submit("held", "hold=gate say=3", at=replica)
            await caller.begun(held)
            hang(redis)
            for _ in range(3):
                begun = time.monotonic()
                refused, unready, alive = await asyncio.gather(
                    submit_to(caller, replica),
                    caller.call("GET", f"{replica.url}/ready"),
                    caller.call("GET", f"{replica.url}/health"),
                )
                assert time.monotonic() - begun < FAST_S
                assert refused_for_now(refused) and alive.status == 200
                assert unready.status == 503 and not unready.body["checks"]["store"]["ok"]
            replicas.runs.open("gate")
            go_on(redis)
            await eventually(ready(caller, replica), "it is ready again")
            assert (await caller.ended(held))["state"] == "completed"
            fresh = await caller.submit("held", "say=1", at=replica)
            await caller.ended(fresh)
        # Redis may have heard what was refused: then it was accepted all the same, and ends
        await settled(redis.url)
        await audit(redis.url, replicas.runs, accepted=[held, fresh])


async def test_readers_are_told_when_redis_was_wiped(tmp_path: Path) -> None:
    """Row 6: Redis comes back empty. Live readers get `history.lost` and what comes then; whoever
    waited for a turn that is gone gets an answer; the servers go on.
    """
    with redis_server() as redis, fleet(2, redis.url, tmp_path) as replicas:
        async with calling(replicas) as caller:
            old = await caller.submit("s", "say=3", at=replicas[0])
            await caller.ended(old, at=replicas[1])
            held = await caller.submit("held", "hold=gate", at=replicas[0])
            await caller.begun(held)
            readers = [Reading(caller, replica, "s") for replica in replicas]
            for reader in readers:
                await eventually(reader.caught_up(old), "the reader has the first turn")
            redis.kill()
            redis.wipe()
            redis.start()
            for replica in replicas:
                await eventually(ready(caller, replica), f"{replica} is ready again")
            replicas.runs.open("gate")
            fresh = await caller.submit("s", "say=2", at=replicas[0])
            assert (await caller.ended(fresh, at=replicas[1]))["state"] == "completed"
            for reader in readers:
                await eventually(reader.caught_up(fresh), "the reader has the new turn")
                await reader.end()
                assert reader.seen.losses == 1, reader.seen.events
                assert reader.seen.said(fresh) == "word0 word1 "
            for replica in replicas:
                gone = await caller.call("GET", f"{replica.url}/v1/turns/{old}?wait_s=5")
                assert gone.status == 404
            waited = await caller.call("GET", f"{replicas[0].url}/v1/turns/{held}?wait_s=5")
            assert waited.status in (404, 503), waited


class Reading:
    """A reader of a session's stream at one replica, that reconnects."""

    def __init__(self, caller: Caller, replica: Replica, session: str) -> None:
        self.seen = Seen()
        self._caller = caller
        self._url = f"{replica.url}/v1/sessions/{session}/events"
        self._task = asyncio.create_task(self._read())

    def caught_up(self, turn_id: str) -> Callable[[], Awaitable[bool]]:
        """Whether it has seen the end of a turn."""

        async def look() -> bool:
            if self._task.done():
                self._task.result()
            return self.seen.ending(turn_id) is not None

        return look

    async def end(self) -> None:
        """Read no more."""
        self._task.cancel()
        await asyncio.wait([self._task])

    async def _read(self) -> None:
        self.seen.cursor = "0-0"
        while True:
            await self._caller.try_once(self._url, self.seen)
