"""The built-in chat agent against a model server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from pool.agent import TurnEnd, TurnInput
from pool.agents.chat import chat
from pool.agents.chat_agent import ChatAgent
from tests.support.context import RecordingContext
from tests.support.model_server import ModelServer


async def add(a: int, b: int) -> int:
    """Add two numbers.

    Args:
        a: the first
    """
    return a + b


def double(a: int) -> int:
    """Twice a number, worked out in a thread."""
    return 2 * a


@asynccontextmanager
async def opened(server: ModelServer, **options: Any) -> AsyncIterator[ChatAgent]:
    """An open agent that asks this server."""
    options = {"base_url": server.url, "tools": [add, double], **options}
    agent = chat("openai:test", **options)()
    await agent.open()
    try:
        yield agent
    finally:
        await agent.close()


async def ask(agent: ChatAgent, text: str = "hi") -> tuple[TurnEnd, RecordingContext]:
    """Run one turn in a new session."""
    ctx = RecordingContext()
    return await agent.run(TurnInput(text), ctx), ctx
