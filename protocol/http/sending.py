"""The sending half of a connection: writes without waiting, and has patience for so long only."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

# How often it is looked at what a slow client has taken.
_LOOK_S: Final = 1.0


class Sending(RequestHandler):
    """aiohttp's connection, with our own way of writing.

    `patience_s`: how long a client may take nothing of what was written, in seconds. Who takes some
    of it, however slowly, gets all of it.
    """

    __slots__ = ("_taking", "patience_s")

    def __init__(self, manager: web.Server, patience_s: float, **options: Any) -> None:
        super().__init__(manager, **options)
        self.patience_s = patience_s
        # a handler that waits until the client has taken enough
        self._taking: asyncio.Future[None] | None = None

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

    async def drained(self, worth_it: Callable[[], bool] = lambda: True) -> bool:
        """Wait until the client has taken enough of what was written; False if it takes nothing for
        `patience_s`, or if it is no longer `worth_it`.
        """
        clock, unsent = self._loop.time, self._unsent()
        deadline = clock() + self.patience_s
        while self.writing_paused:
            left = deadline - clock()
            if left <= 0 or not worth_it():
                return False
            await self._look(min(left, _LOOK_S))
            if self._unsent() < unsent:
                unsent, deadline = self._unsent(), clock() + self.patience_s
        return True

    def resume_writing(self) -> None:
        """The client has taken enough of what was written."""
        super().resume_writing()
        self._wake()

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
        if unsent := transport.get_write_buffer_size():
            self._loop.call_later(self.patience_s, self._cut_stuck, transport, unsent)

    def _cut_stuck(self, transport: asyncio.Transport, unsent: int) -> None:
        if transport.get_write_buffer_size() < unsent:
            self._cut_late(transport)
        else:
            transport.abort()

    def _unsent(self) -> int:
        return self.transport.get_write_buffer_size() if self.transport is not None else 0

    async def _look(self, within_s: float) -> None:
        """Wait until writing goes on, or for so long."""
        # Not aiohttp's own waiter: it is one for all, and a timeout would leave it cancelled for
        # whoever waits next.
        self._taking = self._loop.create_future()
        timer = self._loop.call_later(within_s, self._wake)
        try:
            await self._taking
        finally:
            timer.cancel()
            self._taking = None

    def _wake(self) -> None:
        if self._taking is not None and not self._taking.done():
            self._taking.set_result(None)
