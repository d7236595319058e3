"""The tables of the SQLite store, their versions, and how an older file becomes a newer one.

A session has a number that never comes again. What belongs to it is kept at places made of that
number and a count within the session (a turn's number, an event's, an entry's of the transcript),
so that a session's rows lie together in order, and need no index of their own.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Final

from pool.errors import ConfigError

# How many bits of a place count within the session; the others are the session's number.
PLACE_BITS: Final = 32
COUNT_MAX: Final = (1 << PLACE_BITS) - 1

_V1: Final = """
CREATE TABLE meta(name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
INSERT INTO meta VALUES ('generation', 0);

-- `name` is <tenant>/<id>. `busy`: 0 if all its turns have ended, else 1; 2 if perhaps nobody holds
-- it. `due`: when it is to be looked at for what is too old.
CREATE TABLE sessions(
    num INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE, tenant TEXT NOT NULL,
    busy INTEGER NOT NULL, due REAL NOT NULL, record BLOB NOT NULL);
CREATE INDEX sessions_tenant ON sessions(tenant);
CREATE INDEX sessions_due ON sessions(due);
CREATE INDEX sessions_busy ON sessions(busy) WHERE busy > 0;

-- Places in the session's log: the turn's first event lies behind `after`, its last not behind
-- `ended` (NULL: it has not ended).
CREATE TABLE turns(
    place INTEGER PRIMARY KEY, id TEXT NOT NULL, after INTEGER NOT NULL, ended INTEGER,
    record BLOB NOT NULL);
-- The first character of an id is its partition. Without it ids come in the order of their making,
-- and a transaction with many new turns writes to one page of the index instead of as many.
CREATE UNIQUE INDEX turns_id ON turns(substr(id, 2));

-- Batches of events, each at the place of its last.
CREATE TABLE log(place INTEGER PRIMARY KEY, epoch INTEGER NOT NULL, data BLOB NOT NULL);

-- The transcript: where the turn is that said it, or what it said once that is gone.
CREATE TABLE said(place INTEGER PRIMARY KEY, turn INTEGER, data BLOB);

-- `turn`: the number of the turn in its session.
CREATE TABLE keys(
    session INTEGER NOT NULL, key TEXT NOT NULL, turn INTEGER NOT NULL, digest BLOB NOT NULL,
    PRIMARY KEY (session, key)) WITHOUT ROWID;

-- Agents' states in parts, oldest first. `holder`: the agent, or the turn whose checkpoint it is.
CREATE TABLE states(
    session INTEGER NOT NULL, holder TEXT NOT NULL, part INTEGER NOT NULL, data BLOB NOT NULL,
    PRIMARY KEY (session, holder, part));

CREATE TABLE dead_letters(
    num INTEGER PRIMARY KEY AUTOINCREMENT, turn INTEGER NOT NULL UNIQUE, tenant TEXT NOT NULL);
CREATE INDEX dead_letters_tenant ON dead_letters(tenant);

CREATE TABLE deliveries(turn INTEGER PRIMARY KEY, due REAL NOT NULL, tries INTEGER NOT NULL);
CREATE INDEX deliveries_due ON deliveries(due);

-- Numbers of sessions that are gone; what belonged to them is cleared away bit by bit.
CREATE TABLE gone(num INTEGER PRIMARY KEY);
"""

_V2: Final = """
-- Documents that belong to no session. How often those of a kind were changed is in `meta`.
CREATE TABLE documents(
    kind TEXT NOT NULL, id TEXT NOT NULL, data BLOB NOT NULL, PRIMARY KEY (kind, id));

CREATE TABLE counters(
    name TEXT PRIMARY KEY, value INTEGER NOT NULL, expires_at REAL NOT NULL) WITHOUT ROWID;
CREATE INDEX counters_expiry ON counters(expires_at);
"""

# Sessions with unfinished turns that somebody holds, and those that perhaps nobody does. SQLite
# takes the index only if it is told that they are among the busy ones.
HELD_SESSIONS: Final = "SELECT record FROM sessions WHERE busy = 1 AND busy > 0"
FREE_SESSIONS: Final = "SELECT record FROM sessions WHERE busy = 2 AND busy > 0"

# The step at place n leads from version n to version n + 1; an empty file is of version 0.
MIGRATIONS: Final[Sequence[str]] = (_V1, _V2)


def migrate(db: sqlite3.Connection, path: str, migrations: Sequence[str] = MIGRATIONS) -> None:
    """Bring a file to the newest version, each step whole or not at all."""
    check_version(db, path, migrations)
    for number in range(version_of(db), len(migrations)):
        step = f"BEGIN IMMEDIATE;{migrations[number]}PRAGMA user_version = {number + 1};COMMIT;"
        try:
            db.executescript(step)
        except sqlite3.Error:
            if db.in_transaction:
                db.execute("ROLLBACK")
            raise


def check_version(db: sqlite3.Connection, path: str, migrations: Sequence[str]) -> None:
    """`ConfigError` if the file is of a newer version than this program knows."""
    version = version_of(db)
    if version > len(migrations):
        raise ConfigError(
            "store",
            path,
            f"the file has version {version}, this program knows up to {len(migrations)}: "
            "use the newer program that wrote it",
        )


def version_of(db: sqlite3.Connection) -> int:
    """The version of a file's tables; 0: it has none."""
    (version,) = db.execute("PRAGMA user_version").fetchone()
    return int(version)
