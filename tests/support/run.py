"""Running a coroutine so that whatever it leaves behind is noticed."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import warnings
from collections.abc import Callable, Coroutine, Iterable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Final, TypeVar

from tests.support.loop import SeededLoop
from tests.support.tasks import describe

T = TypeVar("T")

# Only this seed is run if it is set.
SEED_VARIABLE: Final = "ACTORPOOL_SEED"
# How long a test may take in real time, unless it says otherwise.
CAP_S: Final = 30.0
# Turns of the loop in which a task that is about to end may still do so after the test.
LAST_TICKS: Final = 5
# How long, on the loop's clock, a cancelled task may take to end.
CANCEL_S: Final = 5.0


class UncleanTest(AssertionError):
    """The test passed but left something: a task, an exception, a coroutine never awaited."""


class TooSlow(AssertionError):
    """The test did not end within its cap."""


class _BrokenOff(KeyboardInterrupt):
    """It is time. An ordinary exception would end in whatever callback of the loop it strikes."""


class SeedFailed(AssertionError):
    """A scenario failed under one seed; the cause is chained."""


def run_clean(
    loop: asyncio.AbstractEventLoop,
    coroutine: Coroutine[Any, Any, T],
    *,
    cap_s: float | None = None,
) -> T:
    """Run a coroutine on the loop, then close the loop. `UncleanTest` if it left something behind.

    `cap_s`: seconds on the loop's clock after which it is cancelled and fails (`TooSlow`).
    """
    left: list[str] = []
    loop.set_exception_handler(lambda _, context: left.append(_unhandled(context)))
    # What was there before is not this test's: the collection below need not walk it.
    gc.freeze()
    try:
        with _never_awaited(left):
            result = _run(loop, coroutine, cap_s, left)
            # an exception that nobody looked at is reported when its task is collected
            gc.collect()
    except BaseException as error:
        for note in left:
            error.add_note(note)
        raise
    finally:
        loop.close()
    if left:
        raise UncleanTest("\n".join(left))
    return result


def run_seeds(
    make: Callable[[], Coroutine[Any, Any, object]],
    seeds: Iterable[int] = range(100),
    *,
    cap_s: float = CAP_S,
) -> None:
    """Run a fresh coroutine per seed on a `SeededLoop`; `SeedFailed` names the first that fails.

    With ACTORPOOL_SEED in the environment (`pytest --seed N` sets it) only that seed is run. A seed
    under which the scenario spins without end is broken off after `cap_s` seconds (real ones).
    """
    only = os.environ.get(SEED_VARIABLE)
    for seed in seeds if only is None else [int(only)]:
        try:
            with broken_off_after(cap_s):
                run_clean(SeededLoop(seed), make())
        except Exception as error:
            raise SeedFailed(
                f"failed with seed {seed}: {type(error).__name__}: {error}\n"
                f"replay it: pytest --seed {seed}, or {SEED_VARIABLE}={seed} in the environment"
            ) from error


@contextmanager
def broken_off_after(seconds: float) -> Iterator[None]:
    """Raise `TooSlow` wherever the test is by then, again every second until it gives in."""

    def break_off(_: int, frame: FrameType | None) -> None:
        raise _BrokenOff(f"the test blocked the loop or never paused for {seconds:g} s")

    before = signal.signal(signal.SIGALRM, break_off)
    signal.setitimer(signal.ITIMER_REAL, seconds, 1.0)
    try:
        yield
    except _BrokenOff as broken:
        raise TooSlow(str(broken)) from broken
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _run(
    loop: asyncio.AbstractEventLoop,
    coroutine: Coroutine[Any, Any, T],
    cap_s: float | None,
    left: list[str],
) -> T:
    test = loop.create_task(coroutine, name="the test")
    try:
        result = _run_capped(loop, test, cap_s)
    except _BrokenOff:
        # in the middle of a step: this loop cannot go on
        raise
    except BaseException:
        _clean(loop, test, left)
        raise
    _clean(loop, test, left)
    return result


def _clean(loop: asyncio.AbstractEventLoop, test: asyncio.Task[Any], left: list[str]) -> None:
    _end(loop, {test})
    loop.run_until_complete(_last_ticks())
    tasks = asyncio.all_tasks(loop)
    if tasks:
        left.append(f"tasks were left running:\n{describe(tasks)}")
        _end(loop, tasks)
    loop.run_until_complete(loop.shutdown_asyncgens())


def _run_capped(loop: asyncio.AbstractEventLoop, test: asyncio.Task[T], cap_s: float | None) -> T:
    if cap_s is None:
        return loop.run_until_complete(test)
    stood: list[str] = []

    def stop() -> None:
        stood.append(describe(asyncio.all_tasks(loop)))
        test.cancel()

    timer = loop.call_later(cap_s, stop)
    try:
        return loop.run_until_complete(test)
    except asyncio.CancelledError as error:
        if not stood:
            raise
        raise TooSlow(f"the test took longer than {cap_s:g} s:\n{stood[0]}") from error
    finally:
        timer.cancel()


def _end(loop: asyncio.AbstractEventLoop, tasks: set[asyncio.Task[Any]]) -> None:
    tasks = {task for task in tasks if not task.done()}
    for task in tasks:
        task.cancel()
    if tasks:
        loop.run_until_complete(asyncio.wait(tasks, timeout=CANCEL_S))


async def _last_ticks() -> None:
    for _ in range(LAST_TICKS):
        await asyncio.sleep(0)


def _unhandled(context: dict[str, Any]) -> str:
    culprit = context.get("task") or context.get("future") or context.get("handle")
    return f"{context['message']}: {context.get('exception')!r} in {culprit!r}"


@contextmanager
def _never_awaited(left: list[str]) -> Iterator[None]:
    """Add coroutines that were never awaited to `left`; other warnings go on their way."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.filterwarnings("always", ".*was never awaited", RuntimeWarning)
        try:
            yield
        finally:
            others = []
            for warning in caught:
                if "was never awaited" in str(warning.message):
                    left.append(str(warning.message))
                else:
                    others.append(warning)
    for warning in others:
        warnings.warn_explicit(
            warning.message,
            warning.category,
            warning.filename,
            warning.lineno,
            source=warning.source,
        )
