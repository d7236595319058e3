"""HTTP for the MCP client, by aiohttp: every connection is to an address that was checked.

Proxies of the environment are not used, they would connect on their own account. A redirect is
followed by the MCP client alone, only to the same host, and over a connection made here again.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import aiohttp
import httpx2
from aiohttp import hdrs
from aiohttp.abc import AbstractResolver
from mcp.client.streamable_http import streamable_http_client
from yarl import URL

from pool.agents.mcp_server import McpServer
from pool.guard.connector import connector_to, leads_astray

# The largest answer, and the largest event of a stream, that is read.
ANSWER_BYTES: Final = 4_000_000
# How long a stream may be silent, in seconds: servers write a comment now and then.
_SILENCE_S: Final = 300.0
_STREAM: Final = "text/event-stream"


class RefusedConnection(httpx2.ConnectError):
    """The server's name leads to an address that may not be connected to."""


class CheckedTransport(httpx2.AsyncBaseTransport):
    """Sends requests to a server over connections to checked addresses.

    `resolver`: looks up names (default: the system's). `refusal`: the status of the last
    answer, if it was 400 or more.
    """

    def __init__(self, server: McpServer, resolver: AbstractResolver | None = None) -> None:
        self.refusal: int | None = None
        self._http = aiohttp.ClientSession(
            connector=connector_to(server.networks, resolver),
            timeout=aiohttp.ClientTimeout(
                total=None,
                sock_connect=server.connect_timeout_s,
                sock_read=max(_SILENCE_S, server.timeout_s),
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
        )

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send a request. The body of the answer is read as it is asked for."""
        try:
            answer = await self._http.request(
                request.method,
                URL(str(request.url), encoded=True),
                headers=request.headers.multi_items(),
                data=await request.aread(),
                allow_redirects=False,
            )
        except aiohttp.ClientConnectorError as error:
            if leads_astray(error):
                raise RefusedConnection("refused address", request=request) from None
            raise httpx2.ConnectError(type(error).__name__, request=request) from None
        except (aiohttp.ClientError, TimeoutError) as error:
            raise httpx2.ReadError(type(error).__name__, request=request) from None
        self.refusal = answer.status if answer.status >= 400 else None
        if answer.headers.get(hdrs.CONTENT_ENCODING, "identity") != "identity":
            # a few bytes may stand for gigabytes
            answer.close()
            raise httpx2.RemoteProtocolError("compressed", request=request)
        return httpx2.Response(
            answer.status, headers=list(answer.headers.items()), stream=_Body(answer)
        )

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.close()


class _Body(httpx2.AsyncByteStream):
    """The bytes of an answer; one that is no stream of events ends after `ANSWER_BYTES`."""

    def __init__(self, answer: aiohttp.ClientResponse) -> None:
        self._answer = answer
        self._bounded = answer.content_type != _STREAM

    async def __aiter__(self) -> AsyncIterator[bytes]:
        size = 0
        try:
            async for piece in self._answer.content.iter_any():
                size += len(piece)
                if self._bounded and size > ANSWER_BYTES:
                    raise httpx2.StreamError(f"the answer has more than {ANSWER_BYTES} bytes")
                yield piece
        except (aiohttp.ClientError, TimeoutError) as error:
            raise httpx2.ReadError(type(error).__name__) from None

    async def aclose(self) -> None:
        """Let go of the connection; what was not read is not waited for."""
        self._answer.close()


@asynccontextmanager
async def http_streams(server: McpServer, transport: CheckedTransport) -> AsyncIterator[Any]:
    """The streams of the MCP client's HTTP transport."""
    headers = {hdrs.ACCEPT_ENCODING: "identity", hdrs.USER_AGENT: "actorpool", **server.headers}
    async with (
        httpx2.AsyncClient(
            transport=transport, headers=headers, timeout=None, trust_env=False
        ) as client,
        streamable_http_client(
            server.url, http_client=client, max_sse_event_size=ANSWER_BYTES
        ) as streams,
    ):
        yield streams
