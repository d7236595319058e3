"""The tools of an MCP server: printed to be approved, and held against what was approved."""

from __future__ import annotations

import click

from pool.agents.mcp_pins import PinnedTool, standings, why_not, write_pins
from pool.agents.mcp_server import McpServer, need_package
from pool.errors import ConfigError
from protocol.command.screen import visible
from protocol.command.table import print_table


async def pin(server: McpServer) -> int:
    """Print the server's tools as a file of approved tools."""
    tools = await _tools(server)
    click.echo(write_pins(tools), nl=False)
    click.echo(
        f"[{len(tools)} tools: who keeps this as the server's pins approves of every word in it, "
        "so read it first, and take out what is not needed]",
        err=True,
    )
    return 0


async def check(server: McpServer) -> int:
    """Say how the server's tools stand by those that were approved; 1 unless all are the same."""
    found = standings(server.pins, await _tools(server))
    rows = [(tool, standing, why_not(standing) or "-") for tool, standing in found.items()]
    print_table(("TOOL", "STANDING", "WHY IT IS WITHHELD"), rows)
    return int(any(standing in ("changed", "gone") for standing in found.values()))


async def _tools(server: McpServer) -> tuple[PinnedTool, ...]:
    need_package()
    from pool.agents.mcp_client import NoConnection, listing_of

    try:
        listing = await listing_of(server)
    except NoConnection as error:
        option, value = ("url", "...") if server.url else ("command", server.command[0])
        raise ConfigError(option, value, f"there is no connection to it: {error}") from None
    for tool, flaw in listing.unfit.items():
        click.echo(f"actorpool: tool {visible(tool)} is left out: it {flaw}", err=True)
    return listing.tools
