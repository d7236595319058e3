"""Ids and texts that are made to become other keys, paths or lines than they should."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from typing import Final
from urllib.parse import quote

import pytest

from tests.fault.clients import Caller, calling
from tests.fault.replicas import Fleet, fleet
from tests.support.redis_process import RedisServer
from tests.support.redis_servers import redis_server

pytestmark = pytest.mark.real_time(20)

HOSTILE: Final = (
    "../default/s",
    "..",
    "{}",
    "{0}:t:x",
    "s:log",
    "default:s",
    "*",
    "s?",
    "s[a-z]",
    "s\r\nFLUSHALL\r\n",
    "s\nx",
    "s\x00x",
    "s x",
    "s%2e%2e",
    "\u202es",
    "s" * 10_240,
)
# A form of request for each place in which a caller's id gets in: method, path and body.
ROUTES: Final[Sequence[tuple[str, str, dict[str, str] | None]]] = (
    ("GET", "/v1/sessions/{}", None),
    ("DELETE", "/v1/sessions/{}", None),
    ("GET", "/v1/sessions/{}/messages", None),
    ("GET", "/v1/sessions/{}/events", None),
    ("POST", "/v1/sessions/{}/turns", {"input": "say=1"}),
    ("POST", "/v1/sessions/{}/fork", {}),
    ("GET", "/v1/turns/{}", None),
    ("GET", "/v1/turns/{}/events", None),
    ("POST", "/v1/turns/{}/cancel", None),
    ("POST", "/v1/turns/x/approvals/{}", {"decision": "approve"}),
)
BODIES: Final[Sequence[tuple[str, str, dict[str, str]]]] = (
    ("/v1/sessions", "session_id", {}),
    ("/v1/sessions", "agent", {}),
    ("/v1/sessions/good/fork", "session_id", {}),
    ("/v1/sessions/good/fork", "through_turn", {}),
    ("/v1/sessions/good/turns", "agent", {"input": "say=1"}),
    ("/agent/invoke", "thread_id", {"message": "say=1"}),
    ("/agent/run", "session_id", {"message": "say=1"}),
)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Fleet, RedisServer]]:
    """One replica, and its Redis."""
    home = tmp_path_factory.mktemp("hostile")
    with redis_server() as redis, fleet(1, redis.url, home) as replicas:
        yield replicas, redis


def keys(redis: RedisServer) -> set[str]:
    """All keys of the store, but for those of usage: a turn's is written when a second is over."""
    return {key for key in redis.execute("KEYS", "*") if "usage" not in key}


async def good(caller: Caller) -> str:
    """A turn in a session called good, so that there is something to be taken for."""
    turn = await caller.submit("good", "say=1", key="good")
    await caller.ended(turn)
    return turn


@pytest.mark.parametrize(("method", "path", "body"), ROUTES)
async def test_a_hostile_id_in_a_path_makes_no_key(
    served: tuple[Fleet, RedisServer], method: str, path: str, body: dict[str, str] | None
) -> None:
    """Row 24: an id of the wrong form is refused on every route; the keys stay."""
    fleet, redis = served
    async with calling(fleet) as caller:
        await good(caller)
        before = keys(redis)
        for hostile in HOSTILE:
            place = path.format(quote(hostile, safe=""))
            if len(place) > 8_000:
                place = path.format(hostile[:2_000])
            reply = await caller.call(method, fleet[0].url + place, body)
            assert reply.status in (400, 404), (hostile, reply)
        assert keys(redis) <= before


@pytest.mark.parametrize(("path", "field", "body"), BODIES)
async def test_a_hostile_id_in_a_body_makes_no_key(
    served: tuple[Fleet, RedisServer], path: str, field: str, body: dict[str, str]
) -> None:
    """Row 24: so is one in a body."""
    fleet, redis = served
    async with calling(fleet) as caller:
        await good(caller)
        before = keys(redis)
        for hostile in HOSTILE:
            reply = await caller.call("POST", fleet[0].url + path, {**body, field: hostile})
            assert reply.status in (400, 404), (hostile, reply)
        assert keys(redis) <= before


async def test_a_hostile_id_on_a_websocket_makes_no_key(
    served: tuple[Fleet, RedisServer],
) -> None:
    """Row 24: so is one in any command of a WebSocket, which stays open."""
    fleet, redis = served
    async with calling(fleet) as caller:
        turn = await good(caller)
        before = keys(redis)
        url, protocols = f"{fleet[0].url}/v1/ws", ("actorpool.v1",)
        async with caller.http.ws_connect(url, protocols=protocols) as socket:
            await socket.send_json({"type": "hello"})
            assert (await socket.receive_json())["type"] == "welcome"
            for hostile in HOSTILE:
                for command in (
                    {"type": "turn", "session_id": hostile, "input": "say=1"},
                    {"type": "subscribe", "session_id": hostile},
                    {"type": "subscribe", "session_id": "good", "after": hostile},
                    {"type": "cancel", "turn_id": hostile},
                    {
                        "type": "approve",
                        "turn_id": turn,
                        "call_id": hostile,
                        "decision": "approve",
                    },
                ):
                    await socket.send_json({**command, "ref": 1})
                    answer = await socket.receive_json(timeout=2)
                    assert answer["type"] == "error", (command, answer)
                    assert answer["error"]["status"] in (400, 404, 409), answer
        assert keys(redis) <= before


async def test_hostile_cursors_are_refused(served: tuple[Fleet, RedisServer]) -> None:
    """Row 24: what is no cursor is 400, in the header and in the query."""
    fleet, redis = served
    async with calling(fleet) as caller:
        turn = await good(caller)
        before = keys(redis)
        url = f"{fleet[0].url}/v1/turns/{turn}/events"
        for hostile in (*HOSTILE, "1-", "-1", "1-1-1", "9" * 40 + "-1", "+", "$", "\u0661-\u0661"):
            if hostile.isprintable() and hostile.isascii() and len(hostile) < 8_000:
                reply = await caller.call("GET", url, Last_Event_ID=hostile)
                assert reply.status == 400, (hostile, reply)
            reply = await caller.call("GET", f"{url}?after={quote(hostile[:2_000], safe='')}")
            assert reply.status == 400, (hostile, reply)
        assert keys(redis) <= before


async def test_control_characters_are_not_reflected(served: tuple[Fleet, RedisServer]) -> None:
    """Row 24: CR, LF and NUL in headers are 400; none of them makes another header or key."""
    fleet, redis = served
    async with calling(fleet) as caller:
        await good(caller)
        before = keys(redis)
        for name in (b"X-Request-ID", b"Idempotency-Key", b"Last-Event-ID", b"Prefer"):
            for bad in (b"a\r\nX-Evil: 1", b"a\x00b", b"a\nb", b"a\rb"):
                answer = await raw(
                    fleet[0].port,
                    b"POST /v1/sessions/good/turns HTTP/1.1\r\nHost: 127.0.0.1\r\n"
                    b"Content-Type: application/json\r\nContent-Length: 2\r\n"
                    b"Connection: close\r\n" + name + b": " + bad + b"\r\n\r\n{}",
                )
                head = answer.partition(b"\r\n\r\n")[0]
                assert b" 400 " in head.partition(b"\r\n")[0], (name, bad, head)
                assert b"\r\nX-Evil" not in head and b"\x00" not in answer
        assert keys(redis) <= before


async def test_hostile_texts_are_only_text(served: tuple[Fleet, RedisServer]) -> None:
    """Inputs, metadata and idempotency keys may say anything: they come back as they were."""
    fleet, redis = served
    async with calling(fleet) as caller:
        for number, hostile in enumerate(HOSTILE):
            text, key = f"say=1 {hostile}", quote(hostile, safe="{}:*?[]")[:128]
            turn = await caller.submit(
                f"text{number}", text, key=key, metadata={"about": hostile, hostile: 1}
            )
            ended = await caller.ended(turn)
            assert (ended["state"], ended["input"]) == ("completed", text)
            assert ended["metadata"] == {"about": hostile, hostile: 1}
            assert (
                await caller.submit(
                    f"text{number}", text, key=key, metadata={"about": hostile, hostile: 1}
                )
                == turn
            )
        assert all("FLUSHALL" not in key and "\n" not in key for key in keys(redis))


async def raw(port: int, request: bytes) -> bytes:
    """What the server answers to bytes, until it closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(request)
        return await reader.read()
    finally:
        writer.close()
        await writer.wait_closed()
