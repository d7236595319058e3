"""Functions as agents: async functions, async generators, synchronous functions. No state kept."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import Any

from pool.agent import Context, TurnEnd, TurnInput
from pool.agents.threads import WorkerThread
from pool.errors import AgentFailed
from pool.events import Event, TextDelta


class FunctionAgent:
    """An async function of the text, or of the text and the context, that returns text."""

    __slots__ = ("_function", "_name", "_with_ctx")

    state_format = ""

    def __init__(self, function: Callable[..., Awaitable[Any]], name: str, with_ctx: bool) -> None:
        self._function = function
        self._name = name
        self._with_ctx = with_ctx

    async def open(self) -> None:
        """There is nothing to open."""

    async def run(self, turn: TurnInput, ctx: Context) -> TurnEnd:
        """Await the function; what it returns is the output."""
        if self._with_ctx:
            output = await self._function(turn.input, ctx)
        else:
            output = await self._function(turn.input)
        if isinstance(output, str):
            return TurnEnd(output=output)
        raise not_text(self._name, "returned", output)

    async def close(self) -> None:
        """There is nothing to close."""


class GeneratorAgent:
    """An async generator of pieces of text; the events it yields among them are emitted."""

    __slots__ = ("_function", "_name", "_with_ctx")

    state_format = ""

    def __init__(
        self, function: Callable[..., AsyncGenerator[Any, None]], name: str, with_ctx: bool
    ) -> None:
        self._function = function
        self._name = name
        self._with_ctx = with_ctx

    async def open(self) -> None:
        """There is nothing to open."""

    async def run(self, turn: TurnInput, ctx: Context) -> TurnEnd:
        """Emit what the generator yields; however the turn ends, the generator is closed in it."""
        arguments = (turn.input, ctx) if self._with_ctx else (turn.input,)
        async with aclosing(self._function(*arguments)) as pieces:
            async for piece in pieces:
                if isinstance(piece, str):
                    if piece:
                        await ctx.emit(TextDelta(piece))
                elif isinstance(piece, Event):
                    await ctx.emit(piece)
                else:
                    raise not_text(self._name, "yielded", piece)
        return TurnEnd()

    async def close(self) -> None:
        """There is nothing to close."""


class ThreadAgent:
    """A synchronous function, called in a thread of the actor's own.

    A cancelled turn ends when the call has ended; until then the actor cannot be used.
    """

    __slots__ = ("_function", "_name", "_thread", "_with_ctx")

    state_format = ""

    def __init__(self, function: Callable[..., Any], name: str, with_ctx: bool) -> None:
        self._function = function
        self._name = name
        self._with_ctx = with_ctx
        self._thread = WorkerThread(f"agent {name}")

    async def open(self) -> None:
        """The thread starts with the first turn."""

    async def run(self, turn: TurnInput, ctx: Context) -> TurnEnd:
        """Call the function; what it returns is the output."""
        arguments = (turn.input, ctx) if self._with_ctx else (turn.input,)
        output = await self._thread.run(self._function, *arguments)
        if isinstance(output, str):
            return TurnEnd(output=output)
        raise not_text(self._name, "returned", output)

    async def close(self) -> None:
        """End the thread."""
        self._thread.stop()


def not_text(name: str, verb: str, value: object) -> AgentFailed:
    """The error for an agent that gave something other than text."""
    return AgentFailed(f"agent {name} {verb} {type(value).__name__}; an agent returns text")
