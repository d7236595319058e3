"""Webhooks: remembered with the end of their turn, until somebody says that they are settled."""

from __future__ import annotations

import asyncio

import pytest

from pool.store.base import SessionKey, Store
from pool.store.outbox import Delivery
from pool.turn import State, Turn, Webhook
from tests.contract.steps import S1, accept, answer, commit, make_turn
from tests.contract.stores import Opening, every_store

pytestmark = every_store

HOOK = Webhook("https://example.org/hook")
# longer than any test
LONG_S = 1e6


async def _ended(store: Store, number: int = 0, state: State = "completed") -> Turn:
    turn = make_turn(key=SessionKey("acme", f"n{number}"), webhook=HOOK)
    _, lease = await accept(store, turn)
    await commit(store, lease, turn, state=state)
    return turn


@pytest.mark.parametrize("state", ["completed", "failed", "cancelled", "interrupted", "expired"])
async def test_an_ended_turn_with_a_webhook_is_to_be_delivered(
    opening: Opening, state: State
) -> None:
    """However it ended; at once, once, and with all that is to be told about it."""
    async with opening() as (store, _):
        turn = make_turn(webhook=HOOK)
        _, lease = await accept(store, turn)
        assert list(await store.take_deliveries(10, LONG_S)) == []
        await commit(store, lease, turn, state=state)
        await commit(store, lease, turn, state=state)
        assert list(await store.take_deliveries(10, LONG_S)) == [Delivery(turn.id, 0)]
        assert list(await store.take_deliveries(10, LONG_S)) == []
        kept = await store.turn(turn.id)
        assert kept is not None
        assert (kept.state, kept.request.webhook) == (state, HOOK)


async def test_a_turn_without_a_webhook_is_not_delivered(opening: Opening) -> None:
    """Nobody asked for it."""
    async with opening() as (store, _):
        await answer(store)
        assert list(await store.take_deliveries(10, LONG_S)) == []


async def test_deliveries_are_taken_oldest_first_up_to_a_limit(opening: Opening) -> None:
    """Of all sessions; what was not taken is there for the next who asks."""
    async with opening() as (store, pass_time):
        turns = []
        for number in range(3):
            turns.append(await _ended(store, number))
            await pass_time(store.lease_s * 0.05)
        first = await store.take_deliveries(2, LONG_S)
        assert [each.turn_id for each in first] == [turn.id for turn in turns[:2]]
        rest = await store.take_deliveries(2, LONG_S)
        assert [each.turn_id for each in rest] == [turns[2].id]


async def test_a_delivery_whose_taker_died_is_due_again(opening: Opening) -> None:
    """After the time for which it was taken, and not before; taking it is no try."""
    async with opening() as (store, pass_time):
        turn = await _ended(store)
        await store.take_deliveries(10, store.lease_s)
        await pass_time(store.lease_s * 0.5)
        assert list(await store.take_deliveries(10, store.lease_s)) == []
        await pass_time(store.lease_s * 0.6)
        assert list(await store.take_deliveries(10, store.lease_s)) == [Delivery(turn.id, 0)]


async def test_a_failed_try_is_counted_and_put_off(opening: Opening) -> None:
    """It is due again after its own delay, sooner or later than the time it was taken for."""
    async with opening() as (store, pass_time):
        turn = await _ended(store)
        await store.take_deliveries(10, LONG_S)
        await store.put_off(turn.id, 0.0)
        assert list(await store.take_deliveries(10, 0.0)) == [Delivery(turn.id, 1)]
        await store.put_off(turn.id, store.lease_s)
        await pass_time(store.lease_s * 0.5)
        assert list(await store.take_deliveries(10, 0.0)) == []
        await pass_time(store.lease_s * 0.6)
        assert list(await store.take_deliveries(10, 0.0)) == [Delivery(turn.id, 2)]


async def test_what_is_settled_is_never_due_again(opening: Opening) -> None:
    """Settled twice, or put off by a late taker: it stays settled."""
    async with opening() as (store, pass_time):
        turn = await _ended(store)
        await store.take_deliveries(10, store.lease_s * 0.5)
        await store.settle(turn.id)
        await store.settle(turn.id)
        await store.put_off(turn.id, 0.0)
        assert list(await store.take_deliveries(10, 0.0)) == []
        await pass_time(store.lease_s)
        assert list(await store.take_deliveries(10, 0.0)) == []
        await store.settle(make_turn().id)
        await store.put_off(make_turn().id, 0.0)
        assert list(await store.take_deliveries(10, 0.0)) == []


async def test_a_delivery_is_taken_by_one(opening: Opening) -> None:
    """Of many who ask at once each gets others."""
    async with opening() as (store, _):
        turns = [await _ended(store, number) for number in range(6)]
        taken = await asyncio.gather(*(store.take_deliveries(2, LONG_S) for _ in range(5)))
        found = [each.turn_id for part in taken for each in part]
        assert sorted(found) == sorted(turn.id for turn in turns)


async def test_a_delivery_outlives_its_sessions_next_turns(opening: Opening) -> None:
    """Whatever becomes of the session meanwhile, idle or busy."""
    async with opening() as (store, pass_time):
        turn = make_turn(webhook=HOOK)
        _, lease = await accept(store, turn)
        await commit(store, lease, turn)
        await pass_time(store.lease_s * 1.5)
        store.tick()
        await answer(store, owner="b")
        assert list(await store.take_deliveries(10, 0.0)) == [Delivery(turn.id, 0)]
        assert (await store.turns(S1, None, 10)).items[0].request.webhook == HOOK
