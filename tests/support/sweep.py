"""Cancelling a coroutine at every await at which it can be cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Generator
from inspect import isawaitable
from types import coroutine as generator_coroutine
from typing import Any, Literal, TypeVar

T = TypeVar("T")

When = Literal["waiting", "woken"]


async def sweep_cancel(
    make: Callable[[], Coroutine[Any, Any, object]], check: Callable[[], object] | None = None
) -> int:
    """Run a fresh coroutine again and again, cancelled at its 1st, 2nd, 3rd ... suspension.

    It ends with the run that is over before it is to be cancelled; returns how many suspensions
    there were. `check` (may be async) is called after each run. A run may end cancelled or return;
    any other exception is the caller's.

    Each suspension is cancelled in two ways: while it waits, and after what it waits for has come
    but before it has gone on, which is when something handed over gets lost.
    """
    return max([await _sweep(make, check, when) for when in ("waiting", "woken")])


async def _sweep(
    make: Callable[[], Coroutine[Any, Any, object]], check: Callable[[], object] | None, when: When
) -> int:
    suspension = 0
    reached = True
    while reached:
        suspension += 1
        cut = _Cut(suspension, when)
        task = asyncio.create_task(cut.drive(make()), name=f"cancelled at {suspension}, {when}")
        await asyncio.wait([task])
        reached = cut.reached
        if not task.cancelled():
            task.result()
        if check is not None:
            outcome = check()
            if isawaitable(outcome):
                await outcome
    return suspension - 1


class _Cut:
    """Drives a coroutine and has its task cancelled at the given suspension."""

    def __init__(self, suspension: int, when: When) -> None:
        self.reached = False
        self._left = suspension
        self._when = when

    async def drive(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return await self._steps(coroutine)

    @generator_coroutine
    def _steps(self, coroutine: Coroutine[Any, Any, T]) -> Generator[Any, Any, T]:
        thrown: BaseException | None = None
        while True:
            try:
                waited_for = coroutine.send(None) if thrown is None else coroutine.throw(thrown)
            except StopIteration as stop:
                result: T = stop.value
                return result
            self._left -= 1
            if not self._left:
                self._cancel_at(waited_for)
            try:
                yield waited_for
                thrown = None
            except BaseException as error:
                thrown = error

    def _cancel_at(self, waited_for: asyncio.Future[Any] | None) -> None:
        self.reached = True
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("the coroutine runs outside a task")
        if self._when == "waiting" or waited_for is None:
            asyncio.get_running_loop().call_soon(lambda: task.cancel())
        else:
            # called before the task's own callback, which is added when the future reaches the task
            waited_for.add_done_callback(lambda _: task.cancel())
