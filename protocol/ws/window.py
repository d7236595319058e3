"""How much may be sent to a reader, and how far it may fall behind. Pure."""

from __future__ import annotations

from array import array
from collections.abc import Sequence

from pool.events import Cursor, Event, TurnQueued


class Window:
    """The events of one session that were sent and are not acknowledged: at most `size`.

    Places are kept as numbers in arrays: a client that never acknowledges costs 16 bytes an event.
    """

    __slots__ = ("_epochs", "_seqs", "size")

    def __init__(self, size: int) -> None:
        self.size = size
        self._epochs = array("q")
        self._seqs = array("q")

    def __repr__(self) -> str:
        return f"<Window {len(self._seqs)} of {self.size}>"

    @property
    def room(self) -> int:
        """How many more events may be sent."""
        return self.size - len(self._seqs)

    def sent(self, cursor: Cursor) -> None:
        """An event was sent; a joined one counts once."""
        self._epochs.append(cursor.epoch)
        self._seqs.append(cursor.seq)

    def acknowledge(self, cursor: Cursor) -> bool:
        """Everything up to the cursor has arrived; True if this opens a closed window."""
        closed = self.room == 0
        done = 0
        for place in zip(self._epochs, self._seqs, strict=True):
            if place > cursor:
                break
            done += 1
        del self._epochs[:done]
        del self._seqs[:done]
        return closed and done > 0


class Allowance:
    """How far behind a reader may fall: `high_water` events more than the least it has been.

    One that resumes from far back may take its time, as long as it catches up.
    """

    __slots__ = ("_high_water", "_most")

    def __init__(self, high_water: int, behind: int) -> None:
        self._high_water = high_water
        self._most = behind + high_water

    def exceeded(self, behind: int) -> bool:
        """Whether the reader is too far behind now."""
        self._most = min(self._most, behind + self._high_water)
        return behind > self._most


def may_go(events: Sequence[Event], room: int, *, until_queued: bool) -> int:
    """How many of the events may be sent now.

    `until_queued`: a turn is being accepted, whose answer comes before its events; they begin with
    `turn.queued`.
    """
    if until_queued:
        for place, event in enumerate(events[:room]):
            if type(event) is TurnQueued:
                return place
    return min(room, len(events))
