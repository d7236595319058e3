"""Work that goes on when whoever asked for it leaves, until the pool closes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextvars import Context
from typing import Any, TypeVar

T = TypeVar("T")


class Errands:
    """The pool's own tasks, each in a context of its own."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._tasks: set[asyncio.Task[Any]] = set()
        self._closed = False
        self._loop = asyncio.get_running_loop()

    def spawn(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Do something that must not end with whoever asked for it."""
        task = self._loop.create_task(work, context=Context())
        if self._closed:
            # nobody would wait for it
            task.cancel()
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def settled(self, timeout_s: float) -> None:
        """Wait for everything that was begun, at most so long."""
        until = self._clock() + timeout_s
        while self._tasks:
            left_s = max(0.0, until - self._clock())
            done, _ = await asyncio.wait(self._tasks, timeout=left_s)
            if not done:
                return

    async def cancel(self, grace_s: float) -> None:
        """End what is left, and begin nothing any more."""
        self._closed = True
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=grace_s)
