"""The approved tools of MCP servers as tools of a chat agent."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from copy import copy
from functools import partial
from typing import Any, Final

from aiohttp.abc import AbstractResolver
from msgspec import Struct

from pool.agent import Context, ToolCall
from pool.agents.base_tool import BaseTool
from pool.agents.mcp_connection import McpConnection, ToolFailed
from pool.agents.mcp_pins import PinnedTool
from pool.agents.mcp_results import content_of, text_of
from pool.agents.mcp_schema import Checker
from pool.agents.mcp_server import McpServer
from pool.agents.model import ToolSchema
from pool.agents.threads import Threads
from pool.agents.tool_errors import BadArguments
from pool.errors import ConfigError

# Where a call says by what its server knows it again.
KEY_FIELD: Final = "actorpool/idempotency-key"
_NAME_CHARS: Final = 64
_OTHER: Final = re.compile(r"[^A-Za-z0-9_-]")


class Arguments(Struct, frozen=True):
    """A call's arguments, which fit the tool's schema."""

    arguments: dict[str, Any]


class McpTool(BaseTool):
    """One approved tool. The model is told what was approved, whatever its server says now."""

    __slots__ = ("_checker", "_connection", "_pinned", "server")

    def __init__(self, server: McpServer, pinned: PinnedTool, connection: McpConnection) -> None:
        name = _OTHER.sub("_", f"{server.name}_{pinned.name}")
        if len(name) > _NAME_CHARS:
            remedy = f"with the server's name it is longer than {_NAME_CHARS}: shorten that name"
            raise ConfigError("pins", pinned.name, f"{remedy}, or take this tool out")
        super().__init__(
            ToolSchema(name, pinned.description, pinned.input_schema),
            risk=server.risk_of(pinned.name),
            timeout_s=server.timeout_s,
            parallel=server.parallel,
            max_result_chars=server.max_result_chars,
            breaker=server.breaker,
            cache_s=server.cache_s.get(pinned.name),
        )
        self.server = server.name
        self._pinned = pinned
        self._connection = connection
        self._checker = Checker(pinned.name, pinned.input_schema)

    def over(self, connection: McpConnection) -> McpTool:
        """It for another actor: over that one's connection, within the same limits."""
        other = copy(self)
        other._connection = connection
        return other

    def check(self, arguments: Mapping[str, Any]) -> Struct:
        """The arguments, checked; `BadArguments` also if the tool is not as it was approved."""
        if flaw := self._connection.flaw_of(self._pinned.name):
            raise BadArguments(flaw)
        self._checker.check(arguments)
        return Arguments(dict(arguments))

    async def run(self, checked: Struct, call: ToolCall, ctx: Context, threads: Threads) -> Any:
        """Call the tool with what `check` returned; `ToolFailed` if it says that it failed,
        `ToolError` if there was no answer, or its limits do not let it be called.
        """
        return await self._limited(partial(self._call, checked, call, ctx))

    async def _call(self, checked: Any, call: ToolCall, ctx: Context) -> Any:
        meta = {KEY_FIELD: ctx.idempotency_key(call)}
        result = await self._connection.call(self._pinned.name, checked.arguments, meta)
        if result.is_error:
            raise ToolFailed(text_of(result))
        return content_of(result)


class McpTools:
    """The tools of several servers, with one actor's connections to them.

    `resolver`: looks up names (default: the system's).
    """

    __slots__ = ("_connections", "_resolver", "_servers", "tools")

    def __init__(
        self, servers: Sequence[McpServer], *, resolver: AbstractResolver | None = None
    ) -> None:
        names = [server.name for server in servers]
        for server in servers:
            if not server.pins:
                remedy = (
                    'none of its tools was approved: run "actorpool mcp pin", read what it prints'
                )
                raise ConfigError("pins", server.name, remedy)
            if names.count(server.name) > 1:
                raise ConfigError("mcp", server.name, "two servers have this name: rename one")
        self._servers = servers
        self._resolver = resolver
        self._connections = self._to_connect()
        self.tools: Sequence[McpTool] = [
            McpTool(server, pinned, self._connections[server.name])
            for server in servers
            for pinned in server.pins
        ]

    def again(self) -> McpTools:
        """The same for another actor, with connections of its own."""
        other = copy(self)
        other._connections = other._to_connect()
        other.tools = [tool.over(other._connections[tool.server]) for tool in self.tools]
        return other

    async def open(self) -> None:
        """Connect to all servers. `AgentFailed` if one of them cannot be reached."""
        try:
            await asyncio.gather(*(each.open() for each in self._connections.values()))
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """End the connections. In the task that opened them or another."""
        await asyncio.gather(*(each.close() for each in self._connections.values()))

    def _to_connect(self) -> dict[str, McpConnection]:
        return {
            server.name: McpConnection(server, resolver=self._resolver) for server in self._servers
        }
