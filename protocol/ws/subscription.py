"""One session as one connection reads it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from pool.events import Cursor, Event
from pool.reader import Reader, join_deltas
from protocol.ws.window import Allowance, Window, may_go

# Events taken from the log at a time, before their deltas are joined.
_TAKE: Final = 1_000


class Subscription:
    """A reader of the session, what was sent and not acknowledged, and what is about to be sent.

    `mark` is called when there is something to be sent.
    """

    __slots__ = (
        "_accepting",
        "_allowance",
        "_kept",
        "_mark",
        "_reader",
        "_window",
        "closed",
        "session_id",
    )

    def __init__(self, session_id: str, window: int, mark: Callable[[Subscription], None]) -> None:
        self.session_id = session_id
        self.closed = False
        self._mark = mark
        self._window = Window(window)
        self._reader: Reader | None = None
        self._allowance: Allowance | None = None
        # taken from the log and not sent yet
        self._kept: list[Event] = []
        # turns that are being accepted: their answers come before their events
        self._accepting = 0

    def __repr__(self) -> str:
        return f"<Subscription {self.session_id} [{self.behind} behind, {self._window!r}]>"

    @property
    def cursor(self) -> Cursor:
        """The place of the last event that was taken from the log."""
        return self._open_reader().cursor

    @property
    def behind(self) -> int:
        """How many events there are that were not sent."""
        return len(self._kept) + (self._reader.behind if self._reader is not None else 0)

    @property
    def stuck(self) -> bool:
        """Whether there is more to send than the window lets through."""
        return not self.closed and self._window.room == 0 and self.behind > 0

    def start(self, reader: Reader, high_water_events: int) -> None:
        """Read from there; what is there already is sent at once."""
        self._reader = reader
        self._allowance = Allowance(high_water_events, reader.behind)
        self._mark(self)

    def wake(self) -> None:
        """The reader has something new."""
        if self._reader is not None:
            self._mark(self)

    async def next(self) -> Sequence[Event]:
        """What may be sent now. It counts as sent."""
        room = self._window.room
        if not room:
            return ()
        if len(self._kept) < room:
            taken = await self._open_reader().take(_TAKE)
            if self.closed:
                return ()
            self._kept = join_deltas([*self._kept, *taken]) if self._kept else taken
        count = may_go(self._kept, self._window.room, until_queued=self._accepting > 0)
        ready, self._kept = self._kept[:count], self._kept[count:]
        for event in ready:
            self._window.sent(event.cursor)
        return ready

    def acknowledge(self, cursor: Cursor) -> None:
        """The client has dealt with everything up to the cursor."""
        if self._window.acknowledge(cursor):
            self._mark(self)

    def too_far_behind(self) -> bool:
        """Whether the client has fallen behind further than it may."""
        return self._allowance is not None and self._allowance.exceeded(self.behind)

    def hold(self) -> None:
        """A turn is being accepted: keep events back, from `turn.queued` on, until `release`."""
        self._accepting += 1

    def release(self) -> None:
        """The answer to the turn is sent."""
        self._accepting -= 1
        if not self.closed and self.behind:
            self._mark(self)

    def close(self) -> None:
        """Read no more. May be called twice."""
        self.closed = True
        if self._reader is not None:
            self._reader.close()

    def _open_reader(self) -> Reader:
        if self._reader is None:
            raise RuntimeError(f"the subscription of {self.session_id} was not started")
        return self._reader
