"""Names that could be taken for something else in a store: a path, a pattern, a key of its own."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from pool.errors import InvalidRequest, NotFound
from pool.events import START
from pool.store.base import SessionKey
from pool.store.sharing import CancelTurn
from pool.turn import SessionInfo
from tests.contract.steps import S1, accept, answer, commit, make_turn
from tests.contract.stores import Opening, every_store

pytestmark = every_store

BAD_IDS = [
    "",
    "../s1",
    "a/b",
    "{x}",
    "a:b",
    "*",
    "s1\n",
    "s1\x00",
    "a b",
    "é",
    "x" * 65,
    "x" * 10_000,
]


@pytest.mark.parametrize("bad", BAD_IDS)
async def test_nothing_is_kept_under_a_bad_name(opening: Opening, bad: str) -> None:
    """Neither as a session nor as a tenant: refused, and what is there stays as it is."""
    async with opening() as (store, _):
        await answer(store)
        for key in (SessionKey("acme", bad), SessionKey(bad, "s1")):
            for owner in ("a", ""):
                with pytest.raises(InvalidRequest):
                    await store.accept(make_turn(key=key), owner=owner, key="k")
            with pytest.raises(InvalidRequest):
                await store.create_session(key, SessionInfo(id=key.id))
            with pytest.raises(InvalidRequest):
                await store.fork_session(S1, key, None)
            carried = await store.carry_out(S1)
            assert carried is not None
            with pytest.raises(InvalidRequest):
                await store.carry_in(replace(carried, key=key, turns=[], starts=[], keys=[]))
        assert await store.all_sessions(None, 100) == ([S1], None)
        assert list(await store.orphans(10)) == []


@pytest.mark.parametrize("bad", BAD_IDS)
async def test_nothing_is_found_under_a_bad_name(opening: Opening, bad: str) -> None:
    """It reads as what does not exist."""
    async with opening() as (store, _):
        await answer(store)
        for key in (SessionKey("acme", bad), SessionKey(bad, "s1")):
            assert await store.session(key) is None
            assert await store.turns(key, None, 10) == ([], None)
            assert await store.messages(key, None, 10) == ([], None)
            assert await store.events(key, START, 10) == ([], None)
            assert await store.find_key(key, "k") is None
            assert await store.delete_session(key) is False
            assert await store.claim(key, "a") is None
            assert await store.signal(key, CancelTurn("t")) is False
            assert await store.watch(key, "a") is None
            assert await store.carry_out(key) is None
            await store.unwatch(key, "a")
            with pytest.raises(NotFound):
                await store.fork_session(key, SessionKey("acme", "s9"), None)
        assert await store.sessions(bad, None, 10) == ([], None)
        assert list(await store.dead_letters(bad, 10)) == []


@pytest.mark.parametrize("bad", BAD_IDS)
async def test_a_turn_of_a_bad_name_is_none(opening: Opening, bad: str) -> None:
    """Whatever is asked for by a turn's id: there is no such turn."""
    async with opening() as (store, _):
        turn = make_turn()
        _, lease = await accept(store, turn, "a")
        assert await store.turn(bad) is None
        assert await store.turn_start(bad) is None
        assert await store.signal(S1, CancelTurn(bad)) is False
        assert await store.forget_dead_letter(bad) is False
        await store.settle(bad)
        await store.put_off(bad, 0.0)
        assert list(await store.take_deliveries(10, 0.0)) == []
        assert await commit(store, lease, turn)


@pytest.mark.parametrize("odd", ["k" * 128, "{}", "*", "a:b", "\x00\n", "'; --", "ключ"])
async def test_an_idempotency_key_may_be_any_text(opening: Opening, odd: str) -> None:
    """It is found again as it was given, and nothing else is."""
    async with opening() as (store, _):
        turn = make_turn()
        await store.accept(turn, owner="a", key=odd)
        again = await store.accept(make_turn(), owner="a", key=odd)
        assert (again.new, again.turn.id) == (False, turn.id)
        assert await store.find_key(S1, odd + "x") is None
