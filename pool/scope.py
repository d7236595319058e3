"""The turn that the running code belongs to, and the tasks it started.

A turn is known to everything its agent calls through a context variable. Tasks inherit it, and a
task factory keeps those started within a turn, so that none outlives it. The factory is put before
the loop's own while a pool is open.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Generator
from contextvars import ContextVar
from typing import Any

from pool.live import LiveTurn

current: ContextVar[LiveTurn | None] = ContextVar("actorpool_turn", default=None)

TaskFactory = Callable[..., "asyncio.Future[Any]"]


class Tracking:
    """A task factory that notes the tasks of turns and leaves the making to the one before it."""

    def __init__(self, before: TaskFactory | None) -> None:
        self.before = before
        self.pools = 1

    def __call__(
        self,
        loop: asyncio.AbstractEventLoop,
        coro: Coroutine[Any, Any, Any] | Generator[Any, Any, Any],
        **options: Any,
    ) -> asyncio.Future[Any]:
        """Make a task, and note it if it is started within a turn."""
        if self.before is not None:
            task = self.before(loop, coro, **options)
        else:
            task = asyncio.Task(coro, loop=loop, **options)
        # A context given with the task is somebody else's: the task is not the turn's.
        turn = None if options.get("context") is not None else current.get()
        if turn is not None and isinstance(task, asyncio.Task) and not task.done():
            if turn.tasks is None:
                turn.tasks = set()
            turn.tasks.add(task)
            task.add_done_callback(turn.tasks.discard)
        return task


def track(loop: asyncio.AbstractEventLoop) -> Tracking:
    """Note the tasks of turns on this loop from now on; pools on one loop share it."""
    before = loop.get_task_factory()
    if isinstance(before, Tracking):
        before.pools += 1
        return before
    tracking = Tracking(before)
    loop.set_task_factory(tracking)
    return tracking


def untrack(loop: asyncio.AbstractEventLoop, tracking: Tracking) -> None:
    """Undo one `track`. A factory that somebody put on top meanwhile stays."""
    tracking.pools -= 1
    if tracking.pools == 0 and loop.get_task_factory() is tracking:
        loop.set_task_factory(tracking.before)


def cancel_leftovers(turn: LiveTurn) -> int:
    """Cancel the tasks that the turn's agent left running; how many there were."""
    tasks, turn.tasks = turn.tasks, None
    if not tasks:
        return 0
    left = [task for task in tasks if not task.done()]
    for task in left:
        task.cancel()
    return len(left)
