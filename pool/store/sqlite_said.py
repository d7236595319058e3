"""A session's transcript in the SQLite store: an entry for each turn that said something.

An entry leads to the turn's record, so that nothing is stored twice, until that is dropped.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

from pool.store.base import Page
from pool.store.codec import decode_said, decode_turn, encode_said
from pool.store.listing import place_of
from pool.store.sqlite_record import SessionRecord
from pool.store.sqlite_schema import COUNT_MAX
from pool.turn import Message, messages


def entries(
    db: sqlite3.Connection, record: SessionRecord, first: int, limit: int
) -> Iterator[tuple[int, tuple[Message, ...]]]:
    """Entries from a number on, with their numbers."""
    rows = db.execute(
        "SELECT said.place, said.data, turns.record FROM said "
        "LEFT JOIN turns ON turns.place = said.turn "
        "WHERE said.place BETWEEN ? AND ? ORDER BY said.place LIMIT ?",
        (
            record.place(min(max(first, record.entries_dropped), COUNT_MAX)),
            record.place(COUNT_MAX),
            limit,
        ),
    )
    for place, data, turn in rows:
        said = decode_said(data) if data is not None else messages(decode_turn(turn))
        yield place & COUNT_MAX, said


def page(
    db: sqlite3.Connection, record: SessionRecord, after: str | None, limit: int
) -> Page[Message]:
    """A page of messages. Entry n holds the places 2n + 1 and 2n + 2 of the listing."""
    after_place = place_of(after)
    found = [
        (place, message)
        for number, said in entries(db, record, after_place // 2, limit + 2)
        for place, message in enumerate(said, 2 * number + 1)
        if place > after_place
    ]
    more = len(found) > limit
    return Page(
        [message for _, message in found[:limit]], str(found[limit - 1][0]) if more else None
    )


def unseen(db: sqlite3.Connection, record: SessionRecord, seen: int) -> tuple[Message, ...]:
    """What was said after the first `seen` entries."""
    if seen >= record.entries:
        return ()
    found = entries(db, record, seen, record.entries)
    return tuple(message for _, said in found for message in said)


def through(
    db: sqlite3.Connection, record: SessionRecord, turn_id: str | None, number: int | None
) -> list[bytes] | None:
    """The entries, as they are kept without their turns, up to and including a turn's own (None:
    all). If it said nothing: up to those of the turns accepted after it.

    `number`: the turn's in the session; None: it is not known but for what it said.
    """
    found: list[tuple[str, bytes]] = []
    for _, said in entries(db, record, 0, record.entries):
        found.append((said[0].turn_id, encode_said(said)))
        if said[0].turn_id == turn_id:
            return [data for _, data in found]
    if turn_id is None:
        return [data for _, data in found]
    if number is None:
        return None
    later = {row[0] for row in _turns_after(db, record, number)}
    ended = next((place for place, (whose, _) in enumerate(found) if whose in later), None)
    return [data for _, data in found[:ended]]


def _turns_after(db: sqlite3.Connection, record: SessionRecord, number: int) -> sqlite3.Cursor:
    return db.execute(
        "SELECT id FROM turns WHERE place > ? AND place <= ?",
        (record.place(number), record.place(COUNT_MAX)),
    )
