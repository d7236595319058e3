"""The file of a SQLite store: made, locked, checked, brought up to date and opened."""

from __future__ import annotations

import fcntl
import os
import sqlite3
from pathlib import Path
from typing import Final, Literal

from pool.errors import ConfigError
from pool.store.sqlite_errors import damaged, not_opened
from pool.store.sqlite_schema import MIGRATIONS, check_version, migrate, version_of

Synchronous = Literal["normal", "full"]

IN_MEMORY: Final = ":memory:"
# How long a transaction waits for another program's, in seconds.
BUSY_S: Final = 2.0
# Prepared statements that are kept: those that write many rows come in several sizes.
_STATEMENTS: Final = 512
_CACHE_KIB: Final = 32 * 1024
# The write-ahead log is copied into the file whenever it has so many pages, and cut to this size.
_CHECKPOINT_PAGES: Final = 4_000
_LOG_BYTES: Final = 64 * 2**20


class SqliteFile:
    """The file of one store, and its connections. What it does may take long: not for the loop."""

    def __init__(
        self,
        path: str | Path,
        *,
        synchronous: Synchronous,
        exclusive: bool,
        max_bytes: int | None,
    ) -> None:
        self.path = str(path)
        self.in_memory = self.path == IN_MEMORY
        self._synchronous = synchronous
        self._exclusive = exclusive
        self._max_bytes = max_bytes
        self._lock = FileLock(self.path)
        self._connections: list[sqlite3.Connection] = []

    def open(self) -> int:
        """Open it, or make it; returns the generation whose leases hold.

        `ConfigError` or `StoreUnavailable`, and nothing is kept, if it cannot be used.
        """
        try:
            if not self.in_memory:
                self._take()
            generation = self._prepared(self._connect())
            if not self.in_memory:
                self._connect()
        except sqlite3.Error as error:
            self.close()
            raise not_opened(error, self.path) from error
        except BaseException:
            self.close()
            raise
        return generation

    @property
    def writer(self) -> sqlite3.Connection:
        """The connection for writes. Transactions are begun and ended by hand."""
        return self._connections[0]

    @property
    def reader(self) -> sqlite3.Connection:
        """The connection for reads: what is in memory has one only."""
        return self._connections[-1]

    def close(self) -> None:
        """Close all connections and let go of the lock. May be called twice."""
        while self._connections:
            self._connections.pop().close()
        self._lock.release()

    # --- steps

    def _connect(self) -> sqlite3.Connection:
        db = sqlite3.connect(
            self.path,
            timeout=BUSY_S,
            isolation_level=None,
            check_same_thread=False,
            cached_statements=_STATEMENTS,
        )
        self._connections.append(db)
        # counts for a new file only: it can shrink
        db.execute("PRAGMA auto_vacuum = INCREMENTAL")
        db.execute("PRAGMA journal_mode = WAL")
        db.execute(f"PRAGMA synchronous = {self._synchronous}")
        db.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")
        db.execute(f"PRAGMA journal_size_limit = {_LOG_BYTES}")
        db.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
        db.execute("PRAGMA temp_store = MEMORY")
        if self._max_bytes is not None:
            (page_bytes,) = db.execute("PRAGMA page_size").fetchone()
            db.execute(f"PRAGMA max_page_count = {self._max_bytes // page_bytes}")
        return db

    def _take(self) -> None:
        if self._exclusive:
            _make_directory(Path(self.path))
            self._lock.take()
            _make_file(Path(self.path))
        elif not Path(self.path).exists():
            raise ConfigError("store", self.path, "there is no such file; name the server's store")

    def _prepared(self, db: sqlite3.Connection) -> int:
        check_version(db, self.path, MIGRATIONS)
        if self._exclusive:
            _check(db, self.path)
            migrate(db, self.path)
            return _next_generation(db)
        if version_of(db) < len(MIGRATIONS):
            # what a running server of an earlier version uses is left alone
            self._lock.take()
            migrate(db, self.path)
            self._lock.release()
        return generation_of(db)


class FileLock:
    """Held by the one server process that uses a file, for as long as it does.

    It is the system's: it goes with the process, however that ends.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._file: int | None = None

    def take(self) -> None:
        """`ConfigError`, naming the process that has it, if it cannot be had."""
        try:
            file = os.open(f"{self._path}.lock", os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise _unusable(Path(self._path), error) from error
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(file, 32).decode(errors="replace").strip() or "unknown"
            os.close(file)
            raise ConfigError(
                "store",
                self._path,
                f"the file is in use by process {holder}: end that server first, give this one "
                "another file, or use Redis for several",
            ) from None
        os.ftruncate(file, 0)
        os.write(file, f"{os.getpid()}\n".encode())
        self._file = file

    def release(self) -> None:
        """Let go of it. May be called twice."""
        if self._file is not None:
            os.close(self._file)
            self._file = None


def generation_of(db: sqlite3.Connection) -> int:
    """Which server the leases are of that hold."""
    (value,) = db.execute("SELECT value FROM meta WHERE name = 'generation'").fetchone()
    return int(value)


def _next_generation(db: sqlite3.Connection) -> int:
    """A new server begins: what others held, nobody holds."""
    db.execute("BEGIN IMMEDIATE")
    db.execute("UPDATE meta SET value = value + 1 WHERE name = 'generation'")
    db.execute("UPDATE sessions SET busy = 2 WHERE busy = 1")
    generation = generation_of(db)
    db.execute("COMMIT")
    return generation


def _make_directory(path: Path) -> None:
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise _unusable(path, error) from error


def _make_file(path: Path) -> None:
    """Make the file for nobody else to read. One that is there is not touched: to open and close it
    would end the locks that SQLite has on it in this process.
    """
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    except FileExistsError:
        return
    except OSError as error:
        raise _unusable(path, error) from error


def _unusable(path: Path, error: OSError) -> ConfigError:
    reason = os.strerror(error.errno or 0).lower()
    return ConfigError("store", str(path), f"the file cannot be used: {reason}")


def _check(db: sqlite3.Connection, path: str) -> None:
    (finding,) = db.execute("PRAGMA quick_check(1)").fetchone()
    if finding != "ok":
        raise damaged(path)
