"""One WebSocket as this door sees it: text comes in, bytes go out, closing has our own codes.

After the handshake the connection is this protocol's: aiohttp's own, the request with its headers
and the tasks that served it are gone, which were half of what an idle WebSocket took. aiohttp takes
frames apart. Writing, pings and closing are done here: writes never wait (what is unsent is bounded
instead), and every end of a connection is bounded in time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from inspect import CORO_CREATED, getcoroutinestate
from typing import Any, Final

from aiohttp import WSMsgType
from aiohttp._websocket.reader import WebSocketDataQueue
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http_websocket import WebSocketError, WebSocketReader, WSCloseCode
from aiohttp.streams import EofStream

from protocol.ws import frames
from protocol.ws.config import WsConfig
from protocol.ws.heartbeat import Pulse

# Bytes of frames that wait to be dealt with, after which no more are read.
_READ_AHEAD: Final = 2**18


class Socket(BaseProtocol):
    """An open WebSocket. Everything but `receive` and `drain` returns at once.

    `lost` is called when nothing of it is left.
    """

    __slots__ = (
        "_abort",
        "_client",
        "_config",
        "_last_batch",
        "_lost",
        "_messages",
        "_reader",
        "_task",
        "closed_with",
        "pulse",
    )

    def __init__(self, config: WsConfig, lost: Callable[[Socket], None]) -> None:
        loop = asyncio.get_running_loop()
        super().__init__(loop)
        # flow control is the transport's: there is no parser of requests to be paused
        self._upgraded = True
        self.pulse = Pulse()
        # our close code, 0 if the peer ended it, None while it is open
        self.closed_with: int | None = None
        self._config = config
        self._lost = lost
        self._messages = WebSocketDataQueue(self, _READ_AHEAD, loop=loop)
        # aiohttp refuses what is as long as its limit
        self._reader = WebSocketReader(
            self._messages, config.max_frame_bytes + 1, compress=False, decode_text=True
        )
        self._last_batch = 0
        self._abort: asyncio.TimerHandle | None = None
        self._client: Coroutine[Any, Any, None]
        self._task: asyncio.Task[None] | None = None

    def serve(self, client: Coroutine[Any, Any, None]) -> None:
        """Run what deals with the client; it is cancelled when the peer is gone. If it has not
        begun by then it does all the same, and finds the end by itself.
        """
        self._client = client
        self._task = self._loop.create_task(client)

    def data_received(self, data: bytes) -> None:
        """Take frames apart; what is no frame is found by `receive`."""
        self._reader.feed_data(data)

    def connection_lost(self, exc: BaseException | None) -> None:
        """The peer, or we, ended it."""
        super().connection_lost(exc)
        if self._abort is not None:
            self._abort.cancel()
        # cancelled before its first step it would never clean up
        if self._task is not None and getcoroutinestate(self._client) != CORO_CREATED:
            self._task.cancel()
        self._messages.feed_eof()
        self._lost(self)

    @property
    def closing(self) -> bool:
        """Whether a close was sent or received: nothing more is sent."""
        return self.closed_with is not None

    async def receive(self) -> str | None:
        """The next text frame; None when the connection is over. Answers pings, refuses the bad."""
        while True:
            try:
                message = await self._messages.read()
            except WebSocketError as error:
                await self._refuse(error)
                return None
            except EofStream:
                self._peer_left()
                return None
            self.pulse.heard()
            kind = message.type
            if kind is WSMsgType.TEXT:
                if not self.closing:
                    return str(message.data)
            elif kind is WSMsgType.PING:
                self.write(frames.pong(bytes(message.data)))
            elif kind is WSMsgType.BINARY:
                self.close(frames.BAD_FRAME, "send text frames, not binary ones")
            elif kind is WSMsgType.CLOSE:
                self._peer_left(message.data)
                return None

    async def drain(self) -> None:
        """Until most of what was written is sent. `ConnectionError` if the peer is gone."""
        await self._drain_helper()

    def write(self, data: bytes) -> None:
        """Send one or more frames. A peer that has too much unread is closed instead."""
        transport = self.transport
        if transport is None or self.closing or transport.is_closing():
            return
        # The last batch is not counted: one event may be larger than the mark and must get through.
        unsent = transport.get_write_buffer_size()
        if unsent > self._config.high_water_bytes + self._last_batch:
            self.close(frames.TOO_SLOW, "too many bytes are unread; resume from your cursor")
            return
        self._last_batch = len(data)
        transport.write(data)

    def close(self, code: int, reason: str) -> None:
        """Say goodbye; the peer has `close_grace_s` to do the same. Closing twice does nothing."""
        if not self.closing:
            self._close(code, frames.close(code, reason))

    def release(self) -> None:
        """Nobody deals with the client any more. What is unsent has the rest of the grace."""
        if self.transport is not None:
            self.transport.close()

    def abort(self) -> None:
        """End it now; what is unsent is lost."""
        if self.transport is not None:
            self.transport.abort()

    def _close(self, code: int, frame: bytes) -> None:
        self.closed_with = code
        if self.transport is None:
            return
        if not self.transport.is_closing():
            self.transport.write(frame)
        self._abort = self._loop.call_later(self._config.close_grace_s, self.transport.abort)

    def _peer_left(self, code: int = 0) -> None:
        # A close is answered with its own code. Without one, the peer is gone already.
        if not self.closing:
            self._close(0, frames.close(code, ""))

    async def _refuse(self, error: WebSocketError) -> None:
        if error.code == WSCloseCode.MESSAGE_TOO_BIG:
            most = self._config.max_frame_bytes
            self.close(frames.FRAME_TOO_LARGE, f"a frame may have {most} bytes")
        else:
            self.close(frames.BAD_FRAME, "not a frame of RFC 6455 with UTF-8 text, uncompressed")
        # Closing now, with what the peer still sends unread, would reset the connection and lose
        # the close frame. So our side ends, and the peer gets the grace to end its own, which
        # cancels this task.
        transport = self.transport
        if transport is not None and transport.can_write_eof() and not transport.is_closing():
            transport.write_eof()
        await asyncio.sleep(self._config.close_grace_s)
