from __future__ import annotations

import sys
from typing import Any

import pytest

from pool.agents.mcp_pins import pin
from pool.agents.mcp_server import McpServer, tools_of
from pool.errors import ConfigError
from pool.guard.addresses import EVERYWHERE

ADD = pin("add", "", {"type": "object"})
URL = "https://mcp.example/mcp?key=canary"


def test_a_server_is_shown_without_its_secrets() -> None:
    """Neither URL, headers nor variables are in its text."""
    far = McpServer(name="far", url=URL, headers={"Authorization": "canary"}, pins=(ADD,))
    near = McpServer(name="near", command=("canary",), env={"KEY": "canary"})
    assert repr(far) == "<McpServer far: url, 1 tools approved>"
    assert repr(near) == "<McpServer near: command, 0 tools approved>"
    assert "canary" not in str([*far.__rich_repr__(), *near.__rich_repr__()])


def test_a_tool_has_its_servers_risk_unless_it_has_its_own() -> None:
    """A tool of which nothing is said may write."""
    server = McpServer(name="x", url=URL, pins=(ADD, pin("get", "", {})), risks={"get": "read"})
    assert (server.risk_of("add"), server.risk_of("get")) == ("write", "read")
    assert (server.networks, server.headers) == ((), {})


@pytest.mark.parametrize(
    ("options", "option", "said"),
    [
        ({"name": ""}, "name", "write 1 to 32 letters"),
        ({"name": "_x"}, "name", "write 1 to 32 letters"),
        ({"name": "x" * 33}, "name", "write 1 to 32 letters"),
        ({"url": ""}, "url", "either a url or a command"),
        ({"command": ("x",)}, "url", "either a url or a command"),
        ({"url": "http://mcp.example/"}, "url", "must begin with https://"),
        ({"url": "https://127.0.0.1/"}, "url", "does not connect to"),
        ({"url": "https://169.254.169.254/"}, "url", "does not connect to"),
        ({"url": "https://[::ffff:10.0.0.1]/"}, "url", "does not connect to"),
        ({"url": "https://2130706433/"}, "url", "an address in its usual form"),
        ({"url": "https://0177.0.0.1/"}, "url", "an address in its usual form"),
        ({"url": "https://me:canary@mcp.example/"}, "url", "must not have a user"),
        ({"headers": {"A b": "c"}}, "headers", "as HTTP has them"),
        ({"headers": {"A": "canary\r\nB: c"}}, "headers", "as HTTP has them"),
        ({"env": {"A": "b"}}, "env", "is not started here"),
        ({"url": "", "command": ("x",), "headers": {"A": "b"}}, "headers", "use env"),
        ({"allow_private": ("10.0.0.1/8",)}, "allow_private", "write networks as"),
        ({"pins": (ADD, ADD)}, "pins", "twice"),
        ({"risks": {"sub": "read"}}, "risks", "no tool that was approved"),
        ({"timeout_s": 0.0}, "timeout_s", "above 0"),
        ({"connect_timeout_s": float("inf")}, "connect_timeout_s", "above 0"),
        ({"max_result_chars": 0}, "max_result_chars", "at least 1"),
        ({"parallel": 0}, "parallel", "at least 1"),
        ({"cache_s": {"sub": 60}}, "cache_s", "no tool that was approved"),
        ({"pins": (ADD,), "cache_s": {"add": 60}}, "cache_s", 'say in risks that it is "read"'),
        (
            {"pins": (ADD,), "risk": "read", "cache_s": {"add": 0}},
            "cache_s.add",
            "above 0",
        ),
    ],
)
def test_a_mistake_is_named(options: dict[str, Any], option: str, said: str) -> None:
    """The option, and what to write instead; what may be a secret is not repeated."""
    with pytest.raises(ConfigError, match=said) as raised:
        McpServer(**{"name": "x", "url": URL} | options)
    assert raised.value.option == option
    assert "canary" not in str(raised.value)


def test_addresses_that_are_not_public_are_allowed_by_name() -> None:
    """All of them, or those of networks; HTTP is another matter."""
    near = McpServer(name="x", url="https://10.1.2.3/", allow_private=("10.0.0.0/8",))
    assert len(near.networks) == 1
    assert McpServer(name="x", url="https://10.1.2.3/", allow_private=True).networks == EVERYWHERE
    with pytest.raises(ConfigError, match="must begin with https://"):
        McpServer(name="x", url="http://10.1.2.3/", allow_private=True)


@pytest.mark.parametrize(
    ("servers", "option", "said"),
    [
        ([McpServer(name="x", url=URL)], "pins", "none of its tools was approved: run"),
        ([McpServer(name="x", url=URL, pins=(ADD,))] * 2, "mcp", "two servers have this name"),
        (
            [McpServer(name="x" * 32, url=URL, pins=(pin("t" * 32, "", {}),))],
            "pins",
            "longer than 64: shorten that name, or take this tool out",
        ),
        (
            [McpServer(name="x", url=URL, pins=(pin("t", "", {"type": "thing"}),))],
            "pins",
            "is no JSON schema",
        ),
    ],
)
async def test_tools_that_cannot_be_offered_are_a_mistake(
    servers: list[McpServer], option: str, said: str
) -> None:
    """It is told before anything is connected."""
    with pytest.raises(ConfigError, match=said) as raised:
        tools_of(servers)
    assert raised.value.option == option


async def test_tools_have_their_servers_name() -> None:
    """Before their own; what a model's provider does not allow in a name becomes a line."""
    pins = (pin("issues.list", "", {}), ADD)
    tools = tools_of([McpServer(name="git", url=URL, pins=pins, risk="read")]).tools
    assert [tool.name for tool in tools] == ["git_issues_list", "git_add"]
    assert {tool.risk for tool in tools} == {"read"}


def test_the_extra_is_named_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the package the mistake says what to install."""
    monkeypatch.setitem(sys.modules, "mcp.client", None)
    with pytest.raises(ConfigError, match=r'pip install "actorpool\[mcp\]"'):
        tools_of([McpServer(name="x", url=URL, pins=(ADD,))])
