"""Rates: requests counted when they are made, tokens when a turn has ended."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Sequence

import pytest

from pool.errors import ConfigError, RateLimited, StoreUnavailable
from pool.guard.rates import (
    RateLimit,
    Rates,
    RateState,
    StoreWindows,
)
from pool.guard.rates_redis import RedisWindows
from pool.turn import Principal
from tests.contract.stores import Opening, every_store
from tests.support.redis_servers import cluster, redis_server, sentinels
from tests.support.spending import NOON, Clock, memory
from tests.support.stores import FailingStore, YieldingStore

ANN = Principal("acme", "ann")
BOB = Principal("acme", "bob")
OTHER = Principal("other", "ann")


def rates_of(*limits: RateLimit) -> tuple[Rates, Clock, FailingStore]:
    """Rates on a memory store, its clock, and what notes the calls."""
    clock = Clock(NOON)
    store = FailingStore(memory(clock))
    return Rates(limits, windows=StoreWindows(store), wall=clock), clock, store


async def check(rates: Rates, principal: Principal) -> Sequence[RateState]:
    """Count a request, and say how the principal stands."""
    request = rates.request(principal)
    if request is None:
        return ()
    rates.check(request)
    await rates.count(request)
    return request.states


async def test_a_principal_has_so_many_requests_in_a_window() -> None:
    """The next is refused with the time to wait; in the next window there is room again."""
    rates, clock, _ = rates_of(RateLimit(amount=2, window_s=60))
    clock.now += 20.0
    assert [(await check(rates, ANN))[0].left for _ in range(2)] == [1, 0]

    with pytest.raises(RateLimited, match="you may use 2 requests in 60 s") as info:
        await check(rates, ANN)

    assert info.value.retry_after_s == 40.0
    assert info.value.code == "rate_limited" and info.value.retryable
    assert [state.left for state in info.value.states] == [0]
    clock.now += 40.0
    assert (await check(rates, ANN))[0].left == 1


async def test_others_have_their_own() -> None:
    """A user of another name, or of another tenant, is another principal."""
    rates, _, _ = rates_of(RateLimit(amount=1))

    for principal in (ANN, BOB, OTHER):
        await check(rates, principal)

    with pytest.raises(RateLimited):
        await check(rates, ANN)


async def test_a_tenant_and_all_together_have_limits_too() -> None:
    """Whichever is reached first refuses."""
    rates, _, _ = rates_of(RateLimit(who="tenant", amount=2), RateLimit(who="global", amount=3))
    await check(rates, ANN)
    await check(rates, BOB)
    with pytest.raises(RateLimited, match="your tenant"):
        await check(rates, ANN)

    await check(rates, OTHER)
    with pytest.raises(RateLimited, match="all callers together"):
        await check(rates, OTHER)


async def test_a_refused_request_takes_nothing_from_its_tenant() -> None:
    """One caller that asks without end leaves its tenant's share to the others."""
    rates, _, _ = rates_of(RateLimit(amount=1), RateLimit(who="tenant", amount=3))
    await check(rates, ANN)
    for _ in range(10):
        with pytest.raises(RateLimited):
            await check(rates, ANN)

    states = await check(rates, BOB)

    assert [state.left for state in states] == [0, 1]


async def test_refusals_cost_the_store_nothing() -> None:
    """Once a window is known to be full it is not asked again until it ends."""
    rates, _, store = rates_of(RateLimit(amount=1))
    await check(rates, ANN)
    with pytest.raises(RateLimited):
        await check(rates, ANN)
    calls = len(store.calls)

    with pytest.raises(RateLimited) as info:
        await check(rates, ANN)

    assert len(store.calls) == calls
    assert info.value.states[0].left == 0
    assert repr(rates) == "<Rates ['principal-requests-60'], 1 full>"


async def test_some_have_other_amounts() -> None:
    """A tenant or a user may be given more, or less."""
    rates, _, _ = rates_of(RateLimit(amount=1, of={"acme/bob": 2}))

    assert [(await check(rates, BOB))[0].left for _ in range(2)] == [1, 0]
    assert (await check(rates, ANN))[0].left == 0


async def test_tokens_are_counted_when_a_turn_has_ended() -> None:
    """While anything is left the next turn may begin; then it waits for the next window."""
    rates, clock, _ = rates_of(RateLimit(what="tokens", amount=100))
    await check(rates, ANN)
    await rates.charge(ANN, 99)
    assert (await check(rates, ANN))[0].left == 1
    await rates.charge(ANN, 1)

    with pytest.raises(RateLimited, match="100 tokens"):
        await check(rates, ANN)

    clock.now += 60
    await check(rates, ANN)


async def test_tokens_above_the_limit_are_carried_on() -> None:
    """Who used three and a half windows' worth waits for three windows, and has half of one."""
    rates, clock, _ = rates_of(RateLimit(what="tokens", amount=100))
    await rates.charge(ANN, 350)
    for _ in range(3):
        with pytest.raises(RateLimited):
            await check(rates, ANN)
        clock.now += 60

    assert (await check(rates, ANN))[0].left == 50


async def test_tokens_are_not_carried_without_end() -> None:
    """An hour's windows are enough, and cost as many calls."""
    rates, _, store = rates_of(RateLimit(what="tokens", amount=1))

    await rates.charge(ANN, 1_000_000)

    assert len(store.calls) == 60


async def test_without_limits_nothing_is_asked() -> None:
    """No limit, no call."""
    rates, _, store = rates_of()

    assert await check(rates, ANN) == ()
    await rates.charge(ANN, 5)

    assert store.calls == []


async def test_a_store_that_is_gone_is_told() -> None:
    """It is not known whether there is room."""
    rates, _, store = rates_of(RateLimit(amount=1))
    store.fail("count")

    with pytest.raises(StoreUnavailable):
        await check(rates, ANN)


async def test_a_window_is_full_only_if_it_is() -> None:
    """Many that ask at once under a shorter limit of their tenant take nothing from the longer one
    of their own, which is not taken for full.
    """
    clock = Clock(NOON)
    store = FailingStore(memory(clock))
    limits = [RateLimit(amount=10, window_s=86_400), RateLimit(who="tenant", amount=5)]
    rates = Rates(limits, windows=StoreWindows(YieldingStore(store)), wall=clock)

    answers = await asyncio.gather(*(check(rates, ANN) for _ in range(20)), return_exceptions=True)

    assert sum(not isinstance(each, Exception) for each in answers) == 5
    clock.now += 60
    assert [state.left for state in await check(rates, ANN)] == [4, 4]


async def test_a_request_costs_the_store_one_call() -> None:
    """Also one that is refused, under limits of requests and of tokens."""
    rates, _, store = rates_of(RateLimit(amount=1), RateLimit(what="tokens", amount=5, window_s=9))
    await check(rates, ANN)
    with pytest.raises(RateLimited):
        await check(rates, ANN)
    await check(rates, BOB)

    assert store.calls == ["count", "count", "count"]


@pytest.mark.parametrize(
    "options",
    [
        {"amount": 0},
        {"amount": 1, "window_s": 0},
        {"amount": 1, "of": {"acme/ann": 0}},
        {"amount": 1, "who": "global", "of": {"acme": 1}},
    ],
)
def test_a_rate_that_is_none_is_refused(options: dict[str, object]) -> None:
    """The error names the limit and the option."""
    with pytest.raises(ConfigError, match=r"^rates\."):
        RateLimit(**options)  # type: ignore[arg-type]


def test_the_same_limit_twice_is_a_mistake() -> None:
    """Two of the same window would count in one place."""
    with pytest.raises(ConfigError, match="each limit once"):
        rates_of(RateLimit(amount=1), RateLimit(amount=2))


async def test_full_windows_without_end_take_no_memory() -> None:
    """Past ten thousand they are no longer remembered, and are asked for instead."""
    rates, _, _ = rates_of(RateLimit(amount=1))
    for number in range(10_001):
        principal = Principal("acme", f"u{number}")
        await check(rates, principal)
        with pytest.raises(RateLimited):
            await check(rates, principal)

    assert repr(rates) == "<Rates ['principal-requests-60'], 10000 full>"
    with pytest.raises(RateLimited):
        await check(rates, principal)


@every_store
async def test_two_processes_count_in_one_place(opening: Opening) -> None:
    """Of forty requests at once to two processes so many pass as one may have."""
    now = time.time()
    async with opening() as (store, _):
        both = [
            Rates(
                [RateLimit(amount=10, window_s=86_400)],
                windows=StoreWindows(store),
                wall=lambda: now,
            )
            for _ in range(2)
        ]
        answers = await asyncio.gather(
            *(check(both[number % 2], ANN) for number in range(40)), return_exceptions=True
        )

    assert sum(not isinstance(answer, Exception) for answer in answers) == 10


# --- in a Redis of their own


async def _use_up(url: str) -> None:
    now = time.time()
    windows = [RedisWindows(url), RedisWindows(url)]
    limits = [
        RateLimit(amount=10, window_s=86_400),
        RateLimit(who="tenant", what="tokens", amount=100, window_s=86_400),
    ]
    both = [Rates(limits, windows=each, wall=lambda: now) for each in windows]
    try:
        answers = await asyncio.gather(
            *(check(both[number % 2], ANN) for number in range(40)), return_exceptions=True
        )
        assert Counter(type(each).__name__ for each in answers) == {"list": 10, "RateLimited": 30}
        await both[0].charge(BOB, 250)
        # whatever others have counted for a moment: full is what is full now
        full = [each for rates in both for each in rates._full.values()]
        assert full and all(until <= now + 1 for until in full)
        with pytest.raises(RateLimited, match="tokens"):
            await check(both[1], BOB)
    finally:
        for each in windows:
            await each.close()


@pytest.mark.real_time
async def test_redis_counts_for_all_processes() -> None:
    """The library counts in one server what two processes let through."""
    with redis_server() as server:
        await _use_up(server.url)


@pytest.mark.real_time
async def test_a_cluster_counts_for_all_processes() -> None:
    """The same on a cluster."""
    with cluster() as servers:
        await _use_up(servers.url)


@pytest.mark.real_time
async def test_the_master_that_sentinels_name_counts() -> None:
    """The same behind sentinels."""
    with sentinels() as servers:
        await _use_up(servers.url)


@pytest.mark.real_time
async def test_a_redis_that_is_gone_or_silent_is_told_soon() -> None:
    """The caller hears that the store is unavailable, and no password."""
    with redis_server() as server:
        windows = RedisWindows(server.url.replace("://", "://u:secret@"), timeout_s=0.2)
        rates = Rates([RateLimit(amount=1)], windows=windows, wall=time.time)
        assert "secret" not in repr(windows)
        with pytest.raises(StoreUnavailable) as info:
            await check(rates, ANN)
        assert "secret" not in str(info.value)
        await windows.close()
        silent = RedisWindows(server.url, timeout_s=0.2)
        rates = Rates([RateLimit(amount=1)], windows=silent, wall=time.time)
        server.stop()
        began = time.monotonic()
        with pytest.raises(StoreUnavailable):
            await check(rates, ANN)
        assert time.monotonic() - began < 2
        server.cont()
        await silent.close()
