"""A server is told to end while much is under way."""

from __future__ import annotations

import asyncio
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from tests.fault.audit import audit
from tests.fault.clients import Caller, calling, eventually
from tests.fault.replicas import Replica, fleet
from tests.fault.seen import Seen
from tests.support.redis_servers import redis_server

pytestmark = pytest.mark.real_time(30)

TURNS = 1_000
DRAIN_S = 1.0
ENVIRON = {
    "ACTORPOOL_SERVER_DRAIN_S": str(DRAIN_S),
    "ACTORPOOL_POOL_QUEUE_MAX": "2000",
}


async def submit_all(caller: Caller, replica: Replica, text: str = "hold=gate say=2") -> list[str]:
    """As many turns as the row says, over a hundred sessions."""
    turns: list[str] = []
    for ten in range(TURNS // 100):
        submits = (caller.submit(f"s{n}", f"{ten} {text}", at=replica) for n in range(100))
        turns += await asyncio.gather(*submits)
    return turns


async def exit_code(replica: Replica) -> int:
    """That of a replica, once it has ended by itself."""
    return await asyncio.to_thread(replica.process.ended)


@pytest.mark.parametrize("kind", ["sqlite", "redis"])
async def test_a_thousand_turns_survive_a_shutdown(tmp_path: Path, kind: str) -> None:
    """Row 16: SIGTERM with 1,000 turns in flight. The server drains for as long as it may, hands
    back the rest and exits in time; after a restart all of them end, once.
    """
    with redis_server() as redis:
        url = redis.url if kind == "redis" else f"sqlite://{tmp_path}/pool.db"
        with fleet(1, url, tmp_path, environ=ENVIRON) as replicas:
            (replica,) = replicas
            async with calling(replicas) as caller:
                turns = await submit_all(caller, replica)
                told_at = time.monotonic()
                replica.terminate()
                assert await exit_code(replica) == 0
                # the drain, the grace of those that run, and what a busy machine adds
                assert time.monotonic() - told_at < DRAIN_S + 8
                replicas.runs.open("gate")
                await asyncio.to_thread(replica.start)
                for turn in turns:
                    assert (await caller.ended(turn))["state"] == "completed"
            replica.kill()
            account = await audit(url, replicas.runs, accepted=turns)
            assert account.states == {"completed": TURNS}


async def test_a_second_signal_ends_the_drain_and_loses_nothing(tmp_path: Path) -> None:
    """Row 17: a second SIGTERM during the drain ends the process at once; everything is recovered
    by the next one.
    """
    url = f"sqlite://{tmp_path}/pool.db"
    environ = {**ENVIRON, "ACTORPOOL_SERVER_DRAIN_S": "60"}
    with fleet(1, url, tmp_path, environ=environ) as replicas:
        (replica,) = replicas
        async with calling(replicas) as caller:
            turns = await submit_all(caller, replica)
            replica.terminate()
            await asyncio.to_thread(replica.process.wait_for_log, "draining")
            told_at = time.monotonic()
            await asyncio.to_thread(replica.process.insist, signal.SIGTERM)
            assert time.monotonic() - told_at < 2
            replicas.runs.open("gate")
            await asyncio.to_thread(replica.start)
            for turn in turns:
                assert (await caller.ended(turn))["state"] == "completed"
        replica.kill()
        await audit(url, replicas.runs, accepted=turns)


async def test_a_drain_hands_turns_to_the_other_replica(tmp_path: Path) -> None:
    """Invariant 16: what cannot end within the drain goes on at another replica at once, and its
    readers with it; the leases are released, not left to run out.
    """
    environ = {**ENVIRON, "ACTORPOOL_SERVER_DRAIN_S": "0.5"}
    with (
        redis_server() as redis,
        fleet(2, redis.url, tmp_path, lease_s=60.0, environ=environ) as replicas,
    ):
        async with calling(replicas) as caller:
            turns = [
                await caller.submit(f"s{n}", "hold=gate say=3", at=replicas[0]) for n in range(20)
            ]
            quick = await caller.submit("quick", "work=200 say=1", at=replicas[0])
            await caller.begun(*turns)
            seen = [Seen() for _ in turns]
            reading = [
                asyncio.create_task(caller.read(turn, each))
                for turn, each in zip(turns, seen, strict=True)
            ]
            late: list[str] = []

            async def refusal() -> Any:
                # until the signal has arrived it takes turns
                place = f"{replicas[0].url}/v1/sessions/late/turns"
                reply = await caller.call("POST", place, {"input": "say=1"})
                if reply.status == 503:
                    return reply.body
                late.append(reply.body["id"])
                return None

            replicas[0].terminate()
            refused = await eventually(refusal, "it takes no more turns")
            assert refused["code"] == "draining"
            assert await exit_code(replicas[0]) == 0
            replicas.runs.open("gate")
            await asyncio.gather(*reading)
            assert (await caller.ended(quick))["attempt"] == 1
        accepted = [*turns, quick, *late]
        account = await audit(redis.url, replicas.runs, accepted=accepted, seen=seen)
        assert account.states == {"completed": len(accepted)}
