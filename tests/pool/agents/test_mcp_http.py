"""Where the MCP client may connect to, and what it takes from there."""

from __future__ import annotations

import gzip
from copy import copy
from typing import Any

import pytest
from aiohttp.web import Response

from pool.agents.mcp_client import NoConnection, listing_of
from pool.agents.mcp_connection import McpConnection, NoAnswer
from pool.agents.mcp_http import ANSWER_BYTES
from pool.agents.mcp_server import McpServer
from pool.agents.tool_results import RESULT_CHARS
from tests.support.mcp_server import Running, running
from tests.support.names import Names
from tests.support.receiver import receiving

pytestmark = pytest.mark.real_time

NAMES = ("add", "say", "fail", "wait", "picture", "change", "die")


def by_name(far: Running, **options: Any) -> McpServer:
    """The server under a name in place of its address, without leave for private ones."""
    return far.config(
        **{"url": f"http://mcp.example:{far.port}/mcp", "allow_private": ()} | options
    )


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "10.0.0.1", "169.254.169.254", "::1", "::ffff:127.0.0.1", "fe80::1", "0.0.0.0"],
)
async def test_a_name_of_a_private_address_is_refused(address: str) -> None:
    """Before anything is connected."""
    async with running() as far:
        with pytest.raises(NoConnection, match="to an address that may not be connected to"):
            await listing_of(by_name(far), Names((address,)))
        assert far.seen == []


async def test_the_address_that_was_checked_is_the_one_connected_to() -> None:
    """There is one look-up, and what it answers is what is checked and connected to; of several
    addresses those that are refused are left out.
    """
    loopback = ("127.0.0.1/32",)
    names = Names(("::1", "127.0.0.2", "127.0.0.1"), ("10.0.0.1",))
    async with running() as far:
        listing = await listing_of(by_name(far, allow_private=loopback), names)
        assert (len(listing.tools), names.asked) == (len(NAMES), 1)
        assert {seen["host"] for seen in far.seen} == {f"mcp.example:{far.port}"}


async def test_a_name_that_turns_private_is_refused() -> None:
    """A name that led to an allowed address is checked again with each connection."""
    names = Names(("127.0.0.1",), ("127.0.0.2",))
    async with running() as far:
        server = by_name(far, allow_private=("127.0.0.1/32",))
        assert len((await listing_of(server, names)).tools) == len(NAMES)
        far.seen.clear()
        with pytest.raises(NoConnection, match="to an address that may not be connected to"):
            await listing_of(server, names)
        assert far.seen == []


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_leads_nowhere_else(status: int) -> None:
    """Not to another port, be it one that would be allowed."""
    async with receiving() as other:
        answers = [Response(status=status, headers={"Location": other.url}) for _ in range(3)]
        async with receiving(*answers) as near:
            server = McpServer(name="x", url=near.url, allow_private=True, allow_http=True)
            with pytest.raises(NoConnection, match="answered with error"):
                await listing_of(server)
    assert other.got == []


async def test_environment_proxies_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy would connect on its own account, to addresses that nobody has checked."""
    async with receiving() as proxy, running() as far:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url)
        assert len((await listing_of(far.config())).tools) == len(NAMES)
    assert proxy.got == []


async def test_headers_are_sent_with_each_request() -> None:
    """And nothing compressed is asked for."""
    async with running() as far:
        await listing_of(far.config(headers={"Authorization": "Bearer canary"}))
        assert {seen["authorization"] for seen in far.seen} == {"Bearer canary"}
        assert {seen["accept-encoding"] for seen in far.seen} == {"identity"}


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (Response(status=401), "it answered with status 401"),
        (Response(status=503), "it answered with status 503"),
        (Response(status=202), "answered with error"),
        (Response(text="hello"), "answered with error"),
        (Response(text="hello", content_type="application/json"), "answered with error"),
        (
            Response(body=gzip.compress(b"{}"), headers={"Content-Encoding": "gzip"}),
            "it does not speak as it should",
        ),
    ],
)
async def test_what_is_no_mcp_server_is_told_apart(answer: Response, said: str) -> None:
    """The operator is told what it did, in no word of its own."""
    answers = [copy(answer) for _ in range(3)]
    async with receiving(*answers) as near:
        server = McpServer(name="x", url=near.url, allow_private=True, allow_http=True)
        with pytest.raises(NoConnection, match=said):
            await listing_of(server)


@pytest.mark.parametrize("json", [False, True], ids=["events", "json"])
async def test_an_answer_has_a_size(json: bool) -> None:
    """What is larger is not read to its end; the call has failed, the next one works."""
    async with running(json=json) as far:
        connection = McpConnection(await far.approved())
        await connection.open()
        try:
            assert ANSWER_BYTES > 10 * RESULT_CHARS
            text = "x" * 1_000
            with pytest.raises(NoAnswer, match="its answer was not understood"):
                await connection.call("say", {"text": text, "times": ANSWER_BYTES // 1_000})
            told = await connection.call("say", {"text": text, "times": 100})
            assert told.structured_content == {"result": text * 100}
        finally:
            await connection.close()
