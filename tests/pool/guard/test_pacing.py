"""Pacing: no more calls in a time than are allowed."""

from __future__ import annotations

import asyncio

import pytest

from pool.errors import ConfigError
from pool.guard.pacing import Pace, PaceExceeded, PaceRule, Paces


def pace_of(calls: int, window_s: float = 10.0) -> Pace:
    """A pace of its own."""
    return Paces(PaceRule(calls=calls, window_s=window_s)).of("model")


async def times(pace: Pace, count: int) -> list[float]:
    """When each of so many calls, all asked for at once, may be made."""
    loop = asyncio.get_running_loop()

    async def one() -> float:
        await pace.wait(1e9)
        return loop.time()

    return await asyncio.gather(*(one() for _ in range(count)))


@pytest.mark.parametrize("calls", [1, 2, 3, 10, 19, 60, 250])
async def test_no_window_sees_more_calls_than_allowed(calls):
    """However many wait, any ten seconds hold at most the allowed calls, and not much fewer."""
    window_s = 10.0
    made = sorted(await times(pace_of(calls, window_s), 4 * calls))

    for start in made:
        assert sum(start <= each < start + window_s - 1e-6 for each in made) <= calls
    assert made[-1] <= 4.5 * window_s


async def test_few_calls_do_not_wait():
    """A tenth of the allowed calls may come at once."""
    assert await times(pace_of(50), 5) == [0.0] * 5


async def test_who_came_first_goes_first():
    """Those that wait are served in the order in which they came."""
    made = await times(pace_of(2), 6)

    assert made == sorted(made)


async def test_who_would_wait_too_long_is_told_at_once():
    """The error comes before the wait, and says how long it would have been."""
    pace = pace_of(2, window_s=10.0)
    await pace.wait(0.0)
    waiting = asyncio.ensure_future(pace.wait(30.0))
    await asyncio.sleep(0)

    with pytest.raises(PaceExceeded) as exceeded:
        await pace.wait(9.0)

    assert exceeded.value.retry_after_s == 10.0
    assert asyncio.get_running_loop().time() == 0
    await waiting
    await pace.wait(6.0)


async def test_cancelled_wait_takes_no_place():
    """Who gives up leaves the place to the next."""
    pace = pace_of(2, window_s=10.0)
    await pace.wait(0.0)
    first, second = (asyncio.ensure_future(pace.wait(30.0)) for _ in range(2))
    await asyncio.sleep(1.0)
    first.cancel()
    await second

    assert 5.0 <= asyncio.get_running_loop().time() <= 5.1
    assert repr(pace) == "<Pace 2 in 10 s [0 waiting]>"


def test_pace_goes_on_in_another_loop():
    """What was made before any loop ran is used by each with a bucket of its own."""
    pace = pace_of(1)

    asyncio.run(pace.wait(0.0))
    asyncio.run(pace.wait(0.0))


def test_paces_are_kept_by_name():
    """The same name is the same pace."""
    paces = Paces(PaceRule(calls=1))

    assert paces.of("a") is paces.of("a")
    assert paces.of("a") is not paces.of("b")


@pytest.mark.parametrize(
    ("options", "name"),
    [({"calls": 0}, "calls_max"), ({"calls": 1, "window_s": 0}, "calls_window_s")],
    ids=str,
)
def test_rule_that_cannot_be_used_is_named(options, name):
    """A mistake names the option that holds it."""
    with pytest.raises(ConfigError) as refused:
        PaceRule(**options)

    assert refused.value.option == name
