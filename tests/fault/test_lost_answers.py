"""What was asked is done, and the answer is lost on the way."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.fault.audit import audit
from tests.fault.clients import Caller, Reply, calling, eventually
from tests.fault.replicas import fleet, fleet_apart
from tests.support.proxy import Proxy, proxied
from tests.support.redis_servers import redis_server

pytestmark = pytest.mark.real_time(25)


async def lose_answer(caller: Caller, wire: Proxy, path: str, body: object, **headers: Any) -> None:
    """Ask through the proxy, which hands the request on and loses the answer."""
    wire.losing = True
    try:
        reply: Reply | None = None
        with suppress(aiohttp.ClientError):
            reply = await caller.call("POST", wire.url + path, body, timeout_s=3, **headers)
        assert reply is None
    finally:
        wire.losing = False


async def test_a_submit_whose_answer_was_lost_is_the_same_turn_again(tmp_path: Path) -> None:
    """Row 33: sent again with its key, here or at another replica, it gives the turn that runs."""
    with redis_server() as redis, fleet(2, redis.url, tmp_path) as replicas:
        async with calling(replicas) as caller, proxied(replicas[0].port) as wire:
            path, body = "/v1/sessions/s/turns", {"input": "hold=gate say=2"}
            headers: dict[str, Any] = {"Idempotency_Key": "once", "Prefer": "respond-async"}
            await lose_answer(caller, wire, path, body, **headers)

            async def ran() -> bool:
                return len(replicas.runs.all()) == 1

            await eventually(ran, "it runs although nobody was told")
            again = [
                (await caller.call("POST", url + path, body, **headers)).body["id"]
                for url in (wire.url, replicas[1].url, replicas[0].url)
            ]
            assert set(again) == {replicas.runs.all()[0].turn_id}
            replicas.runs.open("gate")
            assert (await caller.ended(again[0]))["state"] == "completed"
            # also when it has ended
            reply = await caller.call("POST", replicas[1].url + path, body, Idempotency_Key="once")
            assert (reply.status, reply.body["id"]) == (200, again[0])
        account = await audit(redis.url, replicas.runs, accepted=again)
        assert account.states == {"completed": 1}


async def test_a_decision_whose_answer_was_lost_gives_the_same_result(tmp_path: Path) -> None:
    """Row 33: an approval sent again with its key is no conflict: it gives the turn, at any
    replica, also when it has ended. Without the key, or with another decision, it is one.
    """
    with redis_server() as redis, fleet(2, redis.url, tmp_path) as replicas:
        async with calling(replicas) as caller, proxied(replicas[0].port) as wire:
            turn = await caller.submit("s", "ask hold=gate say=1", at=replicas[0])
            await caller.comes_to(turn, "waiting", at=replicas[1])
            path, body = f"/v1/turns/{turn}/approvals/asked", {"decision": "approve"}
            await lose_answer(caller, wire, path, body, Idempotency_Key="once")
            for url in (wire.url, replicas[1].url):
                reply = await caller.call("POST", url + path, body, Idempotency_Key="once")
                assert (reply.status, reply.body["id"]) == (200, turn), reply
            replicas.runs.open("gate")
            ended = await caller.ended(turn)
            assert ended["output"] == "[allow]held.word0 "
            for replica in replicas:
                url = replica.url + path
                reply = await caller.call("POST", url, body, Idempotency_Key="once")
                assert (reply.status, reply.body) == (200, ended)
                assert (await caller.call("POST", url, body)).status == 409
                deny = {"decision": "deny"}
                reply = await caller.call("POST", url, deny, Idempotency_Key="once")
                assert reply.status in (409, 422), reply
        await audit(redis.url, replicas.runs, accepted=[turn])


async def test_lost_answers_of_redis_do_nothing_twice(tmp_path: Path) -> None:
    """Between a replica and Redis answers are lost again and again while turns run: what was
    written is not written twice, nothing is lost, and every caller gets an answer.
    """
    with redis_server() as redis:
        async with proxied(redis.port) as wire:
            url = f"redis://127.0.0.1:{wire.port}/0"
            async with fleet_apart(1, url, tmp_path, lease_s=3.0) as replicas:
                async with calling(replicas) as caller:
                    losing = asyncio.create_task(lose_now_and_then(wire, caller))
                    turns = await asyncio.gather(
                        *(
                            caller.submit(f"s{n % 20}", f"{n} say=8:15 tool say=4", key=f"k{n}")
                            for n in range(60)
                        )
                    )
                    for turn in turns:
                        assert (await caller.ended(turn))["state"] == "completed"
                    losing.cancel()
                    await asyncio.wait([losing])
                account = await audit(redis.url, replicas.runs, accepted=turns)
                assert account.states == {"completed": 60} and len(set(turns)) == 60


async def lose_now_and_then(wire: Proxy, caller: Caller) -> None:
    """Every now and then all answers that are on their way are lost."""
    while True:
        await asyncio.sleep(caller.random.uniform(0.05, 0.2))
        wire.losing = True
        await asyncio.sleep(0.03)
        wire.losing = False
