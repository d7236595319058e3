"""What goes to the store while turns run: new events, with a turn's record and state."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from random import Random
from typing import TypeVar

import structlog

from pool.errors import LeaseLost, StoreUnavailable
from pool.events import Event
from pool.live import LiveTurn
from pool.order import Spawn, heard
from pool.patience import patiently
from pool.session import Session
from pool.store.base import Lease, StateChange, Store

T = TypeVar("T")

# How long an event may wait for others to be stored with it, in seconds: while nobody reads it
# in another process, and while somebody does.
ALONE_S = 0.25
WATCHED_S = 0.025
# The longest pause between two tries while the store cannot be reached, in seconds.
PAUSE_MAX_S = 2.0

_log = structlog.get_logger("pool.writer")


class Writer:
    """Writes logs: in order, joined, and each event once. `fenced` is told of a lost lease."""

    def __init__(
        self,
        store: Store,
        *,
        fenced: Callable[[Session, Lease], None],
        spawn: Spawn,
        random: Random,
    ) -> None:
        self._store = store
        self._fenced = fenced
        self._spawn = spawn
        self._random = random
        # by delay: sessions that have something, and the place up to which their logs were when the
        # timer rang last. It rings twice in a delay; what was there then, and still is, is due.
        self._noted: dict[float, dict[Session, int]] = {ALONE_S: {}, WATCHED_S: {}}
        self._timers: dict[float, asyncio.TimerHandle] = {}
        # while the store cannot be reached: no try before then, and each time a longer pause
        self._down_until = 0.0
        self._pause_s = 0.0
        self._loop = asyncio.get_running_loop()

    async def flush(
        self, session: Session, turn: LiveTurn | None = None, state: StateChange | None = None
    ) -> None:
        """Give the store what the log has and it has not; a turn's record and checkpoint with it,
        by default the record of the turn that runs, if the store does not know what it has used.

        `LeaseLost`: the session's turns have been let go.
        """
        async with session.writing:
            lease = session.lease
            if lease is None or (turn is not None and turn.moved):
                raise LeaseLost(f"session {session.key.id} is no longer held here")
            events = session.log.take_unstored()
            turn = session.outdated if turn is None else turn
            record, attempt = None, 0
            if turn is not None and turn.phase not in ("ending", "over"):
                record = turn.record if state is None else turn.resumable()
                attempt = record.attempt
            else:
                # how it ends, and what its agent keeps then, is for the commit to say
                state = None
            used = None if record is None else record.usage
            try:
                session.watched = await self._store.append(lease, events, record, state)
            except BaseException as error:
                give_back(session, events)
                if isinstance(error, LeaseLost):
                    self._fenced(session, lease)
                raise
        session.log.stored(events)
        if turn is None or record is None:
            return
        if state is not None and turn.phase in ("running", "waiting"):
            turn.record.resumes, turn.record.kept_usage = True, record.kept_usage
        if turn.phase == "running" and turn.record.attempt == attempt:
            turn.stored_usage = used

    async def keep(self, session: Session, turn: LiveTurn, state: StateChange) -> None:
        """Give the store a turn's checkpoint. A try that was begun is finished also if whoever asks
        for it is cancelled: else nobody would know from which state the turn goes on.
        """
        if self._store.suspends:
            await self.insist(lambda: heard(self._spawn(self.flush(session, turn, state))))
        else:
            await self.flush(session, turn, state)

    async def catch_up(self, session: Session) -> None:
        """Give the store what it has not; if it cannot be reached, later."""
        try:
            if session.lease is not None and session.log.unstored:
                await self.flush(session)
                self._pause_s = 0.0
        except LeaseLost as error:
            _log.warning("session is held by another process", error=error.detail)
            self._pause_s = 0.0
        except StoreUnavailable:
            # the pool's upkeep says so to operators; here it is tried again
            self._pause_s = min(PAUSE_MAX_S, max(ALONE_S, 2 * self._pause_s))
            self._down_until = self._loop.time() + self._pause_s
            self.note(session)

    async def insist(self, call: Callable[[], Awaitable[T]]) -> T:
        """Call the store, and wait for it if it cannot be reached."""
        return await (patiently(call, self._random) if self._store.suspends else call())

    def note(self, session: Session) -> None:
        """The session has something for the store, soon."""
        delay_s = WATCHED_S if session.watched else ALONE_S
        self._noted[delay_s].setdefault(session, 0)
        if delay_s not in self._timers:
            self._arm(delay_s, delay_s / 2)

    def close(self) -> None:
        """Write nothing more by itself."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()

    def _arm(self, delay_s: float, after_s: float) -> None:
        self._timers[delay_s] = self._loop.call_later(after_s, self._ring, delay_s)

    def _ring(self, delay_s: float) -> None:
        del self._timers[delay_s]
        due, self._noted[delay_s] = self._look(self._noted[delay_s])
        again_s = delay_s / 2
        if due and self._pause_s:
            left_s = self._down_until - self._loop.time()
            # one asks for all whether the store is back
            asks = 0 if left_s > 0 else 1
            self._noted[delay_s] |= {session: session.log.seq for session in due[asks:]}
            del due[asks:]
            again_s = max(again_s, left_s)
        for session in due:
            self._spawn(self.catch_up(session))
        if self._noted[delay_s]:
            self._arm(delay_s, again_s)

    def _look(self, noted: dict[Session, int]) -> tuple[list[Session], dict[Session, int]]:
        """The sessions that are due; and those that will be, if they have not ended by then."""
        due: list[Session] = []
        later: dict[Session, int] = {}
        for session, looked_at in noted.items():
            log = session.log
            if session.lease is None or not log.unstored:
                continue
            if log.seq - log.unstored < looked_at:
                due.append(session)
            else:
                later[session] = log.seq
        return due, later


def give_back(session: Session, events: Sequence[Event]) -> None:
    """The store did not take these events of the session's log."""
    session.log.untake(events)
    if session.lease is None:
        # it was let go meanwhile, with these events taken for stored
        session.log.let_go()
