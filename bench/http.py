"""A raw HTTP client for load: one connection, one request at a time, as little work as possible.

It knows the two forms in which an answer ends: `Content-Length`, and chunks.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, cast

HEAD_END: Final = b"\r\n\r\n"
CHUNKS_END: Final = b"0\r\n\r\n"
LENGTH: Final = b"content-length:"


def post(path: str, body: bytes, *, accept: str = "application/json", key: str = "") -> bytes:
    """The bytes of a request that posts JSON; `key` says who does."""
    credentials = f"Authorization: Bearer {key}\r\n" if key else ""
    head = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        f"Accept: {accept}\r\n{credentials}Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


class Answer:
    """The bytes of one answer, gathered until it is whole."""

    __slots__ = ("_data", "_length", "body_at")

    def __init__(self) -> None:
        self._data = b""
        self.body_at = 0
        # of head and body together; None while unknown, and for chunks
        self._length: int | None = None

    def feed(self, data: bytes) -> bool:
        """Take more bytes; True if the answer is whole."""
        self._data = self._data + data if self._data else data
        if not self.body_at and not self._head():
            return False
        if self._length is None:
            return self._data.endswith(CHUNKS_END)
        return len(self._data) >= self._length

    def _head(self) -> bool:
        end = self._data.find(HEAD_END)
        if end < 0:
            return False
        self.body_at = end + len(HEAD_END)
        head = self._data[:end].lower()
        length = head.find(LENGTH)
        if length >= 0:
            line_end = head.find(b"\r\n", length)
            value = head[length + len(LENGTH) : line_end if line_end >= 0 else end]
            self._length = self.body_at + int(value)
        return True

    @property
    def ok(self) -> bool:
        """Whether the status is 200."""
        return self._data.startswith(b"HTTP/1.1 200")

    @property
    def body(self) -> bytes:
        """What came after the head, chunk sizes included if there are chunks."""
        return self._data[self.body_at :]


class Caller(asyncio.Protocol):
    """A connection that asks again as soon as it is answered.

    `requests` makes the next request (None: no more), `answered` is told of each whole answer.
    """

    def __init__(
        self, requests: Callable[[], bytes | None], answered: Callable[[Answer], None]
    ) -> None:
        self._requests = requests
        self._answered = answered
        self._answer = Answer()
        self._transport: asyncio.Transport | None = None
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def dial(self, port: int) -> None:
        """Connect to a server on this machine."""
        loop = asyncio.get_running_loop()
        await loop.create_connection(lambda: self, "127.0.0.1", port)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask for the first time."""
        self._transport = cast(asyncio.Transport, transport)
        self._ask()

    def data_received(self, data: bytes) -> None:
        """Take a part of the answer; if it is the last, ask again."""
        if self._answer.feed(data):
            answer, self._answer = self._answer, Answer()
            self._answered(answer)
            self._ask()

    def connection_lost(self, error: Exception | None) -> None:
        """The server has hung up: an error, unless there was nothing left to ask."""
        if not self.done.done():
            self.done.set_exception(ConnectionError("the server closed a connection that waited"))

    def _ask(self) -> None:
        if self.done.done() or self._transport is None:
            return
        request = self._requests()
        if request is None:
            self.done.set_result(None)
            self._transport.close()
        else:
            self._transport.write(request)
