"""The operator's command line for tools over MCP: which of them are approved."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine, Sequence
from functools import wraps
from typing import TYPE_CHECKING, Any

import click

from protocol.command.mistakes import mistakes

if TYPE_CHECKING:
    from pool.agents.mcp_server import McpServer


class _Pair(click.ParamType[tuple[str, str]]):
    """A name and a value with a mark between them."""

    def __init__(self, mark: str) -> None:
        self.name = f"name{mark}value"
        self._mark = mark

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, str]:
        """Both."""
        name, mark, rest = str(value).partition(self._mark)
        if not (name and mark):
            self.fail(f"write a name, {self._mark} and a value", param, ctx)
        return name, rest.strip() if self._mark == ":" else rest


def _of_server(act: Callable[..., Coroutine[Any, Any, int]]) -> Callable[..., None]:
    """Make a command of what is asked of a server, given by its URL or its command."""

    @click.option("--url", metavar="URL", help="A server that speaks Streamable HTTP.")
    @click.option(
        "--token",
        metavar="TOKEN",
        envvar="ACTORPOOL_MCP_TOKEN",
        help="Sent to the URL as a bearer token [$ACTORPOOL_MCP_TOKEN].",
    )
    @click.option("--header", "headers", type=_Pair(":"), multiple=True, help="Sent to the URL.")
    @click.option("--env", "env", type=_Pair("="), multiple=True, help="What the command gets.")
    @click.option("--allow-private", is_flag=True, help="The URL may lead to this network.")
    @click.option("--allow-http", is_flag=True, help="The URL may be without TLS.")
    @click.argument("command", nargs=-1, metavar="[-- COMMAND...]")
    @wraps(act)
    def command(**options: Any) -> None:
        with mistakes():
            code = asyncio.run(act(_server(**options)))
        sys.exit(code)

    return command


def _server(
    *,
    url: str | None,
    command: Sequence[str],
    token: str | None,
    headers: Sequence[tuple[str, str]],
    env: Sequence[tuple[str, str]],
    allow_private: bool,
    allow_http: bool,
    pins: str | None = None,
) -> McpServer:
    from pool.agents.mcp_pins import read_pins
    from pool.agents.mcp_server import McpServer

    sent = dict(headers) | ({"Authorization": f"Bearer {token}"} if token and url else {})
    return McpServer(
        name="server",
        url=url or "",
        command=tuple(command),
        headers=sent,
        env=dict(env),
        pins=read_pins(pins) if pins else (),
        allow_private=allow_private,
        allow_http=allow_http,
    )


@click.group()
def mcp() -> None:
    """Tools over MCP: a model is offered those that somebody has approved, word for word."""


@mcp.command("pin")
@_of_server
async def _pin(server: McpServer) -> int:
    """Print a server's tools, to be read and kept as its pins."""
    from protocol.command import mcp as run

    return await run.pin(server)


@mcp.command("check")
@click.option("--pins", metavar="FILE", required=True, help="What was approved.")
@_of_server
async def _check(server: McpServer) -> int:
    """Say which of a server's tools are still as they were approved; 1 if not all of them are."""
    from protocol.command import mcp as run

    return await run.check(server)
