"""A process that dies in the middle of its writes loses nothing that the store has taken."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from pool.errors import ConfigError
from pool.store.base import SessionKey
from pool.store.sqlite import SqliteStore
from tests.contract.steps import log_of, transcript_of

ROOT = Path(__file__).parents[3]


def _started(path: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.support.sqlite_process", str(path)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )


def _killed_after(path: Path, lines: int) -> dict[str, set[str]]:
    """Let a process answer turns, and kill it; the turns that it was told were kept and ended."""
    told: dict[str, set[str]] = {"accepted": set(), "committed": set()}
    with _started(path) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "open\n"
        for number, line in enumerate(process.stdout):
            if number == lines:
                process.kill()
            # the last line may be cut off
            if line.endswith("\n"):
                word, turn_id = line.split()
                told[word].add(turn_id)
    return told


@pytest.mark.real_time
@pytest.mark.parametrize("lines", [1, 300, 1_500])
async def test_what_was_taken_survives_kill_9(tmp_path: Path, lines: int) -> None:
    """Every turn that was accepted is there, every one committed has ended, the rest are orphans,
    each at once; the file is whole, and its logs are dense."""
    path = tmp_path / "store.db"
    told = await asyncio.to_thread(_killed_after, path, lines)
    assert len(told["accepted"]) + len(told["committed"]) >= lines
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    store = SqliteStore(path)
    await store.open()
    unfinished: set[SessionKey] = set()
    for turn_id in told["accepted"]:
        turn = await store.turn(turn_id)
        assert turn is not None
        assert turn.ended or turn_id not in told["committed"]
    sessions = (await store.sessions("acme", None, 10_000)).items
    for info in sessions:
        key = SessionKey("acme", info.id)
        turns = (await store.turns(key, None, 100)).items
        log, _ = await log_of(store, key)
        assert [event.seq for event in log] == list(range(1, len(log) + 1))
        assert len(await transcript_of(store, key)) == 2 * sum(turn.ended for turn in turns)
        assert len(log) == 4 * sum(turn.ended for turn in turns)
        if not all(turn.ended for turn in turns):
            unfinished.add(key)
    assert set(await store.orphans(10_000)) == unfinished
    for key in unfinished:
        assert await store.claim(key, "next") is not None
    await store.close()


@pytest.mark.real_time
async def test_a_second_server_process_is_refused(tmp_path: Path) -> None:
    """While another process has the file open this one is told which."""
    path = tmp_path / "store.db"
    with _started(path) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "open\n"
        with pytest.raises(ConfigError, match=f"in use by process {process.pid}: end that server"):
            await SqliteStore(path).open()
        process.kill()
    store = SqliteStore(path)
    await store.open()
    await store.close()
