"""The counters of a SQLite store."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence

from pool.store.counters import Change, Counted, is_counter
from pool.store.counting import Kept, changed, check_number, value_of
from pool.store.sqlite_batch import Batch
from pool.store.sqlite_part import SqlitePart
from pool.store.sqlite_rows import Reading


class SqliteCounters(SqlitePart):
    """The part of a SQLite store that counts."""

    async def count(self, changes: Sequence[Change]) -> Counted:
        """See `Counters.count`."""
        check_number(changes)
        return await self._write((), _count, changes)

    async def counts(self, names: Sequence[str]) -> Sequence[int]:
        """See `Counters.counts`."""
        return await self._read(_counts, names)


# --- in the store's threads


def forget_expired(batch: Batch, limit: int) -> bool:
    """Let go of some counters that have expired; whether there may be more."""
    dropped = batch.db.execute(
        "DELETE FROM counters WHERE name IN "
        "(SELECT name FROM counters WHERE expires_at <= ? ORDER BY expires_at LIMIT ?)",
        (batch.now, limit),
    ).rowcount
    return dropped == limit


def _count(batch: Batch, changes: Sequence[Change]) -> Counted:
    counted, after = changed(changes, _kept(batch.db, (each.name for each in changes)), batch.now)
    batch.db.executemany(
        "INSERT INTO counters(name, value, expires_at) VALUES (?, ?, ?) "
        "ON CONFLICT(name) DO UPDATE SET value = excluded.value, expires_at = excluded.expires_at",
        [(name, *kept) for name, kept in after.items()],
    )
    return counted


def _counts(reading: Reading, names: Sequence[str]) -> Sequence[int]:
    kept = _kept(reading.db, filter(is_counter, names))
    return [value_of(kept.get(name), reading.now) for name in names]


def _kept(db: sqlite3.Connection, names: Iterable[str]) -> dict[str, Kept]:
    found = {}
    for name in names:
        row = db.execute(
            "SELECT value, expires_at FROM counters WHERE name = ?", (name,)
        ).fetchone()
        if row is not None:
            found[name] = Kept(*row)
    return found
