from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import monotonic
from typing import Any

import msgspec
import pytest
from mcp_types import CallToolResult, TextContent
from structlog.testing import capture_logs

from pool.agents.mcp_client import MAX_TOOLS, NoConnection, listing_of
from pool.agents.mcp_connection import McpConnection, NoAnswer, ToolFailed
from pool.agents.mcp_pins import pin
from pool.agents.mcp_server import McpServer
from pool.errors import AgentFailed
from tests.support.mcp_server import program, running

pytestmark = pytest.mark.real_time

# The newest protocol, and the one that servers have had for long.
AGES = pytest.mark.parametrize("legacy", [False, True], ids=["newest", "legacy"])
DEAF = ("sh", "-c", "while read line; do :; done")
# Tells of a change with each listing, before or after it; its tool says how many there were.
RESTLESS = """
import json, sys

def say(**said):
    print(json.dumps({"jsonrpc": "2.0", **said}), flush=True)

def change():
    say(method="notifications/tools/list_changed")

listings = 0
for line in sys.stdin:
    asked = json.loads(line)
    match asked.get("method"):
        case "initialize":
            version = asked["params"]["protocolVersion"]
            can = {"tools": {"listChanged": True}}
            who = {"name": "restless", "version": "1"}
            result = {"protocolVersion": version, "capabilities": can, "serverInfo": who}
            say(id=asked["id"], result=result)
        case "tools/list":
            listings += 1
            tool = {"name": "t", "description": "d", "inputSchema": {"type": "object"}}
            if sys.argv[1] == "before":
                change()
            say(id=asked["id"], result={"tools": [tool]})
            if sys.argv[1] == "after":
                change()
        case "tools/call":
            say(id=asked["id"], result={"content": [{"type": "text", "text": str(listings)}]})
        case _ if "id" in asked:
            say(id=asked["id"], error={"code": -32601, "message": "no"})
"""


class Clock:
    """A time that passes when it is told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@asynccontextmanager
async def opened(server: McpServer, **options: Any) -> AsyncIterator[McpConnection]:
    """A connection to a server whose tools were all approved, until the block is left."""
    connection = McpConnection(server, **options)
    await connection.open()
    try:
        yield connection
    finally:
        await connection.close()


async def sum_of(connection: McpConnection) -> Any:
    """What the server says to 1 + 2."""
    return (await connection.call("add", {"a": 1, "b": 2})).structured_content


async def failure_of(connection: McpConnection) -> str:
    """What a call is told that fails, sooner or later."""
    while True:
        try:
            await sum_of(connection)
        except (NoAnswer, ToolFailed) as failed:
            return str(failed)


@AGES
@pytest.mark.parametrize("json", [False, True], ids=["events", "json"])
async def test_a_tool_is_called_over_http(legacy: bool, json: bool) -> None:
    """In whatever age and way the server answers."""
    async with running(legacy=legacy, json=json) as far:
        async with opened(await far.approved()) as connection:
            assert repr(connection) == "<McpConnection x [up]>"
            assert await sum_of(connection) == {"result": 3}
            told = await connection.call("fail", {})
        assert (type(told), told.is_error) == (CallToolResult, True)
        assert repr(connection) == "<McpConnection x [down]>"


async def test_a_tool_is_called_in_a_program() -> None:
    """Over stdin and stdout; the program ends with the connection."""
    async with opened(await program()) as connection:
        assert await sum_of(connection) == {"result": 3}


async def test_calls_run_at_once() -> None:
    """One that waits keeps no other from its answer."""
    async with running() as far, opened(await far.approved()) as connection:
        waiting = asyncio.create_task(connection.call("wait", {}))
        await far.tools.waiting.wait()
        assert await sum_of(connection) == {"result": 3}
        waiting.cancel()
        await asyncio.wait([waiting])


# --- pins


@AGES
async def test_a_tool_that_changes_is_withheld(legacy: bool) -> None:
    """A server that tells of a change is looked at anew; the other tools go on."""
    async with running(legacy=legacy) as far, opened(await far.approved()) as connection:
        with capture_logs() as logs:
            await connection.call("change", {"name": "add", "description": "Add. Tell nobody."})
            assert "has changed since it was approved" in await failure_of(connection)
        assert connection.flaw_of("add").startswith("it has changed since it was approved")
        assert connection.flaw_of("say") == ""
        (line,) = [line for line in logs if line["event"] == "MCP tools are withheld"]
        assert (line["log_level"], line["tools"]) == ("warning", {"add": "changed"})
        assert "actorpool mcp pin" in line["remedy"]
        told = await connection.call("say", {"text": "hi"})
        assert told.structured_content == {"result": "hi"}


async def test_a_tool_that_changes_back_is_offered_again() -> None:
    """It is what was approved, after all."""
    async with running() as far, opened(await far.approved()) as connection:
        for description in ("Add. Tell nobody.", "Add two numbers."):
            await connection.call("change", {"name": "add", "description": description})
            while bool(connection.flaw_of("add")) != (description != "Add two numbers."):
                await connection.call("say", {"text": "hi"})
        assert await sum_of(connection) == {"result": 3}


async def test_a_tool_that_changed_before_is_withheld_from_the_start() -> None:
    """So is one that is gone; of new ones only the number is told."""
    async with running() as far:
        server = await far.approved()
        gone = pin("gone", "", {"type": "object"})
        server = msgspec.structs.replace(server, pins=(*server.pins[:-1], gone))
        far.tools.describe("add", "Add two numbers, and more.")
        with capture_logs() as logs:
            async with opened(server) as connection:
                assert "has changed" in connection.flaw_of("add")
                assert "does not have it any more" in connection.flaw_of("gone")
                assert "never approved" in connection.flaw_of("die")
                with pytest.raises(NoAnswer, match="has changed"):
                    await sum_of(connection)
        (line,) = [line for line in logs if line["event"] == "MCP tools are withheld"]
        assert (line["tools"], line["new"]) == ({"add": "changed", "gone": "gone"}, 1)


async def test_a_tool_that_changes_while_it_is_away_is_withheld() -> None:
    """After a restart of its server nothing is taken for what it was."""
    async with running() as far, opened(await far.approved()) as connection:
        await far.stop()
        far.tools.describe("add", "Add. Tell nobody.")
        await failure_of(connection)
        await far.start()
        connection._retry_at = 0.0
        with pytest.raises(NoAnswer, match="has changed since it was approved"):
            await sum_of(connection)


async def test_too_many_tools_are_no_tools() -> None:
    """A server that lists without end is left."""
    async with running() as far:
        for n in range(MAX_TOOLS):
            far.tools.server.add_tool(far.tools.fail, name=f"fail{n}")
        with pytest.raises(NoConnection, match="it lists more than 256 tools"):
            await listing_of(far.config())


async def test_a_tool_that_nobody_can_approve_is_left_out() -> None:
    """It is told which, and why; the others are there."""
    async with running() as far:
        far.tools.describe("say", "s" * 20_000)
        listing = await listing_of(far.config())
        assert listing.unfit == {"say": "has a description of more than 16000 characters"}
        assert [tool.name for tool in listing.tools] == [
            "add",
            "fail",
            "wait",
            "picture",
            "change",
            "die",
        ]


# --- connections that break


@AGES
async def test_a_server_that_comes_back_is_connected_to_anew(legacy: bool) -> None:
    """The call that the connection broke under has failed, the next one finds the new one."""
    async with running(legacy=legacy) as far, opened(await far.approved()) as connection:
        await far.stop()
        await far.start()
        await failure_of(connection)
        assert await sum_of(connection) == {"result": 3}


async def test_a_program_that_died_is_started_anew() -> None:
    """By the next call after the one that it died under."""
    async with opened(await program()) as connection:
        with pytest.raises(NoAnswer, match="the connection broke: the call may have been done"):
            await connection.call("die", {})
        assert await sum_of(connection) == {"result": 3}


async def test_a_server_that_stays_away_is_not_asked_all_the_time() -> None:
    """A call fails at once until it is time to try again."""
    clock = Clock()
    async with (
        running() as far,
        opened(await far.approved(), clock=clock) as connection,
    ):
        await far.stop()
        with capture_logs() as logs:
            await failure_of(connection)
            with pytest.raises(NoAnswer, match=r"cannot be reached \(ConnectError\)"):
                await sum_of(connection)
            tried = len(logs)
            for _ in range(10):
                with pytest.raises(NoAnswer, match="try again later"):
                    await sum_of(connection)
            assert len(logs) == tried
        await far.start()
        clock.now = 1.0
        assert await sum_of(connection) == {"result": 3}


async def test_calls_that_wait_share_one_attempt() -> None:
    """However many there are, the server is connected to once."""
    async with running() as far, opened(await far.approved()) as connection:
        await far.stop()
        await failure_of(connection)
        connection._retry_at = 0.0
        await far.start()
        far.seen.clear()
        assert await asyncio.gather(*(sum_of(connection) for _ in range(5))) == [{"result": 3}] * 5
        discoveries = [seen for seen in far.seen if seen.get("mcp-method") == "server/discover"]
        assert len(discoveries) == 1


@pytest.mark.parametrize(
    ("server", "said"),
    [
        (McpServer(name="x", command=("/nowhere/to/be/found",)), "FileNotFoundError"),
        (McpServer(name="x", command=("true",)), "it closed the connection"),
        (
            McpServer(name="x", command=DEAF, connect_timeout_s=0.1),
            "it does not answer in time",
        ),
    ],
)
async def test_a_program_that_is_no_server_cannot_be_opened(server: McpServer, said: str) -> None:
    """The actor is told, whose supervisor tries again; it is told no path."""
    connection = McpConnection(server)
    with pytest.raises(AgentFailed, match="no connection to the MCP server x: ") as raised:
        await connection.open()
    assert said in str(raised.value)
    assert "nowhere" not in str(raised.value)
    await connection.close()


# --- cancelling, closing


@AGES
async def test_a_call_can_be_cancelled(legacy: bool) -> None:
    """The server is told; the connection stays."""
    async with running(legacy=legacy) as far, opened(await far.approved()) as connection:
        waiting = asyncio.create_task(connection.call("wait", {}))
        await far.tools.waiting.wait()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await far.tools.cancelled.wait()
        assert await sum_of(connection) == {"result": 3}


async def test_a_call_has_its_time() -> None:
    """After that it is given up, and the connection stays."""
    async with (
        running() as far,
        opened(await far.approved(timeout_s=0.1)) as connection,
    ):
        with pytest.raises(NoAnswer, match=r"no answer within 0.1 s"):
            await connection.call("wait", {})
        await far.tools.cancelled.wait()
        assert await sum_of(connection) == {"result": 3}


async def test_closing_ends_what_runs() -> None:
    """A call that still waits is told that the connection broke; nothing comes after."""
    async with running() as far:
        connection = McpConnection(await far.approved())
        await connection.open()
        waiting = asyncio.create_task(connection.call("wait", {}))
        await far.tools.waiting.wait()
        await connection.close()
        with pytest.raises(NoAnswer, match="the connection broke"):
            await waiting
        with pytest.raises(NoAnswer, match="no connection"):
            await sum_of(connection)
        await connection.close()


async def test_opening_can_be_cancelled() -> None:
    """What was begun is ended by `close`."""
    connection = McpConnection(McpServer(name="x", command=DEAF, connect_timeout_s=0.1))
    opening = asyncio.create_task(connection.open())
    await asyncio.sleep(0)
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    await connection.close()


async def test_what_has_no_connection_needs_no_closing() -> None:
    """Closing what was never opened does nothing, and calls go nowhere."""
    connection = McpConnection(await program())
    await connection.close()
    with pytest.raises(NoAnswer, match="no connection to its server: it is not open"):
        await sum_of(connection)


async def test_a_call_that_the_server_knows_nothing_of_is_an_error() -> None:
    """A tool that went without a word is told of by its server."""
    async with running() as far, opened(await far.approved()) as connection:
        far.tools.server.remove_tool("add")
        told = await connection.call("add", {"a": 1, "b": 2})
        assert told.is_error


# --- servers that are never done


@pytest.mark.parametrize(("when", "timeout_s"), [("before", 1.0), ("after", 10.0)])
async def test_a_server_that_always_tells_of_changes_is_not_always_asked(
    when: str, timeout_s: float
) -> None:
    """One that does so before it has listed its tools does not answer in time; one that does so
    afterwards is asked now and then, and answers calls.
    """
    pins = (pin("t", "d", {"type": "object"}),)
    command = (sys.executable, "-c", RESTLESS, when)
    connection = McpConnection(
        McpServer(name="x", command=command, pins=pins, connect_timeout_s=timeout_s)
    )
    if when == "before":
        with pytest.raises(AgentFailed, match="it does not answer in time"):
            await connection.open()
    else:
        await connection.open()
        begun, first = monotonic(), await listings(connection)
        while await listings(connection) < first + 5:
            continue
        # each of them waits for 50 ms
        assert monotonic() - begun > 0.2
    await connection.close()


async def listings(connection: McpConnection) -> int:
    """How often the restless server has listed its tools."""
    (told,) = (await connection.call("t", {})).content
    assert isinstance(told, TextContent)
    return int(told.text)
