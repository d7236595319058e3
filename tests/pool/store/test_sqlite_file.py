"""The file of a SQLite store: what is wrong with it is said, and what to do."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from pool.errors import ConfigError
from pool.store.sqlite_file import FileLock, SqliteFile
from pool.store.sqlite_schema import MIGRATIONS, migrate, version_of


def _file(path: Path, *, exclusive: bool = True) -> SqliteFile:
    return SqliteFile(path, synchronous="full", exclusive=exclusive, max_bytes=None)


def _made(path: Path) -> Path:
    """A file of the newest version."""
    file = _file(path)
    file.open()
    file.writer.execute("INSERT INTO log VALUES (1, 1, zeroblob(100000))")
    file.close()
    return path


def test_a_new_file_has_the_newest_version(tmp_path: Path) -> None:
    """It is made with write-ahead log and the power to shrink; each opening is a generation."""
    file = _file(tmp_path / "store.db")
    assert file.open() == 1
    assert version_of(file.writer) == len(MIGRATIONS)
    assert file.writer.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert file.writer.execute("PRAGMA auto_vacuum").fetchone() == (2,)
    assert file.writer.execute("PRAGMA synchronous").fetchone() == (2,)
    file.close()
    assert file.open() == 2
    file.close()
    file.close()


def test_a_file_in_memory_has_one_connection() -> None:
    """`:memory:` makes no file and no lock."""
    file = SqliteFile(":memory:", synchronous="normal", exclusive=True, max_bytes=None)
    assert file.open() == 1
    assert file.writer is file.reader
    file.close()


def test_what_is_no_database_is_refused(tmp_path: Path) -> None:
    """A file of something else is named, left as it is, and not locked."""
    path = tmp_path / "notes.txt"
    path.write_text("remember the milk\n" * 1_000)
    for _ in range(2):
        with pytest.raises(ConfigError, match=r"notes\.txt.*restore a backup.*or move it away"):
            _file(path).open()
    assert path.read_text().startswith("remember the milk")


@pytest.mark.parametrize("page", [2, 5, 12])
def test_a_damaged_file_is_refused(tmp_path: Path, page: int) -> None:
    """A page that was overwritten is found when the file is opened."""
    path = _made(tmp_path / "store.db")
    with path.open("r+b") as file:
        file.seek(4096 * (page - 1))
        file.write(os.urandom(4096))
    with pytest.raises(ConfigError, match="the file is damaged"):
        _file(path).open()


def test_a_file_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    """What a later program wrote is left alone, by a server and by an operator's command."""
    path = _made(tmp_path / "store.db")
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA user_version = 99")
    for exclusive in (True, False):
        with pytest.raises(ConfigError, match="has version 99, this program knows up to 2: use"):
            _file(path, exclusive=exclusive).open()


def test_an_older_file_is_brought_up_to_date(tmp_path: Path) -> None:
    """The steps that a file lacks are taken in order; what is in it stays."""
    path = _made(tmp_path / "store.db")
    later = (*MIGRATIONS, "ALTER TABLE log ADD COLUMN kind TEXT DEFAULT 'x';")
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        migrate(db, str(path), later)
        assert version_of(db) == len(MIGRATIONS) + 1
        assert db.execute("SELECT place, kind FROM log").fetchall() == [(1, "x")]


def test_an_empty_file_is_of_no_version(tmp_path: Path) -> None:
    """A file without tables, as an operator may have made it, is filled by whoever opens it."""
    path = tmp_path / "store.db"
    path.touch()
    file = _file(path, exclusive=False)
    assert file.open() == 0
    assert version_of(file.reader) == len(MIGRATIONS)
    file.close()


def test_a_step_that_fails_changes_nothing(tmp_path: Path) -> None:
    """A migration is whole or not at all: the file stays of its version."""
    path = _made(tmp_path / "store.db")
    broken = (*MIGRATIONS, "CREATE TABLE more(x); CREATE TABLE more(x);")
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        with pytest.raises(sqlite3.OperationalError):
            migrate(db, str(path), broken)
        assert version_of(db) == len(MIGRATIONS)
        assert not db.in_transaction
        tables = {name for (name,) in db.execute("SELECT name FROM sqlite_master")}
        assert "more" not in tables


def test_an_operator_leaves_an_older_file_to_the_server_that_uses_it(tmp_path: Path) -> None:
    """While a server holds the file nobody else changes its tables."""
    path = tmp_path / "store.db"
    path.touch()
    lock = FileLock(str(path))
    lock.take()
    with pytest.raises(ConfigError, match="in use by process"):
        _file(path, exclusive=False).open()
    lock.release()
    with closing(sqlite3.connect(path)) as db:
        assert version_of(db) == 0


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    """A directory that is a file: the path and the system's reason."""
    (tmp_path / "file").touch()
    for path in (tmp_path / "file" / "store.db", tmp_path):
        with pytest.raises(ConfigError, match="the file cannot be used: "):
            _file(path).open()


def test_the_lock_goes_with_its_process(tmp_path: Path) -> None:
    """Another process that holds it is named; when it was killed the file is free."""
    path = tmp_path / "store.db"
    script = (
        "import sys, time\n"
        "from pool.store.sqlite_file import FileLock\n"
        "FileLock(sys.argv[1]).take(); print('locked', flush=True); sys.stdin.read()\n"
    )
    lock = FileLock(str(path))
    with subprocess.Popen(
        [sys.executable, "-c", script, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"locked\n"
        with pytest.raises(ConfigError, match=f"in use by process {other.pid}:"):
            lock.take()
        other.kill()
    lock.take()
    lock.release()
    lock.release()
