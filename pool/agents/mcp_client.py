"""One connection to an MCP server: opened, and its tools listed.

The MCP client is entered and left in one task, and cancels that task when its transport fails:
whoever uses `connected` does so in a task that is there for nothing else.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, nullcontext
from typing import Any, Final, TextIO, cast

import httpx2
from aiohttp.abc import AbstractResolver
from mcp.client import Client
from mcp.client.session import MessageHandlerFnT
from mcp.client.stdio import StdioServerParameters, stdio_client
from mcp.client.subscriptions import ListenNotSupportedError, Subscription
from mcp.shared.exceptions import MCPError
from mcp_types import CONNECTION_CLOSED, REQUEST_TIMEOUT, Implementation, Tool
from msgspec import Struct

from pool.agents.mcp_http import CheckedTransport, RefusedConnection, http_streams
from pool.agents.mcp_pins import NAME_CHARS, PinnedTool, Unpinnable, pin
from pool.agents.mcp_server import McpServer

# How many tools a server may list.
MAX_TOOLS: Final = 256
_INFO: Final = Implementation(name="actorpool", version="1")


class NoConnection(Exception):
    """There is no connection to a server. The text says why, and is safe to show."""


class Listing(Struct, frozen=True):
    """The tools that a server has; `unfit` are those that nobody can approve, and why."""

    tools: tuple[PinnedTool, ...]
    unfit: dict[str, str]


@asynccontextmanager
async def connected(
    server: McpServer, on_message: MessageHandlerFnT, resolver: AbstractResolver | None = None
) -> AsyncIterator[Client]:
    """A client of the server. What keeps it from connecting, or breaks the connection while the
    block runs, is raised as `NoConnection`.
    """
    transport: CheckedTransport | None = None
    try:
        async with AsyncExitStack() as stack:
            if server.url:
                transport = CheckedTransport(server, resolver)
                stack.push_async_callback(transport.aclose)
                opening = http_streams(server, transport)
            else:
                opening = _stdio_streams(server)
            # not timed: a program that is being started must not be left alone
            streams = await stack.enter_async_context(opening)
            client = Client(
                nullcontext(streams),
                read_timeout_seconds=server.connect_timeout_s,
                message_handler=on_message,
                client_info=_INFO,
                # a listing is asked for to see what is there now
                cache=None,
            )
            async with asyncio.timeout(server.connect_timeout_s):
                await stack.enter_async_context(client)
            yield client
    except Exception as error:
        refusal = None if transport is None else transport.refusal
        raise NoConnection(_why(error, refusal)) from None


async def listed(client: Client, timeout_s: float) -> Listing:
    """All tools of the server."""
    tools: list[Tool] = []
    cursor: str | None = None
    async with asyncio.timeout(timeout_s):
        while True:
            page = await client.list_tools(cursor=cursor)
            tools += page.tools
            cursor = page.next_cursor
            if len(tools) > MAX_TOOLS:
                raise NoConnection(f"it lists more than {MAX_TOOLS} tools")
            if cursor is None:
                return _pinned(tools)


async def listing_of(server: McpServer, resolver: AbstractResolver | None = None) -> Listing:
    """The tools that a server has now, to be approved. `NoConnection` if it cannot be asked."""
    async with connected(server, _ignore, resolver) as client:
        return await listed(client, server.connect_timeout_s)


async def subscribed(client: Client, stack: AsyncExitStack) -> Subscription | None:
    """A subscription to changes of the tools, until the stack is closed. None if the server has
    nothing of the kind: older ones tell of changes unasked.
    """
    try:
        return await stack.enter_async_context(client.listen(tools_list_changed=True))
    except (ListenNotSupportedError, MCPError):
        return None


async def _ignore(message: object) -> None:
    """What a server says unasked matters to nobody who only looks at its tools."""


def _pinned(tools: Sequence[Tool]) -> Listing:
    found: dict[str, PinnedTool] = {}
    unfit: dict[str, str] = {}
    for tool in tools:
        if tool.name in found:
            unfit[tool.name] = "is listed twice"
            continue
        try:
            found[tool.name] = pin(tool.name, tool.description or "", tool.input_schema)
        except Unpinnable as flaw:
            unfit[tool.name[:NAME_CHARS]] = str(flaw)
    return Listing(tuple(each for name, each in found.items() if name not in unfit), unfit)


@asynccontextmanager
async def _stdio_streams(server: McpServer) -> AsyncIterator[Any]:
    command, *arguments = server.command
    parameters = StdioServerParameters(command=command, args=arguments, env=server.env)
    # the program says what it has to say to an operator where this process does, if anywhere
    async with stdio_client(parameters, cast(TextIO, sys.__stderr__)) as streams:
        yield streams


def _why(error: Exception, refusal: int | None) -> str:
    """Why there is no connection, without a word of the server's."""
    found = list(_leaves(error))
    for each in found:
        if isinstance(each, NoConnection):
            return str(each)
        if isinstance(each, RefusedConnection):
            return "its name leads to an address that may not be connected to"
    if refusal is not None:
        return f"it answered with status {refusal}"
    first = found[0]
    if isinstance(first, MCPError):
        return _WORDS.get(first.code, f"it answered with error {first.code}")
    if isinstance(first, TimeoutError):
        return _WORDS[REQUEST_TIMEOUT]
    if isinstance(first, OSError):
        return f"its command cannot be run ({type(first).__name__})"
    if isinstance(first, httpx2.NetworkError):
        return f"it cannot be reached ({type(first).__name__})"
    return f"it does not speak as it should ({type(first).__name__})"


_WORDS: Final = {
    CONNECTION_CLOSED: "it closed the connection",
    REQUEST_TIMEOUT: "it does not answer in time",
}


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for each in error.exceptions:
            yield from _leaves(each)
    else:
        yield error
