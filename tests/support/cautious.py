"""An agent that pays, and asks a human before it does."""

from __future__ import annotations

from pool import AgentSpec
from pool.agent import Context, Decision, ToolCall, TurnEnd, TurnInput
from pool.turn import Principal
from tests.support.agents import Scripted


def cautious() -> AgentSpec:
    """Its turns pause for a decision about the call `c1`; then they say how it was decided."""
    return AgentSpec(agent=lambda: Scripted(_ask_first, state_format="t/1"), gate=_gate)


async def _ask_first(turn: TurnInput, ctx: Context) -> TurnEnd:
    call = ToolCall("c1", "pay", {"eur": 5})
    decision = await ctx.gate(call)
    if not turn.resume:
        return TurnEnd(status="paused", state=b"asked")
    return TurnEnd(output=f"{turn.state!r} {decision.action} {ctx.attempt}")


def _gate(principal: Principal, call: ToolCall) -> Decision:
    return Decision("ask", risk="dangerous")
