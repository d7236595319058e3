"""The server as a whole: request ids, defects, its connections, how it drains and closes."""

from __future__ import annotations

import asyncio
import re
import socket

import pytest
import structlog
from aiohttp import ClientError, web

from pool import PoolConfig
from protocol.config import ServerConfig
from protocol.http.request import Request
from protocol.server import Server
from tests.support.serving import echo, events, serving, types, until
from tests.support.serving_agents import Held

pytestmark = pytest.mark.real_time

TURNS = "/v1/sessions/s1/turns"


async def test_every_answer_carries_a_request_id() -> None:
    """The caller's if it is well formed, else one of its own."""
    async with serving() as peer:
        for place in ("/health", "/nothing", "/v1/turns/t"):
            given = await peer.get(place, headers={"X-Request-ID": "a.b_C-1"})
            assert given.headers["X-Request-ID"] == "a.b_C-1"
            for malformed in ("a b", "<>", "x" * 129, ""):
                made = await peer.get(place, headers={"X-Request-ID": malformed})
                assert re.fullmatch("[0-9a-f-]+", made.headers["X-Request-ID"])
        one, other = await peer.get("/health"), await peer.get("/health")
        assert one.headers["X-Request-ID"] != other.headers["X-Request-ID"]


async def test_a_traceparent_names_the_request() -> None:
    """The trace id is the request's, unless it has one of its own; what is malformed counts not."""
    trace, rest = "0af7651916cd43dd8448eb211c80319c", "-00f067aa0ba902b7-01"
    good = [f"00-{trace}{rest}", f"cc-{trace}{rest}-more"]
    bad = [
        "nonsense",
        f"ff-{trace}{rest}",
        f"00-{'0' * 32}{rest}",
        f"00-{trace}",
        f"00-{trace}{rest}x",
    ]
    async with serving() as peer:
        for header in good:
            response = await peer.get("/health", headers={"traceparent": header})
            assert response.headers["X-Request-ID"] == trace
            both = {"traceparent": header, "X-Request-ID": "mine"}
            response = await peer.get("/health", headers=both)
            assert response.headers["X-Request-ID"] == "mine"
        for header in bad:
            response = await peer.get("/health", headers={"traceparent": header})
            assert response.status == 200
            assert response.headers["X-Request-ID"] not in (trace, "0" * 32)


async def test_a_defect_is_500_and_is_logged_once() -> None:
    """The caller learns the request id, the operator the rest."""

    async def broken(request: Request) -> web.StreamResponse:
        raise KeyError("hunter2")

    async with serving(extra_routes={("GET", "/broken"): broken}) as peer:
        with structlog.testing.capture_logs() as logs:
            response = await peer.get("/broken")
        body = await response.json(content_type=None)
        assert (response.status, body["code"]) == (500, "internal")
        assert "hunter2" not in str(body)
        (entry,) = logs
        assert (entry["log_level"], entry["request_id"]) == ("error", body["request_id"])
        assert isinstance(entry["exc_info"], KeyError)
        assert (await peer.get("/health")).status == 200


async def test_an_extra_route_is_served_and_described() -> None:
    """Like the server's own, request id and all."""

    async def page(request: Request) -> web.StreamResponse:
        return web.Response(text="numbers")

    async with serving(extra_routes={("GET", "/metrics"): page}) as peer:
        response = await peer.get("/metrics", headers={"X-Request-ID": "r"})
        assert (await response.text(), response.headers["X-Request-ID"]) == ("numbers", "r")
        document = await (await peer.get("/openapi.json")).json()
        assert "get" in document["paths"]["/metrics"]


async def test_connections_have_a_limit() -> None:
    """One too many is told so and turned away; it may come when another has left."""
    async with serving(config=ServerConfig(max_connections=1)) as peer:
        assert (await peer.get("/health")).status == 200
        answer = await peer.raw()
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b'"code":"overloaded"' in answer
        assert b"\r\nRetry-After: " in answer
        await peer.http.close()
        await until(lambda: not peer.server.open_connections)
        answer = await peer.raw(b"GET /health HTTP/1.0\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 200 ")


async def test_a_client_that_does_not_take_its_answer_is_cut_off() -> None:
    """A large answer does not hold a connection for ever."""

    async def wordy(text: str) -> str:
        return "x" * 40_000_000

    config, pool = ServerConfig(slow_reader_s=0.1), PoolConfig(max_output_bytes=2**26)
    async with serving(wordy, config=config, pool=pool) as peer:
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.connect(("127.0.0.1", peer.server.port))
        try:
            sock.sendall(
                b"POST /v1/sessions/s1/turns HTTP/1.1\r\nHost: localhost\r\n"
                b"Content-Length: 13\r\n\r\n"
                b'{"input":"x"}'
            )
            await until(lambda: peer.server.open_connections)
            await until(lambda: not peer.server.open_connections)
        finally:
            sock.close()


async def test_a_connection_is_kept_for_the_next_request() -> None:
    """HTTP/1.1 by default, HTTP/1.0 when asked to, and closed when that is asked for."""
    async with serving() as peer:
        reader, writer = await asyncio.open_connection("127.0.0.1", peer.server.port)
        for request in (
            b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n",
            b"GET /nothing HTTP/1.1\r\nHost: localhost\r\n\r\n",
            b"GET /health HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
            b"DELETE /v1/sessions/s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        ):
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"Content-Length: (\d+)", head)
            await reader.readexactly(int(length[1]) if length else 0)
        assert await reader.read() == b""
        assert b"Connection: close" in head
        writer.close()


async def test_a_drain_lets_running_turns_end() -> None:
    """They are answered in full, in whatever way they were asked, and then the server is gone."""
    held = Held()
    async with serving(held) as peer:
        url = peer.server.url
        plain = asyncio.ensure_future(peer.post(TURNS, {"input": "x"}))
        await held.running.wait()
        streamed = asyncio.ensure_future(
            peer.post(
                "/v1/sessions/s2/turns", {"input": "y"}, headers={"Accept": "text/event-stream"}
            )
        )
        await until(lambda: peer.server.bells)
        draining = asyncio.ensure_future(peer.server.drain(20))
        await until(lambda: peer.pool.draining)
        refused = await peer.post(TURNS, {"input": "z"})
        assert refused.status == 503
        held.release.set()
        await draining
        assert (await (await plain).json())["output"] == "late: x"
        assert types(events(await (await streamed).text()))[-1] == "turn.completed"
        with pytest.raises(ClientError):
            await peer.http.get(url)


async def test_a_drain_ends_at_its_deadline() -> None:
    """A turn that does not end is interrupted, and its caller is told."""
    held = Held()
    async with serving(held) as peer:
        waiting = asyncio.ensure_future(peer.post(TURNS, {"input": "x"}))
        await held.running.wait()
        await peer.server.drain(0.05)
        response = await waiting
        assert (response.status, (await response.json())["state"]) == (200, "interrupted")


async def test_closing_twice_is_fine() -> None:
    """The second time there is nothing to do."""
    async with serving() as peer:
        await peer.server.close()
        await peer.server.close()
        assert repr(peer.server) == "<Server closed [0 streams]>"
        with pytest.raises(RuntimeError, match="start"):
            _ = peer.server.port


async def test_a_port_that_is_taken_is_an_error() -> None:
    """And leaves nothing behind."""
    async with serving(echo) as peer:
        other = Server(peer.pool, config=ServerConfig(port=peer.server.port))
        with pytest.raises(OSError, match="address"):
            await other.start()
        await other.close()


async def test_a_websocket_is_opened_by_ticket() -> None:
    """The handshake goes through the same dispatch: request id, problems, tickets."""
    async with serving() as peer:
        issued = await peer.post("/v1/ws/tickets")
        ticket = (await issued.json())["ticket"]
        assert issued.status == 201
        url = peer.server.url + "/v1/ws"
        async with peer.http.ws_connect(url, protocols=["actorpool.v1"]) as ws:
            assert ws.get_extra_info("peername") is not None
            await ws.send_json({"type": "hello", "ticket": ticket})
            assert (await ws.receive_json())["type"] == "welcome"


async def test_a_wrong_handshake_is_a_problem() -> None:
    """Before the upgrade: no subprotocol is 400, a page of a strange origin 403."""
    async with serving() as peer:
        upgrade = {"Upgrade": "websocket", "Connection": "Upgrade"}
        key = {"Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="}
        response = await peer.get("/v1/ws", headers=upgrade | key)
        assert (response.status, response.content_type) == (400, "application/problem+json")
        strange = {"Origin": "https://evil.example", "Sec-WebSocket-Protocol": "actorpool.v1"}
        response = await peer.get("/v1/ws", headers=upgrade | key | strange)
        assert (response.status, response.content_type) == (403, "application/problem+json")
        assert "evil" not in await response.text()


async def test_a_drain_says_goodbye_to_websockets() -> None:
    """At once, and then the socket is closed as going away."""
    async with serving() as peer:
        url = peer.server.url + "/v1/ws"
        async with peer.http.ws_connect(url, protocols=["actorpool.v1"]) as ws:
            await ws.send_json({"type": "hello"})
            assert (await ws.receive_json())["type"] == "welcome"
            draining = asyncio.ensure_future(peer.server.drain(1))
            assert (await ws.receive_json())["type"] == "goodbye"
            await ws.receive()
            assert ws.close_code == 1001
            await draining
