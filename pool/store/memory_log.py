"""The log of one session in the memory store: the very events, in a list."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice
from math import inf

from msgspec import Struct

from pool.errors import Internal, LeaseLost
from pool.events import START, Cursor, Event
from pool.store.base import EventPage

# what a named tuple's own constructor does, in half the time
_new = tuple.__new__


class EventLog(Struct, eq=False):
    """Dense places, from the first that is kept to the last; and which epoch began where."""

    # the events of the places `base + 1`, `base + 2` and so on; those before were trimmed
    events: list[Event] = []
    base: int = 0
    # each epoch with the first place that was free when it began, oldest first
    epochs: tuple[tuple[int, int], ...] = ()
    # of the newest event; the newest epoch if there was none
    end_epoch: int = 0

    @property
    def seq(self) -> int:
        """The place of the newest event."""
        return self.base + len(self.events)

    @property
    def end(self) -> Cursor:
        """The cursor of the newest event."""
        return _new(Cursor, (self.end_epoch, self.base + len(self.events)))

    @classmethod
    def carried(cls, events: Sequence[Event], end: Cursor) -> EventLog:
        """A log that was carried here: what can be replayed of it, and its end."""
        log = cls(list(events), end.seq - len(events), end_epoch=end.epoch)
        begun = {event.epoch: event.seq for event in reversed(events)}
        if end.epoch:
            # what is gone counts as the oldest epoch's that is known
            begun[events[0].epoch if events else end.epoch] = 1
        log.epochs = tuple(sorted(begun.items()))
        return log

    def begin(self, epoch: int) -> None:
        """A new epoch follows what is there."""
        seq = self.base + len(self.events)
        self.epochs += ((epoch, seq + 1),)
        if not seq:
            self.end_epoch = epoch

    def add(self, events: Sequence[Event], epoch: int) -> int:
        """Add events; returns how many were not here yet.

        A writer that lost the answer may send again what is here, with or without more. `LeaseLost`
        if what was written before is missing, `Internal` if the events themselves are not dense.
        """
        if not events:
            return 0
        seq = self.base + len(self.events)
        if events[0].seq <= seq:
            events = self._unrepeated(events)
        elif events[0].seq > seq + 1:
            raise LeaseLost(
                f"event {events[0].id} does not follow the session's log, which ends at {self.end}:"
                " what was written in between is lost; let go of the session"
            )
        for event in events:
            seq += 1
            if event.seq != seq or event.epoch != epoch:
                raise Internal(
                    f"event {event.id} ({event.type}) does not follow the session's log, whose "
                    f"next is {epoch}-{seq}; who holds the lease must stamp events densely"
                )
        self.events += events
        self.end_epoch = epoch
        return len(events)

    def restore(self, events: Iterable[Event]) -> None:
        """Take back events that were here once, and stamp them with the places they had."""
        self.events = list(events)
        following = iter(self.epochs)
        epoch, (later, until) = 0, next(following, (0, inf))
        for seq, event in enumerate(self.events, self.base + 1):
            while seq >= until:
                epoch, (later, until) = later, next(following, (0, inf))
            event.epoch = epoch
            event.seq = seq

    def before(self, turn_id: str, seq: int) -> Cursor:
        """The cursor before a turn's first event, which is not before a place.

        The end of the log while there is none.
        """
        seq = max(seq, self.base)
        for event in islice(self.events, seq - self.base, None):
            if event.turn_id == turn_id:
                return self._cursor(seq)
            seq += 1
        return self.end

    def starts(self) -> dict[str, int]:
        """For each turn that has events here the place before the first of them."""
        found: dict[str, int] = {}
        for seq, event in enumerate(self.events, self.base):
            found.setdefault(event.turn_id, seq)
        return found

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
            self.epochs = self.epochs[1:]
        return count

    def _unrepeated(self, events: Sequence[Event]) -> Sequence[Event]:
        # what differs from what is here is left in, and refused
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
