"""What goes one at a time in a session, so that the store's order is the order here."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, TypeVar

from pool.store.lease import SessionKey

T = TypeVar("T")

Spawn = Callable[[Coroutine[Any, Any, Any]], "asyncio.Task[Any]"]


class InOrder:
    """Runs what concerns a session's place in the store: accepts, claims, letters; each after the
    one before it. It goes on when whoever asked for it leaves.
    """

    def __init__(self, spawn: Spawn) -> None:
        self._spawn = spawn
        # the last one of each session
        self._last: dict[SessionKey, asyncio.Task[Any]] = {}

    def busy(self, key: SessionKey) -> bool:
        """Whether something of the session is on its way."""
        return key in self._last

    def run(self, key: SessionKey, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Do it after all that was asked for before in this session."""
        before = self._last.get(key)
        task: asyncio.Task[T] = self._spawn(work if before is None else _after(before, work))
        self._last[key] = task
        task.add_done_callback(partial(self._done, key))
        return task

    async def done(self, key: SessionKey, work: Coroutine[Any, Any, T]) -> T:
        """Do it in order, and wait for it. It goes on if the caller leaves."""
        return await heard(self.run(key, work))

    async def settled(self, timeout_s: float) -> None:
        """Wait until nothing is on its way, at most so long."""
        if self._last:
            await asyncio.wait(self._last.values(), timeout=timeout_s)

    def _done(self, key: SessionKey, task: asyncio.Task[Any]) -> None:
        if self._last.get(key) is task:
            del self._last[key]


async def heard(task: asyncio.Task[T]) -> T:
    """What comes of a task, which goes on if whoever waits for it leaves."""
    over: asyncio.Future[None] = task.get_loop().create_future()
    task.add_done_callback(partial(_tell, over))
    try:
        await over
    except asyncio.CancelledError:
        task.add_done_callback(_unheard)
        raise
    return task.result()


def _tell(over: asyncio.Future[None], _: asyncio.Task[Any]) -> None:
    if not over.done():
        over.set_result(None)


def _unheard(task: asyncio.Task[Any]) -> None:
    # Nobody is left to be told how it failed.
    if not task.cancelled():
        task.exception()


async def _after(before: asyncio.Task[Any], work: Coroutine[Any, Any, T]) -> T:
    try:
        await asyncio.wait([before])
    except BaseException:
        work.close()
        raise
    return await work
