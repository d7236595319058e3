"""Trying again: what is tried, after which pause, and how often in all."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from random import Random

import pytest
import stamina

from pool.errors import ConfigError, PoolError, ProviderBadRequest, ProviderOverloaded
from pool.guard.breaker import BreakerOpen
from pool.guard.retrying import RetryBudget, Retrying, RetryRule, pause_s

RULE = RetryRule(retries=2, first_s=1.0, max_s=8.0)
FOREVER_S = 1e9


def overloaded(retry_after_s: float | None = None) -> ProviderOverloaded:
    """A failure that may be tried again."""
    return ProviderOverloaded("too much", retry_after_s=retry_after_s)


class Script:
    """A call that fails as told, then answers; it notes what it was told and when it was made."""

    def __init__(self, *failures: BaseException) -> None:
        self._failures = list(failures)
        self.told: list[PoolError | None] = []
        self.at: list[float] = []

    async def __call__(self, failure: PoolError | None) -> str:
        self.told.append(failure)
        self.at.append(asyncio.get_running_loop().time())
        if self._failures:
            raise self._failures.pop(0)
        return "done"

    @property
    def pauses(self) -> Sequence[float]:
        """Seconds between two calls."""
        return [later - earlier for earlier, later in zip(self.at, self.at[1:], strict=False)]


def retrying(rule: RetryRule = RULE) -> Retrying:
    """On the running loop's time, with a fixed seed."""
    return Retrying(rule, clock=asyncio.get_running_loop().time, random=Random(7))


async def test_call_is_made_again_after_growing_pauses():
    """Each further pause is twice as long, times a random half to whole; the failure is told."""
    first, second = overloaded(), overloaded()
    call = Script(first, second)

    assert await retrying()(call, budget=RetryBudget(), deadline=FOREVER_S) == "done"

    assert call.told == [None, first, second]
    assert 0.5 <= call.pauses[0] <= 1.0
    assert 1.0 <= call.pauses[1] <= 2.0


async def test_last_failure_is_raised_when_tries_are_used_up():
    """With two retries a call is made three times."""
    last = overloaded()
    call = Script(overloaded(), overloaded(), last)

    with pytest.raises(ProviderOverloaded) as failed:
        await retrying()(call, budget=RetryBudget(), deadline=FOREVER_S)

    assert (failed.value, len(call.told)) == (last, 3)


@pytest.mark.parametrize(
    "error", [ProviderBadRequest("no"), ValueError("x"), KeyError("y")], ids=str
)
@pytest.mark.parametrize("before", [[], [overloaded()]], ids=["at once", "after a retry"])
async def test_what_is_not_retryable_is_raised_at_once(error, before):
    """A failure that would be the same again ends it, as does what is no failure of ours."""
    call = Script(*before, error)

    with pytest.raises(type(error)):
        await retrying()(call, budget=RetryBudget(), deadline=FOREVER_S)

    assert len(call.told) == len(before) + 1


async def test_pause_that_was_asked_for_is_kept():
    """Retry-After comes before our own pause, which spreads those who were told the same."""
    call = Script(overloaded(3.0))

    await retrying()(call, budget=RetryBudget(), deadline=FOREVER_S)

    assert 3.5 <= call.pauses[0] <= 4.0


@pytest.mark.parametrize("retry_after_s", [None, 3.0])
async def test_pause_never_goes_past_the_deadline(retry_after_s):
    """What would be tried too late is not waited for."""
    call = Script(overloaded(retry_after_s))

    with pytest.raises(ProviderOverloaded):
        await retrying()(call, budget=RetryBudget(), deadline=0.4)

    assert asyncio.get_running_loop().time() == 0


async def test_cancelled_pause_ends_it():
    """A cancellation during the pause is a cancellation, and no further try."""
    call = Script(overloaded())
    task = asyncio.ensure_future(retrying()(call, budget=RetryBudget(), deadline=FOREVER_S))
    await asyncio.sleep(0.1)
    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(call.told) == 1


async def test_cancelled_try_is_not_made_again():
    """A cancellation of a further try passes through."""
    call = Script(overloaded(), asyncio.CancelledError())

    with pytest.raises(asyncio.CancelledError):
        await retrying()(call, budget=RetryBudget(), deadline=FOREVER_S)
    assert len(call.told) == 2


async def test_retries_are_at_most_a_fifth_of_the_calls():
    """However many calls fail, what comes on top of them is 20 %, and two to begin with."""
    budget, made = RetryBudget(), 0

    async def call(failure: PoolError | None) -> None:
        nonlocal made
        made += 1
        raise overloaded()

    for _ in range(200):
        with pytest.raises(ProviderOverloaded):
            await retrying()(call, budget=budget, deadline=FOREVER_S)

    assert made == 200 + 40 + 2


async def test_call_that_was_not_made_earns_no_retry():
    """What a breaker refuses does not save up retries for the provider that it spares."""
    budget = RetryBudget()
    for _ in range(50):
        with pytest.raises(BreakerOpen):
            await retrying()(Script(BreakerOpen("a", 1.0)), budget=budget, deadline=FOREVER_S)

    assert budget.left == RetryBudget().left


def test_saved_retries_have_a_limit():
    """A quiet year is no reason for a storm."""
    budget = RetryBudget()
    for _ in range(1_000):
        budget.earn()

    assert sum(budget.take() for _ in range(100)) == 10


async def test_hooks_of_the_library_see_no_arguments():
    """Hooks belong to the process; what they are given holds our own error and nothing else."""
    seen: list[stamina.instrumentation.RetryDetails] = []

    def hook(details: stamina.instrumentation.RetryDetails) -> None:
        seen.append(details)

    before = stamina.instrumentation.get_on_retry_hooks()
    stamina.instrumentation.set_on_retry_hooks([hook])
    try:
        await retrying()(Script(overloaded()), budget=RetryBudget(), deadline=FOREVER_S)
    finally:
        stamina.instrumentation.set_on_retry_hooks(before)

    assert [(each.args, each.kwargs, str(each.caused_by)) for each in seen] == [
        ((), {}, "too much")
    ]


@pytest.mark.parametrize(
    ("tries", "retry_after_s", "pause"),
    [(1, None, 1.0), (2, None, 2.0), (3, None, None), (1, 8.0, 9.0), (1, 8.1, None), (1, 0.0, 1.0)],
)
def test_pauses_are_worked_out_from_the_failure(tries, retry_after_s, pause):
    """Doubled each time; none after the last try, and none for whoever asks for too long."""
    assert pause_s(RULE, overloaded(retry_after_s), tries, jitter=1.0) == pause


def test_pause_has_a_limit():
    """It stops growing at `max_s`."""
    rule = RetryRule(retries=1_000_000, first_s=1.0, max_s=8.0)

    assert pause_s(rule, overloaded(), 999_999, jitter=0.5) == 4.0


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"retries": 0}, "retries"),
        ({"first_s": 0}, "retry_first_s"),
        ({"max_s": 0.1}, "retry_max_s"),
        ({"max_s": float("inf")}, "retry_max_s"),
    ],
    ids=str,
)
def test_rule_that_cannot_be_used_is_named(options, name):
    """A mistake names the option that holds it."""
    with pytest.raises(ConfigError) as refused:
        RetryRule(**options)

    assert refused.value.option == name
