"""A reader: a cursor into a session's log. From the store what is old, from the log what is new."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextvars import copy_context

from pool.events import Cursor, Event, HistoryLost, TextDelta
from pool.session import Session
from pool.store.base import Store


def join_deltas(events: Sequence[Event]) -> list[Event]:
    """The same events with neighbouring text deltas of a turn made one, which has the last one's
    place.
    """
    joined: list[Event] = []
    run: list[TextDelta] = []
    for event in events:
        if type(event) is TextDelta:
            if run and run[-1].turn_id != event.turn_id:
                joined.append(_one(run))
                run = []
            run.append(event)
            continue
        if run:
            joined.append(_one(run))
            run = []
        joined.append(event)
    if run:
        joined.append(_one(run))
    return joined


def _outside(wake: Callable[[], None]) -> Callable[[], None]:
    context = copy_context()
    return lambda: context.run(wake)


def _one(run: list[TextDelta]) -> TextDelta:
    last = run[-1]
    if len(run) == 1:
        return last
    return TextDelta(
        "".join([delta.text for delta in run]),
        epoch=last.epoch,
        seq=last.seq,
        turn_id=last.turn_id,
        session_id=last.session_id,
    )


class Reader:
    """Reads a session's log, or one turn's part of it, from a cursor on. Always `close` it.

    With a `wake` callback it is called from the loop when there is more to take; each `take` arms
    it once. Without one, `wait` waits for that.
    """

    def __init__(
        self,
        session: Session,
        store: Store,
        after: Cursor,
        *,
        turn_id: str | None = None,
        wake: Callable[[], None] | None = None,
        wall: Callable[[], float],
        closed: Callable[[Session], None],
    ) -> None:
        self.cursor = after
        self._session = session
        self._store = store
        self._turn_id = turn_id
        # Who emits an event is an agent in its turn: what a reader does then is not the turn's.
        self._wake = _outside(wake) if wake is not None else None
        self._wall = wall
        self._armed = True
        self._waiter: asyncio.Future[None] | None = None
        self._closed: Callable[[Session], None] | None = closed
        self._ahead: list[Event] = []
        self._exhausted = False
        # the watched turn runs in another process: its end is still to come
        self._awaited = False
        # what follows the cursor is in the store, and not in the log yet
        self._ahead_of_log = False
        # of another epoch than the log's, or beyond its end: whether the cursor is a place at all,
        # the store knows
        self._placed = after.epoch == session.log.epoch and after.seq <= session.log.seq
        self._restarts = session.log.restarts
        # the first place that the log went back to since the last take
        self._cut: Cursor | None = None
        session.readers += 1
        session.log.listen(self._ring)

    @property
    def ended(self) -> bool:
        """Whether everything of the watched turn has been taken: nothing will follow."""
        return self._exhausted and not self._ahead

    @property
    def behind(self) -> int:
        """How many events lie between the cursor and the end of the log."""
        log = self._session.log
        if self._cut is not None and self.cursor.seq > self._cut.seq:
            return max(1, log.shown - self._cut.seq)
        unplaced = not self._placed and log.epoch > self.cursor.epoch
        return max(int(unplaced), log.shown - self.cursor.seq)

    async def look(self) -> None:
        """Read on to the watched turn's next event, so that `ended` is true if there is none."""
        while not self._ahead and not self._exhausted:
            self._ahead = await self.take()
            if self.behind == 0:
                return

    async def take(self, limit: int = 1_000) -> list[Event]:
        """What follows the cursor now, deltas joined; at most `limit` events before that."""
        self._armed = True
        if self._ahead:
            ahead, self._ahead = self._ahead, []
            return ahead
        events = await self._next(limit)
        if self._turn_id is not None:
            events = await self._of_turn(events, self._turn_id)
        return join_deltas(events)

    async def wait(self) -> None:
        """Until there is something behind the cursor, or the watched turn has ended."""
        while not (self._ahead or self._ahead_of_log or self.ended or self.behind):
            if self._turn_id is not None and await self._settled(self._turn_id):
                return
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None

    def close(self) -> None:
        """Stop reading. May be called twice."""
        closed, self._closed = self._closed, None
        if closed is not None:
            self._session.log.unlisten(self._ring)
            self._session.readers -= 1
            closed(self._session)

    async def _next(self, limit: int) -> Sequence[Event]:
        log = self._session.log
        events: Sequence[Event] = ()
        cut, self._cut = self._cut, None
        if cut is not None and self.cursor.seq > cut.seq:
            # what was read behind that place is not the session's any more
            again = log.after(cut, limit) if log.covers(cut) else ()
            events = (self._lost(cut), *again)
            self._placed = True
        elif self._ahead_of_log or not (self._placed and log.covers(self.cursor)):
            self._ahead_of_log = False
            # what the log gets meanwhile says nothing of this cursor
            epoch, seq = log.epoch, log.seq
            page = await self._store.events(self._session.key, self.cursor, limit)
            events = page.events
            if page.lost is not None:
                events = (self._lost(page.lost), *events)
            at = self.cursor
            placed = epoch > at.epoch or (epoch == at.epoch and at.seq <= seq)
            self._placed = bool(events) or placed
        if not events and self._placed and log.covers(self.cursor):
            events = log.after(self.cursor, limit)
        if events:
            self.cursor = events[-1].cursor
        return events

    def _lost(self, end: Cursor) -> HistoryLost:
        return HistoryLost(
            at=self._wall(),
            lost_from=str(self.cursor),
            lost_to=str(end),
            epoch=end.epoch,
            seq=end.seq,
            turn_id=self._turn_id or "",
            session_id=self._session.key.id,
        )

    async def _of_turn(self, events: Sequence[Event], turn_id: str) -> Sequence[Event]:
        mine = [e for e in events if e.turn_id == turn_id]
        if mine and mine[-1].terminal:
            self._exhausted = True
            return mine
        if mine and isinstance(mine[-1], HistoryLost):
            self._awaited = False
        await self._settled(turn_id)
        return mine

    async def _settled(self, turn_id: str) -> bool:
        # Whether there is nothing to wait for: more is there, or the watched turn's end was.
        if self.behind:
            return True
        if self._awaited or turn_id in self._session.turns:
            return False
        turn = await self._store.turn(turn_id) if self._store.durable else None
        if turn is not None and not turn.ended:
            self._awaited = True
            return bool(self.behind)
        # it ended, and its end lies before the cursor, was never shown, or is not in the log yet
        page = await self._store.events(self._session.key, self.cursor, 1)
        if not self.behind:
            self._ahead_of_log = bool(page.events)
            self._exhausted = not page.events
        return True

    def _ring(self) -> None:
        log = self._session.log
        if self._restarts != log.restarts:
            self._restarts = log.restarts
            if self._cut is None or log.restart.seq < self._cut.seq:
                self._cut = log.restart
        if self._waiter is not None:
            if not self._waiter.done():
                self._waiter.set_result(None)
        elif self._wake is not None and self._armed:
            self._armed = False
            self._wake()
