"""An actor's connection to an MCP server: made anew when it broke, and watched for changed tools.

The MCP client does not reconnect. It lives in a task of its own, from its beginning to its end, and
is made anew by that task when the next call asks for it. A call that a connection broke under has
failed: it may have been done.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from contextvars import Context, copy_context
from random import Random
from time import monotonic
from typing import Any, Final, Literal

import structlog
from aiohttp.abc import AbstractResolver
from mcp.client import Client, IncomingMessage
from mcp.client.subscriptions import Subscription, SubscriptionLost
from mcp.shared.exceptions import MCPError
from mcp_types import (
    CONNECTION_CLOSED,
    INVALID_REQUEST,
    PARSE_ERROR,
    REQUEST_TIMEOUT,
    CallToolResult,
    ToolListChangedNotification,
)

from pool.agents.mcp_client import NoConnection, connected, listed, subscribed
from pool.agents.mcp_pins import AGAIN, Standing, standings, why_not
from pool.agents.mcp_server import McpServer
from pool.agents.tool_errors import ToolError
from pool.backoff import Backoff
from pool.errors import AgentFailed

_FIRST_S: Final = 0.5
_MAX_S: Final = 30.0
_QUIET_S: Final = 60.0
# It is tried as long as calls ask for it: only ever later, within `_MAX_S`.
_TOLERATED: Final = 1_000
# How long the connection may take to end before its task is cancelled.
_CLOSE_S: Final = 5.0
# Before a changed list is asked for: a server that tells of changes all the time would be asked all
# the time.
_CALM_S: Final = 0.05
# What a call is told when its connection broke, or when the server forgot the session.
_BROKEN: Final = frozenset({CONNECTION_CLOSED, INVALID_REQUEST})
_NOT_UNDERSTOOD: Final = "its answer was not understood; the call may have been done"

_log = structlog.get_logger("pool.agents.mcp")

# wanted: a call waits for a connection that nobody has begun to make. listing: there is one, and
# what tools its server has is not known.
State = Literal["down", "wanted", "connecting", "listing", "up"]


class ToolFailed(Exception):
    """A tool says that it failed; the text is its server's, for the model alone."""


class NoAnswer(ToolError):
    """A call was not made, or nothing is known of what came of it."""


class McpConnection:
    """One actor's connection to one server.

    `resolver`: looks up names (default: the system's). `clock`: seconds, monotonic.
    """

    def __init__(
        self,
        server: McpServer,
        *,
        resolver: AbstractResolver | None = None,
        clock: Callable[[], float] = monotonic,
        random: Random | None = None,
    ) -> None:
        self._server = server
        self._resolver = resolver
        self._clock = clock
        self._backoff = Backoff(
            first_s=_FIRST_S,
            max_s=_MAX_S,
            quiet_s=_QUIET_S,
            tolerated=_TOLERATED,
            window_s=_QUIET_S,
            random=random or Random(),
        )
        self._standings: Mapping[str, Standing] = {}
        self._state: State = "down"
        # set unless a call has something to wait for
        self._settled = asyncio.Event()
        # told to the task that has the client: a new state, a changed list, the end
        self._stirred = asyncio.Event()
        self._stale = False
        self._stopping = False
        self._client: Client | None = None
        # why there was no connection last
        self._flaw = "it is not open"
        self._retry_at = 0.0
        self._task: asyncio.Task[None] | None = None
        # what the client does for a call does not belong to the turn that makes the call
        self._context: Context = copy_context()

    def __repr__(self) -> str:
        return f"<McpConnection {self._server.name} [{self._state}]>"

    async def open(self) -> None:
        """Connect. `AgentFailed` if that cannot be done."""
        self._become("wanted")
        self._task = asyncio.create_task(self._keep(), name=f"mcp {self._server.name}")
        await self._settled.wait()
        if self._client is None:
            raise AgentFailed(f"no connection to the MCP server {self._server.name}: {self._flaw}")

    async def close(self) -> None:
        """End the connection and its task."""
        task, self._task = self._task, None
        if task is None:
            return
        self._stopping = True
        self._stirred.set()
        try:
            # not cancelled at once: a program that is being started would be left alone
            await asyncio.wait({task}, timeout=_CLOSE_S)
        finally:
            # one that has ended does not mind
            task.cancel()
        await asyncio.wait({task})

    def flaw_of(self, tool: str) -> str:
        """Why one of the server's tools may not be called, by what it listed last; or ""."""
        return why_not(self._standings.get(tool, "approved"))

    async def call(self, tool: str, arguments: dict[str, Any], meta: Any = None) -> CallToolResult:
        """Call a tool; `NoAnswer`, or `ToolFailed` if its server does not even try."""
        client = await self._ready()
        if flaw := self.flaw_of(tool):
            raise NoAnswer(flaw)
        timeout_s = self._server.timeout_s
        calling = client.call_tool(tool, arguments, read_timeout_seconds=timeout_s, meta=meta)
        task = asyncio.get_running_loop().create_task(calling, context=self._context.copy())
        try:
            return await task
        except MCPError as error:
            if error.code in _BROKEN:
                self._drop(client)
            if error.code == CONNECTION_CLOSED:
                raise NoAnswer("the connection broke: the call may have been done") from None
            if error.code == INVALID_REQUEST:
                raise NoAnswer("its server did not take the call; try again") from None
            if error.code == REQUEST_TIMEOUT:
                raise NoAnswer(f"there was no answer within {timeout_s:g} s") from None
            if error.code == PARSE_ERROR:
                raise NoAnswer(_NOT_UNDERSTOOD) from None
            raise ToolFailed(error.message) from None
        except (RuntimeError, ValueError):
            # the protocol, or what the tool says of its own output, does not allow it
            raise NoAnswer(_NOT_UNDERSTOOD) from None

    async def _ready(self) -> Client:
        if self._state == "down":
            wait_s = self._retry_at - self._clock()
            if self._task is None or wait_s > 0:
                raise NoAnswer(f"no connection to its server: {self._flaw}; try again later")
            self._become("wanted")
        while not self._settled.is_set():
            await self._settled.wait()
        if self._client is None:
            raise NoAnswer(f"no connection to its server: {self._flaw}")
        return self._client

    async def _keep(self) -> None:
        """Have a connection when there is need of one, for as long as it lasts."""
        try:
            while not self._stopping:
                if self._state != "wanted":
                    await self._stir()
                    continue
                try:
                    await self._connect()
                except NoConnection as error:
                    self._failed(str(error))
        finally:
            self._become("down")

    async def _connect(self) -> None:
        self._stale = True
        self._become("connecting")
        async with AsyncExitStack() as stack:
            client = await stack.enter_async_context(
                connected(self._server, self._on_message, self._resolver)
            )
            changes = await subscribed(client, stack)
            await self._review(client)
            self._client = client
            self._become("up")
            await self._stay(client, changes)

    async def _stay(self, client: Client, changes: Subscription | None) -> None:
        """Return when the connection is not to be used any more."""
        watching = asyncio.create_task(self._watch(client, changes))
        try:
            while self._client is client and not self._stopping:
                if self._stale:
                    await asyncio.sleep(_CALM_S)
                    await self._review(client)
                    if self._client is client:
                        self._become("up")
                await self._stir()
        finally:
            watching.cancel()
            self._drop(client)

    async def _watch(self, client: Client, changes: Subscription | None) -> None:
        """Read the subscription. What it tells of comes to `_on_message` as well, its end does
        not.
        """
        if changes is None:
            return
        try:
            async for _ in changes:
                continue
        except SubscriptionLost:
            _log.info("MCP server ended a subscription", server=self._server.name)
        self._drop(client)

    async def _on_message(self, message: IncomingMessage) -> None:
        if isinstance(message, ToolListChangedNotification):
            self._stale = True
            if self._state == "up":
                self._become("listing")

    async def _review(self, client: Client) -> None:
        """See which tools are as they were approved. Again, if they change meanwhile; a server that
        goes on changing them is one that does not answer.
        """
        async with asyncio.timeout(self._server.connect_timeout_s):
            await self._look(client)
            while self._stale:
                await asyncio.sleep(_CALM_S)
                await self._look(client)

    async def _look(self, client: Client) -> None:
        self._stale = False
        listing = await listed(client, self._server.connect_timeout_s)
        found = standings(self._server.pins, listing.tools)
        if found != self._standings:
            self._tell(found)
        self._standings = found

    def _tell(self, found: Mapping[str, Standing]) -> None:
        """Say which tools are not offered. New ones are counted: nobody has read their names."""
        unfit = {tool: standing for tool, standing in found.items() if standing != "approved"}
        named = {tool: standing for tool, standing in unfit.items() if standing != "new"}
        if unfit:
            say = _log.warning if named else _log.info
            new = len(unfit) - len(named)
            say(
                "MCP tools are withheld",
                server=self._server.name,
                tools=named,
                new=new,
                remedy=AGAIN,
            )

    def _failed(self, flaw: str) -> None:
        """It broke, or could not be made."""
        _log.warning("no connection to MCP server", server=self._server.name, detail=flaw)
        self._flaw = flaw
        if self._state == "connecting":
            self._retry_at = self._clock() + self._backoff.failed(self._clock())
            self._become("down")

    def _drop(self, client: Client) -> None:
        """Use this client no more. Who waits for a listing of its tools gets another one."""
        if self._client is client:
            self._client = None
            self._flaw = "it broke off"
            self._become("wanted" if self._state == "listing" else "down")

    def _become(self, state: State) -> None:
        self._state = state
        if state in ("down", "up"):
            self._settled.set()
        else:
            self._settled.clear()
        self._stirred.set()

    async def _stir(self) -> None:
        await self._stirred.wait()
        self._stirred.clear()
