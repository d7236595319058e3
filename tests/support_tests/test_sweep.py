"""The sweep cancels at every suspension, waiting and woken."""

from __future__ import annotations

import asyncio

import pytest

from tests.support import run_seeds, sweep_cancel


async def test_every_suspension_is_cancelled_once_in_each_way() -> None:
    """A coroutine with three suspensions is cancelled at each, while waiting and when woken."""
    runs: list[int] = []

    async def three() -> None:
        runs.append(0)
        for _ in range(3):
            await asyncio.sleep(1)
            runs[-1] += 1

    checks: list[int] = []
    assert await sweep_cancel(three, lambda: checks.append(runs[-1])) == 3
    assert runs == checks == [0, 1, 2, 3] * 2


async def test_awaits_that_do_not_suspend_do_not_count() -> None:
    """An await that returns at once is no place to be cancelled at."""

    async def at_once() -> int:
        return 1

    async def none() -> None:
        await at_once()

    assert await sweep_cancel(none) == 0


async def test_a_permit_lost_after_its_grant_is_found() -> None:
    """A hand-over that loses the permit of a waiter cancelled after the grant is caught."""
    loop = asyncio.get_running_loop()
    free = 1

    async def naive() -> None:
        nonlocal free
        granted: asyncio.Future[None] = loop.create_future()

        def grant() -> None:
            nonlocal free
            free -= 1
            if not granted.cancelled():
                granted.set_result(None)
            else:
                free += 1

        loop.call_later(1, grant)
        await granted
        free += 1

    async def permits_are_whole() -> None:
        await asyncio.sleep(2)
        assert free == 1

    with pytest.raises(AssertionError):
        await sweep_cancel(naive, permits_are_whole)


async def test_an_error_of_the_coroutine_is_the_callers() -> None:
    """A run that ends with an exception of its own ends the sweep with it."""

    async def fails_when_cancelled() -> None:
        try:
            await asyncio.sleep(1)
        except asyncio.CancelledError:
            raise ValueError("clean-up failed") from None

    with pytest.raises(ValueError, match="clean-up failed"):
        await sweep_cancel(fails_when_cancelled)


def test_a_sweep_works_on_seeded_loops() -> None:
    """Sweeps and seeds go together."""

    async def two() -> None:
        await asyncio.sleep(0)
        await asyncio.sleep(1)

    async def scenario() -> None:
        assert await sweep_cancel(two) == 2

    run_seeds(scenario, range(20))
