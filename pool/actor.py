"""An actor: one agent instance, one mailbox, one task. It runs one turn at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextvars import Context
from typing import Any, Literal, Protocol

from pool.agent import Agent
from pool.live import LiveTurn
from pool.mailbox import Control, Mailbox

ActorState = Literal["starting", "idle", "busy", "abandoned", "stopped"]
# Why an actor is gone: told to stop, could not open, broken by its agent, left behind.
StopReason = Literal["retired", "failed", "crashed", "abandoned"]

# Runs one turn to its stored end. What it raises has broken the actor.
Run = Callable[[Agent, LiveTurn], Coroutine[Any, Any, None]]


class Owner(Protocol):
    """Whom an actor tells what became of it: its supervisor."""

    def opened(self, actor: Actor) -> None:
        """It is ready for turns."""

    def rested(self, actor: Actor) -> None:
        """It is ready for the next turn."""

    def stopped(self, actor: Actor, reason: StopReason, error: BaseException | None) -> None:
        """It is gone."""


class Actor:
    """A long-lived worker. The agent is opened, run and closed in the actor's own task."""

    __slots__ = (
        "_run",
        "_stopping",
        "born_at",
        "mailbox",
        "name",
        "owner",
        "state",
        "task",
        "turn",
        "warm",
    )

    def __init__(self, name: str, run: Run, owner: Owner, *, now: float) -> None:
        self.name = name
        self.owner = owner
        self.state: ActorState = "starting"
        self.mailbox: Mailbox[LiveTurn] = Mailbox()
        self.born_at = now
        # the turn that it has, from the moment it is handed over
        self.turn: LiveTurn | None = None
        # the session that it served last, whose state it may still have
        self.warm: object = None
        self.task: asyncio.Task[None] | None = None
        self._run = run
        self._stopping = False

    def __repr__(self) -> str:
        return f"<Actor {self.name} [{self.state}]>"

    def start(
        self, make: Callable[[], Agent], *, open_timeout_s: float, context: Context
    ) -> asyncio.Task[None]:
        """Start the actor's task, in a context of its own: not in that of whoever asked."""
        loop = asyncio.get_running_loop()
        main = self._main(make, open_timeout_s)
        self.task = loop.create_task(main, name=f"actor {self.name}", context=context)
        return self.task

    def give(self, turn: LiveTurn) -> None:
        """Hand over a turn."""
        self.state = "busy"
        self.turn = turn
        self.warm = turn.session.key
        self.mailbox.put(turn)

    def interrupt(self) -> None:
        """Cancel the agent in its running turn. One that has not begun never will."""
        if self.task is not None and self.turn is not None and not self.mailbox.full:
            self.task.cancel()

    def stop(self) -> None:
        """End after the turn that it has."""
        self._stopping = True
        self.mailbox.control(Control.STOP)

    def kill(self) -> None:
        """End now, wherever it stands."""
        self._stopping = True
        if self.task is not None:
            self.task.cancel()

    async def _main(self, make: Callable[[], Agent], open_timeout_s: float) -> None:
        reason: StopReason = "failed"
        error: BaseException | None = None
        agent: Agent | None = None
        try:
            async with asyncio.timeout(open_timeout_s):
                made = make()
                await made.open()
            agent = made
            self.owner.opened(self)
            reason = "crashed"
            await self._serve(agent)
            reason = "abandoned" if self.state == "abandoned" else "retired"
        except asyncio.CancelledError as cancelled:
            # Swallowed on purpose when we were told to end: this is the end.
            if self._stopping:
                reason = "retired"
            else:
                error = cancelled
        except BaseException as raised:  # an agent may raise anything
            error = raised
        finally:
            self.state = "stopped"
            self.owner.stopped(self, reason, error)
        if agent is not None:
            await _close(agent, open_timeout_s)

    async def _serve(self, agent: Agent) -> None:
        while True:
            message = await self.mailbox.get()
            if isinstance(message, Control):
                return
            await self._run(agent, message)
            self.turn = None
            if self.state == "abandoned":
                return
            self.state = "idle"
            self.owner.rested(self)


async def _close(agent: Agent, timeout_s: float) -> None:
    # The actor is gone already: what its agent does on its way out can harm nobody, but must end.
    async with asyncio.timeout(timeout_s):
        await agent.close()
