"""Stores to be measured are fresh, and gone afterwards."""

from __future__ import annotations

from pathlib import Path

import pytest
import uvloop

from bench.agents import echo
from bench.stores import Place, made, place
from pool import AgentPool


@pytest.mark.real_time
def test_each_file_is_a_new_one() -> None:
    """A file is not there before a pool has used it, nor when the block is left."""
    with place("SQLite") as at:
        file = Path(at.removeprefix("sqlite://"))
        before = file.exists()
        answer = uvloop.run(ask(at))
        after = file.exists()

    assert (before, answer, after, file.exists()) == (False, "echo: hi", True, False)


async def ask(at: Place) -> str:
    """The answer of a pool on a store."""
    async with made(at, "normal") as store, AgentPool(echo, store=store) as pool:
        return (await pool.ask("hi", session="s")).output


def test_without_a_redis_it_is_said_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without redis-server is told to get one."""
    monkeypatch.setenv("PATH", "")

    with pytest.raises(RuntimeError, match="install Redis"), place("Redis"):
        pass
