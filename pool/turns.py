"""The life of accepted turns: started, flushed, paused, decided, stopped, ended. All that is
written about a turn goes through here, so that its log, its record and its readers agree.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from contextvars import Context
from random import Random
from typing import Any, TypeVar

import structlog

from pool.agent import TurnEnd
from pool.approvals import Approvals
from pool.config import PoolConfig
from pool.deadlines import Deadlines
from pool.dispatcher import Dispatcher
from pool.ending import Ending
from pool.errors import (
    AgentFailed,
    DeadLetter,
    LeaseLost,
    LimitExceeded,
    PoolError,
)
from pool.events import (
    Event,
    TextDelta,
    TurnQueued,
    TurnStarted,
)
from pool.live import LiveTurn, Stop
from pool.observer import Observers, TurnEndedNotice, TurnStartedNotice
from pool.outcome import recorded
from pool.sessions import Sessions
from pool.store.base import AgentState, Lease, StateChange, Store
from pool.text import writable
from pool.turn import TurnError

T = TypeVar("T")

_log = structlog.get_logger("pool.turns")


class Turns:
    """Every turn that was accepted here and has not ended."""

    def __init__(
        self,
        *,
        config: PoolConfig,
        store: Store,
        sessions: Sessions,
        dispatchers: Mapping[str, Dispatcher],
        observers: Observers,
        clock: Callable[[], float],
        wall: Callable[[], float],
        random: Random,
    ) -> None:
        self.clock = clock
        self.wall = wall
        self.live: dict[str, LiveTurn] = {}
        self._config = config
        self._store = store
        self._sessions = sessions
        self._dispatchers = dispatchers
        self._observers = observers
        self.approvals = Approvals(self)
        self.ending = Ending(store, clock=clock, wall=wall, random=random, over=self.over)
        self._deadlines: Deadlines[LiveTurn] = Deadlines(self._expire)
        self._tasks: set[asyncio.Task[Any]] = set()
        self._graces: dict[str, asyncio.TimerHandle] = {}
        self._emptied: list[asyncio.Future[None]] = []
        # how turns end that are accepted when all others have been stopped
        self._stopped: Stop | None = None
        self._loop = asyncio.get_running_loop()

    # --- beginning

    def add(self, turn: LiveTurn, *, first: bool) -> None:
        """An accepted turn takes its place in its session, and starts if it is its turn."""
        self.live[turn.record.id] = turn
        self._deadlines.add(turn)
        dispatcher = self._dispatchers[turn.record.agent]
        session = turn.session
        goes = session.join(turn, first=first)
        position = dispatcher.position(turn) if goes else len(session.line)
        self.tell(turn, TurnQueued(position=position, at=turn.record.created_at))
        if goes:
            dispatcher.ready(turn)
        if self._stopped is not None:
            self.stop(turn, self._stopped)

    def started(self, turn: LiveTurn) -> None:
        """An actor was found for the turn."""
        now = self.clock()
        record = turn.record
        turn.phase = "running"
        turn.started_at = now
        record.state = "running"
        if turn.continues:
            turn.continues = False
        else:
            record.attempt += 1
            if record.attempt == 1:
                record.queued_s = now - turn.accepted_at
            else:
                turn.texts.clear()
            self.tell(turn, TurnStarted(attempt=record.attempt, at=self.wall()))
        if self._observers:
            self._observers.notice(
                TurnStartedNotice(record.agent, record.id, record.attempt, now - turn.accepted_at)
            )

    # --- while it runs

    async def flush(self, turn: LiveTurn, state: StateChange | None = None) -> None:
        """Give the store what the log has and it has not, and a checkpoint with it."""
        session = turn.session
        async with session.writing:
            lease = session.lease
            if lease is None:
                raise LeaseLost(f"session {session.key.id} is no longer held here")
            events = session.log.take_unstored()
            try:
                await self._store.append(lease, events, turn.record, state)
            except BaseException:
                session.log.untake(events)
                raise
        session.log.trim()

    async def load(self, lease: Lease, turn: LiveTurn) -> AgentState:
        """What the agent keeps of the session, or its checkpoint in this turn."""
        return await self._store.load(lease, turn.record.agent, turn.record.id)

    def check_state(self, state: bytes) -> None:
        """`LimitExceeded` if a state is larger than a session may keep."""
        if len(state) > self._config.max_state_bytes:
            raise LimitExceeded(
                f"the agent's state has {len(state)} bytes; a session may keep "
                f"{self._config.max_state_bytes}"
            )

    async def pause(self, turn: LiveTurn, change: StateChange | None) -> None:
        """The turn waits for humans and holds no actor meanwhile."""
        record = turn.record
        record.output = "".join(turn.texts)
        record.run_s += self.clock() - turn.started_at
        record.state = "waiting"
        turn.phase = "waiting"
        turn.resume = True
        try:
            await self.flush(turn, change)
        except PoolError as error:
            # nobody could go on from a pause that is not stored
            await self.ending.end(turn, "failed", error=recorded(error))
            return
        turn.actor = None
        turn.wake()
        self.approvals.lapse_later(turn)
        self.go_on(turn)

    def go_on(self, turn: LiveTurn) -> None:
        """Queue a paused turn again, if nothing of it waits for a human any more."""
        # while it has its actor its pause is still being stored
        if turn.phase != "waiting" or turn.actor is not None or turn.stop is not None:
            return
        if turn.record.pending:
            return
        turn.continues = True
        turn.phase = "queued"
        turn.record.state = "queued"
        self._dispatchers[turn.record.agent].back(turn)

    # --- ending early

    def stop(self, turn: LiveTurn, stop: Stop) -> None:
        """Make a turn end early. One that has an actor is cancelled there, and left behind if it
        does not end within the grace."""
        if not turn.stoppable:
            if stop.forgotten and turn.phase == "running" and turn.stop and not turn.stop.error:
                # a rollback while it is already stopping: what it says then is forgotten too
                turn.stop = stop
            return
        turn.stop = stop
        if turn.phase == "running":
            actor = turn.actor
            if actor is not None:
                actor.interrupt()
            self._graces[turn.id] = self._loop.call_later(
                self._config.cancel_grace_s, self._abandon, turn
            )
            return
        if turn.phase == "queued":
            # out of the queue at once, so that nobody starts it while its end is being stored
            self._dispatchers[turn.record.agent].drop(turn)
            turn.session.withdraw(turn)
        self.spawn(self.ending.end(turn, stop.state, error=stop.error))

    def _abandon(self, turn: LiveTurn) -> None:
        self._graces.pop(turn.id, None)
        actor, stop = turn.actor, turn.stop
        if turn.phase != "running" or actor is None or stop is None:
            return
        dispatcher = self._dispatchers[turn.record.agent]
        self._release(turn)
        dispatcher.supervisor.abandon(actor)
        self.spawn(self.ending.end(turn, stop.state, error=stop.error))

    def _expire(self, turn: LiveTurn) -> None:
        error = TurnError("deadline_exceeded", "the turn's deadline passed", retryable=True)
        if turn.stoppable:
            self.stop(turn, Stop("expired", error=error))

    def lost(self, turn: LiveTurn, error: str) -> None:
        """The turn's actor crashed under it: it runs again, or is a dead letter."""
        if turn.phase != "running":
            return
        self._release(turn)
        record = turn.record
        if turn.stop is not None:
            self.spawn(self.ending.end(turn, turn.stop.state, error=turn.stop.error))
        elif record.attempt >= self._config.max_attempts:
            _log.error(
                "turn is a dead letter",
                agent=record.agent,
                turn_id=record.id,
                attempts=record.attempt,
                error=error,
                remedy="mend the agent, then submit the turn again",
            )
            detail = f"the turn crashed its actor {record.attempt} times"
            self.spawn(self.ending.end(turn, "failed", error=TurnError(DeadLetter.code, detail)))
        else:
            turn.phase = "queued"
            record.state = "queued"
            record.pending = ()
            self._dispatchers[record.agent].back(turn)

    # --- ending

    async def finish(self, turn: LiveTurn, end: TurnEnd | Exception, state_format: str) -> None:
        """The agent is through: end the turn, or let it pause, as the agent said."""
        if turn.phase != "running":
            return
        dispatcher = self._dispatchers[turn.record.agent]
        stop = turn.stop
        if stop is None:
            # while it still holds its permit: whether the limit is in use counts
            dispatcher.learn(end)
        dispatcher.released(turn, self.clock() - turn.started_at)
        if stop is not None:
            await self.ending.end(turn, stop.state, error=stop.error)
        elif isinstance(end, Exception):
            await self.ending.end(turn, "failed", error=recorded(end))
        else:
            change = self._change(end, state_format)
            if isinstance(change, AgentFailed):
                await self.ending.end(turn, "failed", error=recorded(change))
                return
            if end.status == "paused":
                await self.pause(turn, change)
                return
            if end.output and not turn.texts:
                self._say(turn, end.output)
            if end.status == "limit":
                turn.record.stop_reason = "limit"
            await self.ending.end(turn, "completed", change=change)

    def _change(self, end: TurnEnd, state_format: str) -> StateChange | AgentFailed | None:
        if end.state is None and end.append is None:
            return None
        data = end.state if end.state is not None else end.append or b""
        try:
            self.check_state(data)
        except LimitExceeded as error:
            return error
        return StateChange(state_format, data, append=end.state is None)

    def _say(self, turn: LiveTurn, text: str) -> None:
        """An answer that was not streamed is one delta."""
        text, _ = writable(text)
        turn.texts.append(text)
        turn.first_text_at = self.clock()
        turn.session.log.add(TextDelta(text), turn.record.id, turn.record.session_id)

    def over(self, turn: LiveTurn) -> None:
        """The end of the turn is stored: tell everybody, and let the next one go."""
        record, session = turn.record, turn.session
        session.log.show()
        session.log.trim()
        following = session.leave(turn)
        turn.phase = "over"
        del self.live[record.id]
        self._deadlines.ended()
        if self._graces and (grace := self._graces.pop(record.id, None)) is not None:
            grace.cancel()
        if turn.resume:
            self.approvals.forget(turn)
        if turn.waiters:
            turn.wake()
        if following is not None:
            self._dispatchers[following.record.agent].ready(following)
        else:
            self._sessions.settle(session)
        if self._observers:
            first = turn.first_text_at
            self._observers.notice(
                TurnEndedNotice(
                    record.agent,
                    record,
                    turn.request_id,
                    None if first is None else first - turn.accepted_at,
                )
            )
        if self._emptied and not self.live:
            for waiter in self._emptied:
                if not waiter.done():
                    waiter.set_result(None)
            self._emptied.clear()

    def _release(self, turn: LiveTurn) -> None:
        self._dispatchers[turn.record.agent].released(turn, self.clock() - turn.started_at)

    # --- waiting for all of them

    async def emptied(self, timeout_s: float) -> bool:
        """Wait until no turn is left, at most so long; whether none is."""
        if self.live and timeout_s > 0:
            emptied = self._loop.create_future()
            self._emptied.append(emptied)
            await asyncio.wait([emptied], timeout=timeout_s)
        return not self.live

    def stop_all(self, stop: Stop) -> None:
        """Make every turn end early, also those that the store has yet to accept."""
        self._stopped = stop
        for turn in list(self.live.values()):
            self.stop(turn, stop)

    def abandon_all(self) -> None:
        """Leave behind every agent that has not let itself be stopped."""
        for turn in list(self.live.values()):
            self._abandon(turn)

    async def settled(self, timeout_s: float) -> None:
        """Wait for everything that was begun on behalf of turns, at most so long."""
        until = self.clock() + timeout_s
        while self._tasks:
            left_s = max(0.0, until - self.clock())
            done, _ = await asyncio.wait(self._tasks, timeout=left_s)
            if not done:
                return

    async def give_up(self) -> None:
        """Let go of turns whose ends the store has not taken, and tell who waits for them."""
        for turn in list(self.live.values()):
            self.ending.give_up(turn)
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=1.0)

    def close(self) -> None:
        """Expire nothing more."""
        self._deadlines.close()
        for grace in self._graces.values():
            grace.cancel()

    def spawn(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Do something that must not end with whoever asked for it."""
        task = self._loop.create_task(work, context=Context())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def tell(self, turn: LiveTurn, event: Event) -> None:
        """Put an event into the turn's log."""
        turn.session.log.add(event, turn.record.id, turn.record.session_id)
