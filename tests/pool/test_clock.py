"""The clock that turns are measured by."""

from __future__ import annotations

import asyncio
import time

import pytest

from pool.clock import clock_of


async def test_a_virtual_loop_keeps_its_time() -> None:
    """A loop whose time is its own is measured by that."""
    loop = asyncio.get_running_loop()
    clock = clock_of(loop)
    before = clock()
    await asyncio.sleep(3_600)
    assert clock() - before == 3_600


@pytest.mark.real_time
async def test_uvloop_is_measured_finely_and_on_the_same_scale() -> None:
    """Finer than its whole milliseconds, and never more than a few of them away."""
    loop = asyncio.get_running_loop()
    clock = clock_of(loop)
    assert clock is time.monotonic
    await asyncio.sleep(0)
    assert abs(clock() - loop.time()) < 1.0
