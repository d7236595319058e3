"""The SQLite store, in a file and in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager, nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from pool.store.sqlite import SqliteStore
from tests.contract.opened import Clock, Opened, Opening

LEASE_S = 30.0


@contextmanager
def _file() -> Iterator[Path]:
    with TemporaryDirectory() as directory:
        yield Path(directory) / "store.db"


def _opening(place: Callable[[], AbstractContextManager[str | Path]]) -> Opening:
    @asynccontextmanager
    async def opening() -> AsyncIterator[Opened]:
        clock = Clock()

        async def pass_time(seconds: float) -> None:
            clock.now += seconds

        with place() as path:
            store = SqliteStore(path, clock=clock, lease_s=LEASE_S, synchronous="normal")
            await store.open()
            yield Opened(store, pass_time)
            await store.close()

    return opening


STORES = [
    pytest.param(_opening(_file), id="sqlite", marks=pytest.mark.real_time),
    pytest.param(
        _opening(lambda: nullcontext(":memory:")),
        id="sqlite :memory:",
        marks=pytest.mark.real_time,
    ),
]
