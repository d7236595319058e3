"""Agents that do what the text says which they are asked: `<number> <step> <step> ...`.

| step | what the agent does |
| --- | --- |
| `say` | emits some text |
| `nap`, `sleep=S` | lets others run once; sleeps S seconds |
| `raise`, `overload`, `quit` | raises an error of its own, the provider's, or cancels itself |
| `crash=N` | breaks its actor in the first N attempts |
| `deaf=S` | goes on for S seconds whoever cancels it |
| `leak=S` | leaves a task behind that runs for S seconds |
| `pause` | asks a human |
| `check` | makes a checkpoint: it goes on from here if it has to begin again |
| `ask` | asks another agent and waits |
| `usurp` | submits another turn that interrupts this one |
| `limit` | stops at its own limit |
| `spend=N` | has used N tokens by now |
"""

from __future__ import annotations

import asyncio
from random import Random
from typing import Protocol

from pool import Context, Decision, Principal, TextDelta, ToolCall, TurnEnd, TurnInput
from pool.errors import ProviderOverloaded
from pool.events import UsageReported
from pool.store.base import SessionKey
from pool.turn import Usage
from tests.support.witness import TINY_S, Run, Witness


class Helper(Protocol):
    """What an agent needs of the callers' side."""

    async def ask_another(self, ctx: Context) -> None:
        """Ask another agent and wait for its answer."""

    async def usurp(self, ctx: Context) -> None:
        """Ask for something in the session of the very turn, so that it is interrupted."""


def human_decides(_: Principal, call: ToolCall) -> Decision:
    """The gate: every call needs a human."""
    return Decision("ask", risk="write")


class OpenFailed(Exception):
    """An agent that could not be opened."""


class ScriptedAgent:
    """Follows the script in its input. `open_fails`: how often opening fails, 0 to 1."""

    state_format = "sim/1"

    def __init__(
        self, witness: Witness, random: Random, *, helper: Helper, open_fails: float
    ) -> None:
        self._witness = witness
        self._random = random
        self._helper = helper
        self._open_fails = open_fails

    async def open(self) -> None:
        """Takes a little while; fails now and then."""
        await asyncio.sleep(self._random.choice([0.0, 0.05]))
        if self._random.random() < self._open_fails:
            raise OpenFailed

    async def close(self) -> None:
        """Nothing may run by then."""
        self._witness.actor_closed(self)

    async def run(self, turn: TurnInput, ctx: Context) -> TurnEnd:
        """Follow the script, and have it taken down."""
        kept, _, place = (turn.state or b"").decode().partition("@")
        words = turn.input.split()
        run = Run(
            int(words[0]),
            ctx.turn_id,
            SessionKey(ctx.principal.tenant, ctx.session_id),
            ctx.agent,
            self,
            ctx.attempt,
            ctx.clock(),
            kept,
        )
        self._witness.began(run, ctx.deadline, ctx.clock())
        how = "raised"
        try:
            end = await self._follow(words[1:], int(place or 0), kept, run, ctx)
            how = "paused" if end.status == "paused" else "done"
            return end
        except asyncio.CancelledError:
            how = "cancelled" if "quit" not in words else "raised"
            raise
        except SystemExit:
            how = "crashed"
            raise
        finally:
            self._witness.ended(run, how)

    async def _follow(
        self, words: list[str], first: int, kept: str, run: Run, ctx: Context
    ) -> TurnEnd:
        for place, word in enumerate(words[first:], first):
            step, _, argument = word.partition("=")
            if step == "pause":
                decision = await ctx.gate(ToolCall(f"c{place}", "tool", {"place": place}))
                if decision.action == "ask":
                    return TurnEnd("paused", state=f"{kept}@{place}".encode())
                self._witness.used.append((run.turn_id, f"c{place}", decision.action))
            elif step == "check":
                await ctx.checkpoint(f"{kept}@{place + 1}".encode())
            elif step == "limit":
                return TurnEnd("limit", output="so far", append=f"{run.number},".encode())
            else:
                await self._step(step, float(argument or 0), ctx)
            self._witness.look()
        if "pause" in words or self._random.random() < 0.3:
            return TurnEnd(output="whole", state=f"{kept}{run.number},".encode())
        return TurnEnd(output="whole", append=f"{run.number},".encode())

    async def _step(self, step: str, number: float, ctx: Context) -> None:
        if step == "say":
            await ctx.emit(TextDelta(f"{ctx.turn_id[-3:]}:{self._random.randrange(100)} "))
        elif step in ("nap", "sleep"):
            await asyncio.sleep(number)
        elif step == "raise":
            raise ValueError("of the agent's own")
        elif step == "overload":
            raise ProviderOverloaded("the provider has too much")
        elif step == "quit":
            raise asyncio.CancelledError
        elif step == "crash":
            if ctx.attempt <= number:
                raise SystemExit
        elif step == "deaf":
            await _deaf(number)
        elif step == "leak":
            self._witness.leaked.append(asyncio.create_task(asyncio.sleep(number)))
        elif step == "ask":
            await self._helper.ask_another(ctx)
        elif step == "spend":
            await ctx.emit(UsageReported(Usage(input_tokens=int(number), requests=1)))
        elif step == "usurp":
            await self._helper.usurp(ctx)
        else:
            raise ValueError(step)


async def _deaf(seconds: float) -> None:
    loop = asyncio.get_running_loop()
    until = loop.time() + seconds
    while (left_s := until - loop.time()) > TINY_S:
        try:
            await asyncio.sleep(left_s)
        except asyncio.CancelledError:
            continue
