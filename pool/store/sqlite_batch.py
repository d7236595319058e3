"""What one transaction of the SQLite store reads and writes: each session once, rows together.

A job looks at sessions and changes them as objects. What has changed is written at the end of the
batch, or before somebody reads it with SQL (`settle`). A job that fails must not have changed
anything: it looks first, and changes then.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from typing import Any, Final

from pool.ids import check_id
from pool.store.lease import SessionKey
from pool.store.limits import Retention
from pool.store.sharing import Nudge
from pool.store.sqlite_owners import Owners, Telling
from pool.store.sqlite_record import SessionRecord, decode_record, encode_record

# How many rows one statement writes or looks up at most. It is run once for 64 rows where
# `executemany` would run 64 times, which takes a third longer.
_ROWS_MAX: Final = 64

_SESSIONS = (
    "INSERT INTO sessions(num, name, tenant, busy, due, record) VALUES ",
    "(?,?,?,?,?,?)",
    " ON CONFLICT(num) DO UPDATE SET busy = excluded.busy, record = excluded.record",
)
_TURNS = (
    "INSERT INTO turns(place, id, after, ended, record) VALUES ",
    "(?,?,?,?,?)",
    " ON CONFLICT(place) DO UPDATE SET ended = excluded.ended, record = excluded.record",
)
_LOG = ("INSERT INTO log(place, epoch, data) VALUES ", "(?,?,?)", "")
_SAID = ("INSERT INTO said(place, turn, data) VALUES ", "(?,?,?)", "")
_FIND = ("SELECT name, record FROM sessions WHERE name IN (", "?", ")")


def _sized(parts: tuple[str, str, str]) -> dict[int, str]:
    head, row, tail = parts
    return {size: head + ",".join([row] * size) + tail for size in range(1, _ROWS_MAX + 1)}


_sql: Final = {parts: _sized(parts) for parts in (_SESSIONS, _TURNS, _LOG, _SAID, _FIND)}


class Batch:
    """One transaction. `careful`: the job is alone, as it may have failed before among others, and
    looks twice. `known`: the sessions as they are in the file, as far as they were read before.
    """

    __slots__ = (
        "_changed",
        "_due",
        "_log",
        "_next_num",
        "_said",
        "_sessions",
        "_turns",
        "careful",
        "entries_max",
        "turns_max",
        "db",
        "now",
        "owners",
        "retention",
        "tellings",
    )

    def __init__(
        self,
        db: sqlite3.Connection,
        *,
        now: float,
        owners: Owners,
        retention: Retention,
        known: dict[str, SessionRecord | None],
        careful: bool,
    ) -> None:
        self.db = db
        self.now = now
        self.owners = owners
        self.retention = retention
        self.careful = careful
        self._due = now + min(retention.session_ttl_s, retention.events_ttl_s)
        # With more the session is to be looked at: an eighth above what is kept, as dropping looks
        # at much of it.
        self.turns_max = retention.max_turns_per_session * 9 // 8
        self.entries_max = retention.max_entries_per_session * 9 // 8
        self.tellings: list[Telling] = []
        # by name; None: there is none
        self._sessions = known
        self._changed: dict[int, SessionRecord] = {}
        # the values of rows, one after the other
        self._turns: list[object] = []
        self._log: list[object] = []
        self._said: list[object] = []
        self._next_num = 0

    # --- sessions

    def load(self, names: Iterable[str]) -> None:
        """Read these sessions, all together."""
        missing = [name for name in dict.fromkeys(names) if name not in self._sessions]
        self._sessions.update(dict.fromkeys(missing))
        for name, record in _many(self.db, _FIND, missing, 1):
            self._sessions[name] = decode_record(record)

    def session(self, name: str) -> SessionRecord | None:
        """The session, if it is there and has not expired."""
        if name not in self._sessions:
            self.load((name,))
        record = self._sessions[name]
        if record is None:
            return None
        if record.expires_at(self.retention.session_ttl_s) <= self.now:
            self.drop(record)
            return None
        return record

    def make(self, key: SessionKey) -> SessionRecord:
        """A new session; there is none of this name. `InvalidRequest` if it is no name for one."""
        check_id(key[0], "tenant")
        check_id(key[1], "session_id")
        if not self._next_num:
            self._next_num = _last_num(self.db)
        self._next_num += 1
        record = SessionRecord(self._next_num, key[0], key[1], self.now, self.now)
        self._sessions[name_of(key)] = self._changed[record.num] = record
        return record

    def changed(self, record: SessionRecord) -> None:
        """It is to be written."""
        self._changed[record.num] = record

    def drop(self, record: SessionRecord) -> None:
        """Forget a session; what belongs to it is cleared away later."""
        # one that was just made is written first: its number must never come again
        self.settle_for(record)
        self._sessions[name_of(record.key)] = None
        self.db.execute("DELETE FROM sessions WHERE num = ?", (record.num,))
        self.db.execute("INSERT INTO gone(num) VALUES (?)", (record.num,))

    def look_at(self, record: SessionRecord) -> None:
        """Have it looked at soon for what it has too much of."""
        self.db.execute("UPDATE sessions SET due = 0 WHERE num = ?", (record.num,))

    def holder(self, record: SessionRecord) -> str:
        """Who holds the session and lives; "" if nobody does."""
        return self.owners.holder(record, self.now)

    # --- what belongs to them

    def put_turn(
        self, place: int, turn_id: str, after: int, data: bytes, *, ended: int | None = None
    ) -> None:
        """Keep a turn's record, new or as it is now."""
        self._turns += (place, turn_id, after, ended, data)

    def put_events(self, place: int, epoch: int, data: bytes) -> None:
        """Keep a batch of events."""
        self._log += (place, epoch, data)

    def put_said(self, place: int, turn: int | None, data: bytes | None = None) -> None:
        """Keep an entry of the transcript: the place of its turn, or what it said."""
        self._said += (place, turn, data)

    # --- nudges

    def tell(self, nudge: Nudge, *, to: str | None = None, but: str = "") -> None:
        """Nudge an owner (None: all) once this is written."""
        self.tellings.append(Telling(nudge, to, but))

    # --- writing

    def settle(self) -> None:
        """Write what has changed so far, so that SQL sees it."""
        rows: list[object] = []
        for record in self._changed.values():
            rows += self._row(record)
        self._changed = {}
        _many(self.db, _SESSIONS, rows, 6)
        _many(self.db, _TURNS, self._turns, 5)
        _many(self.db, _LOG, self._log, 3)
        _many(self.db, _SAID, self._said, 3)
        self._turns, self._log, self._said = [], [], []

    def settle_for(self, record: SessionRecord) -> None:
        """The same, if anything of this session has changed."""
        if record.num in self._changed:
            self.settle()

    def _row(self, record: SessionRecord) -> tuple[object, ...]:
        busy = 0 if not record.line else 1 if self.holder(record) else 2
        name = f"{record.tenant}/{record.id}"
        # counts for a new session only: later it is for those to move who look at it
        due = self._due if record.ttl_s is None else min(self._due, self.now + record.ttl_s)
        return (record.num, name, record.tenant, busy, due, encode_record(record))


def name_of(key: SessionKey) -> str:
    """What a session is called in its table. Ids have no slash."""
    return f"{key[0]}/{key[1]}"


def _many(
    db: sqlite3.Connection, parts: tuple[str, str, str], values: Sequence[object], width: int
) -> list[Any]:
    """Run a statement for all rows of `width` values, for as many at once as it has sizes for."""
    sql, found, start, left = _sql[parts], [], 0, len(values) // width
    while left:
        size = min(_ROWS_MAX, left)
        end = start + size * width
        chunk = values if start == 0 and end == len(values) else values[start:end]
        found += db.execute(sql[size], chunk).fetchall()
        start, left = end, left - size
    return found


def _last_num(db: sqlite3.Connection) -> int:
    row = db.execute("SELECT seq FROM sqlite_sequence WHERE name = 'sessions'").fetchone()
    return 0 if row is None else int(row[0])
