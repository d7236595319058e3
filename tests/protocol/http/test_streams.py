"""Event streams: from the start, from a cursor, with nothing left, at the reader's own pace."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator

import pytest
import structlog
from aiohttp import ClientPayloadError

from pool import PoolConfig
from pool.agent import Context
from pool.errors import StoreUnavailable
from pool.events import Cursor, ReasoningDelta
from pool.store.base import EventPage, SessionKey
from pool.store.memory import MemoryStore
from protocol.config import ServerConfig
from tests.support.serving import Peer, blocks, echo, events, serving, types, until
from tests.support.serving_agents import Stepped

pytestmark = pytest.mark.real_time

TURNS = "/v1/sessions/s1/turns"
ASYNC = {"Prefer": "respond-async"}


async def _ended(peer: Peer, text: str = "hi") -> str:
    found: str = (await (await peer.post(TURNS, {"input": text})).json())["id"]
    return found


async def test_a_turns_events_can_be_read_again() -> None:
    """From the first event, with ids that are cursors, types and JSON."""
    async with serving() as peer:
        turn_id = await _ended(peer)
        response = await peer.get(f"/v1/turns/{turn_id}/events")
        found = blocks(await response.text())
        assert [block["event"] for block in found] == [
            "turn.queued",
            "turn.started",
            "text.delta",
            "turn.completed",
        ]
        assert [block["id"] for block in found] == [
            event["id"] for event in events(await response.text())
        ]


async def test_a_stream_goes_on_after_any_cursor() -> None:
    """What was read and what follows is the whole, whether by header or by query."""
    async with serving() as peer:
        place = f"/v1/turns/{await _ended(peer)}/events"
        whole = events(await (await peer.get(place)).text())
        for read in range(1, len(whole)):
            last = whole[read - 1]["id"]
            by_header = await peer.get(place, headers={"Last-Event-ID": last})
            assert events(await by_header.text()) == whole[read:]
            by_query = await peer.get(f"{place}?after={last}")
            assert events(await by_query.text()) == whole[read:]


async def test_a_cursor_at_or_past_the_end_is_204() -> None:
    """An EventSource then stops asking."""
    async with serving() as peer:
        turn_id = await _ended(peer)
        place = f"/v1/turns/{turn_id}/events"
        last = events(await (await peer.get(place)).text())[-1]["id"]
        at_end = await peer.get(place, headers={"Last-Event-ID": last})
        assert (at_end.status, await at_end.text()) == (204, "")
        epoch, _, seq = last.partition("-")
        await _ended(peer, "another turn of the session")
        past = await peer.get(f"{place}?after={epoch}-{int(seq) + 1}")
        assert past.status == 204


@pytest.mark.parametrize("cursor", ["x", "1", "1-", "-1", "1-2-3", "%0d%0a", "9" * 30 + "-1"])
async def test_a_malformed_cursor_is_400(cursor: str) -> None:
    """On every stream, before its first byte."""
    async with serving() as peer:
        turn_id = await _ended(peer)
        for place in (f"/v1/turns/{turn_id}/events", "/v1/sessions/s1/events"):
            response = await peer.get(f"{place}?after={cursor}")
            assert response.status == 400
            assert (await response.json(content_type=None))["code"] == "invalid_request"


async def test_a_cursor_of_an_unknown_epoch_is_told_that_history_is_lost() -> None:
    """The first event says from where to where, and its id is the new cursor."""
    async with serving() as peer:
        turn_id = await _ended(peer)
        response = await peer.get(f"/v1/turns/{turn_id}/events?after=1-1")
        found = events(await response.text())
        assert found[0]["type"] == "history.lost"
        assert found[0]["from"] == "1-1"
        assert found[0]["to"] == found[0]["id"]


async def test_words_arrive_as_they_are_said() -> None:
    """A live stream does not wait for the end of the turn."""
    agent = Stepped()
    async with (
        serving(agent) as peer,
        peer.http.post(
            peer.server.url + TURNS,
            json={"input": "one two three"},
            headers={"Accept": "text/event-stream"},
        ) as response,
    ):
        read = ""
        for word in ("one", "two", "three"):
            assert f'"{word}"' not in read
            agent.step()
            while f'"{word}"' not in read:
                read += (await response.content.readany()).decode()
        rest = (await response.content.read()).decode()
        assert types(events(read + rest))[-1] == "turn.completed"


async def test_a_sessions_stream_tells_of_all_its_turns() -> None:
    """From now on, or from a cursor."""
    async with serving() as peer:
        await _ended(peer, "before")
        async with peer.http.get(peer.server.url + "/v1/sessions/s1/events") as response:
            first, second = await _ended(peer, "one"), await _ended(peer, "two")
            read = ""
            while read.count("turn.completed") < 4:
                read += (await response.content.readany()).decode()
            found = events(read)
            assert [e["turn_id"] for e in found if e["type"] == "turn.queued"] == [first, second]
        assert (await peer.get("/v1/sessions/nothing/events")).status == 404


async def test_a_quiet_stream_says_so_at_once_and_again() -> None:
    """A comment opens it, and one follows every `sse_heartbeat_s`."""
    config = ServerConfig(sse_heartbeat_s=0.02)
    async with serving(config=config) as peer:
        await _ended(peer)
        async with peer.http.get(peer.server.url + "/v1/sessions/s1/events") as response:
            read = b""
            while read.count(b":\n\n") < 3:
                read += await response.content.readany()
            assert not read.replace(b":\n\n", b"")


async def test_a_reader_that_takes_nothing_is_cut_off_and_delays_nobody() -> None:
    """Its turn ends all the same, others read on, and it can resume."""

    async def talkative(text: str) -> AsyncIterator[str]:
        for _ in range(120):
            yield "x" * 100_000
            await asyncio.sleep(0)

    config = ServerConfig(slow_reader_s=0.5, sse_high_water_bytes=64 * 1024)
    agents = {"echo": echo, "talkative": talkative}
    pool = PoolConfig(max_output_bytes=2**26)
    with structlog.testing.capture_logs() as logs:
        async with serving(agents, config=config, pool=pool) as peer:
            await _ignore(peer)
    assert "slow reader cut off" in [entry["event"] for entry in logs]


async def _ignore(peer: Peer) -> None:
    """Read nothing of a talkative turn's stream while others are served."""
    body = {"input": "x", "agent": "talkative"}
    accepted = await peer.post(TURNS, body, headers=ASYNC)
    turn_id = (await accepted.json())["id"]
    sock = socket.create_connection(("127.0.0.1", peer.server.port))
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    try:
        request = f"GET /v1/turns/{turn_id}/events HTTP/1.1\r\nHost: localhost\r\n\r\n"
        sock.sendall(request.encode())
        await until(lambda: peer.server.bells)
        other = await peer.post("/v1/sessions/s2/turns", {"input": "hi"})
        assert other.status == 200
        ended = await (await peer.get(f"/v1/turns/{turn_id}?wait_s=20")).json()
        assert ended["state"] == "completed"
        await until(lambda: not peer.server.bells)
    finally:
        sock.close()
    again = await peer.get(f"/v1/turns/{turn_id}/events")
    assert types(events(await again.text()))[-1] == "turn.completed"


async def test_a_stream_ends_when_the_server_closes() -> None:
    """A session's stream has no end of its own: it gets one, in good order."""
    async with serving() as peer:
        await _ended(peer)
        async with peer.http.get(peer.server.url + "/v1/sessions/s1/events") as response:
            await response.content.readany()
            await peer.server.close()
            assert await response.content.read() == b""


async def test_a_stream_over_http_1_0_ends_with_the_connection() -> None:
    """It has no chunks."""
    async with serving() as peer:
        turn_id = await _ended(peer)
        request = f"GET /v1/turns/{turn_id}/events HTTP/1.0\r\n\r\n"
        head, _, body = (await peer.raw(request.encode())).partition(b"\r\n\r\n")
        assert b"Transfer-Encoding" not in head
        assert types(events(body.decode()))[-1] == "turn.completed"


class Fading(MemoryStore):
    """A store that answers `left` more questions about events, and then none."""

    left = 1_000_000

    async def events(self, key: SessionKey, after: Cursor, limit: int) -> EventPage:
        """The events, while it answers."""
        self.left -= 1
        if self.left < 0:
            raise StoreUnavailable("the store does not answer", retry_after_s=2.0)
        return await super().events(key, after, limit)


async def test_a_store_that_fails_before_a_stream_begins_is_503() -> None:
    """A problem like any other: nothing has been sent yet."""
    store = Fading()
    async with serving(store=store) as peer:
        turn_id = await _ended(peer)
        store.left = 0
        response = await peer.get(f"/v1/turns/{turn_id}/events")
        assert (response.status, response.content_type) == (503, "application/problem+json")
        assert int(response.headers["Retry-After"]) >= 2
        assert (await response.json(content_type=None))["code"] == "store_unavailable"


async def test_a_store_that_fails_later_breaks_the_stream_off() -> None:
    """Too late for a problem: the reader sees a stream without an end, and resumes."""

    async def thinking(text: str, ctx: Context) -> str:
        for _ in range(3_000):
            await ctx.emit(ReasoningDelta("x"))
        return text

    store = Fading()
    async with serving(thinking, store=store) as peer:
        turn_id = await _ended(peer)
        place = f"/v1/turns/{turn_id}/events"
        store.left = 2
        with structlog.testing.capture_logs() as logs, pytest.raises(ClientPayloadError):
            await peer.get(place)
        assert [entry["event"] for entry in logs] == ["stream broken"]
        store.left = 1_000_000
        whole = events(await (await peer.get(place)).text())
        assert len(whole) == 3_004
        assert types(whole)[-1] == "turn.completed"
