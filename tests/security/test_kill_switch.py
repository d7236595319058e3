"""An agent that is disabled stops in every replica: check 17, with real processes on one Redis."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from time import monotonic
from typing import Any

import pytest

from tests.fault.clients import Caller, calling, eventually
from tests.fault.replicas import Fleet, Replica, fleet
from tests.support.process import completed
from tests.support.redis_servers import redis_server

pytestmark = pytest.mark.real_time(30)

# The promise, in seconds; and how long the command itself may take to start on a busy machine.
WITHIN_S = 5.0
TURN = {"input": "say=1"}


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Two replicas, and the Redis between them."""
    home = tmp_path_factory.mktemp("switch")
    with redis_server() as redis, fleet(2, redis.url, home) as replicas:
        yield replicas


async def switch(both: Fleet, tmp_path: Any, verb: str, *options: str) -> float:
    """Disable or enable the agent, as an operator does; when that was done."""
    words = ("agents", verb, "agent", *options, "--store", both.store)
    done = await asyncio.to_thread(completed, *words, directory=tmp_path)
    assert done.returncode == 0, done.stderr
    return monotonic()


async def answer(caller: Caller, replica: Replica, session: str) -> tuple[int, str]:
    """What a new turn at a replica is answered with: the status, and the code of a problem."""
    reply = await caller.call("POST", f"{replica.url}/v1/sessions/{session}/turns", TURN)
    return reply.status, reply.body.get("code", "")


async def refused_everywhere(caller: Caller, both: Fleet) -> None:
    """Return once no replica takes a turn."""
    for number, replica in enumerate(both):

        async def refused(replica: Replica = replica, number: int = number) -> bool:
            return await answer(caller, replica, f"new{number}") == (503, "agent_degraded")

        await eventually(refused, f"{replica} refuses turns", patience_s=WITHIN_S)


async def test_a_disabled_agent_stops_in_every_replica(both, tmp_path):
    """Within 5 s new turns are refused at both, those that run and those that wait are cancelled;
    enabled again, both take turns.
    """
    async with calling(both) as caller:
        running = [
            await caller.submit(f"runs{n}", "hold=never", at=replica)
            for n, replica in enumerate(both)
        ]
        waiting = [
            await caller.submit(f"runs{n}", "say=1", at=replica) for n, replica in enumerate(both)
        ]
        await caller.begun(*running)
        off = await switch(both, tmp_path, "disable", "--cancel", "--reason", "it runs wild")
        await refused_everywhere(caller, both)
        for turn in (*running, *waiting):
            ended = await caller.ended(turn)
            assert ended["state"] == "cancelled", ended
        assert monotonic() - off < WITHIN_S
        assert not set(waiting) & {run.turn_id for run in both.runs.all()}
        for replica in both:
            ready = await caller.call("GET", f"{replica.url}/ready")
            assert (ready.status, "it runs wild" in str(ready.body)) == (503, True)
        await switch(both, tmp_path, "enable")
        for number, replica in enumerate(both):

            async def taken(replica: Replica = replica, number: int = number) -> bool:
                return (await answer(caller, replica, f"again{number}"))[0] == 200

            await eventually(taken, f"{replica} takes turns again")


async def test_a_replica_that_starts_later_knows_of_it(both, tmp_path):
    """The switch is in the store: a process that is started anew takes no turn of the agent."""
    async with calling(both) as caller:
        await switch(both, tmp_path, "disable")
        both[1].kill()
        await asyncio.to_thread(both[1].start)
        assert await answer(caller, both[1], "late") == (503, "agent_degraded")
        await switch(both, tmp_path, "enable")
