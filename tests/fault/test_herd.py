"""Everybody comes back at once."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import aiohttp
import pytest

from tests.fault.audit import audit
from tests.fault.clients import Caller, calling, eventually
from tests.fault.replicas import fleet
from tests.fault.seen import Seen
from tests.support.redis_servers import redis_server

pytestmark = pytest.mark.real_time(40)

CLIENTS = 1_000
SESSIONS = 50
# What one replica takes: half of the herd is turned away.
ROOM = 600


class Reader:
    """A client that reads one turn, and stays away as long as it is told to."""

    def __init__(self, caller: Caller, turn_id: str) -> None:
        self.seen = Seen()
        self.turn_id = turn_id
        self.told_s: list[int] = []
        self._caller = caller

    async def read(self) -> None:
        """Read the turn to its end, at whichever replica lives."""
        while self.seen.ending(self.turn_id) is None:
            with suppress(aiohttp.ClientError, TimeoutError, ConnectionError):
                url = f"{self._caller.somewhere()}/v1/turns/{self.turn_id}/events"
                if await self._caller.read_once(url, self.seen, told=self.told_s.append):
                    return
            # as told if it was, and a moment of its own choosing
            await asyncio.sleep(sum(self.told_s[-1:]) + self._caller.random.uniform(0.05, 0.5))


async def test_a_herd_of_readers_comes_back(tmp_path: Path) -> None:
    """Row 19: the replica that 1,000 clients read from is killed. At the other, which has room for
    600, those too many are told to come back, each at a time of its own; all of them see their
    turn to its end, without a gap, nothing twice.
    """
    environ = {
        "ACTORPOOL_SERVER_MAX_CONNECTIONS": str(ROOM),
        "ACTORPOOL_LOG_LEVEL": "error",
        # each turn finds an idle actor: then the store knows from the first that it has begun
        "ACTORPOOL_AGENTS_AGENT_MIN": "60",
    }
    with redis_server() as redis, fleet(3, redis.url, tmp_path, environ=environ) as replicas:
        async with calling(replicas) as caller:
            turns = [
                await caller.submit(f"s{n}", "hold=gate say=5:2 tool", at=replicas[0])
                for n in range(SESSIONS)
            ]
            await caller.begun(*turns, known_at=replicas[1])
            readers = [Reader(caller, turns[n % SESSIONS]) for n in range(CLIENTS)]
            reading = [asyncio.create_task(reader.read()) for reader in readers]
            await eventually(lambda: all_read(readers), "every client reads", patience_s=20)
            replicas[0].kill()
            replicas[1].kill()
            await caller.begun(*turns, attempt=2)
            replicas.runs.open("gate")
            await asyncio.gather(*reading)
        told = [pause_s for reader in readers for pause_s in reader.told_s]
        assert len(told) > 100 and len(set(told)) > 1
        await audit(
            redis.url, replicas.runs, accepted=turns, seen=[reader.seen for reader in readers]
        )


async def all_read(readers: Sequence[Reader]) -> bool:
    """Whether each has had its first words."""
    return all(reader.seen.said(reader.turn_id) for reader in readers)
