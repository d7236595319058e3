"""Row 32: a budget that several processes share, and that one of them does not survive."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path

import msgspec
import pytest

from tests.fault.audit import audit
from tests.fault.clients import PATIENCE_S, Caller, Reply, calling, eventually
from tests.fault.replicas import Replica, fleet
from tests.support.redis_servers import redis_server

pytestmark = pytest.mark.real_time(20)

SHARE, ROOM = 100, 10
BUDGET = {"all": {"tokens": SHARE * ROOM, "reserve_tokens": SHARE, "alerts": [50, 100]}}
ENVIRON = {"ACTORPOOL_BUDGETS": msgspec.json.encode(BUDGET).decode()}


async def test_fifty_turns_at_once_at_two_replicas_never_spend_more_than_there_is(
    tmp_path: Path,
) -> None:
    """Ten fit, whichever they are: ten run, forty are refused with 402 and touch no agent, and what
    was spent is the whole budget and no more.
    """
    with redis_server() as redis, fleet(2, redis.url, tmp_path, environ=ENVIRON) as replicas:
        async with calling(replicas) as caller:

            async def ask(number: int) -> Reply:
                path = f"/v1/sessions/s{number}/turns"
                body = {"input": f"work=300 spend={SHARE}"}
                return await caller.call("POST", replicas[number % 2].url + path, body)

            replies = await asyncio.gather(*(ask(number) for number in range(50)))
            assert Counter(reply.status for reply in replies) == {200: ROOM, 402: 50 - ROOM}
            refused = next(reply for reply in replies if reply.status == 402)
            assert refused.body["code"] == "budget_exceeded"
            for replica in replicas:
                assert await _settled(caller, replica) == {"limit": 1_000, "spent": 1_000}
        assert len(replicas.runs.all()) == ROOM
        lines = "".join(replica.process.log for replica in replicas).splitlines()
        alerts = [line for line in map(msgspec.json.decode, lines) if "percent" in line]
        assert sorted(alert["percent"] for alert in alerts) == [50, 100]


async def test_what_the_attempt_of_a_killed_replica_spent_is_counted(tmp_path: Path) -> None:
    """Row 1: kill -9 while a tool runs, after the model was asked. The next attempt asks again: the
    turn has used both, and its budget has paid both.
    """
    with redis_server() as redis, fleet(2, redis.url, tmp_path, environ=ENVIRON) as replicas:
        async with calling(replicas) as caller:
            turn = await caller.submit(
                "s", f"spend={SHARE} tool hold=gate spend={SHARE}", at=replicas[0]
            )

            async def told() -> bool:
                usage = (await caller.turn(turn, at=replicas[1]))["usage"]
                return (usage["requests"], usage["tool_calls"]) == (1, 1)

            await eventually(told, "the store knows what was used")
            replicas[0].kill()
            replicas.runs.open("gate")
            ended = await caller.ended(turn, at=replicas[1])
            assert (ended["state"], ended["attempt"]) == ("completed", 2)
            assert (ended["usage"]["requests"], ended["usage"]["input_tokens"]) == (2, 2 * SHARE)
            assert (await _settled(caller, replicas[1]))["spent"] == 2 * SHARE
        await audit(redis.url, replicas.runs, accepted=[turn])


async def _settled(caller: Caller, replica: Replica) -> dict[str, int]:
    """The limit and what is spent, once nothing is set aside: a turn is answered before it is
    counted.
    """
    async with asyncio.timeout(PATIENCE_S):
        while True:
            reply = await caller.call("GET", replica.url + "/v1/budgets")
            (row,) = reply.body["budgets"]
            if not row["tokens"]["reserved"]:
                return {name: row["tokens"][name] for name in ("limit", "spent")}
