"""Names that are made to become other keys, paths, lines or headers than they should.

FAULTS row 24, on a real Redis and on SQLite: every place of an id, found from the routes.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import quote

import pytest
from yarl import URL

from pool.store.redis import RedisStore
from pool.store.sqlite import SqliteStore
from protocol.config import ServerConfig
from protocol.routes import ROUTES
from tests.security.raw import HANDSHAKE, JSON, request, said
from tests.security.surfaces import IDS, bodies, commands, filled, queries
from tests.support.redis_process import RedisServer
from tests.support.redis_servers import redis_server
from tests.support.serving import Peer, serving
from tests.support.sockets import frame, talking

pytestmark = pytest.mark.real_time(20)

NAMES = (
    *("../", "..", "../default/s", "{}", "{A}:s:x", ":", "default:s", "*", "s?", "s[a-z]"),
    *("s\r\nFLUSHALL\r\n", "s\nx", "s\n", "s\rx", "s\0x", "s x", "", "s%2e", "s;x", "s/x", "s'--"),
    *("\u202es", "\u0455", "s\u0000", "$", "s" * 65, "s" * 10_240),
)
# What fits into a request line.
LONGEST = 6_000

# The names of all that a store keeps.
Kept = Callable[[], Any]


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    """A real Redis for all tests here."""
    with redis_server() as server:
        yield server


@pytest.fixture(params=["redis", "sqlite"])
def opening(request, redis, tmp_path):
    """A server on a store with one session, `s`, that has one turn; and what the store keeps."""

    def of_redis() -> Any:
        return set(redis.execute("KEYS", "*"))

    def of_sqlite() -> Any:
        with sqlite3.connect(f"file:{tmp_path / 'pool.db'}?mode=ro", uri=True) as file:
            tables = ("sessions", "turns", "log", "keys", "states", "documents", "counters")
            found = {name: file.execute(f"SELECT * FROM {name}").fetchall() for name in tables}  # noqa: S608
        file.close()
        return found

    @asynccontextmanager
    async def opened() -> AsyncIterator[tuple[Peer, str, Kept]]:
        if request.param == "redis":
            redis.execute("FLUSHALL")
        store = (
            RedisStore(redis.url) if request.param == "redis" else SqliteStore(tmp_path / "pool.db")
        )
        try:
            async with serving(store=store) as peer:
                response = await peer.post("/v1/sessions/s/turns", {"input": "x"})
                turn = (await response.json())["id"]
                yield peer, turn, of_redis if request.param == "redis" else of_sqlite
        finally:
            await store.close()

    return opened


async def refused(peer, method, path, **options):
    """Check that a request is 400, and that its answer repeats none of the names."""
    # as it is: a client of good manners would take `..` out of it
    url = URL(peer.server.url + path, encoded=True)
    async with peer.http.request(method, url, **options) as response:
        body = await response.text()
    assert (response.status, '"invalid_request"' in body) == (400, True), (path[:99], options, body)
    assert len(body) < 1_000
    assert not [name for name in NAMES if len(name) > 2 and name in str(response.headers)]


async def test_a_hostile_name_in_a_path_is_400(opening):
    """On every route with a place for one; what the store keeps stays as it is."""
    async with opening() as (peer, _, kept):
        before = kept()
        for route in ROUTES:
            for place in IDS:
                if place not in route.path:
                    continue
                for name in NAMES:
                    part = quote(name[:LONGEST], safe="")
                    path = filled(route.path.replace(place, "PLACE")).replace("PLACE", part)
                    if part:
                        await refused(peer, route.method, path)
        assert kept() == before


async def test_a_hostile_name_in_a_body_is_400(opening):
    """In every field of every body that is an id."""
    async with opening() as (peer, _, kept):
        before = kept()
        for place in bodies():
            for field in place.surface.ids:
                for name in NAMES:
                    body = {**place.surface.good, field: name}
                    await refused(peer, place.method, place.path, json=body)
        assert kept() == before


async def test_a_hostile_name_in_a_command_is_an_error(opening):
    """In every field of every command that is an id, or that names sessions; the socket stays."""
    async with opening() as (peer, turn, kept), talking(peer) as talk:
        before = kept()
        for command in commands():
            for field in command.ids:
                for name in NAMES:
                    value = {name: None} if field == "sessions" else name
                    if command.name == "hello":
                        continue
                    answer = await talk.ask(command.name, **{**command.good, field: value})
                    assert answer["type"] == "error", (command, name)
                    assert answer["error"]["code"] == "invalid_request", (command, answer)
        for name in NAMES:
            answer = await talk.ask("approve", turn_id=turn, call_id=name or "x", decision="deny")
            assert answer["error"]["status"] in (400, 409)
        assert await talk.ask("ping") == {"type": "pong"}
        assert kept() == before


async def test_a_hostile_name_in_a_hello_is_an_error(opening):
    """The sessions to go on with are names too."""
    async with opening() as (peer, _, kept):
        before = kept()
        for name in NAMES:
            async with peer.http.ws_connect(
                peer.server.url + "/v1/ws", protocols=("actorpool.v1",)
            ) as socket:
                await socket.send_json({"type": "hello", "sessions": {name: None}})
                answer = await socket.receive_json()
            assert answer["error"]["code"] == "invalid_request", name
        assert kept() == before


async def test_a_hostile_cursor_is_400(opening):
    """In every query that has one, and in the header; on a WebSocket it is an error."""
    async with opening() as (peer, turn, kept):
        before = kept()
        for place in queries():
            for field in {"cursor", "after"} & place.surface.fields.keys():
                path = place.path.replace("/none", f"/{turn}")
                for name in NAMES:
                    value = quote(name[:LONGEST], safe="")
                    await refused(peer, place.method, f"{path}?{field}={value}")
        async with talking(peer) as talk:
            for name in NAMES:
                for kind, field in (("subscribe", "after"), ("ack", "cursor")):
                    answer = await talk.ask(kind, session_id="s", **{field: name})
                    assert answer["error"]["code"] == "invalid_request", name
        assert kept() == before


BREAKS = (
    b"a\r\nX-Evil: 1",
    b"a\nX-Evil: 1",
    b"a\rX-Evil: 1",
    b"a\0X-Evil: 1",
    b"a\r\n\r\nX-Evil: 1",
)
# Ends what was upgraded in spite of it all.
CLOSE = frame(0x8, (1000).to_bytes(2, "big"))
REFLECTED = ("X-Request-ID", "traceparent", "Prefer", "Origin", "Idempotency-Key", "Last-Event-ID")
WAYS = {
    "a page": ("GET", "/health", ()),
    "a turn": ("POST", "/v1/sessions/s/turns", (JSON, "Content-Length: 0")),
    "nothing": ("GET", "/nothing", ()),
    "a handshake": ("GET", "/v1/ws", ("Connection: Upgrade", *HANDSHAKE)),
    "a preflight": ("OPTIONS", "/health", ("Access-Control-Request-Method: POST",)),
}


@pytest.mark.parametrize("value", BREAKS, ids=["CR LF", "LF", "CR", "NUL", "an empty line"])
async def test_control_characters_make_no_line_of_an_answer(value):
    """CR, LF and NUL in what may be repeated to the caller: no header, no second answer of it."""
    async with serving(config=ServerConfig(cors_origins=("https://chat.example",))) as peer:
        for method, path, more in WAYS.values():
            for name in (*REFLECTED, "Sec-WebSocket-Protocol", "Host", "Accept"):
                line = name.encode() + b": " + value
                data = request(method, path, "Connection: close", *more, line, body=CLOSE)
                found = await said(peer.server.port, data)
                assert b"\nX-Evil" not in found.data, (path, name, found)
                assert b"\rX-Evil" not in found.data and b"\0" not in found.data
                assert found.answers == 1
                # with CR LF it is a header of the request like any other
                assert found.status == 400 or value.startswith(b"a\r\n"), (path, name, found)


async def test_control_characters_in_a_path_are_not_repeated():
    """Percent-encoded they get as far as the router: the answer does not name the path."""
    async with serving() as peer:
        for text in ("%0d%0aX-Evil:%201", "%0aX-Evil:%201", "%00", "%0d", "%e2%80%a8"):
            for path in (
                f"/{text}",
                f"/v1/sessions/{text}",
                f"/v1/agents?{text}=1",
                f"/health?a={text}",
            ):
                found = await said(peer.server.port, request("GET", path, "Connection: close"))
                assert found.status in (400, 404)
                assert b"X-Evil" not in found.data, path
                assert found.data.isascii() and b"\0" not in found.data


async def test_what_is_repeated_is_what_was_sent_or_nothing():
    """A request id that is not well formed is replaced by one of ours, never cleaned."""
    async with serving() as peer:
        for sent in ("a b", "<b>", "x" * 129, "a\tb", "\u00e9", '"', "a,b", "a;b", "%0a", ""):
            data = request("GET", "/health", "Connection: close", f"X-Request-ID: {sent}")
            found = await said(peer.server.port, data)
            assert re.search(rb"\r\nX-Request-ID: [0-9a-f]{12}-[0-9a-f]+\r\n", found.data), sent
