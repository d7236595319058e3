"""Answers that are written by hand: a whole one leaves in one write, a stream in one write a batch.

aiohttp's own `Response` makes header objects, which are a third of the time of a small request
(43,000 a second; so 63,000). `prepare` and `write_eof` are what it asks of an answer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from aiohttp import web
from aiohttp.helpers import rfc822_formatted_time

from protocol import encode, problems
from protocol.problems import Problem

if TYPE_CHECKING:
    from protocol.http.request import Request

Headers = Sequence[tuple[str, str]]
Version = tuple[int, int]

JSON: Final = "application/json"
PROBLEM: Final = "application/problem+json"

_STATUS_LINES: Final = {
    status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n" for status in HTTPStatus
}


class Reply:
    """A whole answer. `close`: the connection ends with it."""

    __slots__ = ("_close", "body", "content_type", "headers", "keep_alive", "status")

    def __init__(
        self,
        status: int,
        body: bytes = b"",
        *,
        content_type: str = JSON,
        headers: Headers = (),
        close: bool = False,
    ) -> None:
        self.status = status
        self.body = body
        self.content_type = content_type
        self.headers = headers
        # whether the connection may be kept, once it is written
        self.keep_alive = False
        self._close = close

    def raw(self, request_id: str, *, keep_alive: bool, version: Version = (1, 1)) -> bytes:
        """All of it as bytes."""
        head = _head(self.status, self.headers, request_id, keep_alive, version)
        body = self.body
        if body:
            head += f"Content-Type: {self.content_type}\r\nContent-Length: {len(body)}\r\n\r\n"
        elif self.status in (101, 204):
            head += "\r\n"
        else:
            head += "Content-Length: 0\r\n\r\n"
        return head.encode() + body

    def write(self, request: Request) -> None:
        """Send all of it, as the answer to a request."""
        self.keep_alive = keep_alive = request.keep_alive and not self._close
        more = request.more_headers
        if more:
            self.headers = (*self.headers, *more)
        data = self.raw(request.request_id, keep_alive=keep_alive, version=request.version)
        if request.method == "HEAD":
            data = data[: len(data) - len(self.body)]
        request.connection.send(data)

    async def prepare(self, request: Request) -> None:
        """The same. Called by aiohttp."""
        self.write(request)

    async def write_eof(self) -> None:
        """Everything is written already. Called by aiohttp."""


class StreamReply:
    """An answer without a known end: `send` its parts. Its head leaves with the first of them."""

    __slots__ = ("_chunked", "_cut", "_head", "_headers", "_request", "keep_alive")

    def __init__(self, request: Request, headers: Headers) -> None:
        # HTTP/1.0 knows no chunks: there the end of the connection is the end of the answer.
        self._chunked = request.version >= (1, 1)
        self.keep_alive = request.keep_alive and self._chunked
        self._request = request
        self._headers = headers
        self._head = True
        self._cut = False

    @property
    def started(self) -> bool:
        """Whether the head has been written, so that no other answer can be given."""
        return not self._head

    def send(self, data: bytes) -> None:
        """Write a part, without waiting for the reader to take it."""
        if self._chunked:
            data = b"%x\r\n%b\r\n" % (len(data), data)
        self._request.connection.send(self._take_head() + data)

    def cut(self) -> None:
        """End the connection at once: the reader sees that this was not the end of the answer."""
        self._cut = True
        self._request.connection.cut()

    async def prepare(self, request: Request) -> None:
        """The head leaves with the first part. Called by aiohttp."""

    async def write_eof(self) -> None:
        """Say that this was all. Called by aiohttp."""
        if not self._cut:
            end = b"0\r\n\r\n" if self._chunked else b""
            self._request.connection.send(self._take_head() + end)

    def _take_head(self) -> bytes:
        if not self._head:
            return b""
        self._head = False
        request = self._request
        headers = (*self._headers, *request.more_headers)
        head = _head(200, headers, request.request_id, self.keep_alive, request.version)
        if self._chunked:
            head += "Transfer-Encoding: chunked\r\n"
        return (head + "\r\n").encode()


class Upgraded:
    """What is left to answer to a request whose connection was handed over: nothing."""

    __slots__ = ()

    keep_alive: Final = False

    async def prepare(self, request: Request) -> None:
        """The head was written when the connection was handed over. Called by aiohttp."""

    async def write_eof(self) -> None:
        """What follows is no answer to this request. Called by aiohttp."""


Answer = Reply | StreamReply | Upgraded | web.StreamResponse


def json(status: int, body: bytes, headers: Headers = ()) -> Reply:
    """A JSON answer."""
    return Reply(status, body, headers=headers)


def problem(
    said: Problem, random: Callable[[], float], *, headers: Headers = (), close: bool = False
) -> Reply:
    """A problem as an answer, with `Retry-After` where its status asks for one."""
    seconds = problems.retry_after(said, random)
    if seconds is not None:
        headers = (*headers, ("Retry-After", str(seconds)))
    body = encode.problem(said)
    return Reply(said.status, body, content_type=PROBLEM, headers=headers, close=close)


def _head(
    status: int, headers: Headers, request_id: str, keep_alive: bool, version: Version
) -> str:
    more = ""
    for name, value in headers:
        more += f"{name}: {value}\r\n"
    if not keep_alive:
        more += "Connection: close\r\n"
    elif version < (1, 1):
        more += "Connection: keep-alive\r\n"
    date = rfc822_formatted_time()
    return f"{_STATUS_LINES[status]}Date: {date}\r\nX-Request-ID: {request_id}\r\n{more}"
