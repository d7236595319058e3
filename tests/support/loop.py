"""Event loops for tests: time that costs nothing, and interleavings that a seed decides.

Both rest on the seams that asyncio offers its subclasses (a selector of our own, `time()`,
`call_soon()`), not on how a loop's tick is written, so that they work on every Python from 3.11 on.
"""

from __future__ import annotations

import asyncio
import selectors
from asyncio import Future, Handle, Task
from bisect import insort
from collections.abc import Callable
from contextvars import Context
from itertools import count
from random import Random
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from tests.support.tasks import describe

T = TypeVar("T")


class Stuck(AssertionError):
    """Every task waits for something that nobody is left to do."""


class VirtualLoop(asyncio.SelectorEventLoop):
    """A loop whose time jumps to the next timer as soon as nothing is ready.

    An hour's wait takes no time and a test that would wait forever fails at once (`Stuck`). While
    a function runs in an executor the loop waits for it, and time stands still. Real sockets have
    no place here: mark the test `real_time`.
    """

    def __init__(self) -> None:
        self._now_s = 0.0
        self._in_threads = 0
        super().__init__(_VirtualSelector(self._idle))

    def time(self) -> float:
        """Seconds since the loop was made, in its own time."""
        return self._now_s

    def run_in_executor(  # type: ignore[override]
        self, executor: Any, func: Callable[..., T], *args: Any
    ) -> Future[T]:
        """As in every loop; virtual time stands still until the function has returned."""
        future: Future[T] = super().run_in_executor(executor, func, *args)
        self._in_threads += 1
        future.add_done_callback(self._left_thread)
        return future

    def _left_thread(self, _: Future[Any]) -> None:
        self._in_threads -= 1

    def _idle(self, timeout_s: float | None) -> float | None:
        """Nothing is ready for `timeout_s` (None: ever). Returns how long to really wait."""
        if self._in_threads:
            return None
        if timeout_s is None:
            tasks = describe(asyncio.all_tasks(self))
            raise Stuck(f"nothing is ready and no timer is set:\n{tasks}")
        self._now_s += timeout_s
        return 0


class SeededLoop(VirtualLoop):
    """Virtual time, and at each tick ONE randomly chosen step of one task that is ready.

    A step competes with the steps that others make ready, so one task may stand still while another
    goes on for many steps: that is what finds a race (a mere shuffle of what is ready does not).
    Callbacks that are not steps of tasks (of futures, transports, timers) keep their order. The
    same seed gives the same run.
    """

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.seed = seed
        self.random = Random(seed)
        self._numbers: WeakKeyDictionary[Task[Any], int] = WeakKeyDictionary()
        self._next_number = count()
        # in the order of the tasks' making: that of a set, which is by address, decides nothing
        self._steps: list[tuple[int, Handle]] = []
        self._pick_is_due = False

    def call_soon(  # type: ignore[override]
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> Handle:
        """Steps of tasks wait to be picked; everything else runs in order."""
        task = getattr(callback, "__self__", None)
        if not isinstance(task, Task):
            return super().call_soon(callback, *args, context=context)
        if task not in self._numbers:
            self._numbers[task] = next(self._next_number)
        handle = Handle(callback, args, self, context)
        insort(self._steps, (self._numbers[task], handle), key=_number)
        self._make_pick_due()
        return handle

    def _make_pick_due(self) -> None:
        if self._steps and not self._pick_is_due:
            self._pick_is_due = True
            super().call_soon(self._pick)

    def _pick(self) -> None:
        self._pick_is_due = False
        _, handle = self._steps.pop(self.random.randrange(len(self._steps)))
        if not handle.cancelled():
            handle._run()
        self._make_pick_due()


def _number(step: tuple[int, Handle]) -> int:
    return step[0]


class _VirtualSelector(selectors.DefaultSelector):
    """Asks `idle` what to do instead of waiting."""

    def __init__(self, idle: Callable[[float | None], float | None]) -> None:
        super().__init__()
        self._idle = idle

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """What is ready now; if nothing is, what is ready after `idle` has had its say."""
        ready = super().select(0)
        if ready or (timeout is not None and timeout <= 0):
            return ready
        return super().select(self._idle(timeout))
