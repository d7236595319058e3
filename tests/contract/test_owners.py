"""Owners: as long as one lives, what it holds is its own; what it leaves behind is others'."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from pool.errors import LeaseLost
from pool.store.base import Lease, Store
from pool.turn import Turn
from tests.contract.nudges import joined
from tests.contract.steps import (
    OTHER,
    S1,
    S2,
    accept,
    claim,
    commit,
    finish,
    log_of,
    make_turn,
    said,
    stamped,
)
from tests.contract.stores import Opening, every_store

pytestmark = every_store

Write = Callable[[Store, Lease, Turn], Awaitable[None]]


async def test_who_is_silent_loses_what_it_holds(opening: Opening) -> None:
    """After a lease's time without a sign of life all its sessions are orphans, and no others."""
    async with opening() as (store, pass_time), joined(store, "b"):
        await accept(store, make_turn(), "a")
        await accept(store, make_turn(key=S2), "a")
        await accept(store, make_turn(key=OTHER), "b")
        assert list(await store.orphans(10)) == []
        await pass_time(store.lease_s * 1.1)
        assert set(await store.orphans(10)) == {S1, S2}
        await claim(store, S1, "b")
        assert list(await store.orphans(10)) == [S2]
        assert await store.claim(OTHER, "a") is None


async def test_one_write_keeps_all_that_an_owner_holds(opening: Opening) -> None:
    """A lease holds as long as its owner lives, in whatever session that shows."""
    async with opening() as (store, pass_time):
        turn = make_turn()
        _, lease = await accept(store, turn, "a")
        await accept(store, make_turn(key=S2), "a")
        for seq in range(3):
            await pass_time(store.lease_s * 0.6)
            await store.append(lease, stamped(said("x"), turn, lease.epoch, seq))
        assert list(await store.orphans(10)) == []
        assert await store.claim(S2, "b") is None
        await pass_time(store.lease_s * 1.1)
        assert set(await store.orphans(10)) == {S1, S2}


async def _by_accept(store: Store, lease: Lease, turn: Turn) -> None:
    await store.accept(make_turn(), owner="a")


async def _by_append(store: Store, lease: Lease, turn: Turn) -> None:
    await store.append(lease, [], turn)


async def _by_commit(store: Store, lease: Lease, turn: Turn) -> None:
    await commit(store, lease, turn)


async def _by_claim(store: Store, lease: Lease, turn: Turn) -> None:
    await claim(store, S1, "a")


async def _by_release(store: Store, lease: Lease, turn: Turn) -> None:
    await store.release(lease)


@pytest.mark.parametrize("write", [_by_accept, _by_append, _by_commit, _by_claim, _by_release])
async def test_every_write_is_a_sign_of_life(opening: Opening, write: Write) -> None:
    """Whatever an owner writes to one session keeps the others that it holds."""
    async with opening() as (store, pass_time):
        turn = make_turn()
        _, lease = await accept(store, turn, "a")
        await accept(store, make_turn(key=S2), "a")
        await pass_time(store.lease_s * 0.7)
        await write(store, lease, turn)
        await pass_time(store.lease_s * 0.7)
        assert S2 not in await store.orphans(10)
        assert await store.claim(S2, "b") is None


async def test_who_shows_itself_again_holds_what_nobody_took(opening: Opening) -> None:
    """What was an orphan while its owner was silent is its own again; what was claimed is not."""
    async with opening() as (store, pass_time), joined(store, "b"):
        turn = make_turn()
        _, lease = await accept(store, turn, "a")
        _, lost = await accept(store, make_turn(key=S2), "a")
        await pass_time(store.lease_s * 1.1)
        assert set(await store.orphans(10)) == {S1, S2}
        await claim(store, S2, "b")
        await store.append(lease, stamped(said("x"), turn, lease.epoch, 0))
        assert list(await store.orphans(10)) == []
        assert await store.claim(S1, "b") is None
        with pytest.raises(LeaseLost):
            await store.inbox(lost, "")


async def test_who_has_joined_lives(opening: Opening) -> None:
    """Its leases hold for many times their time, although it writes nothing."""
    async with opening() as (store, pass_time), joined(store, "a"):
        turn = make_turn()
        _, lease = await accept(store, turn, "a")
        await pass_time(store.lease_s * 2.5)
        assert list(await store.orphans(10)) == []
        assert await store.claim(S1, "b") is None
        assert await commit(store, lease, turn)


async def test_who_leaves_leaves_orphans_at_once(opening: Opening) -> None:
    """No time has to pass; leaving twice, or without having joined, does no harm."""
    async with opening() as (store, _):
        async with joined(store, "a", "b"):
            await accept(store, make_turn(), "a")
            await accept(store, make_turn(key=S2), "b")
            for _ in range(2):
                await store.leave("a")
                assert list(await store.orphans(10)) == [S1]
            await claim(store, S1, "b")
            assert list(await store.orphans(10)) == []
        assert set(await store.orphans(10)) == {S1, S2}
        await store.leave("nobody")


async def test_who_left_may_come_back(opening: Opening) -> None:
    """It holds again what nobody has taken, and is kept alive as before."""
    async with opening() as (store, pass_time), joined(store, "b"):
        async with joined(store, "a"):
            await accept(store, make_turn(), "a")
        async with joined(store, "a"):
            lease = await claim(store, S1, "a")
            await pass_time(store.lease_s * 1.5)
            assert lease.owner == "a"
            assert await store.claim(S1, "b") is None


# --- late writes


async def _append(store: Store, lease: Lease, turn: Turn) -> None:
    await store.append(lease, stamped(said("late"), turn, lease.epoch, 0))


async def _commit(store: Store, lease: Lease, turn: Turn) -> None:
    await store.commit(lease, finish(turn), stamped(said("late"), turn, lease.epoch, 0))


async def _inbox(store: Store, lease: Lease, turn: Turn) -> None:
    await store.inbox(lease, "")


async def _release(store: Store, lease: Lease, turn: Turn) -> None:
    await store.release(lease)


@pytest.mark.parametrize("write", [_append, _commit, _inbox, _release])
async def test_a_late_write_is_refused_after_aclaim(opening: Opening, write: Write) -> None:
    """A is paused past its lease, B claims and runs, A goes on: all that A does is refused."""
    async with opening() as (store, pass_time):
        turn = make_turn()
        _, old = await accept(store, turn, "a")
        await pass_time(store.lease_s * 1.1)
        new = await claim(store, S1, "b")
        late = make_turn()
        late.id = turn.id
        with pytest.raises(LeaseLost):
            await write(store, old, late)
        assert (await log_of(store, S1))[0] == []
        kept = await store.turn(turn.id)
        assert kept is not None
        assert kept.state == "queued"
        assert await store.claim(S1, "c") is None
        assert await commit(store, new, kept)


@pytest.mark.parametrize("write", [_append, _commit, _inbox])
async def test_a_released_lease_is_no_lease(opening: Opening, write: Write) -> None:
    """Who gave a session back writes no more to it, also before anybody else has it."""
    async with opening() as (store, _):
        turn = make_turn()
        _, lease = await accept(store, turn, "a")
        await store.release(lease)
        late = make_turn()
        late.id = turn.id
        with pytest.raises(LeaseLost):
            await write(store, lease, late)
        assert (await log_of(store, S1))[0] == []
        assert list(await store.orphans(10)) == [S1]
