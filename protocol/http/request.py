"""A request as the handlers see it: aiohttp's, with what the dispatch found out about it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from typing import Any, Final, Self, cast

from aiohttp import web
from aiohttp.http import RawRequestMessage, StreamWriter
from aiohttp.streams import StreamReader
from aiohttp.web_protocol import RequestPayloadError
from multidict import CIMultiDictProxy

from pool.errors import InvalidRequest, TooLarge
from pool.guard.caller import Caller
from pool.turn import Principal
from protocol.config import ServerConfig
from protocol.http.connection import Connection
from protocol.problems import BodyTimeout, UnsupportedMediaType

_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9_.-]{1,128}")
_TRACEPARENT: Final = re.compile(
    r"(?!ff)[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}(?:-|\Z)"
)
_NO_TRACE: Final = "0" * 32
_KEY: Final = re.compile(r"[\x21-\x7e]{1,128}")


class AmbiguousHead(InvalidRequest):
    """A head that others may read differently: nothing behind it is read, the connection ends."""


class Request(web.BaseRequest):
    """One request.

    `params` are the ids from its path, `body` and `options` what its body and query were decoded
    into (the types that its route names), `principal` who calls, `caller` the same with what was
    shown for it. `more_headers` are for its answer, whichever that is.
    """

    params: dict[str, str]
    principal: Principal
    caller: Caller
    body: Any
    options: Any
    more_headers: Sequence[tuple[str, str]] = ()

    def __init__(
        self,
        message: RawRequestMessage,
        payload: StreamReader,
        connection: Connection,
        request_id: str,
    ) -> None:
        # All that our own handlers and answers look at; aiohttp's make it complete first.
        self._message = message
        self._payload = payload
        self._protocol = connection
        self._headers = message.headers
        self._method = message.method
        self._version = message.version
        self._rel_url = message.url.relative() if message.url.absolute else message.url
        self._cache = {}
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
    def connection(self) -> Connection:
        """The connection that it came by."""
        return cast(Connection, self._protocol)

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


def check_head(request: web.BaseRequest) -> None:
    """Refuse what two servers in a row might read differently (RFC 9112, 3.2 and 6.1)."""
    headers = request.headers
    hosts = headers.getall("Host", ())
    if len(hosts) != 1 and (hosts or request.version >= (1, 1)):
        raise AmbiguousHead("the request must have exactly one Host header", field="Host")
    codings = headers.getall("Transfer-Encoding", ())
    if codings and ("Content-Length" in headers or request.version < (1, 1)):
        raise AmbiguousHead(
            "Transfer-Encoding goes with HTTP/1.1 and without Content-Length",
            field="Transfer-Encoding",
        )
    if codings and [coding.strip().lower() for coding in codings] != ["chunked"]:
        raise AmbiguousHead(
            "the only Transfer-Encoding is chunked, given once", field="Transfer-Encoding"
        )


async def read_body(request: Request, config: ServerConfig) -> bytes:
    """The body; `UnsupportedMediaType`, `TooLarge`, `BodyTimeout`, `InvalidRequest`."""
    content = request.content
    if not request.body_exists:
        return b""
    _check_content(request, config)
    try:
        # All of a usual body arrives with its head: no timer then, and no waiting.
        data = content.read_nowait() if content.is_eof() else await _slow_body(request, config)
    except RequestPayloadError:
        raise InvalidRequest("the body is not framed as HTTP says") from None
    if len(data) > config.max_body_bytes:
        raise _too_large(config)
    return data


def _check_content(request: Request, config: ServerConfig) -> None:
    headers = request.headers
    kind = headers.get("Content-Type")
    if kind is not None and kind != "application/json":
        name = kind.partition(";")[0].strip().lower()
        if name != "application/json" and not (
            name.startswith("application/") and name.endswith("+json")
        ):
            raise UnsupportedMediaType("the body must be application/json")
    # What is small on the wire and large in memory is not taken at all.
    if headers.get("Content-Encoding", "identity").lower() != "identity":
        raise UnsupportedMediaType("the body must not be compressed (Content-Encoding)")
    length = headers.get("Content-Length")
    if length is not None and int(length) > config.max_body_bytes:
        raise _too_large(config)


async def _slow_body(request: Request, config: ServerConfig) -> bytes:
    if request.headers.get("Expect", "").lower() == "100-continue" and request.transport:
        request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    body = bytearray()
    try:
        async with asyncio.timeout(config.body_timeout_s):
            while chunk := await request.content.readany():
                body += chunk
                if len(body) > config.max_body_bytes:
                    raise _too_large(config)
    except TimeoutError:
        raise BodyTimeout(
            f"the body did not arrive within {config.body_timeout_s:g} s; send it again"
        ) from None
    return bytes(body)


def _too_large(config: ServerConfig) -> TooLarge:
    return TooLarge(f"a body may have {config.max_body_bytes} bytes")
