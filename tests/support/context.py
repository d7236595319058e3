"""A turn's context that records what an agent does with it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from pool.agent import ALLOW, Decision, ToolCall
from pool.events import Event, TextDelta, ToolReturned, UsageReported
from pool.turn import ANYONE, Principal, TurnRequest, Usage

Policy = Callable[[ToolCall], Decision]


def allow_all(call: ToolCall) -> Decision:
    """The gate that lets everything through."""
    return ALLOW


class RecordingContext:
    """Implements `pool.agent.Context`: keeps events and checkpoints; `policy` answers the gate.

    `decisions` are the humans' answers by call id; they come before the policy. `refuse`, if set,
    is raised by `emit`.
    """

    def __init__(
        self,
        policy: Policy = allow_all,
        *,
        max_steps: int = 16,
        max_tokens: int | None = None,
        attempt: int = 1,
        principal: Principal = ANYONE,
        request: TurnRequest = TurnRequest(input="hello"),  # noqa: B008 - frozen
        model: str | None = None,
    ) -> None:
        self.agent = "agent"
        self.session_id = "s1"
        self.turn_id = "t1"
        self.attempt = attempt
        self.principal = principal
        self.request = request
        self.model = model
        self.deadline = 600.0
        self.max_steps = max_steps
        self.max_tokens = max_tokens
        self.events: list[Event] = []
        self.checkpoints: list[bytes] = []
        self.asked: list[ToolCall] = []
        self.decisions: dict[str, Decision] = {}
        self.refuse: Exception | None = None
        self._policy = policy
        self._emitted = asyncio.Event()

    async def emit(self, event: Event) -> None:
        """Keep the event."""
        if self.refuse is not None:
            raise self.refuse
        self.events.append(event)
        self._emitted.set()

    async def gate(self, call: ToolCall) -> Decision:
        """The human's decision if there is one, else the policy's."""
        self.asked.append(call)
        return self.decisions.pop(call.call_id, None) or self._policy(call)

    async def checkpoint(self, state: bytes) -> None:
        """Keep the state."""
        self.checkpoints.append(state)

    def idempotency_key(self, call: ToolCall) -> str:
        """The turn and the call."""
        return f"{self.turn_id}/{call.call_id}/{call.name}"

    def conceal(self, value: Any) -> Any:
        """The value itself."""
        return value

    def reveal(self, value: Any) -> Any:
        """The value itself."""
        return value

    def clock(self) -> float:
        """The loop's clock."""
        return asyncio.get_running_loop().time()

    async def until(self, seen: Callable[[list[Event]], Any]) -> None:
        """Wait until what was emitted satisfies `seen`."""
        while not seen(self.events):
            self._emitted.clear()
            await self._emitted.wait()

    @property
    def text(self) -> str:
        """The text deltas, joined."""
        return "".join(event.text for event in self.events if isinstance(event, TextDelta))

    @property
    def returned(self) -> list[ToolReturned]:
        """What came of the tool calls, in the order in which readers were told."""
        return [event for event in self.events if isinstance(event, ToolReturned)]

    @property
    def usage(self) -> Usage:
        """The usage that was reported last."""
        return [event.usage for event in self.events if isinstance(event, UsageReported)][-1]

    @property
    def kinds(self) -> list[str]:
        """The events' types in order."""
        return [event.type for event in self.events]
