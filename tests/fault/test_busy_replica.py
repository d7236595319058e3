"""A replica that has more to do than it can, or stands still for a while without being dead."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path

import pytest

from tests.fault.audit import audit, opened
from tests.fault.clients import calling, eventually
from tests.fault.replicas import fleet
from tests.support.redis_servers import redis_server

pytestmark = pytest.mark.real_time(20)

LEASE_S = 1.0


async def test_a_blocked_loop_keeps_its_leases(tmp_path: Path) -> None:
    """An agent blocks the loop of its replica for three leases: nobody takes its turns over, and
    all that ran there end at their first attempt.
    """
    with redis_server() as redis, fleet(2, redis.url, tmp_path, lease_s=LEASE_S) as replicas:
        async with calling(replicas) as caller:
            beside = await caller.submit("beside", "hold=gate say=3", at=replicas[0])
            await caller.begun(beside)
            blocked = await caller.submit("s", f"block={3 * LEASE_S * 1_000:.0f} say=2")
            replicas.runs.open("gate")
            for turn in (blocked, beside):
                ended = await caller.ended(turn, at=replicas[1])
                assert (ended["state"], ended["attempt"]) == ("completed", 1)
        account = await audit(redis.url, replicas.runs, accepted=[blocked, beside])
        assert account.again == 0


@pytest.mark.parametrize("burst", [False, True], ids=["one by one", "all at once"])
async def test_a_full_replica_hands_turns_to_one_with_room(tmp_path: Path, burst: bool) -> None:
    """What would have to wait where it is accepted runs at once where an actor is idle."""
    environ = {"ACTORPOOL_AGENTS_AGENT_MAX": "1"}
    with redis_server() as redis, fleet(3, redis.url, tmp_path, environ=environ) as replicas:
        async with calling(replicas) as caller:

            async def idle() -> bool:
                pool = await caller.call("GET", f"{replicas[0].url}/v1/pool")
                others = [agent for each in pool.body["replicas"] for agent in each["agents"]]
                return bool(sum(agent["actors"]["idle"] for agent in others) == 2)

            await eventually(idle, "the first replica knows that the others are idle")
            submits = [caller.submit(f"s{n}", "hold=gate say=2", at=replicas[0]) for n in range(3)]
            turns = await asyncio.gather(*submits) if burst else [await each for each in submits]
            await caller.begun(*turns)
            assert len({run.pid for run in replicas.runs.all()}) == 3
            # now all are full: it waits where it was accepted, and is not lost
            waiting = await caller.submit("s3", "say=2", at=replicas[0])
            replicas.runs.open("gate")
            for turn in (*turns, waiting):
                assert (await caller.ended(turn))["state"] == "completed"
        account = await audit(redis.url, replicas.runs, accepted=[*turns, waiting])
        assert account.again == 0


# each of its three processes may take seconds to start on a busy machine
@pytest.mark.real_time(90)
async def test_what_never_ran_has_no_attempts(tmp_path: Path) -> None:
    """Of a burst one turn runs, the others wait. The replica is killed twice: only those that ran
    then are the worse for it.
    """
    environ = {"ACTORPOOL_AGENTS_AGENT_MAX": "1"}
    with redis_server() as redis, fleet(1, redis.url, tmp_path, environ=environ) as replicas:
        async with calling(replicas) as caller, opened(redis.url) as store:
            submits = (caller.submit(f"s{n}", "hold=gate say=2") for n in range(20))
            turns = await asyncio.gather(*submits)

            async def one_runs() -> bool:
                # whichever it is: after a restart it may be another one
                runs = replicas.runs.all()
                here = sum(run.pid == replicas[0].process.process.pid for run in runs)
                found = [await store.turn(turn) for turn in turns]
                known = {turn.id: turn.attempt for turn in found if turn and turn.attempt}
                return here == 1 and known == Counter(run.turn_id for run in runs)

            for _ in range(2):
                await eventually(one_runs, "one runs, and the store knows which ever ran")
                replicas[0].kill()
                await asyncio.to_thread(replicas[0].start)
            await eventually(one_runs, "one runs, and the store knows which ever ran")
            replicas.runs.open("gate")
            for turn in turns:
                ended = await caller.ended(turn)
                assert ended["state"] == "completed"
                assert ended["attempt"] == len(replicas.runs.of(turn))
        account = await audit(redis.url, replicas.runs, accepted=turns)
        assert account.again == 2
