"""The end of a turn: its record, its last events and its agent's state, stored in one step."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import structlog

from pool.errors import Internal, LeaseLost, PoolError, StoreUnavailable
from pool.events import ENDINGS, Event
from pool.live import LiveTurn
from pool.session import Session
from pool.store.base import Lease, StateChange, Store
from pool.turn import State, TurnError, Usage
from pool.writer import Writer, give_back

_log = structlog.get_logger("pool.ending")


class Ending:
    """Ends turns, each once. `price` puts the cost into what they used; `over` is called when the
    store has it, or will never have it; `fenced` and `left` when it is another process that will
    end it.
    """

    def __init__(
        self,
        store: Store,
        *,
        writer: Writer,
        price: Callable[[Usage], None],
        clock: Callable[[], float],
        wall: Callable[[], float],
        over: Callable[[LiveTurn], None],
        fenced: Callable[[Session, Lease], None],
        left: Callable[[LiveTurn], None],
    ) -> None:
        self._store = store
        self._suspends = store.suspends
        self._writer = writer
        self._price = price
        self._over = over
        self._fenced = fenced
        self._left = left
        self._clock = clock
        self._wall = wall

    async def end(
        self,
        turn: LiveTurn,
        state: State,
        *,
        error: TurnError | None = None,
        change: StateChange | None = None,
    ) -> None:
        """End a turn once: record, last events and state in one step, then tell everybody."""
        if turn.phase == "ending" or turn.phase == "over":
            return
        self._record_end(turn, state, error)
        try:
            if self._suspends:
                await self._commit_in_order(turn, change)
            else:
                await self._commit(turn, change)
        except LeaseLost as lost:
            turn.moved = True
            _log.warning("turn ends in another process", turn_id=turn.id, error=lost.detail)
            self._left(turn)
            return
        except PoolError as failure:
            self._failed(turn, failure)
        except Exception as error:
            # a store that breaks its contract must not leave the turn, and its session, without end
            _log.error("store failed", turn_id=turn.id, error=type(error).__name__)
            self._failed(turn, Internal("the store failed; the server's log says how"))
        self._over(turn)

    def _record_end(self, turn: LiveTurn, state: State, error: TurnError | None) -> None:
        record = turn.record
        record.move(state)
        record.error = error
        record.output = "".join(turn.texts)
        self._price(record.usage)
        if record.pending or record.decided:
            record.pending = record.decided = ()
        record.kept_usage = None
        record.finished_at = self._wall()
        if turn.stop is not None:
            record.forgotten = turn.stop.forgotten
        if turn.phase == "running":
            record.run_s += self._clock() - turn.started_at
        elif record.attempt == 0:
            record.queued_s = self._clock() - turn.accepted_at
        turn.phase = "ending"

    async def _commit_in_order(self, turn: LiveTurn, change: StateChange | None) -> None:
        # One end at a time, so that nobody else's write takes this one's last event along.
        async with turn.session.writing:
            await self._commit(turn, change)

    async def _commit(self, turn: LiveTurn, change: StateChange | None) -> None:
        session, record = turn.session, turn.record
        lease, log = session.lease, session.log
        if lease is None or turn.moved:
            raise LeaseLost(f"session {session.key.id} is no longer held here")
        end = ENDINGS[record.state](turn=record, at=record.finished_at or 0.0)
        log.hold(end, record.id, record.session_id)
        # the same for every try: the store may have taken the first, and lost its answer
        events = log.take_unstored()
        try:
            try:
                released = await self._store.commit(lease, record, events, change)
            except LeaseLost:
                raise
            except StoreUnavailable:
                if not self._store.suspends:
                    raise
                released = await self._writer.insist(
                    lambda: self._try(session, lease, turn, events, change)
                )
        except BaseException as error:
            give_back(session, events)
            if isinstance(error, LeaseLost):
                self._fenced(session, lease)
            raise
        log.stored(events)
        # a new lease may have been claimed while the answer was on its way
        if released and session.lease is lease:
            session.lease = None

    async def _try(
        self,
        session: Session,
        lease: Lease,
        turn: LiveTurn,
        events: Sequence[Event],
        change: StateChange | None,
    ) -> bool:
        if session.lease is None or session.lease.epoch != lease.epoch:
            raise LeaseLost(f"session {session.key.id} was let go and claimed again")
        return await self._store.commit(lease, turn.record, events, change)

    def give_up(self, turn: LiveTurn) -> None:
        """The pool closes: whether the turn has ended is not known here any more."""
        self._failed(
            turn,
            StoreUnavailable("the pool was closed before the store took the end of the turn"),
        )
        self._over(turn)

    def _failed(self, turn: LiveTurn, failure: PoolError) -> None:
        turn.failure = failure
        turn.session.log.drop_held()
        _log.error(
            "turn could not be ended here",
            agent=turn.record.agent,
            turn_id=turn.record.id,
            error=failure.code,
            remedy="see whether the store answers; another process may hold the session now",
        )
