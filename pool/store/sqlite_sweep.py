"""How the SQLite store lets go of what is too old or too much: a little at a time.

A session is looked at when it is due: it is dropped if it has expired; its old events, its surplus
turns and words go. What belonged to a session that is gone is deleted bit by bit. Pages that fall
free are used again; the file shrinks when more than a quarter of it is free.
"""

from __future__ import annotations

import sqlite3
from math import inf
from typing import Final

from pool.store.codec import decode_turn, encode_said
from pool.store.sqlite_batch import Batch, name_of
from pool.store.sqlite_counters import forget_expired
from pool.store.sqlite_record import SessionRecord, decode_record
from pool.store.sqlite_schema import COUNT_MAX
from pool.turn import messages

# About how many rows one step deletes or looks at: a few milliseconds of the writer's time.
STEP_ROWS: Final = 400
# What a session costs in such rows, besides its own.
_SESSION_ROWS: Final = 4
# How many counters one step forgets.
_COUNTERS: Final = 100
# How many turns, and how many words, of one session go in one look.
_TOGETHER: Final = 100
_PAGES: Final = 64
# With so few free pages the file is left as it is.
_FREE_MIN: Final = 1_024
# A session with unfinished turns is looked at again after this time (in seconds).
_BUSY_S: Final = 600.0

_BY_PLACE: Final = ("turns", "log", "said")
_BY_SESSION: Final = ("keys", "states")
_BY_TURN: Final = ("dead_letters", "deliveries")


def step(batch: Batch) -> bool:
    """One step; whether there is more to do now."""
    batch.settle()
    left = STEP_ROWS - _COUNTERS
    more = forget_expired(batch, _COUNTERS)
    for (data,) in _due(batch, left // _SESSION_ROWS):
        left -= _SESSION_ROWS + _look_at(batch, decode_record(data))
        if left <= 0:
            return True
    return _clear_away(batch.db, left) or _shrink(batch.db) or more


def _due(batch: Batch, limit: int) -> list[tuple[bytes]]:
    return batch.db.execute(
        "SELECT record FROM sessions WHERE due <= ? ORDER BY due LIMIT ?", (batch.now, limit)
    ).fetchall()


def _look_at(batch: Batch, found: SessionRecord) -> int:
    """Let go of what a session has too much of; about how many rows that took."""
    record = batch.session(name_of(found.key))
    if record is None:
        # it has expired
        return 0
    rows = _drop_turns(batch, record) + _drop_words(batch, record)
    aged, again_at = _age_events(batch, record)
    if rows == 0:
        expires_at = record.expires_at(batch.retention.session_ttl_s)
        again_at = min(expires_at, again_at, batch.now + _BUSY_S if record.line else inf)
    else:
        # there may be more
        again_at = batch.now
    batch.changed(record)
    batch.settle()
    batch.db.execute("UPDATE sessions SET due = ? WHERE num = ?", (again_at, record.num))
    return rows + aged


# --- too much


def _drop_turns(batch: Batch, record: SessionRecord) -> int:
    """Drop the oldest turns that have ended, and the events before those that stay."""
    db = batch.db
    surplus = record.accepted - record.dropped - batch.retention.max_turns_per_session
    last = record.dropped + min(surplus, _TOGETHER)
    if record.line:
        last = min(last, record.line[0].number - 1)
    if last <= record.dropped:
        return 0
    span = record.place(record.dropped + 1), record.place(last)
    _keep_words(db, record, span)
    _trim(db, record, _end_of(db, record, span))
    db.execute("DELETE FROM turns WHERE place BETWEEN ? AND ?", span)
    for table in _BY_TURN:
        db.execute(f"DELETE FROM {table} WHERE turn BETWEEN ? AND ?", span)  # noqa: S608
    db.execute("DELETE FROM keys WHERE session = ? AND turn <= ?", (record.num, last))
    dropped = last - record.dropped
    record.dropped = last
    return dropped


def _keep_words(db: sqlite3.Connection, record: SessionRecord, span: tuple[int, int]) -> None:
    """What these turns said stays, without them."""
    rows = db.execute(
        "SELECT turns.record, said.place FROM said JOIN turns ON turns.place = said.turn "
        "WHERE said.place BETWEEN ? AND ? AND said.turn BETWEEN ? AND ?",
        (record.place(record.entries_dropped), record.place(COUNT_MAX), *span),
    ).fetchall()
    db.executemany(
        "UPDATE said SET data = ?, turn = NULL WHERE place = ?",
        [(encode_said(messages(decode_turn(data))), place) for data, place in rows],
    )


def _end_of(db: sqlite3.Connection, record: SessionRecord, span: tuple[int, int]) -> int:
    """The place in the log behind which nothing of these turns is, nor anything of those before
    the next one's beginning.
    """
    (ended,) = db.execute(
        "SELECT max(ended) FROM turns WHERE place BETWEEN ? AND ?", span
    ).fetchone()
    following = db.execute("SELECT after FROM turns WHERE place = ?", (span[1] + 1,)).fetchone()
    return max(ended or 0, record.end_seq if following is None else following[0])


def _drop_words(batch: Batch, record: SessionRecord) -> int:
    """Drop the oldest entries of the transcript."""
    kept = record.entries - record.entries_dropped
    surplus = min(kept - batch.retention.max_entries_per_session, _TOGETHER)
    if surplus <= 0:
        return 0
    first = record.entries_dropped
    batch.db.execute(
        "DELETE FROM said WHERE place BETWEEN ? AND ?",
        (record.place(first), record.place(first + surplus - 1)),
    )
    record.entries_dropped += surplus
    return surplus


# --- too old


def _age_events(batch: Batch, record: SessionRecord) -> tuple[int, float]:
    """Drop the events of turns that ended too long ago. About how many rows that took, and when
    the next will be too old.
    """
    ttl_s = batch.retention.events_ttl_s
    rows = batch.db.execute(
        "SELECT after, ended, record FROM turns WHERE place > ? AND place <= ? "
        "ORDER BY place LIMIT ?",
        (
            record.place(max(record.aged, record.dropped)),
            record.place(COUNT_MAX),
            _TOGETHER,
        ),
    ).fetchall()
    record.aged = max(record.aged, record.dropped)
    for after, ended, data in rows:
        if ended is None:
            return _trim(batch.db, record, after), inf
        ended_at = decode_turn(data).finished_at or record.updated_at
        if ended_at + ttl_s > batch.now:
            return _trim(batch.db, record, after), ended_at + ttl_s
        record.aged += 1
    if len(rows) == _TOGETHER:
        return len(rows), batch.now
    return _trim(batch.db, record, record.end_seq), inf


def _trim(db: sqlite3.Connection, record: SessionRecord, seq: int) -> int:
    before = record.base
    record.trim(seq)
    if record.base == before:
        return 0
    return db.execute(
        "DELETE FROM log WHERE place BETWEEN ? AND ?", (record.place(0), record.place(record.base))
    ).rowcount


# --- what is gone


def _clear_away(db: sqlite3.Connection, left: int) -> bool:
    """Delete what belonged to sessions that are gone; whether there is more."""
    for (num,) in db.execute("SELECT num FROM gone LIMIT ?", (left // _SESSION_ROWS,)).fetchall():
        first, last = num << 32, num << 32 | COUNT_MAX
        for table in _BY_PLACE:
            left -= db.execute(
                f"DELETE FROM {table} WHERE place IN "  # noqa: S608 - one of our tables
                f"(SELECT place FROM {table} WHERE place BETWEEN ? AND ? LIMIT ?)",
                (first, last, left),
            ).rowcount
            if left <= 0:
                return True
        for table in _BY_SESSION:
            db.execute(f"DELETE FROM {table} WHERE session = ?", (num,))  # noqa: S608
        for table in _BY_TURN:
            db.execute(f"DELETE FROM {table} WHERE turn BETWEEN ? AND ?", (first, last))  # noqa: S608
        db.execute("DELETE FROM gone WHERE num = ?", (num,))
        left -= _SESSION_ROWS
    return db.execute("SELECT 1 FROM gone LIMIT 1").fetchone() is not None


def _shrink(db: sqlite3.Connection) -> bool:
    """Give pages back, if many are free; whether there are more to give."""
    (free,) = db.execute("PRAGMA freelist_count").fetchone()
    (pages,) = db.execute("PRAGMA page_count").fetchone()
    if free < _FREE_MIN or free * 4 < pages:
        return False
    for _ in range(_PAGES):
        # one page each: sqlite3 takes but the first step of this statement
        db.execute("PRAGMA incremental_vacuum(1)")
    return True
