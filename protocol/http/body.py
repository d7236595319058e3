"""The body of a request: all of it, within its bounds, and unpacked."""

from __future__ import annotations

import asyncio
import zlib
from typing import TYPE_CHECKING, Final

from aiohttp import hdrs
from aiohttp.streams import EMPTY_PAYLOAD

from pool.errors import InvalidRequest, TooLarge
from protocol.config import ServerConfig
from protocol.problems import BodyTimeout, UnsupportedMediaType

if TYPE_CHECKING:
    from protocol.http.request import Request

# What zlib calls the two formats (RFC 1950 and 1952): the size of the window and its wrapping.
_FORMATS: Final = {"deflate": 15, "gzip": 31, "x-gzip": 31}


async def read_body(request: Request, config: ServerConfig) -> bytes:
    """The body, unpacked; `UnsupportedMediaType`, `TooLarge`, `BodyTimeout`, `InvalidRequest`."""
    payload = request.content
    if payload is EMPTY_PAYLOAD:
        return b""
    headers = request.headers
    kind = headers.get(hdrs.CONTENT_TYPE)
    if kind is not None and kind != "application/json":
        _check_type(kind)
    coding = (
        _coding(headers.getall(hdrs.CONTENT_ENCODING)) if hdrs.CONTENT_ENCODING in headers else ""
    )
    # All of a usual body arrives with its head: no timer then, no waiting, no flow to control.
    data = b"".join(payload._buffer) if payload.is_eof() else await _slow_body(request, config)
    if len(data) > config.max_body_bytes:
        raise _too_large(config)
    return _unpacked(data, coding, config) if coding else data


def _check_type(kind: str) -> None:
    name = kind.partition(";")[0].strip().lower()
    if name != "application/json" and not (
        name.startswith("application/") and name.endswith("+json")
    ):
        raise UnsupportedMediaType("the body must be application/json")


def _coding(given: list[str]) -> str:
    coding = ", ".join(given).strip().lower()
    if coding in ("", "identity"):
        return ""
    if coding not in _FORMATS:
        raise UnsupportedMediaType(
            "the body's Content-Encoding may be gzip or deflate, once, or none"
        )
    return coding


def _unpacked(data: bytes, coding: str, config: ServerConfig) -> bytes:
    # What is small on the wire and large in memory is never opened further than a body may be.
    unpacking = zlib.decompressobj(_FORMATS[coding])
    try:
        body = unpacking.decompress(data, config.max_body_bytes + 1)
    except zlib.error:
        raise InvalidRequest(
            f"the body is not in the form of its Content-Encoding, {coding}"
        ) from None
    if len(body) > config.max_body_bytes:
        raise _too_large(config)
    if not unpacking.eof or unpacking.unused_data:
        raise InvalidRequest(f"the body must be one whole {coding} stream, and nothing behind it")
    return body


async def _slow_body(request: Request, config: ServerConfig) -> bytes:
    length = request.headers.get("Content-Length")
    if length is not None and int(length) > config.max_body_bytes:
        raise _too_large(config)
    # HTTP/1.0 knows no answer before the answer
    if request.version >= (1, 1) and request.headers.get("Expect", "").lower() == "100-continue":
        request.connection.send(b"HTTP/1.1 100 Continue\r\n\r\n")
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
