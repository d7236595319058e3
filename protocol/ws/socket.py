"""One WebSocket as this door sees it: text comes in, bytes go out, closing has our own codes.

aiohttp does the handshake and takes frames apart. Writing, pings and closing are done here: writes
never wait (what is unsent is bounded instead), and every end of a connection is bounded in time.
"""

from __future__ import annotations

import asyncio

from aiohttp import WSMessage, WSMsgType, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http_websocket import WebSocketError, WSCloseCode
from aiohttp.web_request import BaseRequest

from protocol.ws import frames
from protocol.ws.config import WsConfig
from protocol.ws.heartbeat import Pulse


class _Response(web.WebSocketResponse):
    """aiohttp's own, but that it leaves closing to `Socket`: aiohttp would use other close codes,
    and wait without end for a peer that does not read."""

    async def close(self, *, code: int = 1000, message: bytes = b"", drain: bool = True) -> bool:
        return False


class Socket:
    """An open WebSocket. Everything but `receive` and `drain` returns at once."""

    __slots__ = (
        "_abort",
        "_config",
        "_last_batch",
        "_transport",
        "_writer",
        "closed_with",
        "pulse",
        "response",
    )

    def __init__(
        self,
        response: web.WebSocketResponse,
        writer: AbstractStreamWriter,
        transport: asyncio.Transport,
        config: WsConfig,
    ) -> None:
        self.response = response
        self.pulse = Pulse()
        # our close code, 0 if the peer ended it, None while it is open
        self.closed_with: int | None = None
        self._writer = writer
        self._transport = transport
        self._config = config
        self._last_batch = 0
        self._abort: asyncio.TimerHandle | None = None

    @classmethod
    def response_for(cls, config: WsConfig) -> web.WebSocketResponse:
        """What `upgrade` is to be called with."""
        return _Response(
            protocols=(frames.SUBPROTOCOL,),
            autoclose=False,
            autoping=False,
            compress=False,
            # aiohttp refuses what is as long as this
            max_msg_size=config.max_frame_bytes + 1,
        )

    @classmethod
    async def upgrade(
        cls, response: web.WebSocketResponse, request: BaseRequest, config: WsConfig
    ) -> Socket:
        """Answer the handshake. `ConnectionError` if the peer is gone already."""
        transport = request.transport
        if transport is None:
            raise ConnectionResetError("the peer left before the upgrade")
        writer = await response.prepare(request)
        return cls(response, writer, transport, config)

    @property
    def closing(self) -> bool:
        """Whether a close was sent or received: nothing more is sent."""
        return self.closed_with is not None

    async def receive(self) -> str | None:
        """The next text frame; None when the connection is over. Answers pings, refuses the bad."""
        while True:
            message = await self.response.receive()
            self.pulse.heard()
            kind = message.type
            if kind is WSMsgType.TEXT:
                if not self.closing:
                    return str(message.data)
            elif kind is WSMsgType.PING:
                self.write(frames.pong(bytes(message.data)))
            elif kind is WSMsgType.BINARY:
                self.close(frames.BAD_FRAME, "send text frames, not binary ones")
            elif kind is not WSMsgType.PONG:
                await self._over(message)
                return None

    async def drain(self) -> None:
        """Until most of what was written is sent. `ConnectionError` if the peer is gone."""
        await self._writer.drain()

    def write(self, data: bytes) -> None:
        """Send one or more frames. A peer that has too much unread is closed instead."""
        if self.closing or self._transport.is_closing():
            return
        # The last batch is not counted: one event may be larger than the mark and must get through.
        unsent = self._transport.get_write_buffer_size()
        if unsent > self._config.high_water_bytes + self._last_batch:
            self.close(frames.TOO_SLOW, "too many bytes are unread; resume from your cursor")
            return
        self._last_batch = len(data)
        self._transport.write(data)

    def close(self, code: int, reason: str) -> None:
        """Say goodbye; the peer has `close_grace_s` to do the same. Closing twice does nothing."""
        if not self.closing:
            self._close(code, frames.close(code, reason))

    def release(self) -> None:
        """The connection's handler is done. What is unsent still has the rest of the grace."""
        if self._abort is not None and not self._transport.get_write_buffer_size():
            self._abort.cancel()

    def _close(self, code: int, frame: bytes) -> None:
        self.closed_with = code
        if not self._transport.is_closing():
            self._transport.write(frame)
        loop = asyncio.get_running_loop()
        self._abort = loop.call_later(self._config.close_grace_s, self._transport.abort)

    async def _over(self, message: WSMessage) -> None:
        if isinstance(message.data, WebSocketError):
            await self._refuse(message.data)
        elif not self.closing:
            # A close is answered with its own code. Without one, the peer is gone already.
            echo = message.data if message.type is WSMsgType.CLOSE else 0
            self._close(0, frames.close(echo, ""))

    async def _refuse(self, error: WebSocketError) -> None:
        if error.code == WSCloseCode.MESSAGE_TOO_BIG:
            most = self._config.max_frame_bytes
            self.close(frames.FRAME_TOO_LARGE, f"a frame may have {most} bytes")
        else:
            self.close(frames.BAD_FRAME, "not a frame of RFC 6455 with UTF-8 text, uncompressed")
        # Closing now, with what the peer still sends unread, would reset the connection and lose
        # the close frame. So our side ends, and the peer gets the grace to end its own, which
        # cancels this handler.
        if self._transport.can_write_eof() and not self._transport.is_closing():
            self._transport.write_eof()
        await asyncio.sleep(self._config.close_grace_s)
