"""The log of one session in the memory store: the very events, in a list."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from msgspec import Struct

from pool.errors import Internal
from pool.events import START, Cursor, Event
from pool.store.base import EventPage


class EventLog(Struct, eq=False):
    """Dense places, from the first that is kept to the last; and which epoch began where."""

    # the events of the places `base + 1`, `base + 2` and so on; those before were trimmed
    events: list[Event] = []
    base: int = 0
    # by turn: the place before its first event
    starts: dict[str, int] = {}
    # each epoch with the first place that was free when it began, oldest first
    epochs: list[tuple[int, int]] = []

    @property
    def seq(self) -> int:
        """The place of the newest event."""
        return self.base + len(self.events)

    @property
    def end(self) -> Cursor:
        """The cursor of the newest event; of the newest epoch if there was none."""
        seq = self.base + len(self.events)
        return Cursor(self._epoch_at(seq), seq)

    def begin(self, epoch: int) -> None:
        """A new epoch follows what is there."""
        self.epochs.append((epoch, self.seq + 1))

    def missing(self, events: Sequence[Event], epoch: int) -> Sequence[Event]:
        """Those of the events that are not here yet; `Internal` if they do not follow densely."""
        seq = self.base + len(self.events)
        if events and events[0].seq <= seq:
            events = self._unrepeated(events)
        for event in events:
            seq += 1
            if event.seq != seq or event.epoch != epoch:
                raise Internal(
                    f"event {event.id} ({event.type}) does not follow the session's log, whose next "
                    f"is {epoch}-{seq}; whoever holds the lease must stamp events densely"
                )
        return events

    def extend(self, events: Sequence[Event]) -> None:
        """Add events that are known to follow."""
        turn_id = None
        for event in events:
            if event.turn_id is not turn_id:
                turn_id = event.turn_id
                self.starts.setdefault(turn_id, event.seq - 1)
        self.events.extend(events)

    def restore(self, events: Iterable[Event]) -> None:
        """Take back events that were here once, and stamp them with the places they had."""
        self.events = list(events)
        epochs = iter([*self.epochs[1:], (0, None)])
        epoch, (later, until) = self.epochs[0][0] if self.epochs else 0, next(epochs)
        for seq, event in enumerate(self.events, self.base + 1):
            while until is not None and seq >= until:
                epoch, (later, until) = later, next(epochs)
            event.epoch = epoch
            event.seq = seq

    def before(self, turn_id: str) -> Cursor:
        """The cursor before a turn's first event; the end of the log while it has none."""
        seq = self.starts.get(turn_id)
        return self.end if seq is None else self._cursor(seq)

    def after(self, cursor: Cursor, limit: int) -> EventPage:
        """What follows a cursor; what has been lost comes first and is left out."""
        lost = self._lost_after(cursor)
        first = (cursor if lost is None else lost).seq - self.base
        return EventPage(self.events[first : first + limit], lost)

    def trim(self, seq: int) -> int:
        """Let go of the events up to a place; returns how many they were."""
        count = min(max(0, seq - self.base), len(self.events))
        del self.events[:count]
        self.base += count
        while len(self.epochs) > 1 and self.epochs[1][1] <= self.base:
            del self.epochs[0]
        return count

    def first_of(self, turn_ids: Iterable[str]) -> int:
        """The place before the first event of any of these turns; the end if they have none."""
        return min((self.starts[id] for id in turn_ids if id in self.starts), default=self.seq)

    def _unrepeated(self, events: Sequence[Event]) -> Sequence[Event]:
        # A writer that lost the answer sends again what is here. What differs is left in, and refused.
        first = events[0].seq - self.base - 1
        kept = self.events[first:] if first >= 0 else []
        for event, same in zip(events, kept, strict=False):
            if (event.id, event.type, event.turn_id) != (same.id, same.type, same.turn_id):
                return events
        return events[len(kept) :]

    def _lost_after(self, cursor: Cursor) -> Cursor | None:
        if cursor.seq < self.base:
            return self._cursor(self.base)
        if cursor == START:
            return None
        following = None
        for epoch, first in reversed(self.epochs):
            if epoch == cursor.epoch:
                if following is None or cursor.seq < following:
                    return None
                # past the end of an epoch that is over: those events never came here
                return Cursor(epoch, following - 1)
            following = first
        return self._cursor(self.base)

    def _cursor(self, seq: int) -> Cursor:
        return Cursor(self._epoch_at(seq), seq) if seq else START

    def _epoch_at(self, seq: int) -> int:
        for epoch, first in reversed(self.epochs):
            if first <= seq:
                return epoch
        return self.epochs[-1][0] if self.epochs else 0
