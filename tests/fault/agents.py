"""An agent that does what its input says, step by step, and notes each time that it runs.

`say=3:20` three words, 20 ms apart; `work=50` nothing for 50 ms; `tool` calls a tool; `ask` asks a
human first; `hold=NAME` until `Runs.open(NAME)`; `exit` ends the process, `exit-once` only at the
first attempt; `block=500` blocks the loop for 500 ms; `deaf=500` heeds no cancellation for so long;
`flood=N` says N bytes; `events=N` makes N events; `spend=N` uses N tokens. Other words mean
nothing.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Sequence
from typing import Final

from pool import AgentSpec
from pool.agent import ALLOW, Context, Decision, ToolCall, TurnEnd, TurnInput
from pool.events import ReasoningDelta, TextDelta, ToolCalled, ToolReturned, UsageReported
from pool.turn import Principal, Usage
from tests.fault.runs import Run, Runs

_CHUNK: Final = "x" * 65_536


class Scripted:
    """The agent. Its state is the ids of the session's turns that were completed before."""

    state_format = "fault/1"

    def __init__(self) -> None:
        self.runs = Runs.of_environment()

    async def open(self) -> None:
        """Nothing is opened."""

    async def close(self) -> None:
        """Nothing is closed."""

    async def run(self, turn: TurnInput, ctx: Context) -> TurnEnd:
        """Take the steps. After a pause go on with the one that asked."""
        found = (turn.state or b"").decode()
        about = (ctx.turn_id, ctx.session_id, ctx.attempt, turn.resume, found)
        self.runs.note(Run(time.time(), os.getpid(), *about))
        for step in _steps(turn):
            name, _, value = step.partition("=")
            if name == "ask" and await self._ask(ctx):
                return TurnEnd("paused", state=found.encode())
            await self._take(ctx, name, value)
        return TurnEnd(append=f"{ctx.turn_id},".encode())

    async def _ask(self, ctx: Context) -> bool:
        decision = await ctx.gate(ToolCall("asked", "announce", {"to": "all"}))
        if decision.action != "ask":
            await ctx.emit(TextDelta(f"[{decision.action}]"))
        return decision.action == "ask"

    async def _take(self, ctx: Context, name: str, value: str) -> None:
        if name == "say":
            await _say(ctx, value)
        elif name == "work":
            await asyncio.sleep(int(value) / 1_000)
        elif name == "tool":
            await self._call(ctx)
        elif name == "hold":
            await self._hold(ctx, value)
        elif name == "exit" or (name == "exit-once" and ctx.attempt == 1):
            os._exit(3)
        elif name == "block":
            time.sleep(int(value) / 1_000)  # noqa: ASYNC251 - this is the fault
        elif name == "deaf":
            await _deaf(int(value) / 1_000)
        elif name == "spend":
            await ctx.emit(UsageReported(Usage(input_tokens=int(value), requests=1)))
        elif name == "flood":
            for _ in range(int(value) // len(_CHUNK)):
                await ctx.emit(TextDelta(_CHUNK))
        elif name == "events":
            for _ in range(int(value)):
                await ctx.emit(ReasoningDelta("?"))

    async def _call(self, ctx: Context) -> None:
        call = ToolCall("looked", "look_up", {"what": "it"})
        await ctx.emit(ToolCalled(call.call_id, call.name, call.arguments))
        self.runs.effect(ctx.turn_id, ctx.idempotency_key(call))
        await asyncio.sleep(0.005)
        await ctx.emit(ToolReturned(call.call_id, "found"))

    async def _hold(self, ctx: Context, gate: str) -> None:
        await ctx.emit(TextDelta("held."))
        while not self.runs.is_open(gate):  # noqa: ASYNC110 - a file tells nobody that it is there
            await asyncio.sleep(0.01)


def _steps(turn: TurnInput) -> Sequence[str]:
    steps = turn.input.split()
    return steps[steps.index("ask") :] if turn.resume and "ask" in steps else steps


async def _say(ctx: Context, value: str) -> None:
    count, _, pause_ms = value.partition(":")
    for number in range(int(count)):
        await ctx.emit(TextDelta(f"word{number} "))
        if pause_ms:
            await asyncio.sleep(int(pause_ms) / 1_000)


async def _deaf(seconds: float) -> None:
    due = time.monotonic() + seconds
    while time.monotonic() < due:
        try:
            await asyncio.sleep(0.01)
        except asyncio.CancelledError:
            # this is the fault
            continue


def gate(principal: Principal, call: ToolCall) -> Decision:
    """A human is asked about announcements."""
    return Decision("ask", "somebody must see it") if call.name == "announce" else ALLOW


agent = AgentSpec(agent=Scripted, gate=gate, max=64)
