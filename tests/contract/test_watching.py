"""Who takes part, and who watches a session's log."""

from __future__ import annotations

import pytest

from pool.events import START, Cursor
from pool.store.sharing import Nudge, Replica
from pool.turn import SessionInfo
from tests.contract.nudges import joined
from tests.contract.steps import (
    S1,
    S2,
    accept,
    answer,
    commit,
    log_of,
    make_turn,
    said,
    stamped,
)
from tests.contract.stores import Opening, every_store

pytestmark = every_store


async def test_a_watcher_is_told_of_events(opening: Opening) -> None:
    """It learns where the log ends, then of each append and commit; the holder learns of it."""
    async with opening() as (store, _), joined(store, "a", "b") as (a, b):
        turn = make_turn()
        await answer(store, owner="a")
        _, end = await log_of(store, S1)
        _, lease = await accept(store, turn, "a")
        assert await store.append(lease, stamped(said("x"), turn, lease.epoch, end.seq)) is False
        assert await store.watch(S1, "b") == Cursor(lease.epoch, end.seq + 1)
        await a.hear(Nudge("inbox", S1))
        assert (await store.inbox(lease, "")).watched is True
        events = stamped(said("y"), turn, lease.epoch, end.seq + 1)
        assert await store.append(lease, events) is True
        await b.hear(Nudge("events", S1))
        await commit(store, lease, turn)
        await b.hear(Nudge("events", S1))


async def test_what_does_not_exist_is_not_watched(opening: Opening) -> None:
    """None, and nothing is made; to stop watching it does no harm."""
    async with opening() as (store, _), joined(store, "b"):
        assert await store.watch(S1, "b") is None
        await store.unwatch(S1, "b")
        assert await store.session(S1) is None
        turn = make_turn()
        _, lease = await accept(store, turn, "a")
        assert await store.append(lease, stamped(said("x"), turn, lease.epoch, 0)) is False


async def test_an_idle_session_is_watched_until_its_turn_comes(opening: Opening) -> None:
    """Over many leases' time, and through every change of its holder."""
    async with opening() as (store, pass_time), joined(store, "w") as (w,):
        await answer(store, owner="a")
        _, end = await log_of(store, S1)
        assert await store.watch(S1, "w") == end
        await pass_time(store.lease_s * 1.5)
        store.tick()
        turn = make_turn()
        _, lease = await accept(store, turn, "a")
        assert (await store.inbox(lease, "")).watched is True
        assert await store.append(lease, stamped(said("x"), turn, lease.epoch, end.seq)) is True
        await w.hear(Nudge("events", S1))
        await store.release(lease)
        claim = await store.claim(S1, "b")
        assert claim is not None
        events = stamped(said("y"), turn, claim.lease.epoch, end.seq + 1)
        assert await store.append(claim.lease, events) is True
        await w.hear(Nudge("events", S1))


async def test_a_session_without_a_turn_is_watched(opening: Opening) -> None:
    """One that was only made; and one that nobody watches may be let go of all the same."""
    async with opening() as (store, _), joined(store, "v", "w") as (_, w):
        await store.create_session(S1, SessionInfo(id="s1"))
        await store.unwatch(S1, "w")
        assert await store.watch(S1, "v") == START
        assert await store.watch(S1, "w") == START
        await answer(store)
        await w.hear(Nudge("events", S1))


async def test_to_watch_again_is_to_watch_once(opening: Opening) -> None:
    """One `unwatch` ends it, and leaves other watchers alone."""
    async with opening() as (store, _), joined(store, "b", "c"):
        turn = make_turn()
        _, lease = await accept(store, turn, "a")
        for owner in "bbc":
            await store.watch(S1, owner)
        await store.unwatch(S1, "b")
        assert await store.append(lease, stamped(said("x"), turn, lease.epoch, 0)) is True
        for _ in range(2):
            await store.unwatch(S1, "c")
            assert (await store.inbox(lease, "")).watched is False
        assert await store.append(lease, stamped(said("y"), turn, lease.epoch, 1)) is False


async def test_the_holder_is_no_other_process(opening: Opening) -> None:
    """A holder that watches its own session is not told that anybody watches."""
    async with opening() as (store, _), joined(store, "a"):
        turn = make_turn()
        _, lease = await accept(store, turn, "a")
        await store.watch(S1, "a")
        assert await store.append(lease, stamped(said("x"), turn, lease.epoch, 0)) is False
        assert (await store.inbox(lease, "")).watched is False


async def test_who_is_gone_watches_no_more(opening: Opening) -> None:
    """With its watcher gone a session is not watched."""
    async with opening() as (store, _):
        turn = make_turn()
        _, lease = await accept(store, turn, "a")
        async with joined(store, "b"):
            await store.watch(S1, "b")
            assert (await store.inbox(lease, "")).watched is True
        assert (await store.inbox(lease, "")).watched is False
        assert await store.append(lease, stamped(said("x"), turn, lease.epoch, 0)) is False


async def test_a_watcher_hears_of_its_session_only(opening: Opening) -> None:
    """What happens in another session is not told."""
    async with opening() as (store, _), joined(store, "w") as (w,):
        for key in (S1, S2):
            await answer(store, key=key)
        await store.watch(S1, "w")
        await answer(store, key=S2)
        await answer(store, key=S1)
        await w.hear(Nudge("events", S1))
        assert Nudge("events", S2) not in w.heard


# --- who takes part


async def test_replicas_are_listed_by_name(opening: Opening) -> None:
    """Those that have joined and not left; who merely writes is none."""
    async with opening() as (store, _):
        assert list(await store.replicas()) == []
        async with joined(store, "c", "a"):
            await accept(store, make_turn(), "b")
            assert [replica.name for replica in await store.replicas()] == ["a", "c"]
            await store.leave("c")
            assert list(await store.replicas()) == [Replica("a", b"")]
        assert list(await store.replicas()) == []


@pytest.mark.parametrize("status", [b"ok", b"\x00\xff{}\n", b"x" * 5_000])
async def test_a_replica_shows_what_it_announces(opening: Opening, status: bytes) -> None:
    """Within a third of a lease, and as long as it announces nothing else."""
    async with opening() as (store, pass_time), joined(store, "a", "b"):
        store.announce("a", b"before")
        store.announce("a", status)
        await pass_time(store.lease_s * 0.5)
        assert list(await store.replicas()) == [Replica("a", status), Replica("b", b"")]
        await pass_time(store.lease_s)
        assert list(await store.replicas()) == [Replica("a", status), Replica("b", b"")]
        store.announce("nobody", status)


async def test_who_joins_again_hears_with_its_new_ears(opening: Opening) -> None:
    """The last one to join under a name is nudged."""
    async with opening() as (store, _), joined(store, "a") as (old,), joined(store, "a") as (new,):
        await store.accept(make_turn(), owner="")
        await new.hear(Nudge("work", S1))
        assert Nudge("work", S1) not in old.heard
