"""The loops of the tests: virtual time, being stuck, seeds."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from threading import Event as ThreadEvent
from typing import Any

import pytest

from tests.support import SeededLoop, SeedFailed, Stuck, VirtualLoop, run_clean, run_seeds


async def test_an_hour_takes_no_time() -> None:
    """Sleeping advances the loop's clock by exactly what was slept, at once."""
    loop = asyncio.get_running_loop()
    before = time.monotonic()
    await asyncio.sleep(3_600)
    assert loop.time() == pytest.approx(3_600)
    assert time.monotonic() - before < 1


async def test_timers_fire_in_order() -> None:
    """Timers fire in the order of their times, whatever the order of their setting."""
    seen: list[int] = []
    loop = asyncio.get_running_loop()
    for seconds in (30, 10, 200_000, 20):
        loop.call_later(seconds, seen.append, seconds)
    await asyncio.sleep(300_000)
    assert seen == [10, 20, 30, 200_000]


async def test_time_stands_still_while_a_thread_works() -> None:
    """A function in an executor is waited for; timers do not overtake it."""
    loop = asyncio.get_running_loop()
    done = ThreadEvent()
    loop.call_later(1, done.set)
    assert await asyncio.to_thread(done.wait, 0.05) is False
    assert loop.time() == 0


def test_waiting_forever_fails_and_says_where() -> None:
    """A test with nothing ready and no timer fails with every task and its awaits."""

    async def inner() -> None:
        await asyncio.Event().wait()

    async def outer() -> None:
        await inner()

    with pytest.raises(Stuck, match=r"(?s)the test: .*outer.* > .*inner.* > Event\.wait"):
        run_clean(VirtualLoop(), outer())


async def _check_then_act(log: list[str]) -> None:
    """Two tasks that take a free lease without holding it while they wait: the planted race."""
    lease: list[str] = []
    taken: list[str] = []

    async def take(name: str, steps: int) -> None:
        for _ in range(steps):
            await asyncio.sleep(0)
        if not lease:
            await asyncio.sleep(0)
            lease.append(name)
            taken.append(name)
        log.append(name)

    async with asyncio.TaskGroup() as group:
        group.create_task(take("a", 0))
        group.create_task(take("b", 4))
        group.create_task(asyncio.sleep(3_600))
    assert len(taken) == 1


def _races(seed: int, log: list[str]) -> bool:
    try:
        run_clean(SeededLoop(seed), _check_then_act(log))
    except AssertionError:
        return True
    return False


def test_some_seeds_find_a_race_and_others_do_not() -> None:
    """The planted race shows under some seeds, not all, and always under the same."""
    failing = [seed for seed in range(200) if _races(seed, [])]
    assert 0 < len(failing) < 200
    assert failing == [seed for seed in range(200) if _races(seed, [])]


def test_a_failure_says_how_to_replay_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the first failing seed; ACTORPOOL_SEED runs that seed and no other."""
    with pytest.raises(SeedFailed, match=r"pytest --seed (\d+)") as caught:
        run_seeds(lambda: _check_then_act([]), range(200))
    seed = str(caught.value).partition("--seed ")[2].partition(",")[0]
    runs: list[list[str]] = []

    def scenario() -> Coroutine[Any, Any, None]:
        runs.append([])
        return _check_then_act(runs[-1])

    monkeypatch.setenv("ACTORPOOL_SEED", seed)
    with pytest.raises(SeedFailed, match=f"failed with seed {seed}:"):
        run_seeds(scenario, range(1_000))
    assert len(runs) == 1


def test_a_seed_replays_identically() -> None:
    """The same seed gives the same order of steps, another seed another."""

    def orders() -> list[tuple[str, ...]]:
        logs: list[list[str]] = [[] for _ in range(60)]
        for seed, log in enumerate(logs):
            _races(seed, log)
        return [tuple(log) for log in logs]

    first = orders()
    assert first == orders()
    assert len(set(first)) > 1


def test_a_seeded_loop_has_virtual_time_and_can_be_stuck() -> None:
    """A seeded loop jumps over idle time and fails when nothing is left to wait for."""

    async def sleep_then_wait() -> None:
        await asyncio.sleep(60)
        assert asyncio.get_running_loop().time() == 60
        await asyncio.get_running_loop().create_future()

    with pytest.raises(Stuck):
        run_clean(SeededLoop(1), sleep_then_wait())


def test_callbacks_keep_their_order_on_a_seeded_loop() -> None:
    """Only steps of tasks are chosen at random; callbacks run first in, first out."""

    async def scenario() -> None:
        seen: list[int] = []
        for number in range(20):
            asyncio.get_running_loop().call_soon(seen.append, number)
        await asyncio.sleep(1)
        assert seen == list(range(20))

    run_seeds(scenario, range(20))


def test_a_cancelled_step_does_not_run() -> None:
    """A handle of a step that is cancelled before it is picked is passed over."""

    async def scenario() -> None:
        task = asyncio.create_task(asyncio.sleep(5))
        await asyncio.sleep(1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run_seeds(scenario, range(20))
