"""The life of accepted turns: added, started, paused, stopped, ended."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from random import Random

import structlog

from pool.approvals import Approvals
from pool.billing import Billing
from pool.config import PoolConfig
from pool.crashes import Crashes
from pool.deadlines import Deadlines
from pool.dispatcher import Dispatcher
from pool.doubts import Doubts
from pool.emptying import Emptying
from pool.ending import Ending
from pool.errands import Errands
from pool.errors import (
    LeaseLost,
    LimitExceeded,
    PoolError,
    StoreUnavailable,
)
from pool.events import (
    Event,
    TurnQueued,
    TurnStarted,
)
from pool.finishing import Finishing
from pool.guard.ledger import Ledger
from pool.live import MAKES_WAY, MOVED, LiveTurn, Stop
from pool.moving import Moving
from pool.observer import (
    Move,
    Observers,
    TurnEndedNotice,
    TurnMovedNotice,
    TurnRepeatedNotice,
    TurnStartedNotice,
)
from pool.outcome import recorded
from pool.revival import Revival
from pool.session import Session
from pool.sessions import Sessions
from pool.stopping import Stopping
from pool.store.base import AgentState, Lease, StateChange, Store
from pool.webhooks import Deliveries
from pool.writer import Writer

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
        deliveries: Deliveries | None,
        doubts: Doubts,
        ledger: Ledger,
        clock: Callable[[], float],
        wall: Callable[[], float],
        random: Random,
    ) -> None:
        self.clock = clock
        self.wall = wall
        self.live: dict[str, LiveTurn] = {}
        # agents that keep something of a session: they load it before they run
        self.stateful: set[str] = set()
        # how turns are stopped now that the pool closes: all of them, also those still to come
        self.closing: Stop | None = None
        self._config = config
        self._store = store
        # whether what was accepted outlives the process
        self.durable = store.durable
        self.sessions = sessions
        self._dispatchers = dispatchers
        self._observers = observers
        self._tells_starts = observers.wants(TurnStartedNotice)
        self._deliveries = deliveries
        self.errands = Errands(clock)
        self.emptying = Emptying(self.live)
        self.approvals = Approvals(self)
        self.moving = Moving(self, store, doubts)
        self._limited = not ledger.open
        self.revival = Revival(self, dispatchers, config)
        self.crashes = Crashes(self, dispatchers, max_attempts=config.max_attempts)
        self.finishing = Finishing(self, dispatchers)
        self.writer = Writer(
            store, fenced=self.moving.fenced, spawn=self.errands.spawn, random=random
        )
        self.ending = Ending(
            store,
            writer=self.writer,
            price=ledger.price,
            clock=clock,
            wall=wall,
            over=self._over,
            fenced=self.moving.fenced,
            left=self.leave,
        )
        self.stopping = Stopping(
            grace_s=config.cancel_grace_s, halted=self._halted, abandon=self.abandon
        )
        self.billing = Billing(
            ledger,
            spawn=self.errands.spawn,
            insist=self.writer.insist,
            stop=self.stopping.stop,
            wall=wall,
        )
        self._deadlines: Deadlines[LiveTurn] = Deadlines(self.stopping.expire)

    # --- beginning

    def add(self, turn: LiveTurn) -> None:
        """An accepted turn, with a place at its dispatcher, takes its place in its session, and
        starts if it is its turn. One that makes way for itself stops the one before.
        """
        session = turn.session
        before = session.current
        goes = session.join(turn)
        self.watch_over(turn)
        self.tell_place(turn)
        if not goes:
            # what goes before it may leave another state
            turn.loaded = None
            if before is not None and turn.makes_way:
                self.stopping.stop(before, MAKES_WAY[turn.record.request.if_busy])
        elif self.closing is None and not session.arriving:
            self._dispatchers[turn.record.agent].ready(turn)
        if self.closing is not None:
            self.after_closing(session)

    def watch_over(self, turn: LiveTurn) -> None:
        """It is one of this process's turns from now on, and expires when its deadline passes."""
        self.live[turn.record.id] = turn
        if self._limited:
            self.billing.recall(turn)
        self._deadlines.add(turn)

    def tell_place(self, turn: LiveTurn) -> None:
        """Tell the readers of a turn that has not begun how many go before it."""
        record, session = turn.record, turn.session
        if record.attempt:
            return
        if session.current is turn:
            position = self._dispatchers[record.agent].position(turn)
        else:
            position = len(session.line)
        self.tell(turn, TurnQueued(position=position, at=record.created_at))

    def start_no_more(self) -> None:
        """What waits goes back to the store, and with it what still comes."""
        self.closing = MOVED
        for dispatcher in self._dispatchers.values():
            dispatcher.closed = True

    def after_closing(self, session: Session) -> None:
        """Turns came when all others had been stopped, if so: they are stopped as those were."""
        if self.closing is None:
            return
        if self.closing.state is None:
            self.moving.hand_back_soon(session)
            return
        for turn in list(session.turns.values()):
            self.stopping.stop(turn, self.closing)

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
                self._observers.notice(TurnRepeatedNotice(record.agent, record.id, record.attempt))
            self.tell(turn, TurnStarted(attempt=record.attempt, at=self.wall()))
        if self._tells_starts:
            self._observers.notice(
                TurnStartedNotice(record.agent, record.id, record.attempt, now - turn.accepted_at)
            )

    # --- while it runs

    async def note_start(self, turn: LiveTurn) -> None:
        """Have the store know that this attempt begins, so that one that ends the process counts.

        The first start of a turn is stored with its first events, unless it ends before. While the
        store cannot be reached the turn starts all the same.
        """
        if turn.stored_usage is not None or not self.durable:
            return
        try:
            await self.writer.flush(turn.session, turn)
        except LeaseLost:
            raise
        except StoreUnavailable as error:
            _log.warning("start of a turn is not stored", turn_id=turn.id, error=error.code)

    async def note_queued(self, turn: LiveTurn) -> None:
        """Have the store know that it has not begun."""
        try:
            if turn.phase == "queued":
                await self.writer.flush(turn.session, turn)
        except StoreUnavailable as error:
            _log.warning("turn counts as begun", turn_id=turn.id, error=error.code)

    async def load(self, lease: Lease, turn: LiveTurn) -> AgentState:
        """What the agent keeps of the session, or its checkpoint in this turn."""
        loaded, turn.loaded = turn.loaded, None
        if loaded is not None:
            return loaded
        self.stateful.add(turn.record.agent)
        return await self.writer.insist(
            lambda: self._store.load(lease, turn.record.agent, turn.record.id)
        )

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
        record.resumes = True
        turn.phase = "waiting"
        try:
            await self.writer.insist(lambda: self.writer.flush(turn.session, turn, change))
        except LeaseLost:
            return
        except PoolError as error:
            # nobody could go on from a pause that is not stored
            await self.ending.end(turn, "failed", error=recorded(error))
            return
        turn.actor = None
        turn.wake()
        if turn.suspect:
            self.revival.left(turn)
        self.approvals.lapse_later(turn)
        self.go_on(turn)

    def go_on(self, turn: LiveTurn) -> None:
        """Queue a paused turn again, if nothing of it waits for a human any more."""
        # while it has its actor its pause is still being stored
        if turn.phase != "waiting" or turn.actor is not None or turn.stop is not None:
            return
        if turn.session.arriving:
            # it goes when all that its inbox says was done
            return
        if self.closing is not None:
            self.after_closing(turn.session)
        elif not turn.record.pending:
            turn.continues = True
            self.requeue(turn)
            self._dispatchers[turn.record.agent].back(turn)

    def requeue(self, turn: LiveTurn) -> None:
        """It is to be started, again."""
        turn.phase = "queued"
        turn.record.state = "queued"
        turn.stored_usage = None

    # --- ending early

    def withdraw(self, turn: LiveTurn) -> None:
        """Out of the queue at once, so that nobody starts it while its end is being stored."""
        if turn.phase == "queued":
            self._dispatchers[turn.record.agent].drop(turn)
            turn.session.withdraw(turn)

    def _halted(self, turn: LiveTurn) -> None:
        self.withdraw(turn)
        self.errands.spawn(self.end_early(turn))

    async def end_early(self, turn: LiveTurn) -> None:
        """It was stopped, and its agent has stopped: it ends as it was told, or goes elsewhere."""
        stop = turn.stop
        if stop is None or stop.state is None:
            self.moving.set_down(turn)
        else:
            await self.ending.end(turn, stop.state, error=stop.error)

    def abandon(self, turn: LiveTurn) -> None:
        """Leave its agent behind: it does not let itself be stopped."""
        actor = turn.actor
        self.release(turn)
        if actor is not None:
            self._dispatchers[turn.record.agent].supervisor.abandon(actor)
        self.errands.spawn(self.end_early(turn))

    # --- ending

    def _over(self, turn: LiveTurn) -> None:
        """The end of the turn is stored: tell everybody, and let the next one go."""
        record = turn.record
        self.leave(turn)
        self.billing.ended(turn)
        if self._deliveries is not None:
            self._deliveries.ended(record)
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

    def leave(self, turn: LiveTurn) -> None:
        """It is over, or none of this process's business: the next of its session may go."""
        record, session = turn.record, turn.session
        following = session.leave(turn)
        turn.phase = "over"
        self.forget(turn)
        self._deadlines.ended()
        if turn.grace is not None:
            self.stopping.ended(turn)
        if record.resumes:
            self.approvals.forget(turn)
        if turn.waiters:
            turn.wake()
        if turn.suspect:
            self.revival.left(turn)
        if self.closing is not None and session.turns:
            self.after_closing(session)
        elif session.foreign and not session.turns:
            self.moving.hand_back_soon(session)
        elif following is None:
            self.sessions.settle(session)
        elif session.arriving:
            return
        elif following.record.attempt:
            self.revival.begin_again(following)
        else:
            self._dispatchers[following.record.agent].ready(following)

    def forget(self, turn: LiveTurn) -> None:
        """It is no longer among the turns of this process."""
        if turn.moved:
            self.billing.let_go(turn.record)
        live, turn_id = self.live, turn.record.id
        if live.get(turn_id) is turn:
            del live[turn_id]
            if not live:
                self.emptying.wake()

    def release(self, turn: LiveTurn) -> None:
        """It has no actor any more: its permit, if it has one, is free."""
        self._dispatchers[turn.record.agent].released(turn, self.clock() - turn.started_at)

    def tell(self, turn: LiveTurn, event: Event) -> None:
        """Put an event into the turn's log."""
        record = turn.record
        turn.session.log.add(event, record.id, record.session_id)
        if self.durable:
            self.writer.note(turn.session)

    def tell_moved(self, turn: LiveTurn, how: Move) -> None:
        """Tell observers that it changes the process that runs it."""
        if self._observers:
            self._observers.notice(TurnMovedNotice(turn.record.agent, turn.record.id, how))

    def close(self) -> None:
        """Expire and write nothing more."""
        self.writer.close()
        self.revival.close()
        self._deadlines.close()
        for turn in self.live.values():
            self.stopping.ended(turn)
