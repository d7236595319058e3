"""What only the memory store promises to pools that share it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from math import inf

import pytest

from pool.errors import NotFound, StoreUnavailable
from pool.store.base import StateChange
from pool.store.memory import MemoryStore
from pool.store.memory_limits import MemoryLimits
from pool.store.sharing import CancelTurn, Nudge
from pool.turn import Webhook
from tests.contract.nudges import Ears, joined
from tests.contract.opened import Clock
from tests.contract.steps import S1, S2, accept, answer, claim, commit, make_turn
from tests.contract.stores_memory import wall


@asynccontextmanager
async def _shared() -> AsyncIterator[MemoryStore]:
    yield MemoryStore(clock=wall, lease_ttl_s=30.0)


def _rest(store: MemoryStore, after_s: float = 10) -> int:
    return store.sweep(wall() + after_s, 100)


def _timers() -> int:
    handles = asyncio.get_running_loop()._scheduled  # type: ignore[attr-defined]
    return sum(not handle.cancelled() for handle in handles)


# --- who may use it


def test_a_store_whose_leases_end_is_shared() -> None:
    """Without a lease's time one pool has it to itself, and there is nobody to watch for."""
    assert (MemoryStore().shared, MemoryStore().lease_s) == (False, inf)
    shared = MemoryStore(lease_ttl_s=5.0)
    assert (shared.shared, shared.lease_s) == (True, 5.0)


async def test_leases_without_an_end_end_when_their_owner_leaves() -> None:
    """Its sessions are orphans at once; it may come back, and holds its own again."""
    clock = Clock()
    store = MemoryStore(clock=clock)
    async with joined(store, "a"):
        await accept(store, make_turn(), "a")
        clock.now += 1e9
        assert list(await store.orphans(10)) == []
        assert [replica.name for replica in await store.replicas()] == ["a"]
    assert list(await store.orphans(10)) == [S1]
    async with joined(store, "a"):
        assert list(await store.orphans(10)) == []
        assert await store.claim(S1, "b") is None
    lease = await claim(store, S1, "b")
    assert lease.owner == "b"


async def test_who_takes_part_sets_no_timer_for_leases_without_an_end() -> None:
    """Nothing has to be renewed, so that an idle pool costs nothing."""
    store = MemoryStore()
    await store.join("a", Ears())
    assert _timers() == 0
    assert repr(store.members) == "<Members [a]>"


# --- nudges


async def test_a_nudge_comes_after_the_call_that_is_its_reason() -> None:
    """Never from within it: who is nudged may call the store at once."""
    async with _shared() as store, joined(store, "a", "b") as (a, b):
        _, lease = await accept(store, make_turn(), "a")
        await store.accept(make_turn(), owner="b")
        await store.release(lease)
        assert (a.heard, b.heard) == ([], [])
        await asyncio.sleep(0)
        assert a.heard == [Nudge("inbox", S1)]
        assert b.heard == [Nudge("work", S1)]


async def test_who_has_left_is_nudged_no_more() -> None:
    """Not even by what was on its way."""
    async with _shared() as store:
        async with joined(store, "a") as (a,):
            await store.accept(make_turn(), owner="")
        await asyncio.sleep(0)
        assert a.heard == []


async def test_no_timer_is_left_of_who_has_left() -> None:
    """After the last one left nothing is due any more."""
    async with _shared() as store:
        async with joined(store, "a", "b"):
            await store.join("a", Ears())
            assert _timers() == 2
        assert _timers() == 0
        assert list(await store.replicas()) == []


async def test_what_has_nothing_to_do_is_released_quietly() -> None:
    """A session that its last commit released already is work for nobody."""
    async with _shared() as store, joined(store, "b") as (b,):
        turn = make_turn()
        _, lease = await accept(store, turn, "a")
        await commit(store, lease, turn)
        await store.release(lease)
        await asyncio.sleep(0)
        assert b.heard == []


async def test_who_held_a_session_last_is_not_told_of_its_watchers() -> None:
    """It has released it: there is no inbox for it to read."""
    async with _shared() as store, joined(store, "a", "w") as (a, _):
        await answer(store, owner="a")
        await store.watch(S1, "w")
        await asyncio.sleep(0)
        assert a.heard == []


# --- objects


async def test_what_another_handed_in_is_an_object_of_its_own() -> None:
    """A turn that is another's to run is not changed by who accepted it."""
    async with _shared() as store:
        await accept(store, make_turn(), "a")
        for owner, key in (("b", S1), ("", S2)):
            turn = make_turn(key=key)
            await store.accept(turn, owner=owner)
            turn.state = "running"
            turn.usage.requests = 7
            kept = await store.turn(turn.id)
            assert kept is not None
            assert (kept.state, kept.usage.requests) == ("queued", 0)


async def test_what_is_carried_out_is_an_object_of_its_own() -> None:
    """A turn that still runs goes on here, and is not changed where it was carried to."""
    async with _shared() as store:
        turn = make_turn()
        await accept(store, turn, "a")
        carried = await store.carry_out(S1)
        other = MemoryStore(clock=wall)
        assert carried is not None
        await other.carry_in(carried)
        turn.usage.requests = 7
        for found in (carried.turns[0], await other.turn(turn.id)):
            assert found is not None
            assert found.usage.requests == 0
        assert await other.turn(turn.id) is not carried.turns[0]


# --- rest and bounds


async def test_a_watched_session_does_not_come_to_rest() -> None:
    """Until nobody watches it any more, or its watcher has left."""
    async with _shared() as store:
        for stop in (store.unwatch, None):
            async with joined(store, "w"):
                await answer(store)
                await store.watch(S1, "w")
                assert _rest(store) == 0
                if stop is not None:
                    await stop(S1, "w")
                    # it is looked at again when it could have been idle for long enough
                    assert _rest(store, 20) == 1
            assert _rest(store, 20) == (0 if stop is not None else 1)


async def test_letters_go_with_the_last_turn_they_could_be_about() -> None:
    """An idle session has none, and comes to rest; the next holder finds an empty inbox."""
    async with _shared() as store:
        turn = make_turn()
        _, lease = await accept(store, turn, "a")
        await store.signal(S1, CancelTurn(turn.id))
        assert _rest(store) == 0
        await commit(store, lease, turn)
        _, lease = await accept(store, make_turn(), "a")
        assert await store.inbox(lease, "") == ([], {}, False)


async def test_a_turn_cancelled_often_is_one_letter() -> None:
    """However often somebody asks, an inbox that nobody reads does not grow."""
    async with _shared() as store:
        turn = make_turn()
        _, lease = await accept(store, turn, "a")
        for _ in range(100):
            assert await store.signal(S1, CancelTurn(turn.id))
        assert len((await store.inbox(lease, "")).letters) == 1


async def test_a_session_that_was_carried_in_is_counted() -> None:
    """As it was where it came from; deleting it gives that back; it is bounded as any other."""
    source = MemoryStore(clock=wall)
    for number in range(8):
        await answer(source, str(number), change=StateChange("f/1", b"x" * 100, append=True))
    carried = await source.carry_out(S1)
    assert carried is not None
    same = MemoryStore(clock=wall)
    await same.carry_in(carried)
    assert repr(same) == repr(source)
    store = MemoryStore(clock=wall, limits=MemoryLimits(max_turns_per_session=3))
    empty = repr(store)
    await store.carry_in(carried)
    assert repr(store) != empty
    assert [turn.input for turn in (await store.turns(S1, None, 10)).items] == ["5", "6", "7"]
    assert _rest(store) == 1
    await store.delete_session(S1)
    assert repr(store) == empty


async def test_a_full_store_takes_no_session_in() -> None:
    """`StoreUnavailable`, and nothing of it is kept."""
    source = MemoryStore(clock=wall)
    turn = await answer(source)
    carried = await source.carry_out(S1)
    assert carried is not None
    store = MemoryStore(clock=wall, limits=MemoryLimits(max_sessions=1))
    await accept(store, make_turn(key=S2))
    with pytest.raises(StoreUnavailable, match="max_sessions"):
        await store.carry_in(carried)
    assert await store.turn(turn.id) is None
    assert await store.session(S1) is None


async def test_a_session_that_was_carried_in_rests_and_wakes() -> None:
    """As any other: its next holder's epoch is later than all that it had."""
    source = MemoryStore(clock=wall)
    await answer(source, output="abc")
    carried = await source.carry_out(S1)
    assert carried is not None
    store = MemoryStore(clock=wall)
    await store.carry_in(carried)
    assert _rest(store) == 1
    assert (await store.turns(S1, None, 10)).items == carried.turns
    _, lease = await accept(store, make_turn())
    assert lease.epoch > carried.end.epoch


async def test_a_delivery_goes_with_its_turns_record() -> None:
    """What nobody can tell any more is not due."""
    async with _shared() as store:
        turn = make_turn(webhook=Webhook("https://example.org"))
        _, lease = await accept(store, turn)
        await commit(store, lease, turn)
        await store.delete_session(S1)
        assert list(await store.take_deliveries(10, 0.0)) == []
        with pytest.raises(NotFound):
            await store.fork_session(S1, S2, None)


async def test_many_orphans_are_forgotten_when_they_have_found_a_holder() -> None:
    """The list of them does not grow with those that were."""
    async with _shared() as store:
        for _ in range(5):
            turn = make_turn()
            await store.accept(turn, owner="")
            lease = await claim(store, S1, "a")
            await commit(store, lease, turn)
        assert list(await store.orphans(10)) == []
        assert store._sessions.orphaned == {}
