"""What is read from the SQLite store: sessions, turns and lists of them."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from pool.events import START, Cursor
from pool.store import sqlite_log, sqlite_said
from pool.store.base import EventPage, Page
from pool.store.codec import decode_turn
from pool.store.lease import SessionKey
from pool.store.listing import place_of
from pool.store.sqlite_batch import name_of
from pool.store.sqlite_find import TurnRow, turn_by_id
from pool.store.sqlite_owners import Owners
from pool.store.sqlite_record import SessionRecord, decode_record
from pool.store.sqlite_schema import COUNT_MAX, FREE_SESSIONS
from pool.turn import Message, SessionInfo, Turn


class Reading:
    """One look at the store: everything is as it was at one moment. `session_ttl_s`: how long a
    session is kept that has no `ttl_s` of its own.
    """

    __slots__ = ("db", "now", "session_ttl_s")

    def __init__(self, db: sqlite3.Connection, *, now: float, session_ttl_s: float) -> None:
        self.db = db
        self.now = now
        self.session_ttl_s = session_ttl_s

    def session(self, key: SessionKey) -> SessionRecord | None:
        """The session, if it is there and has not expired."""
        row = self.db.execute(
            "SELECT record FROM sessions WHERE name = ?", (name_of(key),)
        ).fetchone()
        return None if row is None else self.living(row[0])

    def living(self, data: bytes) -> SessionRecord | None:
        """The session of a row, if it has not expired."""
        record = decode_record(data)
        return record if record.expires_at(self.session_ttl_s) > self.now else None


def session(reading: Reading, key: SessionKey) -> SessionInfo | None:
    """See `Store.session`."""
    record = reading.session(key)
    return None if record is None else record.info


def sessions(reading: Reading, tenant: str, after: str | None, limit: int) -> Page[SessionInfo]:
    """See `Store.sessions`."""
    found: list[SessionRecord] = []
    rows = reading.db.execute(
        "SELECT record FROM sessions WHERE tenant = ? AND num > ? ORDER BY num",
        (tenant, place_of(after)),
    )
    for (data,) in rows:
        record = reading.living(data)
        if record is not None:
            found.append(record)
        if len(found) > limit:
            break
    more = len(found) > limit
    return Page([each.info for each in found[:limit]], str(found[limit - 1].num) if more else None)


def turn(reading: Reading, turn_id: str) -> Turn | None:
    """See `Store.turn`."""
    row = turn_by_id(reading.db, turn_id)
    return None if row is None or _session_of(reading, row) is None else row.turn


def turn_start(reading: Reading, turn_id: str) -> Cursor | None:
    """See `Store.turn_start`. Of a turn without events yet: the end of the log."""
    row = turn_by_id(reading.db, turn_id)
    record = None if row is None else _session_of(reading, row)
    if row is None or record is None:
        return None
    return sqlite_log.start_of(reading.db, record, turn_id, row.after)


def turns(reading: Reading, key: SessionKey, after: str | None, limit: int) -> Page[Turn]:
    """See `Store.turns`. The n-th turn that a session accepted has the place n."""
    number = place_of(after)
    record = reading.session(key)
    if record is None:
        return Page([], None)
    rows = reading.db.execute(
        "SELECT place, record FROM turns WHERE place > ? AND place <= ? ORDER BY place LIMIT ?",
        (record.place(min(number, COUNT_MAX)), record.place(COUNT_MAX), limit + 1),
    ).fetchall()
    found = [decode_turn(data) for _, data in rows[:limit]]
    more = len(rows) > limit
    return Page(found, str(rows[limit - 1][0] & COUNT_MAX) if more else None)


def events(reading: Reading, key: SessionKey, after: Cursor, limit: int) -> EventPage:
    """See `Store.events`. Of an unknown session everything but its beginning is lost."""
    record = reading.session(key)
    if record is None:
        return EventPage([], None if after == START else START)
    return sqlite_log.page(reading.db, record, after, limit)


def messages(reading: Reading, key: SessionKey, after: str | None, limit: int) -> Page[Message]:
    """See `Store.messages`."""
    place_of(after)
    record = reading.session(key)
    if record is None:
        return Page([], None)
    return sqlite_said.page(reading.db, record, after, limit)


def find_key(reading: Reading, key: SessionKey, used: str) -> tuple[Turn, bytes] | None:
    """See `Store.find_key`. A key lives as long as its turn's record."""
    record = reading.session(key)
    if record is None:
        return None
    row = reading.db.execute(
        "SELECT turns.record, keys.digest FROM keys "
        "JOIN turns ON turns.place = (keys.session << 32 | keys.turn) "
        "WHERE keys.session = ? AND keys.key = ?",
        (record.num, used),
    ).fetchone()
    return None if row is None else (decode_turn(row[0]), row[1])


def dead_letters(reading: Reading, tenant: str | None, limit: int) -> Sequence[Turn]:
    """See `Store.dead_letters`."""
    where = "WHERE dead_letters.tenant = ?" if tenant is not None else ""
    rows = reading.db.execute(
        "SELECT turns.record, sessions.record FROM dead_letters "  # noqa: S608 - see `where`
        "JOIN turns ON turns.place = dead_letters.turn "
        f"JOIN sessions ON sessions.num = turns.place >> 32 {where} "
        "ORDER BY dead_letters.num DESC",
        () if tenant is None else (tenant,),
    )
    found: list[Turn] = []
    for data, session_data in rows:
        if len(found) == limit:
            break
        if reading.living(session_data) is not None:
            found.append(decode_turn(data))
    return found


def orphans(reading: Reading, limit: int, owners: Owners) -> Sequence[SessionKey]:
    """See `Sharing.orphans`."""
    found: list[SessionKey] = []
    for (data,) in reading.db.execute(FREE_SESSIONS):
        if len(found) == limit:
            break
        record = decode_record(data)
        # who held it may have come back to life
        if not owners.holder(record, reading.now):
            found.append(record.key)
    return found


def _session_of(reading: Reading, row: TurnRow) -> SessionRecord | None:
    found = reading.db.execute(
        "SELECT record FROM sessions WHERE num = ?", (row.session,)
    ).fetchone()
    return None if found is None else reading.living(found[0])
