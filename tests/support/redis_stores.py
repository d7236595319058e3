"""Redis stores on real servers, and turns run in them in one go."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from pool.errors import StoreUnavailable
from pool.store.base import SessionKey, StateChange
from pool.store.redis import RedisStore
from pool.turn import Turn
from tests.contract.steps import (
    S1,
    finish,
    make_turn,
    said,
    stamped,
)
from tests.support.redis_process import RedisServer

T = TypeVar("T")


@asynccontextmanager
async def opened(
    server: RedisServer, *, port: int | None = None, **options: Any
) -> AsyncIterator[RedisStore]:
    """A store on this server, perhaps through a proxy."""
    store = RedisStore(f"redis://127.0.0.1:{port or server.port}", **options)
    try:
        await store.open()
        yield store
    finally:
        await store.close()


async def run_turn(store: RedisStore, key: SessionKey = S1) -> Turn:
    """A turn as a replica runs it that has joined."""
    turn = make_turn(key=key)
    turn.state, turn.attempt = "running", 1
    accepted = await store.accept(turn, owner="a", with_state=True)
    assert accepted.lease is not None
    events = stamped(said("so ", "it ", "is"), turn, accepted.lease.epoch, accepted.end.seq)
    change = StateChange("f/1", b"x", append=True)
    assert await store.commit(accepted.lease, finish(turn), events, change)
    return turn


async def until(condition: Callable[[], bool]) -> None:
    """Return once something is so that the store does by itself."""
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0.01)


async def eventually(call: Callable[[], Awaitable[T]]) -> T:
    """What a call answers as soon as the store is there again."""
    async with asyncio.timeout(10):
        while True:
            try:
                return await call()
            except StoreUnavailable as error:
                await asyncio.sleep(error.retry_after_s or 0.05)
