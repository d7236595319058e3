"""Threads for synchronous code, one call at a time each, awaited until they have really ended.

A thread cannot be killed. Whoever awaits one therefore learns of its own cancellation only when the
call has ended: what comes after may rely on nothing running behind its back. The threads are
daemons, so that a call that never ends does not keep the process alive.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import Context, copy_context
from queue import SimpleQueue
from threading import Thread
from typing import Any, TypeVar

T = TypeVar("T")


class WorkerThread:
    """One thread that runs the calls it is given, in order. It starts with the first one."""

    __slots__ = ("_calls", "_name", "_thread")

    def __init__(self, name: str) -> None:
        self._name = name
        self._calls: SimpleQueue[_Call | None] = SimpleQueue()
        self._thread: Thread | None = None

    async def run(self, function: Callable[..., T], *arguments: Any) -> T:
        """Call `function` in the thread, with the caller's context variables.

        Cancelled, it waits for the call to end first. `SystemExit` and the like end the call, not
        the process: they come out as `RuntimeError`.
        """
        if self._thread is None:
            self._thread = Thread(target=_work, args=(self._calls,), name=self._name, daemon=True)
            self._thread.start()
        call = _Call(function, arguments)
        self._calls.put(call)
        await _until(call.ended)
        if call.error is None:
            result: T = call.result
            return result
        if isinstance(call.error, Exception):
            raise call.error
        raise RuntimeError(f"{self._name} ended by {type(call.error).__name__}") from call.error

    def stop(self) -> None:
        """End the thread once it has done what it was given."""
        self._calls.put(None)


class Threads:
    """As many worker threads as there are calls at once; idle ones are used again."""

    __slots__ = ("_idle", "_name", "_stopped")

    def __init__(self, name: str) -> None:
        self._name = name
        self._idle: list[WorkerThread] = []
        self._stopped = False

    async def run(self, function: Callable[..., T], *arguments: Any) -> T:
        """Call `function` in a thread of its own, as `WorkerThread.run` does."""
        worker = self._idle.pop() if self._idle else WorkerThread(self._name)
        try:
            return await worker.run(function, *arguments)
        finally:
            if self._stopped:
                worker.stop()
            else:
                self._idle.append(worker)

    def stop(self) -> None:
        """End the idle threads now, and the others when they are done."""
        self._stopped = True
        while self._idle:
            self._idle.pop().stop()


class _Call:
    """One call on its way through a thread."""

    __slots__ = ("_arguments", "_context", "_function", "_loop", "ended", "error", "result")

    def __init__(self, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
        self._function = function
        self._arguments = arguments
        self._context: Context = copy_context()
        self._loop = asyncio.get_running_loop()
        self.ended: asyncio.Future[None] = self._loop.create_future()
        self.result: Any = None
        self.error: BaseException | None = None

    def run(self) -> None:
        """Make the call; runs in the thread."""
        try:
            self.result = self._context.run(self._function, *self._arguments)
        except BaseException as error:
            self.error = error
        try:
            self._loop.call_soon_threadsafe(self._end)
        except RuntimeError:
            # The loop was closed while the call ran: nobody is left to hear of it.
            return

    def _end(self) -> None:
        if not self.ended.done():
            self.ended.set_result(None)


def _work(calls: SimpleQueue[_Call | None]) -> None:
    while (call := calls.get()) is not None:
        call.run()
        # What the call holds is not to live until the next one comes.
        del call


async def _until(ended: asyncio.Future[None]) -> None:
    cancelled: asyncio.CancelledError | None = None
    while not ended.done():
        try:
            await asyncio.shield(ended)
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        raise cancelled
