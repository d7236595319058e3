"""The agents that are measured: they cost next to nothing, so that what is seen is the pool."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Final

from pool.agent import Context, ToolCall

DELTAS: Final = 200
LOOK: Final = ToolCall("c1", "look", {"at": "the weather in Paris"}, risk="read")
WORDS: Final = tuple(f"word{i} " for i in range(DELTAS))


async def echo(text: str) -> str:
    """Answers at once."""
    return "echo: " + text


async def gated(text: str, ctx: Context) -> str:
    """Asks the gate about one call of a tool, and answers at once."""
    decision = await ctx.gate(LOOK)
    return f"echo: {text}" if decision.action == "allow" else decision.reason


async def stream(_: str) -> AsyncIterator[str]:
    """Answers in `DELTAS` pieces, giving way after each as a model's stream does."""
    for word in WORDS:
        yield word
        await asyncio.sleep(0)


async def stuck(_: str) -> str:
    """Never answers: its turns wait for the death of their process."""
    await asyncio.Event().wait()
    return ""
