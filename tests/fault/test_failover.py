"""The master of Redis is lost, and another takes over: under Sentinel, and in a Cluster."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

import aiohttp
import pytest

from tests.fault.audit import audit
from tests.fault.clients import Caller, calling, eventually
from tests.fault.replicas import fleet
from tests.fault.seen import Seen, place_of
from tests.support.redis_servers import cluster, sentinels

pytestmark = pytest.mark.real_time(30)

OUTAGE_S = 5.0


class Traffic:
    """Turns in some sessions, one after another, each tried until it is taken, with one key."""

    def __init__(self, caller: Caller, sessions: list[str]) -> None:
        self.accepted: list[str] = []
        # for each session the moments at which a turn of it was answered
        self.answered: dict[str, list[float]] = {session: [] for session in sessions}
        self._caller = caller
        self._tasks = [asyncio.create_task(self._send(session)) for session in sessions]
        self._ending = False

    def answers(self, more: int) -> Callable[[], Awaitable[bool]]:
        """Whether each session has had so many more answers."""
        due = {session: len(times) + more for session, times in self.answered.items()}

        async def look() -> bool:
            for task in self._tasks:
                if task.done():
                    task.result()
            return all(len(self.answered[session]) >= count for session, count in due.items())

        return look

    async def end(self) -> None:
        """Send no more, and wait for what was sent."""
        self._ending = True
        await asyncio.gather(*self._tasks)

    def outage_s(self) -> float:
        """The longest time in which some session had no answer."""
        return max(
            later - earlier
            for times in self.answered.values()
            for earlier, later in pairwise(times)
        )

    async def _send(self, session: str) -> None:
        number = 0
        while not self._ending:
            number += 1
            turn = await self._caller.submit(session, "say=1", key=f"{session}-{number}")
            with suppress(aiohttp.ClientError, TimeoutError, AssertionError):
                # lost with the old master, perhaps: the next one goes on
                if (await self._caller.ended(turn))["state"] == "completed":
                    self.answered[session].append(time.monotonic())
                    self.accepted.append(turn)


async def test_a_failover_of_sentinel_is_over_soon(tmp_path: Path) -> None:
    """Row 5: the master is killed. Within 5 s turns are answered again, on the new master, by
    replicas that were not restarted, and what is in the store is whole.
    """
    with sentinels() as redis, fleet(2, redis.url, tmp_path) as replicas:
        async with calling(replicas) as caller:
            traffic = Traffic(caller, ["a", "b", "c"])
            await eventually(traffic.answers(5), "turns are answered")
            redis.master.kill()
            await eventually(traffic.answers(5), "turns are answered again")
            await traffic.end()
        assert traffic.outage_s() < OUTAGE_S
        assert redis.current is redis.replica
        await audit(redis.url, replicas.runs, accepted=traffic.accepted, lossy=True)


async def test_lost_writes_are_visible_by_their_epoch(tmp_path: Path) -> None:
    """Row 5, invariant 2: the new master never had the last writes of the old one. The session goes
    on in a later epoch, and a reader that had seen what is lost is told.
    """
    with sentinels() as redis, fleet(2, redis.url, tmp_path) as replicas:
        async with calling(replicas) as caller:
            kept = await caller.submit("s", "say=2", at=replicas[0])
            await caller.ended(kept)
            redis.master.execute("WAIT", 1, 2_000)
            # from here on nothing is replicated: it stands still, and its connection is cut
            redis.replica.stop()
            redis.master.execute("CLIENT", "KILL", "TYPE", "replica")
            lost = await caller.submit("s", "say=5", at=replicas[0])
            await caller.ended(lost)
            seen = Seen()
            await caller.read(lost, seen)
            redis.master.kill()
            redis.replica.cont()
            fresh = await caller.submit("s", "say=3")
            assert (await caller.ended(fresh))["state"] == "completed"
            assert seen.cursor is not None
            old = place_of(seen.cursor)
            url = f"{replicas[1].url}/v1/sessions/s/events"
            while seen.ending(fresh) is None:
                await caller.try_once(url, seen)
        first = seen.events[[e["id"] for e in seen.events].index(f"{old[0]}-{old[1]}") + 1]
        assert first["type"] == "history.lost", seen.events
        assert place_of(seen.cursor)[0] > old[0]
        assert seen.said(fresh) == "word0 word1 word2 "
        await audit(redis.url, replicas.runs, accepted=[kept, fresh], lossy=True)


async def test_the_loss_of_a_cluster_node_is_over_soon(tmp_path: Path) -> None:
    """Row 5: one master of three is killed. Its sessions are answered again within 5 s."""
    with cluster() as redis, fleet(2, redis.url, tmp_path) as replicas:
        async with calling(replicas) as caller:
            sessions = [f"s{number}" for number in range(8)]
            traffic = Traffic(caller, sessions)
            await eventually(traffic.answers(3), "turns are answered")
            redis.nodes[0].kill()
            await eventually(traffic.answers(3), "turns are answered again")
            await traffic.end()
        assert traffic.outage_s() < OUTAGE_S
        await audit(redis.url, replicas.runs, accepted=traffic.accepted, lossy=True)


async def test_turns_in_a_cluster_survive_their_replica(tmp_path: Path) -> None:
    """Row 1 on a Cluster: the turns of a killed replica, in every part of it, are reclaimed."""
    # each turn finds an idle actor: then the store knows from the first that it has begun
    environ = {"ACTORPOOL_AGENTS_AGENT_MIN": "32"}
    with cluster() as redis, fleet(2, redis.url, tmp_path, environ=environ) as replicas:
        async with calling(replicas) as caller:
            turns = [
                await caller.submit(f"s{n}", "hold=gate say=2", at=replicas[0]) for n in range(20)
            ]
            await caller.begun(*turns, known_at=replicas[1])
            replicas[0].kill()
            await caller.begun(*turns, attempt=2)
            replicas.runs.open("gate")
            for turn in turns:
                assert (await caller.ended(turn, at=replicas[1]))["state"] == "completed"
        await audit(redis.url, replicas.runs, accepted=turns)
