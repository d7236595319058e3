"""What operators and the pool's own housekeeping ask of a store."""

from __future__ import annotations

import asyncio

from pool.errors import DeadLetter
from pool.events import START, TurnFailed
from pool.store.base import SessionKey, Store
from pool.turn import Turn, TurnError
from tests.contract.steps import (
    S1,
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
            await pass_time(60)
            store.tick()
            await asyncio.sleep(0)
        assert await store.session(S1) == info
        assert await store.turn(turn.id) == turn
        assert await log_of(store, S1, START) == log
        assert await transcript_of(store, S1) == said
        _, lease = await accept(store, make_turn())
        assert lease.epoch == log[1].epoch
