"""The same request many times at once."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.fault.audit import audit
from tests.fault.clients import calling
from tests.fault.replicas import fleet
from tests.support.redis_servers import redis_server

pytestmark = pytest.mark.real_time(20)


@pytest.mark.parametrize("session", ["s", None], ids=["in a session", "without a session"])
async def test_a_hundred_submits_with_one_key_run_once(tmp_path: Path, session: str | None) -> None:
    """Row 18: the same idempotency key 100 times at once, at three replicas: one run, and the same
    turn 100 times; with another body it is refused everywhere.
    """
    with redis_server() as redis, fleet(3, redis.url, tmp_path) as replicas:
        async with calling(replicas) as caller:
            if session is not None:
                path, body = f"/v1/sessions/{session}/turns", {"input": "work=50 say=3"}
            else:
                path, body = "/agent/run", {"message": "work=50 say=3"}
            replies = await asyncio.gather(
                *(
                    caller.call(
                        "POST",
                        replicas[n % 3].url + path,
                        body,
                        Idempotency_Key="k",
                        Prefer="respond-async",
                    )
                    for n in range(100)
                )
            )
            assert {reply.status for reply in replies} == {202}
            (turn,) = {reply.body.get("id", reply.body.get("task_id")) for reply in replies}
            assert (await caller.ended(turn))["state"] == "completed"
            for replica in replicas:
                other = dict.fromkeys(body, "other")
                reply = await caller.call("POST", replica.url + path, other, Idempotency_Key="k")
                assert (reply.status, reply.body["code"]) == (422, "idempotency_mismatch")
        assert len(replicas.runs.all()) == 1
        await audit(redis.url, replicas.runs, accepted=[turn])
