"""The built-in chat agent with tools of MCP servers."""

from __future__ import annotations

import pytest

from pool import AgentPool
from pool.agents.chat import chat
from pool.agents.mcp_server import McpServer
from pool.errors import AgentFailed, ConfigError
from pool.events import ToolReturned
from pool.guard.breaker import BreakerRule
from tests.support.chat_over_http import add, ask, opened
from tests.support.mcp_server import running
from tests.support.model_server import ModelServer, Reply

pytestmark = pytest.mark.real_time


async def test_a_model_is_offered_the_approved_tools_and_calls_them() -> None:
    """After the agent's own; what came of a call goes back to it."""
    script = [Reply(calls=(("x_add", {"a": 1, "b": 2}),)), Reply(text="3")]
    async with running() as far, ModelServer(script) as models:
        async with opened(models, tools=[add], mcp=[await far.approved()]) as agent:
            _, ctx = await ask(agent)
        offered = [tool["function"]["name"] for tool in models.requests[0]["tools"]]
        assert offered[:3] == ["add", "x_add", "x_say"]
        assert ctx.returned == [ToolReturned("s1c0", {"result": 3})]
        assert ctx.text == "3"


async def test_actors_open_and_close_their_connections() -> None:
    """A pool of them leaves nothing behind."""
    async with running() as far, ModelServer() as models:
        agent = chat("openai:test", base_url=models.url, mcp=[await far.approved()])
        async with AgentPool(agent) as pool:
            assert (await pool.ask("hi", session="s")).state == "completed"
        assert far.seen != []


async def test_actors_share_the_limits_of_their_tools() -> None:
    """What one actor learned of a tool all know, and the agent tells how many are left alone."""
    breaker = BreakerRule(failures=1, reset_s=30)
    script = [Reply(calls=(("x_fail", {}),)), Reply(text="sorry")] * 2
    async with running() as far, ModelServer(script) as models:
        chats = chat("openai:test", base_url=models.url, mcp=[await far.approved(breaker=breaker)])
        results = []
        for agent in (chats(), chats()):
            await agent.open()
            _, ctx = await ask(agent)
            results.append(ctx.returned[0].result)
            await agent.close()
        assert results[0] == "the tool failed: ToolFailed"
        assert "x_fail failed too often" in results[1]
        assert [tool.name for tool in chats.tools.values() if tool.tripped] == ["x_fail"]


async def test_an_agent_without_its_tools_does_not_open() -> None:
    """What was opened before is closed."""
    async with running() as far, ModelServer() as models:
        gone = McpServer(name="y", command=("true",), pins=(await far.approved()).pins)
        agent = chat("openai:test", base_url=models.url, mcp=[gone])()
        with pytest.raises(AgentFailed, match="no connection to the MCP server y"):
            await agent.open()


async def test_tools_that_cannot_be_offered_are_a_mistake() -> None:
    """It is told when the agent is configured, before there is an actor."""
    with pytest.raises(ConfigError, match="none of its tools was approved"):
        chat("openai:test", mcp=[McpServer(name="y", command=("true",))])
