"""A replica dies, stands still, or is cut off in the middle of turns."""

from __future__ import annotations

import asyncio
import time
from copy import deepcopy
from pathlib import Path

import pytest

from tests.fault.audit import audit
from tests.fault.clients import Caller, calling, eventually
from tests.fault.replicas import fleet, fleet_apart
from tests.fault.seen import Seen
from tests.support.proxy import proxied
from tests.support.redis_servers import redis_server

pytestmark = pytest.mark.real_time(25)

# A little longer than elsewhere: what a busy machine adds must not count much, and is this.
LEASE_S = 2.0
BUSY_S = 1.0
# Each turn finds an idle actor: then the store knows from the first that it has begun.
IDLE = {"ACTORPOOL_AGENTS_AGENT_MIN": "32"}


async def submit_held(caller: Caller, count: int, text: str = "") -> list[str]:
    """Turns in as many sessions, accepted by the first replica, that wait at the gate."""
    submits = (
        caller.submit(f"s{number}", f"hold=gate {text}", at=caller.fleet[0])
        for number in range(count)
    )
    return list(await asyncio.gather(*submits))


async def test_the_turns_of_a_killed_replica_are_reclaimed(tmp_path: Path) -> None:
    """Row 1: after kill -9 each turn runs again within the lease + 1 s, and ends once; readers at
    the other replicas, and those of the killed one, see all of it.
    """
    with (
        redis_server() as redis,
        fleet(3, redis.url, tmp_path, lease_s=LEASE_S, environ=IDLE) as replicas,
    ):
        async with calling(replicas) as caller:
            turns = await submit_held(caller, 30, "say=5 tool")
            waiting = [await caller.submit("s0", f"{n} say=2", at=replicas[0]) for n in range(3)]
            await caller.begun(*turns, known_at=replicas[1])
            seen = [Seen() for _ in turns]
            reading = [
                asyncio.create_task(caller.read(turn, each))
                for turn, each in zip(turns, seen, strict=True)
            ]
            replicas[0].kill()
            killed_at = time.time()
            await caller.begun(*turns, attempt=2)
            again = [run.at - killed_at for run in replicas.runs.all() if run.attempt == 2]
            replicas.runs.open("gate")
            await asyncio.gather(*reading)
            for turn in waiting:
                assert (await caller.ended(turn))["attempt"] == 1
        assert max(again) < LEASE_S + 1 + BUSY_S, sorted(again)
        account = await audit(redis.url, replicas.runs, accepted=[*turns, *waiting], seen=seen)
        assert account.states == {"completed": 33} and account.again == 30


async def test_a_reader_ahead_of_the_store_is_told(tmp_path: Path) -> None:
    """Invariant 11: readers have seen what a killed replica had not stored yet. They go on at the
    others before the session is taken over, and learn that the turn began anew: one where it runs
    now, and one where it does not. The new attempt is past the place that they had at one stroke.
    """
    with redis_server() as redis, fleet(3, redis.url, tmp_path) as replicas:
        async with calling(replicas) as caller:
            first = await caller.submit("s", "say=1", at=replicas[0])
            await caller.ended(first)
            turn, seen = await caller.submit("s", "hold=gate say=20", at=replicas[0]), Seen()
            url = f"{replicas[0].url}/v1/turns/{turn}/events"
            await caller.read_once(url, seen, leaves=lambda: seen.said(turn) == "held.")
            replicas[0].kill()
            replicas.runs.open("gate")
            other = deepcopy(seen)
            reading = [
                asyncio.create_task(caller.read(turn, reader, at=replica))
                for reader, replica in ((seen, replicas[1]), (other, replicas[2]))
            ]
            await asyncio.gather(*reading)
            words = "".join(f"word{n} " for n in range(20))
            assert seen.said(turn) == other.said(turn) == f"held.{words}"
        await audit(redis.url, replicas.runs, accepted=[first, turn], seen=[seen, other])


@pytest.mark.parametrize("first", ["the new one ends it first", "the old one goes on first"])
async def test_late_writes_of_a_stopped_replica_are_refused(tmp_path: Path, first: str) -> None:
    """Row 2: a replica that stood still past its lease wakes up, and writes nothing more; it lets
    go of the turns, tells what became of them, and serves on.
    """
    with redis_server() as redis, fleet(2, redis.url, tmp_path, environ=IDLE) as replicas:
        async with calling(replicas) as caller:
            turns = await submit_held(caller, 5, "say=5")
            await caller.begun(*turns, known_at=replicas[1])
            replicas[0].stop()
            await caller.begun(*turns, attempt=2)
            if first == "the old one goes on first":
                replicas[0].cont()
                assert await caller.turn(turns[0], at=replicas[0])
            replicas.runs.open("gate")
            ended = [await caller.ended(turn, at=replicas[1]) for turn in turns]
            replicas[0].cont()
            for turn in ended:
                assert turn["state"] == "completed" and turn["attempt"] == 2
                assert await caller.ended(turn["id"], at=replicas[0]) == turn
            fresh = await caller.submit("s0", "say=1", at=replicas[0])
            assert (await caller.ended(fresh, at=replicas[0]))["state"] == "completed"
        await audit(redis.url, replicas.runs, accepted=[*turns, fresh])


async def test_a_replica_that_is_cut_off_from_redis_loses_its_turns(tmp_path: Path) -> None:
    """Rows 2 and 7: the network between a replica and Redis goes silent. Another takes its turns;
    when it is back, nothing of the old runs is written.
    """
    with redis_server() as redis:
        async with (
            proxied(redis.port) as wire,
            fleet_apart(
                1, f"redis://127.0.0.1:{wire.port}/0", tmp_path / "cut", environ=IDLE
            ) as cut,
            fleet_apart(1, redis.url, tmp_path / "whole", runs=cut.runs) as whole,
            calling(cut) as caller,
        ):
            turns = await submit_held(caller, 5, "say=5")
            await caller.begun(*turns, known_at=whole[0])
            wire.stop_forwarding()
            await caller.begun(*turns, attempt=2)
            # now the cut off one ends its turns too, and cannot tell anybody
            cut.runs.open("gate")
            for turn in turns:
                done = await caller.ended(turn, at=whole[0])
                assert (done["state"], done["attempt"]) == ("completed", 2)
            refused = await caller.call("POST", f"{cut[0].url}/v1/sessions/x/turns", {"input": "x"})
            assert refused.status == 503
            wire.forward()

            async def well() -> bool:
                return (await caller.call("GET", f"{cut[0].url}/ready")).status == 200

            await eventually(well, "the replica is ready again")
            fresh = await caller.submit("s0", "say=1", at=cut[0])
            assert (await caller.ended(fresh, at=cut[0]))["state"] == "completed"
        await audit(redis.url, cut.runs, accepted=[*turns, fresh])


async def test_the_server_on_one_file_comes_back_with_its_turns(tmp_path: Path) -> None:
    """Row 1, SQLite: after kill -9 a server on the same file goes on with every unfinished turn."""
    url = f"sqlite://{tmp_path}/pool.db"
    with fleet(1, url, tmp_path, environ=IDLE) as replicas:
        async with calling(replicas) as caller:
            turns = await submit_held(caller, 10, "say=5 tool")
            waiting = [await caller.submit("s0", f"{n} say=2", at=replicas[0]) for n in range(3)]
            await caller.begun(*turns)
            replicas[0].kill()
            await asyncio.to_thread(replicas[0].start)
            await caller.begun(*turns, attempt=2)
            replicas.runs.open("gate")
            for turn in (*turns, *waiting):
                assert (await caller.ended(turn))["state"] == "completed"
        replicas[0].kill()
        account = await audit(url, replicas.runs, accepted=[*turns, *waiting])
        assert account.again == 10


async def test_a_committed_turn_never_runs_again(tmp_path: Path) -> None:
    """Invariant 17: its replica is killed as soon as a turn is told as completed; nobody runs it
    again, and its idempotency key still gives it.
    """
    with redis_server() as redis, fleet(2, redis.url, tmp_path, lease_s=0.5) as replicas:
        async with calling(replicas) as caller:
            url = f"{replicas[0].url}/v1/sessions/s/turns"
            reply = await caller.call("POST", url, {"input": "say=2"}, Idempotency_Key="k")
            replicas[0].kill()
            assert reply.body["state"] == "completed"
            later = await caller.submit("s", "say=1", at=replicas[1])
            await caller.ended(later, at=replicas[1])
            same = await caller.submit("s", "say=2", at=replicas[1], key="k")
            assert same == reply.body["id"]
        assert len(replicas.runs.of(same)) == 1
        await audit(redis.url, replicas.runs, accepted=[same, later])
