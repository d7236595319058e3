"""The stores that behave badly do so as they say."""

from __future__ import annotations

import asyncio
from functools import partial

import pytest

from pool.errors import StoreUnavailable
from pool.store.memory import MemoryStore
from tests.contract.steps import S1, make_turn
from tests.support import run_seeds, sweep_cancel
from tests.support.stores import FailingStore, YieldingStore


async def test_a_yielding_store_suspends_before_and_after() -> None:
    """Each call can be cancelled before it takes effect and after, at two to four places."""
    memory = MemoryStore()
    seen: list[bool] = []

    async def accept_through(seed: int) -> None:
        turn = make_turn()
        try:
            await YieldingStore(memory, seed).accept(turn, owner="a")
        finally:
            seen.append(await memory.turn(turn.id) is not None)

    for seed in range(10):
        seen.clear()
        assert 2 <= await sweep_cancel(partial(accept_through, seed)) <= 4
        assert seen[0] is False
        assert seen[-1] is True
        assert True in seen[:-1]


def test_a_yielding_store_interleaves() -> None:
    """Two callers of one yielding store overlap."""

    async def scenario() -> None:
        store = YieldingStore(MemoryStore(), seed=1)
        first, second = make_turn(), make_turn()
        accepted = await asyncio.gather(
            store.accept(first, owner="a"), store.accept(second, owner="b")
        )
        assert sum(each.lease is not None for each in accepted) == 1
        assert store.suspends

    run_seeds(scenario, range(20))


async def test_a_failing_store_fails_where_told() -> None:
    """The named calls fail, so many times or until it recovers; the others do not."""
    store = FailingStore(MemoryStore())
    store.fail("ping", times=2)
    store.fail("session")
    for _ in range(2):
        with pytest.raises(StoreUnavailable):
            await store.ping()
    await store.ping()
    with pytest.raises(StoreUnavailable):
        await store.session(S1)
    store.recover()
    assert await store.session(S1) is None
    assert store.calls == ["ping", "ping", "ping", "session", "session"]


async def test_a_failing_store_loses_an_answer() -> None:
    """The call takes effect, its answer is lost; the next one comes through."""
    store = FailingStore(MemoryStore())
    store.lose("accept")
    turn = make_turn()
    with pytest.raises(StoreUnavailable):
        await store.accept(turn, owner="a")
    assert await store.turn(turn.id) == turn
    assert (await store.accept(turn, owner="a")).lease is not None
