"""A raw WebSocket client for load: it reads frames, answers pings and writes small text frames."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, cast

HELLO: Final = (
    b"GET /v1/ws HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    b"Sec-WebSocket-Protocol: actorpool.v1\r\n\r\n"
)
TEXT: Final = 0x1
CLOSE: Final = 0x8
PING: Final = 0x9
PONG: Final = 0xA


def frame(payload: bytes, opcode: int = TEXT) -> bytes:
    """A client's frame. Its mask is zero, so that nothing need be masked."""
    if len(payload) < 126:
        head = bytes((0x80 | opcode, 0x80 | len(payload)))
    else:
        head = bytes((0x80 | opcode, 0x80 | 126)) + len(payload).to_bytes(2)
    return head + b"\0\0\0\0" + payload


class Socket(asyncio.Protocol):
    """A connection of a client; `on_text` is given each text that comes.

    `lost` ends when the connection does, with an error if the server closed it.
    """

    def __init__(self, on_text: Callable[[bytes], None]) -> None:
        loop = asyncio.get_running_loop()
        self._on_text = on_text
        self._rest = b""
        self._transport: asyncio.Transport | None = None
        self._upgraded = False
        self.upgraded: asyncio.Future[None] = loop.create_future()
        self.lost: asyncio.Future[None] = loop.create_future()

    async def dial(self, port: int) -> None:
        """Connect to a server on this machine."""
        loop = asyncio.get_running_loop()
        await loop.create_connection(lambda: self, "127.0.0.1", port)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask for the upgrade."""
        self._transport = cast(asyncio.Transport, transport)
        self._transport.write(HELLO)

    def connection_lost(self, error: Exception | None) -> None:
        """Tell who waits."""
        for future in (self.upgraded, self.lost):
            if not future.done():
                future.set_exception(error or ConnectionError("the server hung up"))

    def send(self, payload: bytes) -> None:
        """Write one text frame."""
        if self._transport is not None:
            self._transport.write(frame(payload))

    def close(self) -> None:
        """Hang up."""
        if not self.lost.done():
            self.lost.set_result(None)
        if self._transport is not None:
            self._transport.close()

    def data_received(self, data: bytes) -> None:
        """Take the frames that are whole; keep the rest."""
        data = self._rest + data if self._rest else data
        at = 0
        if not self._upgraded:
            at = self._upgrade(data)
        if self._upgraded:
            at = self._frames(data, at)
        self._rest = data[at:]

    def _upgrade(self, data: bytes) -> int:
        end = data.find(b"\r\n\r\n")
        if end < 0:
            return 0
        if not data.startswith(b"HTTP/1.1 101"):
            self.upgraded.set_exception(ConnectionError(f"no upgrade: {data[:500]!r}"))
            self.close()
            return len(data)
        self._upgraded = True
        self.upgraded.set_result(None)
        return end + 4

    def _frames(self, data: bytes, at: int) -> int:
        """Take whole frames from `at`; returns where the first that is not whole begins."""
        size = len(data)
        while size - at >= 2:
            length, start = data[at + 1], at + 2
            if length == 126:
                start = at + 4
                length = int.from_bytes(data[at + 2 : start])
            elif length == 127:
                start = at + 10
                length = int.from_bytes(data[at + 2 : start])
            if size < start + length:
                break
            self._frame(data[at] & 0x0F, data[start : start + length])
            at = start + length
        return at

    def _frame(self, opcode: int, payload: bytes) -> None:
        if opcode == TEXT:
            self._on_text(payload)
        elif opcode == PING and self._transport is not None:
            self._transport.write(frame(payload, PONG))
        elif opcode == CLOSE and not self.lost.done():
            code = int.from_bytes(payload[:2])
            self.lost.set_exception(ConnectionError(f"the server closed: {code} {payload[2:]!r}"))
