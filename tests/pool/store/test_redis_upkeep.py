"""What the Redis store lets go of, so that nothing grows without bounds."""

from __future__ import annotations

import pytest

from pool.events import START, Cursor
from pool.store.base import StateChange
from pool.store.limits import Retention
from pool.turn import SessionInfo, Webhook
from tests.contract.nudges import joined
from tests.contract.steps import (
    S1,
    S2,
    accept,
    answer,
    commit,
    make_turn,
    said,
    stamped,
    transcript_of,
)
from tests.support.redis_servers import redis_server
from tests.support.redis_stores import opened, run_turn, until

pytestmark = pytest.mark.real_time


async def test_the_oldest_turns_of_a_session_are_dropped() -> None:
    """With their keys and events; what they said stays, and pages go on where they were."""
    retention = Retention(max_turns_per_session=8)
    with redis_server() as server:
        async with opened(server, retention=retention) as store, joined(store, "a"):
            turns = []
            for number in range(10):
                turn = make_turn(str(number))
                accepted = await store.accept(turn, owner="a", key=f"k{number}")
                assert accepted.lease is not None
                await commit(store, accepted.lease, turn)
                turns.append(turn)
            assert await store._upkeep.keep(S1) in ((2, 2), (0, 0))
            kept = (await store.turns(S1, None, 100)).items
            assert [turn.input for turn in kept] == [str(number) for number in range(2, 10)]
            assert await store.turn(turns[0].id) is None
            assert await store.find_key(S1, "k1") is None
            assert await store.find_key(S1, "k2") is not None
            assert len(await transcript_of(store, S1)) == 20
            page = await store.events(S1, START, 100)
            assert page.lost is not None
            assert (page.lost.seq, len(page.events)) == (8, 32)
            again = await store.accept(make_turn("x"), owner="a", key="k1")
            assert (again.new, again.number) == (True, 11)


async def test_a_commit_says_when_upkeep_is_due() -> None:
    """Nobody has to ask for it."""
    with redis_server() as server:
        retention = Retention(max_turns_per_session=8)
        async with opened(server, retention=retention) as store, joined(store, "a"):
            for _ in range(12):
                await run_turn(store)
            await until(lambda: len(server.execute("KEYS", "*:t:*")) <= 10)


async def test_old_events_are_dropped_and_young_ones_kept() -> None:
    """Those of a turn that has not ended are kept however old they are."""
    with redis_server() as server:
        async with opened(server) as store, joined(store, "a"):
            await run_turn(store)
            turn = make_turn()
            _, lease = await accept(store, turn, "a")
            await store.append(lease, stamped(said("x"), turn, lease.epoch, 3))
            store._scripts.set_ahead(2 * 86_400 * 1_000_000)
            assert await store._upkeep.keep(S1) == (0, 1)
            page = await store.events(S1, START, 100)
            assert page.lost == Cursor(lease.epoch, 3)
            assert [event.seq for event in page.events] == [4]
            await commit(store, lease, turn)
            store._scripts.set_ahead(4 * 86_400 * 1_000_000)
            assert await store._upkeep.keep(S1) == (0, 2)
            assert (await store.events(S1, START, 100)).events == []
            after = make_turn()
            _, lease = await accept(store, after, "a")
            assert await commit(store, lease, after)


async def test_a_transcript_is_bounded() -> None:
    """The oldest words go; an agent that has not seen them never will."""
    retention = Retention(max_messages_per_session=6)
    with redis_server() as server:
        async with opened(server, retention=retention) as store, joined(store, "a"):
            for number in range(5):
                await answer(store, str(number))
            said_last = [message.content for message in await transcript_of(store, S1)]
            assert said_last == ["2", "hi", "3", "hi", "4", "hi"]
            page = await store.messages(S1, None, 2)
            rest = await store.messages(S1, page.next, 10)
            assert [message.content for message in rest.items] == ["3", "hi", "4", "hi"]
            _, lease = await accept(store, make_turn(), "a")
            assert len((await store.load(lease, "helper", "")).unseen) == 6


async def test_a_state_that_grew_in_many_parts_is_joined() -> None:
    """It is the same as if it had been one, and takes a bounded number of parts."""
    with redis_server() as server:
        async with opened(server) as store, joined(store, "a"):
            for number in range(150):
                await answer(store, change=StateChange("f/1", b"%d," % number, append=True))
            _, lease = await accept(store, make_turn(), "a")
            state = await store.load(lease, "helper", "")
            assert state.data == b"".join(b"%d," % number for number in range(150))
            [key] = server.execute("KEYS", "*:s1:states")
            assert server.execute("HLEN", key) <= 66


async def test_a_session_that_expired_leaves_nothing() -> None:
    """Its own key goes by itself; what is left is found and taken away."""
    with redis_server() as server:
        async with opened(server) as store, joined(store, "a"):
            await store.create_session(S1, SessionInfo(id="s1", ttl_s=0.05))
            await run_turn(store)
            await answer(store, key=S2)
            left = store._keys.session(S1)
            await until(lambda: not server.execute("EXISTS", left.session))
            assert await store._upkeep.sweep(left.partition) == 1
            assert [key for key in server.execute("KEYS", "*") if ":s1" in key] == []
            assert await store._upkeep.sweep(left.partition) == 0
            assert [info.id for info in (await store.sessions("acme", None, 10)).items] == ["s2"]


async def test_a_delivery_of_a_deleted_session_is_gone() -> None:
    """As is everything else of it."""
    with redis_server() as server:
        async with opened(server) as store:
            turn = make_turn(webhook=Webhook("https://example.org"))
            _, lease = await accept(store, turn)
            await commit(store, lease, turn)
            await store.delete_session(S1)
            assert list(await store.take_deliveries(10, 0.0)) == []
            left = server.execute("KEYS", "*")
            assert {key.rpartition(":")[2] for key in left} <= {"alive", "layout"}
