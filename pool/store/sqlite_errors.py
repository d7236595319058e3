"""What SQLite's errors mean to callers and to the operator."""

from __future__ import annotations

import sqlite3
import traceback
from typing import Final

import structlog

from pool.errors import ConfigError, Internal, PoolError, StoreUnavailable

_log = structlog.get_logger("pool.store.sqlite")

RETRY_AFTER_S: Final = 1.0

_MEANINGS: Final = {
    sqlite3.SQLITE_FULL: "its disk is full, or it has its max_bytes; make room and it goes on",
    sqlite3.SQLITE_BUSY: "another program keeps it locked; end that program's transaction",
    sqlite3.SQLITE_LOCKED: "another program keeps it locked; end that program's transaction",
    sqlite3.SQLITE_IOERR: "its disk cannot be read or written; look at the system's log",
    sqlite3.SQLITE_READONLY: "its file may not be written; look at the permissions",
    sqlite3.SQLITE_CANTOPEN: "its file cannot be opened; look at the directory",
    sqlite3.SQLITE_CORRUPT: "its file is damaged; restore a backup or move the file away",
    sqlite3.SQLITE_NOTADB: "its file is damaged; restore a backup or move the file away",
}


def as_pool_error(error: Exception) -> PoolError:
    """The error as callers see it: what happened and what helps, nothing of its text.

    What is neither the disk's nor the file's fault is a defect of ours, and goes into the log.
    """
    if isinstance(error, PoolError):
        return error
    meaning = _MEANINGS.get(_primary(error)) if isinstance(error, sqlite3.Error) else None
    told: PoolError
    if meaning is not None:
        detail = f"the store cannot be used: {meaning}"
        told = StoreUnavailable(detail, retry_after_s=RETRY_AFTER_S)
    else:
        frames = traceback.extract_tb(error.__traceback__)
        # its text stays out of the log: it may hold what a user said
        where = [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames[-3:]]
        _log.error("defect in the store", error=_name(error), where=where)
        told = Internal("the store failed at this call; this is a defect")
    told.__cause__ = error
    return told


def blames_no_job(error: Exception) -> bool:
    """Whether a transaction failed for what no job in it could help."""
    return isinstance(error, sqlite3.Error) and _primary(error) in _MEANINGS


def not_opened(error: sqlite3.Error, path: str) -> ConfigError | PoolError:
    """Why the file could not be opened: what is for the operator to change, or will pass."""
    primary = _primary(error)
    if primary in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return damaged(path)
    if primary in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY):
        return ConfigError("store", path, f"the file cannot be used: {_MEANINGS[primary]}")
    return as_pool_error(error)


def damaged(path: str) -> ConfigError:
    """The file cannot be used as it is."""
    return ConfigError(
        "store",
        path,
        "the file is damaged, or no store of this program: restore a backup of it, or move it "
        "away to begin with an empty one",
    )


def _primary(error: sqlite3.Error) -> int:
    # the lowest byte is the kind of error, what is above says more about it
    return getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF


def _name(error: Exception) -> str:
    return getattr(error, "sqlite_errorname", type(error).__name__)
