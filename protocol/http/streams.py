"""Events over HTTP: a reader's batches, written as server-sent events."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import structlog
from msgspec import Struct

from pool.events import Cursor, Event
from pool.reader import Reader
from protocol import encode, sse
from protocol.http.rates import stream_place
from protocol.http.reply import Answer, Reply, StreamReply

if TYPE_CHECKING:
    from protocol.http.request import Request
    from protocol.server import Server

_log = structlog.get_logger("protocol.streams")


class AfterQuery(Struct, frozen=True, forbid_unknown_fields=True):
    """`after`: go on after this cursor; the header `Last-Event-ID` goes before it."""

    after: str | None = None


class StreamCut(Exception):
    """The stream ended before its time; the connection is gone. `reply` is what was begun."""

    def __init__(self, reply: StreamReply) -> None:
        super().__init__("the stream was cut off")
        self.reply = reply


class Bell:
    """Wakes the one coroutine that waits; rung in between, it is not lost. `stopped`: go home."""

    __slots__ = ("_rung", "_waiter", "stopped")

    def __init__(self) -> None:
        self.stopped = False
        self._rung = False
        self._waiter: asyncio.Future[None] | None = None

    def ring(self) -> None:
        """There is something to do."""
        self._rung = True
        self._wake()

    def stop(self) -> None:
        """There will be nothing more to do."""
        self.stopped = True
        self.ring()

    async def rung(self, until: float) -> None:
        """Until it is rung, or the loop's clock shows `until`."""
        if not self._rung:
            loop = asyncio.get_running_loop()
            self._waiter = loop.create_future()
            timer = loop.call_at(until, self._wake)
            try:
                await self._waiter
            finally:
                timer.cancel()
                self._waiter = None
        self._rung = False

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


async def turn_events(server: Server, request: Request) -> Answer:
    """`GET /v1/turns/{turn_id}/events`"""
    after = sse.cursor(request.headers, request.options.after)
    with stream_place(server, request):
        return await stream_turn(server, request, request.params["turn_id"], after, encode.sse)


async def session_events(server: Server, request: Request) -> Answer:
    """`GET /v1/sessions/{session_id}/events`"""
    after = sse.cursor(request.headers, request.options.after)
    bell = Bell()
    with stream_place(server, request):
        reader = await server.pool.watch_session(
            request.params["session_id"], after=after, principal=request.principal, wake=bell.ring
        )
        return await _relay(server, request, reader, bell, encode.sse)


async def stream_turn(
    server: Server,
    request: Request,
    turn_id: str,
    after: Cursor | None,
    encode: Callable[[Event], bytes],
) -> Answer:
    """A turn's events after a cursor (None: all), to its terminal event; 204 if that is behind the
    cursor already. An event that `encode` makes nothing of is left out."""
    bell = Bell()
    reader = await server.pool.watch_turn(
        turn_id, after=after, principal=request.principal, wake=bell.ring
    )
    return await _relay(server, request, reader, bell, encode)


async def _relay(
    server: Server, request: Request, reader: Reader, bell: Bell, encode: Callable[[Event], bytes]
) -> Answer:
    server.bells.add(bell)
    try:
        first = await reader.take()
        if not first and reader.ended:
            return Reply(204)
        reply = StreamReply(request, sse.HEADERS)
        try:
            await _write(server, request, reader, bell, encode, reply, first)
        except StreamCut:
            raise
        except Exception:
            if not reply.started:
                raise
            # too late for a problem: the reader sees a broken stream and resumes from its cursor
            _log.exception("stream broken", request_id=request.request_id)
            raise _cut(reply) from None
        return reply
    finally:
        server.bells.discard(bell)
        reader.close()


async def _write(
    server: Server,
    request: Request,
    reader: Reader,
    bell: Bell,
    encode: Callable[[Event], bytes],
    reply: StreamReply,
    events: Sequence[Event],
) -> None:
    """Write these events, then what follows, until the reader has all."""
    config = server.config
    clock = asyncio.get_running_loop().time
    connection = request.connection
    connection.high_water(config.sse_high_water_bytes)
    pace = sse.Pace(config.flush_s, config.sse_heartbeat_s)
    while True:
        data = b"".join([encode(event) for event in events])
        if data or clock() >= pace.comment_at():
            reply.send(data or sse.COMMENT)
            pace.written_at = clock()
        if bell.stopped:
            return
        # also behind the last event: what nobody takes must not lie here for ever
        if connection.writing_paused and not await connection.drained(
            lambda: reader.behind <= config.max_behind_events
        ):
            _log.warning("slow reader cut off", request_id=request.request_id, behind=reader.behind)
            raise _cut(reply)
        if reader.ended:
            return
        if reader.behind:
            # a long replay: the others get their turn
            await asyncio.sleep(0)
        else:
            await bell.rung(pace.comment_at())
            if pause := pace.pause(clock()):
                await asyncio.sleep(pause)
        events = await reader.take()


def _cut(reply: StreamReply) -> StreamCut:
    reply.cut()
    return StreamCut(reply)
