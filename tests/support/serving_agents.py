"""Agents that do as a test of the server says: wait, speak in pieces, ask a human, fail."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from pool import AgentSpec
from pool.agent import Context, Decision, ToolCall, TurnEnd, TurnInput
from pool.errors import AgentFailed
from pool.events import TextDelta, ToolCalled, ToolReturned
from pool.turn import Principal


class Held:
    """An agent that answers when it is let go. `running` is set while it holds a turn."""

    def __init__(self) -> None:
        self.running = asyncio.Event()
        self.release = asyncio.Event()
        self.cancelled = asyncio.Event()

    async def __call__(self, text: str) -> str:
        """Answer with the text, once released."""
        self.running.set()
        try:
            await self.release.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        return f"late: {text}"


class Stepped:
    """An agent that says one word each time it is let: the words of its input."""

    def __init__(self) -> None:
        self._steps: asyncio.Queue[None] = asyncio.Queue()

    def step(self, words: int = 1) -> None:
        """Let so many words out."""
        for _ in range(words):
            self._steps.put_nowait(None)

    async def __call__(self, text: str) -> AsyncIterator[str]:
        """Say the words of the text."""
        for word in text.split():
            await self._steps.get()
            yield word


async def failing(text: str) -> str:
    """Fail with an error whose text nobody may see, or with one made for callers."""
    if text == "public":
        raise AgentFailed("the menu is empty")
    raise ValueError("hunter2")


class Asking:
    """An agent that wants to call a tool, which a human has to approve first."""

    state_format = "asking/1"

    def __init__(self, call_id: str = "c1") -> None:
        self._call_id = call_id

    async def open(self) -> None:
        """Nothing to open."""

    async def close(self) -> None:
        """Nothing to close."""

    async def run(self, turn: TurnInput, ctx: Context) -> TurnEnd:
        """Ask, or act on what was decided."""
        call = ToolCall(self._call_id, "pay", {"euro": 5})
        decision = await ctx.gate(call)
        if decision.action == "ask":
            return TurnEnd("paused", state=b"waits")
        if decision.action == "allow":
            await ctx.emit(
                ToolCalled(call_id=call.call_id, name=call.name, arguments=call.arguments)
            )
            await ctx.emit(ToolReturned(call_id=call.call_id, result="paid"))
        await ctx.emit(TextDelta("paid" if decision.action == "allow" else "not paid"))
        return TurnEnd()


def _ask(principal: Principal, call: ToolCall) -> Decision:
    return Decision("ask", risk="dangerous")


def asking(call_id: str = "c1") -> AgentSpec:
    """The agent that asks, with the gate that makes it."""
    return AgentSpec(agent=lambda: Asking(call_id), gate=_ask)
