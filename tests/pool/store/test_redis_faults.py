"""What the Redis store survives: lost answers, lost writes, a server that hangs or is gone."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

import pytest

from pool.errors import LeaseLost, StoreUnavailable
from pool.events import START, Cursor
from pool.store.redis import RedisStore
from pool.store.redis_link import RedisLink
from pool.store.sharing import Nudge
from tests.contract.nudges import joined
from tests.contract.steps import (
    S1,
    S2,
    accept,
    answer,
    claim,
    commit,
    finish,
    log_of,
    make_turn,
    said,
    stamped,
    transcript_of,
)
from tests.support.proxy import Proxy, proxied
from tests.support.redis_servers import redis_server
from tests.support.redis_stores import eventually, opened, run_turn

pytestmark = pytest.mark.real_time

T = TypeVar("T")


async def test_scripts_that_redis_forgot_are_sent_again() -> None:
    """After SCRIPT FLUSH, or a restart, nobody notices."""
    with redis_server() as server:
        async with opened(server) as store, joined(store, "a"):
            turn = make_turn()
            _, lease = await accept(store, turn, "a")
            server.execute("SCRIPT", "FLUSH")
            assert await commit(store, lease, turn)
            assert [each.id for each in (await store.turns(S1, None, 1)).items] == [turn.id]


async def test_a_lost_answer_may_be_asked_for_again() -> None:
    """The connection ends within the answer: the same call again gives it, and does nothing."""
    with redis_server() as server:
        async with proxied(server.port) as proxy, opened(server, port=proxy.port) as store:
            # the scripts are known from here on
            await run_turn(store, S2)
            turn = make_turn()
            _, lease = await _again(store, proxy, lambda: accept(store, turn))
            events = stamped(said("a", "b"), turn, lease.epoch, 0)
            await _again(store, proxy, lambda: store.append(lease, events, turn))
            finish(turn)
            last = stamped(said("c"), turn, lease.epoch, 2)
            assert await _again(store, proxy, lambda: store.commit(lease, turn, last))
            assert [event.seq for event in (await log_of(store, S1))[0]] == [1, 2, 3]
            assert len(await transcript_of(store, S1)) == 2
            info = await store.session(S1)
            assert info is not None
            assert info.turns == 1


async def _again(store: RedisStore, proxy: Proxy, call: Callable[[], Awaitable[T]]) -> T:
    """What a call answers the second time; its first answer is cut off."""
    [link] = store._servers.links()
    # enough for the time, with which a connection begins, and a little more
    proxy.cut_after = 36
    await _lost(link, proxy)
    with pytest.raises(StoreUnavailable):
        await call()
    proxy.cut_after = None
    return await call()


async def _lost(link: RedisLink, proxy: Proxy) -> None:
    wire = await link.connect()
    proxy.cut()
    await wire.closed


async def test_a_redis_that_hangs_fails_fast_and_comes_back() -> None:
    """Calls and pings fail within half a second; when it goes on so does the store."""
    with redis_server() as server:
        async with opened(server) as store:
            server.stop()
            for call in (store.ping, lambda: store.session(S1), store.ping):
                began = time.monotonic()
                with pytest.raises(StoreUnavailable):
                    await call()
                assert time.monotonic() - began < 0.8
            server.cont()
            await eventually(store.ping)
            await answer(store)


async def test_a_redis_that_lost_everything_is_told_to_readers_and_writers() -> None:
    """Readers learn that history is lost, the holder that its lease is; then all goes on."""
    with redis_server() as server:
        async with opened(server) as store, joined(store, "a") as (ears,):
            turn = make_turn()
            _, lease = await accept(store, turn, "a")
            await store.append(lease, stamped(said("a", "b"), turn, lease.epoch, 0))
            server.kill()
            server.start()
            page = await eventually(lambda: store.events(S1, Cursor(lease.epoch, 2), 10))
            assert page == ([], START)
            with pytest.raises(LeaseLost):
                await store.append(lease, stamped(said("c"), turn, lease.epoch, 2))
            await ears.hear(Nudge("all"))
            _, again = await accept(store, make_turn(), "a")
            assert again.epoch > lease.epoch
            page = await store.events(S1, Cursor(lease.epoch, 2), 10)
            assert page.lost == START


async def test_an_epoch_is_not_kept_through_the_loss_of_a_server() -> None:
    """What was written in it may be missing: the same owner goes on in a later one."""
    with redis_server(appendonly="always") as server:
        async with opened(server) as store, joined(store, "a"):
            await run_turn(store)
            _, end = await log_of(store, S1)
            server.kill()
            server.start()
            turn = make_turn()
            accepted = await eventually(lambda: store.accept(turn, owner="a"))
            assert accepted.lease is not None
            assert accepted.lease.epoch > end.epoch
            assert accepted.end == end
            assert await commit(store, accepted.lease, turn)


async def test_epochs_increase_although_an_acquire_was_lost() -> None:
    """Redis comes back as it was before it: nobody gets the lost epoch again."""
    with redis_server() as server:
        async with opened(server) as store:
            await answer(store, owner="a")
            server.execute("SAVE")
            epochs = []
            for owner in "bcb":
                _, lease = await accept(store, make_turn(), owner)
                epochs.append(lease.epoch)
                server.kill()
                server.start()
                await eventually(store.ping)
            assert epochs == sorted(set(epochs))


async def test_the_end_of_a_log_that_was_lost_costs_the_lease() -> None:
    """The holder goes on where it stood: refused; it claims anew, and readers are told."""
    with redis_server() as server:
        async with opened(server) as store, joined(store, "a"):
            turn = make_turn()
            _, lease = await accept(store, turn, "a")
            await store.append(lease, stamped(said("a"), turn, lease.epoch, 0))
            kept = store._keys.session(S1).session
            for key in (kept, f"{kept}:log"):
                server.execute("COPY", key, f"before:{key}")
            await store.append(lease, stamped(said("b", "c"), turn, lease.epoch, 1))
            # as if the last write had never been
            for key in (kept, f"{kept}:log"):
                server.execute("COPY", f"before:{key}", key, "REPLACE")
            with pytest.raises(LeaseLost):
                await store.append(lease, stamped(said("d"), turn, lease.epoch, 3))
            assert list(await store.orphans(10)) == [S1]
            taken = await claim(store, S1, "a")
            assert await commit(store, taken, turn)
            page = await store.events(S1, Cursor(lease.epoch, 3), 10)
            assert page.lost == Cursor(lease.epoch, 1)


async def test_what_a_holder_does_not_know_of_is_offered() -> None:
    """Redis has forgotten that a turn ended: its owner, which lives, may run it again."""
    with redis_server() as server:
        async with opened(server) as store, joined(store, "a"):
            turn = make_turn()
            _, lease = await accept(store, turn, "a")
            other = make_turn(key=S2)
            _, kept = await accept(store, other, "a")
            key, work = store._keys.session(S1).session, store._keys.session(S1).block[7]
            for each in (key, work):
                server.execute("COPY", each, f"before:{each}")
            await commit(store, lease, turn)
            for each in (key, work):
                server.execute("COPY", f"before:{each}", each, "REPLACE")
            partition = store._keys.session(S1).partition
            assert list(await store.orphans(10)) == []
            for _ in range(2):
                await store._ledger.look(partition)
            assert list(await store.orphans(10)) == [S1]
            assert len(store._ledger) == 1
            assert (await claim(store, S1, "a")).epoch > lease.epoch
            assert await commit(store, kept, other)
