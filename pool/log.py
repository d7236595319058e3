"""The log of a session, as this process has it: the newest events, and who reads them.

A reader is a cursor, not a queue: however many there are and however slow, an event is kept once,
and what a reader costs does not depend on how far behind it is. What has left the log is read from
the store.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import inf

from msgspec import Struct, field

from pool.events import START, Cursor, Event

# How many stored events stay here for readers that are a little behind.
KEEP = 1_024


def log_from(end: Cursor, epoch: int | None = None) -> Log:
    """A log that goes on after a cursor; in `epoch`, if another than the cursor's begins there."""
    seq = end.seq
    following = seq + 1
    return Log(end.epoch if epoch is None else epoch, seq, following, following, following)


class Log(Struct, eq=False):
    """The tail of one session's log. Its writer stamps events with dense, increasing places."""

    epoch: int
    # the place of the newest event
    seq: int
    # the place of `_events[0]`, had it one
    _first: int
    # what the store was not given yet begins here; and what it has not said yes to
    _unstored_from: int
    _unsure_from: int
    # the epoch of the event before `_events[0]`, if that was here
    _before: int = 0
    # events from this place on are not shown yet: the store has not said yes to them
    _held_from: float = inf
    _events: list[Event] = field(default_factory=list)
    _listeners: tuple[Callable[[], None], ...] = ()
    # how often it went back, because the store had lost its end or all of it, and where to last
    restarts: int = 0
    restart: Cursor = START

    def __repr__(self) -> str:
        return f"<Log {self.end} [{len(self._events)} events, {len(self._listeners)} readers]>"

    @property
    def end(self) -> Cursor:
        """The cursor of the newest event."""
        return Cursor(self.epoch, self.seq)

    @property
    def shown(self) -> int:
        """The place of the newest event that readers may see."""
        return min(self.seq, int(self._held_from) - 1) if self._held_from != inf else self.seq

    @property
    def visible_end(self) -> Cursor:
        """The cursor of the newest event that readers may see."""
        return Cursor(self.epoch, self.shown)

    @property
    def unstored(self) -> int:
        """How many events the store has not been given yet."""
        return self.seq + 1 - self._unstored_from

    def resume(self, end: Cursor) -> None:
        """Go on as the writer of a new epoch, after what the store has."""
        self.epoch = end.epoch
        if end.seq < self.seq:
            self.restarts += 1
            self.restart = end
        if end.seq != self.seq:
            self.seq = end.seq
            self._events.clear()
            self._before = 0
            self._first = end.seq + 1
            self._held_from = inf
            self._wake()
        self._unstored_from = self._unsure_from = end.seq + 1

    def add(self, event: Event, turn_id: str, session_id: str) -> None:
        """Stamp an event, keep it and wake the readers."""
        self.seq = seq = self.seq + 1
        event.epoch = self.epoch
        event.seq = seq
        event.turn_id = turn_id
        event.session_id = session_id
        self._events.append(event)
        if self._listeners:
            self._wake()

    def hold(self, event: Event, turn_id: str, session_id: str) -> None:
        """The same, but readers see it, and what follows it, only when it is `stored`."""
        if self._held_from == inf:
            self._held_from = self.seq + 1
        self.add(event, turn_id, session_id)

    def drop_held(self) -> None:
        """The store will never have what was held back: it did not happen."""
        if self._held_from == inf:
            return
        self.seq = int(self._held_from) - 1
        del self._events[max(0, self.seq + 1 - self._first) :]
        self._unstored_from = min(self._unstored_from, self.seq + 1)
        self._unsure_from = min(self._unsure_from, self.seq + 1)
        self._held_from = inf

    def take_unstored(self) -> Sequence[Event]:
        """What the store has not been given yet; give it back with `untake` if the store fails."""
        start = self._unstored_from - self._first
        self._unstored_from = self.seq + 1
        return self._events[start:] if start else list(self._events)

    def stored(self, events: Sequence[Event]) -> None:
        """The store has these events: what was held back is shown, what nobody reads let go of."""
        if events:
            last = events[-1]
            if last.seq >= self._held_from:
                self._held_from = inf
                self._wake()
            if last.epoch == self.epoch and last.seq >= self._unsure_from:
                self._unsure_from = last.seq + 1
        self.trim()

    def untake(self, events: Sequence[Event]) -> None:
        """The store did not take these events: they are unstored again, if they are still its."""
        if events and events[0].epoch == self.epoch:
            self._unstored_from = min(self._unstored_from, events[0].seq)

    def let_go(self) -> None:
        """Another writes it now: what the store has not said yes to did not happen."""
        self.drop_held()
        if self.seq >= self._unsure_from:
            self.seq = self._unsure_from - 1
            self._unstored_from = self._unsure_from
            del self._events[max(0, self._unsure_from - self._first) :]
            self.restarts += 1
            self.restart = self.end
            self._wake()

    def follow(self, events: Sequence[Event]) -> None:
        """Another wrote these, and the store has them; they follow on the log's end."""
        self._events.extend(events)
        self.epoch, self.seq = events[-1].epoch, events[-1].seq
        self._unstored_from = self._unsure_from = self.seq + 1
        self._wake()
        self.trim()

    def trim(self) -> None:
        """Let go of what is stored, but for a few events while somebody listens."""
        first = self._first
        surplus = self._unsure_from - first
        if self._listeners:
            surplus -= KEEP
        if surplus > 0:
            events = self._events
            self._before = events[surplus - 1].epoch
            del events[:surplus]
            self._first = first + surplus

    def covers(self, cursor: Cursor) -> bool:
        """Whether everything after the cursor is here, and the cursor is a place of this log: one
        of an epoch before that of the event at its place was never stored.
        """
        at = cursor.seq - self._first
        if at < 0:
            return at == -1 and self._before <= cursor.epoch
        return at < len(self._events) and self._events[at].epoch <= cursor.epoch

    def after(self, cursor: Cursor, limit: int) -> Sequence[Event]:
        """The events that follow a cursor that the log covers, as far as they may be seen."""
        start = cursor.seq + 1 - self._first
        end = min(start + limit, self.shown + 1 - self._first)
        return self._events[start:end]

    def listen(self, wake: Callable[[], None]) -> None:
        """Call `wake` whenever there may be more to read."""
        self._listeners += (wake,)

    def unlisten(self, wake: Callable[[], None]) -> None:
        """Call it no more."""
        self._listeners = tuple(other for other in self._listeners if other != wake)

    def _wake(self) -> None:
        for wake in self._listeners:
            wake()
