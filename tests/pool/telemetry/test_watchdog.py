from __future__ import annotations

import asyncio
import json
import re
import threading
import time
from typing import Any

import pytest

from pool.telemetry.watchdog import Watchdog

pytestmark = pytest.mark.real_time

Seen = tuple[asyncio.Task[Any] | None, float, str]


class Reports:
    """Keeps what the watchdog says, and can be waited for by code that blocks."""

    def __init__(self) -> None:
        self.all: list[Seen] = []
        self.came = threading.Event()

    def __call__(self, task: asyncio.Task[Any] | None, blocked_s: float, where: str) -> None:
        self.all.append((task, blocked_s, where))
        self.came.set()


def block(until: threading.Event) -> None:
    """Stand still as a synchronous client would, until it was noticed."""
    until.wait(timeout=5)


async def test_names_the_task_and_the_line() -> None:
    """The report names the running task, how long it has blocked, and the user's line in it."""
    reports = Reports()
    watchdog = Watchdog(0.05, reports)
    watchdog.start(asyncio.get_running_loop())
    try:
        block(reports.came)
    finally:
        watchdog.stop()
    ((task, blocked_s, where),) = reports.all
    assert task is asyncio.current_task()
    assert 0.05 <= blocked_s < 5
    assert re.fullmatch(rf"{__name__}:block:\d+", where)


async def test_a_blockage_is_reported_once() -> None:
    """However long it lasts, one blockage is one report; the next one is another."""
    reports = Reports()
    watchdog = Watchdog(0.03, reports)
    watchdog.start(asyncio.get_running_loop())
    try:
        time.sleep(0.2)  # noqa: ASYNC251 - to block is the point
        assert len(reports.all) == 1
        # a beat of the loop ends the blockage
        await asyncio.sleep(0.02)
        reports.came.clear()
        block(reports.came)
        assert len(reports.all) == 2
    finally:
        watchdog.stop()


async def test_code_of_libraries_alone_is_named_too() -> None:
    """A plain callback has no task; where no user's code runs the innermost line is named."""
    reports = Reports()
    watchdog = Watchdog(0.03, reports)
    loop = asyncio.get_running_loop()
    watchdog.start(loop)
    try:
        loop.call_soon(reports.came.wait, 5)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    finally:
        watchdog.stop()
    ((task, _, where),) = reports.all
    assert task is None
    assert where.count(":") == 2


async def test_a_loop_at_rest_is_not_blocked() -> None:
    """Waiting is no blockage, nor are many short steps."""
    reports = Reports()
    watchdog = Watchdog(0.1, reports)
    watchdog.start(asyncio.get_running_loop())
    try:
        await asyncio.sleep(0.3)
        for _ in range(200):
            json.dumps(list(range(100)))
            await asyncio.sleep(0)
    finally:
        watchdog.stop()
    assert reports.all == []


async def test_a_report_that_fails_does_not_end_the_watch() -> None:
    """After a report that raised, the next blockage is reported."""
    called = threading.Event()
    calls: list[str] = []

    def report(task: asyncio.Task[Any] | None, blocked_s: float, where: str) -> None:
        calls.append(where)
        called.set()
        raise ValueError(where)

    watchdog = Watchdog(0.03, report)
    watchdog.start(asyncio.get_running_loop())
    try:
        for count in (1, 2):
            called.clear()
            block(called)
            assert len(calls) == count
            await asyncio.sleep(0.02)
    finally:
        watchdog.stop()


async def test_stops_and_starts_again() -> None:
    """A stopped watchdog leaves no thread; it runs once at a time and may be stopped twice."""
    reports = Reports()
    watchdog = Watchdog(0.03, reports)
    loop = asyncio.get_running_loop()
    watchdog.stop()
    watchdog.start(loop)
    with pytest.raises(RuntimeError, match="runs already"):
        watchdog.start(loop)
    watchdog.stop()
    watchdog.stop()
    assert "actorpool-watchdog" not in {thread.name for thread in threading.enumerate()}
    time.sleep(0.1)  # noqa: ASYNC251
    assert reports.all == []
    watchdog.start(loop)
    block(reports.came)
    watchdog.stop()
    assert len(reports.all) == 1
