"""Runs an agent behind a veil: what it is given, and what it says, is as its model may see it."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from msgspec.structs import astuple, replace

from pool.agent import Agent, Decision, ToolCall, TurnEnd, TurnInput
from pool.context import TurnContext
from pool.events import Event
from pool.guard.redact import Redactor
from pool.guard.veil import Veil
from pool.turn import TurnRequest

# What is looked through within a few milliseconds.
_LONG_CHARS: Final = 20_000


async def run_veiled(
    agent: Agent, given: TurnInput, context: TurnContext, redactor: Redactor | None
) -> TurnEnd:
    """What the agent makes of the turn, as it is meant; its state sealed, as it was given.

    `redactor`: None if its tenant no longer asks for a veil; then what the state speaks of is still
    restored, and nothing more goes behind the veil.
    """
    salt = f"{context.turn_id}:{context.attempt}"
    veil = Veil(redactor or Redactor(()), given.state, salt=salt)
    # of a long input the loop would stand still meanwhile
    long = len(given.input) > _LONG_CHARS
    seen = await asyncio.to_thread(veil.given, given) if long else veil.given(given)
    parts: tuple[Any, ...] = (*astuple(context), veil, seen.input)
    veiled = VeiledContext(*parts)
    return await veiled.ended(await agent.run(seen, veiled))


class VeiledContext(TurnContext, eq=False):
    """Reveals what the agent says before anybody hears it, the gate and the tools included."""

    _veil: Veil
    # the turn's input as the agent sees it
    _input: str

    @property
    def request(self) -> TurnRequest:
        """What was asked for, the input as the agent sees it; metadata are as they are."""
        return replace(self._turn.record.request, input=self._input)

    async def emit(self, event: Event) -> None:
        """Tell the turn's readers what the event means."""
        for shown in self._veil.events(event):
            await super().emit(shown)

    async def gate(self, call: ToolCall) -> Decision:
        """Whether the tool may be called, with the arguments that are meant."""
        await self._say_held()
        return self._veil.decision(await super().gate(self._veil.call(call)))

    async def checkpoint(self, state: bytes) -> None:
        """A safe point, and the values that the state speaks of."""
        given: object = state
        await super().checkpoint(self._veil.sealed(state) if isinstance(given, bytes) else state)

    def idempotency_key(self, call: ToolCall) -> str:
        """The key of the call that is meant."""
        return super().idempotency_key(self._veil.call(call))

    def conceal(self, value: Any) -> Any:
        """A JSON value as the agent's model may see it."""
        return self._veil.conceal(value)

    def reveal(self, value: Any) -> Any:
        """A JSON value from the agent's model as it is meant."""
        return self._veil.reveal(value)

    async def ended(self, end: TurnEnd) -> TurnEnd:
        """The agent is through: say what is left, and give its end to the pool as it is meant."""
        if self._turn.at_work:
            await self._say_held()
        return self._veil.end(end) if type(end) is TurnEnd else end

    async def _say_held(self) -> None:
        for shown in self._veil.held():
            await super().emit(shown)
