"""A conversation in one session: turns are sent, shown as they run, and cancelled by Ctrl-C."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, contextmanager
from typing import Any, Final

from protocol.client import Client, ClientError, ClientEvent, ProblemError
from protocol.client.events import (
    ApprovalRequested,
    HistoryLost,
    ModelDecided,
    TextDelta,
    ToolCalled,
    ToolReturned,
    TurnCompleted,
    TurnEnded,
    TurnStarted,
)
from protocol.command.screen import Screen

# After these the turn goes on without us: somebody else decides, has decided, or the time is over.
_NOT_OURS: Final = frozenset({"forbidden", "conflict"})
_DECIDED: Final = {
    "retried": "asking {model} again",
    "cached": "this answer is kept from an equal question",
    "shared": "this answer is shared with an equal question",
    "degraded": "no model can be asked, this is the last resort",
}


class Abandoned(Exception):
    """The user did not want to wait for the end of a cancelled turn."""


class Talk:
    """One session. A turn runs until it ends (None is returned) or a human is to decide."""

    def __init__(self, client: Client, screen: Screen, *, session: str, agent: str | None) -> None:
        self._client = client
        self._screen = screen
        self._session = session
        self._agent = agent
        self._turn_id = ""
        self._cancelling: asyncio.Task[None] | None = None
        self._interrupts = 0

    async def greeting(self) -> str:
        """Who answers, and in which session."""
        agents = await self._client.agents()
        default = next((agent.name for agent in agents if agent.default), "nobody")
        return f"{self._agent or default} in session {self._session}; Ctrl-D leaves"

    async def ask(self, text: str) -> ApprovalRequested | None:
        """Send a turn and show its answer."""
        self._turn_id = ""
        options = {} if self._agent is None else {"agent": self._agent}
        return await self._follow(
            self._client.stream(text, session=self._session, **options)  # type: ignore[arg-type]
        )

    async def decide(
        self, request: ApprovalRequested, *, allowed: bool
    ) -> ApprovalRequested | None:
        """Answer an approval, and go on with its turn; also if it was not ours to answer."""
        turn_id, call_id = request.turn_id, request.call_id
        try:
            if allowed:
                # only if these arguments, which were shown, are what waits
                await self._client.approve(turn_id, call_id, arguments=request.arguments)
            else:
                await self._client.deny(turn_id, call_id)
        except ProblemError as problem:
            if problem.code not in _NOT_OURS:
                raise
            self._screen.note(problem.detail)
        return await self._follow(self._client.events(turn_id, after=request.id))

    async def cancel(self, request: ApprovalRequested) -> None:
        """End the turn that waits for an approval."""
        await self._client.cancel(request.turn_id)
        await self._follow(self._client.events(request.turn_id, after=request.id))

    async def _follow(self, events: AsyncGenerator[ClientEvent, None]) -> ApprovalRequested | None:
        self._interrupts = 0
        with self._interruptible():
            try:
                async with aclosing(events):
                    async for event in events:
                        self._see(event)
                        if isinstance(event, ApprovalRequested) and not self._interrupts:
                            return event
            except asyncio.CancelledError:
                raise Abandoned from None
        return None

    def _see(self, event: ClientEvent) -> None:
        if not self._turn_id:
            self._turn_id = event.turn_id
            if self._interrupts:
                self._cancel()
        self._show(event)

    def _show(self, event: ClientEvent) -> None:
        screen = self._screen
        match event:
            case TextDelta():
                screen.text(event.text)
            case ToolCalled():
                screen.note(screen.call(event.name, event.arguments))
            case ToolReturned() if event.is_error:
                screen.note(f"no result: {event.result}")
            case ModelDecided():
                screen.note(decided(event))
            case TurnStarted() if event.attempt > 1:
                screen.note("the answer begins again")
            case HistoryLost():
                screen.note("a part of the answer is lost")
            case TurnCompleted():
                screen.end_line()
            case TurnEnded():
                error = event.turn.error
                screen.note(event.turn.state + (f": {error.detail}" if error else ""))

    @contextmanager
    def _interruptible(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        task = asyncio.current_task()
        loop.add_signal_handler(signal.SIGINT, self._interrupt, task)
        try:
            yield
        finally:
            loop.remove_signal_handler(signal.SIGINT)

    def _interrupt(self, task: asyncio.Task[Any] | None) -> None:
        self._interrupts += 1
        if self._interrupts > 1 and task is not None:
            task.cancel()
            return
        self._screen.note("cancelling; Ctrl-C again leaves")
        if self._turn_id:
            self._cancel()

    def _cancel(self) -> None:
        self._cancelling = asyncio.ensure_future(self._request_cancel(self._turn_id))

    async def _request_cancel(self, turn_id: str) -> None:
        try:
            await self._client.cancel(turn_id)
        except ClientError as error:
            self._screen.note(f"cannot cancel: {error}")


def decided(event: ModelDecided) -> str:
    """What was decided about the model, for whoever talks to it."""
    known = "asking {model}" if event.model else "no other model is left"
    said = _DECIDED.get(event.step, known).format(model=event.model)
    return f"{said}: {event.reason}" if event.reason else said
