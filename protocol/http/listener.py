"""What makes connections and requests: aiohttp's low-level server with ours in place of its own."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, cast

from aiohttp import web
from aiohttp.http_parser import RawRequestMessage
from aiohttp.streams import StreamReader
from aiohttp.web_protocol import RequestHandler
from multidict import istr

from protocol.config import ServerConfig
from protocol.http.connection import Connection
from protocol.http.reply import Answer, Reply
from protocol.http.request import Request, given_request_id

# multidict folds the case of any other string anew with each look-up
_ID: Final = istr("X-Request-ID")
_TRACE: Final = istr("traceparent")

Unreadable = Callable[[Request, BaseException | None], Reply]


class Listener(web.Server):
    """Makes a `Connection` for each client and a `Request` for each of its requests.

    `on_request` answers them, `on_unreadable` what could not be read (None) or handled (the error).
    `upgraded` says how many connections were handed over and are still open.
    """

    def __init__(
        self,
        config: ServerConfig,
        *,
        on_request: Callable[[Request], Awaitable[Answer]],
        on_unreadable: Unreadable,
        on_full: Callable[[], bytes],
        upgraded: Callable[[], int],
        request_id: Callable[[], str],
    ) -> None:
        super().__init__(
            on_request,  # type: ignore[arg-type]  # only a `Connection` calls it
            handler_cancellation=True,
            access_log=None,
            keepalive_timeout=config.keepalive_s,
            max_line_size=config.max_header_bytes,
            max_field_size=config.max_header_bytes,
            max_headers=config.max_headers,
            # a compressed body is opened within bounds that aiohttp does not know
            auto_decompress=False,
            # what a refused request still sends is read for so long, that its sender may read why
            lingering_time=1.0,
        )
        self.config = config
        self.answer = on_request
        self.turned_away = on_full
        self._on_unreadable = on_unreadable
        self._upgraded = upgraded
        self._request_id = request_id

    def __call__(self) -> RequestHandler:
        """A connection."""
        return Connection(self, loop=self._loop, **self._kwargs)

    @property
    def open(self) -> int:
        """How many connections there are."""
        return len(self._connections) + self._upgraded()

    @property
    def full(self) -> bool:
        """Whether there are as many connections as there may be."""
        return self.open >= self.config.max_connections

    def unreadable(
        self, request: web.BaseRequest, status: int, error: BaseException | None
    ) -> web.StreamResponse:
        """The answer to what could not be read, or whose handler failed outside of our hands."""
        reply = self._on_unreadable(cast(Request, request), error if status >= 500 else None)
        return cast(web.StreamResponse, reply)

    def request_of(
        self, message: RawRequestMessage, payload: StreamReader, connection: Connection
    ) -> Request:
        """What a client has sent, as a request with an id: its own, or one of ours."""
        headers = message.headers
        given = _ID in headers or _TRACE in headers
        request_id = (given and given_request_id(headers)) or self._request_id()
        return Request(message, payload, connection, request_id)
