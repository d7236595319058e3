"""How a turn's row is found in the SQLite store."""

from __future__ import annotations

import sqlite3
from typing import NamedTuple

from pool.store.codec import decode_turn
from pool.store.sqlite_schema import COUNT_MAX, PLACE_BITS
from pool.turn import Turn


class TurnRow(NamedTuple):
    """A turn as it is kept; see the table."""

    place: int
    after: int
    data: bytes

    @property
    def session(self) -> int:
        """The number of its session."""
        return self.place >> PLACE_BITS

    @property
    def number(self) -> int:
        """Its number in the session."""
        return self.place & COUNT_MAX

    @property
    def turn(self) -> Turn:
        """The turn itself."""
        return decode_turn(self.data)


def turn_by_id(db: sqlite3.Connection, turn_id: str) -> TurnRow | None:
    """The turn of an id. Its session may be gone, or have expired."""
    # The index has ids without their first character: see the table. Without the plus sign SQLite
    # would make a constant of `id` everywhere, and not take the index.
    row = db.execute(
        "SELECT place, after, record FROM turns WHERE substr(id, 2) = ? AND +id = ?",
        (turn_id[1:], turn_id),
    ).fetchone()
    return None if row is None else TurnRow(*row)


def turn_at(db: sqlite3.Connection, place: int) -> TurnRow | None:
    """The turn at a place."""
    row = db.execute("SELECT place, after, record FROM turns WHERE place = ?", (place,)).fetchone()
    return None if row is None else TurnRow(*row)
