"""The sending half of a connection: writes without waiting, and has patience for so long only."""

from __future__ import annotations

import asyncio
from typing import Any

from aiohttp import web
from aiohttp.web_protocol import RequestHandler


class Sending(RequestHandler):
    """aiohttp's connection, with our own way of writing.

    `patience_s`: how long a client may take nothing of what was written, in seconds.
    """

    __slots__ = ("_taking", "patience_s")

    def __init__(self, manager: web.Server, patience_s: float, **options: Any) -> None:
        super().__init__(manager, **options)
        self.patience_s = patience_s
        # a handler that waits until the client has taken enough
        self._taking: asyncio.Future[bool] | None = None

    def send(self, data: bytes) -> None:
        """Write without waiting. What can no longer be sent is dropped: the handler is about to be
        cancelled then."""
        transport = self.transport
        if transport is not None and not transport.is_closing():
            transport.write(data)

    def high_water(self, unsent_bytes: int) -> None:
        """Pause writing when so many bytes could not be sent."""
        if self.transport is not None:
            self.transport.set_write_buffer_limits(high=unsent_bytes)

    async def drained(self, within_s: float) -> bool:
        """Wait until the client has taken enough of what was written; False if it is too slow."""
        if not self.writing_paused:
            return True
        # Not aiohttp's own waiter: it is one for all, and a timeout would leave it cancelled for
        # whoever waits next.
        self._taking = self._loop.create_future()
        timer = self._loop.call_later(within_s, self._taken, False)
        try:
            return await self._taking
        finally:
            timer.cancel()
            self._taking = None

    def resume_writing(self) -> None:
        """The client has taken enough of what was written."""
        super().resume_writing()
        self._taken(True)

    def cut(self) -> None:
        """End the connection now; what was not sent is lost."""
        if self.transport is not None:
            self.transport.abort()

    def force_close(self) -> None:
        """Begin nothing more and end the connection, once what was written is sent."""
        transport = self.transport
        super().force_close()
        if transport is not None:
            self._cut_late(transport)

    def leave(self) -> None:
        """End the connection, once what was written is sent."""
        if self.transport is not None:
            self.transport.close()
            self._cut_late(self.transport)

    def _cut_late(self, transport: asyncio.Transport) -> None:
        # the transport would wait for ever for a client that takes nothing
        if transport.get_write_buffer_size():
            self._loop.call_later(self.patience_s, transport.abort)

    def _taken(self, enough: bool) -> None:
        if self._taking is not None and not self._taking.done():
            self._taking.set_result(enough)
