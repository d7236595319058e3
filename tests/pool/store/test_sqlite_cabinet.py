"""Documents and counters in a file: they outlive the process, and come to older files."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest

from pool.store.cabinet import Document
from pool.store.counters import Change, Counted
from pool.store.sqlite import SqliteStore
from pool.store.sqlite_schema import MIGRATIONS, migrate, version_of
from tests.contract.opened import Clock
from tests.contract.steps import S1, answer

pytestmark = pytest.mark.real_time

LATER = 1e10
TABLES = "SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY name"


@asynccontextmanager
async def _opened(
    path: Path, clock: Clock | None = None, *, exclusive: bool = True
) -> AsyncIterator[SqliteStore]:
    clock = clock or Clock()
    store = SqliteStore(path, clock=clock, synchronous="normal", exclusive=exclusive)
    await store.open()
    try:
        yield store
    finally:
        await store.close()


async def test_they_outlive_the_process(tmp_path: Path) -> None:
    """Documents, how often they were changed, and counters with their limits."""
    path = tmp_path / "store.db"
    async with _opened(path) as store:
        await store.put("key", [Document("a", b"1")])
        await store.put("key", [Document("b", b"2")])
        await store.count([Change("used", 7, LATER)])
        changes = await store.changes("key")
    async with _opened(path) as store:
        found = await store.documents("key", None, 10)
        assert found == ([Document("a", b"1"), Document("b", b"2")], None)
        assert await store.changes("key") == changes
        assert await store.count([Change("used", 4, LATER, 10)]) == Counted([7], 0)


async def test_a_file_of_version_1_is_brought_up_to_date(tmp_path: Path) -> None:
    """What is in it stays, and it takes documents and counters."""
    path = tmp_path / "store.db"
    async with _opened(path) as store:
        turn = await answer(store)
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        # as a program left it that knew version 1 only
        db.executescript("DROP TABLE documents; DROP TABLE counters; PRAGMA user_version = 1;")
        with closing(sqlite3.connect(":memory:", isolation_level=None)) as first:
            migrate(first, ":memory:", MIGRATIONS[:1])
            assert db.execute(TABLES).fetchall() == first.execute(TABLES).fetchall()
    async with _opened(path) as store:
        assert await store.turn(turn.id) == turn
        assert (await store.turns(S1, None, 10)).items == [turn]
        await store.put("key", [Document("a", b"1")])
        assert await store.count([Change("used", 1, LATER)]) == Counted([1], None)
    with closing(sqlite3.connect(path)) as db:
        assert version_of(db) == len(MIGRATIONS) == 2


async def test_two_processes_share_a_limit(tmp_path: Path) -> None:
    """An operator's command counts beside the server: together they never get above it."""
    path = tmp_path / "store.db"
    async with _opened(path) as server, _opened(path, exclusive=False) as command:
        change = [Change("used", 1, LATER, 70)]
        answers = await asyncio.gather(
            *(store.count(change) for _ in range(100) for store in (server, command))
        )
        made = [answer.values[0] for answer in answers if answer.over is None]
        assert sorted(made) == list(range(1, 71))
        assert await server.counts(["used"]) == await command.counts(["used"]) == [70]


async def test_a_command_puts_what_the_server_sees(tmp_path: Path) -> None:
    """A key that an operator makes is there at once, and the server notices."""
    path = tmp_path / "store.db"
    async with _opened(path) as server, _opened(path, exclusive=False) as command:
        before = await server.changes("key")
        await command.put("key", [Document("a", b"1")])
        assert await server.changes("key") > before
        assert await server.get("key", "a") == b"1"


async def test_expired_counters_are_swept(tmp_path: Path) -> None:
    """A part of them with each step, so that turns need not wait; the others stay."""
    path, clock = tmp_path / "store.db", Clock()
    async with _opened(path, clock) as store:
        await store.count([Change(f"n{number}", 1, clock.now + 10) for number in range(250)])
        await store.count([Change("stays", 1, clock.now + 100)])
        clock.now += 20
        left = []
        for _ in range(4):
            store.tick()
            await store.ping()
            with closing(sqlite3.connect(path)) as db:
                left += db.execute("SELECT count(*) FROM counters").fetchone()
        assert left == [151, 51, 1, 1]
        assert await store.counts(["stays"]) == [1]
