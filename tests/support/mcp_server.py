"""A real MCP server: in this process over HTTP, or a program that speaks over stdin and stdout."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

import uvicorn
from mcp.server.mcpserver import Context, Image, MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.server.transport_security import TransportSecuritySettings
from mcp_types.version import MODERN_PROTOCOL_VERSIONS
from starlette.responses import Response

from pool.agents.mcp_pins import PinnedTool, pin
from pool.agents.mcp_server import McpServer

COMMAND: Final = (sys.executable, "-m", "tests.support.mcp_server")


class Tools:
    """What the server's tools do, and what became of their calls."""

    def __init__(self) -> None:
        self.waiting = asyncio.Event()
        self.cancelled = asyncio.Event()
        self.metas: list[Any] = []
        self.server = _quiet(lambda: MCPServer("tools"))
        for name in ("add", "say", "fail", "wait", "picture", "change", "die"):
            self.server.add_tool(getattr(self, name))

    def describe(self, name: str, description: str) -> None:
        """Give a tool another description."""
        self.server.remove_tool(name)
        self.server.add_tool(getattr(self, name), description=description)

    async def add(self, a: int, b: int, ctx: Context) -> int:
        """Add two numbers."""
        self.metas.append(ctx.request_context.meta)
        return a + b

    async def say(self, text: str, times: int = 1) -> str:
        """Say a text."""
        return text * times

    async def fail(self) -> str:
        """Fail."""
        raise ToolError("the moon is full")

    async def wait(self) -> str:
        """Wait for ever."""
        self.waiting.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        return "never"

    async def picture(self) -> Image:
        """Draw a picture."""
        return Image(data=b"pixels", format="png")

    async def change(self, name: str, description: str, ctx: Context) -> str:
        """Give a tool another description, and tell of it."""
        self.describe(name, description)
        await ctx.notify_tools_changed()
        await ctx.session.send_tool_list_changed()
        return "changed"

    async def die(self) -> None:
        """End the process in the middle of a call."""
        os._exit(3)


class _Server(uvicorn.Server):
    """Ends when it is told to, not at the next tick of its own."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._ended = asyncio.Event()

    def end(self) -> None:
        """Shut down."""
        self.should_exit = True
        self._ended.set()

    async def main_loop(self) -> None:
        """Wait for the end."""
        await self.on_tick(0)
        await self._ended.wait()


class Running:
    """A server that runs on a port of this machine; it can be stopped and started again there.

    `legacy`: it knows nothing of the newest protocol. `json`: answers are no streams of events.
    """

    def __init__(self, tools: Tools, *, legacy: bool = False, json: bool = False) -> None:
        self.tools = tools
        self.seen: list[dict[str, str]] = []
        self._legacy = legacy
        self._json = json
        self._socket = _listening(0)
        self.port: int = self._socket.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/mcp"
        self._uvicorn: _Server | None = None
        self._task: asyncio.Task[None] | None = None

    async def approved(self, **options: Any) -> McpServer:
        """It as the configuration has it, with all its tools."""
        return self.config(pins=await pins_of(self.tools), **options)

    def config(self, **options: Any) -> McpServer:
        """It as the configuration has it, allowed, and with no tool approved."""
        usual: dict[str, Any] = {
            "name": "x",
            "url": self.url,
            "allow_private": True,
            "allow_http": True,
        }
        return McpServer(**usual | options)

    async def start(self) -> None:
        """Answer requests."""
        if self._socket.fileno() < 0:
            self._socket = _listening(self.port)
        inner = self.tools.server.streamable_http_app(
            json_response=self._json,
            # it is also called by names that it does not know
            transport_security=TransportSecuritySettings(enable_dns_rebinding_protection=False),
        )
        config = uvicorn.Config(self._wrapped(inner), log_config=None, log_level="critical")
        config.timeout_graceful_shutdown = 0
        self._uvicorn = _Server(config)
        self._task = asyncio.create_task(self._uvicorn._serve([self._socket]))

    async def stop(self) -> None:
        """Break off all connections and take no more."""
        if self._uvicorn is None or self._task is None:
            return
        self._uvicorn.end()
        await self._task
        self._socket.close()
        self._uvicorn = self._task = None

    def _wrapped(self, inner: Any) -> Any:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            if scope["type"] == "http":
                headers = {name.decode(): value.decode() for name, value in scope["headers"]}
                self.seen.append(headers)
                version = headers.get("mcp-protocol-version")
                if self._legacy and version in MODERN_PROTOCOL_VERSIONS:
                    await Response(status_code=400)(scope, receive, send)
                    return
            await inner(scope, receive, send)

        return app


async def program() -> McpServer:
    """A server that is a program, as the configuration has it, with all its tools."""
    pins = await pins_of(Tools())
    return McpServer(name="p", command=COMMAND, env={"PYTHONPATH": "."}, pins=pins)


@asynccontextmanager
async def running(*, legacy: bool = False, json: bool = False) -> AsyncIterator[Running]:
    """A server, until the block is left."""
    server = Running(Tools(), legacy=legacy, json=json)
    await server.start()
    try:
        yield server
    finally:
        await server.stop()
        await _end_watchers()


async def pins_of(tools: Tools) -> tuple[PinnedTool, ...]:
    """The tools, all of them approved."""
    described = await tools.server.list_tools()
    return tuple(pin(tool.name, tool.description or "", tool.input_schema) for tool in described)


async def _end_watchers() -> None:
    """End the tasks in which a library of the server's waits for the end of the process."""
    watchers = [
        task
        for task in asyncio.all_tasks()
        if getattr(task.get_coro(), "__name__", "") == "_shutdown_watcher"
    ]
    for task in watchers:
        task.cancel()
    await asyncio.gather(*watchers, return_exceptions=True)


def _listening(port: int) -> socket.socket:
    listening = socket.socket()
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listening.bind(("127.0.0.1", port))
    listening.listen()
    return listening


def _quiet(make: Callable[[], MCPServer]) -> MCPServer:
    """Make a server without the handlers of logs that it would put at the root."""
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    try:
        return make()
    finally:
        root.handlers[:] = before
        root.setLevel(level)


if __name__ == "__main__":
    asyncio.run(Tools().server.run_stdio_async())
