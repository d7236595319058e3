"""What operators and the pool's own housekeeping ask of a store."""

from __future__ import annotations

import asyncio

import pytest

from pool.errors import DeadLetter, InvalidRequest
from pool.events import START, TurnFailed
from pool.store.base import SessionKey, Store
from pool.turn import Turn, TurnError
from tests.contract.steps import (
    S1,
    S2,
    accept,
    answer,
    finish,
    log_of,
    make_turn,
    stamped,
    transcript_of,
)
from tests.contract.stores import Opening, every_store

pytestmark = every_store


async def _dead_letter(store: Store, key: SessionKey) -> Turn:
    turn = make_turn(key=key)
    accepted, lease = await accept(store, turn)
    finish(turn, "failed")
    turn.error = TurnError(DeadLetter.code, "it crashed its actor too often")
    events = stamped([TurnFailed(turn=turn)], turn, lease.epoch, accepted.end.seq)
    await store.commit(lease, turn, events)
    return turn


async def test_dead_letters_are_listed_newest_first(opening: Opening) -> None:
    """Of one tenant or of all; no other turn is among them."""
    async with opening() as (store, _):
        keys = [SessionKey(tenant, "s") for tenant in ("acme", "other", "acme")]
        dead = [await _dead_letter(store, key) for key in keys]
        await answer(store, state="failed")
        await answer(store)
        everywhere = await store.dead_letters(None, 10)
        assert [turn.id for turn in everywhere] == [turn.id for turn in reversed(dead)]
        of_acme = await store.dead_letters("acme", 10)
        assert [turn.id for turn in of_acme] == [dead[2].id, dead[0].id]
        assert [turn.id for turn in await store.dead_letters(None, 1)] == [dead[2].id]
        assert list(await store.dead_letters("nobody", 10)) == []


async def test_a_dead_letter_goes_with_its_session(opening: Opening) -> None:
    """Deleting the session forgets its dead letters."""
    async with opening() as (store, _):
        await _dead_letter(store, S1)
        await store.delete_session(S1)
        assert list(await store.dead_letters(None, 10)) == []


async def test_a_store_that_works_answers_a_ping(opening: Opening) -> None:
    """`ping` returns."""
    async with opening() as (store, _):
        await store.ping()


async def test_housekeeping_changes_nothing_that_can_be_seen(opening: Opening) -> None:
    """After ticks over a long idle time everything that is kept reads as before."""
    async with opening() as (store, pass_time):
        turn = await answer(store)
        log, said = await log_of(store, S1), await transcript_of(store, S1)
        info = await store.session(S1)
        for _ in range(5):
            await pass_time(store.lease_s * 0.3)
            store.tick()
            await asyncio.sleep(0)
        assert await store.session(S1) == info
        assert await store.turn(turn.id) == turn
        assert await log_of(store, S1, START) == log
        assert await transcript_of(store, S1) == said
        accepted, _ = await accept(store, make_turn())
        assert accepted.end == log[1]


@pytest.mark.parametrize("limit", [1, 2, 3, 5, 100])
async def test_sessions_of_all_tenants_are_listed(opening: Opening, limit: int) -> None:
    """Each once, in parts of any size, whoever it belongs to."""
    async with opening() as (store, _):
        keys = {SessionKey(tenant, name) for tenant in ("acme", "b-2", "Z_") for name in "xy"}
        for key in keys:
            await answer(store, key=key)
        found: list[SessionKey] = []
        after = None
        while True:
            part, after = await store.all_sessions(after, limit)
            assert len(part) <= limit
            found += part
            if after is None:
                break
        assert len(found) == len(keys)
        assert set(found) == keys


async def test_a_listing_goes_on_while_sessions_come_and_go(opening: Opening) -> None:
    """What was there all the time is listed once, although the place it stopped at is gone."""
    async with opening() as (store, _):
        keys = [SessionKey("acme", f"n{number}") for number in range(6)]
        for key in keys:
            await answer(store, key=key)
        part, after = await store.all_sessions(None, 3)
        for key in part:
            await store.delete_session(key)
        await answer(store, key=SessionKey("acme", "later"))
        rest, end = await store.all_sessions(after, 100)
        assert end is None
        assert set(keys) - set(part) <= set(rest)
        assert len(set(rest)) == len(rest)


@pytest.mark.parametrize("cursor", ["", "x", "acme", "acme/x", "acme/-1", "\x00", "9" * 40])
async def test_a_bad_place_in_the_listing_is_refused(opening: Opening, cursor: str) -> None:
    """What no listing gave is no place to go on from."""
    async with opening() as (store, _):
        await answer(store)
        with pytest.raises(InvalidRequest):
            await store.all_sessions(cursor, 10)


async def test_a_dead_letter_is_forgotten(opening: Opening) -> None:
    """It is listed no more and stays what it is; others stay listed. Once it was, no more."""
    async with opening() as (store, _):
        one, two = await _dead_letter(store, S1), await _dead_letter(store, S2)
        assert await store.forget_dead_letter(one.id) is True
        assert await store.forget_dead_letter(one.id) is False
        assert await store.forget_dead_letter(make_turn().id) is False
        assert [turn.id for turn in await store.dead_letters(None, 10)] == [two.id]
        assert await store.turn(one.id) == one
        alive = await answer(store)
        assert await store.forget_dead_letter(alive.id) is False


async def test_a_store_that_is_open_stays_so(opening: Opening) -> None:
    """Opened by its owner and by a pool, it goes on as it is: what it has, and who holds it."""
    async with opening() as (store, _):
        turn = make_turn()
        _, lease = await accept(store, turn)
        await store.open()
        finish(turn, "completed")
        await store.commit(lease, turn, ())
        assert await store.turn(turn.id) == turn
