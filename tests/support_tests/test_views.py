"""Views: several processes on one memory store, of which some die or stand still."""

from __future__ import annotations

import asyncio

import pytest

from pool.errors import LeaseLost, StoreUnavailable
from pool.store.memory import MemoryStore
from pool.store.sharing import Nudge
from pool.turn import SessionInfo
from tests.contract.nudges import Ears, joined
from tests.contract.steps import (
    S1,
    S2,
    accept,
    answer,
    claim,
    finish,
    log_of,
    make_turn,
    said,
    stamped,
)
from tests.contract.stores_memory import wall
from tests.support.stores import View

LEASE_S = 10.0


def _views() -> tuple[View, View]:
    store = MemoryStore(clock=wall, lease_ttl_s=LEASE_S)
    return View(store), View(store)


async def test_processes_see_what_was_stored_and_nothing_else() -> None:
    """Each has objects of its own, as if they had come over a wire."""
    one, two = _views()
    turn = make_turn()
    accepted, lease = await accept(one, turn)
    events = stamped(said("x"), turn, lease.epoch, 0)
    await one.append(lease, events, turn)
    turn.state = "running"
    events[0].at = 9.0
    accepted.turn.output = "changed"
    found = await two.turn(turn.id)
    assert found is not None
    assert (found.state, found.output) == ("queued", "")
    assert (await log_of(two, S1))[0][0].at == 0.0
    await one.commit(lease, finish(turn), [])
    turn.output = "changed"
    found = await two.turn(turn.id)
    assert found is not None
    assert (found.state, found.output) == ("completed", "hi")


async def test_a_view_outlives_its_process_and_may_suspend() -> None:
    """What a pool has to know about it: the store is durable as far as one process can tell."""
    one, two = _views()
    assert (one.durable, one.suspends, one.shared, one.lease_s) == (True, True, True, LEASE_S)
    await one.create_session(S1, SessionInfo(id="s1"))
    await one.close()
    assert await two.session(S1) is not None


async def test_a_living_process_announces_itself_and_keeps_house() -> None:
    """What it says of itself is seen by the others; while it stands still it does nothing."""
    store = MemoryStore(clock=wall, lease_ttl_s=LEASE_S)
    one, two = View(store), View(store)
    async with joined(one, "a"):
        one.announce("a", b"up")
        one.hold()
        one.announce("a", b"held")
        assert [replica.status for replica in await two.replicas()] == [b"up"]
        await answer(two)
        await asyncio.sleep(LEASE_S)
        one.tick()
        assert "0 at rest" in repr(store)
        one.go_on()
        one.tick()
        assert "1 at rest" in repr(store)


async def test_a_dead_process_does_nothing_more() -> None:
    """Its calls fail without effect; its leases end after their time; it hears nothing."""
    one, two = _views()
    async with joined(two, "b"):
        ears = Ears()
        await one.join("a", ears)
        turn = make_turn()
        _, lease = await accept(one, turn, "a")
        await asyncio.sleep(LEASE_S * 3)
        assert list(await two.orphans(10)) == []
        one.die()
        one.announce("a", b"alive")
        one.tick()
        with pytest.raises(StoreUnavailable, match="dead"):
            await one.append(lease, stamped(said("x"), turn, lease.epoch, 0))
        with pytest.raises(StoreUnavailable):
            await one.leave("a")
        assert (await two.accept(make_turn(), owner="b")).owner == "a"
        assert list(await two.orphans(10)) == []
        await asyncio.sleep(LEASE_S * 1.1)
        assert list(await two.orphans(10)) == [S1]
        await claim(two, S1, "b")
        assert (await log_of(two, S1))[0] == []
        assert [(each.name, each.status) for each in await two.replicas()] == [("b", b"")]
        assert ears.heard == []
        await one.close()


async def test_a_dead_process_watches_nothing() -> None:
    """A lease's time after its death the holder is told that nobody watches any more."""
    one, two = _views()
    async with joined(two, "b"):
        await one.join("a", Ears())
        turn = make_turn()
        _, lease = await accept(two, turn, "b")
        await one.watch(S1, "a")
        one.die()
        assert await two.append(lease, stamped(said("x"), turn, lease.epoch, 0)) is True
        await asyncio.sleep(LEASE_S * 1.1)
        assert await two.append(lease, stamped(said("y"), turn, lease.epoch, 1)) is False


async def test_a_process_that_stood_still_goes_on_late() -> None:
    """What it had begun is refused when it goes on; what it missed reaches it then."""
    one, two = _views()
    async with joined(two, "b"), joined(one, "a") as (ears,):
        turn = make_turn()
        _, lease = await accept(one, turn, "a")
        one.hold()
        late = asyncio.create_task(
            one.append(lease, stamped(said("late"), turn, lease.epoch, 0), turn)
        )
        await two.accept(make_turn(), owner="b")
        await asyncio.sleep(LEASE_S * 1.1)
        assert not late.done()
        assert ears.heard == []
        await claim(two, S1, "b")
        one.go_on()
        with pytest.raises(LeaseLost):
            await late
        await ears.hear(Nudge("inbox", S1))
        assert (await log_of(two, S1))[0] == []
        await accept(one, make_turn(key=S2), "a")
        await asyncio.sleep(LEASE_S * 3)
        assert list(await two.orphans(10)) == []
        one.go_on()


async def test_a_process_may_be_killed_where_it_stands() -> None:
    """What it had begun comes to nothing."""
    one, two = _views()
    one.hold()
    late = asyncio.create_task(one.accept(make_turn(), owner="a"))
    await asyncio.sleep(0)
    one.die()
    with pytest.raises(StoreUnavailable):
        await late
    one.go_on()
    assert await two.session(S1) is None
