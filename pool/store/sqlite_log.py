"""A session's log in the SQLite store: batches of events, each at the place of its last."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from typing import Final

from msgspec import Struct

from pool.errors import Internal, LeaseLost
from pool.events import Cursor, Event
from pool.store.base import EventPage
from pool.store.codec import decode_events, encode_events, ended_in, turns_in
from pool.store.sqlite_batch import Batch
from pool.store.sqlite_find import turn_by_id
from pool.store.sqlite_record import SessionRecord
from pool.store.sqlite_schema import COUNT_MAX
from pool.turn import Turn


class PackedEvents(Struct, frozen=True, gc=False):
    """Events that follow each other densely, and their form in bytes (b"": there are none)."""

    events: Sequence[Event]
    data: bytes


NO_EVENTS: Final = PackedEvents((), b"")


def pack(events: Sequence[Event], epoch: int) -> PackedEvents:
    """Events of one writer; `Internal` if they are not dense, or of another epoch."""
    if not events:
        return NO_EVENTS
    seq = events[0].seq
    for event in events:
        if event.seq != seq or event.epoch != epoch:
            raise _not_dense(event, Cursor(epoch, seq))
        seq += 1
    return PackedEvents(events, encode_events(events))


def check_follows(batch: Batch, record: SessionRecord, packed: PackedEvents) -> PackedEvents:
    """The events that the log does not have yet; the writer may have sent some before.

    `LeaseLost` if what was written before them is missing, `Internal` if the log has others there.
    """
    if not packed.events:
        return packed
    first, following = packed.events[0], record.end_seq + 1
    if first.seq == following:
        return packed
    if first.seq > following:
        raise LeaseLost(
            f"event {first.id} does not follow the session's log, which ends at {record.end}: "
            "what was written in between is lost; let go of the session"
        )
    return _unrepeated(batch, record, packed.events)


def add(batch: Batch, record: SessionRecord, packed: PackedEvents) -> None:
    """Add events that have been checked."""
    if packed.events:
        last = packed.events[-1]
        record.end_epoch, record.end_seq = last.epoch, last.seq
        batch.put_events(record.place(last.seq), last.epoch, packed.data)


def page(db: sqlite3.Connection, record: SessionRecord, after: Cursor, limit: int) -> EventPage:
    """What follows a cursor; what has been lost comes first and is left out."""
    lost = record.lost_after(after)
    start = (after if lost is None else lost).seq
    found: list[Event] = []
    for row in _rows(db, record, start, limit):
        found += [event for event in _events(db, record, row) if event.seq > start]
        if len(found) >= limit:
            break
    return EventPage(found[:limit], lost)


def start_of(db: sqlite3.Connection, record: SessionRecord, turn_id: str, after: int) -> Cursor:
    """The cursor before a turn's first event, which is not before a place; the log's end while
    there is none.
    """
    start = max(after, record.base)
    for row in _rows(db, record, start, 10):
        if turn_id in turns_in(row[2]):
            for event in _events(db, record, row):
                if event.turn_id == turn_id and event.seq > start:
                    return record.cursor(event.seq - 1)
    return record.end


# place, epoch, events
_Row = tuple[int, int, bytes]


def _rows(
    db: sqlite3.Connection, record: SessionRecord, after: int, at_once: int
) -> Iterator[_Row]:
    """All batches with events after a place, in order."""
    rows = db.execute(
        "SELECT place, epoch, data FROM log WHERE place > ? AND place <= ? ORDER BY place",
        (record.place(min(after, COUNT_MAX)), record.place(COUNT_MAX)),
    )
    # each has at least one event: fewer need not be fetched, more may not be needed
    while fetched := rows.fetchmany(min(at_once, 100)):
        yield from fetched


def _events(db: sqlite3.Connection, record: SessionRecord, row: _Row) -> list[Event]:
    place, epoch, data = row
    return decode_events(
        data,
        epoch=epoch,
        last=place & COUNT_MAX,
        session_id=record.id,
        turns=_turns(db, ended_in(data)),
    )


def _turns(db: sqlite3.Connection, turn_ids: Sequence[str]) -> dict[str, Turn]:
    found = {turn_id: turn_by_id(db, turn_id) for turn_id in turn_ids}
    return {turn_id: row.turn for turn_id, row in found.items() if row is not None}


def _unrepeated(batch: Batch, record: SessionRecord, events: Sequence[Event]) -> PackedEvents:
    # what differs from what is here is refused; so is what cannot be compared any more
    batch.settle()
    start = events[0].seq - 1
    kept = page(batch.db, record, record.cursor(start), len(events)).events
    for event, same in zip(events, kept, strict=False):
        if (event.id, event.type, event.turn_id) != (same.id, same.type, same.turn_id):
            raise _not_dense(event, Cursor(event.epoch, record.end_seq + 1))
    rest = events[len(kept) :]
    if rest and rest[0].seq != record.end_seq + 1:
        raise _not_dense(rest[0], Cursor(rest[0].epoch, record.end_seq + 1))
    return PackedEvents(rest, encode_events(rest)) if rest else NO_EVENTS


def _not_dense(event: Event, following: Cursor) -> Internal:
    return Internal(
        f"event {event.id} ({event.type}) does not follow the session's log, whose next is "
        f"{following}; who holds the lease must stamp events densely"
    )
