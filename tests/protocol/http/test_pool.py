"""Agents, the pool, health and readiness over HTTP."""

from __future__ import annotations

import asyncio

import pytest

from pool import AgentSpec, PoolConfig
from pool.guard.keys import ApiKeys
from protocol.authenticate.config import AuthConfig
from tests.support.serving import echo, serving, until
from tests.support.serving_agents import Held

pytestmark = pytest.mark.real_time


async def test_agents_are_listed_with_the_default_one() -> None:
    """Name, description, default."""
    agents = {"a": AgentSpec(agent=echo, description="says it again"), "b": echo}
    async with serving(agents) as peer:
        assert await (await peer.get("/v1/agents")).json() == {
            "agents": [
                {"name": "a", "description": "says it again", "default": True},
                {"name": "b", "description": "", "default": False},
            ]
        }


async def test_the_pools_live_state_can_be_read() -> None:
    """Actors by state, queue, oldest wait, limit, rates."""
    held = Held()
    async with serving(AgentSpec(agent=held, max=1)) as peer:
        for number in range(2):
            place, headers = f"/v1/sessions/s{number}/turns", {"Prefer": "respond-async"}
            await peer.post(place, {"input": "x"}, headers=headers)
        await held.running.wait()
        stats = await (await peer.get("/v1/pool")).json()
        (agent,) = stats["agents"]
        assert (stats["turns"], agent["actors"]["busy"], agent["queued"]) == (2, 1, 1)
        assert {"oldest_wait_s", "limit", "rates"} <= set(agent)


async def test_an_agent_can_be_resized() -> None:
    """The answer is the pool's state, after."""
    async with serving({"a": AgentSpec(agent=echo, min=1, max=2)}) as peer:
        response = await peer.request("PATCH", "/v1/pool/a", json={"min": 2, "max": 5})
        assert response.status == 200
        (agent,) = (await response.json())["agents"]
        assert (agent["min"], agent["max"]) == (2, 5)


@pytest.mark.parametrize(
    ("place", "body", "status"),
    [
        ("/v1/pool/nobody", {"max": 2}, 404),
        ("/v1/pool/a", {}, 400),
        ("/v1/pool/a", {"max": 0}, 400),
        ("/v1/pool/a", {"min": 3, "max": 2}, 400),
        ("/v1/pool/a", {"min": -1}, 400),
        ("/v1/pool/a", {"size": 1}, 400),
    ],
)
async def test_a_wrong_size_is_refused(place: str, body: object, status: int) -> None:
    """And nothing changes."""
    async with serving({"a": echo}) as peer:
        before = (await (await peer.get("/v1/pool")).json())["agents"][0]
        response = await peer.request("PATCH", place, json=body)
        assert (response.status, response.content_type) == (status, "application/problem+json")
        after = (await (await peer.get("/v1/pool")).json())["agents"][0]
        assert (before["min"], before["max"]) == (after["min"], after["max"])


async def test_resizing_takes_an_admin() -> None:
    """403 for everybody else."""
    async with serving({"a": echo}, auth=AuthConfig(mode="keys")) as peer:
        made = await ApiKeys(peer.pool.store).create(roles=("operator",))
        headers = {"X-API-Key": made.text}
        response = await peer.request("PATCH", "/v1/pool/a", json={"max": 3}, headers=headers)
        assert response.status == 403
        assert (await response.json(content_type=None))["code"] == "forbidden"


async def test_a_server_that_is_fine_is_healthy_and_ready() -> None:
    """With a check for each thing it depends on."""
    async with serving({"a": echo}) as peer:
        assert await (await peer.get("/health")).json() == {"status": "ok"}
        await peer.post("/v1/sessions/s1/turns", {"input": "x"})
        response = await peer.get("/ready")
        body = await response.json()
        assert (response.status, body["ready"]) == (200, True)
        assert body["checks"]["agent:a"] == {"ok": True}
        assert body["checks"]["store"] == {"ok": True}


async def test_a_draining_server_is_alive_and_not_ready() -> None:
    """503 with the check that fails, before its turns have ended."""
    held = Held()
    async with serving(held) as peer:
        headers = {"Prefer": "respond-async"}
        await peer.post("/v1/sessions/s1/turns", {"input": "x"}, headers=headers)
        await held.running.wait()
        draining = asyncio.ensure_future(peer.server.drain(10))
        await until(lambda: peer.pool.draining)
        response = await peer.get("/ready")
        body = await response.json()
        assert (response.status, body["ready"]) == (503, False)
        assert body["checks"]["draining"]["ok"] is False
        assert int(response.headers["Retry-After"]) >= 1
        assert (await peer.get("/health")).status == 200
        held.release.set()
        await draining


async def test_an_agent_that_cannot_open_makes_the_server_unready() -> None:
    """Readiness says which."""

    class Broken:
        def __init__(self) -> None:
            raise OSError("no key")

    pool = PoolConfig(backoff_first_s=0.001, restarts_max=1)
    async with serving({"a": AgentSpec(agent=Broken)}, pool=pool) as peer:
        response = await peer.get("/ready")
        while response.status == 200:
            response = await peer.get("/ready")
        check = (await response.json())["checks"]["agent:a"]
        assert check["ok"] is False
        assert "no key" not in check["detail"]
