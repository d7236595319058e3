"""The stores that are measured, each fresh: a file of its own, or a Redis server of its own.

The file lies where this machine keeps temporary files. Redis has the load's core, and an
append-only file that is synced every second.
"""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Final, Literal

from bench.process import Listener, free_port

if TYPE_CHECKING:
    from pool.store.base import Store

Kind = Literal["memory", "SQLite", "Redis"]
KINDS: Final[tuple[Kind, ...]] = ("memory", "SQLite", "Redis")
# How a file is synced: with each transaction, or now and then.
Synchronous = Literal["full", "normal"]
# Where a store is: what `--store` takes.
Place = str


@contextmanager
def place(kind: Kind) -> Iterator[Place]:
    """Where a fresh store of a kind is; it is gone when the block is left."""
    if kind == "memory":
        yield "memory"
    elif kind == "SQLite":
        with sqlite_file() as file:
            yield file
    else:
        with redis_server() as server:
            yield redis_at(server.port)


@contextmanager
def sqlite_file() -> Iterator[Place]:
    """A file that is not there yet."""
    with TemporaryDirectory(prefix="actorpool-bench-") as home:
        yield f"sqlite://{Path(home, 'pool.db')}"


@contextmanager
def redis_server() -> Iterator[Listener]:
    """A Redis server without data. `RuntimeError` if there is none on this machine."""
    binary = shutil.which("redis-server")
    if binary is None:
        raise RuntimeError("there is no redis-server on PATH: install Redis 6.2 or newer")
    with TemporaryDirectory(prefix="actorpool-bench-") as home:
        port = free_port()
        listen = ("--port", str(port), "--bind", "127.0.0.1", "--dir", home, "--daemonize", "no")
        keep = ("--save", "", "--appendonly", "yes", "--appendfsync", "everysec")
        # to write it anew would take the load's core for a while
        lasting = ("--auto-aof-rewrite-percentage", "0")
        with Listener([binary, *listen, *keep, *lasting], port, role=1) as server:
            yield server


def redis_at(port: int) -> Place:
    """The store in a Redis server of this machine."""
    return f"redis://127.0.0.1:{port}/0"


@asynccontextmanager
async def made(at: Place, synchronous: Synchronous | None = None) -> AsyncIterator[Store]:
    """The store that the command makes of a place, for a pool, which opens it; closed in the end.

    `synchronous`: of a file, other than by default.
    """
    store = _made(at) if synchronous is None else _in_file(at, synchronous)
    try:
        yield store
    finally:
        await store.close()


def _made(at: Place) -> Store:
    from pool.store.urls import store_of
    from protocol.settings import StoreSettings

    settings = StoreSettings(url=at)
    return store_of(at, retention=settings.limits, lease_s=settings.lease_s)


def _in_file(at: Place, synchronous: Synchronous) -> Store:
    from pool.store.sqlite import SqliteStore
    from pool.store.urls import sqlite_path

    return SqliteStore(sqlite_path(at) or ":memory:", synchronous=synchronous)
