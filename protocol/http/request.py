"""A request as the handlers see it: aiohttp's, with what the dispatch found out about it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from typing import Any, Final, Self, cast

from aiohttp import hdrs, web
from aiohttp.http import RawRequestMessage, StreamWriter
from aiohttp.streams import StreamReader
from multidict import CIMultiDictProxy
from yarl import URL

from pool.errors import InvalidRequest
from pool.guard.caller import Caller
from pool.guard.rates import RatedRequest
from pool.turn import Principal
from protocol.http.connection import Connection
from protocol.http.rates import rate_headers
from protocol.http.reply import Headers
from protocol.origins import same_host

_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9_.-]{1,128}")
_TRACEPARENT: Final = re.compile(
    r"(?!ff)[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}(?:-|\Z)"
)
_NO_TRACE: Final = "0" * 32
_WEBSOCKET: Final = re.compile("websocket", re.ASCII | re.IGNORECASE)
_KEY: Final = re.compile(r"[\x21-\x7e]{1,128}")


class AmbiguousHead(InvalidRequest):
    """A head that others may read differently: nothing behind it is read, the connection ends."""


class Request(web.BaseRequest):
    """One request.

    `target` is what its first line asks for, `params` are the ids from its path, `body` and
    `options` what its body and query were decoded into (the types that its route names),
    `principal` who calls, `caller` the same with what was shown for it; `rated` is what it counts
    as, if it does. `connection` is where it came by, `origin_headers` are what its answer says of
    the page that sent it.
    """

    params: Mapping[str, str]
    principal: Principal
    caller: Caller
    body: Any
    options: Any
    rated: RatedRequest | None = None
    origin_headers: Headers = ()

    def __init__(
        self,
        message: RawRequestMessage,
        payload: StreamReader,
        connection: Connection,
        request_id: str,
    ) -> None:
        # All that our own handlers and answers look at; for aiohttp's it is made complete first.
        self.target = url = message.url
        self._message = message
        self._payload = payload
        self._protocol = self.connection = connection
        self._rel_url = url = url.relative() if url.absolute else url
        # What aiohttp's properties would put there, each by a call, when they are asked.
        self._cache = {
            "method": message.method,
            "version": message.version,
            "headers": message.headers,
            "rel_url": url,
            "content": payload,
        }
        self.request_id = request_id

    def complete(self) -> Self:
        """The same, with all that answers made of aiohttp's parts ask for."""
        loop = asyncio.get_running_loop()
        task = cast(asyncio.Task[None], asyncio.current_task())
        super().__init__(
            self._message,
            self._payload,
            self._protocol,
            StreamWriter(self._protocol, loop),
            task,
            loop,
        )
        return self

    @property
    def more_headers(self) -> Headers:
        """What its answer, whichever that is, says besides its own headers."""
        if self.rated is None:
            return self.origin_headers
        return (*self.origin_headers, *rate_headers(self.rated))

    @property
    def keep_alive(self) -> bool:
        """Whether another request may follow on the connection."""
        message = self._message
        if message.should_close:
            return False
        if message.upgrade:
            # Behind any other upgrade the parser has dropped what came with it.
            return _WEBSOCKET.fullmatch(message.headers.get(hdrs.UPGRADE, "")) is not None
        # Who asked first whether to send a body, and was answered instead, may leave it out: what
        # follows would be read as the body.
        return self._payload.is_eof() or hdrs.EXPECT not in message.headers

    @property
    def idempotency_key(self) -> str | None:
        """The `Idempotency-Key` header; `InvalidRequest` if it is malformed."""
        key = self.headers.get("Idempotency-Key")
        if key is not None and _KEY.fullmatch(key) is None:
            raise InvalidRequest(
                "an idempotency key is 1 to 128 visible ASCII characters", field="Idempotency-Key"
            )
        return key

    def withdraw(self) -> None:
        """What the caller showed counts no more: the connection ends, and with it the answer."""
        self.connection.cut()

    async def _prepare_hook(self, resp: web.StreamResponse) -> None:
        # for answers that aiohttp writes: a WebSocket's handshake, an extra route's page
        resp.headers["X-Request-ID"] = self.request_id
        resp.headers.extend(self.more_headers)


def given_request_id(headers: CIMultiDictProxy[str]) -> str | None:
    """The caller's own `X-Request-ID`, or the trace that the request belongs to (the trace id of
    `traceparent`, https://www.w3.org/TR/trace-context/), if well formed."""
    text = headers.get("X-Request-ID")
    if text is not None and _REQUEST_ID.fullmatch(text):
        return text
    parent = headers.get("traceparent")
    trace = _TRACEPARENT.match(parent) if parent is not None else None
    return trace[1] if trace is not None and trace[1] != _NO_TRACE else None


def check_head(request: Request) -> None:
    """Refuse what two servers in a row might read differently (RFC 9112, 3.2 and 6.1)."""
    headers = request.headers
    hosts = headers.getall(hdrs.HOST, ())
    if len(hosts) != 1 and (hosts or request.version >= (1, 1)):
        raise AmbiguousHead("the request must have exactly one Host header", field="Host")
    target = request.target
    if target.scheme and not _names(target, hosts[0] if hosts else ""):
        raise AmbiguousHead("the target names another host than the Host header", field="Host")
    if hdrs.TRANSFER_ENCODING not in headers:
        return
    codings = headers.getall("Transfer-Encoding")
    if "Content-Length" in headers or request.version < (1, 1):
        raise AmbiguousHead(
            "Transfer-Encoding goes with HTTP/1.1 and without Content-Length",
            field="Transfer-Encoding",
        )
    if [coding.strip().lower() for coding in codings] != ["chunked"]:
        raise AmbiguousHead(
            "the only Transfer-Encoding is chunked, given once", field="Transfer-Encoding"
        )


def _names(target: URL, host: str) -> bool:
    return same_host(f"{target.scheme}://{target.raw_authority}".lower(), host)
