"""Limits over HTTP and WebSocket: what answers say of them, and one connection too many."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest
from aiohttp import ClientResponse

from pool.guard.quota import QuotaLimits
from pool.guard.rate_windows import asking_of
from pool.guard.rates import RatedRequest, RateLimit
from pool.turn import Principal
from protocol.http.rates import rate_headers
from tests.support.costs import costs
from tests.support.principals import guarded
from tests.support.serving import serving, until
from tests.support.serving_agents import Held
from tests.support.sockets import connected, talking

pytestmark = pytest.mark.real_time

DAY = RateLimit(amount=3, window_s=86_400)
TURNS = "/v1/sessions/s/turns"
STREAM = {"Accept": "text/event-stream"}
ASYNC = {"Prefer": "respond-async"}
DOORS: tuple[tuple[str, dict[str, str], dict[str, str]], ...] = (
    (TURNS, {"input": "x"}, {}),
    (TURNS, {"input": "x"}, STREAM),
    (TURNS, {"input": "x"}, ASYNC),
    ("/agent/invoke", {"message": "x"}, {}),
    ("/agent/stream", {"message": "x"}, {}),
    ("/agent/run", {"message": "x"}, {}),
)


def left(response: ClientResponse) -> int:
    """How many requests an answer says are left."""
    assert (
        response.headers["RateLimit-Policy"]
        == '"principal-requests-86400";q=3;w=86400;qu="requests"'
    )
    found = re.fullmatch(r'"principal-requests-86400";r=(\d+);t=\d+', response.headers["RateLimit"])
    assert found is not None
    return int(found[1])


def test_the_header_fields_say_quota_and_rest() -> None:
    """In the words of draft-ietf-httpapi-ratelimit-headers-10; seconds are rounded up."""
    limits = [
        RateLimit(amount=5),
        RateLimit(who="tenant", what="tokens", amount=9, window_s=3_600),
    ]
    asking = asking_of(limits, Principal(), 7_200.5)
    request = RatedRequest(asking, 7_200.5, windows=asking.windows, counts=[1, 12])

    policy = (
        '"principal-requests-60";q=5;w=60;qu="requests", '
        '"tenant-tokens-3600";q=9;w=3600;qu="tokens"'
    )
    assert rate_headers(request) == (
        ("RateLimit-Policy", policy),
        ("RateLimit", '"principal-requests-60";r=4;t=60, "tenant-tokens-3600";r=0;t=3600'),
    )
    assert rate_headers(RatedRequest(asking, 7_200.5)) == ()


@pytest.mark.parametrize(("path", "body", "headers"), DOORS)
async def test_every_door_says_how_the_caller_stands(
    path: str, body: dict[str, str], headers: dict[str, str]
) -> None:
    """On each answer, and on the refusal, which says when to come back; reading costs nothing."""
    async with serving(engine=costs(rates=(DAY,))) as peer:
        for number in (2, 1, 0):
            response = await peer.post(path, body, headers=headers)
            assert (response.status in (200, 202), left(response)) == (True, number)
        read = await peer.get("/v1/sessions")
        assert (read.status, "RateLimit" in read.headers) == (200, False)
        refused = await peer.post(path, body, headers=headers)
        said = await refused.json(content_type=None)
        assert (refused.status, said["code"], left(refused)) == (429, "rate_limited", 0)
        assert 0 < said["retry_after_s"] <= int(refused.headers["Retry-After"])


async def test_without_limits_nothing_is_said() -> None:
    """No header."""
    async with serving() as peer:
        response = await peer.post(TURNS, {"input": "x"})
        assert not [name for name in response.headers if name.startswith("RateLimit")]


async def test_a_failed_turn_says_how_the_caller_stands_too() -> None:
    """A problem is an answer like any other."""

    async def fails(text: str) -> str:
        raise ValueError

    async with serving(fails, engine=costs(rates=(DAY,))) as peer:
        response = await peer.post(TURNS, {"input": "x"})
        assert (response.status, left(response)) == (502, 2)


async def test_a_websocket_is_told_when_to_come_back() -> None:
    """The error has the seconds, and the socket stays open."""
    async with serving(engine=costs(rates=(DAY,))) as peer, talking(peer) as talk:
        for _ in range(3):
            assert (await talk.ask("turn", session_id="s", input="x"))["type"] == "accepted"
        answer = await talk.ask("turn", ref=7, session_id="s", input="x")
        assert (answer["type"], answer["ref"]) == ("error", 7)
        error = answer["error"]
        assert (error["code"], error["status"]) == ("rate_limited", 429)
        assert 0 < error["retry_after_s"] <= 86_400
        assert (await talk.ask("ping"))["type"] == "pong"


async def test_tenants_have_their_own_rates() -> None:
    """What one uses up is not another's."""
    rate = RateLimit(who="tenant", amount=1, window_s=86_400)
    async with guarded(Held(), engine=costs(rates=(rate,))) as (peer, keys):
        for tenant, status in (("acme", 202), ("acme", 429), ("rival", 202)):
            headers = {**ASYNC, **keys.of(tenant)}
            response = await peer.post(TURNS, {"input": "x"}, headers=headers)
            assert response.status == status


async def test_a_tenant_has_so_many_turns() -> None:
    """One more is 429 until one of them has ended."""
    held = Held()
    async with serving(held, engine=costs(turns=QuotaLimits(each=1))) as peer:
        assert (await peer.post(TURNS, {"input": "x"}, headers=ASYNC)).status == 202
        refused = await peer.post(TURNS, {"input": "x"}, headers=ASYNC)
        assert (refused.status, "Retry-After" in refused.headers) == (429, True)
        held.release.set()
        await until(lambda: not peer.pool.ledger.turns.held("default"))
        assert (await peer.post(TURNS, {"input": "x"})).status == 200


# --- connections

ONE = costs(connections=QuotaLimits(each=1))
STREAMS: tuple[tuple[str, str, Any, dict[str, str]], ...] = (
    ("POST", TURNS, {"input": "x"}, STREAM),
    ("POST", "/agent/stream", {"message": "x"}, {}),
    ("GET", "/v1/sessions/s/events", None, {}),
    ("GET", "/v1/turns/{turn}/events", None, {}),
)


@pytest.mark.parametrize(("method", "path", "body", "headers"), STREAMS)
async def test_a_stream_takes_one_of_the_tenants_connections(
    method: str, path: str, body: Any, headers: dict[str, str]
) -> None:
    """One more is 429, by any door, and submits nothing; one whose reader leaves makes room."""
    held = Held()
    async with guarded(held, engine=ONE) as (peer, keys):
        acme = {**headers, **keys.of("acme")}
        turn = await peer.post(TURNS, {"input": "x"}, headers={**ASYNC, **acme, "Accept": "*/*"})
        path = path.replace("{turn}", (await turn.json())["id"])
        quota = peer.pool.ledger.connections
        before = len((await peer.pool.store.sessions("acme", None, 10)).items)
        async with talking(peer, headers=acme):
            assert quota.held("acme") == 1
            refused = await peer.request(method, path, json=body, headers=acme)
            said = await refused.json(content_type=None)
            assert (refused.status, said["code"]) == (429, "rate_limited")
            assert "as many streams and WebSockets" in said["detail"]
            assert len((await peer.pool.store.sessions("acme", None, 10)).items) == before
            assert len(peer.pool._turns.live) == 1
        await until(lambda: not quota.held("acme"))
        url = peer.server.url + path
        reading = asyncio.ensure_future(peer.http.request(method, url, json=body, headers=acme))
        await until(lambda: quota.held("acme"))
        async with connected(peer, headers=acme) as talk:
            await talk.say("hello")
            closed = await talk.closed()
            assert (closed.code, closed.reason) == (4429, "the tenant has too many connections")
        async with talking(peer, headers=keys.of("rival")):
            assert (quota.held("acme"), quota.held("rival")) == (1, 1)
        await cut(reading)
        await until(lambda: not quota.held("acme") and not quota.held("rival"))


async def cut(reading: asyncio.Future[ClientResponse]) -> None:
    """The reader of a stream leaves, whether it has begun or not."""
    if not reading.done():
        reading.cancel()
        await asyncio.wait([reading])
    if not reading.cancelled():
        reading.result().close()


async def test_streams_that_end_give_their_places_back() -> None:
    """Those that were read to their end, had nothing left to say, or were refused."""
    async with serving(engine=ONE) as peer:
        for _ in range(2):
            response = await peer.post(TURNS, {"input": "x"}, headers=STREAM)
            assert (response.status, "turn.completed" in await response.text()) == (200, True)
        turn = (await (await peer.post(TURNS, {"input": "x"})).json())["id"]
        events = await (await peer.get(f"/v1/turns/{turn}/events")).text()
        last = events.split("id: ")[-1].split("\n")[0]
        for path, status in (
            (f"/v1/turns/{turn}/events?after={last}", 204),
            ("/v1/turns/none/events", 404),
            ("/v1/sessions/none/events", 404),
        ):
            assert (await peer.get(path)).status == status
        bad = await peer.post(TURNS, {"input": "x", "agent": "none"}, headers=STREAM)
        assert bad.status == 404
        assert repr(peer.pool.ledger.connections) == "<Quota [0 held by 0 tenants]>"


async def test_a_websocket_that_was_never_welcome_takes_no_place() -> None:
    """Without a hello, or with one too many, nothing is held."""
    async with serving(engine=ONE) as peer:
        quota = peer.pool.ledger.connections
        async with connected(peer):
            assert not quota.held("default")
        async with talking(peer), connected(peer) as second:
            await second.say("hello")
            await second.closed()
            assert quota.held("default") == 1
        await until(lambda: not quota.held("default"))
